"""What a depth camera and a colour camera do to a perfect image."""

from __future__ import annotations

import cv2
import numpy as np


def noisy_depth(depth_m: np.ndarray, cosine: np.ndarray, noise: float, rng: np.random.Generator) -> np.ndarray:
    """Measure a perfect depth map (H, W) as a structured-light or stereo camera would.

    Axial noise sigma = (0.4 + 1.4 z^2) mm times ``noise`` (after Nguyen et al., "Modeling Kinect sensor noise", 2012),
    correlated over about two pixels; quantisation grows with z^2; edges are ragged, some of their pixels fly between
    foreground and background or drop out; grazing surfaces and the far range leave holes. ``noise`` = 0 returns the
    input.

    Args:
        depth_m: (H, W) float32, 0 = nothing hit.
        cosine: (H, W) cosine between viewing ray and surface normal.
        noise: multiple of the nominal noise.
        rng: randomness.
    """
    if noise <= 0:
        return depth_m.astype(np.float32)
    z = _ragged_edges(depth_m, noise, rng)
    sigma = 1e-3 * noise * (0.4 + 1.4 * z * z) / np.clip(cosine, 0.3, 1)
    z = z + sigma * _correlated(depth_m.shape, rng)
    step = np.maximum(0.0005, 0.0012 * noise * depth_m**2)
    z = np.rint(z / step) * step
    hole = (depth_m <= 0) | (rng.random(depth_m.shape) < _dropout(depth_m, cosine, noise, rng))
    return np.where(hole, 0, z).astype(np.float32)


def sparse_depth(depth_m: np.ndarray, step_px: int) -> np.ndarray:
    """Keep every ``step_px``-th measurement and repeat it over its block, as phones with a coarse LiDAR do."""
    if step_px <= 1:
        return depth_m
    half = step_px // 2
    height, width = depth_m.shape
    coarse = depth_m[half::step_px, half::step_px]
    rows = np.minimum(np.arange(height) // step_px, coarse.shape[0] - 1)
    columns = np.minimum(np.arange(width) // step_px, coarse.shape[1] - 1)
    return coarse[rows[:, None], columns]


def noisy_mask(mask: np.ndarray, error_px: float, rng: np.random.Generator) -> np.ndarray:
    """Shift the outline of a mask (H, W) bool in and out by about ``error_px``, as segmentation networks do."""
    if error_px <= 0:
        return mask
    inside, outside = (cv2.distanceTransform(m.astype(np.uint8), cv2.DIST_L2, 3) for m in (mask, ~mask))
    coarse = rng.standard_normal((mask.shape[0] // 16 + 2, mask.shape[1] // 16 + 2), np.float32)
    wander = cv2.resize(coarse, mask.shape[::-1], interpolation=cv2.INTER_CUBIC)
    return inside - outside > error_px * wander


def _correlated(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Unit-variance noise, part per pixel and part smooth over a few pixels."""
    white = rng.standard_normal(shape, np.float32)
    smooth = cv2.GaussianBlur(rng.standard_normal(shape, np.float32), (0, 0), 1.5)
    return 0.5 * white + (0.75**0.5 / 0.187) * smooth


def _ragged_edges(depth_m: np.ndarray, noise: float, rng: np.random.Generator) -> np.ndarray:
    """Look depth up at slightly shifted pixels, so that silhouettes wobble; a few edge pixels average both sides."""
    height, width = depth_m.shape
    shift = 0.45 * min(noise, 2.0)
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    x += shift * rng.standard_normal(depth_m.shape, np.float32)
    y += shift * rng.standard_normal(depth_m.shape, np.float32)
    z = cv2.remap(depth_m, x, y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)
    between = cv2.blur(depth_m, (3, 3))
    flying = (np.abs(between - depth_m) > 0.01 * depth_m) & (rng.random(depth_m.shape) < 0.08 * noise)
    return np.where(flying, between, z)


def _dropout(depth_m: np.ndarray, cosine: np.ndarray, noise: float, rng: np.random.Generator) -> np.ndarray:
    """Chance (H, W) of no measurement: at depth steps, at grazing angles, in drifting blobs, beyond 5 m."""
    spread = cv2.dilate(depth_m, np.ones((3, 3))) - cv2.erode(depth_m, np.ones((3, 3)))
    edge = (spread > 0.03 * np.maximum(depth_m, 0.1)).astype(np.float32)
    grazing = np.clip((0.2 - cosine) / 0.2, 0, 1)
    blob = cv2.resize(rng.standard_normal((12, 16), np.float32), depth_m.shape[::-1], interpolation=cv2.INTER_CUBIC)
    return noise * (0.3 * edge + 0.7 * grazing + 0.002 + 0.25 * (blob > 2.2)) + (depth_m > 6)


def camera_image(
    linear: np.ndarray, gain: float, white_balance: np.ndarray, noise: float, blur_px: float, rng: np.random.Generator
) -> np.ndarray:
    """Develop linear light (H, W, 3) into an 8-bit image: lens blur, exposure, shot and read noise, gamma."""
    image = cv2.GaussianBlur(linear, (0, 0), blur_px) if blur_px > 0 else linear
    image = image * (gain * white_balance).astype(np.float32)
    if noise > 0:
        sigma = noise * np.sqrt(2e-5 + 4e-4 * np.maximum(image, 0))
        image = image + sigma * rng.standard_normal(image.shape, np.float32)
    image = np.clip(image, 0, 1) ** np.float32(1 / 2.2)
    return np.rint(image * 255).astype(np.uint8)
