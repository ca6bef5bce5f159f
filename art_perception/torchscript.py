"""Networks that users export themselves: TorchScript files, which need neither their code nor a download."""

from __future__ import annotations

import functools
from pathlib import Path

import torch
from torch import Tensor

from art_perception.errors import CheckpointError


def call(path: str, *images: Tensor) -> object:
    """Run the network in a file on the CPU; the file is read once.

    Args:
        path: TorchScript file. It holds code that is run: use only files of known origin.
        images: its inputs.

    Raises:
        CheckpointError: the file is missing, is no TorchScript, or cannot take the images.
    """
    network = _load(path)
    try:
        with torch.no_grad():
            return network(*images)
    except (RuntimeError, torch.jit.Error) as error:
        shapes = " and ".join(map(describe, images))
        raise CheckpointError(
            f"{path} cannot take {shapes} ({_reason(error)}): export the network as docs/optional_inputs.md says"
        ) from error


def describe(value: object) -> str:
    """Shape of a tensor, type of anything else, for an error message."""
    return str(tuple(value.shape)) if isinstance(value, Tensor) else type(value).__name__


@functools.lru_cache(maxsize=2)
def _load(path: str) -> torch.jit.ScriptModule:
    if not Path(path).is_file():
        raise CheckpointError(f"{path} does not exist: give a TorchScript file, docs/optional_inputs.md says how")
    try:
        return torch.jit.load(path, map_location="cpu").eval()
    except (RuntimeError, ValueError) as error:
        raise CheckpointError(
            f"{path} is no TorchScript file ({_reason(error)}): export the network as docs/optional_inputs.md says, "
            "weights alone are not enough"
        ) from error


def _reason(error: Exception) -> str:
    """The last line of an error, which is where TorchScript says what went wrong."""
    return (str(error).strip() or type(error).__name__).splitlines()[-1][:150]
