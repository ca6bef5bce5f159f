"""Beside a door the wheel on it is next to nothing; what the door leaves is looked at once more for itself."""

from __future__ import annotations

import numpy as np
from clip_tools import Clip, clip_of

from art_perception.data.assembly import TURN, Mover, X, Y, Z, assemble, at, turned
from art_perception.data.model import Material, SimObject, merge, moved
from art_perception.data.shapes import box, cylinder
from art_perception.estimation.align import JointConfig
from art_perception.estimation.dense import densify
from art_perception.estimation.explain import ExplainConfig, Surface
from art_perception.estimation.flow import FlowConfig, optical_flow, track_points
from art_perception.estimation.label import LabelConfig
from art_perception.estimation.parts import PartSearch
from art_perception.estimation.segment import SegmentConfig

WHEEL = 2


def safe() -> SimObject:
    """Its door bears a wheel of four spokes."""
    steel, brass = range(2)
    spokes = [turned(box((0.05, -0.012, -0.11), (0.062, 0.012, 0.11), brass), X, turn) for turn in (0, np.pi / 2)]
    hub = turned(cylinder(0.02, 0.06, brass), Y, np.pi / 2)
    middle = at(0.22, 0.15, 0.45)
    door = Mover(box((0.2, -0.3, 0.0), (0.22, 0.3, 0.8), steel), TURN, -Z, at(0.2, -0.3, 0), 1.2)
    wheel = Mover(moved(merge([*spokes, hub]), middle), TURN, X, middle, 1.5, parent=0)
    looks = [Material((0.5, 0.5, 0.55), "noise", 0.3, 0.5), Material((0.7, 0.6, 0.2))]
    return assemble("safe", [box((-0.2, -0.3, 0.0), (0.19, 0.3, 0.8), steel)], [door, wheel], looks)


def share(clip: Clip, surface: Surface) -> float:
    """Of a surface's points, those on the wheel."""
    return float((clip.labels.reshape(len(clip.labels), -1)[surface.frame, surface.pixel] == WHEEL).mean())


def test_what_is_left_beside_a_door_is_its_wheel():
    clip = clip_of(safe(), 4, moving=2)
    dense = densify(clip.window, 320)
    tracks = track_points(dense, optical_flow(dense, FlowConfig().model), FlowConfig())
    search = PartSearch(dense, tracks, SegmentConfig(), JointConfig(), LabelConfig(), ExplainConfig())
    assert share(clip, search.asked) < 0.05
    search._add(clip.truths[0], np.zeros(len(tracks.points), bool))
    assert search._narrow()
    assert share(clip, search.asked) > 0.3
    assert not search._narrow()
    assert share(clip, search.changed) < 0.05
