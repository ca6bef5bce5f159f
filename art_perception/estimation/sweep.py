"""The cost of an image at many poses of a few parts, everything else standing still.

What stands still is projected once; per pose only the moved parts are, and both are checked for hiding each other.
"""

from __future__ import annotations

import numpy as np

from art_perception.estimation.frame_view import SELF_OCCLUSION_M, FrameView
from art_perception.estimation.surfels import Surfels


class Sweep:
    """Costs of one frame as the parts ``moved`` (P,) bool take different poses."""

    def __init__(
        self, view: FrameView, surfels: Surfels, shade: np.ndarray, T: np.ndarray, moved: np.ndarray, tolerance_m: float
    ) -> None:
        """Prepare the parts that stand still.

        Args:
            view: the frame.
            surfels: the model.
            shade: (3, P) colour offsets.
            T: (P, 4, 4) poses of the parts in the optical frame.
            moved: (P,) which of them will vary.
            tolerance_m: distance that always counts as agreement, metres.
        """
        self._view, self._shade, self._tolerance_m = view, shade, tolerance_m
        p, n = surfels.posed(T)
        self._cell_px = view.cell_px(p, surfels.spacing_m)
        varies = moved[surfels.part]
        self._moving = surfels.subset(varies)
        p, n, self._cell, cost = self._layer(surfels.subset(~varies), p[:, ~varies], n[:, ~varies])
        self._front = view.front(p, n, self._cell, self._cell_px)
        visible = ~self._front.hides(p, self._cell)
        self._p, self._cell, self._cost = p[:, visible], self._cell[visible], cost[visible]

    def _layer(
        self, surfels: Surfels, p: np.ndarray, n: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Points, normals, image cells and costs of the surfels that face the camera."""
        index, cell = self._view.facing(p, n, self._cell_px)
        p, n = p[:, index], n[:, index]
        reading = self._view.read(p, n, self._tolerance_m)
        return p, n, cell, self._view.costs(surfels.subset(index), reading, self._shade)

    def cost(self, T: np.ndarray) -> tuple[float, int]:
        """Total cost with the moved parts at ``T`` (P, 4, 4), and how many surfels were visible.

        With a tolerance, a moved surfel that coincides with a still one explains nothing new and is left out.
        """
        p, n, cell, cost = self._layer(self._moving, *self._moving.posed(T))
        front = self._view.front(p, n, cell, self._cell_px)
        margin_m = -self._tolerance_m if self._tolerance_m else SELF_OCCLUSION_M
        visible = ~(self._front.hides(p, cell, margin_m) | front.hides(p, cell))
        still = ~front.hides(self._p, self._cell)
        return float(cost[visible].sum() + self._cost[still].sum()), int(visible.sum() + still.sum())
