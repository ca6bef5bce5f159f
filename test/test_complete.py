"""Completion of a single view: what it returns fits together, bad input is one sentence."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from prior_tools import LATENT, POSE, save_networks, untrained

from art_perception.complete import CompletionConfig, complete, load_networks
from art_perception.errors import ArtPerceptionError, CheckpointError, FrameError, UsageError
from art_perception.fit import Networks
from art_perception.geometry.lie import transform
from art_perception.models.checkpoint import (
    save_census,
    save_network,
)
from art_perception.models.latent_diffusion import FastSamplerConfig, LatentNetwork
from art_perception.models.pose_diffusion import PoseNetwork, SamplerConfig
from art_perception.train.vae import KNOWN

CONFIG = CompletionConfig(points=256, pose=SamplerConfig(8, 1e-2), latent=FastSamplerConfig(5), voxels=16)


@pytest.fixture(scope="module")
def networks() -> Networks:
    return untrained()


def cloud(count: int = 600) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(count, 3)) * 0.1 + [0.1, 0.0, 0.9]


def test_what_comes_out_fits_together(networks: Networks):
    found = complete(cloud(), "laptop", networks, CONFIG)
    R = found.T_camera_base[:3, :3]
    np.testing.assert_allclose(R @ R.T, np.eye(3), atol=1e-5)
    assert found.category.name == "laptop"
    assert (found.q.shape, found.axis.shape, found.limits.shape, found.twists.shape) == ((1,), (1, 3), (1, 2), (1, 6))
    assert (found.limits[:, 0] <= found.q).all()
    assert (found.q <= found.limits[:, 1]).all()
    assert np.linalg.norm(found.axis[0]) == pytest.approx(1, abs=1e-5)
    assert found.rotation_std_rad > 0
    assert found.q_std.shape == found.axis_std_rad.shape == found.origin_std_m.shape == (1,)
    assert (found.hypotheses.shape[1:], found.z.shape, len(found.parts)) == ((4, 4), (4,), 2)
    on_axis = found.origin[0] + 0.3 * found.axis[0]
    velocity = found.twists[0, :3] + np.cross(found.twists[0, 3:], on_axis)
    np.testing.assert_allclose(velocity, 0, atol=1e-6)
    base = found.posed()[0]
    assert len(base.vertices)
    np.testing.assert_allclose(base.vertices, transform(found.T_camera_base, found.parts[0].vertices), atol=1e-9)


def test_a_seed_decides_and_metres_scale(networks: Networks):
    a, b = (complete(cloud(), "drawer", networks, CONFIG) for _ in range(2))
    np.testing.assert_array_equal(a.z, b.z)
    np.testing.assert_array_equal(a.T_camera_base, b.T_camera_base)
    other = complete(cloud(), "drawer", networks, replace(CONFIG, seed=1))
    assert not np.array_equal(a.z, other.z)
    twice = complete(2 * cloud(), "drawer", networks, CONFIG)
    assert twice.size_m == pytest.approx(2 * a.size_m, rel=0.05)
    assert twice.q[0] == pytest.approx(2 * a.q[0], rel=0.05), "metres of a drawer"
    assert not a.twists[:, 3:].any()


@pytest.mark.parametrize(
    ("points", "category", "error", "words"),
    [
        (cloud(150), "laptop", FrameError, ("150 points", "need 200")),
        (cloud(), "lamp", UsageError, ("'lamp' is unknown", "laptop, eyeglasses")),
        (np.where(np.arange(600)[:, None] < 7, np.nan, cloud()), "laptop", FrameError, ("7 of 600", "not finite")),
        (1000 * cloud(), "laptop", FrameError, ("m (at most 50)", "millimetres")),
        (cloud()[:, :2], "laptop", FrameError, ("(600, 2)", "x, y, z")),
    ],
)
def test_bad_input_is_one_sentence(
    points: np.ndarray, category: str, error: type[ArtPerceptionError], words: tuple[str, ...], networks: Networks
):
    with pytest.raises(error) as caught:
        complete(points, category, networks, CONFIG)
    assert all(word in str(caught.value) for word in words)
    assert "\n" not in str(caught.value)


def test_networks_that_do_not_belong_together_are_refused(networks: Networks, tmp_path: Path):
    save_networks(networks, tmp_path)
    files = [tmp_path / f"kinediff3d_{stage}.safetensors" for stage in ("vae", "pose", "latent", "census")]
    own = networks.latent.prior
    assert load_networks(*files).latent.prior == own
    save_network(files[1], PoseNetwork(POSE, KNOWN[::-1]), {})
    with pytest.raises(CheckpointError, match="other categories"):
        load_networks(*files)
    save_network(files[2], LatentNetwork(LATENT, KNOWN, own + 1), {})
    with pytest.raises(CheckpointError, match="another shape prior"):
        load_networks(*files)
    save_networks(networks, tmp_path)
    save_census(files[3], replace(networks.census, prior=own + 1), KNOWN, {})
    with pytest.raises(CheckpointError, match=r"census.*another shape prior"):
        load_networks(*files)
