"""How far a completed object is from the true one: surfaces, pose and joints of one view; pure functions of arrays.

Chamfer distances are in units of the true object's diagonal at rest, times 1000, in two conventions. L1, the mean of
both directions' mean distance, is what the paper states. The sum of both directions' mean *squared* distance is what
the published code of the paper it follows (A-SDF) computes. Between two samples of one surface neither is zero:
:func:`floor`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from art_perception.eval.metrics import axis_position_cm, chamfers
from art_perception.eval.shape_error import MISSING
from art_perception.eval.symmetry import half_turns
from art_perception.geometry.kinematics import placed
from art_perception.geometry.lie import inverse, transform
from art_perception.geometry.mesh import merged, sample_surface, transformed
from art_perception.types import Mesh

FAILED = {
    **{f"{when}_{part}": MISSING for when in ("now", "novel", "placed") for part in ("w", "s", "m")},
    **{f"{when}_{part}_sq": MISSING for when in ("now", "novel", "placed") for part in ("w", "s", "m")},
    **dict.fromkeys(("translation", "size", "state", "position", "position_camera"), 100.0),
    **dict.fromkeys(("rotation", "rotation_up_to_symmetry", "axis", "axis_camera"), 180.0),
}
"""What a view counts for which there is no result."""


@dataclass(frozen=True, slots=True, eq=False)
class TrueObject:
    """An object of J joints and the view it is seen in; canonical frame, lengths in diagonals, unless said.

    Attributes:
        points: (N, 3) samples of its surface at rest; label: (N,) part of each.
        twists: (J, 6) unit twists; axis, origin: (J, 3) the same joints as lines.
        revolute: whether they turn.
        upper: (J,) upper limits, rad or diagonals; the lower ones are zero.
        q: (J,) joint values in the view; novel: (J,) others.
        T_camera_base: (4, 4) metres.
        size_m: metres per diagonal.
    """

    points: np.ndarray
    label: np.ndarray
    twists: np.ndarray
    axis: np.ndarray
    origin: np.ndarray
    revolute: bool
    upper: np.ndarray
    q: np.ndarray
    novel: np.ndarray
    T_camera_base: np.ndarray
    size_m: float

    def surface(self, q: np.ndarray) -> np.ndarray:
        """Points (N, 3) at joint values q (J,)."""
        D = placed(self.twists, q)[self.label]
        return (D[:, :3, :3] @ self.points[..., None])[..., 0] + D[:, :3, 3]


@dataclass(frozen=True, slots=True, eq=False)
class Estimate:
    """What was found of an object of J joints; metres, base frame, unless said.

    Attributes:
        T_camera_base: (4, 4).
        size_m: metres per diagonal.
        q: (J,) rad or metres.
        twists: (J, 6) unit twists; axis, origin: (J, 3) the same joints as lines.
        parts: meshes at rest, the base first.
    """

    T_camera_base: np.ndarray
    size_m: float
    q: np.ndarray
    twists: np.ndarray
    axis: np.ndarray
    origin: np.ndarray
    parts: tuple[Mesh, ...]


def score(found: Estimate, true: TrueObject, samples: int, rng: np.random.Generator) -> dict[str, float]:
    """All errors of one view.

    Returns:
        Chamfer distances ``now`` (in the view's state) and ``novel`` (same shape, other joint values), both in the
        object's own frame, and ``placed`` (where the camera would see it, pose included), each of the whole (``_w``),
        its static part (``_s``) and its moving parts (``_m``, their mean), squared ones with ``_sq`` behind; what
        :func:`pose_errors` and :func:`joint_errors` give.
    """
    rigid = true.T_camera_base
    own, in_place = _scaled(1 / found.size_m), _scaled(1 / true.size_m) @ inverse(rigid) @ found.T_camera_base
    reach = 1.0 if true.revolute else found.size_m
    return {
        **_chamfers("now", _moved(found, own, found.q), true, true.q, samples, rng),
        **_chamfers("novel", _moved(found, own, reach * true.novel), true, true.novel, samples, rng),
        **_chamfers("placed", _moved(found, in_place, found.q), true, true.q, samples, rng),
        **pose_errors(found, true),
        **joint_errors(found, true),
    }


def pose_errors(found: Estimate, true: TrueObject) -> dict[str, float]:
    """Rotation in degrees, as it is and up to half-turns that leave the surface where it is; translation and size.

    Returns:
        ``rotation``, ``rotation_up_to_symmetry``, ``symmetric`` (100 when there is such a half-turn, else 0),
        ``turned`` (100 when the rotation is wrong by more than 90 degrees), ``translation_cm``, and in % of the true
        diagonal ``translation`` and ``size``.
    """
    R, R_true = found.T_camera_base[:3, :3], true.T_camera_base[:3, :3]
    turns = half_turns(true.surface(true.q))
    angles = [_angle_deg(R, R_true @ turn) for turn in (np.eye(3), *turns)]
    gap = float(np.linalg.norm(found.T_camera_base[:3, 3] - true.T_camera_base[:3, 3]))
    return {
        "rotation": angles[0],
        "rotation_up_to_symmetry": min(angles),
        "symmetric": 100.0 * bool(turns),
        "turned": 100.0 * (angles[0] > 90),
        "translation_cm": 100 * gap,
        "translation": 100 * gap / true.size_m,
        "size": 100 * abs(found.size_m / true.size_m - 1),
    }


def joint_errors(found: Estimate, true: TrueObject) -> dict[str, float]:
    """Mean errors over the joints.

    Returns:
        ``state`` in % of the range, and ``state_deg`` or ``state_cm``; ``axis`` in degrees, the sign counts, because it
        says which way opens; ``position`` (revolute only) in % of the diagonal, where the moving part is; both in the
        object's own frame, and with the pose's error in them as ``axis_camera`` and ``position_camera``.
    """
    reach = 1.0 if true.revolute else true.size_m
    off = np.abs(found.q - reach * true.q)
    to_true = _scaled(1 / true.size_m) @ inverse(true.T_camera_base) @ found.T_camera_base
    frames = {"": _scaled(1 / found.size_m), "_camera": to_true}
    out = {"state": 100 * float(np.mean(off / (reach * true.upper)))}
    out |= {"state_deg": float(np.degrees(off).mean())} if true.revolute else {"state_cm": 100 * float(off.mean())}
    for name, T in frames.items():
        axis = found.axis @ T[:3, :3].T
        out[f"axis{name}"] = float(np.mean([_between_deg(a, b) for a, b in zip(axis, true.axis, strict=True)]))
        if true.revolute:
            out[f"position{name}"] = float(np.mean(_positions(axis, transform(T, found.origin), true)))
    return out


def _positions(axis: np.ndarray, origin: np.ndarray, true: TrueObject) -> list[float]:
    """Distances of axes (J, 3) from the true ones, in % of the diagonal."""
    unit = axis / np.linalg.norm(axis, axis=1, keepdims=True)
    middles = [true.points[true.label == j + 1].mean(0) for j in range(len(axis))]
    # per diagonal, what the metric calls centimetres are hundredths
    return [axis_position_cm(*joint) for joint in zip(unit, origin, true.axis, true.origin, middles, strict=True)]


def floor(true: TrueObject, rng: np.random.Generator) -> dict[str, float]:
    """Chamfer distances ``now`` and ``novel`` that a perfect shape would get, because surfaces are compared by samples.

    From one half of the samples to the other. Distances to the nearest sample grow with the root of the area per
    sample, so those of all samples are sqrt(2), squared ones 2 times smaller.
    """
    half = rng.permutation(len(true.points)) % 2 == 0
    out: dict[str, float] = {}
    for when, q in (("now", true.q), ("novel", true.novel)):
        points = true.surface(q)
        pairs = [(points[half & own], points[~half & own]) for own in _shares(true.label)]
        found = _named(when, pairs)
        out |= {key: value / (2 if key.endswith("_sq") else np.sqrt(2)) for key, value in found.items()}
    return out


def _distances(points: np.ndarray, true_points: np.ndarray) -> tuple[float, float]:
    """Both Chamfer distances; that of a surface that is not there is a whole diagonal."""
    return chamfers(points, true_points) if len(points) else (MISSING, MISSING)


def _chamfers(
    when: str, parts: Sequence[Mesh], true: TrueObject, q: np.ndarray, samples: int, rng: np.random.Generator
) -> dict[str, float]:
    """Distances of the whole, the static and the moving parts; parts have their share of the whole's samples."""
    surface = true.surface(q)
    pick = rng.permutation(len(surface))[:samples]
    shares = _shares(true.label[pick])
    meshes = (merged(parts), *parts)
    pairs = [
        (sample_surface(m, int(own.sum()), rng), surface[pick][own]) for m, own in zip(meshes, shares, strict=True)
    ]
    return _named(when, pairs)


def _named(when: str, pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> dict[str, float]:
    """Distances between samples of the whole, of the static part, and their mean over the moving parts."""
    whole, static, *moving = (_distances(*pair) for pair in pairs)
    out: dict[str, float] = {}
    for part, (l1, squared) in {"w": whole, "s": static, "m": np.mean(moving, axis=0)}.items():
        out |= {f"{when}_{part}": float(l1), f"{when}_{part}_sq": float(squared)}
    return out


def _shares(label: np.ndarray) -> list[np.ndarray]:
    """Which samples (N,) belong to the whole, the static and each moving part."""
    return [label >= 0, *(label == k for k in range(label.max() + 1))]


def _moved(found: Estimate, T: np.ndarray, q: np.ndarray) -> list[Mesh]:
    """Parts at joint values q (J,), in the frame to which T (4, 4) leads from the base's."""
    return [transformed(mesh, own) for mesh, own in zip(found.parts, T @ placed(found.twists, q), strict=True)]


def _scaled(factor: float) -> np.ndarray:
    return np.diag([factor, factor, factor, 1.0])


def _angle_deg(A: np.ndarray, B: np.ndarray) -> float:
    """Angle between rotations (3, 3)."""
    chord = np.linalg.norm(A - B) / np.sqrt(8)  # sine of half the angle
    return float(np.degrees(2 * np.arcsin(min(chord, 1.0))))


def _between_deg(a: np.ndarray, b: np.ndarray) -> float:
    """Angle between directions (3,), 0 to 180."""
    return float(np.degrees(np.arctan2(np.linalg.norm(np.cross(a, b)), a @ b)))
