"""The table of the fusion benchmark, and which clips it is about."""

import importlib
from pathlib import Path

import pytest

SCORES = {
    "a": {
        "measured": (20.0, 30.0, 10.0),
        "closed": (18.0, 25.0, 10.0),
        "fitted": (24.0, 20.0, 10.0),
        "oracle": (10.0, 15.0, 8.0),
    },
    "b": {
        "measured": (10.0, 10.0, 10.0),
        "closed": (9.0, 5.0, 8.0),
        "fitted": (12.0, 10.0, 5.0),
        "oracle": (8.0, 5.0, 2.0),
    },
}


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[1])
    return importlib.import_module("benchmarks.bench_fusion")


def stored():
    rows = [
        {"clip": clip, "row": row, "score": dict(zip(("whole", "static", "moving"), score, strict=True))}
        for clip, own in SCORES.items()
        for row, score in own.items()
    ]
    return [*rows, {"clip": "c", "row": "skip", "text": "nothing moved"}]


def test_the_table_has_means_and_how_much_less_they_become(bench):
    lines = [line.split(" | ") for line in bench.table(stored()).splitlines() if line.startswith("| ")]
    mean, less = lines[-2:]
    means = [float(cell.strip(" |")) for cell in mean[1:]]
    assert means == [15.0, 13.5, 18.0, 9.0, 20.0, 15.0, 15.0, 10.0, 10.0, 9.0, 7.5, 5.0]
    whole, static, moving = (
        ["", "-10 %", "+20 %", "-40 %"],
        ["", "-25 %", "-25 %", "-50 %"],
        ["", "-10 %", "-25 %", "-50 %"],
    )
    assert [cell.strip(" |") for cell in less[1:]] == [*whole, *static, *moving]
    assert "c: nothing moved" in bench.table(stored())


def test_the_same_clips_every_time(bench):
    options = bench.Options(Path("unused"), clips=5)
    assert [spec.name for spec in bench.clips_of(options)] == [spec.name for spec in bench.clips_of(options)]
    assert len({spec.name for spec in bench.clips_of(options)}) == 5
