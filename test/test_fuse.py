"""Fusing a window rendered here from boxes: closed meshes within a voxel or two of the truth where it was seen."""

from dataclasses import replace

import numpy as np
import pytest
from fuse_tools import BODY, COLORS, DOOR, HINGE, SHAPE, VOXEL, K, cabinet, distance_to, look_at, render
from object_tools import box_mesh, tilted_pose

from art_perception.estimation.fuse import FuseConfig, fuse_parts
from art_perception.geometry.kinematics import chain_of, displacements, with_base
from art_perception.geometry.lie import inverse, transform
from art_perception.geometry.mesh import is_watertight, merged, sample_surface, signed_volume
from art_perception.types import UNLABELLED, ArticulatedObject, PartMotion, Window
from art_perception.urdf.check import check_urdf
from art_perception.urdf.writer import write_urdf


def truth(box):
    return box_mesh(*box)


def seen_points(box, k, window, motion, count=6000):
    """Points of a box surface, at zero joint values, that at least three frames see."""
    points = sample_surface(truth(box), count, np.random.default_rng(0))
    D = with_base(displacements(chain_of(motion.joints), motion.q))
    seen = np.zeros(count, int)
    for t, frame in enumerate(window.frames):
        p = transform(inverse(frame.T_world_camera) @ D[t, k], points)
        u, v = np.round(p[:, :2] / p[:, 2:] * K[0, 0] + K[:2, 2]).astype(int).T
        inside = (u >= 0) & (u < SHAPE[1]) & (v >= 0) & (v < SHAPE[0])
        index = np.where(inside, v, 0), np.where(inside, u, 0)
        seen += inside & (motion.labels[t][index] == k) & (np.abs(frame.depth_m[index] - p[:, 2]) < 0.005)
    return points[seen >= 3]


@pytest.fixture(scope="module")
def scene():
    return cabinet()


@pytest.fixture(scope="module")
def parts(scene):
    return fuse_parts(*scene)


def test_base_first_then_children(parts):
    assert [p.name for p in parts] == ["base", "part_1"]


def test_meshes_are_closed_coloured_and_not_too_fine(parts):
    for part, color in zip(parts, COLORS[:2], strict=True):
        assert is_watertight(part.visual)
        assert signed_volume(part.visual) > 0
        assert len(part.visual.faces) <= FuseConfig().max_faces
        assert np.abs(part.visual.colors.mean(0) - color).max() < 5


@pytest.mark.parametrize("k", [0, 1])
def test_seen_surface_is_within_two_voxels(scene, parts, k):
    points = seen_points((BODY, DOOR)[k], k, *scene)
    distance = distance_to(parts[k].visual, points)
    assert len(points) > 1000
    assert np.median(distance) < 0.5 * VOXEL
    assert np.percentile(distance, 95) < 2 * VOXEL


@pytest.mark.parametrize("k", [0, 1])
def test_nothing_is_invented_outside_the_truth(parts, k):
    center, size = (BODY, DOOR)[k]
    beyond = np.abs(parts[k].visual.vertices - center) - size / 2
    assert beyond.max() < 3.5 * VOXEL  # a slab seen from one side gets a thickness of about two voxels


def test_a_door_is_a_thin_slab_and_not_a_balloon(parts):
    slab = parts[1].visual
    thickness = signed_volume(slab) / (DOOR[1][1] * DOOR[1][2])
    assert 0.5 * DOOR[1][0] < thickness < 2 * DOOR[1][0]


def test_observed_is_honest(parts):
    assert 0.3 < parts[0].observed < 0.9  # the back and the bottom were never seen
    still = replace_motion(*cabinet(frames=6, spread_deg=5), q=0.0)
    assert 0.3 < fuse_parts(*still)[1].observed < 0.8  # one side of a slab; how much of its rim differs by processor


def replace_motion(window, motion, q):
    """The same cameras with the door held at ``q``."""
    cameras = [f.T_world_camera for f in window.frames]
    return render((BODY, DOOR), (HINGE,), np.full_like(motion.q, q), cameras, 0.001)


