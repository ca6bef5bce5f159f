"""What is installed: one package for pip and colcon, its files, its requirements, its ROS layout."""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.util
import re
import runpy
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
import zipfile
from pathlib import Path
from unittest import mock

import pytest

import art_perception
from art_perception.cli.doctor import LIBRARIES

ROOT = Path(__file__).parents[1]
NEW_NAME = {"cv2": "opencv-python-headless", "skimage": "scikit-image", "PIL": "pillow"}
OPTIONAL = {"pytorch3d"}  # used when importable, has a twin
SHIPPED = ("art_perception", "config", "launch", "resource", "scripts", "setup.py", "setup.cfg", "pyproject.toml")
pytestmark = pytest.mark.skipif(not (ROOT / "setup.py").exists(), reason="needs a source checkout")


@pytest.fixture(scope="module")
def setup() -> dict:
    """Arguments of the call of setuptools.setup."""
    with mock.patch("setuptools.setup") as call, pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        runpy.run_path("setup.py")
    return call.call_args.kwargs


@pytest.fixture(scope="module")
def package_xml() -> ET.Element:
    return ET.parse(ROOT / "package.xml").getroot()


@pytest.fixture(scope="module")
def imported() -> set[str]:
    """Top-level modules that the package and its launch files import, outside the standard library."""
    found = set()
    for path in [*(ROOT / "art_perception").rglob("*.py"), *(ROOT / "launch").glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                found.add(node.module.split(".")[0])
    return found - set(sys.stdlib_module_names) - {"art_perception"}


def names(requirements: list[str]) -> set[str]:
    return {re.match(r"[A-Za-z0-9-]+", line).group().lower() for line in requirements}


def pins() -> list[str]:
    lines = [line for line in (ROOT / "requirements.txt").read_text().splitlines() if line and line[0] not in "#-"]
    return [line.split(";")[0].strip() for line in lines]


def test_one_version(setup, package_xml):
    assert setup["version"] == package_xml.findtext("version") == art_perception.__version__


def test_every_listed_file_exists(setup):
    for target, sources in setup["data_files"]:
        assert sources, f"nothing to install into {target}"
        assert all((ROOT / source).is_file() for source in sources)


def test_entry_points_exist_and_nodes_have_a_wrapper(setup):
    for line in setup["entry_points"]["console_scripts"]:
        name, module, function = re.match(r"([\w-]+) = ([\w.]+):(\w+)", line).groups()
        source = ROOT / (module.replace(".", "/") + ".py")
        assert function in {
            node.name for node in ast.parse(source.read_text()).body if isinstance(node, ast.FunctionDef)
        }
        if ".ros." in module:
            wrapper = ROOT / "scripts" / name
            assert f"from {module} import {function}" in wrapper.read_text()
            assert wrapper.stat().st_mode & 0o111, f"{wrapper} is not executable"


def test_imports_are_required(setup, imported, package_xml):
    ros = {element.text for element in package_xml.findall("exec_depend")}
    required = names(setup["install_requires"])
    wanted = {NEW_NAME.get(module, module) for module in imported - OPTIONAL}
    assert wanted - required - ros == set()
    assert required - wanted == {"pycollada"}, "required but never imported"


def test_the_doctor_looks_at_every_requirement(setup):
    assert set(LIBRARIES.values()) == names(setup["install_requires"])


def test_ros_imports_are_in_package_xml(imported, package_xml):
    ros = {module for module in imported if module.endswith(("_msgs", "_srvs", "_interfaces")) or "rcl" in module}
    depends = {element.text for element in package_xml.findall("exec_depend")}
    assert ros | (imported & {"launch", "launch_ros"}) <= depends


def test_package_xml_names_nothing_twice(package_xml):
    depends = [element.text for element in package_xml.findall("exec_depend")]
    assert len(depends) == len(set(depends))


def test_pins_are_exact_and_cover_the_ranges(setup):
    assert all(re.search(r"==[\w.]+$", pin) for pin in pins())
    assert names(setup["install_requires"]) | names(setup["extras_require"]["ros"]) <= names(pins())
    assert "launch" not in names(pins())  # the package of that name is an unrelated project


def test_installed_versions_are_the_pinned_ones():
    if not importlib.util.find_spec("rclpy"):
        pytest.skip("not the environment that make sets up")
    for pin in set(pins()):
        name, version = re.match(r"([\w-]+)(?:\[\w+\])?==([\w.]+)", pin).groups()
        alternatives = [other.split("==")[1] for other in pins() if names([other]) == {name.lower()}]
        assert importlib.metadata.version(name).split("+")[0] in alternatives, version


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> set[str]:
    """File names in the wheel that `pip install .` builds."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in (*SHIPPED, "package.xml"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, source / name)
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", target, source]
    subprocess.run(command, check=True, capture_output=True)
    (path,) = target.glob("*.whl")
    return set(zipfile.ZipFile(path).namelist())


def test_wheel_holds_the_package_and_its_clip(wheel):
    for path in (ROOT / "art_perception").rglob("*.py"):
        assert str(path.relative_to(ROOT)) in wheel
    assert {"art_perception/data_files/laptop.mcap", "art_perception/py.typed"} <= wheel
    assert not [name for name in wheel if name.startswith(("test/", "benchmarks/", "tools/"))]


def test_wheel_has_the_ros_layout(wheel):
    data = {name.split(".data/data/")[1] for name in wheel if ".data/data/" in name}
    assert "share/ament_index/resource_index/packages/art_perception" in data
    assert "share/art_perception/package.xml" in data
    for folder, target in (("launch", "share/art_perception/launch"), ("config", "share/art_perception/config")):
        assert {f"{target}/{path.name}" for path in (ROOT / folder).iterdir() if path.is_file()} <= data
    assert {f"lib/art_perception/{path.name}" for path in (ROOT / "scripts").iterdir()} <= data
