"""What reconstruct_node decides while frames come: how much has moved, when to try, what may replace what."""

from dataclasses import replace

import numpy as np
import pytest
from viz_scene import FRAMES, cabinet

from art_perception.data.objects import make_object
from art_perception.data.simulate import SimulateConfig, simulate
from art_perception.estimation.flow import FlowConfig
from art_perception.estimation.onset import Seen, largest_motion, no_motion
from art_perception.estimation.segment import SegmentConfig
from art_perception.estimation.window import WindowConfig
from art_perception.pipeline import Config, Reconstruction
from art_perception.prior import PriorConfig
from art_perception.ros import clip as clip_module
from art_perception.ros.clip import STILL, Clip
from art_perception.ros.continuity import continued, partners
from art_perception.ros.early import Found, better_grounded, early_config, thinned
from art_perception.types import Joint, JointType, PartMotion, PriorUse, RgbdFrame, Window

SEGMENT = SegmentConfig()
NOTHING = no_motion(SEGMENT)


def turn(deg: float, changed: float = 0.0) -> Seen:
    return Seen(JointType.REVOLUTE, np.deg2rad(deg), np.deg2rad(4), changed)


def frame(second: float) -> RgbdFrame:
    K = np.array([[50.0, 0, 8], [0, 50.0, 8], [0, 0, 1]])
    return RgbdFrame(
        round(second * 1e9), np.zeros((16, 16, 3), np.uint8), np.ones((16, 16), np.float32), K, np.eye(4), None
    )


# how far something has moved


@pytest.mark.parametrize(
    ("category", "seed", "type", "unit"),
    [("laptop", 3, JointType.REVOLUTE, np.deg2rad(1)), ("drawer_table", 1, JointType.PRISMATIC, 0.01)],
)
def test_the_motion_seen_is_the_true_one(category, seed, type, unit):
    """Of the first frames in which it exceeds what is needed, within 40 % and 1 deg or cm."""
    clip = simulate(make_object(category, seed), SimulateConfig(frames=24, width=320, height=240), seed)
    samples = list(clip)
    q = np.stack([s.q for s in samples])
    moving = int(np.ptp(q, axis=0).argmax())
    amount = np.abs(q[:, moving] - q[0, moving])
    need = no_motion(SEGMENT).need if type is JointType.PRISMATIC else np.deg2rad(SEGMENT.min_rotation_deg)
    end = int(np.flatnonzero((amount > 1.5 * need) & (amount < 6 * need))[0])
    seen = largest_motion(Window(tuple(s.frame for s in samples[: end + 1])), SEGMENT, FlowConfig())
    assert seen.type is type
    assert seen.share > 1
    assert abs(seen.amount - amount[end]) < 0.4 * amount[end] + unit


@pytest.mark.parametrize("seed", [3, 4, 5])
def test_a_camera_that_moves_around_a_still_object_sees_no_motion(seed):
    """However often it looks; the sensor's noise included."""
    clip = simulate(make_object("laptop", seed), SimulateConfig(frames=24, width=320, height=240), seed)
    still = np.broadcast_to(clip.plan.T_world_body[:1], clip.plan.T_world_body.shape)
    frames = [s.frame for s in replace(clip, plan=replace(clip.plan, T_world_body=still))]
    for end in range(6, len(frames), 4):
        seen = largest_motion(Window(tuple(frames[:end])), SEGMENT, FlowConfig())
        assert not seen.exceeds(NOTHING, 1.5)
        assert seen.changed < STILL


def test_what_was_seen_is_told_with_what_is_needed():
    assert str(turn(3.1)) == "3.1 deg, need 4.0"
    assert str(Seen(JointType.PRISMATIC, 0.012, 0.02, 0.0)) == "1.2 cm, need 2.0"


def test_the_larger_share_wins_and_the_changed_surface_never_shrinks():
    small, large = turn(2, 0.3), Seen(JointType.PRISMATIC, 0.05, 0.02, 0.1)
    assert small.joined(large) == large.joined(small) == replace(large, changed=0.3)


