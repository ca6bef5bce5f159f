"""What the tests of all trainings share: curves without timing, and runs that are killed."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest

from art_perception.train import stage

_TIMING = ("seconds", "per_s", "share")


def curve(out: Path) -> list[dict[str, str]]:
    """Rows of the curve, as text, without what depends on the machine."""
    with (out / "curve.csv").open() as file:
        rows = list(csv.DictReader(file))
    return [{name: text for name, text in row.items() if not name.endswith(_TIMING)} for row in rows]


class KilledError(Exception):
    """Stands for the end of the process."""


def killed_after(steps: int, train: Callable[[], object]) -> None:
    """Run a training that ends before it takes another step than the first ``steps``."""
    advance, taken = stage._advance, []

    def dying(*arguments):
        if len(taken) == steps:
            raise KilledError
        taken.append(1)
        return advance(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage, "_advance", dying)
        with pytest.raises(KilledError):
            train()
