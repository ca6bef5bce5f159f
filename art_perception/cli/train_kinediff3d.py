"""``art-perception train kinediff3d``: train the networks of KineDiff3D, stage by stage; resumable and parallel."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Literal

import torch
import torch.distributed as dist
from tqdm import tqdm
from tyro.conf import Positional

from art_perception.cli.options import parse
from art_perception.data.bank import training_objects
from art_perception.data.clouds import CloudsConfig
from art_perception.data.partial import ViewsConfig
from art_perception.data.sdf import SdfConfig
from art_perception.data.shape_bank import (
    ShapeBank,
    ShapeBankConfig,
    load_shape_bank,
    make_shape_bank,
    save_shape_bank,
    shapes_of,
)
from art_perception.errors import UsageError
from art_perception.models.checkpoint import load_kinematic_vae
from art_perception.models.kinematic_vae import KinematicVaeConfig
from art_perception.models.latent_diffusion import LatentNetworkConfig
from art_perception.models.point_encoder import PointEncoderConfig
from art_perception.models.pose_diffusion import PoseLoss, PoseNetworkConfig
from art_perception.train.census import CensusConfig, take_census
from art_perception.train.latent import LatentRecipe, LatentTrainConfig, train_latent
from art_perception.train.pose import PoseRecipe, PoseTrainConfig, train_pose
from art_perception.train.run import world
from art_perception.train.vae import VaeRecipe, VaeTrainConfig, train_vae

Source = Literal["procedural", "infinigen", "partnet"]
GPU = VaeRecipe(
    model=KinematicVaeConfig(encoder=512, code=512, width=384, layers=8),
    clouds=CloudsConfig(points=2048, labelled=1024, queries=2048),
    train=VaeTrainConfig(steps=150_000, batch=64, rate=5e-4, warmup=1000, validate_every=2000),
)
GPU_POSE = PoseRecipe(
    model=PoseNetworkConfig(PointEncoderConfig((256, 48), (32, 24), (0.25, 0.7), 256), width=768, layers=6),
    views=ViewsConfig(points=1024),
    loss=PoseLoss(draws=16),
    train=PoseTrainConfig(steps=200_000, batch=128, rate=5e-4, warmup=1000, validate_every=2000),
)
GPU_LATENT = LatentRecipe(
    model=LatentNetworkConfig(PointEncoderConfig((256, 64), (32, 24), (0.1, 0.3), 256), width=384, layers=8, heads=8),
    views=ViewsConfig(points=1024),
    clouds=CloudsConfig(points=2048, labelled=1, queries=1),
    train=LatentTrainConfig(steps=150_000, batch=128, rate=5e-4, warmup=1000, validate_every=2000),
)
VAE_SHOWN = ("step", "objects_per_s", "loss", "sdf", "miou", "state", "axis", "chamfer")
POSE_SHOWN = ("step", "views_per_s", "loss", "rotation", "translation", "state", "axis", "position")
LATENT_SHOWN = ("step", "views_per_s", "loss", "latent", "chamfer", "chamfer_own", "chamfer_prior")
HELD_OUT_POINTS = 30_000
"""Surface points of held-out objects: as many as Chamfer distances are published with."""


@dataclass(frozen=True, slots=True)
class Kinediff3dOptions:
    """Train a network of KineDiff3D; a second call with the same --out continues where the first one stopped."""

    network: Positional[Literal["kinediff3d"]]
    """Which network."""
    out: Path
    """Folder for packed shapes, weights, state and learning curve."""
    stage: Literal["vae", "pose", "latent", "census"] = "vae"
    """``vae``: the shape prior; ``pose``: pose and joints from one view; ``latent``: the shape from one view;
    ``census``: no training, what `art-perception generate` draws new objects from."""
    preset: Literal["cpu", "gpu"] = "cpu"
    """``cpu``: a network that trains in hours on two cores; ``gpu``: a larger one. It sets the recipe's defaults."""
    assets: Path | None = None
    """Folder that holds partnet_mobility/ or infinigen/ or both; without it only procedural objects are used."""
    sources: tuple[Source, ...] = ("procedural", "infinigen", "partnet")
    """Which of the objects to learn from."""
    seeds: int = 150
    """Procedural objects per category."""
    device: Literal["cpu", "cuda"] = "cuda" if torch.cuda.is_available() else "cpu"
    """Where to train."""
    shapes: ShapeBankConfig = field(default_factory=ShapeBankConfig)
    sdf: SdfConfig = field(default_factory=SdfConfig)


@dataclass(frozen=True, slots=True)
class _VaeOptions(Kinediff3dOptions):
    __doc__ = Kinediff3dOptions.__doc__

    init: Path | None = None
    """Weights to start from."""
    recipe: VaeRecipe = field(default_factory=VaeRecipe)


@dataclass(frozen=True, slots=True)
class _GpuVaeOptions(_VaeOptions):
    __doc__ = Kinediff3dOptions.__doc__

    recipe: VaeRecipe = GPU


@dataclass(frozen=True, slots=True)
class _PoseOptions(Kinediff3dOptions):
    __doc__ = Kinediff3dOptions.__doc__

    recipe: PoseRecipe = field(default_factory=PoseRecipe)


