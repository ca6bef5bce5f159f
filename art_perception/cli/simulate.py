"""``art-perception simulate``: a rendered bag with ground truth."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from art_perception.cli.options import parse
from art_perception.cli.progress import counted
from art_perception.data.config import SimulateConfig
from art_perception.data.objects import CATEGORIES, make_object
from art_perception.data.partnet import load_asset
from art_perception.data.simulate import Clip, simulate
from art_perception.io.bag import BagWriter
from art_perception.io.bag_writer import BagFormat
from art_perception.io.encode import ColorEncoding, DepthEncoding


@dataclass(frozen=True, slots=True)
class SimulateOptions:
    """Render a bag with ground truth from a procedural object or an asset folder."""

    out: Path
    """Folder of the recording; an earlier recording there is replaced."""
    category: Annotated[str, arg(help=f"Procedural object, one of {', '.join(CATEGORIES)}.")] = "laptop"
    asset: Path | None = None
    """Folder with a URDF and meshes, rendered instead of a procedural object."""
    seed: int = 0
    """Seed of the object, the motion, the camera and the noise."""
    format: BagFormat = "mcap"
    """Storage of the recording."""
    color: ColorEncoding = "jpeg"
    """Encoding of the colour images."""
    depth: DepthEncoding = "compressedDepth"
    """Encoding of the depth images."""
    clip: SimulateConfig = field(default_factory=SimulateConfig)


def main(arguments: list[str]) -> int:
    """Entry point of the command."""
    options = parse(SimulateOptions, "simulate", arguments)
    obj = load_asset(options.asset) if options.asset else make_object(options.category, options.seed)
    clip = simulate(obj, options.clip, options.seed)
    write_clip(clip, options)
    moving = [name for name, q in zip(clip.joint_names, clip.q.T, strict=True) if q.min() < q.max()]
    print(f"{options.out}: {len(clip)} frames of {obj.name} ({obj.category}), moving: {', '.join(moving)}")
    return 0


def write_clip(clip: Clip, options: SimulateOptions) -> None:
    """Render a clip into a recording.

    Raises:
        OutputError: the folder cannot be written.
    """
    writer = BagWriter(
        options.out,
        options.format,
        color=options.color,
        depth=options.depth,
        robot_description=clip.robot_description,
        joint_names=clip.joint_names,
    )
    with writer as bag:
        for sample in counted(clip, len(clip), "rendering"):
            bag.write(*sample)
