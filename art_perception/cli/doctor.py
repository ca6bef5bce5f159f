"""``art-perception doctor``: what is wrong with this installation, and what to do about it.

Uses the standard library only, and imports every other library in a process of its own: one that is missing, too old or
crashes while loading is a line of the report.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

PACKAGE = Path(__file__).parents[1]
LIBRARIES = {
    "numpy": "numpy",
    "scipy": "scipy",
    "safetensors": "safetensors",
    "torch": "torch",
    "open3d": "open3d",
    "cv2": "opencv-python-headless",
    "trimesh": "trimesh",
    "collada": "pycollada",
    "rosbags": "rosbags",
    "viser": "viser",
    "skimage": "scikit-image",
    "manifold3d": "manifold3d",
    "PIL": "pillow",
    "tyro": "tyro",
    "tqdm": "tqdm",
}
SYSTEM_LIBRARIES = {
    "libusb-1.0.so.0": "libusb-1.0-0",
    "libGL.so.1": "libgl1",
    "libEGL.so.1": "libegl1",
    "libgomp.so.1": "libgomp1",
    "libX11.so.6": "libx11-6",
}
ROS_MESSAGES = ("sensor_msgs", "geometry_msgs", "nav_msgs", "std_srvs", "visualization_msgs", "diagnostic_msgs")
IMPORT_TIMEOUT_S = 120
DISK_MB = 500
SHARED_MEMORY_MB = 64


class Level(str, Enum):
    """How bad a finding is."""

    OK = "ok"
    NOTE = "note"
    FAIL = "FAIL"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report.

    Attributes:
        level: ok, note (something is limited) or FAIL (the program cannot work).
        subject: what was looked at.
        detail: what was seen, and what to do about it.
    """

    level: Level
    subject: str
    detail: str


def main(arguments: list[str]) -> int:
    """Entry point of the command: 0 when nothing is broken, else 1."""
    if arguments:
        print("usage: art-perception doctor\n\nDiagnose this installation; takes no options.")
        return 0 if arguments[0] in ("-h", "--help") else 2
    failed = 0
    for finding in examine():
        print(f"{finding.level.value:4}  {finding.subject:24}  {finding.detail}", flush=True)
        failed += finding.level is Level.FAIL
    print(f"\n{failed} thing{'s' if failed != 1 else ''} to repair." if failed else "\nNothing is broken.")
    return 1 if failed else 0


def examine() -> Iterator[Finding]:
    """All findings, in the order of the report."""
    yield _python()
    yield from _system_libraries()
    yield from _libraries()
    yield from _conflicts()
    yield from _ros()
    yield from _files()
    yield from _machine()


def _python() -> Finding:
    version = sys.version.split()[0]
    if sys.version_info < (3, 10):  # noqa: UP036 - a broken installation is what this command is for
        return Finding(Level.FAIL, "Python", f"{version} is too old: use 3.10 or newer")
    return Finding(Level.OK, "Python", f"{version} ({sys.executable})")


def _system_libraries() -> Iterator[Finding]:
    missing = missing_system_packages()
    if missing:
        yield Finding(Level.FAIL, "system libraries", f"Open3D misses some: sudo apt-get install {' '.join(missing)}")
    else:
        yield Finding(Level.OK, "system libraries", "all that Open3D needs")
    if not shutil.which("check_urdf"):
        advice = "missing, so `art-perception check` is less strict: sudo apt-get install liburdfdom-tools"
        yield Finding(Level.NOTE, "check_urdf", advice)


def missing_system_packages() -> list[str]:
    """Debian and Ubuntu packages of the shared libraries that Open3D loads and the dynamic linker does not find."""
    return [package for library, package in SYSTEM_LIBRARIES.items() if not _loads(library)]


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def _libraries() -> Iterator[Finding]:
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        problems = pool.map(import_problem, LIBRARIES)
        for package, problem in zip(LIBRARIES.values(), problems, strict=True):
            if problem:
                yield Finding(Level.FAIL, package, f"{problem}: python -m pip install {package}")
            else:
                yield Finding(Level.OK, package, _version(package) or "version unknown")


