"""Checkpoints: safetensors with the network's sizes and its measured numbers as text beside the weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from art_perception.errors import CheckpointError
from art_perception.models.sim2art import Sim2Art, Sim2ArtConfig

WEIGHTS = Path(__file__).parents[1] / "weights"
"""Where the weights lie that come with the package."""


def save_sim2art(path: Path, weights: Mapping[str, Tensor], config: Sim2ArtConfig, about: Mapping[str, Any]) -> None:
    """Write weights, sizes and ``about`` (what it was trained on, its metrics) as one file, atomically."""
    staging = path.with_suffix(".partial")
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    save_file(tensors, staging, {"config": json.dumps(asdict(config)), "about": json.dumps(dict(about))})
    staging.chmod(0o644)  # safetensors makes files that only their owner can read
    staging.replace(path)


def load_sim2art(path: Path) -> tuple[Sim2Art, dict[str, Any]]:
    """Read a network, ready to predict on the CPU, and what is written about it.

    Raises:
        CheckpointError: the file is missing, is no checkpoint, or belongs to another network.
    """
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist: give a checkpoint written by `art-perception train sim2art`")
    try:
        with safe_open(path, "pt") as file:
            about = file.metadata() or {}
            model = Sim2Art(Sim2ArtConfig(**json.loads(about["config"])))
            model.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
            return model.eval(), json.loads(about["about"])
    except (SafetensorError, KeyError, TypeError, ValueError, ArithmeticError, RuntimeError) as error:
        raise CheckpointError(
            f"{path} is not a sim2art checkpoint of this version ({' '.join(str(error).split())[:150]}): "
            "use one that came with the package or train again"
        ) from error
