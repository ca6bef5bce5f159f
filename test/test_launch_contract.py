"""What can be said about the launch and parameter files without ROS's launch: names, keys and files agree."""

from __future__ import annotations

import ast
import importlib
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
LAUNCH_FILES = sorted((ROOT / "launch").glob("*.launch.py"))
YAML_FILES = sorted((ROOT / "config").glob("*.yaml"))
NODES = {"reconstruct_node": "reconstruct", "track_node": "track", "replay_node": "replay"}
ROS_PACKAGES = re.compile(r"^(rclpy|\w+_interfaces|\w+_msgs|std_srvs|launch|launch_ros|ament_index_python)$")


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def keyword(call: ast.Call, name: str) -> ast.expr | None:
    return next((k.value for k in call.keywords if k.arg == name), None)


def calls(path: Path, name: str) -> list[ast.Call]:
    found = [n for n in ast.walk(tree(path)) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)]
    return [n for n in found if n.func.id == name]


def strings(node: ast.AST) -> set[str]:
    return {n.value for n in ast.walk(node) if isinstance(n, ast.Constant) and isinstance(n.value, str)}


def console_scripts() -> dict[str, str]:
    text = (ROOT / "setup.py").read_text()
    return dict(re.findall(r'"([\w-]+) = ([\w.]+:\w+)"', text))


def declared(node: str) -> set[str]:
    """Parameters that a node declares, read off its configs."""
    pytest.importorskip("rclpy")
    from art_perception.estimation.tracking import TrackingConfig
    from art_perception.io.topics import Topics
    from art_perception.pipeline import Config
    from art_perception.ros.camera import InputConfig
    from art_perception.ros.params import parameter_names
    from art_perception.ros.reconstruct_node import ReconstructNodeConfig
    from art_perception.ros.replay_node import ReplayNodeConfig
    from art_perception.ros.track_node import TrackNodeConfig

    camera = [*parameter_names(InputConfig), *parameter_names(Topics, "topics.")]
    names = {
        "reconstruct": [*camera, *parameter_names(ReconstructNodeConfig), *parameter_names(Config)],
        "track": [*camera, *parameter_names(TrackNodeConfig), *parameter_names(TrackingConfig, "tracking.")],
        "replay": parameter_names(ReplayNodeConfig),
    }
    return {*names[node], "use_sim_time"}


def flatten(mapping: dict, prefix: str = "") -> list[str]:
    keys: list[str] = []
    for key, value in mapping.items():
        keys += flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else [prefix + key]
    return keys


@pytest.mark.parametrize("path", LAUNCH_FILES, ids=lambda p: p.name)
def test_launch_files_describe_a_launch(path):
    functions = {n.name for n in tree(path).body if isinstance(n, ast.FunctionDef)}
    assert "generate_launch_description" in functions


def test_every_executable_is_a_console_script_and_a_wrapper():
    text = "\n".join(path.read_text() for path in LAUNCH_FILES)
    used = {name for name in re.findall(r'"(\w+_node)"', text)}
    assert used == set(NODES)
    scripts = console_scripts()
    for name in used:
        module, function = scripts[name].split(":")
        assert callable(getattr(pytest.importorskip("rclpy") and importlib.import_module(module), function))
        wrapper = ROOT / "scripts" / name
        assert wrapper.stat().st_mode & 0o111
        assert wrapper.read_text().startswith("#!/usr/bin/env python3\n")
        assert f"from {module} import {function}" in wrapper.read_text()


def test_launched_parameters_are_declared():
    perception, replay = ROOT / "launch" / "perception.launch.py", ROOT / "launch" / "replay.launch.py"
    given = {
        "reconstruct": {"pose_source", "fixed_frame", "object", "output_dir", "prior.category"},
        "track": {"pose_source", "fixed_frame", "urdf", "robot_state_publisher"},
        "replay": {"bag", "rate", "loop"},
    }
    for node, names in given.items():
        assert names <= declared(node)
        source = strings(tree(replay if node == "replay" else perception))
        assert names <= source, f"the launch file no longer passes {names - source}"


