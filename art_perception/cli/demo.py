"""``art-perception demo``: the whole path on the clip that comes with the package, compared with the truth."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path

from art_perception.cli.options import parse
from art_perception.cli.progress import stage_bar
from art_perception.cli.run import describe, run_bag
from art_perception.cli.scores import require_truth, score_folder
from art_perception.eval.tables import clip_lines

SAMPLE = "laptop.mcap"


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """Reconstruct the bundled clip on the CPU, without camera or download, and compare the result with the truth."""

    out: Path = Path("urdf_out/demo")
    """Folder for the result; an earlier result there is replaced."""


def main(arguments: list[str]) -> int:
    """Entry point of the command."""
    out = parse(DemoOptions, "demo", arguments).out
    with as_file(files("art_perception") / "data_files" / SAMPLE) as bag:
        truth = require_truth(bag)
        with stage_bar() as progress:
            outcome = run_bag(bag, out, name="laptop", progress=progress)
        score = score_folder("demo", out, bag, truth, "laptop", 0.0)
    print(describe(outcome))
    print("\nAgainst the truth:\n" + clip_lines([score]))
    print(f"Look at it: art-perception view {out}")
    return 0
