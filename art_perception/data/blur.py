"""Motion blur along the exact motion in the image."""

from __future__ import annotations

import cv2
import numpy as np

from art_perception.data.raycast import Hits
from art_perception.geometry.camera import project, unproject
from art_perception.geometry.lie import inverse

TAPS = 5
COARSE = 4
"""Motion is computed on every fourth pixel; it is smooth but at silhouettes, where blur mixes both sides anyway."""


def image_motion(hits: Hits, K: np.ndarray, T_camera_body: np.ndarray, T_camera_body_next: np.ndarray) -> np.ndarray:
    """Pixels (H, W, 2) float32 that what each pixel sees moves by until the next frame.

    Args:
        hits: what the pixels see.
        K: (3, 3) camera matrix.
        T_camera_body: (B, 4, 4) body poses in the camera now.
        T_camera_body_next: (B, 4, 4) the same one frame later.
    """
    height, width = hits.depth_m.shape
    points = unproject(hits.depth_m, K)[::COARSE, ::COARSE]
    body = hits.body[::COARSE, ::COARSE]
    step = T_camera_body_next @ inverse(T_camera_body)
    moved = np.einsum("hwij,hwj->hwi", step[np.maximum(body, 0), :3, :3], points) + step[np.maximum(body, 0), :3, 3]
    v, u = np.mgrid[0:height:COARSE, 0:width:COARSE]
    flow = np.where((body >= 0)[..., None], project(moved, K) - np.stack([u, v], -1), 0)
    return cv2.resize(flow.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)


def motion_blur(image: np.ndarray, motion_px: np.ndarray, shutter: float) -> np.ndarray:
    """Average ``image`` (H, W, 3) float32 along ``motion_px`` (H, W, 2) times ``shutter``, centred on the capture."""
    height, width = image.shape[:2]
    v, u = np.mgrid[0:height, 0:width].astype(np.float32)
    total = np.zeros_like(image)
    for share in np.linspace(-0.5, 0.5, TAPS, dtype=np.float32):
        x, y = u + shutter * share * motion_px[..., 0], v + shutter * share * motion_px[..., 1]
        total += cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return total / TAPS
