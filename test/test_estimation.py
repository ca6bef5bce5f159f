"""The estimator recovers known joints from simulated clips, and says so when there is nothing to recover."""

from dataclasses import replace

import numpy as np
import pytest

from art_perception.data.objects import make_object
from art_perception.data.simulate import SimulateConfig, simulate
from art_perception.errors import FrameError, MotionError
from art_perception.estimation.dense import densify
from art_perception.estimation.explain import ExplainConfig, explain, surface_of
from art_perception.estimation.flow import DIS, FlowConfig, optical_flow, track_points
from art_perception.estimation.window import WindowBuffer, WindowConfig
from art_perception.geometry.kinematics import chain_of, displacements
from art_perception.geometry.lie import inverse
from art_perception.geometry.screw import line_distance
from art_perception.pipeline import Clock, Config, estimate_motion
from art_perception.types import UNLABELLED, JointType, Window
from art_perception.urdf.reader import load_urdf

SIZE = SimulateConfig(frames=24, width=320, height=240, shutter=0.0)


class Case:
    """A simulated clip with what is true about it."""

    def __init__(self, category: str, seed: int, config: SimulateConfig = SIZE) -> None:
        clip = simulate(make_object(category, seed), config, seed)
        samples = list(clip)
        self.window = Window(tuple(s.frame for s in samples))
        self.part_ids = np.stack([s.part_ids for s in samples])
        self.q = np.stack([s.q for s in samples])
        self.joints = load_urdf(clip.robot_description, load_meshes=False).joints
        self.moving = int(np.ptp(self.q, axis=0).argmax())
        # displacement of every part since the first frame, and the joints as they were then
        D = displacements(chain_of(self.joints), self.q)
        self.D = (D @ inverse(D[:1]))[:, self.moving]
        parent = chain_of(self.joints).parents[self.moving]
        first = D[0, parent] if parent >= 0 else np.eye(4)
        joint = self.joints[self.moving]
        self.type = joint.type
        self.axis = first[:3, :3] @ joint.axis
        self.origin = first[:3, :3] @ joint.origin + first[:3, 3]
        self.amount = self.q[:, self.moving] - self.q[0, self.moving]


@pytest.fixture(scope="module")
def laptop() -> Case:
    return Case("laptop", 3)


@pytest.fixture(scope="module")
def drawers() -> Case:
    return Case("drawer_table", 1)


@pytest.fixture(scope="module")
def microwave() -> Case:
    return Case("microwave", 2)


@pytest.mark.parametrize("name", ["laptop", "drawers", "microwave"])
def test_recovers_type_axis_state_and_labels(name, request):
    case = request.getfixturevalue(name)
    motion = estimate_motion(case.window, Config(), Clock(None))
    truth = case.part_ids == case.moving + 2
    overlap = [
        (truth & (motion.labels == k + 1)).sum() / (truth | (motion.labels == k + 1)).sum()
        for k in range(len(motion.joints))
    ]
    k = int(np.argmax(overlap))
    joint = motion.joints[k]
    assert joint.type is case.type
    assert np.rad2deg(np.arccos(min(1, abs(joint.axis @ case.axis)))) < 5
    if case.type is JointType.REVOLUTE:
        assert line_distance(joint.origin, case.origin, case.axis) < 0.03
    sign = np.sign(joint.axis @ case.axis)
    tolerance = np.deg2rad(2) if case.type is JointType.REVOLUTE else 0.01
    assert np.abs(sign * motion.q[:, k] - case.amount).mean() < tolerance
    assert overlap[k] > 0.5
    assert joint.valid
    assert joint.limits[0] == pytest.approx(motion.q[:, k].min())
    assert motion.q[0, k] == 0


