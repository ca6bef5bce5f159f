"""A closer look at small objects: the same rays and the same pixels, of which more are left."""

from __future__ import annotations

import numpy as np
import pytest

from art_perception.data.assembly import TURN, Mover, Z, assemble, at
from art_perception.data.model import Material
from art_perception.data.shapes import box
from art_perception.data.simulate import Clip, SimulateConfig, simulate
from art_perception.estimation.crop import closeup
from art_perception.estimation.dense import densify
from art_perception.geometry.camera import unproject
from art_perception.pipeline import Clock, Config, estimate_motion
from art_perception.types import UNLABELLED, RgbdFrame, Window

T, H, W = 4, 120, 160


def window(mask: np.ndarray | None) -> Window:
    rng = np.random.default_rng(0)
    K = np.array([[150.0, 0, 79.5], [0, 150, 59.5], [0, 0, 1]])
    frames = [
        RgbdFrame(
            t * 10**8,
            rng.integers(0, 255, (H, W, 3)).astype(np.uint8),
            rng.uniform(1, 2, (H, W)).astype(np.float32),
            K,
            np.eye(4),
            mask,
        )
        for t in range(T)
    ]
    return Window(tuple(frames))


def rectangle(rows: slice, columns: slice) -> np.ndarray:
    mask = np.zeros((H, W), bool)
    mask[rows, columns] = True
    return mask


def test_pixels_of_the_crop_see_along_the_same_rays():
    whole = window(rectangle(slice(40, 60), slice(100, 130)))
    view = closeup(whole, 80)
    assert view.window.frames[0].depth_m.shape < (H, W)
    for before, after in zip(whole.frames, view.window.frames, strict=True):
        points = unproject(before.depth_m, before.K)[view.rows, view.columns]
        np.testing.assert_allclose(unproject(after.depth_m, after.K), points, atol=1e-6)
        assert after.mask is not None
        assert before.mask is not None
        assert after.mask.sum() == before.mask.sum()


def test_labels_of_the_crop_come_back_to_their_pixels():
    mask = rectangle(slice(40, 60), slice(100, 130))
    view = closeup(window(mask), 80)
    labels = np.stack([np.where(f.mask, 1, UNLABELLED) for f in view.window.frames]).astype(np.uint8)
    np.testing.assert_array_equal(view.whole(labels), np.where(mask, 1, UNLABELLED)[None].repeat(T, 0))


@pytest.mark.parametrize(
    ("mask", "width", "step"),
    [
        (rectangle(slice(40, 60), slice(100, 130)), 40, 1),
        (rectangle(slice(0, 20), slice(0, 30)), 40, 1),
        (np.ones((H, W), bool), 40, 1),
        (None, 40, 4),
        (np.zeros((H, W), bool), 40, 4),
        (rectangle(slice(40, 60), slice(100, 130)), 160, 1),
    ],
    ids=["small", "in the corner", "all", "no mask", "empty mask", "not reduced anyway"],
)
def test_how_much_is_left(mask, width, step):
    view = closeup(window(mask), width)
    assert densify(view.window, view.width).step == step


def temple() -> Clip:
    """A rod of 1.5 mm, a pixel of images of half the size, that turns by more than a right angle."""
    rod = Mover(box((0, 0.0633, 0.0523), (0.14, 0.0648, 0.0538)), TURN, Z, at(0.0, 0.064, 0), 1.6)
    body = box((-0.01, -0.07, 0.03), (0, 0.07, 0.08))
    obj = assemble("temple", [body], [rod], [Material((0.3, 0.3, 0.35))])
    config = SimulateConfig(frames=24, shutter=0.0, clutter=0)
    return simulate(obj, config, 4)


def test_a_thin_rod_is_found():
    clip = temple()
    motion = estimate_motion(Window(tuple(s.frame for s in clip)), Config(), Clock(None))
    axis = clip.plan.T_world_object[:3, :3] @ clip.obj.joints[0].axis
    (joint,) = motion.joints
    assert np.rad2deg(np.arccos(min(1, abs(joint.axis @ axis)))) < 2
    assert motion.labels.shape[1:] == (480, 640)
