"""A shadow that wanders over a wall is no part; a texture that turns in place and a blade that leaves its mask are."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, map_coordinates

from art_perception.errors import MotionError
from art_perception.estimation.dense import densify
from art_perception.estimation.explain import ExplainConfig, surface_of
from art_perception.estimation.flow import FlowConfig
from art_perception.estimation.joint_fit import Motion
from art_perception.estimation.label import LabelConfig, label_window
from art_perception.estimation.segment import world_displacement
from art_perception.estimation.shading import is_shading
from art_perception.geometry.camera import rays
from art_perception.pipeline import Clock, Config, estimate_motion
from art_perception.types import JointType, RgbdFrame, Window

H, W, FRAMES = 240, 320, 20
K = np.array([[280.0, 0, 159.5], [0, 280, 119.5], [0, 0, 1]])
COARSE = Config(flow=FlowConfig(width=160))
TILT = np.array([0.2, 0.1, 1.0])  # the wall's normal


def wall(brightness: list[np.ndarray], relief: list[np.ndarray] | None = None, normal: np.ndarray = TILT) -> Window:
    """A flat wall, a metre away and oblique, painted anew in every frame; where there is ``relief`` 5 cm nearer."""
    depth = (1.0 / (rays((H, W), K) @ normal)).astype(np.float32)
    rng = np.random.default_rng(0)
    frames = []
    for t, gray in enumerate(brightness):
        noisy = depth * (1 - np.float32(0.05) * (relief[t] if relief else 0)) + 0.001 * rng.normal(
            size=depth.shape
        ).astype(np.float32)
        color = np.repeat(np.clip(gray + rng.normal(size=gray.shape), 0, 255).astype(np.uint8)[..., None], 3, 2)
        frames.append(RgbdFrame(t * 10**8, color, noisy, K, np.eye(4), np.ones((H, W), bool)))
    return Window(tuple(frames))


def blobs(seed: int, size: float) -> np.ndarray:
    noise = gaussian_filter(np.random.default_rng(seed).normal(size=(H, W)), size)
    return noise / noise.std()


def test_a_wandering_shadow_is_no_part():
    pattern = gaussian_filter((np.abs(blobs(2, 8)) > 0.8).astype(float), 0.7)
    column = np.arange(W)
    shadow = [np.roll(pattern, 3 * t, 1) * (np.abs(column - 90 - 3 * t) < 60) for t in range(FRAMES)]
    with pytest.raises(MotionError):
        estimate_motion(wall([160 * (1 - 0.6 * s) for s in shadow]), COARSE, Clock(None))


def test_a_textured_plate_that_slides_within_its_plane_is_a_part():
    """As a chair's back that is raised: depth changes at its edges alone, but there."""
    place = rays((H, W), K) * (0.95 / (rays((H, W), K) @ TILT))[..., None]
    up = np.cross(TILT, [1.0, 0, 0]) / np.linalg.norm(np.cross(TILT, [1.0, 0, 0]))
    texture, plate = 130 + 8 * blobs(1, 3), 130 + 35 * blobs(3, 4)
    painted, on_plate = [], []
    for lift in np.linspace(0, 0.03, FRAMES):
        across, along = place[..., 0], place @ up - lift
        on_plate.append((np.abs(across) < 0.2) & (np.abs(along) < 0.25))
        where = np.stack([H / 2 + along * 280, W / 2 + across * 280])
        painted.append(np.where(on_plate[-1], map_coordinates(plate, where, order=1), texture))
    (joint,) = estimate_motion(wall(painted, on_plate), Config(), Clock(None)).joints
    assert joint.type is JointType.PRISMATIC
    assert abs(joint.axis @ up) > np.cos(np.deg2rad(5))
    assert joint.limits[1] - joint.limits[0] == pytest.approx(0.03, abs=0.002)


def test_a_textured_disc_that_turns_in_the_wall_is_a_part():
    texture, disc = 130 + 8 * blobs(1, 3), 130 + 35 * blobs(3, 4)
    inside = np.hypot(*(np.mgrid[:H, :W] - np.array([120, 160])[:, None, None])) < 70
    painted = []
    for t in range(FRAMES):
        M = cv2.getRotationMatrix2D((160, 120), 4.0 * t, 1)
        painted.append(np.where(inside, cv2.warpAffine(disc, M, (W, H)), texture))
    (joint,) = estimate_motion(wall(painted), COARSE, Clock(None)).joints
    assert joint.type is JointType.REVOLUTE
    assert abs(joint.axis @ TILT) / np.linalg.norm(TILT) > np.cos(np.deg2rad(10))


@pytest.mark.parametrize(("pivot", "start", "config"), [((-20, 230), 110, Config()), ((60, 310), 175, COARSE)])
def test_a_shadow_that_turns_about_a_hinge_beside_a_part_is_no_part(
    pivot: tuple[int, int], start: float, config: Config
):
    """A door's shadow turns about its hinge as a part would; so its edge alone looks right at every angle."""
    texture, disc = 130 + 8 * blobs(1, 3), 130 + 35 * blobs(3, 4)
    row, column = np.mgrid[:H, :W]
    part = np.hypot(row - 120, column - 70) < 55
    angle = np.rad2deg(np.arctan2(row - pivot[0], column - pivot[1]))
    painted = []
    for t in range(FRAMES):
        M = cv2.getRotationMatrix2D((70, 120), 4.0 * t, 1)
        shadow = (angle > start - 1.5 * t) & (angle < start - 1.5 * t + 60)
        floor = texture * np.where(shadow, 0.45, 1)
        painted.append(np.where(part, cv2.warpAffine(disc, M, (W, H)), floor))
    (joint,) = estimate_motion(wall(painted), config, Clock(None)).joints
    assert np.linalg.norm(joint.origin[:2] - [-0.34, 0.0]) < 0.05  # the disc's


