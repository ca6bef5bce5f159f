"""Topic names of the inputs and of the ground truth; the same live and in recordings."""

from __future__ import annotations

from dataclasses import dataclass

ROBOT_DESCRIPTION_TOPIC = "/ground_truth/robot_description"
JOINT_STATES_TOPIC = "/ground_truth/joint_states"
PART_IDS_TOPIC = "/ground_truth/part_ids"


@dataclass(frozen=True, slots=True)
class Topics:
    """Where to find what; compressed variants and the RealSense namespace are found automatically."""

    color: str = "/camera/color/image_raw"
    """Colour images (sensor_msgs/Image or CompressedImage)."""
    depth: str = "/camera/aligned_depth_to_color/image_raw"
    """Depth registered to colour (sensor_msgs/Image or compressedDepth)."""
    camera_info: str = "/camera/color/camera_info"
    """Calibration of the colour camera."""
    pose: str = "/camera/pose"
    """Pose of the colour optical frame in the fixed frame (geometry_msgs/PoseStamped)."""
    odom: str = "/odom"
    """Robot odometry (nav_msgs/Odometry), used with pose_source odom."""
    mask: str = "/object/mask"
    """Object mask, non-zero = the object; optional."""
    tf: str = "/tf"
    """Moving transforms, used with pose_source tf."""
    tf_static: str = "/tf_static"
    """Static transforms, used with pose_source tf and odom."""


DEFAULT_TOPICS = Topics()
