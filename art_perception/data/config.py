"""What to simulate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated


@dataclass(frozen=True, slots=True)
class SimulateConfig:
    """What to render."""

    frames: Annotated[int, "number of frames"] = 45
    rate_hz: Annotated[float, "frame rate"] = 15.0
    width: Annotated[int, "image width, pixels"] = 640
    height: Annotated[int, "image height, pixels"] = 480
    moving: Annotated[tuple[int, ...], "indices of the joints that move; empty = choose"] = ()
    moving_count: Annotated[int, "how many joints to choose when none is named"] = 1
    depth_noise: Annotated[float, "multiple of the nominal depth noise, 0 = exact"] = 1.0
    color_noise: Annotated[float, "multiple of the nominal image noise and lens blur, 0 = exact"] = 1.0
    shake: Annotated[float, "multiple of the nominal hand shake, 0 = smooth arc"] = 1.0
    arc_deg: Annotated[float, "largest arc the camera travels around the object"] = 35.0
    shutter: Annotated[float, "exposure as a share of the frame interval; motion blurs, 0 = sharp"] = 0.2
    depth_step_px: Annotated[int, "measure depth at every n-th pixel only and repeat it (coarse LiDAR)"] = 1
    pose_noise_m: Annotated[float, "deviation of the reported camera position: slow drift and some jitter"] = 0.0
    pose_noise_deg: Annotated[float, "deviation of the reported camera rotation per axis, likewise"] = 0.0
    clutter: Annotated[int, "number of things standing around"] = 4
    hand: Annotated[bool, "a hand and arm hold the moving part"] = False
    mask: Annotated[bool, "give the object's mask with each frame"] = True
    mask_error_px: Annotated[float, "how far the mask's outline wanders, 0 = exact"] = 0.0
