"""Values of a joint whose axis is known, in every frame of a window, by search.

Gauss-Newton follows a part only from one frame to the next; where a door turns edge-on it loses the thread, and
what is proposed from half a recording says nothing of the other half. With the axis known one number per frame is
left: all of its range is tried, and dynamic programming picks the path (Viterbi 1967; Bellman 1957).
"""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from art_perception.estimation.dense import DenseWindow, project_rounded
from art_perception.estimation.explain import Surface
from art_perception.estimation.joint_fit import Motion
from art_perception.geometry.lie import inverse
from art_perception.types import JointType

_TURN = np.deg2rad(np.arange(-198, 199, 3.0))
_SLIDES = 161  # values of a slide that are tried, over the extent of what moved, both ways
_CLOUD = 300  # points of the part that are looked for in every frame
_JURY = 100  # changed points of a frame that look for the part
_NEAR_M = 0.03  # from here on a changed point does not belong to the part
_SLACK_M = 0.012  # and four times the noise: how far behind a point a surface may be without being seen through it
_HIDDEN = 0.3  # cost of a point that another surface hides or is taken for; seeing through it costs 1
_HASTE = 5.0  # cost of crossing the whole range between two frames


def joint_values(
    dense: DenseWindow,
    still: np.ndarray,
    changed: Surface,
    cloud: np.ndarray,
    motion: Motion,
    T_parent_camera: np.ndarray,
    noise_m: float,
) -> np.ndarray:
    """Values (T,) of ``motion`` that put the part where each frame saw something that does not stand still.

    Args:
        dense: the window.
        still: (T, h, w) bool, surface that stands still as far as depth tells.
        changed: surface that does not stand still, points in the fixed frame of ``T_parent_camera``; the frames it
            has points in are searched, between them values are interpolated.
        cloud: (n, 3) the part's points at value zero, parent frame.
        motion: type, axis and origin of the joint.
        T_parent_camera: (T, 4, 4) camera poses in the parent's frame.
        noise_m: depth noise at the median depth, metres.
    """
    rng = np.random.default_rng(0)
    grid = _grid(motion, changed.points)
    D = motion.displacement(grid)
    tree, cloud = cKDTree(cloud), cloud[rng.permutation(len(cloud))[:_CLOUD]]
    moved = np.einsum("gij,nj->gni", D[:, :3, :3], cloud) + D[:, None, :3, 3]
    frames = np.unique(changed.frame)
    cost = np.zeros((len(frames), len(grid)))
    for n, t in enumerate(frames):
        own = rng.permutation(np.flatnonzero(changed.frame == t))[:_JURY]
        cost[n] = _contradiction(dense, still, int(t), moved, T_parent_camera[t], _SLACK_M + 4 * noise_m)
        cost[n] += _unclaimed(tree, changed.points[own], D)
    q = grid[_path(cost, _HASTE / len(grid))]
    q = np.interp(np.arange(len(T_parent_camera)), frames, q)
    return q - q[0]


def values_of(points: np.ndarray, frame: np.ndarray, motion: Motion, count: int) -> np.ndarray:
    """Values (T,) of ``motion`` that put a part where its own points are, interpolated in between.

    Args:
        points: (n, 3) what is known to be the part's, parent frame.
        frame: (n,) the frame each was seen in.
        motion: type, axis and origin of the joint.
        count: frames T of the window.
    """
    grid = _grid(motion, points)
    D = motion.displacement(grid)
    frames, index = np.unique(frame, return_inverse=True)
    tree = cKDTree(points[index == np.bincount(index).argmax()])
    cost = np.stack([_unclaimed(tree, points[index == n], D) for n in range(len(frames))])
    q = np.interp(np.arange(count), frames, grid[_path(cost, _HASTE / len(grid))])
    return q - q[0]


def _grid(motion: Motion, changed: np.ndarray) -> np.ndarray:
    if motion.type is JointType.REVOLUTE:
        return _TURN
    reach = float(np.ptp(changed @ motion.axis))
    return np.linspace(-reach, reach, _SLIDES)


def _contradiction(
    dense: DenseWindow, still: np.ndarray, t: int, moved: np.ndarray, pose: np.ndarray, slack_m: float
) -> np.ndarray:
    """Mean cost (G,) of the part at every place (G, n, 3): what frame ``t`` saw through it, or in its stead.

    Of a part seen edge-on a pixel or less is left, so a point is seen through where its neighbours are as well. Along
    a surface that stands still a part is no better placed than behind it: an open flap is no wall below its hinge.
    """
    back = inverse(pose)
    camera = moved @ back[:3, :3].T + back[:3, 3]
    v, u, inside = project_rounded(camera, dense.K, dense.depth_m.shape[1:])
    measured = dense.depth_m[t, v, u]
    nearest = dense.nearest_m[t, v, u]
    slack = slack_m + dense.slack_m[t, v, u]
    known = inside & (measured > 0)
    seen = known & (np.abs(measured - camera[..., 2]) <= slack) & ~still[t, v, u]
    return np.where(known & (nearest - camera[..., 2] > slack), 1.0, np.where(seen, 0.0, _HIDDEN)).mean(1)


def _unclaimed(tree: cKDTree, points: np.ndarray, D: np.ndarray) -> np.ndarray:
    """Mean distance (G,), as a share of the largest, of changed points (n, 3) to the part at displacements D."""
    back = inverse(D)
    at_zero = np.einsum("gij,nj->gni", back[:, :3, :3], points) + back[:, None, :3, 3]
    distance = tree.query(at_zero.reshape(-1, 3), distance_upper_bound=_NEAR_M)[0]
    return np.minimum(distance / _NEAR_M, 1).reshape(len(D), -1).mean(1)


def _path(cost: np.ndarray, step: float) -> np.ndarray:
    """Cheapest sequence (T,) of columns of ``cost`` (T, G) when every column crossed costs ``step``."""
    column = np.arange(cost.shape[1])
    change = step * np.abs(column[:, None] - column)
    total, origins = cost[0], []
    for row in cost[1:]:
        through = total + change
        origins.append(through.argmin(1))
        total = through.min(1) + row
    path = [int(total.argmin())]
    for origin in reversed(origins):
        path.append(int(origin[path[-1]]))
    return np.array(path[::-1])
