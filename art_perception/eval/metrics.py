"""Error measures between estimated and true articulation: pure functions of arrays.

Published definitions disagree (GAMMA, Ditto, sim2art and KineDiff3D each measure the axis position differently); these
are ours and the only ones in the project. Flipping an axis together with the sign of its state, sliding an origin
along its axis and renumbering parts change none of them.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.spatial import cKDTree

from art_perception.geometry.screw import closest_on_line, line_distance
from art_perception.types import JointType

MISSING_AXIS_DEG = 90.0
"""Axis error of a joint that was not found."""
MISSING_POSITION_CM = 100.0
"""Position error of a joint that was not found."""

_PARALLEL = 1e-6  # sine below which the common normal of two lines is not defined


def axis_angle_deg(axis: np.ndarray, true_axis: np.ndarray) -> float:
    """Angle in degrees, 0 to 90, between two unsigned directions (3,), which need not be unit vectors."""
    cosine = abs(axis @ true_axis) / (np.linalg.norm(axis) * np.linalg.norm(true_axis))
    return float(np.degrees(np.arccos(np.clip(cosine, 0.0, 1.0))))


def axis_position_cm(
    axis: np.ndarray, origin: np.ndarray, true_axis: np.ndarray, true_origin: np.ndarray, centroid: np.ndarray
) -> float:
    """Distance in centimetres between two rotation axes where it matters: at the part they move.

    The point of the estimated axis nearest to the true part's ``centroid`` (3,), measured to the true line. Axes are
    unit vectors (3,), origins points on them (3,), all in metres and one frame.
    """
    point = closest_on_line(centroid, origin, axis)
    return float(100.0 * line_distance(point, true_origin, true_axis))


def line_to_line_cm(axis: np.ndarray, origin: np.ndarray, true_axis: np.ndarray, true_origin: np.ndarray) -> float:
    """Shortest distance in centimetres between two infinite lines; parallel lines use their constant distance.

    Optimistic for axes that cross far from the object: reported beside :func:`axis_position_cm`, never instead of it.
    """
    normal = np.cross(axis, true_axis)
    sine = np.linalg.norm(normal)
    if sine < _PARALLEL:
        return float(100.0 * line_distance(origin, true_origin, true_axis))
    return float(100.0 * abs((origin - true_origin) @ normal) / sine)


def state_error(q: np.ndarray, true_q: np.ndarray, joint_type: JointType) -> float:
    """Mean absolute error of a joint's states (F,) in degrees (revolute) or centimetres (prismatic).

    Both curves start at zero (one offset), and the better of the two global signs is taken, because the sign of an axis
    is a convention.
    """
    a, b = q - q[0], true_q - true_q[0]
    error = min(np.abs(a - b).mean(), np.abs(a + b).mean())
    return in_display_units(float(error), joint_type)


def hold_last(q: np.ndarray) -> np.ndarray:
    """Joint values (F,) with every gap (NaN) filled by the value before it, zero before the first."""
    known = np.isfinite(q)
    last = np.maximum.accumulate(np.where(known, np.arange(len(q)), -1))
    return np.where(last >= 0, np.nan_to_num(q)[np.maximum(last, 0)], 0.0)


def in_display_units(value: float, joint_type: JointType) -> float:
    """Degrees of a revolute joint's radians, centimetres of a prismatic joint's metres."""
    return float(np.degrees(value)) if joint_type is JointType.REVOLUTE else 100.0 * value


def iou_matrix(predicted: np.ndarray, true: np.ndarray, predicted_ids: np.ndarray, true_ids: np.ndarray) -> np.ndarray:
    """Intersection over union (P, G) of every predicted part with every true part over the same samples (M,).

    Samples whose id is in neither list (background) still count in the union of the part that claims them.
    """
    p = np.asarray(predicted_ids)[:, None] == predicted.reshape(-1)
    g = np.asarray(true_ids)[:, None] == true.reshape(-1)
    both = p.astype(np.float64) @ g.T.astype(np.float64)
    union = p.sum(1)[:, None] + g.sum(1)[None, :] - both
    return both / np.maximum(union, 1)


def match(score: np.ndarray) -> list[tuple[int, int]]:
    """Assign rows to columns one to one with the largest total ``score``; pairs scoring 0 are left out."""
    rows, columns = linear_sum_assignment(score, maximize=True)
    return [(int(r), int(c)) for r, c in zip(rows, columns, strict=True) if score[r, c] > 0]


def mean_iou(iou: np.ndarray) -> float:
    """Mean IoU of optimally matched parts from an (P, G) IoU matrix; unmatched parts of either side count 0."""
    return float(sum(iou[p, g] for p, g in match(iou)) / max(iou.shape))


def chamfer_l1(points: np.ndarray, true_points: np.ndarray) -> float:
    """Chamfer-L1 x 1000 between two surface samples (N, 3) and (M, 3): mean of both directions' mean nearest distance.

    Metres in, millimetres out; the published tables use 30,000 samples per surface.
    """
    return chamfers(points, true_points)[0]


def chamfers(points: np.ndarray, true_points: np.ndarray) -> tuple[float, float]:
    """Chamfer distances x 1000 between two surface samples (N, 3) and (M, 3), in two conventions.

    L1, the mean of both directions' mean distance; squared, the sum of both directions' mean squared distance.
    """
    to_true, from_true = cKDTree(true_points).query(points)[0], cKDTree(points).query(true_points)[0]
    squared = (to_true**2).mean() + (from_true**2).mean()
    return float(500.0 * (to_true.mean() + from_true.mean())), float(1000.0 * squared)
