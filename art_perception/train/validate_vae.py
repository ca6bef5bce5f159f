"""Score the shape prior on held-out objects: distances, parts, joints, and meshes against true surfaces."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from art_perception.eval.metrics import chamfer_l1
from art_perception.geometry.kinematics import placed
from art_perception.geometry.mesh import merged, sample_surface, transformed
from art_perception.models.extract import extract_part
from art_perception.models.kinematic_vae import KinematicVae, Shape
from art_perception.types import Mesh, ShapeBatch

FAR = 0.1  # canonical units; further from a surface nobody cares how far


@torch.no_grad()
def validate_vae(
    model: KinematicVae, batches: Sequence[ShapeBatch], gallery: ShapeBatch, voxels: int
) -> dict[str, float]:
    """Mean scores with the true latent, the posterior's mean.

    Args:
        model: the network.
        batches: held-out objects whose distances, parts and joints are scored.
        gallery: a few held-out objects that are meshed; their labelled points are the true surface.
        voxels: resolution of the meshes.

    Returns:
        SDF error (units x 1000, within ``FAR``), mean IoU of parts, joint state in % of its range, joint axis in
        degrees, Chamfer distance of whole objects (units x 1000; its floor is the samples' spacing).
    """
    rows = [_scores(model, batch) for batch in batches]
    scores = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
    return scores | {"chamfer": float(np.mean(chamfers(model, gallery, voxels)))}


def _scores(model: KinematicVae, batch: ShapeBatch) -> dict[str, float]:
    z, _ = model.encode(batch.cloud, batch.cloud_label, batch.q_cloud, batch.category)
    shape = model.decode(z, batch.category)
    f_kg = model.motion_code(z, batch.category, batch.q)
    rows = batch.present.flatten().nonzero()[:, 0]
    distance = model.part_distance(shape, rows, batch.queries.flatten(0, 1)[rows])
    true = batch.sdf.flatten(0, 1)[rows]
    _, logits = model(shape, f_kg, shape.joints.twists, batch.q, batch.points)
    moving = batch.present[:, 1:]
    off = (model.predicted_state(f_kg) - batch.q).abs() / batch.upper.clamp(min=1e-3)
    cosine = (shape.joints.axis * batch.axis).sum(-1).clamp(-1, 1)
    return {
        "sdf": 1000 * float((distance.clamp(-FAR, FAR) - true.clamp(-FAR, FAR)).abs().mean()),
        "miou": _mean_iou(logits.argmax(1), batch.label, batch.present.shape[1]),
        "state": 100 * float(off[moving].mean()),
        "axis": float(torch.rad2deg(cosine.acos())[moving].mean()),
    }


def _mean_iou(part: Tensor, true: Tensor, parts: int) -> float:
    """Mean IoU over the parts (B, N) that are there."""
    scores = []
    for k in range(parts):
        both, either = ((part == k) & (true == k)).sum(1), ((part == k) | (true == k)).sum(1)
        scores.append((both / either.clamp(min=1))[(true == k).any(1)])
    return float(torch.cat(scores).mean())


@torch.no_grad()
def chamfers(model: KinematicVae, batch: ShapeBatch, resolution: int) -> list[float]:
    """Chamfer-L1 x 1000 of every object of a batch, encoded at one joint state and decoded at ``q``.

    As many samples are drawn from the mesh as the batch has labelled points; the joints that move it are the decoded
    ones. An object that decodes to nothing counts 1000.
    """
    z, _ = model.encode(batch.cloud, batch.cloud_label, batch.q_cloud, batch.category)
    found = surfaces(model, batch, z, resolution)
    return [chamfer_or_worst(points, true) for points, true in zip(found, batch.points.cpu().numpy(), strict=True)]


def chamfer_or_worst(points: np.ndarray, true: np.ndarray) -> float:
    """Chamfer-L1 x 1000; 1000 when there are no points."""
    return chamfer_l1(points, true) if len(points) and len(true) else 1000.0


@torch.no_grad()
def surfaces(model: KinematicVae, batch: ShapeBatch, z: Tensor, resolution: int) -> list[np.ndarray]:
    """Points (P, 3) of what latents decode to at ``q``, as many as the truth has; none for what decodes to nothing."""
    shape = model.decode(z, batch.category)
    D = placed(shape.joints.twists, batch.q).cpu().numpy().astype(float)
    meshes = [merged(_posed_parts(model, shape, b, D[b], resolution)) for b in range(len(z))]
    return [sample_surface(mesh, batch.points.shape[1], np.random.default_rng(b)) for b, mesh in enumerate(meshes)]


def _posed_parts(model: KinematicVae, shape: Shape, b: int, D: np.ndarray, resolution: int) -> list[Mesh]:
    """Meshes of the parts of decoded object b, moved by D (K, 4, 4)."""
    present = shape.present[b].nonzero()[:, 0].tolist()
    return [transformed(extract_part(model, shape, b, k, resolution), D[k]) for k in present]
