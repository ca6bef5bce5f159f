"""The simulator's truth: depth, part ids, poses, scene flow and noise, against what geometry says they must be."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import replace

import numpy as np
import pytest

from art_perception.data.config import SimulateConfig
from art_perception.data.model import Material, SimObject, merge
from art_perception.data.objects import CATEGORIES, make_object
from art_perception.data.raycast import cast, make_body
from art_perception.data.sensor import noisy_depth, noisy_mask, sparse_depth
from art_perception.data.shade import surface_points
from art_perception.data.shapes import box, cylinder, ellipsoid, prism, torus
from art_perception.data.simulate import Clip, scene_flow, simulate
from art_perception.data.strokes import joint_values, observable_joints
from art_perception.errors import ObjectError
from art_perception.geometry.camera import project, rays
from art_perception.geometry.kinematics import displacements
from art_perception.geometry.lie import inverse, transform
from art_perception.types import Joint, JointType

SMALL = SimulateConfig(frames=8, width=96, height=72)
K = np.array([[80.0, 0, 47.5], [0, 80.0, 35.5], [0, 0, 1]])


@pytest.fixture(scope="module")
def clip() -> Clip:
    return simulate(make_object("cabinet", 1), replace(SMALL, moving_count=2), seed=3)


def test_depth_of_a_plane_is_analytic():
    wall = box((-9, -9, 2), (9, 9, 3))
    pose = np.eye(4)
    pose[:3, :3] = [[1, 0, 0], [0, np.cos(0.4), -np.sin(0.4)], [0, np.sin(0.4), np.cos(0.4)]]
    hits = cast((make_body(wall, np.ones(12)),), np.eye(4)[None], pose, K, (72, 96))
    expected = 2 / (rays((72, 96), K) @ pose[2, :3])
    np.testing.assert_allclose(hits.depth_m, expected, rtol=1e-5)


def test_moving_a_body_equals_moving_its_vertices():
    rng = np.random.default_rng(0)
    shape = merge([box((-0.2, -0.1, -0.3), (0.2, 0.1, 0.3)), torus(0.4, 0.05)])
    T = np.array([[0, 0, 1, 0.1], [0, -1, 0, 0], [1, 0, 0, 1.6], [0, 0, 0, 1.0]])
    there = replace(shape, vertices=transform(T, shape.vertices))
    ids = rng.integers(1, 5, len(shape.faces))
    a = cast((make_body(shape, ids),), T[None], np.eye(4), K, (72, 96))
    b = cast((make_body(there, ids),), np.eye(4)[None], np.eye(4), K, (72, 96))
    np.testing.assert_allclose(a.depth_m, b.depth_m, atol=2e-6)
    assert (a.body == b.body).all()
    assert (a.body >= 0).mean() > 0.05


def test_nearest_body_wins():
    near, far = box((-0.1, -0.1, 1), (0.1, 0.1, 1.1)), box((-9, -9, 2), (9, 9, 3))
    hits = cast(
        (make_body(far, np.ones(12)), make_body(near, np.ones(12))), np.stack([np.eye(4)] * 2), np.eye(4), K, (72, 96)
    )
    inside = np.abs(rays((72, 96), K)[..., :2]).max(-1) < 0.1
    np.testing.assert_array_equal(hits.body == 1, inside)


@pytest.mark.parametrize("shape", [box((0, 0, 0), (1, 2, 3)), cylinder(0.5, 1), ellipsoid((1, 2, 3)), torus(1, 0.2),
                                   prism(np.array([[0, 0], [1, 0], [0, 1]]), 0, 2)])  # fmt: skip
def test_solids_are_wound_outward(shape):
    a, b, c = (shape.vertices[shape.faces[:, i]] for i in range(3))
    assert np.einsum("ij,ij->", a, np.cross(b, c)) / 6 > 0.1


def test_part_ids_are_the_parts_whose_surface_is_there(clip: Clip):
    """Every labelled pixel, carried back into its part's frame, lies on that part's surface."""
    seen = set()
    for t in (0, 7):
        exact, poses = clip.exact(t), clip.part_poses(t)
        points = surface_points(exact.depth_m, clip.plan.K, clip.plan.T_world_camera[t])
        for part in np.unique(exact.part_ids[exact.part_ids > 0]):
            local = transform(inverse(poses[part - 1]), points[exact.part_ids == part])
            surface = clip.obj.parts[part - 1].vertices
            assert (local >= surface.min(0) - 1e-4).all()
            assert (local <= surface.max(0) + 1e-4).all()
            seen.add(int(part))
    assert {1, *(j + 2 for j in clip.plan.moving)} <= seen


def test_scene_flow_law(clip: Clip):
    """A surface point keeps its coordinates in its part's frame: D(t+1)^-1 (p + f) = D(t)^-1 p."""
    for t in (0, 4):
        exact, flow = clip.exact(t), scene_flow(clip, t)
        points = surface_points(exact.depth_m, clip.plan.K, clip.plan.T_world_camera[t])
        for part in np.unique(exact.part_ids[exact.part_ids > 0]):
            here = exact.part_ids == part
            before = transform(inverse(clip.part_poses(t)[part - 1]), points[here])
            after = transform(inverse(clip.part_poses(t + 1)[part - 1]), (points + flow)[here])
            assert np.abs(after - before).max() < 1e-9
        assert np.abs(flow[exact.part_ids <= 1]).max() < 1e-12


