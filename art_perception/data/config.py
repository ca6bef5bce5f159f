"""What to simulate."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SimulateConfig:
    """What to render."""

    frames: int = 45
    """Number of frames."""
    rate_hz: float = 15.0
    """Frame rate."""
    width: int = 640
    """Image width, pixels."""
    height: int = 480
    """Image height, pixels."""
    moving: tuple[int, ...] = ()
    """Indices of the joints that move; empty = choose."""
    moving_count: int = 1
    """How many joints to choose when none is named."""
    depth_noise: float = 1.0
    """Multiple of the nominal depth noise, 0 = exact."""
    color_noise: float = 1.0
    """Multiple of the nominal image noise and lens blur, 0 = exact."""
    shake: float = 1.0
    """Multiple of the nominal hand shake, 0 = smooth arc."""
    arc_deg: float = 35.0
    """Largest arc the camera travels around the object."""
    shutter: float = 0.2
    """Exposure as a share of the frame interval; motion blurs, 0 = sharp."""
    depth_step_px: int = 1
    """Measure depth at every n-th pixel only and repeat it (coarse LiDAR)."""
    pose_noise_m: float = 0.0
    """Deviation of the reported camera position: slow drift and some jitter."""
    pose_noise_deg: float = 0.0
    """Deviation of the reported camera rotation per axis, likewise."""
    clutter: int = 4
    """Number of things standing around."""
    hand: bool = False
    """A hand and arm hold the moving part."""
    mask: bool = True
    """Give the object's mask with each frame."""
    mask_error_px: float = 0.0
    """How far the mask's outline wanders, 0 = exact."""