def import_problem(module: str) -> str:
    """Import a module in a process of its own; return what went wrong, empty when nothing did."""
    command = [sys.executable, "-c", f"import {module}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=IMPORT_TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"import did not finish ({type(error).__name__})"
    if done.returncode == 0:
        return ""
    if done.returncode < 0:
        return f"import {module} crashed with signal {-done.returncode}"
    return (done.stderr.strip().splitlines() or ["import failed"])[-1]


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _conflicts() -> Iterator[Finding]:
    twins = [name for name in ("opencv-python", "opencv-contrib-python", "opencv-python-headless") if _version(name)]
    if len(twins) > 1:
        advice = (
            f"{' and '.join(twins)} overwrite each other: python -m pip uninstall {' '.join(twins)}, then install one"
        )
        yield Finding(Level.FAIL, "OpenCV", advice)
    apt_ros = [path for path in _paths("AMENT_PREFIX_PATH") if path.parts[:3] == ("/", "opt", "ros")]
    if apt_ros and int((_version("numpy") or "0").split(".")[0]) >= 2:
        advice = "2 or newer beside an apt-installed ROS, whose cv_bridge may need 1: python -m pip install 'numpy<2'"
        yield Finding(Level.NOTE, "numpy", advice)


def _paths(variable: str) -> list[Path]:
    return [Path(path) for path in os.environ.get(variable, "").split(os.pathsep) if path]


def _ros() -> Iterator[Finding]:
    problem = import_problem("rclpy")
    if problem:
        advice = "source your ROS installation, or python -m pip install 'art_perception[ros]'"
        yield Finding(Level.NOTE, "rclpy", f"no nodes, only commands ({problem}): {advice}")
        return
    yield Finding(Level.OK, "rclpy", _version("ros-rclpy") or _version("rclpy") or "from the ROS installation")
    missing = [name for name in ROS_MESSAGES if import_problem(f"{name}.{'srv' if name.endswith('srvs') else 'msg'}")]
    if missing:
        yield Finding(Level.FAIL, "ROS messages", f"missing: {', '.join(missing)}; install the packages of these names")
    yield _ament_index()
    yield from _node_python()
    yield from _middleware()


def _ament_index() -> Finding:
    marker = Path("share/ament_index/resource_index/packages/art_perception")
    prefixes = _paths("AMENT_PREFIX_PATH")
    if any((prefix / marker).exists() for prefix in prefixes):
        return Finding(Level.OK, "ros2 run / launch", "finds art_perception")
    if (Path(sys.prefix) / marker).exists():
        return Finding(Level.NOTE, "ros2 run / launch", f"export AMENT_PREFIX_PATH={sys.prefix}:$AMENT_PREFIX_PATH")
    advice = "does not know art_perception: `pip install .` (not -e), or `colcon build` and source install/setup.bash"
    return Finding(Level.NOTE, "ros2 run / launch", advice)


def _node_python() -> Iterator[Finding]:
    """The nodes' scripts start with ``env python3``: with whatever Python comes first on the path."""
    found = shutil.which("python3")
    if found and Path(found).parent != Path(sys.executable).parent:
        advice = f"starts nodes with {found}, this is {sys.executable}: put {Path(sys.executable).parent} first on PATH"
        yield Finding(Level.NOTE, "ros2 run", advice)


def _middleware() -> Iterator[Finding]:
    rmw = os.environ.get("RMW_IMPLEMENTATION", "the default")
    yield Finding(Level.OK, "middleware", f"{rmw}, domain {os.environ.get('ROS_DOMAIN_ID', '0')}")
    profile = os.environ.get("FASTDDS_DEFAULT_PROFILES_FILE") or os.environ.get("FASTRTPS_DEFAULT_PROFILES_FILE")
    if profile and not Path(profile).is_file():
        yield Finding(
            Level.FAIL, "Fast DDS profile", f"{profile} does not exist: correct FASTDDS_DEFAULT_PROFILES_FILE"
        )
    if not profile and "cyclone" not in rmw:
        advice = "none: large images may be lost; start the camera driver with config/fastdds_large_data.xml (README)"
        yield Finding(Level.NOTE, "Fast DDS profile", advice)


def _files() -> Iterator[Finding]:
    weights = sorted(path.name for path in (PACKAGE / "weights").glob("*.safetensors"))
    yield Finding(Level.OK, "weights", ", ".join(weights) or "none needed: parts and joints are found by geometry")
    if not list((PACKAGE / "data_files").glob("*.mcap")):
        yield Finding(Level.FAIL, "bundled clip", f"missing from {PACKAGE / 'data_files'}: install the package again")


def _machine() -> Iterator[Finding]:
    yield _space("disk", Path.cwd(), DISK_MB, "free some space, or work elsewhere")
    if Path("/dev/shm").exists():
        remedy = "in a container start it with --shm-size=256m, images between nodes need it"
        yield _space("shared memory", Path("/dev/shm"), SHARED_MEMORY_MB, remedy)
    gpu = shutil.which("nvidia-smi")
    listing = subprocess.run([gpu, "-L"], capture_output=True, text=True).stdout.strip() if gpu else ""
    yield Finding(Level.OK, "GPU", listing.splitlines()[0] if listing else "none; none is needed")


def _space(subject: str, path: Path, wanted_mb: int, remedy: str) -> Finding:
    free_mb = shutil.disk_usage(path).free // 2**20
    if free_mb < wanted_mb:
        return Finding(Level.NOTE, subject, f"only {free_mb} MB free in {path}: {remedy}")
    return Finding(Level.OK, subject, f"{free_mb} MB free in {path}")