def test_a_reflection_that_follows_the_edge_of_a_part_is_no_part():
    """Of a panel that slides before the wall: spots along its edge follow it more slowly, and move away from it."""
    texture, panel = 130 + 8 * blobs(1, 3), 130 + 35 * blobs(3, 4)
    spots = 0.55 * (np.abs(blobs(5, 4)) > 0.6)
    row, column = np.mgrid[:H, :W]
    painted, relief = [], []
    for t in range(FRAMES):
        beside = np.abs(column - 80 - 4 * t) < 45
        relief.append((np.abs(row - 100) < 50) & beside)
        seen = np.roll(spots, (2 * t, round(2.4 * t)), (0, 1)) * (beside & (row >= 150) & (row < 170))
        painted.append(np.where(relief[-1], np.roll(panel, 4 * t, 1), texture * (1 - seen)))
    (joint,) = estimate_motion(wall(painted, relief), Config(), Clock(None)).joints
    assert joint.type is JointType.PRISMATIC
    assert joint.limits[1] - joint.limits[0] == pytest.approx(0.278, abs=0.005)


@pytest.mark.parametrize(("height", "below"), [(1.0, 175), (0.35, 154)])
def test_the_shadow_that_goes_with_a_part_is_not_labelled_as_the_part(height: float, below: int):
    """A panel slides before the wall, its shadow below it, apart or touching; the motion of both is the same."""
    texture, panel = 130 + 8 * blobs(1, 3), 130 + 35 * blobs(3, 4)
    row, column = np.mgrid[:H, :W]
    painted, relief, shadow = [], [], []
    for t in range(FRAMES):
        relief.append((np.abs(row - 90) < 50) & (np.abs(column - 80 - 4 * t) < 45))
        shadow.append((np.abs(row - below) < 12) & (np.abs(column - 84 - 3.8 * t) < 43))  # as far, but on the wall
        painted.append(np.where(relief[-1], np.roll(panel, 4 * t, 1), texture * (1 - 0.5 * shadow[-1])))
    dense = densify(wall(painted, [np.float32(height) * part for part in relief], np.array([0.0, 0, 1])), W)
    D = np.broadcast_to(np.eye(4), (2, FRAMES, 4, 4)).copy()
    D[1, :, 0, 3] = (1 - 0.05 * height) * 4 / K[0, 0] * np.arange(FRAMES)
    labels = label_window(dense, D, 0.001, LabelConfig(), ExplainConfig(), [0, 0])
    assert (labels[-1][relief[-1]] == 1).mean() > 0.95
    assert (labels[-1][shadow[-1]] == 1).mean() < 0.05


@pytest.mark.parametrize(("axis", "shading"), [(TILT, False), (np.cross(TILT, [1.0, 0, 0]), True)])
def test_what_turns_within_its_surface_may_be_a_part_and_what_would_leave_it_is_shading(axis, shading):
    window = densify(wall([np.full((H, W), 130.0)] * FRAMES), W)
    own = surface_of(window, 0.001, np.arange(0, FRAMES, 5))
    unit = axis / np.linalg.norm(axis)
    motion = Motion(JointType.REVOLUTE, unit, np.array([0.0, 0, 1]), np.linspace(0, 0.5, FRAMES))
    D = world_displacement([motion], 0)
    assert is_shading(window, own, motion, D, [], ExplainConfig(), left=False) is shading


def knife(masked: bool) -> Window:
    """A blade without thickness that slides out of its handle, flat on the wall; its masks, or none that tell."""
    row, column = np.mgrid[:H, :W]
    table, steel = 150 + 20 * blobs(1, 4), 60 + 15 * blobs(3, 3)
    handle = (np.abs(row - 120) < 26) & (np.abs(column - 90) < 60)
    painted, masks = [], []
    for t in range(FRAMES):
        blade = (np.abs(row - 120) < 16) & (column > 100) & (column < 160 + 4 * t)
        painted.append(np.where(handle, 220, np.where(blade, np.roll(steel, 4 * t, 1), table)))
        masks.append(handle | blade if masked else np.ones((H, W), bool))
    frames = zip(wall(painted).frames, masks, strict=True)
    return Window(tuple(replace(frame, mask=mask) for frame, mask in frames))


def test_a_blade_that_slides_flat_on_a_table_is_a_part_because_its_mask_says_where_it_was_not():
    (joint,) = estimate_motion(knife(True), COARSE, Clock(None)).joints
    assert joint.type is JointType.PRISMATIC
    assert joint.limits[1] - joint.limits[0] == pytest.approx(4 * (FRAMES - 1) / 280, rel=0.1)
    with pytest.raises(MotionError):
        estimate_motion(knife(False), COARSE, Clock(None))


def test_empty_masks_are_evidence_of_nothing():
    window = knife(True)
    empty = replace(window.frames[3], mask=np.zeros((H, W), bool))
    dense = densify(Window((*window.frames[:3], empty)), W)
    assert dense.off_object[:3].any((1, 2)).all()
    assert not dense.off_object[3].any()
