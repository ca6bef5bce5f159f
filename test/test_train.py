"""Training: the same curve whether killed or not, and a run that is a function of its settings."""

from __future__ import annotations

from dataclasses import astuple, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from train_tools import KilledError, curve, killed_after
from window_tools import bank_of, chest, crate

from art_perception.data.bank import Bank
from art_perception.errors import CheckpointError
from art_perception.models.checkpoint import load_sim2art, save_network
from art_perception.models.sim2art import Sim2Art, Sim2ArtConfig
from art_perception.train import sim2art
from art_perception.train.run import schedule
from art_perception.train.sim2art import Recipe, TrainConfig, sim2art_stage, start_sim2art
from art_perception.train.stage import train_stage

MODEL = Sim2ArtConfig(
    width=16, layers=1, query_layers=1, heads=2, keypoints=4, neighbours=4, frames=4, points=48, queries=8
)
TINY = Recipe(
    model=MODEL,
    train=TrainConfig(steps=6, fresh=2, lags=(0, 2), warmup=2, validate_every=2, validation_windows=8, seed=3),
)


def tiny(**changes) -> Recipe:
    recipe = replace(TINY, windows=replace(TINY.windows, frames=MODEL.frames, points=MODEL.points))
    return replace(recipe, train=replace(recipe.train, **changes))


@pytest.fixture(scope="module")
def bank() -> Bank:
    return bank_of(chest(), crate())


def run(bank: Bank, out: Path, recipe: Recipe | None = None, start: Path | None = None) -> dict[str, torch.Tensor]:
    recipe = recipe or tiny()
    begin = start_sim2art(start, recipe) if start else None
    return load_sim2art(train_stage(sim2art_stage(recipe, bank, bank, "cpu", begin), out, "cpu"))[0].state_dict()


def check_equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


@pytest.fixture(scope="module")
def whole(bank: Bank, tmp_path_factory) -> tuple[Path, dict[str, torch.Tensor]]:
    """A run that nothing disturbed: its folder and its weights."""
    out = tmp_path_factory.mktemp("whole")
    return out, run(bank, out)


def test_a_run_leaves_weights_state_and_curve(whole):
    out, _ = whole
    assert {p.name for p in out.iterdir()} == {"sim2art.safetensors", "state.pt", "curve.csv", "curve.png"}
    rows = curve(out)
    assert [int(row["step"]) for row in rows] == [2, 4, 6]
    assert [int(row["windows"]) for row in rows] == [8, 16, 24]
    about = load_sim2art(out / "sim2art.safetensors")[1]
    assert about["sources"] == ["procedural"]
    assert about["objects"] == 2
    assert about["metrics"]["step"] == 6
    assert all(np.isfinite(float(row[name])) for row in rows for name in row if name.startswith("loss"))
    total = sum(float(v) for name, v in rows[-1].items() if name.startswith("loss_"))
    assert float(rows[-1]["loss"]) == pytest.approx(total, rel=1e-4)


@pytest.mark.parametrize("steps_before", [3, 4, 5])
def test_killed_and_resumed_is_the_same_run(steps_before: int, bank: Bank, whole, tmp_path: Path):
    killed_after(steps_before, lambda: run(bank, tmp_path))
    assert len(curve(tmp_path)) == steps_before // 2
    check_equal(run(bank, tmp_path), whole[1])
    assert curve(tmp_path) == curve(whole[0])