def test_more_than_tried_by_the_factor_is_worth_a_joint():
    assert not turn(3.9).exceeds(NOTHING, 1.5)
    assert turn(4.1).exceeds(NOTHING, 1.5)
    assert not turn(5.9).exceeds(turn(4.1), 1.5)
    assert turn(6.2).exceeds(turn(4.1), 1.5)
    assert turn(0, 0.05).exceeds(NOTHING, 1.5)


# when a clip is worth an attempt


@pytest.fixture
def clock(monkeypatch) -> list[float]:
    """Seconds of the monotonic clock, to be set."""
    now = [100.0]
    monkeypatch.setattr(clip_module.time, "monotonic", lambda: now[0])
    return now


def filled(clock: list[float], seconds: float, tried_s: float = 0.0) -> Clip:
    clip = Clip(WindowConfig(max_frames=10), tried_s, NOTHING, NOTHING)
    for second in np.arange(0, seconds + 1e-9, 0.1):
        clip.push(frame(second))
        clock[0] = 100.0 + second
    return clip


def test_a_clip_is_tried_when_its_frames_have_ended(clock):
    clip = filled(clock, 3.0)
    assert not clip.has_grown(1.5, idle_s=1.0)
    clock[0] += 1.1
    assert clip.has_grown(1.5, idle_s=1.0)
    clip.tried_s = clip.span_s
    assert not clip.has_grown(1.5, idle_s=1.0)


def test_a_clip_is_tried_when_what_moved_has_come_to_rest(clock):
    clip = filled(clock, 3.0)
    clip.add(turn(10, 0.1), 1.0)
    assert not clip.has_grown(1.5, idle_s=1.0)
    clip.add(turn(20, 0.2), 2.0)
    clip.add(turn(20.5, 0.2), 2.9)
    assert not clip.has_grown(1.5, idle_s=1.0)
    clip.add(turn(20.5, 0.2), 3.0)
    assert clip.has_grown(1.5, idle_s=0.99)
    clip.tried_s = 2.5
    assert not clip.has_grown(1.5, idle_s=0.99)


def test_what_came_to_nothing_is_tried_again_in_a_longer_clip(clock):
    """Also when two frames show no larger motion than was tried."""
    clip = filled(clock, 3.0)
    clip.add(turn(10), 3.0)
    clip.tried = clip.seen
    assert not clip.has_moved(1.5)
    clip.failed_s = 2.0
    assert not clip.has_moved(1.5)
    clip.failed_s = 1.99
    assert clip.has_moved(1.5)


def test_a_clip_in_which_nothing_moves_is_not_tried_and_starts_over(clock):
    clip = filled(clock, 3.0)
    clip.add(NOTHING, 3.0)
    assert not clip.has_grown(1.5, idle_s=1.0)
    assert clip.still
    clip.add(turn(5, 0.1), 3.0)
    assert not clip.still


# what may take the place of what


def found(confidence: float, seen: Seen, complete: bool, valid: bool = True) -> Found:
    door, drawer = (replace(j, confidence=confidence, valid=valid) for j in cabinet().joints)
    return Found(reconstruction([door, drawer]), 3.0, seen, complete)


def reconstruction(joints: list[Joint]) -> Reconstruction:
    """The cabinet with these joints and the parts they move."""
    base, *moving = cabinet().parts
    kinds = {JointType.REVOLUTE: moving[0], JointType.PRISMATIC: moving[1]}
    parts = (base, *(replace(kinds[j.type], name=j.child) for j in joints))
    object = replace(cabinet(), joints=tuple(joints), parts=parts)
    q = np.linspace(0, 1, FRAMES)[:, None] * [joint.limits[1] for joint in joints]
    motion = PartMotion(np.zeros((FRAMES, 1, 1), np.int32), object.joints, q)
    return Reconstruction(object, motion, Window((frame(0),)), {})


