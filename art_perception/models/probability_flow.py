"""The probability-flow ODE of a variance-exploding diffusion, solved by RK45."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from art_perception.errors import CheckpointError

# Dormand & Prince, "A family of embedded Runge-Kutta formulae", 1980, Table 2
_A = (
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
)
_C = (1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0, 1.0)
_ERROR = (71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40)
_MOST_STEPS = 500


def probability_flow(
    denoised: Callable[[Tensor, float], Tensor], y: Tensor, sigma_max: float, sigma_min: float, tolerance: float
) -> Tensor:
    """Carry samples of the noise distribution to samples of the data.

    Solves dy = -sigma score(y) dsigma (Song et al., 2021; between Eq. 4 and 5 of KineDiff3D). In s = log(sigma) that
    is dy/ds = y - denoised(y, sigma), which stays of one size all the way.

    Args:
        denoised: expected data (any shape) of noisy samples of that shape at a noise level.
        y: samples at noise level ``sigma_max``.
        sigma_max: where to begin.
        sigma_min: where to end.
        tolerance: relative and absolute, of the RMS error of a step.

    Raises:
        CheckpointError: the denoiser is so rough that 500 steps are not enough.
    """
    s, end = math.log(sigma_max), math.log(sigma_min)

    def slope(s: float, y: Tensor) -> Tensor:
        return y - denoised(y, math.exp(s))

    step, first = -min(0.5, s - end), slope(s, y)
    for _ in range(_MOST_STEPS):
        step = max(step, end - s)
        after, slopes = _stages(slope, s, y, first, step)
        error = step * sum(e * k for e, k in zip(_ERROR, slopes, strict=True))
        scale = tolerance * (1 + torch.maximum(y.abs(), after.abs()))
        ratio = float((error / scale).square().mean().sqrt())
        if ratio <= 1:
            s, y, first = s + step, after, slopes[-1]
        if s <= end + 1e-9:
            return y
        step *= min(5.0, max(0.2, 0.9 * max(ratio, 1e-9) ** -0.2))
    raise CheckpointError("the pose network's field cannot be integrated: the weights are damaged or hardly trained")


def _stages(
    slope: Callable[[float, Tensor], Tensor], s: float, y: Tensor, first: Tensor, step: float
) -> tuple[Tensor, list[Tensor]]:
    """State after a step of fifth order, and the slopes of all seven stages, the last one at that state."""
    slopes, at = [first], y
    for row, c in zip(_A, _C, strict=True):
        at = y + step * sum(a * k for a, k in zip(row, slopes, strict=True))
        slopes.append(slope(s + c * step, at))
    return at, slopes