def test_killed_between_curve_and_state_is_the_same_run(bank: Bank, whole, tmp_path: Path, monkeypatch):
    save, calls = torch.save, []

    def dying(*arguments):
        calls.append(1)
        if len(calls) == 2:
            raise KilledError
        save(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", dying)
        with pytest.raises(KilledError):
            run(bank, tmp_path)
    with (tmp_path / "curve.csv").open("a") as file:
        file.write("6,2")  # and one more line that was cut short
    check_equal(run(bank, tmp_path), whole[1])
    assert curve(tmp_path) == curve(whole[0])


def test_out_of_time_is_the_same_run_in_pieces(bank: Bank, whole, tmp_path: Path):
    for steps in (2, 4, 6, 6):
        weights = run(bank, tmp_path, tiny(max_minutes=0.0))
        assert int(curve(tmp_path)[-1]["step"]) == steps
    check_equal(weights, whole[1])
    assert curve(tmp_path) == curve(whole[0])


def test_the_seed_decides(bank: Bank, whole, tmp_path: Path):
    check_equal(run(bank, tmp_path / "again"), whole[1])
    other = run(bank, tmp_path / "other", tiny(seed=4))
    assert not torch.equal(other["claim.weight"], whole[1]["claim.weight"])


@pytest.mark.parametrize("change", ["recipe", "objects", "damaged"])
def test_another_run_in_the_same_folder_is_refused(change: str, bank: Bank, whole, tmp_path: Path):
    for name in ("state.pt", "curve.csv"):
        (tmp_path / name).write_bytes((whole[0] / name).read_bytes())
    recipe, objects, word = tiny(), bank, "other settings"
    if change == "recipe":
        recipe = tiny(rate=5e-4)
    if change == "objects":
        objects = bank.subset([0])
    if change == "damaged":
        (tmp_path / "state.pt").write_bytes((tmp_path / "state.pt").read_bytes()[:-1000])
        word = "damaged"
    before = (tmp_path / "curve.csv").read_bytes()
    with pytest.raises(CheckpointError, match=word) as error:
        train_stage(sim2art_stage(recipe, objects, bank, "cpu"), tmp_path, "cpu")
    assert "\n" not in str(error.value)
    assert (tmp_path / "curve.csv").read_bytes() == before


def test_starting_from_weights(bank: Bank, whole, tmp_path: Path):
    """With a vanishing learning rate the run stays at the weights it started from."""
    start = whole[0] / "sim2art.safetensors"
    kept = run(bank, tmp_path / "kept", tiny(steps=1, validate_every=1, rate=1e-12), start)
    for name, value in kept.items():
        torch.testing.assert_close(value, whole[1][name], atol=1e-6, rtol=0)
    save_file({}, tmp_path / "wide")
    with pytest.raises(CheckpointError, match="not a sim2art checkpoint"):
        run(bank, tmp_path / "a", start=tmp_path / "wide")
    with pytest.raises(CheckpointError, match="other sizes"):
        run(bank, tmp_path / "b", replace(tiny(), model=replace(MODEL, width=24)), start)
    other_window = replace(MODEL, keypoints=5, points=40)
    run(bank, tmp_path / "c", replace(tiny(steps=1, validate_every=1), model=other_window), start)


def test_added_layers_change_nothing_until_they_learn(bank: Bank, whole, tmp_path: Path):
    """A deeper network starts as the one its weights came from, and then its new layers learn."""
    start = whole[0] / "sim2art.safetensors"
    deeper = replace(tiny(), model=replace(MODEL, layers=2, query_layers=3))
    window, _ = sim2art.draw_windows(bank, 2, deeper.windows, np.random.default_rng(0))
    shallow, deep = load_sim2art(start)[0], start_sim2art(start, deeper).network.eval()
    with torch.no_grad():
        for a, b in zip(astuple(shallow(window)), astuple(deep(window)), strict=True):
            torch.testing.assert_close(a, b)
    trained = run(bank, tmp_path / "deep", deeper, start)
    for layer in ("video.1", "look.2"):
        assert trained[f"{layer}.out.weight"].abs().max() > 0
    with pytest.raises(CheckpointError, match="other sizes"):
        run(bank, tmp_path / "shallow", tiny(), tmp_path / "deep" / "sim2art.safetensors")


def test_weights_never_forget_what_they_were_trained_on(bank: Bank, tmp_path: Path):
    """Licences of objects go with the weights, through a new start and through a resume without it."""
    start = tmp_path / "start.safetensors"
    save_network(start, Sim2Art(MODEL), {"sources": ["partnet"]})
    for recipe, given in ((tiny(max_minutes=0.0), start), (tiny(), None)):
        run(bank, tmp_path / "out", recipe, given)
        about = load_sim2art(tmp_path / "out" / "sim2art.safetensors")[1]
        assert about["sources"] == ["partnet", "procedural"]


def test_batches_are_a_function_of_seed_rank_and_step(bank: Bank):
    def batch(rank: int, step: int, seed: int = 3) -> list[torch.Tensor]:
        renderer = sim2art._Renderer(bank, tiny(seed=seed), rank, "cpu", sim2art.draw_windows)
        return [window.points for window, _ in renderer.batches(step)]

    first = batch(0, 5)
    assert len(first) == 2
    assert all(map(torch.equal, first, batch(0, 5)))
    for other in (batch(1, 5), batch(0, 6), batch(0, 5, seed=4)):
        assert not any(map(torch.equal, first, other))


def test_rendered_windows_are_kept_as_long_as_they_are_used(bank: Bank):
    rendered = []

    def counted(*arguments):
        rendered.append(1)
        return sim2art.draw_windows(*arguments)

    renderer = sim2art._Renderer(bank, tiny(lags=(0, 2, 5)), 0, "cpu", counted)
    for step in range(7):
        assert len(list(renderer.batches(step))) == 3
    assert len(rendered) == 7 + 5  # those from before the first step included
    fresh = sim2art._Renderer(bank, tiny(lags=(0, 2, 5)), 0, "cpu", sim2art.draw_windows)
    for (a, _), (b, _) in zip(renderer.batches(6), fresh.batches(6), strict=True):
        assert torch.equal(a.points, b.points)


def test_schedule_warms_up_and_cools_down():
    config = TrainConfig(steps=100, warmup=10)
    rates = np.array([schedule(step, config) for step in range(101)])
    np.testing.assert_allclose(rates[:10], np.arange(1, 11) / 10)
    assert (np.diff(rates[10:]) <= 0).all()
    assert rates[10] == 1
    assert rates[55] == pytest.approx(0.51)
    assert rates[100] == pytest.approx(0.02)
    assert schedule(0, TrainConfig(warmup=0)) == 1


def test_the_average_follows_the_weights(bank: Bank, tmp_path: Path):
    """Early in a run the average forgets quickly: after one step it is nine tenths the new weights."""
    run(bank, tmp_path, tiny(steps=1, validate_every=1))
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        first = Sim2Art(MODEL).state_dict()
    for name, value in state["model"].items():
        torch.testing.assert_close(state["average"][name], 0.1 * first[name] + 0.9 * value, msg=name)
    check_equal(load_sim2art(tmp_path / "sim2art.safetensors")[0].state_dict(), state["average"])