def test_an_estimate_is_replaced_by_a_surer_one_or_one_with_better_grounds():
    early = found(0.9, turn(5), complete=False)
    assert better_grounded(found(0.95, turn(5), complete=False), early)
    assert not better_grounded(found(0.85, turn(5), complete=False), early)
    assert better_grounded(found(0.85, turn(9), complete=False), early)
    assert better_grounded(found(0.85, turn(5), complete=True), early)
    assert not better_grounded(found(0.5, turn(30), complete=True), early)
    assert not better_grounded(found(0.99, turn(30), complete=True, valid=False), early)


def test_the_shape_prior_never_takes_the_place_of_a_measurement_and_always_gives_way():
    measured = found(0.5, turn(5), complete=False, valid=False)
    guess = replace(measured.reconstruction, prior=PriorUse("cabinet", "all", 0.9, "nothing moved"))
    sure = replace(found(0.99, turn(5), complete=True), reconstruction=guess)
    assert sure.guessed
    assert better_grounded(measured, sure)
    assert not better_grounded(sure, measured)
    assert better_grounded(sure, replace(sure, complete=False)), "but of a lesser guess"
    assert early_config(Config(prior=PriorConfig("laptop"))).prior.category == "none"


def test_joints_keep_name_and_direction():
    """However the later estimate orders, names and turns them; everything it says stays true."""
    old = reconstruction(list(cabinet().joints))
    door, drawer = cabinet().joints
    low, high = door.limits
    new = reconstruction(
        [
            replace(drawer, name="joint_1", child="part_1"),
            replace(door, name="joint_2", child="part_2", axis=-door.axis, limits=(-high, -low)),
        ]
    )
    made = continued(new, old)
    assert [(j.name, j.child) for j in made.object.joints] == [("joint_2", "part_2"), ("joint_1", "part_1")]
    assert [p.name for p in made.object.parts] == ["base", "part_2", "part_1"]
    for joint, before in zip(made.object.joints, (drawer, door), strict=True):
        assert joint.axis @ before.axis > 0.999
        np.testing.assert_allclose(joint.limits, before.limits)
    twists = [
        np.einsum("i,t->ti", joint.axis, q)
        for r in (made, new)
        for joint, q in zip(r.object.joints, r.motion.q.T, strict=True)
    ]
    np.testing.assert_allclose(twists[:2], twists[2:])
    assert made.motion.joints == made.object.joints


def test_a_new_joint_gets_a_name_that_nobody_has():
    door, drawer = cabinet().joints
    new = continued(reconstruction([door, drawer]), continued(reconstruction([drawer, door]), reconstruction([door])))
    assert [(j.name, j.child) for j in new.object.joints] == [("joint_1", "part_1"), ("joint_2", "part_2")]
    old = reconstruction([replace(drawer, name="joint_1", child="part_1")])
    made = continued(reconstruction([door, drawer]), old)
    assert [(j.name, j.child) for j in made.object.joints] == [("joint_2", "part_2"), ("joint_1", "part_1")]


def test_parts_that_are_elsewhere_are_no_partners():
    _, door, drawer = cabinet().parts
    assert partners([drawer, door], [door, drawer]) == {0: 1, 1: 0}
    moved = replace(door, visual=replace(door.visual, vertices=door.visual.vertices + [0, 0, 2]))
    assert partners([moved], [door]) == {}


def test_an_early_estimate_uses_less_of_everything():
    window = Window(tuple(frame(k / 30) for k in range(45)))
    few = thinned(window, 16)
    assert len(few.frames) == 16
    assert (few.frames[0], few.frames[-1]) == (window.frames[0], window.frames[-1])
    assert thinned(few, 100).frames == few.frames
    full, early = Config(), early_config(Config())
    assert early.segment.hypotheses < full.segment.hypotheses
    assert early.fuse.cells_per_side < full.fuse.cells_per_side