def test_true_motion_explains_the_moving_part_and_standing_still_does_not(laptop):
    dense = densify(laptop.window, 160)
    surface = surface_of(dense, 0.002, np.arange(len(dense.depth_m)))
    ids = laptop.part_ids[:, dense.step // 2 :: dense.step, dense.step // 2 :: dense.step]
    true_part = ids.reshape(len(ids), -1)[surface.frame, surface.pixel] == laptop.moving + 2
    still = np.broadcast_to(np.eye(4), laptop.D.shape)
    moved = explain(dense, surface, laptop.D, ExplainConfig()).refuted
    stood = explain(dense, surface, still, ExplainConfig()).refuted
    assert (moved[true_part] <= 0.25).mean() > 0.85
    assert (stood[true_part] > 0.25).mean() > 0.6
    assert (stood[~true_part] <= 0.25).mean() > 0.9


def test_tracks_follow_the_surface_they_started_on(microwave):
    dense = densify(microwave.window, 320)
    tracks = track_points(dense, optical_flow(dense, DIS), FlowConfig())
    # bring every sighting of the moving part back to the first frame: what is left is drift and noise
    cell = np.rint(tracks.pixels).astype(int) * dense.step + dense.step // 2
    t = np.arange(len(dense.depth_m))
    ids = microwave.part_ids[t, np.clip(cell[..., 1], 0, 239), np.clip(cell[..., 0], 0, 319)]
    moving = ((ids == microwave.moving + 2) | ~tracks.visible).all(1)
    back = inverse(microwave.D)
    rest = np.einsum("tij,ntj->nti", back[:, :3, :3], tracks.points) + back[:, :3, 3]
    spread = [r[v].std(0).max() for r, v in zip(rest[moving], tracks.visible[moving], strict=True)]
    assert moving.sum() > 20
    assert np.median(spread) < 0.01


def test_the_room_is_not_the_object_when_no_mask_is_given(microwave):
    bare = Window(tuple(replace(f, mask=None) for f in microwave.window.frames))
    motion = estimate_motion(bare, Config(flow=FlowConfig(width=160)), Clock(None))
    joint = motion.joints[0]
    assert joint.type is microwave.type
    assert np.rad2deg(np.arccos(min(1, abs(joint.axis @ microwave.axis)))) < 5
    labelled = motion.labels != UNLABELLED
    assert (microwave.part_ids[labelled] > 0).mean() > 0.7
    assert (motion.labels[microwave.part_ids == 1] == 0).mean() > 0.5


def test_a_still_scene_is_a_named_error(laptop):
    first = laptop.window.frames[0]
    window = Window(tuple(replace(first, stamp_ns=f.stamp_ns) for f in laptop.window.frames))
    with pytest.raises(MotionError, match="move the part further"):
        estimate_motion(window, Config(), Clock(None))


def test_estimates_are_reproducible(drawers):
    a, b = (estimate_motion(drawers.window, Config(), Clock(None)) for _ in range(2))
    np.testing.assert_array_equal(a.labels, b.labels)
    np.testing.assert_array_equal(a.q, b.q)


def test_window_covers_a_long_stream_in_bounded_memory(laptop):
    buffer = WindowBuffer(WindowConfig(max_frames=10, min_frames=3))
    first = laptop.window.frames[0]
    for i in range(200):
        buffer.push(replace(first, stamp_ns=i))
        assert len(buffer) <= 10
    stamps = [f.stamp_ns for f in buffer.window().frames]
    assert stamps[0] == 0
    assert stamps[-1] >= 160
    assert len(set(np.diff(stamps))) == 1


def test_window_refuses_what_it_cannot_use(laptop):
    first = laptop.window.frames[0]
    buffer = WindowBuffer(WindowConfig())
    buffer.push(first)
    with pytest.raises(FrameError, match="1 usable frame,"):
        buffer.window()
    with pytest.raises(FrameError, match="time went back"):
        buffer.push(first)
    with pytest.raises(FrameError, match="image size changed"):
        buffer.push(replace(first, stamp_ns=first.stamp_ns + 1, depth_m=first.depth_m[::2]))
    empty = WindowBuffer(WindowConfig(min_frames=2))
    for i in range(2):
        empty.push(replace(first, stamp_ns=i, depth_m=first.depth_m * 0))
    with pytest.raises(FrameError, match="all zero"):
        empty.window()
    unmasked = WindowBuffer(WindowConfig(min_frames=2))
    for i in range(2):
        unmasked.push(replace(first, stamp_ns=i, mask=np.zeros_like(first.depth_m, bool)))
    with pytest.raises(FrameError, match="mask is empty"):
        unmasked.window()
