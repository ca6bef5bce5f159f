"""Checkpoints: what is written comes back bit by bit, and anything else is refused in one sentence."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from art_perception.errors import CheckpointError
from art_perception.models.checkpoint import WEIGHTS, load_sim2art, save_network
from art_perception.models.sim2art import BASE, Sim2Art, Sim2ArtConfig

TINY = Sim2ArtConfig(width=16, layers=1, query_layers=1, heads=2, frames=3, points=32, keypoints=4, neighbours=4)
ABOUT = {"metrics": {"miou": 0.5}, "sources": ["procedural"], "objects": 3}


@pytest.fixture
def model() -> Sim2Art:
    torch.manual_seed(0)
    return Sim2Art(TINY)


@pytest.fixture
def path(model: Sim2Art, tmp_path: Path) -> Path:
    file = tmp_path / "sim2art.safetensors"
    save_network(file, model, ABOUT)
    return file


def test_round_trip_is_exact(model: Sim2Art, path: Path):
    again, about = load_sim2art(path)
    assert about == ABOUT
    assert again.config == TINY
    assert not again.training
    assert model.state_dict().keys() == again.state_dict().keys()
    for name, value in model.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


def test_what_is_read_is_not_tied_to_the_file(model: Sim2Art, path: Path):
    again, _ = load_sim2art(path)
    other = replace(TINY, width=24)
    save_network(path, Sim2Art(other), {})
    for name, value in model.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    assert load_sim2art(path)[0].config == other


def test_only_the_finished_file_is_left_and_anybody_may_read_it(path: Path):
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    plain = path.with_name("plain")
    plain.touch()
    assert path.stat().st_mode == plain.stat().st_mode


@pytest.mark.parametrize("path", sorted(WEIGHTS.glob("sim2art_*.safetensors")), ids=lambda p: p.stem)
def test_shipped_weights_are_light_documented_and_of_a_preset(path: Path):
    model, about = load_sim2art(path)
    assert path.stat().st_size <= 25e6
    assert model.config in (Sim2ArtConfig(), BASE), "training cannot go on from them with a preset"
    assert about["sources"]
    assert about["metrics"]["windows"] > 0
    assert all(torch.isfinite(p).all() for p in model.parameters())


def foreign(path: Path, content: dict[str, str] | None) -> None:
    save_file({"weight": torch.zeros(3)}, path, content)


def reconfigured(path: Path, config: dict) -> None:
    state = {name: value.clone() for name, value in load_sim2art(path)[0].state_dict().items()}
    save_file(state, path, {"config": json.dumps(config), "about": "{}"})


SPOILED = {
    "missing": lambda p: p.unlink(),
    "a folder": lambda p: (p.unlink(), p.mkdir()),
    "empty": lambda p: p.write_bytes(b""),
    "cut off": lambda p: p.write_bytes(p.read_bytes()[:-40]),
    "text": lambda p: p.write_text("these are not weights"),
    "a torch file": lambda p: torch.save({"weight": torch.zeros(3)}, p),
    "another network": lambda p: foreign(p, {"config": json.dumps(asdict(TINY)), "about": "{}"}),
    "no config": lambda p: foreign(p, None),
    "config that is no JSON": lambda p: foreign(p, {"config": "{", "about": "{}"}),
    "a newer config": lambda p: reconfigured(p, {**asdict(TINY), "frobnication": 3}),
    "other sizes": lambda p: reconfigured(p, {**asdict(TINY), "width": 24}),
    "impossible sizes": lambda p: reconfigured(p, {**asdict(TINY), "width": 0}),
    "text in the place of a size": lambda p: reconfigured(p, {**asdict(TINY), "width": "wide"}),
    "about that is no JSON": lambda p: save_file(
        load_sim2art(p)[0].state_dict(), p, {"config": json.dumps(asdict(TINY)), "about": "{"}
    ),
}


@pytest.mark.parametrize("case", SPOILED)
def test_anything_else_is_refused_in_one_sentence(case: str, path: Path):
    SPOILED[case](path)
    with pytest.raises(CheckpointError) as error:
        load_sim2art(path)
    message = str(error.value)
    assert str(path) in message
    assert "\n" not in message
    assert ":" in message
    assert len(message) < 400