def test_flow_lands_on_the_next_frame(clip: Clip):
    """Points moved by the flow and projected into the next camera find the next depth there, where still visible."""
    exact, after = clip.exact(3), clip.exact(4)
    points = surface_points(exact.depth_m, clip.plan.K, clip.plan.T_world_camera[3]) + scene_flow(clip, 3)
    camera = transform(inverse(clip.plan.T_world_camera[4]), points[exact.part_ids > 0])
    u, v = np.rint(project(camera, clip.plan.K)).astype(int).T
    inside = (u >= 0) & (u < 96) & (v >= 0) & (v < 72)
    error = np.abs(after.depth_m[v[inside], u[inside]] - camera[inside, 2])
    assert np.median(error) < 0.01
    assert np.mean(error < 0.04) > 0.8


def test_part_poses_follow_the_joints(clip: Clip):
    poses = clip.plan.T_world_object @ displacements(clip.obj.chain, clip.q)
    np.testing.assert_allclose(clip.plan.T_world_part[:, 1:], poses, atol=1e-12)
    moved = np.ptp(clip.q, axis=0) > 1e-6
    assert set(np.flatnonzero(moved)) == set(clip.plan.moving)


def test_same_seed_same_frames_other_seed_other_frames():
    obj = make_object("laptop", 0)
    a, b, c = (simulate(obj, SMALL, seed).render(5) for seed in (1, 1, 2))
    assert (a.frame.color == b.frame.color).all()
    assert (a.frame.depth_m == b.frame.depth_m).all()
    assert (a.q == b.q).all()
    assert (a.frame.color != c.frame.color).mean() > 0.3


def test_frames_are_what_types_promise(clip: Clip):
    samples = list(clip)
    assert len(samples) == len(clip) == 8
    for sample, stamp in zip(samples, clip.stamps_ns, strict=True):
        frame = sample.frame
        assert frame.color.dtype == np.uint8
        assert frame.color.shape == (72, 96, 3)
        assert frame.depth_m.dtype == np.float32
        assert frame.depth_m.shape == sample.part_ids.shape == (72, 96)
        assert np.isfinite(frame.depth_m).all()
        assert (frame.depth_m >= 0).all()
        assert frame.stamp_ns == stamp
        assert (frame.mask == (sample.part_ids > 0)).all()
    assert (np.diff(clip.stamps_ns) > 0).all()


def test_without_noise_the_frame_is_exact():
    config = replace(SMALL, depth_noise=0, color_noise=0, shutter=0)
    quiet = simulate(make_object("microwave", 2), config, 5)
    sample, exact = quiet.render(2), quiet.exact(2)
    assert (sample.frame.depth_m == exact.depth_m).all()
    assert (sample.frame.T_world_camera == quiet.plan.T_world_camera[2]).all()


def test_depth_noise_grows_with_range():
    rng = np.random.default_rng(0)
    sigma = []
    for z in (0.5, 1.0, 2.0, 4.0):
        flat = np.full((200, 200), z, np.float32)
        measured = noisy_depth(flat, np.ones_like(flat), 1.0, rng)
        sigma.append(float(np.std(measured[measured > 0])))
        assert abs(float(np.mean(measured[measured > 0])) - z) < 0.1 * sigma[-1] + 1e-4
    assert 0.001 < sigma[1] < 0.003
    assert sigma[0] < sigma[1] < sigma[2] < sigma[3]
    assert sigma[3] / sigma[1] > 8


def test_edges_and_grazing_surfaces_lose_depth():
    rng = np.random.default_rng(0)
    step = np.full((100, 100), 1.0, np.float32)
    step[:, 50:] = 2.0
    lost = noisy_depth(step, np.ones_like(step), 1.0, rng) == 0
    assert lost[:, 49:51].mean() > 5 * lost[:, :40].mean()
    flat = np.ones((100, 100), np.float32)
    grazing = noisy_depth(flat, np.full_like(flat, 0.03), 1.0, rng) == 0
    assert grazing.mean() > 0.4


def test_sparse_depth_repeats_one_measurement_per_block():
    depth = np.arange(24, dtype=np.float32).reshape(4, 6)
    np.testing.assert_array_equal(sparse_depth(depth, 2)[:2, :2], depth[1, 1])
    np.testing.assert_array_equal(sparse_depth(depth, 1), depth)
    assert sparse_depth(np.ones((7, 5), np.float32), 3).shape == (7, 5)


def test_mask_noise_moves_the_outline_only():
    mask = np.zeros((120, 160), bool)
    mask[30:90, 40:120] = True
    noisy = noisy_mask(mask, 2.0, np.random.default_rng(0))
    assert (noisy != mask).any()
    assert noisy[40:80, 50:110].all()
    assert not noisy[:20].any()
    assert (noisy_mask(mask, 0, np.random.default_rng(0)) == mask).all()


