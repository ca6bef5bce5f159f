"""Image features of surface points from a backbone the user has, e.g. DINOv3 (Siméoni et al., arXiv 2508.10104).

The optional input d of sim2art (Artykov et al., arXiv 2512.07698v2). The backbone's licence decides who may have it,
so none is shipped or downloaded.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import grid_sample, interpolate

from art_perception.errors import CheckpointError
from art_perception.torchscript import call, describe

_PATCH = 16  # px
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, RGB


def point_features(path: str, channels: int, color: np.ndarray, pixels: np.ndarray) -> Tensor:
    """Features at the pixels that surface points were measured at, interpolated between patches.

    Args:
        path: TorchScript file that maps an image (1, 3, H, W), RGB normalised as ImageNet, H and W multiples of 16, to
            a feature map (1, C, H/16, W/16) or tokens (1, L, C), the last of which are the patches row by row.
        channels: C that the window network was trained with.
        color: (T, h, w, 3) uint8 RGB.
        pixels: (T, N) flat pixels.

    Returns:
        (T, N, C) float32.

    Raises:
        CheckpointError: the file is missing, is no TorchScript, or gives other features.
    """
    height, width = color.shape[1:3]
    images = torch.as_tensor(color).permute(0, 3, 1, 2) / 255
    images = (images - torch.tensor(_MEAN)[:, None, None]) / torch.tensor(_STD)[:, None, None]
    images = interpolate(images, (_whole_patches(height), _whole_patches(width)), mode="bilinear")
    # one image at a time, because an exported network may be tied to that
    maps = torch.cat([_feature_map(path, channels, image) for image in images.split(1)])
    row, column = np.divmod(pixels, width)
    at = np.stack([(2 * column + 1) / width - 1, (2 * row + 1) / height - 1], -1).astype(np.float32)
    sampled = grid_sample(maps, torch.as_tensor(at)[:, :, None], padding_mode="border", align_corners=False)
    return sampled[..., 0].mT


def _whole_patches(size: int) -> int:
    return _PATCH * math.ceil(size / _PATCH)


def _feature_map(path: str, channels: int, image: Tensor) -> Tensor:
    """Features (1, C, H/16, W/16) of an image (1, 3, H, W)."""
    rows, columns = (size // _PATCH for size in image.shape[2:])
    found = call(path, image)
    features = found
    if isinstance(found, Tensor) and found.ndim == 3 and found.shape[1] >= rows * columns:
        features = found[:, -rows * columns :].mT.unflatten(-1, (rows, columns))
    if not isinstance(features, Tensor) or features.shape[:1] + features.shape[2:] != (1, rows, columns):
        raise CheckpointError(
            f"{path} gives {describe(found)} for an image {describe(image)}, expected were tokens "
            f"(1, {rows * columns} or more, C) or a map (1, C, {rows}, {columns}): give a backbone with 16 px patches"
        )
    if features.shape[1] != channels:
        raise CheckpointError(
            f"{path} gives {features.shape[1]} features per patch, the network's weights need {channels}: "
            "give the backbone that they were trained with"
        )
    return features.float()
