"""The shape prior fitted to a window: where parts are, what they look like behind, and when it is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from fuse_tools import BODY, DOOR, cabinet
from object_tools import box_mesh

from art_perception.complete import CompletionConfig
from art_perception.geometry.mesh import sample_surface
from art_perception.models.checkpoint import SHIPPED
from art_perception.models.pose_diffusion import SamplerConfig
from art_perception.prior import PriorConfig, completed, networks
from art_perception.prior_shape import PriorShape, _aligning, fit_window

CONFIG = CompletionConfig(pose=SamplerConfig(hypotheses=8))
DIAGONAL_M = float(np.linalg.norm([0.32, 0.4, 0.6]))


@pytest.fixture(scope="module")
def shape() -> PriorShape:
    window, motion = cabinet(frames=7)
    found = fit_window(window, motion, "cabinet", networks(SHIPPED), CONFIG)
    assert found is not None
    return found


@pytest.mark.parametrize(("part", "box"), [(0, BODY), (1, DOOR)])
def test_the_complete_part_lies_where_the_true_one_is(shape: PriorShape, part: int, box: tuple):
    """All of its surface, the back that no camera saw too, to 3 % of the diagonal."""
    center, size = box
    points = sample_surface(box_mesh(center, size), 3000, np.random.default_rng(0))
    assert np.abs(shape.distance(part, points)).mean() < 0.03 * DIAGONAL_M
    far = points + np.array([0.0, 0.0, 1.5])
    assert shape.distance(part, far).min() > 0.5, "and nowhere else"


def test_what_was_measured_agrees(shape: PriorShape):
    assert shape.score > 0.9
    assert shape.joints == (0,)
    assert (shape.distance(2, np.zeros((3, 3))) > 10).all(), "nothing is known of a part that has no joint"


def test_joints_of_another_type_are_not_taken_for_the_category():
    window, motion = cabinet(frames=3)
    assert fit_window(window, motion, "drawer", networks(SHIPPED), CONFIG) is None
    shape, use = completed(window, motion, PriorConfig("drawer", completion=CONFIG))
    assert shape is None
    assert (use.used, use.score) == ("none", None)
    assert "drawer" in use.reason


def test_a_prior_that_does_not_agree_is_refused():
    window, motion = cabinet(frames=3)
    config = PriorConfig("scissors", completion=replace(CONFIG, fit=replace(CONFIG.fit, rounds=1)))
    shape, use = completed(window, motion, config)
    assert shape is None
    assert use.used == "none"
    assert use.score is not None
    assert use.score < config.min_fill_score


def test_vectors_are_aligned_whatever_they_are():
    generator = torch.Generator().manual_seed(0)
    a = torch.nn.functional.normalize(torch.randn((50, 3), generator=generator), dim=-1)
    for b in (torch.nn.functional.normalize(torch.randn((50, 3), generator=generator), dim=-1), a, -a):
        R = _aligning(a, b)
        torch.testing.assert_close((R @ a[..., None])[..., 0], b, atol=1e-3, rtol=0)
        torch.testing.assert_close(torch.linalg.det(R), torch.ones(50), atol=1e-5, rtol=0)