def test_collision_pieces_cover_the_mesh(parts):
    for part in parts:
        assert 1 <= len(part.collision) <= FuseConfig().max_pieces
        corners = np.concatenate([c.vertices for c in part.collision])
        assert np.allclose(corners.min(0), part.visual.vertices.min(0), atol=2 * VOXEL)
        assert np.allclose(corners.max(0), part.visual.vertices.max(0), atol=2 * VOXEL)


def test_the_written_urdf_passes_every_check(scene, parts, tmp_path):
    obj = ArticulatedObject("cabinet", "world", parts, scene[1].joints, tilted_pose())
    assert check_urdf(write_urdf(obj, tmp_path)) == []


def test_a_part_hardly_seen_has_no_mesh(scene):
    window, motion = scene
    labels = np.where(motion.labels == 1, UNLABELLED, motion.labels)
    labels[0, 0, :10] = 1
    base, door = fuse_parts(window, replace(motion, labels=labels))
    assert len(base.visual.faces)
    assert not len(door.visual.faces)
    assert door.collision == ()
    assert door.observed == 0


def test_no_label_at_all_still_gives_every_part(scene):
    window, motion = scene
    empty = fuse_parts(window, replace(motion, labels=np.full_like(motion.labels, UNLABELLED)))
    assert [len(p.visual.faces) for p in empty] == [0, 0]


def test_what_stands_in_front_carves_nothing(scene):
    window, motion = scene
    hand = (np.array([0.45, 0.0, 0.35]), np.array([0.05, 0.1, 0.1]))
    cameras = [f.T_world_camera for f in window.frames]
    occluded, labelled = render((BODY, DOOR, hand), (HINGE,), motion.q, cameras, 0.001)
    labels = np.where(labelled.labels == 2, UNLABELLED, labelled.labels)
    found = fuse_parts(occluded, replace(motion, labels=labels))
    for k in (0, 1):
        points = seen_points((BODY, DOOR)[k], k, occluded, replace(motion, labels=labels))
        assert np.percentile(distance_to(found[k].visual, points), 95) < 2.5 * VOXEL


def test_wrong_labels_leave_no_floaters(scene):
    window, motion = scene
    rng = np.random.default_rng(3)
    wrong = rng.random(motion.labels.shape) < 0.01
    labels = np.where(wrong, rng.integers(0, 2, motion.labels.shape), motion.labels).astype(np.uint8)
    base, door = fuse_parts(window, replace(motion, labels=labels))
    for part, (center, size) in ((base, BODY), (door, DOOR)):
        beyond = np.abs(part.visual.vertices - center) - size / 2
        assert beyond.max() < 6 * VOXEL
        assert is_watertight(part.visual)


def test_one_frame_is_enough_for_a_shell(scene):
    window, motion = scene
    first = fuse_parts(Window(window.frames[:1]), PartMotion(motion.labels[:1], motion.joints, motion.q[:1]))
    assert is_watertight(first[1].visual)


def test_same_input_same_mesh(scene, parts):
    again = fuse_parts(*scene)
    for a, b in zip(parts, again, strict=True):
        assert np.array_equal(a.visual.vertices, b.visual.vertices)
        assert a.observed == b.observed


def test_the_body_leaves_room_for_the_door_between_its_posts():
    """The box around body and posts holds the door, behind which, as it hardly opens, nobody has looked."""
    posts = tuple((np.array([0.17, y, 0.3]), np.array([0.02, 0.04, 0.6])) for y in (-0.225, 0.225))
    joints = (HINGE, *(replace(HINGE, name=f"post_{k}", child=f"post_{k}") for k in (2, 3)))
    q = np.linspace(0, 0.1, 12)[:, None] * [1, 0, 0]
    cameras = [look_at(np.array([1.1, 0.03 * t - 0.15, 0.75]), BODY[0]) for t in range(12)]
    window, motion = render((BODY, DOOR, *posts), joints, q, cameras, 0.001)
    labels = np.where((motion.labels == 2) | (motion.labels == 3), np.uint8(0), motion.labels)
    base, door = fuse_parts(window, PartMotion(labels, (HINGE,), q[:, :1]))
    (_, y, z), (_, width, height) = DOOR
    behind = np.abs(base.visual.vertices[:, 1:] - [y, z]) < np.array([width, height]) / 2 - 2 * VOXEL
    assert base.visual.vertices[:, 1].max() > 0.24  # the posts are there
    assert base.visual.vertices[behind.all(-1), 0].max() < door.visual.vertices[:, 0].max() - VOXEL


