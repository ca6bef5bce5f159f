"""The values that cross stage boundaries.

Conventions, stated once: metres, radians, seconds (integer nanoseconds for stamps); camera axes follow the OpenCV
optical frame (x right, y down, z forward); ``T_a_b`` maps points from frame b to frame a; quaternions are wxyz (ROS
xyzw only in ``ros/`` and ``io/``); pixels are (column, row). The *fixed frame* is the frame the camera poses are given
in. All joint values are zero at the first window stamp, so part geometry is stored in the fixed frame at that stamp.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor


class JointType(str, Enum):
    """Joint types of the URDF subset we estimate."""

    FIXED = "fixed"
    PRISMATIC = "prismatic"
    REVOLUTE = "revolute"


@dataclass(frozen=True, slots=True, eq=False)
class RgbdFrame:
    """One rectified, registered RGB-D image with its camera pose.

    Attributes:
        stamp_ns: capture time, nanoseconds.
        color: (H, W, 3) uint8, RGB.
        depth_m: (H, W) float32, metres along the optical axis, 0 where there is no measurement (never NaN).
        K: (3, 3) float64 pinhole matrix; distortion has been removed already.
        T_world_camera: (4, 4) float64, optical frame to fixed frame.
        mask: (H, W) bool, the object's pixels, or None when unknown.
    """

    stamp_ns: int
    color: np.ndarray
    depth_m: np.ndarray
    K: np.ndarray
    T_world_camera: np.ndarray
    mask: np.ndarray | None = None

    @property
    def stamp_s(self) -> float:
        """Capture time in seconds."""
        return self.stamp_ns * 1e-9


@dataclass(frozen=True, slots=True)
class PoseCorrection:
    """How far camera poses were moved because they disagreed with what stands still, root-mean-square over frames.

    Attributes:
        rms_m, rms_deg: metres and degrees; 0 when poses are as recorded.
    """

    rms_m: float = 0.0
    rms_deg: float = 0.0

    def __str__(self) -> str:
        return f"{100 * self.rms_m:.1f} cm and {self.rms_deg:.1f} deg (rms)"


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """T frames of one scene in time order, sharing a fixed frame and an image size.

    Their camera poses are the recorded ones, but for ``correction``.
    """

    frames: tuple[RgbdFrame, ...]
    fixed_frame: str = "world"
    correction: PoseCorrection = PoseCorrection()

    @property
    def stamps_s(self) -> np.ndarray:
        """(T,) seconds since the first frame."""
        return np.array([f.stamp_ns - self.frames[0].stamp_ns for f in self.frames]) * 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class Joint:
    """A one-degree-of-freedom joint in the fixed frame at zero joint values.

    Attributes:
        name, parent, child: joint name and link names; the root link is ``base``.
        type: revolute or prismatic (fixed only in ground truth).
        axis: (3,) unit vector, fixed frame.
        origin: (3,) point on the axis (revolute) or on the part (prismatic), metres, fixed frame.
        limits: lowest and highest joint value, rad or m, zero being the pose at the first window stamp.
        valid: whether the estimate is good enough to act on.
        confidence: probability in [0, 1] that type, axis (5 deg) and position (5 cm) are right.
        axis_std_rad, origin_std_m: one-sigma uncertainty from the fit's covariance.
        proposed_by: what first suggested it: ``network``, ``tracks``, ``planes``, ``spin``, ``prior``; empty for truth.
    """

    name: str
    parent: str
    child: str
    type: JointType
    axis: np.ndarray
    origin: np.ndarray
    limits: tuple[float, float]
    valid: bool = True
    confidence: float = 1.0
    axis_std_rad: float = 0.0
    origin_std_m: float = 0.0
    proposed_by: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Mesh:
    """A triangle mesh.

    Attributes:
        vertices: (V, 3) float64 metres.
        faces: (F, 3) int64 vertex indices, counter-clockwise seen from outside.
        colors: (V, 3) uint8 RGB per vertex, or None.
    """

    vertices: np.ndarray
    faces: np.ndarray
    colors: np.ndarray | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """A rigid link, its geometry in the fixed frame at zero joint values.

    Attributes:
        name: link name (``base``, ``part_1``, ...).
        visual: watertight mesh; empty (0 faces) when the part was never seen.
        collision: convex pieces that together cover the visual mesh.
        observed: fraction of the visual surface that was measured rather than closed by guess, in [0, 1].
    """

    name: str
    visual: Mesh
    collision: tuple[Mesh, ...] = ()
    observed: float = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class PartMotion:
    """Which pixel belongs to which part, and how the parts move.

    Attributes:
        labels: (T, H, W) uint8: 0 static body, k child of ``joints[k-1]``, ``UNLABELLED`` elsewhere (background,
            no depth).
        joints: the moving parts' joints; ``joints[k].child`` is the part labelled k + 1.
        q: (T, J) joint values per frame, rad or m, ``q[0] == 0``.
    """

    labels: np.ndarray
    joints: tuple[Joint, ...]
    q: np.ndarray


UNLABELLED = 255


@dataclass(frozen=True, slots=True)
class PriorUse:
    """What the shape prior of a category had to do with a result.

    Attributes:
        category: name, or ``none`` when none was given.
        used: ``all``: parts and joints are the prior's; ``fill``: only what was never seen is; ``none``.
        score: how well the prior's object agrees with what was measured, in [0, 1]; None when it was not asked.
        reason: one sentence why it was used so.
    """

    category: str = "none"
    used: Literal["all", "fill", "none"] = "none"
    score: float | None = None
    reason: str = "no category was given"


@dataclass(frozen=True, slots=True, eq=False)
class ArticulatedObject:
    """Parts and joints: everything a URDF says.

    Attributes:
        name: file-system and ROS safe name.
        fixed_frame: frame of all geometry below.
        parts: ``parts[0]`` is ``base``; ``parts[k + 1]`` is the child of ``joints[k]``.
        joints: one per moving part, parents before children.
        T_world_base: (4, 4) pose of the base link frame; geometry stays in the fixed frame, writers convert.
    """

    name: str
    fixed_frame: str
    parts: tuple[Part, ...]
    joints: tuple[Joint, ...]
    T_world_base: np.ndarray


@dataclass(frozen=True, slots=True, eq=False)
class PointWindow:
    """B windows of T frames of N measured surface points: what the window network sees.

    Attributes:
        points: (B, T, N, 3) in the first camera's frame, minus ``center`` and divided by ``scale``: about [-1, 1].
        flow: (B, T, N, 3) displacement to the next frame (in the last frame: from the previous one) divided by
            ``flow_scale``; zero where ``flow_valid`` is false.
        flow_valid: (B, T, N) bool.
        normals: (B, T, N, 3) unit, towards the camera, zero where unknown.
        seen: (B, T, N, 4) share of the earlier and later frames that saw a surface at this place, and that saw
            through it: [seen before, through before, seen after, through after].
        center: (B, 3) metres; scale: (B,) metres.
        flow_scale: (B,) 95th percentile of the flow's length, in units of ``scale``.
        appearance: (B, T, N, C) image features, or None.
    """

    points: Tensor
    flow: Tensor
    flow_valid: Tensor
    normals: Tensor
    seen: Tensor
    center: Tensor
    scale: Tensor
    flow_scale: Tensor
    appearance: Tensor | None = None


@dataclass(frozen=True, slots=True, eq=False)
class WindowTruth:
    """True parts and joints of B windows, in the units of their :class:`PointWindow`.

    Attributes:
        part: (B, T, N) int64: 0 static body, k the k-th moving part, -1 not to be judged.
        type: (B, K) int64: 0 revolute, 1 prismatic, -1 no such part.
        axis: (B, K, 3) unit, in the direction of net motion, at the first frame.
        pivot: (B, K, 3) a point on the axis of a revolute joint.
        amount: (B, T, K) motion since the first frame, rad or units of ``scale``.
    """

    part: Tensor
    type: Tensor
    axis: Tensor
    pivot: Tensor
    amount: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class ShapeBatch:
    """B articulated objects of K parts, some absent, in the canonical frame of their category.

    The frame: z up, front towards +x, origin at the centre of the bounding box at rest, whose diagonal is the unit.
    Part k + 1 hangs on the base by joint k; joint values are zero at rest, rad or units.

    Attributes:
        category: (B,) int64.
        present: (B, K) bool; the base, part 0, always is.
        cloud: (B, N, 3) surface points at joint values ``q_cloud`` (B, K - 1), for the encoder; cloud_label: (B, N)
            int64, the part each belongs to.
        q: (B, K - 1) other joint values of the same objects.
        points: (B, M, 3) surface points at ``q``; label: (B, M) int64, the part each belongs to.
        queries: (B, K, Q, 3) places in the rest frame of each part; sdf: (B, K, Q) their distance to it.
        twists: (B, K - 1, 6) unit twists at rest, zero where there is no joint.
        axis, origin: (B, K - 1, 3) the same joints as lines.
        revolute: (B,) bool.
        upper: (B, K - 1) upper joint limits; the lower ones are zero.
        boxes: (B, K, 2, 3) lowest and highest corner of each part at rest.
    """

    category: Tensor
    present: Tensor
    cloud: Tensor
    q_cloud: Tensor
    cloud_label: Tensor
    q: Tensor
    points: Tensor
    label: Tensor
    queries: Tensor
    sdf: Tensor
    twists: Tensor
    axis: Tensor
    origin: Tensor
    revolute: Tensor
    upper: Tensor
    boxes: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class ViewBatch:
    """What one depth camera sees of the B objects of a :class:`ShapeBatch`, at their joint values ``q``.

    A canonical point ``x`` of the base is at ``size * R @ x + t`` in the camera frame.

    Attributes:
        points: (B, N, 3) metres, camera frame, measured.
        canonical: (B, N, 3) the same points in the canonical frame.
        label: (B, N) int64 part of each point.
        T: (B, 4, 4) rotation R and translation t (metres) of the base in the camera frame.
        size: (B,) metres per canonical unit.
        visible: (B,) share of the points facing the camera that is seen.
    """

    points: Tensor
    canonical: Tensor
    label: Tensor
    T: Tensor
    size: Tensor
    visible: Tensor
