"""What each piece of the window network is worth: trained without it, everything else equal.

    python -m benchmarks.ablate_sim2art --out OUT --assets DIR --steps 3000 --seeds 1 --publish

Every variant is trained with the ``cpu`` preset for the same number of steps, from scratch or from trained weights
(``--init``, which shows more where there is time for few steps), and scored on the same held-out windows, which have
full sensor noise. Variants with windows of another size get windows of that size of the
same objects. Results are appended to OUT/results.jsonl; a second run with the same OUT goes on where the first stopped,
inside a training too.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import tyro

from art_perception.cli.train import packed
from art_perception.cli.training import TrainOptions
from art_perception.data.bank import Bank
from art_perception.data.windows import WindowsConfig, draw_windows
from art_perception.errors import UsageError
from art_perception.eval.protocol import Spread
from art_perception.eval.tables import markdown_lines
from art_perception.io.results import code_version
from art_perception.models.checkpoint import load_sim2art
from art_perception.models.sim2art import Sim2Art
from art_perception.train.sim2art import Draw, Recipe, sim2art_stage
from art_perception.train.stage import Start, train_stage
from art_perception.train.validate import Batch, validate
from benchmarks.publish import published

COLUMNS = {
    "miou": "mIoU",
    "axis_mean": "axis deg, mean",
    "axis_median": "median",
    "position_mean": "axis cm, mean",
    "position_median": "median",
    "turn_deg": "part rotation deg",
    "slide_cm": "part translation cm",
    "type": "type %",
    "success": "success %",
}


@dataclass(frozen=True, slots=True)
class Options:
    """Train and score the network with one piece left out at a time."""

    out: Path
    """Folder for objects, trainings and results; a run that was interrupted goes on from what is there."""
    assets: Path | None = None
    """Folder that holds partnet_mobility/ or infinigen/ or both; without it only procedural objects are used."""
    steps: int = 3000
    """Optimiser steps of every training."""
    seeds: int = 1
    """Trainings per variant, with other weights and windows."""
    init: Path | None = None
    """Weights that all variants begin with, less what a variant goes without; random ones when not given."""
    rate: float = 1e-3
    """Peak learning rate."""
    windows: int = 192
    """Held-out windows every training is scored on."""
    variants: tuple[str, ...] = ()
    """Which variants; all when none are named."""
    device: str = "cuda" if torch.cuda.is_available() else "cpu"
    """Where to train."""
    publish: bool = False
    """Write the table into docs/benchmarks.md."""


@dataclass(frozen=True, slots=True)
class Variant:
    """A recipe with one thing changed.

    Attributes:
        title: for the table.
        recipe: how to train.
        sources: of the objects to learn from, empty for all.
        draw: gives the windows.
        forgets: start of the names of the weights that are random also when the others are given.
    """

    title: str
    recipe: Recipe
    sources: tuple[str, ...] = ()
    draw: Draw = draw_windows
    forgets: str | None = None


def main() -> None:
    """Train and score what is missing, then write the table."""
    options = tyro.cli(Options, description=__doc__)
    published("ablation", lambda: run(options), options.publish)


def run(options: Options) -> str:
    """Train and score what is missing; return the section of the document.

    Raises:
        UsageError: a variant is unknown.
        ObjectError: there are no objects for a variant.
    """
    objects = TrainOptions(network="sim2art", out=options.out, assets=options.assets, recipe=Recipe())
    known = variants(Recipe())
    unknown = sorted(set(options.variants) - set(known))
    if unknown:
        raise UsageError(f"no variant is called {', '.join(unknown)}: choose from {', '.join(known)}")
    training, held_out = (packed(objects, split) for split in ("train", "val"))
    store = options.out / "results.jsonl"
    for seed in range(options.seeds):
        for name in options.variants or known:
            entry = {"variant": name, "seed": seed, **settings_of(options)}
            if not any(entry.items() <= record.items() for record in records(store)):
                metrics = measure(known[name], name, seed, training, held_out, options)
                with store.open("a", encoding="utf-8") as out:
                    out.write(json.dumps(entry | {"commit": code_version(), "metrics": metrics}) + "\n")
    text = section(known, records(store), options)
    (options.out / "table.md").write_text(text, encoding="utf-8")
    return text


def variants(base: Recipe) -> dict[str, Variant]:
    """Every variant by name, the complete network first."""
    model, loss = base.model, base.loss
    base = sized(base, model.frames, model.points)
    changed = {
        "complete": Variant("complete", base),
        "no_flow": Variant("no flow", base, draw=without_flow),
        "no_gamma": Variant("no γ(t)", replace(base, model=replace(model, time_bands=0))),
        "no_clock": Variant("no t/T", replace(base, model=replace(model, clock=0.0))),
        "no_votes": Variant("no axis votes", replace(base, loss=replace(loss, votes=0.0)), forgets="vote."),
        "no_field": Variant("no screw-field loss", replace(base, loss=replace(loss, field=0.0))),
        "no_noise": Variant("trained without noise", replace(base, windows=replace(base.windows, noise=0.0))),
        "procedural": Variant("trained on procedural objects only", base, ("procedural",)),
    }
    for frames in (model.frames // 2, 2 * model.frames):
        changed[f"frames_{frames}"] = Variant(f"T = {frames}", sized(base, frames, model.points))
    for points in (model.points // 2, 2 * model.points):
        changed[f"points_{points}"] = Variant(f"Np = {points}", sized(base, model.frames, points))
    return changed


def sized(base: Recipe, frames: int, points: int) -> Recipe:
    """The recipe with windows of another size."""
    model = replace(base.model, frames=frames, points=points)
    return replace(base, model=model, windows=replace(base.windows, frames=frames, points=points))


def without_flow(bank: Bank, count: int, config: WindowsConfig, rng: np.random.Generator, device: str) -> Batch:
    """Windows in which no flow could be measured and its size is not told either."""
    window, truth = draw_windows(bank, count, config, rng, device)
    return replace(
        window,
        flow=torch.zeros_like(window.flow),
        flow_valid=torch.zeros_like(window.flow_valid),
        flow_scale=torch.full_like(window.flow_scale, 0.01),
    ), truth


def measure(
    variant: Variant, name: str, seed: int, training: Bank, held_out: Bank, options: Options
) -> dict[str, float]:
    """Train a variant, or go on with its training, and score it."""
    config = variant.recipe.train
    config = replace(
        config,
        steps=options.steps,
        rate=options.rate,
        warmup=min(config.warmup, options.steps // 10 + 1),
        validate_every=math.ceil(options.steps / 4),
        validation_windows=8,
        seed=seed,
    )
    chosen = [i for i, source in enumerate(training.sources) if source in variant.sources or not variant.sources]
    folder = options.out / f"{name}_{options.steps}_steps_{seed}"
    recipe = replace(variant.recipe, train=config)
    start = begin(variant, options.init) if options.init else None
    stage = sim2art_stage(recipe, training.subset(chosen), held_out, options.device, start, variant.draw)
    weights = train_stage(stage, folder, options.device)
    model = load_sim2art(weights)[0].to(options.device)
    metrics = validate(model, held_out_windows(variant, held_out, options.windows, options.device))
    print(f"{name} {seed}: " + "  ".join(f"{key} {metrics[key]:.3g}" for key in COLUMNS), flush=True)
    return metrics


def begin(variant: Variant, path: Path) -> Start[Sim2Art]:
    """Trained weights as far as a variant has them.

    Raises:
        CheckpointError: ``path`` holds no window network.
    """
    trained, about = load_sim2art(path)
    model = Sim2Art(variant.recipe.model)
    given, own = trained.state_dict(), model.state_dict()
    if variant.recipe.model.time_bands == 0:
        before = 2 * model.config.width + 3 + 1
        code = torch.arange(before, before + 2 * trained.config.time_bands)
        kept = torch.ones(given["keypoint.0.weight"].shape[1], dtype=torch.bool).index_fill(0, code, False)
        given["keypoint.0.weight"] = given["keypoint.0.weight"][:, kept]
    forgotten = [name for name in own if variant.forgets and name.startswith(variant.forgets)]
    model.load_state_dict(given | {name: own[name] for name in forgotten})
    return Start(model, about.get("sources", []))


def held_out_windows(variant: Variant, bank: Bank, count: int, device: str) -> list[Batch]:
    """The windows all variants are scored on, with noise, each of a generator of its own.

    A larger window takes more random numbers; so at least its object stays the same.
    """
    sizes = variant.recipe.windows
    config = WindowsConfig(frames=sizes.frames, points=sizes.points)
    return [variant.draw(bank, 1, config, np.random.default_rng([i, 78]), device) for i in range(count)]


def records(store: Path) -> list[dict]:
    return [json.loads(line) for line in store.read_text().splitlines()] if store.exists() else []


def settings_of(options: Options) -> dict[str, int | float | str]:
    """What results must share to stand in one table."""
    origin = options.init.stem if options.init else ""
    return {"steps": options.steps, "rate": options.rate, "windows": options.windows, "init": origin}


def section(known: dict[str, Variant], stored: Sequence[dict], options: Options) -> str:
    """The section of docs/benchmarks.md."""
    own = [r for r in stored if settings_of(options).items() <= r.items()]
    seeds = len({r["seed"] for r in own})
    commits = ", ".join(dict.fromkeys(r["commit"][:12] for r in own))
    origin = f"on from {options.init.stem}" if options.init else "from scratch"
    return (
        "## Ablations of the window network\n\n"
        f"Network alone, `small`, trained {origin} for {options.steps} steps with one thing changed, {seeds} seeds "
        f"(± is their standard deviation), scored on {options.windows} held-out windows with full sensor noise. "
        f"`python -m benchmarks.ablate_sim2art --steps {options.steps}`, commit {commits}.\n\n{table(known, own)}"
    )


def table(known: dict[str, Variant], own: Sequence[dict]) -> str:
    """GitHub table with one line per variant that has results."""
    lines = [["variant", *COLUMNS.values()]]
    for name, variant in known.items():
        results = [r["metrics"] for r in own if r["variant"] == name]
        if results:
            lines.append([variant.title, *(cell([m[key] for m in results], key) for key in COLUMNS)])
    return markdown_lines(lines)


def cell(values: Sequence[float], key: str) -> str:
    """Mean and spread over seeds."""
    spread = Spread(float(np.mean(values)), float(np.std(values)), len(values))
    return spread.text(0 if key in ("type", "success") else 2)


if __name__ == "__main__":
    main()
