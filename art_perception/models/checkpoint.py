"""Checkpoints: safetensors with the network's sizes and its measured numbers as text beside the weights."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, TypeVar

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from art_perception.errors import CheckpointError
from art_perception.models.census import Census
from art_perception.models.kinematic_vae import CategoryInfo, KinematicVae, KinematicVaeConfig
from art_perception.models.latent_diffusion import LatentNetwork, LatentNetworkConfig
from art_perception.models.point_encoder import PointEncoderConfig
from art_perception.models.pose_diffusion import PoseNetwork, PoseNetworkConfig
from art_perception.models.sim2art import Sim2Art, Sim2ArtConfig

WEIGHTS = Path(__file__).parents[1] / "weights"
"""Where the weights lie that come with the package."""

SHIPPED = "shipped"
"""Stands for the folder of the package's own weights."""

Network = Sim2Art | KinematicVae | PoseNetwork | LatentNetwork
_Network = TypeVar("_Network", bound=nn.Module)
_Content = TypeVar("_Content")


def save_network(path: Path, model: Network, about: Mapping[str, Any]) -> None:
    """Write weights, sizes and ``about`` (what it was trained on, its metrics) as one file, atomically."""
    _save(path, model.state_dict(), _sizes(model), about)


def load_sim2art(path: Path) -> tuple[Sim2Art, dict[str, Any]]:
    """Read a network, ready to predict on the CPU, and what is written about it.

    Raises:
        CheckpointError: the file is missing, is no checkpoint, or belongs to another network.
    """
    return _load(path, "sim2art", lambda config: Sim2Art(Sim2ArtConfig(**config)))


def load_kinematic_vae(path: Path) -> tuple[KinematicVae, dict[str, Any]]:
    """Read the shape prior, ready to predict on the CPU, and what is written about it.

    Raises:
        CheckpointError: the file is missing, is no checkpoint, or belongs to another network.
    """

    def build(sizes: dict[str, Any]) -> KinematicVae:
        return KinematicVae(KinematicVaeConfig(**sizes["model"]), _categories(sizes))

    return _load(path, "kinediff3d", build)


def load_pose_network(path: Path) -> tuple[PoseNetwork, dict[str, Any]]:
    """Read the pose and joint diffusion, ready to predict on the CPU, and what is written about it.

    Raises:
        CheckpointError: the file is missing, is no checkpoint, or belongs to another network.
    """

    def build(sizes: dict[str, Any]) -> PoseNetwork:
        return PoseNetwork(PoseNetworkConfig(**_with_encoder(sizes["model"])), _categories(sizes))

    return _load(path, "kinediff3d --stage pose", build)


def load_latent_network(path: Path) -> tuple[LatentNetwork, dict[str, Any]]:
    """Read the latent diffusion, ready to predict on the CPU, and what is written about it.

    Raises:
        CheckpointError: the file is missing, is no checkpoint, or belongs to another network.
    """

    def build(sizes: dict[str, Any]) -> LatentNetwork:
        config = LatentNetworkConfig(**_with_encoder(sizes["model"]))
        return LatentNetwork(config, _categories(sizes), sizes["prior"])

    return _load(path, "kinediff3d --stage latent", build)


def save_census(path: Path, census: Census, categories: Sequence[CategoryInfo], about: Mapping[str, Any]) -> None:
    """Write where the objects of a shape prior lie, in half precision, and ``about`` as one file, atomically."""
    tensors = {f.name: getattr(census, f.name) for f in fields(census) if f.name != "prior"}
    halved = {name: x.half() if x.is_floating_point() else x for name, x in tensors.items()}
    sizes = {"prior": census.prior, "categories": [asdict(category) for category in categories]}
    _save(path, halved, sizes, about)


def load_census(path: Path) -> tuple[Census, dict[str, Any]]:
    """Read where the objects of a shape prior lie, and what is written about it.

    Raises:
        CheckpointError: the file is missing or is none.
    """

    def build(sizes: dict[str, Any], tensors: dict[str, Tensor]) -> Census:
        values = {name: x.float() if x.is_floating_point() else x for name, x in tensors.items()}
        return Census(**values, prior=sizes["prior"])

    return _open(path, "kinediff3d --stage census", build)


def kinediff3d_file(weights: str, stage: str) -> Path:
    """Where the network of a stage lies in the folder ``weights``.

    Raises:
        CheckpointError: it is not there.
    """
    path = (WEIGHTS if weights == SHIPPED else Path(weights)) / f"kinediff3d_{stage}.safetensors"
    if not path.is_file():
        raise CheckpointError(
            f"there is no {path}: give the folder that holds it as weights, or train it "
            f"(`art-perception train kinediff3d --stage {stage}`)"
        )
    return path


def fingerprint(model: nn.Module) -> int:
    """Number that tells networks apart but not a network from its copy in half precision."""
    crc = 0
    for name, value in sorted(model.state_dict().items()):
        crc = zlib.crc32(value.detach().half().cpu().numpy().tobytes(), zlib.crc32(name.encode(), crc))
    return crc


def _sizes(model: Network) -> dict[str, Any]:
    """What a network is built from."""
    if isinstance(model, Sim2Art):
        return asdict(model.config)
    sizes = {"model": asdict(model.config), "categories": [asdict(category) for category in model.categories]}
    return sizes | {"prior": model.prior} if isinstance(model, LatentNetwork) else sizes


def _categories(sizes: Mapping[str, Any]) -> tuple[CategoryInfo, ...]:
    return tuple(CategoryInfo(**category) for category in sizes["categories"])


def _with_encoder(model: Mapping[str, Any]) -> dict[str, Any]:
    """Sizes with the point encoder's own, whose tuples JSON turned into lists."""
    encoder: dict[str, Any] = dict(model["encoder"])
    sizes: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in encoder.items()}
    return {**model, "encoder": PointEncoderConfig(**sizes)}


def _save(path: Path, weights: Mapping[str, Tensor], sizes: dict[str, Any], about: Mapping[str, Any]) -> None:
    staging = path.with_suffix(".partial")
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    save_file(tensors, staging, {"config": json.dumps(sizes), "about": json.dumps(dict(about))})
    staging.chmod(0o644)  # safetensors makes files that only their owner can read
    staging.replace(path)


def _load(path: Path, name: str, build: Callable[[dict[str, Any]], _Network]) -> tuple[_Network, dict[str, Any]]:
    def ready(sizes: dict[str, Any], tensors: dict[str, Tensor]) -> _Network:
        model = build(sizes)
        model.load_state_dict(tensors)
        return model.eval()

    return _open(path, name, ready)


def _open(
    path: Path, name: str, build: Callable[[dict[str, Any], dict[str, Tensor]], _Content]
) -> tuple[_Content, dict[str, Any]]:
    """What ``build`` makes of the sizes and the tensors of a file, and what is written about it."""
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist: give a checkpoint written by `art-perception train {name}`")
    try:
        with safe_open(path, "pt") as file:
            about = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        return build(json.loads(about["config"]), tensors), json.loads(about["about"])
    except (SafetensorError, KeyError, TypeError, ValueError, ArithmeticError, RuntimeError) as error:
        raise CheckpointError(
            f"{path} is not a {name} checkpoint of this version ({' '.join(str(error).split())[:150]}): "
            "use one that came with the package or train again"
        ) from error