@dataclass(frozen=True, slots=True)
class _GpuPoseOptions(_PoseOptions):
    __doc__ = Kinediff3dOptions.__doc__

    recipe: PoseRecipe = GPU_POSE


@dataclass(frozen=True, slots=True)
class _LatentOptions(Kinediff3dOptions):
    __doc__ = Kinediff3dOptions.__doc__

    vae: Path = field(kw_only=True)
    """Weights of the shape prior whose latents are learnt."""
    recipe: LatentRecipe = field(default_factory=LatentRecipe)


@dataclass(frozen=True, slots=True)
class _GpuLatentOptions(_LatentOptions):
    __doc__ = Kinediff3dOptions.__doc__

    recipe: LatentRecipe = GPU_LATENT


@dataclass(frozen=True, slots=True)
class _CensusOptions(Kinediff3dOptions):
    __doc__ = Kinediff3dOptions.__doc__

    vae: Path = field(kw_only=True)
    """Weights of the shape prior whose objects are counted."""
    census: CensusConfig = field(default_factory=CensusConfig)


Options = _VaeOptions | _PoseOptions | _LatentOptions | _CensusOptions
_CLASSES: dict[tuple[str, str], type[Options]] = {
    ("vae", "cpu"): _VaeOptions,
    ("vae", "gpu"): _GpuVaeOptions,
    ("pose", "cpu"): _PoseOptions,
    ("pose", "gpu"): _GpuPoseOptions,
    ("latent", "cpu"): _LatentOptions,
    ("latent", "gpu"): _GpuLatentOptions,
    ("census", "cpu"): _CensusOptions,
    ("census", "gpu"): _CensusOptions,
}


def main(arguments: list[str]) -> int:
    """Entry point of the command."""
    options = read_options(arguments)
    if options.device == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda was asked for but torch finds no GPU: use --device cpu")
    start = options.vae if isinstance(options, _LatentOptions | _CensusOptions) else getattr(options, "init", None)
    if start is not None:
        load_kinematic_vae(start)  # a wrong file is said before shapes are packed for minutes
    rank, processes = world(options.device)
    if options.device == "cpu" and processes > 1:
        torch.set_num_threads(1)
    training = packed(options, "train", options.seeds, options.shapes).from_sources(options.sources)
    if isinstance(options, _CensusOptions):
        print(f"census:  {take_census(options.vae, training, options.census, options.out)}")
        return 0
    held_out = packed(options, "val", max(1, options.seeds // 16), replace(options.shapes, points=HELD_OUT_POINTS))
    path = _trained(options, training, held_out)
    if rank == 0:
        print(f"weights: {path}\ncurve:   {options.out / 'curve.png'}")
    if dist.is_initialized():
        dist.destroy_process_group()
    return 0


def _trained(options: _VaeOptions | _PoseOptions | _LatentOptions, training: ShapeBank, held_out: ShapeBank) -> Path:
    """Run the stage that is asked for."""
    out, device = options.out, options.device
    if isinstance(options, _PoseOptions):
        return train_pose(options.recipe, training, held_out, out, device, partial(_report, POSE_SHOWN))
    if isinstance(options, _LatentOptions):
        shown = partial(_report, LATENT_SHOWN)
        return train_latent(options.recipe, options.vae, training, held_out, out, device, shown)
    return train_vae(options.recipe, training, held_out, out, device, options.init, partial(_report, VAE_SHOWN))


def read_options(arguments: list[str]) -> Options:
    """Options of the stage, with the defaults of the preset, that are asked for."""
    first_look = ArgumentParser(add_help=False, allow_abbrev=False)
    first_look.add_argument("--preset", nargs="?", default="cpu")
    first_look.add_argument("--stage", nargs="?", default="vae")
    known, _ = first_look.parse_known_args(arguments)
    return parse(_CLASSES.get((known.stage, known.preset), _VaeOptions), "train", arguments)


def packed(options: Kinediff3dOptions, split: str, seeds: int, config: ShapeBankConfig) -> ShapeBank:
    """The shapes of a split, made once and kept in the output folder."""
    path = options.out / f"{split}_shapes.npz"
    if not path.exists() and world(options.device)[0] == 0:
        samples = shapes_of(training_objects(options.assets, split, seeds), config)
        with tqdm(desc=f"shapes, {split}", unit=" objects") as bar:
            bank = make_shape_bank(samples, config, options.sdf, _ticking(bar))
        options.out.mkdir(parents=True, exist_ok=True)
        staging = path.with_suffix(".partial.npz")
        save_shape_bank(staging, bank)
        staging.replace(path)
    if dist.is_initialized():
        dist.barrier()
    return load_shape_bank(path)


def _ticking(bar: tqdm) -> Callable[[str], None]:
    def tick(name: str) -> None:
        bar.update()
        bar.set_postfix_str(name)

    return tick


def _report(shown: Sequence[str], row: dict[str, float]) -> None:
    print("  ".join(f"{name} {row[name]:.4g}" for name in shown), file=sys.stderr, flush=True)
