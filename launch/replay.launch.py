"""A recording in, URDF and joint states out: perception.launch.py fed by our own player, in the recording's time.

ros2 launch art_perception replay.launch.py bag:=clip loop:=true rviz:=true

Takes all arguments of perception.launch.py as well.
"""

import os

from ament_index_python.packages import get_package_share_directory
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, OpaqueFunction
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

SHARE = get_package_share_directory("art_perception")
ARGUMENTS = {
    "rate": ("", "speed relative to the recording"),
    "loop": ("", "true: play again and again; time then jumps back"),
}


def start(context):
    """Build the player from the arguments."""
    given = {name: LaunchConfiguration(name).perform(context) for name in ("bag", *ARGUMENTS)}
    parameters = {"bag": ParameterValue(given["bag"], value_type=str)}
    if given["rate"]:
        parameters["rate"] = float(given["rate"])
    if given["loop"]:
        parameters["loop"] = given["loop"].lower() in ("true", "1", "yes")
    return [
        Node(
            package="art_perception",
            executable="replay_node",
            name="replay",
            parameters=[parameters],
            output="screen",
            emulate_tty=True,
        )
    ]


def generate_launch_description():
    """Entry point of ros2 launch."""
    perception = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(os.path.join(SHARE, "launch", "perception.launch.py")),
        launch_arguments={"use_sim_time": "true"}.items(),
    )
    declared = [
        DeclareLaunchArgument(name, default_value=default, description=description)
        for name, (default, description) in ARGUMENTS.items()
    ]
    bag = DeclareLaunchArgument("bag", description="recording: rosbag2 folder, .mcap or .db3 file")
    return LaunchDescription([bag, *declared, perception, OpaqueFunction(function=start)])