def contains(piece, point):
    """Whether a point is inside a convex mesh."""
    a, b, c = (piece.vertices[piece.faces[:, i]] for i in range(3))
    return bool((((point - a) * np.cross(b - a, c - a)).sum(-1) < 0).all())


def test_what_a_hollow_body_hides_from_one_side_is_air_behind_walls():
    """Boards around a cupboard without a front, seen from its left: where its side keeps rays out is no surface."""
    board = 0.02
    boards = []
    for axis, side in ((1, -1), (1, 1), (2, -1), (2, 1), (0, -1)):
        center, size = BODY[0].copy(), BODY[1].copy()
        center[axis] += side * (size[axis] - board) / 2
        size[axis] = board
        boards.append((center, size))
    angles = np.radians(np.linspace(35, 50, 15))
    cameras = [look_at(np.array([np.cos(a), np.sin(a), 0.75]), BODY[0]) for a in angles]
    window, motion = render(boards, (), np.zeros((15, 0)), cameras, 0.001)
    labels = np.where(motion.labels == UNLABELLED, motion.labels, np.uint8(0))
    (body,) = fuse_parts(window, replace(motion, labels=labels))
    true = merged([box_mesh(*board) for board in boards])
    invented = distance_to(true, sample_surface(body.visual, 5000, np.random.default_rng(0)))
    missed = distance_to(body.visual, sample_surface(true, 5000, np.random.default_rng(0)))
    assert is_watertight(body.visual)
    assert np.percentile(invented, 95) < 2.5 * VOXEL  # 11 voxels when all that was not seen through is solid
    assert np.percentile(missed, 95) < 3 * VOXEL
    assert not any(contains(piece, BODY[0]) for piece in body.collision), "a hand can reach in"


def test_without_its_outline_a_part_is_what_was_measured(scene):
    body = fuse_parts(*scene, FuseConfig(fill_outline=False))[0]
    assert is_watertight(body.visual)
    assert body.visual.vertices[:, 2].min() > -2 * VOXEL
    nearest = distance_to(body.visual, np.array([[BODY[0][0], BODY[0][1], 0.0]]))  # its underside
    assert nearest > 0.1


def test_a_part_of_one_flat_layer_is_closed(scene):
    """A wall that the camera faces squarely, without noise: its measured cells span no volume to fill."""
    window, motion = scene
    shot = replace(window.frames[0], depth_m=np.ones(SHAPE, np.float32), T_world_camera=np.eye(4))
    labels = np.zeros((4, *SHAPE), np.uint8)
    labels[:, 20:60, 30:70] = 1
    still = replace(motion, labels=labels, q=np.zeros((4, 1)))
    for part in fuse_parts(Window((shot,) * 4), still):
        assert np.isfinite(part.visual.vertices).all()
        assert is_watertight(part.visual)
        assert np.ptp(part.visual.vertices[:, 2]) < 4 * VOXEL


def test_a_part_that_is_somewhere_else_in_every_frame_has_no_mesh(scene):
    window, motion = scene
    shot = replace(window.frames[0], depth_m=np.ones(SHAPE, np.float32), T_world_camera=np.eye(4))
    labels = np.zeros((6, *SHAPE), np.uint8)
    for t in range(6):
        labels[t, 10 + 15 * t : 12 + 15 * t] = 1
    base, part = fuse_parts(Window((shot,) * 6), replace(motion, labels=labels, q=np.zeros((6, 1))))
    assert is_watertight(base.visual)
    assert len(part.visual.faces) == len(part.collision) == 0
    assert part.observed == 0
