"""Each variant differs from the complete network in what its name says, and results survive a second run."""

import importlib
import json
from dataclasses import asdict, replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from window_tools import bank_of, chest, locker

from art_perception.data.bank import Bank
from art_perception.errors import UsageError
from art_perception.models.checkpoint import save_network
from art_perception.models.sim2art import Sim2Art, Sim2ArtConfig
from art_perception.train.sim2art import Recipe, TrainConfig

MODEL = Sim2ArtConfig(
    width=16, layers=1, query_layers=1, heads=2, frames=4, points=64, keypoints=8, neighbours=4, queries=8
)
TINY = Recipe(model=MODEL, train=TrainConfig(fresh=2, lags=(0,), precision="float32"))


@pytest.fixture
def ablate(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(Path(__file__).parents[1])
    return importlib.import_module("benchmarks.ablate_sim2art")


def flat(value: object, name: str = "") -> dict[str, object]:
    if not isinstance(value, dict):
        return {name: value}
    return {key: leaf for k, v in value.items() for key, leaf in flat(v, f"{name}.{k}".strip(".")).items()}


def test_a_variant_changes_one_thing(ablate: ModuleType) -> None:
    known = ablate.variants(TINY)
    complete = flat(asdict(known["complete"].recipe))
    changed = {
        name: {key: value for key, value in flat(asdict(v.recipe)).items() if value != complete[key]}
        for name, v in known.items()
    }
    assert changed == {
        "complete": {},
        "no_flow": {},
        "no_gamma": {"model.time_bands": 0},
        "no_clock": {"model.clock": 0.0},
        "no_votes": {"loss.votes": 0.0},
        "no_field": {"loss.field": 0.0},
        "no_noise": {"windows.noise": 0.0},
        "procedural": {},
        "frames_2": {"model.frames": 2, "windows.frames": 2},
        "frames_8": {"model.frames": 8, "windows.frames": 8},
        "points_32": {"model.points": 32, "windows.points": 32},
        "points_128": {"model.points": 128, "windows.points": 128},
    }
    assert [name for name, v in known.items() if v.sources] == ["procedural"]
    assert [name for name, v in known.items() if v.draw is not ablate.draw_windows] == ["no_flow"]


def test_without_flow_nothing_tells_of_it(ablate: ModuleType) -> None:
    bank, model = bank_of(chest()), Sim2Art(MODEL).eval()
    config = ablate.variants(TINY)["complete"].recipe.windows

    def drawn(draw):
        return draw(bank, 2, config, np.random.default_rng(0), "cpu")[0]

    plain, without = drawn(ablate.draw_windows), drawn(ablate.without_flow)
    assert plain.flow_valid.any()
    louder = replace(plain, flow=3 * plain.flow, flow_scale=2 * plain.flow_scale)
    silenced = replace(louder, flow=without.flow, flow_valid=without.flow_valid, flow_scale=without.flow_scale)
    with torch.no_grad():
        assert not torch.equal(model(plain).turn, model(louder).turn)
        assert torch.equal(model(silenced).turn, model(without).turn)
    assert not without.flow.any()
    assert not without.flow_valid.any()
    assert without.flow_scale.unique().numel() == 1
    assert torch.equal(without.points, plain.points)


def test_variants_are_scored_on_the_same_windows_with_noise(ablate: ModuleType) -> None:
    bank, known = bank_of(chest(), locker()), ablate.variants(TINY)
    windows = {name: ablate.held_out_windows(known[name], bank, 2, "cpu") for name in ("complete", "no_noise")}
    for (a, _), (b, _) in zip(windows["complete"], windows["no_noise"], strict=True):
        assert torch.equal(a.points, b.points)
    exact = ablate.draw_windows(bank, 1, known["no_noise"].recipe.windows, np.random.default_rng([0, 78]))
    assert not torch.equal(exact[0].points, windows["no_noise"][0][0].points)
    longer = ablate.held_out_windows(known["frames_8"], bank, 1, "cpu")
    assert longer[0][0].points.shape[1:3] == (8, 64)


@pytest.fixture
def objects(ablate: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Bank:
    bank = bank_of(chest(), locker())
    known = ablate.variants(TINY)
    monkeypatch.setattr(ablate, "packed", lambda *_: bank)
    monkeypatch.setattr(ablate, "variants", lambda _: known)
    return bank


@pytest.mark.usefixtures("objects")
def test_a_second_run_adds_what_is_missing(ablate: ModuleType, tmp_path: Path) -> None:
    options = ablate.Options(tmp_path, steps=1, windows=2, variants=("no_flow",), device="cpu")
    first = ablate.run(options)
    assert "| no flow |" in first
    lines = (tmp_path / "results.jsonl").read_text()
    assert ablate.run(options) == first
    assert (tmp_path / "results.jsonl").read_text() == lines
    second = ablate.run(replace(options, variants=("no_flow", "no_gamma")))
    rows = [line.split(" | ")[0][2:] for line in second.splitlines() if line.startswith("| no")]
    assert rows == ["no flow", "no γ(t)"]
    assert (tmp_path / "results.jsonl").read_text().startswith(lines)
    with pytest.raises(UsageError, match="no_such"):
        ablate.run(replace(options, variants=("no_such",)))


def test_variants_begin_with_the_trained_weights_they_have(ablate: ModuleType, tmp_path: Path) -> None:
    trained = Sim2Art(MODEL)
    save_network(tmp_path / "trained.safetensors", trained, {"sources": ["procedural"]})
    known = {name: ablate.begin(v, tmp_path / "trained.safetensors") for name, v in ablate.variants(TINY).items()}
    assert known["complete"].sources == ["procedural"]
    for name, start in known.items():
        other = {
            key for key, value in start.network.state_dict().items() if not equal(value, trained.state_dict()[key])
        }
        assert all(key.startswith({"no_gamma": "keypoint.0.w", "no_votes": "vote."}.get(name, "none")) for key in other)
    timeless = Sim2Art(MODEL)
    timeless.load_state_dict(trained.state_dict())
    with torch.no_grad():
        timeless.keypoint[0].weight[:, 2 * MODEL.width + 4 : -1] = 0
        window = ablate.draw_windows(bank_of(chest()), 1, TINY.windows, np.random.default_rng(0), "cpu")[0]
        assert torch.allclose(known["no_gamma"].network(window).turn, timeless(window).turn, atol=1e-5)


def equal(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.shape == b.shape and torch.equal(a, b)


def test_the_table_is_the_mean_over_seeds(ablate: ModuleType) -> None:
    names = dict.fromkeys(ablate.COLUMNS, 1.0)
    stored = [
        {"variant": "complete", "metrics": names | {"miou": 0.8, "success": 60.0}},
        {"variant": "complete", "metrics": names | {"miou": 0.6, "success": 80.0}},
        {"variant": "no_field", "metrics": names | {"miou": 0.5}},
    ]
    table = ablate.table(ablate.variants(TINY), json.loads(json.dumps(stored))).splitlines()
    assert len(table) == 4
    assert table[2].startswith("| complete | 0.70 ± 0.10 | 1.00 ± 0.00 |")
    assert table[2].endswith("| 70 ± 10 |")
    assert table[3].startswith("| no screw-field loss | 0.50 | 1.00 |")
