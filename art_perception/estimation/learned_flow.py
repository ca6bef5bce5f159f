"""Optical flow by a network the user has, e.g. RAFT (Teed and Deng, ECCV 2020) or SEA-RAFT (Wang et al., ECCV 2024)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from art_perception.errors import CheckpointError
from art_perception.torchscript import call, describe

_CELL = 8  # px


def learned_flow(path: str, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Flow from image ``a`` to image ``b``.

    Args:
        path: TorchScript file that maps two images (1, 3, H, W), RGB from 0 to 255, H and W multiples of 8, to the
            flow (1, 2, H, W), px to the right and down, or to ever better ones, the last of which counts.
        a: (h, w, 3) uint8 RGB.
        b: like ``a``.

    Returns:
        (h, w, 2) float32 px.

    Raises:
        CheckpointError: the file is missing, is no TorchScript, or gives no flow.
    """
    height, width = a.shape[:2]
    image = _whole_cells(a)
    found = call(path, image, _whole_cells(b))
    flow = found[-1] if isinstance(found, list | tuple) and found else found
    expected = (1, 2, *image.shape[2:])
    if not isinstance(flow, Tensor) or flow.shape != expected:
        raise CheckpointError(
            f"{path} gives {describe(flow)} for two images {describe(image)}: expected flow {expected} or a list of "
            "such, so export a flow network as docs/optional_inputs.md says"
        )
    return np.ascontiguousarray(flow[0, :, :height, :width].permute(1, 2, 0).float().numpy())


def _whole_cells(image: np.ndarray) -> Tensor:
    """Image as (1, 3, H, W) float32 with its last row and column repeated up to multiples of 8."""
    height, width = image.shape[:2]
    tensor = torch.as_tensor(image).permute(2, 0, 1)[None].float()
    return pad(tensor, (0, -width % _CELL, 0, -height % _CELL), mode="replicate")
