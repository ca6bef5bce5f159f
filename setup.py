"""One ament_python package: `pip install .` and `colcon build` both read this file."""

from glob import glob

from setuptools import find_packages, setup

NAME = "art_perception"

setup(
    name=NAME,
    version="0.1.0",
    description="RGB-D video of a moving articulated object in, URDF and live joint states out.",
    license="Apache-2.0",
    author="The art_perception authors",
    packages=find_packages(include=[NAME, f"{NAME}.*"]),
    package_data={NAME: ["weights/*", "data_files/*", "data_files/*/*", "py.typed"]},
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml"]),
        (f"share/{NAME}/launch", glob("launch/*.launch.py")),
        (f"share/{NAME}/config", glob("config/*")),
        (f"lib/{NAME}", glob("scripts/*")),
    ],
    python_requires=">=3.10",
    # Ranges, not pins: numpy 1 must do, because the rclpy and cv_bridge of an apt-installed ROS are built against it.
    install_requires=[
        "numpy>=1.23",
        "scipy>=1.10",
        "safetensors>=0.4",
        "torch>=2.2",
        "open3d>=0.18",
        "trimesh>=4.4",
        "pycollada>=0.8",  # trimesh reads .dae with it
        "opencv-python-headless>=4.8",
        "rosbags>=0.10.5",
        "viser>=0.2.7",
        "scikit-image>=0.20",
        "manifold3d>=3.0",
        "pillow>=9.0",
        "tyro>=0.9",
        "tqdm>=4.60",
    ],
    extras_require={
        # Real rclpy without a ROS installation; with one, source its setup file instead.
        "ros": ["ros-rclpy[fastrtps]>=7.1.6", "ros-common-interfaces"],
        "test": ["pytest", "pytest-xdist", "pyyaml", "yourdfpy", "mujoco", "pybullet"],
        "dev": ["pytest", "ruff", "mypy"],
    },
    zip_safe=False,
    entry_points={
        "console_scripts": [
            "art-perception = art_perception.cli.main:main",
            "reconstruct_node = art_perception.ros.reconstruct_node:main",
            "track_node = art_perception.ros.track_node:main",
            "replay_node = art_perception.ros.replay_node:main",
        ],
    },
)
