"""A quick estimate while frames still come, and whether a later estimate may take the place of an earlier one."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from art_perception.estimation.onset import Seen
from art_perception.pipeline import Config, Reconstruction
from art_perception.prior import NONE
from art_perception.types import Window

SLACK = 0.1  # certainty that an estimate from more motion, or a complete one, may lack


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """An estimate and its grounds.

    Attributes:
        reconstruction: the object.
        span_s: length of the clip behind it, s.
        seen: motion seen in that clip.
        complete: whether all stages ran on the whole window.
    """

    reconstruction: Reconstruction
    span_s: float
    seen: Seen
    complete: bool

    @property
    def complete_s(self) -> float:
        """Length of the clip that all stages ran on, s."""
        return self.span_s if self.complete else 0.0

    @property
    def guessed(self) -> bool:
        """Whether it is the shape prior's, nothing having moved."""
        return self.reconstruction.guessed

    @property
    def certainty(self) -> float:
        """Mean confidence of the valid joints; 0 without any."""
        valid = [joint.confidence for joint in self.reconstruction.object.joints if joint.valid]
        return float(np.mean(valid)) if valid else 0.0


def better_grounded(new: Found, old: Found) -> bool:
    """Whether ``new`` should take the place of ``old``: measured, from more motion, complete, or surer of joints."""
    if new.guessed != old.guessed:
        return old.guessed
    more = new.seen.share > old.seen.share or new.complete > old.complete
    return new.certainty >= old.certainty - SLACK * more


def early_config(config: Config) -> Config:
    """The same stages on small images with fewer draws, one look of the network, few parts, coarse meshes, no prior."""
    return replace(
        config,
        flow=replace(config.flow, width=min(config.flow.width, 160)),
        segment=replace(config.segment, hypotheses=min(config.segment.hypotheses, 40), max_parts=3),
        network=replace(config.network, spans=0),
        fuse=replace(config.fuse, cells_per_side=40, max_frames=12, max_faces=2000),
        prior=replace(config.prior, category=NONE),
    )


def thinned(window: Window, count: int) -> Window:
    """At most ``count`` frames of a window, evenly spread, the first and the last among them."""
    index = np.unique(np.linspace(0, len(window.frames) - 1, count).round().astype(int))
    return Window(tuple(window.frames[i] for i in index), window.fixed_frame)
