"""The completion benchmark from objects to tables: resumable, fair to every row, refusing what does not fit."""

from __future__ import annotations

import importlib
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from prior_tools import save_networks, untrained
from shape_tools import small_bank
from test_complete import CONFIG as COMPLETION

from art_perception.complete import Networks
from art_perception.data.categories import NAMES
from art_perception.data.partial import ViewsConfig
from art_perception.data.shape_bank import QUANTUM, save_shape_bank
from art_perception.errors import FrameError, UsageError
from art_perception.eval import benchmark_completion
from art_perception.eval.benchmark_completion import ROUNDS, ROWS, SeenObject, measure, see_object
from art_perception.eval.completion import FAILED
from art_perception.eval.shape_error import MISSING
from art_perception.fit import FitConfig

CONFIG = replace(COMPLETION, fit=FitConfig(points=(32,), steps=(1,), keep=(2,)))
VIEWS = ViewsConfig(points=300)


@pytest.fixture(scope="module")
def networks() -> Networks:
    return untrained()


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(Path(__file__).parents[1])
    return importlib.import_module("benchmarks.bench_completion")


@pytest.fixture
def options(bench: ModuleType, networks: Networks, tmp_path: Path) -> Any:
    """A run on three small objects with untrained networks."""
    save_networks(networks, tmp_path)
    out = tmp_path / "out"
    out.mkdir()
    save_shape_bank(out / "val_shapes.npz", small_bank())
    return bench.Options(out, views=1, seeds=1, weights=str(tmp_path), jobs=1, view=VIEWS, config=CONFIG)


@pytest.mark.parametrize("index", range(3), ids=["laptop", "eyeglasses", "drawer"])
def test_a_view_shows_the_object_where_the_truth_says(networks: Networks, index: int):
    seen = see_object(small_bank(), index, networks, replace(VIEWS, noise=0.0), 3, 1)
    true = seen.true
    assert seen.category == NAMES[small_bank().category[index]]
    assert len(true.q) == small_bank().parts[index] - 1
    surface = true.size_m * true.surface(true.q) @ true.T_camera_base[:3, :3].T + true.T_camera_base[:3, 3]
    gaps = np.linalg.norm(seen.points[:, None] - surface, axis=-1).min(1)
    assert gaps.max() < 2 * QUANTUM * true.size_m
    assert 0 <= seen.hidden <= 1


def test_a_view_is_the_same_whenever_it_is_drawn(networks: Networks):
    a, b, other, later = (
        see_object(small_bank(), 0, networks, VIEWS, seed, view) for seed, view in ((1, 2), (1, 2), (2, 2), (1, 3))
    )
    np.testing.assert_array_equal(a.points, b.points)
    for changed in (other, later):
        assert not np.array_equal(a.points, changed.points)
        assert not np.array_equal(a.true.novel, changed.true.novel)


@pytest.fixture(scope="module")
def seen(networks: Networks) -> SeenObject:
    return see_object(small_bank(), 0, networks, VIEWS, 0, 0)


def test_stages_that_are_given_the_truth_lose_nothing_there(networks: Networks, seen: SeenObject):
    rows = {s.row: s.numbers for s in measure(seen, networks, CONFIG, ROWS, 2000, 0, 0)}
    assert list(rows) == list(ROWS)
    for row in ("true_pose", "true_latent"):
        for key in ("rotation", "translation", "size", "state", "axis", "position", "axis_camera", "position_camera"):
            assert rows[row][key] == pytest.approx(0, abs=1e-4), f"{row}: {key}"
        assert rows[row]["now_w"] == pytest.approx(rows[row]["placed_w"], rel=0.1)
    for key in ("rotation", "translation", "size", "state", "axis", "position"):
        assert rows["pose_only"][key] == rows[ROUNDS[0]][key], "its pose and joints are the estimated ones"
        assert rows["regression"][key] != rows[ROUNDS[0]][key]
    assert rows["pose_only"]["now_s"] == pytest.approx(rows["true_latent"]["now_s"], rel=0.05), (
        "its shape is the true one"
    )
    assert rows["floor"]["now_w"] < min(rows[row]["now_w"] for row in ROWS if row != "floor")


def test_a_view_without_result_says_why(networks: Networks, seen: SeenObject, monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: object) -> None:
        raise FrameError("the cloud is too thin: go closer")

    monkeypatch.setattr(benchmark_completion, "complete", refuse)
    (score,) = measure(seen, networks, CONFIG, ROUNDS[:1], 2000, 0, 0)
    assert score.error == "the cloud is too thin: go closer"
    assert score.numbers == FAILED
    assert score.numbers["now_w"] == MISSING


def test_a_run_with_untrained_networks_end_to_end(
    bench: ModuleType, options: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    small = replace(options, rows=(ROUNDS[0], ROUNDS[-1], *ROWS[len(ROUNDS) :]), publish=True)
    monkeypatch.setattr("benchmarks.publish.DOCUMENT", tmp_path / "benchmarks.md")
    monkeypatch.setattr(bench.tyro, "cli", lambda *_, **__: small)
    bench.main()
    published = (tmp_path / "benchmarks.md").read_text()
    assert published.count("completion:begin") == 1
    assert (options.out / "tables.md").read_text().strip() in published
    stored = bench.records(options.out / "scores.jsonl")
    assert len(stored) == 3 * len(small.rows)
    assert not [s.error for s in stored if s.error]
    for title in (
        "Reconstruction",
        "Novel states",
        "Pose",
        "Joints",
        "By what is hidden",
        "By source",
        "By round",
        "Which stage",
    ):
        assert f"### {title}" in published
    assert all(f"| {name} | 1 | 0 | " in published for name in ("laptop", "eyeglasses", "drawer"))
    assert not bench.pending(small, small_bank(), options.out / "scores.jsonl"), "nothing is measured twice"


def test_only_what_is_missing_is_measured(bench: ModuleType, options: Any):
    bank, store = small_bank(), options.out / "scores.jsonl"
    few = replace(options, rows=("floor", "true_pose"), categories=("laptop",))
    (job,) = bench.pending(few, bank, store)
    bench.append(store, bench.measured(job))
    assert bench.pending(few, bank, store) == []
    (job,) = bench.pending(replace(few, views=2), bank, store)
    assert job.missing == ((1, ("floor", "true_pose")),)
    (job,) = bench.pending(replace(few, rows=ROWS), bank, store)
    assert job.missing == ((0, tuple(row for row in ROWS if row not in few.rows)),)
    jobs = bench.pending(replace(few, categories=NAMES, seeds=2), bank, store)
    assert [(j.seed, j.index) for j in jobs] == [(0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]
    assert {s.row for s in bench.chosen(replace(few, rows=("floor",)), store)} == {"floor"}


def test_other_settings_and_unknown_names_are_refused(bench: ModuleType, options: Any):
    commit = bench.prepare(options)
    assert bench.prepare(options) == commit
    with pytest.raises(UsageError, match="give another --out"):
        bench.prepare(replace(options, config=replace(CONFIG, voxels=17)))
    with pytest.raises(UsageError, match="no category is called lamp: choose from laptop"):
        bench.prepare(replace(options, categories=("lamp",)))
    with pytest.raises(UsageError, match="no row is called oracle"):
        bench.prepare(replace(options, rows=("oracle",)))
