"""An oracle and a bag of one view for tests of the shape prior, and untrained networks for what needs no oracle."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from art_perception.complete import Completion
from art_perception.data.categories import NAMES, samples_of
from art_perception.data.config import SimulateConfig
from art_perception.data.model import SimObject
from art_perception.data.simulate import Clip, simulate
from art_perception.fit import Networks
from art_perception.geometry.lie import inverse
from art_perception.models.census import Census
from art_perception.models.checkpoint import fingerprint, save_census, save_network
from art_perception.models.kinematic_vae import CategoryInfo, KinematicVae, KinematicVaeConfig
from art_perception.models.latent_diffusion import LatentNetwork, LatentNetworkConfig
from art_perception.models.point_encoder import PointEncoderConfig
from art_perception.models.pose_diffusion import PoseNetwork, PoseNetworkConfig
from art_perception.train.vae import KNOWN
from art_perception.types import JointType, Mesh

ENCODER = PointEncoderConfig((16, 4), (6, 3), width=16)
VAE = KinematicVaeConfig(latent=4, encoder=16, code=16, width=16, layers=2, bands=2)
POSE = PoseNetworkConfig(ENCODER, width=32, layers=1)
LATENT = LatentNetworkConfig(ENCODER, latent=4, tokens=2, width=16, layers=1, heads=2, steps=50)


def untrained(bulk: float = 0.0) -> Networks:
    """Networks of every stage; the prior's surface is brought to where its field is, or further out by ``bulk``."""
    torch.manual_seed(0)
    prior = KinematicVae(VAE, KNOWN)
    with torch.no_grad():
        x = torch.rand(1, 500, 3) - 0.5
        shape = prior.decode(torch.zeros(1, 4), torch.zeros(1, dtype=torch.long))
        prior.distance.bias -= prior.part_distance(shape, torch.tensor([0]), x).median() + bulk
    latent = LatentNetwork(LATENT, KNOWN, fingerprint(prior)).eval()
    return Networks(prior.eval(), PoseNetwork(POSE, KNOWN).eval(), latent, one_kind_each(fingerprint(prior)))


def one_kind_each(prior: int) -> Census:
    """A census of one kind per category, standard normal in two directions."""
    count, root = len(KNOWN), torch.eye(2, VAE.latent)
    sizes = torch.tensor([-1.0, 0.2]).expand(count, 2)
    return Census(
        torch.arange(count), torch.ones(count, dtype=torch.long), torch.zeros(count, VAE.latent),
        root.expand(count, -1, -1), sizes, prior,
    )  # fmt: skip


def save_networks(networks: Networks, folder: Path) -> Path:
    """Write networks as a folder of weights."""
    for stage, network in (("vae", networks.prior), ("pose", networks.pose), ("latent", networks.latent)):
        save_network(folder / f"kinediff3d_{stage}.safetensors", network, {})
    save_census(folder / "kinediff3d_census.safetensors", networks.census, KNOWN, {})
    return folder


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """A simulated single view and the completion that is exactly right."""

    clip: Clip
    truth: Completion


def view_of(obj: SimObject, seed: int) -> View:
    """Look once at an object of one joint that rests at its zero."""
    clip = simulate(obj, SimulateConfig(frames=1, width=320, height=240, clutter=0), seed)
    (sample,) = samples_of(obj, "procedural")
    size, revolute = sample.size_m, sample.type is JointType.REVOLUTE
    vertices = np.concatenate([part.vertices for part in obj.parts])
    middle = np.eye(4)
    middle[:3, 3] = (vertices.min(0) + vertices.max(0)) / 2
    metres = np.array([size, size, size, 1, 1, 1]) if revolute else 1.0
    truth = Completion(
        category=CategoryInfo(NAMES[sample.category], len(sample.parts), revolute),
        T_camera_base=inverse(clip.plan.T_world_camera[0]) @ clip.plan.T_world_object @ middle,
        size_m=size,
        q=clip.q[0],
        axis=sample.axis,
        origin=size * sample.origin,
        limits=sample.limits * (1 if revolute else size),
        twists=metres * sample.twists,
        rotation_std_rad=0.01,
        translation_std_m=0.005,
        size_std_m=0.01,
        q_std=np.array([0.01]),
        axis_std_rad=np.array([0.01]),
        origin_std_m=np.array([0.005]),
        hypotheses=np.eye(4)[None],
        z=np.zeros(4),
        parts=tuple(Mesh(size * part.vertices, part.faces) for part in sample.parts),
    )
    return View(clip, truth)
