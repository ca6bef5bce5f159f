"""Score latents drawn from single views: the meshes they decode to, against the truth and the prior's own meshes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from art_perception.models.kinematic_vae import KinematicVae
from art_perception.models.latent_diffusion import FastSamplerConfig, LatentNetwork, sample_latents
from art_perception.train.validate_vae import chamfer_or_worst, surfaces
from art_perception.types import ShapeBatch


@dataclass(frozen=True, slots=True, eq=False)
class Gallery:
    """Held-out objects.

    Attributes:
        shapes: B of them.
        canonical: (B, N, 3) one view of each.
        z: (B, Dz) their true latents.
        own: B times (P, 3), the surfaces these decode to.
    """

    shapes: ShapeBatch
    canonical: Tensor
    z: Tensor
    own: Sequence[np.ndarray]


@torch.no_grad()
def validate_latent(
    model: LatentNetwork, prior: KinematicVae, gallery: Gallery, sampler: FastSamplerConfig, voxels: int
) -> dict[str, float]:
    """Mean Chamfer-L1 x 1000 of decoded objects at joint values other than those of the view.

    Returns:
        ``chamfer`` of the drawn latents' meshes to the truth, ``chamfer_own`` to the meshes of the true latents,
        ``chamfer_prior`` of these to the truth, which is the floor, and the latent's error in standard deviations.
    """
    generator = torch.Generator(device=gallery.canonical.device).manual_seed(0)
    z = sample_latents(model, gallery.canonical, gallery.shapes.category, sampler, generator)
    ours, own = surfaces(prior, gallery.shapes, z, voxels), gallery.own
    true = list(gallery.shapes.points.cpu().numpy())
    pairs = {"chamfer": (ours, true), "chamfer_own": (ours, own), "chamfer_prior": (own, true)}
    scores = {
        name: float(np.mean([chamfer_or_worst(*p) for p in zip(*pair, strict=True)])) for name, pair in pairs.items()
    }
    return scores | {"latent": float(((z - gallery.z) / model.std).square().mean().sqrt())}
