"""``art-perception train kinediff3d``: train the networks of KineDiff3D, stage by stage; resumable and parallel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Literal

from tqdm import tqdm
from tyro import MISSING

from art_perception.cli.options import parse
from art_perception.cli.training import R, TrainOptions, asked, check_device, kept, run
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
from art_perception.models.checkpoint import load_kinematic_vae
from art_perception.models.kinematic_vae import KinematicVaeConfig
from art_perception.models.latent_diffusion import LatentNetworkConfig
from art_perception.models.point_encoder import PointEncoderConfig
from art_perception.models.pose_diffusion import PoseLoss, PoseNetworkConfig
from art_perception.train.census import CensusConfig, take_census
from art_perception.train.latent import LatentRecipe, LatentTrainConfig, latent_stage, start_latent
from art_perception.train.pose import PoseRecipe, PoseTrainConfig, pose_stage, start_pose
from art_perception.train.stage import Stage
from art_perception.train.vae import VaeRecipe, VaeTrainConfig, start_vae, vae_stage

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
HELD_OUT_POINTS = 30_000
"""Surface points of held-out objects: as many as Chamfer distances are published with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kinediff3dOptions(TrainOptions[R]):
    """Train a network of KineDiff3D; a second call with the same --out continues where the first one stopped."""

    seeds: int = 150
    """Procedural objects per category."""
    stage: Literal["vae", "pose", "latent", "census"] = "vae"
    """``vae``: the shape prior; ``pose``: pose and joints from one view; ``latent``: the shape from one view;
    ``census``: no training, what `art-perception generate` draws new objects from."""
    shapes: ShapeBankConfig = field(default_factory=ShapeBankConfig)
    sdf: SdfConfig = field(default_factory=SdfConfig)


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentOptions(Kinediff3dOptions[LatentRecipe]):
    """Train a network of KineDiff3D; a second call with the same --out continues where the first one stopped."""

    vae: Path
    """Weights of the shape prior whose latents are learnt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CensusOptions(Kinediff3dOptions[CensusConfig]):
    """Count the objects that a shape prior was trained on."""

    vae: Path
    """Weights of the shape prior whose objects are counted."""


Options = Kinediff3dOptions[VaeRecipe] | Kinediff3dOptions[PoseRecipe] | LatentOptions


def main(arguments: list[str]) -> int:
    """Entry point of the command."""
    options = read_options(arguments)
    if isinstance(options, CensusOptions):
        return _count(options)
    check_device(options.device)
    make = _stage(options)

    def stage() -> Stage:
        training = training_shapes(options)
        held_out = replace(options.shapes, points=HELD_OUT_POINTS)
        return make(training, packed(options, "val", max(1, options.seeds // 16), held_out))

    return run(options, stage)


def training_shapes(options: Options | CensusOptions) -> ShapeBank:
    """Samples of the chosen sources, and their mirror images."""
    bank = packed(options, "train", options.seeds, options.shapes)
    return bank.from_sources(options.sources).with_mirror_images()


def _count(options: CensusOptions) -> int:
    prior = load_kinematic_vae(options.vae)[0]
    objects = training_shapes(options)
    print(f"census:  {take_census(prior, objects, options.recipe, options.out)}")
    return 0


def _stage(options: Options) -> Callable[[ShapeBank, ShapeBank], Stage]:
    """What makes the stage of its objects; a wrong file of weights is said before shapes are packed for minutes."""
    device, init = options.device, options.init
    if isinstance(options, LatentOptions):
        latent, prior = options.recipe, load_kinematic_vae(options.vae)[0]
        begin = start_latent(init, latent, prior) if init else None
        return partial(latent_stage, latent, prior, device=device, start=begin)
    recipe = options.recipe
    if isinstance(recipe, PoseRecipe):
        return partial(pose_stage, recipe, device=device, start=start_pose(init, recipe) if init else None)
    return partial(vae_stage, recipe, device=device, start=start_vae(init, recipe) if init else None)


def read_options(arguments: list[str]) -> Options | CensusOptions:
    """Options of the stage, with the defaults of the preset, that are asked for."""
    gpu = asked(arguments, "preset") == "gpu"
    match asked(arguments, "stage"):
        case "pose":
            pose = Kinediff3dOptions(network=MISSING, out=MISSING, recipe=GPU_POSE if gpu else PoseRecipe())
            return parse(Kinediff3dOptions[PoseRecipe], "train", arguments, pose)
        case "latent":
            recipe = GPU_LATENT if gpu else LatentRecipe()
            latent = LatentOptions(network=MISSING, out=MISSING, vae=MISSING, recipe=recipe)
            return parse(LatentOptions, "train", arguments, latent)
        case "census":
            census = CensusOptions(network=MISSING, out=MISSING, vae=MISSING, recipe=CensusConfig())
            return parse(CensusOptions, "train", arguments, census)
        case _:
            vae = Kinediff3dOptions(network=MISSING, out=MISSING, recipe=GPU if gpu else VaeRecipe())
            return parse(Kinediff3dOptions[VaeRecipe], "train", arguments, vae)


def packed(options: Options | CensusOptions, split: str, seeds: int, config: ShapeBankConfig) -> ShapeBank:
    """The shapes of a split, made once and kept in the output folder."""

    def make() -> ShapeBank:
        samples = shapes_of(training_objects(options.assets, split, seeds), config)
        return make_shape_bank(tqdm(samples, f"shapes, {split}", unit=" objects"), config, options.sdf)

    return load_shape_bank(kept(options.out / f"{split}_shapes.npz", options.device, make, save_shape_bank))
