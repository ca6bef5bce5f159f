"""Without a mask the object is what the moving part is attached to, and neither the table nor what lies about."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from scipy.ndimage import binary_dilation

from art_perception.data.assembly import TURN, Mover, Z, assemble, at, turned
from art_perception.data.model import Material, SimObject
from art_perception.data.objects import make_object
from art_perception.data.shapes import cylinder
from art_perception.data.simulate import SimulateConfig, simulate
from art_perception.estimation.dense import DenseWindow, densify
from art_perception.estimation.mask import keep_object
from art_perception.pipeline import Config
from art_perception.types import UNLABELLED, Window


@dataclass(frozen=True)
class Scene:
    """A clip without mask and its true part ids (T, h, w): 0 room, 1 static body, 2 moving part."""

    dense: DenseWindow
    ids: np.ndarray


def scene_of(obj: SimObject, seed: int) -> Scene:
    config = SimulateConfig(frames=12, width=320, height=240, shutter=0.0, mask=False)
    samples = list(simulate(obj, config, seed))
    dense = densify(Window(tuple(s.frame for s in samples)), 320)
    moving = np.argmax(np.ptp(np.stack([s.q for s in samples]), 0)) + 2
    ids = np.stack([s.part_ids for s in samples])
    return Scene(dense, np.where(ids == moving, 2, np.minimum(ids, 1)))


SCENES = [("scissors", 0), ("laptop", 1), ("microwave", 2), ("laptop", 4), ("cabinet", 3), ("stapler", 4)]
"""The last three stand on tables past whose edge the floor shows."""


@pytest.fixture(scope="module", params=SCENES, ids=lambda p: f"{p[0]} {p[1]}")
def scene(request) -> Scene:
    category, seed = request.param
    return scene_of(make_object(category, seed), seed)


def kept(scene: Scene, moving: np.ndarray) -> np.ndarray:
    labels = np.where(moving, 1, 0).astype(np.uint8)
    labels[~scene.dense.usable] = UNLABELLED
    return keep_object(scene.dense, labels, Config().mask)


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


def test_the_body_is_what_the_part_is_attached_to(scene: Scene):
    usable = scene.dense.usable
    labels = kept(scene, scene.ids == 2)
    assert iou(labels == 0, (scene.ids == 1) & usable) > 0.7
    assert iou(labels == 1, (scene.ids == 2) & usable) > 0.9


def test_the_table_around_a_part_does_not_go_with_it(scene: Scene):
    halo = np.stack([binary_dilation(ids == 2, iterations=6) & ((ids == 2) | (ids == 0)) for ids in scene.ids])
    labels = kept(scene, halo)
    room = (scene.ids == 0) & scene.dense.usable
    assert (labels[room & halo] == 1).mean() < 0.4
    assert (labels[(scene.ids == 2) & scene.dense.usable] == 1).mean() > 0.8


@pytest.mark.parametrize("seed", [4, 5, 9])
def test_a_small_cap_high_above_the_table_keeps_its_bottle_alone(seed: int):
    """Within reach of a cap is little of the table, and its bottle is narrower than the cells of a room."""
    cap = turned(cylinder(0.025, 0.03), Z, 0.0, np.array([0, 0, 0.181]))
    movers = [Mover(cap, TURN, Z, at(0, 0, 0.18), 1.0)]
    scene = scene_of(assemble("bottle", [cylinder(0.035, 0.18)], movers, [Material((0.6, 0.5, 0.4))]), seed)
    labels = kept(scene, scene.ids == 2)
    assert iou(labels == 0, (scene.ids == 1) & scene.dense.usable) > 0.9
    assert iou(labels == 1, (scene.ids == 2) & scene.dense.usable) > 0.9


def test_labels_under_a_mask_are_left_alone(scene: Scene):
    labels = np.where(scene.ids == 2, 1, 0).astype(np.uint8)
    masked = replace(scene.dense, masked=True)
    np.testing.assert_array_equal(keep_object(masked, labels, Config().mask), labels)


def test_a_part_of_wire_has_no_normals(scene: Scene):
    """Nothing of it is off its outline; the body is found all the same."""
    bare = Scene(replace(scene.dense, normals=np.where((scene.ids == 2)[..., None], 0, scene.dense.normals)), scene.ids)
    labels = kept(bare, scene.ids == 2)
    assert iou(labels == 0, (scene.ids == 1) & scene.dense.usable) > 0.7