def test_pose_noise_changes_only_the_reported_pose():
    obj = make_object("box", 1)
    noisy = simulate(obj, replace(SMALL, pose_noise_m=0.01, pose_noise_deg=1.0), 4)
    error = inverse(noisy.plan.T_world_camera) @ np.stack([s.frame.T_world_camera for s in noisy])
    assert 0.001 < np.linalg.norm(error[:, :3, 3], axis=1).mean() < 0.06
    clean = simulate(obj, SMALL, 4)
    assert np.allclose(clean.plan.T_world_camera[0], clean.render(0).frame.T_world_camera, atol=0)


def test_hand_occludes_but_is_no_part():
    obj = make_object("laptop", 3)
    bare, held = (simulate(obj, replace(SMALL, hand=hand), 6) for hand in (False, True))
    a, b = bare.exact(4), held.exact(4)
    changed = a.part_ids != b.part_ids
    assert changed.any()
    assert (b.part_ids[changed] == 0).all()
    assert (b.depth_m[changed] < a.depth_m[changed]).all()


@pytest.mark.parametrize("category", CATEGORIES)
def test_objects_are_metric_and_movable(category: str):
    names = set()
    for seed in range(6):
        obj = make_object(category, seed)
        size = np.ptp(obj.bounds, axis=0)
        assert 0.05 < size.max() < 2.6
        assert abs(obj.bounds[0, 2]) < 1e-9
        assert len(obj.parts) == len(obj.joints) + 1
        assert len(obj.parts[0].faces)
        assert len(set(obj.joint_names)) == len(obj.joints)
        assert all(j.limits[1] > j.limits[0] and abs(np.linalg.norm(j.axis) - 1) < 1e-9 for j in obj.joints)
        assert all(p.material.max() < len(obj.materials) for p in obj.parts)
        assert observable_joints(obj)
        names.add((len(obj.joints), *np.round(size, 3)))
    assert len(names) == 6


def test_doors_swing_and_drawers_slide_outward():
    """The front of every piece of furniture faces +x: opening moves each front part hung on the body forward."""
    for category in ("cabinet", "drawer_table", "microwave", "dishwasher", "fridge", "oven", "door"):
        for seed in range(4):
            obj = make_object(category, seed)
            for k in (k for k in observable_joints(obj) if obj.joints[k].parent == "base"):
                q = np.zeros(len(obj.joints))
                q[k] = 0.3 * obj.joints[k].limits[1]
                part = obj.parts[k + 1].vertices
                assert transform(displacements(obj.chain, q)[k], part)[:, 0].max() > part[:, 0].max() + 0.01


def test_a_drawer_behind_a_door_waits_for_it():
    rng = np.random.default_rng(0)
    hinge = Joint("door", "base", "part_1", JointType.REVOLUTE, np.array([0, 0, 1.0]), np.zeros(3), (0.0, 2.0))
    slide = Joint("tray", "base", "part_2", JointType.PRISMATIC, np.array([1.0, 0, 0]), np.zeros(3), (0.0, 0.4))
    cube = box((0, 0, 0), (0.3, 0.3, 0.3))
    obj = SimObject("x", "x", (cube,) * 3, (hinge, slide), (Material((0.5, 0.5, 0.5)),), ((1, 0),))
    alone = joint_values(obj, (1,), SMALL, rng)
    assert (alone[:, 0] >= 0.85 * 2.0).all()
    both = joint_values(obj, (0, 1), SimulateConfig(), rng)
    assert (both[np.abs(np.diff(both[:, 1], prepend=both[0, 1])) > 1e-6, 0] > 1.6).all()


def test_ground_truth_urdf_has_the_clips_kinematics(clip: Clip):
    yourdfpy = pytest.importorskip("yourdfpy")
    import io

    robot = yourdfpy.URDF.load(io.BytesIO(clip.robot_description.encode()), load_meshes=False)
    assert robot.base_link == "world"
    assert tuple(robot.actuated_joint_names) == clip.joint_names
    for t in (0, 7):
        robot.update_cfg(clip.q[t])
        for k, joint in enumerate(clip.obj.joints):
            frame = np.eye(4)
            frame[:3, 3] = joint.origin
            expected = clip.part_poses(t)[k + 1] @ frame
            np.testing.assert_allclose(robot.get_transform(joint.child, "world"), expected, atol=1e-6)


def test_ground_truth_urdf_names_no_mesh(clip: Clip):
    root = ET.fromstring(clip.robot_description)
    assert not root.findall(".//mesh")
    assert len(root.findall("joint")) == len(clip.joint_names) + 1


def test_bad_requests_are_refused():
    obj = make_object("laptop", 0)
    with pytest.raises(ObjectError, match="unknown category 'sofa'"):
        make_object("sofa", 0)
    with pytest.raises(ObjectError, match="asked to move"):
        simulate(obj, replace(SMALL, moving=(3,)), 0)
    with pytest.raises(ObjectError, match="no movable joint"):
        simulate(replace(obj, joints=(), parts=obj.parts[:1]), SMALL, 0)
