"""The tracker recovers known joint values and base poses from rendered, noisy depth."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from art_perception.errors import ObjectError
from art_perception.estimation.tracking import BaseMotion, Tracker, TrackingConfig
from art_perception.geometry.kinematics import chain_of, displacements, with_base
from art_perception.geometry.lie import exp_se3, exp_so3, from_rotation_translation, log_se3, transform
from art_perception.types import ArticulatedObject, Joint, JointType, Mesh, Part, RgbdFrame

o3d = pytest.importorskip("open3d")

K = np.array([[270.0, 0, 159.5], [0, 270.0, 119.5], [0, 0, 1]])
SHAPE = (240, 320)
DEG = np.pi / 180
_BOX_FACES = [[0, 2, 1], [1, 2, 3], [4, 5, 6], [5, 7, 6], [0, 1, 4], [1, 5, 4]] + [
    [2, 6, 3],
    [3, 6, 7],
    [0, 4, 2],
    [2, 4, 6],
    [1, 3, 5],
    [3, 7, 5],
]


def boxes(*bounds: tuple[Sequence[float], Sequence[float]]) -> Mesh:
    """Mesh of axis-aligned boxes given by their lowest and highest corners."""
    unit = np.array([[x, y, z] for z in (0, 1) for y in (0, 1) for x in (0, 1)], float)
    vertices = [np.asarray(lo) + unit * (np.asarray(hi) - lo) for lo, hi in bounds]
    faces = [np.array(_BOX_FACES) + 8 * i for i in range(len(bounds))]
    return Mesh(np.concatenate(vertices), np.concatenate(faces))


EMPTY = Mesh(np.zeros((0, 3)), np.zeros((0, 3), int))


def joint(name: str, kind: JointType, axis: Sequence[float], origin: Sequence[float], lo: float, hi: float) -> Joint:
    return Joint(f"joint_{name}", "base", name, kind, np.array(axis, float), np.array(origin, float), (lo, hi))


def assemble(base: Mesh, moving: dict[str, tuple[Mesh, Joint]]) -> ArticulatedObject:
    parts = [Part("base", base), *(Part(name, mesh) for name, (mesh, _) in moving.items())]
    return ArticulatedObject("thing", "world", tuple(parts), tuple(j for _, j in moving.values()), np.eye(4))


def cabinet() -> ArticulatedObject:
    """A cabinet facing -x with a door above (hinge at y = 0.3) and a drawer below."""
    body = boxes(
        ((0, -0.3, 0), (0.4, -0.28, 0.8)),
        ((0, 0.28, 0), (0.4, 0.3, 0.8)),
        ((0.38, -0.28, 0), (0.4, 0.28, 0.8)),
        ((0, -0.28, 0), (0.38, 0.28, 0.02)),
        ((0, -0.28, 0.78), (0.38, 0.28, 0.8)),
        ((0, -0.28, 0.38), (0.38, 0.28, 0.4)),
    )
    door = boxes(((-0.02, -0.3, 0.4), (0, 0.3, 0.8)), ((-0.05, -0.27, 0.55), (-0.02, -0.25, 0.65)))
    drawer = boxes(
        ((-0.02, -0.29, 0.02), (0, 0.29, 0.37)),
        ((0, -0.26, 0.03), (0.35, -0.25, 0.25)),
        ((0, 0.25, 0.03), (0.35, 0.26, 0.25)),
        ((0, -0.25, 0.03), (0.35, 0.25, 0.04)),
    )
    return assemble(
        body,
        {
            "door": (door, joint("door", JointType.REVOLUTE, (0, 0, 1), (0, 0.3, 0), -1.6, 0)),
            "drawer": (drawer, joint("drawer", JointType.PRISMATIC, (-1, 0, 0), (0, 0, 0.2), 0, 0.3)),
        },
    )


def sliding_window() -> ArticulatedObject:
    """A frame with a fixed pane and a pane that slides along y just in front of it; flat surfaces only."""
    frame = boxes(
        ((-0.05, -0.6, 0), (0.05, 0.6, 0.05)),
        ((-0.05, -0.6, 0.75), (0.05, 0.6, 0.8)),
        ((-0.05, -0.6, 0.05), (0.05, -0.55, 0.75)),
        ((-0.05, 0.55, 0.05), (0.05, 0.6, 0.75)),
        ((0.02, -0.02, 0.05), (0.03, 0.55, 0.75)),
    )
    pane = boxes(((-0.03, -0.55, 0.05), (-0.02, 0.0, 0.75)))
    return assemble(frame, {"pane": (pane, joint("pane", JointType.PRISMATIC, (0, 1, 0), (0, 0, 0), 0, 0.5))})


def camera(i: int) -> np.ndarray:
    """T_world_camera (4, 4) on an arc in front of the object, looking at it, with some roll."""
    yaw = 0.35 + 0.2 * np.sin(0.05 * i)
    eye = np.array([0.2, 0, 0.4]) + 1.5 * np.array([-np.cos(yaw), np.sin(yaw), 0.35])
    z = np.array([0.1, 0, 0.4]) - eye
    z /= np.linalg.norm(z)
    x = np.cross(z, [0, 0, 1.0])
    x /= np.linalg.norm(x)
    R = np.stack([x, np.cross(z, x), z], 1) @ exp_so3(np.array([0, 0, 0.05 * np.sin(0.1 * i)]))
    return from_rotation_translation(R, eye)


def render(
    obj: ArticulatedObject,
    q: Sequence[float],
    i: int = 0,
    extra: Mesh | None = None,
    base: np.ndarray | None = None,
    noise: bool = True,
) -> RgbdFrame:
    """Frame ``i`` (30 Hz) of the object and a floor: depth noise 2 mm at 1 m growing with depth^2, 5 % holes."""
    scene = o3d.t.geometry.RaycastingScene()
    D = with_base(displacements(chain_of(obj.joints), np.asarray(q, float)))
    D = D if base is None else base @ D
    meshes = [(p.visual, T) for p, T in zip(obj.parts, D, strict=True)]
    meshes += [(m, np.eye(4)) for m in (boxes(((-4, -4, -0.1), (2, 4, 0)), ((1, -4, 0), (1.1, 4, 3))), extra) if m]
    for mesh, T in meshes:
        if len(mesh.faces):
            scene.add_triangles(transform(T, mesh.vertices).astype(np.float32), mesh.faces.astype(np.uint32))
    T_wc = camera(i)
    rays = scene.create_rays_pinhole(K, np.linalg.inv(T_wc), SHAPE[1], SHAPE[0])
    rays = rays.numpy()
    scale = rays[..., 3:] @ T_wc[:3, 2]
    depth = scene.cast_rays(o3d.core.Tensor(rays))["t_hit"].numpy() * scale
    rng = np.random.default_rng(i)
    if noise:
        depth = depth + rng.normal(size=SHAPE) * 0.002 * depth**2
    depth = np.where(np.isfinite(depth) & (rng.random(SHAPE) > 0.05), depth, 0).astype(np.float32)
    return RgbdFrame(int(i * 1e9 / 30), np.zeros((*SHAPE, 3), np.uint8), depth, K, T_wc)


def cabinet_motion(i: int) -> np.ndarray:
    s = 0.5 - 0.5 * np.cos(0.1 * i)
    return np.array([-1.3 * s, 0.25 * s])


def test_door_and_drawer_follow_the_truth() -> None:
    obj = cabinet()
    tracker = Tracker(obj, TrackingConfig())
    for i in range(40):
        truth = cabinet_motion(i)
        state = tracker.update(render(obj, truth, i))
        assert state.tracked
        assert state.quality > 0.6
        assert abs(state.q[0] - truth[0]) < 1 * DEG, i
        assert abs(state.q[1] - truth[1]) < 0.005, i
        assert state.stamp_ns == int(i * 1e9 / 30)
    np.testing.assert_allclose(state.T_world_base, np.eye(4))


@pytest.mark.parametrize("truth", [(-1.0, 0.2), (0.0, 0.25), (-0.4, 0.0)])
def test_unknown_start_is_found(truth: tuple[float, float]) -> None:
    obj = cabinet()
    tracker = Tracker(obj, TrackingConfig())
    for i in range(6):
        state = tracker.update(render(obj, truth, i))
    assert state.tracked
    assert abs(state.q[0] - truth[0]) < 1 * DEG
    assert abs(state.q[1] - truth[1]) < 0.005


def test_recovers_after_a_jump() -> None:
    obj = cabinet()
    tracker = Tracker(obj, TrackingConfig())
    for i in range(3):
        tracker.update(render(obj, (0, 0), i))
    states = [tracker.update(render(obj, (-1.2, 0.2), i)) for i in range(3, 12)]
    assert states[-1].tracked
    np.testing.assert_allclose(states[-1].q, (-1.2, 0.2), atol=0.01)


def test_occluder_in_front_does_not_pull() -> None:
    obj = cabinet()
    tracker = Tracker(obj, TrackingConfig())
    for i in range(20):
        truth = cabinet_motion(i)
        hand = boxes(((-0.35, -0.2, 0.5), (-0.08, 0.0, 0.7)), ((-0.3, -0.1, 0.1), (-0.06, 0.1, 0.3)))
        state = tracker.update(render(obj, truth * 0.05, i, extra=hand))
        assert abs(state.q[0] - 0.05 * truth[0]) < 1 * DEG, i
        assert abs(state.q[1] - 0.05 * truth[1]) < 0.005, i


def test_in_plane_motion_is_followed() -> None:
    obj = sliding_window()
    tracker = Tracker(obj, TrackingConfig())
    for i in range(30):
        truth = 0.25 - 0.15 * np.cos(0.08 * i)
        state = tracker.update(render(obj, [truth], i))
        assert abs(state.q[0] - truth) < 0.005, i
        assert state.tracked


def test_spinning_fan_is_followed_beyond_one_turn() -> None:
    """Three flat blades turn in their own plane without limits, 8 degrees per frame."""
    blades = [boxes(((-0.01, 0.03, -0.05), (0.0, 0.35, 0.05)))]
    turn = from_rotation_translation(exp_so3(np.array([120 * DEG, 0, 0])), np.zeros(3))
    for _ in range(2):
        blades.append(Mesh(transform(turn, blades[-1].vertices), blades[-1].faces))
    vertices = np.concatenate([b.vertices for b in blades]) + [0, 0, 0.45]
    blade = Mesh(vertices, np.concatenate([b.faces + 8 * i for i, b in enumerate(blades)]))
    stand = boxes(((0.0, -0.05, 0), (0.1, 0.05, 0.5)), ((-0.1, -0.2, 0), (0.2, 0.2, 0.03)))
    free = joint("fan", JointType.REVOLUTE, (1, 0, 0), (0, 0, 0.45), -np.inf, np.inf)
    obj = assemble(stand, {"fan": (blade, free)})
    tracker = Tracker(obj)
    tracker.reset(np.zeros(1))
    for i in range(60):
        truth = 8 * DEG * i * min(1, i / 10)
        state = tracker.update(render(obj, [truth], i))
        assert abs(state.q[0] - truth) < 2 * DEG, i


def test_joint_on_a_joint() -> None:
    """A flap at the end of a door: the child's motion includes its parent's."""
    body = boxes(((0, -0.3, 0), (0.4, 0.3, 0.8)))
    door = boxes(((-0.02, -0.1, 0.1), (0, 0.3, 0.8)))
    flap = boxes(((-0.02, -0.3, 0.1), (0, -0.1, 0.8)))
    hinge = joint("flap", JointType.REVOLUTE, (0, 0, 1), (-0.02, -0.1, 0), -0.2, 1.6)
    hinge = Joint(hinge.name, "door", "flap", hinge.type, hinge.axis, hinge.origin, hinge.limits)
    first = joint("door", JointType.REVOLUTE, (0, 0, 1), (0, 0.3, 0), -1.6, 0)
    fixed = joint("plate", JointType.FIXED, (1, 0, 0), (0, 0, 0), 0, 0)
    plate = boxes(((0.1, -0.1, 0.8), (0.3, 0.1, 0.82)))
    obj = assemble(body, {"door": (door, first), "flap": (flap, hinge), "plate": (plate, fixed)})
    tracker = Tracker(obj)
    for i in range(30):
        truth = np.array([-0.8 * i / 29, 0.6 * i / 29, 0])
        state = tracker.update(render(obj, truth, i))
        np.testing.assert_allclose(state.q, truth, atol=1 * DEG)


def test_rigid_object_without_joints() -> None:
    obj = ArticulatedObject("box", "world", cabinet().parts[:1], (), np.eye(4))
    state = Tracker(obj).update(render(obj, []))
    assert state.q.shape == (0,)
    assert state.tracked


def test_in_plane_start_is_found() -> None:
    obj = sliding_window()
    state = Tracker(obj, TrackingConfig()).update(render(obj, [0.35]))
    for i in range(1, 4):
        tracker = Tracker(obj, TrackingConfig())
        state = tracker.update(render(obj, [0.35], i))
    np.testing.assert_allclose(state.q, [0.35], atol=0.006)


@pytest.mark.parametrize("mode", [BaseMotion.AUTO, BaseMotion.ALWAYS])
def test_moved_base_is_recovered(mode: BaseMotion) -> None:
    obj = cabinet()
    tracker = Tracker(obj, TrackingConfig(estimate_base=mode))
    for i in range(25):
        s = min(i / 20, 1.0)
        base = exp_se3(s * np.array([0.1, 0.05, 0, 0, 0, 10 * DEG]))
        q = np.array([-0.5 * s - 0.2, 0.1])
        state = tracker.update(render(obj, q, i, base=base), q_init=q if i == 0 else None)
    error = log_se3(state.T_world_base @ np.linalg.inv(base))
    assert np.linalg.norm(error[:3]) < 0.01
    assert np.linalg.norm(error[3:]) < 1 * DEG
    np.testing.assert_allclose(state.q, q, atol=1.5 * DEG)


def test_base_stays_put_when_told() -> None:
    obj = cabinet()
    tracker = Tracker(obj, TrackingConfig(estimate_base=BaseMotion.NEVER))
    state = tracker.update(render(obj, (-0.2, 0.1), base=exp_se3(np.array([0.05, 0, 0, 0, 0, 0]))))
    np.testing.assert_array_equal(state.T_world_base, np.eye(4))


def test_frame_without_depth_is_not_tracked() -> None:
    obj = cabinet()
    tracker = Tracker(obj, TrackingConfig())
    good = tracker.update(render(obj, (-0.3, 0.1)), q_init=np.array([-0.3, 0.1]))
    frame = render(obj, (-0.3, 0.1), 1)
    blind = RgbdFrame(frame.stamp_ns, frame.color, np.zeros(SHAPE, np.float32), frame.K, frame.T_world_camera)
    state = tracker.update(blind)
    assert not state.tracked
    assert state.quality == 0
    np.testing.assert_allclose(state.q, good.q, atol=1e-6)
    assert tracker.update(render(obj, (-0.3, 0.1), 2)).tracked


def test_camera_looking_away_is_not_tracked() -> None:
    obj = cabinet()
    frame = render(obj, (0, 0))
    away = frame.T_world_camera @ exp_se3(np.array([0, 0, 0, 0, np.pi, 0]))
    state = Tracker(obj).update(RgbdFrame(0, frame.color, frame.depth_m, K, away))
    assert not state.tracked


def test_empty_part_keeps_its_joint() -> None:
    obj = cabinet()
    parts = (obj.parts[0], obj.parts[1], Part("drawer", EMPTY))
    hollow = ArticulatedObject(obj.name, obj.fixed_frame, parts, obj.joints, obj.T_world_base)
    tracker = Tracker(hollow)
    for i in range(5):
        state = tracker.update(render(obj, (-0.02 * i, 0), i))
    assert state.tracked
    assert abs(state.q[0] + 0.08) < 1 * DEG
    assert state.q[1] == 0
    assert state.joint_quality[1] == 0


def test_hidden_part_is_not_invented() -> None:
    """A rack inside a closed box: nothing is seen of it, so its joint stays although the whole range is searched."""
    body = boxes(
        ((0, -0.3, 0), (0.4, -0.28, 0.6)),
        ((0, 0.28, 0), (0.4, 0.3, 0.6)),
        ((0.38, -0.28, 0), (0.4, 0.28, 0.6)),
        ((0, -0.28, 0), (0.38, 0.28, 0.02)),
        ((0, -0.28, 0.58), (0.38, 0.28, 0.6)),
    )
    door = boxes(((-0.02, -0.3, 0), (0, 0.3, 0.6)))
    rack = boxes(((0.05, -0.25, 0.2), (0.35, 0.25, 0.3)))
    obj = assemble(
        body,
        {
            "door": (door, joint("door", JointType.REVOLUTE, (0, 0, 1), (0, 0.3, 0), -1.6, 0)),
            "rack": (rack, joint("rack", JointType.PRISMATIC, (-1, 0, 0), (0, 0, 0), 0, 0.5)),
        },
    )
    tracker = Tracker(obj)
    for i in range(5):
        state = tracker.update(render(obj, (0, 0), i))
        assert abs(state.q[1]) < 0.02
    assert state.tracked
    assert abs(state.q[0]) < 1 * DEG


def test_object_without_meshes_is_refused() -> None:
    obj = cabinet()
    parts = tuple(Part(p.name, EMPTY) for p in obj.parts)
    with pytest.raises(ObjectError, match="nothing to track"):
        Tracker(ArticulatedObject(obj.name, "world", parts, obj.joints, np.eye(4)))


def test_mask_replaces_background_contrast() -> None:
    """A pane flush with a wall slides: depth shows nothing at its edges, the mask does."""
    pane = boxes(((-0.01, -0.55, 0.05), (0.0, 0.0, 0.75)))
    frame = boxes(((-0.05, -0.6, 0), (0.05, 1.0, 0.05)))
    obj = assemble(frame, {"pane": (pane, joint("pane", JointType.PRISMATIC, (0, 1, 0), (0, 0, 0), 0, 0.5))})
    wall = boxes(((-0.005, -2, 0), (0.05, 2, 2)))
    tracker = Tracker(obj)
    for i in range(12):
        q = 0.02 * i
        frame_i = render(obj, [q], i, extra=wall)
        bare = render(obj, [q], i, noise=False)
        mask = (bare.depth_m > 0) & (np.abs(world_points(bare)[..., 0]) < 0.06) & (world_points(bare)[..., 2] > 0.002)
        frame_i = RgbdFrame(frame_i.stamp_ns, frame_i.color, frame_i.depth_m, K, frame_i.T_world_camera, mask)
        state = tracker.update(frame_i)
    assert abs(state.q[0] - q) < 0.006


def world_points(frame: RgbdFrame) -> np.ndarray:
    v, u = np.mgrid[: SHAPE[0], : SHAPE[1]]
    rays = np.stack([(u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1], np.ones(SHAPE)], -1)
    return transform(frame.T_world_camera, (rays * frame.depth_m[..., None]).reshape(-1, 3)).reshape(*SHAPE, 3)
