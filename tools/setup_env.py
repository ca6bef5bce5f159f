"""Make the virtual environment that `make demo` and `make test` run in.

    python3 tools/setup_env.py .venv requirements.txt

Needs nothing but a Python with venv; every failure ends in one sentence that says what to do. Never calls sudo: missing
system packages are installed when this already runs as root on a machine with apt, and named otherwise.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PIP = "pip==26.3"
TORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"


def main() -> None:
    """Create or complete the environment named on the command line."""
    venv, requirements = Path(sys.argv[1]), Path(sys.argv[2])
    if sys.version_info < (3, 10):  # noqa: UP036  (the check is for machines whose python3 is older than the package's)
        fail(f"python3 is {sys.version.split()[0]}, too old: install 3.10 or newer, then `make PYTHON=python3.11 demo`")
    started = time.monotonic()
    say("Setting up .venv: about 1.5 GB to download and 4 GB on disk, some minutes, only this once.")
    install_system_packages()
    python = make_venv(venv)
    install_torch(python, pinned(requirements.parent / "requirements.txt", "torch"))
    pip(python, "install", "-r", str(requirements))
    pip(python, "install", "--no-deps", "--no-build-isolation", "-e", ".")
    say(f"Set-up done in {time.monotonic() - started:.0f} s.")


def install_system_packages() -> None:
    """Install what is missing of Open3D's libraries (needed) and liburdfdom's check_urdf (tests use it when there)."""
    sys.path.insert(0, str(ROOT))
    from art_perception.cli.doctor import missing_system_packages  # its module needs nothing that is not installed yet

    missing = missing_system_packages()
    wanted = missing + ([] if shutil.which("check_urdf") else ["liburdfdom-tools"])
    if wanted and may_use_apt():
        say(f"Installing system packages: {' '.join(wanted)}")
        apt_install(wanted)
        missing = missing_system_packages()
    if missing:
        fail(f"Open3D needs system libraries that are missing; run: sudo apt-get install {' '.join(missing)}")
    if not shutil.which("check_urdf"):
        say("Note: check_urdf is missing, tests that use it are skipped; for it: sudo apt-get install liburdfdom-tools")


def may_use_apt() -> bool:
    """Whether this process could install packages without asking anybody."""
    return os.geteuid() == 0 and shutil.which("apt-get") is not None


def apt_install(packages: list[str]) -> None:
    """Install Debian packages one by one, so that one unknown name does not cost the others."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(["apt-get", "-qq", "update"], env=environment, check=False)
    for package in packages:
        command = ["apt-get", "-qq", "install", "-y", "--no-install-recommends", package]
        subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=False)


def make_venv(venv: Path) -> Path:
    """Create the environment unless a working one is there, and pin its pip. Returns its interpreter."""
    python = venv / "bin" / "python"
    if not works(python):
        create = [sys.executable, "-m", "venv", "--clear", str(venv)]
        created = subprocess.run(create, capture_output=True).returncode == 0
        if not created and may_use_apt():
            apt_install([f"python{sys.version_info.major}.{sys.version_info.minor}-venv"])
            created = subprocess.run(create, capture_output=True).returncode == 0
        if not created:
            fail("python3 cannot make a virtual environment; run: sudo apt-get install python3-venv")
    pip(python, "install", "--upgrade", PIP)
    return python


def works(python: Path) -> bool:
    """Whether the environment's pip runs: false for a half-made one or after the system's Python changed."""
    return python.exists() and subprocess.run([python, "-m", "pip", "--version"], capture_output=True).returncode == 0


def pinned(requirements: Path, name: str) -> str:
    """The line of a requirements file that pins a package."""
    return next(line.strip() for line in requirements.read_text().splitlines() if line.startswith(f"{name}=="))


def install_torch(python: Path, requirement: str) -> None:
    """Install torch: as pip finds it on a machine with an NVIDIA GPU, else only a build without CUDA."""
    if has_gpu():
        pip(python, "install", requirement)
        return
    installed = subprocess.run([python, "-c", "import torch; print(torch.__version__)"], capture_output=True, text=True)
    if installed.stdout.split("+")[0].strip() == requirement.split("==")[1]:
        return
    for index in (["--index-url", TORCH_CPU_INDEX], []):
        url = cpu_build(python, requirement, index)
        if url is not None:
            pip(python, "install", "--no-deps", url)
            return
    fail(
        f"No CPU build of {requirement} can be reached and the CUDA build is several gigabytes: open the way to "
        f"{TORCH_CPU_INDEX}, or put a +cpu wheel into a folder and set PIP_FIND_LINKS to it"
    )


def has_gpu() -> bool:
    """Whether the NVIDIA driver lists a GPU."""
    tool = shutil.which("nvidia-smi")
    return tool is not None and subprocess.run([tool, "-L"], capture_output=True).returncode == 0


def cpu_build(python: Path, requirement: str, index: list[str]) -> str | None:
    """The address of the wheel pip would take from an index when that one is a CPU build, else None."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [python, "-m", "pip", "install", "-qq", "--dry-run", "--no-deps", "--ignore-installed", *index]
        command += ["--timeout", "15", "--retries", "0", "--report", str(report), requirement]
        if subprocess.run(command, capture_output=True).returncode:
            return None
        wheel = json.loads(report.read_text())["install"][0]
    dependencies = " ".join(wheel["metadata"].get("requires_dist", []))
    needs_cuda = "nvidia" in dependencies or "cuda" in dependencies
    is_cpu = wheel["metadata"]["version"].endswith("+cpu") or not needs_cuda
    return wheel["download_info"]["url"] if is_cpu else None


def pip(python: Path, *arguments: str) -> None:
    """Run pip in the environment: quietly unless somebody watches."""
    quiet = [] if sys.stdout.isatty() else ["--quiet"]
    say(f"pip {' '.join(arguments)}")
    command = [python, "-m", "pip", "--disable-pip-version-check", *quiet, *arguments]
    if subprocess.run(command, check=False, env={**os.environ, "PYTHONWARNINGS": "ignore"}).returncode:
        fail("pip could not install that (its message is above): check the network, then run the same command again")


def say(line: str) -> None:
    """Print a line at once, in order with pip's own output."""
    print(f"[set-up] {line}", flush=True)


def fail(sentence: str) -> None:
    """Stop with one sentence."""
    raise SystemExit(f"[set-up] {sentence}")


if __name__ == "__main__":
    main()
