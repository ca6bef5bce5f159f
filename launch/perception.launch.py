"""Camera in, URDF and joint states out.

ros2 launch art_perception perception.launch.py object:=fridge rviz:=true
ros2 launch art_perception perception.launch.py urdf:=/path/object.urdf      (follow a known object only)

An argument left empty keeps the value of the configuration file or the node's own default.
"""

import os

from ament_index_python.packages import get_package_share_directory
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

SHARE = get_package_share_directory("art_perception")
PROFILE_VARIABLES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")  # Fast DDS 2 and 3
# robot_state_publisher refuses to start without a description; track_node gives it the real one
PLACEHOLDER = '<robot name="unknown"><link name="world"/></robot>'
ARGUMENTS = {
    "config": (os.path.join(SHARE, "config", "default.yaml"), "parameter file, e.g. config/realsense.yaml"),
    "namespace": ("", "namespace of all nodes and of their topics"),
    "object": ("", "name of the object and of its result folder"),
    "category": ("", "what the object is, such as laptop: its shape prior stands in until something has moved"),
    "output_dir": ("", "folder that receives one folder per object"),
    "pose_source": ("", "camera pose: topic, odom, tf or static"),
    "fixed_frame": ("", "frame to describe the object in, for pose_source tf"),
    "urdf": ("", "follow the object of this URDF instead of reconstructing one"),
    "use_sim_time": ("false", "take the time from /clock"),
    "rviz": ("false", "show the result in RViz"),
    "robot_state_publisher": ("false", "let robot_state_publisher publish the object's frames instead of track_node"),
    "large_data": ("true", "use config/fastdds_large_data.xml unless a Fast DDS profile is set already"),
}


def is_true(argument):
    """Whether a launch argument says yes."""
    return argument.lower() in ("true", "1", "yes")


def text(value):
    """A string parameter; without its type, launch would read "123" as a number."""
    return ParameterValue(value, value_type=str)


def only_given(arguments, names):
    """Parameters for the arguments that are not empty."""
    return {name: text(arguments[name]) for name in names if arguments[name]}


def transport():
    """Shared memory that holds whole images; a profile that the user has set stays."""
    if any(name in os.environ for name in PROFILE_VARIABLES):
        return []
    profile = os.path.join(SHARE, "config", "fastdds_large_data.xml")
    older = os.environ.get("ROS_DISTRO") in ("humble", "iron", "jazzy")
    return [SetEnvironmentVariable(PROFILE_VARIABLES[0 if older else 1], profile)]


def art_node(arguments, executable, name, parameters):
    """One of this package's nodes."""
    clock = {"use_sim_time": is_true(arguments["use_sim_time"])}
    return Node(
        package="art_perception",
        executable=executable,
        name=name,
        namespace=arguments["namespace"],
        parameters=[arguments["config"], {**clock, **parameters}],
        output="screen",
        emulate_tty=True,
    )


def state_publisher(arguments):
    """robot_state_publisher beside the nodes; its own copy of the description must not hide the object's."""
    return Node(
        package="robot_state_publisher",
        executable="robot_state_publisher",
        name="robot_state_publisher",
        namespace=arguments["namespace"],
        parameters=[
            {
                "robot_description": text(PLACEHOLDER),
                "publish_frequency": 100.0,
                "use_sim_time": is_true(arguments["use_sim_time"]),
            }
        ],
        remappings=[("robot_description", "robot_state_publisher/robot_description")],
    )


def rviz(arguments):
    """RViz with the object's description, parts and axes."""
    return Node(
        package="rviz2",
        executable="rviz2",
        name="rviz",
        namespace=arguments["namespace"],
        arguments=["-d", os.path.join(SHARE, "config", "art.rviz")],
        parameters=[{"use_sim_time": is_true(arguments["use_sim_time"])}],
    )


def start(context):
    """Build the actions from the arguments."""
    arguments = {name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS}
    actions = transport() if is_true(arguments["large_data"]) else []
    source = only_given(arguments, ("pose_source", "fixed_frame"))
    if not arguments["urdf"]:
        output = only_given(arguments, ("object", "output_dir"))
        if arguments["category"]:
            output["prior.category"] = text(arguments["category"])
        actions.append(art_node(arguments, "reconstruct_node", "reconstruct", {**source, **output}))
    track = {**source, **only_given(arguments, ("urdf",))}
    if is_true(arguments["robot_state_publisher"]):
        track["robot_state_publisher"] = text("robot_state_publisher")
        actions.append(state_publisher(arguments))
    actions.append(art_node(arguments, "track_node", "track", track))
    if is_true(arguments["rviz"]):
        actions.append(rviz(arguments))
    return actions


def generate_launch_description():
    """Entry point of ros2 launch."""
    declared = [
        DeclareLaunchArgument(name, default_value=default, description=description)
        for name, (default, description) in ARGUMENTS.items()
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=start)])
