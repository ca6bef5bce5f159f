"""The tables of the network's speed say what was measured; nothing here compares times."""

import importlib
from pathlib import Path
from types import ModuleType

import pytest
import torch

from art_perception.models.sim2art import Sim2ArtConfig

TINY = Sim2ArtConfig(width=16, layers=1, query_layers=1, heads=2, frames=4, points=64, keypoints=8, neighbours=4)


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(Path(__file__).parents[1])
    return importlib.import_module("benchmarks.bench_window_network")


def test_a_frame_is_its_share_of_the_window(bench: ModuleType) -> None:
    rows = [
        bench.Forward("small", "cpu", threads, 490_000, 16, 256, bench.Timing(160.0, 320.0), 300.4)
        for threads in (1, 2)
    ] + [bench.Forward("base", "cuda", 1, 19_000_000, 32, 2048, bench.Timing(32.0, 16.0), 2000.0)]
    assert bench.forward_table(rows).splitlines()[2:] == [
        "| `small`, 1 thread | 0.49 M | 16 x 256 | 160.0 | 10.00 |  | 20.00 | 300 |",
        "| `small`, 2 threads | 0.49 M | 16 x 256 | 160.0 | 10.00 | <= 15 | 20.00 | 300 |",
        "| `base`, GPU | 19.00 M | 32 x 2048 | 32.0 | 1.00 | <= 1.5 | 0.50 | 2000 |",
    ]


def test_the_training_table_tells_need_from_supply(bench: ModuleType) -> None:
    row = bench.Training("small", "cpu", 12.0, 0.25, 3.0, 11.0, 900.0)
    assert bench.training_table([row]).splitlines()[2] == "| `small`, CPU | 12.0 | 25 % | 3.0 | 11.0 | 900 |"


def test_the_forward_pass_of_a_tiny_network(bench: ModuleType) -> None:
    window = bench.random_window(TINY, "cpu")
    assert window.points.shape == (1, 4, 64, 3)
    assert window.points.abs().max() <= 1
    result = bench.forward("small", TINY, torch.get_num_threads(), "cpu", 1)
    assert (result.frames, result.points) == (4, 64)
    assert result.time.ms > 0
    assert result.memory_mb > 10


def test_only_what_was_asked_for_is_in_the_section(bench: ModuleType) -> None:
    options = bench.Options(what=("sampling",), device="cpu")
    text = bench.section(options, [], [], [bench.Sampling(16, 256, bench.Timing(20.04, 18.0))])
    assert "Sampling 16 measured frames of 256 points each, optical flow given: 20.0 ms (18.0 ms of processor" in text
    assert "forward pass" not in text
    assert "training" not in text