@pytest.mark.parametrize("path", YAML_FILES, ids=lambda p: p.name)
def test_parameter_files_name_declared_parameters(path):
    document = yaml.safe_load(path.read_text())
    for node, entry in document.items():
        keys = flatten(entry["ros__parameters"])
        assert keys, "an empty ros__parameters is an error to rcl"
        nodes = ["reconstruct", "track"] if node == "/**" else [node.strip("/")]
        for name in nodes:
            assert set(keys) <= declared(name)


@pytest.mark.parametrize("path", YAML_FILES, ids=lambda p: p.name)
def test_parameter_files_only_override(path):
    """A default lives in the dataclass alone."""
    pytest.importorskip("rclpy")
    from art_perception.io.topics import Topics
    from art_perception.ros.camera import InputConfig

    defaults = {f"topics.{k}": getattr(Topics(), k) for k in Topics.__slots__}
    defaults |= {k: getattr(InputConfig(), k) for k in InputConfig.__slots__}
    for entry in yaml.safe_load(path.read_text()).values():
        parameters = entry["ros__parameters"]
        for key in flatten(parameters):
            value = parameters
            for part in key.split("."):
                value = value[part]
            assert key not in defaults or defaults[key] != value


def test_launch_arguments_have_descriptions_and_are_used():
    for path in LAUNCH_FILES:
        table = next(n.value for n in tree(path).body if isinstance(n, ast.Assign) and n.targets[0].id == "ARGUMENTS")
        for name, entry in zip(table.keys, table.values, strict=True):
            assert entry.elts[1].value, name.value
            used = [n for n in ast.walk(tree(path)) if isinstance(n, ast.Constant) and n.value == name.value]
            assert len(used) >= 2, f"{path.name}: {name.value} is declared but never used"


def test_files_named_by_launch_exist():
    text = "\n".join(path.read_text() for path in LAUNCH_FILES)
    for folder, name in re.findall(r'SHARE, "(\w+)", "([\w.]+)"', text):
        assert (ROOT / folder / name).exists()


def test_package_xml_covers_the_imports():
    dependencies = {e.text for e in ET.parse(ROOT / "package.xml").getroot() if e.tag.endswith("depend")}
    for path in [*(ROOT / "art_perception" / "ros").glob("*.py"), *LAUNCH_FILES]:
        for node in ast.walk(tree(path)):
            modules = [node.module] if isinstance(node, ast.ImportFrom) else []
            modules += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for package in {m.split(".")[0] for m in modules if m}:
                if ROS_PACKAGES.match(package):
                    assert package in dependencies, f"{path.name} imports {package}"
    launched = {v.value for path in LAUNCH_FILES for c in calls(path, "Node") if (v := keyword(c, "package"))}
    assert launched - {"art_perception"} <= dependencies


def test_rviz_shows_what_is_published():
    document = yaml.safe_load((ROOT / "config" / "art.rviz").read_text())
    displays = document["Visualization Manager"]["Displays"]
    topics = {d[k]["Value"] for d in displays for k in ("Topic", "Description Topic") if k in d}
    assert topics == {"robot_description", "reconstruct/parts", "reconstruct/markers", "/camera/color/image_raw"}


def test_the_transport_profile_is_valid_xml_with_a_large_segment():
    root = ET.parse(ROOT / "config" / "fastdds_large_data.xml").getroot()
    name = {"p": "http://www.eprosima.com/XMLSchemas/fastRTPS_Profiles"}
    assert int(root.find(".//p:segment_size", name).text) == 32 * 2**20
    assert root.find(".//p:useBuiltinTransports", name).text == "false"


@pytest.mark.parametrize("path", LAUNCH_FILES, ids=lambda p: p.name)
def test_real_launch_accepts_the_file(path):
    pytest.importorskip("launch.actions", reason="ROS's launch is not installed (not on PyPI)")
    pytest.importorskip("launch_ros.actions")
    from launch.launch_context import LaunchContext
    from launch.launch_description_sources import PythonLaunchDescriptionSource

    assert PythonLaunchDescriptionSource(str(path)).get_launch_description(LaunchContext()).entities
