"""The set-up behind `make demo` and `make test`: no CUDA by accident, no sudo, one sentence when it cannot go on."""

import importlib.util
import json
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "tools" / "setup_env.py"
pytestmark = pytest.mark.skipif(not SCRIPT.exists(), reason="needs a source checkout")
PYTHON = Path("python")
CPU, CUDA = "https://index/torch-2+cpu.whl", "https://index/torch-2.whl"


@pytest.fixture
def setup_env():
    spec = importlib.util.spec_from_file_location("setup_env", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def offers(setup_env, monkeypatch):
    """Let pip find the given wheel (version, dependencies, address) on an index; record what is installed."""
    installed: list[str] = []

    def answer(wheels: dict[bool, tuple[str, list[str], str] | None]) -> list[str]:
        def run(command, **_):
            command = [str(word) for word in command]
            wheel = wheels[setup_env.TORCH_CPU_INDEX in command] if "--dry-run" in command else None
            if wheel is None:
                return subprocess.CompletedProcess(command, 1, stdout="")
            version, requires, url = wheel
            metadata = {"version": version, "requires_dist": requires}
            report = {"install": [{"metadata": metadata, "download_info": {"url": url}}]}
            Path(command[command.index("--report") + 1]).write_text(json.dumps(report))
            return subprocess.CompletedProcess(command, 0)

        monkeypatch.setattr(setup_env.subprocess, "run", run)
        monkeypatch.setattr(setup_env, "pip", lambda _, *arguments: installed.append(arguments[-1]))
        monkeypatch.setattr(setup_env, "has_gpu", lambda: False)
        return installed

    return answer


def test_the_cpu_index_comes_first(setup_env, offers):
    installed = offers({True: ("2+cpu", ["sympy"], CPU), False: ("2", ["nvidia-cublas"], CUDA)})
    setup_env.install_torch(PYTHON, "torch==2")
    assert installed == [CPU]


def test_a_local_cpu_wheel_will_do(setup_env, offers):
    installed = offers({True: None, False: ("2+cpu", ["sympy"], CPU)})
    setup_env.install_torch(PYTHON, "torch==2")
    assert installed == [CPU]


def test_cuda_is_never_pulled_by_accident(setup_env, offers):
    installed = offers({True: None, False: ("2", ["nvidia-cublas; platform_system == 'Linux'"], CUDA)})
    with pytest.raises(SystemExit, match="No CPU build"):
        setup_env.install_torch(PYTHON, "torch==2")
    assert installed == []


def test_with_a_gpu_pip_decides(setup_env, offers, monkeypatch):
    installed = offers({True: None, False: None})
    monkeypatch.setattr(setup_env, "has_gpu", lambda: True)
    setup_env.install_torch(PYTHON, "torch==2")
    assert installed == ["torch==2"]


def test_missing_system_libraries_are_named_not_forced(setup_env, monkeypatch):
    monkeypatch.setattr("art_perception.cli.doctor.missing_system_packages", lambda: ["libusb-1.0-0", "libgl1"])
    monkeypatch.setattr(setup_env, "may_use_apt", lambda: False)
    monkeypatch.setattr(setup_env.subprocess, "run", lambda *_, **__: pytest.fail("nothing may be run"))
    with pytest.raises(SystemExit, match=r"sudo apt-get install libusb-1\.0-0 libgl1"):
        setup_env.install_system_packages()


def test_requirement_of_torch_is_pinned(setup_env):
    assert setup_env.pinned(SCRIPT.parents[1] / "requirements.txt", "torch").startswith("torch==")
