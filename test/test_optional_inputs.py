"""Image features and learned flow from TorchScript files: where they land, what they measure, what is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib.resources import files
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from test_cli_errors import refuse
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, pad

from art_perception.errors import CheckpointError
from art_perception.estimation.dense import DenseWindow, densify
from art_perception.estimation.flow import DIS, FlowConfig, Flows, Tracks, optical_flow, track_points
from art_perception.estimation.learned_flow import learned_flow
from art_perception.estimation.onset import largest_motion
from art_perception.estimation.sample import SampledWindow, sample_window
from art_perception.estimation.segment import SegmentConfig
from art_perception.eval.benchmark_rows import network_only
from art_perception.models.appearance import point_features
from art_perception.models.checkpoint import save_network
from art_perception.models.sim2art import Sim2Art, Sim2ArtConfig
from art_perception.pipeline import Clock, Config, estimate_motion
from art_perception.propose import NetworkConfig, features_for, network, propose
from art_perception.types import RgbdFrame, Window

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
SAMPLE = files("art_perception") / "data_files" / "laptop.mcap"
MEAN, STD = torch.tensor((0.485, 0.456, 0.406)), torch.tensor((0.229, 0.224, 0.225))
HEIGHT, WIDTH, FOCAL, STEP_PX = 60, 90, 100.0, 2


# networks


class PatchMean(nn.Module):
    """The mean colour of each patch, as a feature map."""

    def forward(self, image: Tensor) -> Tensor:
        return avg_pool2d(image, 16)


class PatchTokens(nn.Module):
    """The same as tokens."""

    def forward(self, image: Tensor) -> Tensor:
        return avg_pool2d(image, 16).flatten(2).mT


class RegisterTokens(nn.Module):
    """The same after a class token and four registers."""

    def forward(self, image: Tensor) -> Tensor:
        return pad(avg_pool2d(image, 16).flatten(2).mT, (0, 0, 5, 0), value=-99.0)


class WholeImage(nn.Module):
    """One feature vector per image."""

    def forward(self, image: Tensor) -> Tensor:
        return image.mean((2, 3))


class Brighter(nn.Module):
    """Moves to the right by the gain in brightness, px, as images of :func:`sliding` do; exact last, wrong before."""

    def forward(self, a: Tensor, b: Tensor) -> list[Tensor]:
        if a.shape[2] % 8 or a.shape[3] % 8:
            raise ValueError("no multiples of 8")
        gain = (b - a).mean(1, keepdim=True)
        flow = torch.cat([gain, torch.zeros_like(gain)], 1)
        return [flow + 5, flow]


class OneWay(nn.Module):
    """Always to the right."""

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        flow = torch.zeros_like(a[:, :2])
        flow[:, 0] = 2
        return flow


class NoFlow(nn.Module):
    def forward(self, a: Tensor, b: Tensor) -> list[Tensor]:
        return [a, b][:0]


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> Callable[[nn.Module], str]:
    folder = tmp_path_factory.mktemp("exported")

    def export(module: nn.Module) -> str:
        path = folder / f"{type(module).__name__}.pt"
        torch.jit.script(module).save(path)
        return str(path)

    return export


# image features


def ramp(height: int, width: int) -> np.ndarray:
    """Red says the column, green the row of every pixel."""
    row, column = np.indices((height, width))
    return np.stack([column, row, np.zeros_like(row)], -1).astype(np.uint8)


def color_of(features: Tensor) -> np.ndarray:
    return ((features * STD + MEAN) * 255).numpy()


@pytest.mark.parametrize("backbone", [PatchMean(), PatchTokens(), RegisterTokens()], ids=lambda m: type(m).__name__)
@pytest.mark.parametrize("size", [(64, 96), (60, 90)], ids=["whole patches", "resized"])
def test_features_land_at_the_pixels_they_belong_to(backbone, size, exported):
    color = np.stack([ramp(*size), ramp(*size)[::-1]])
    row, column = np.mgrid[10 : size[0] - 10 : 3, 10 : size[1] - 10 : 3].reshape(2, -1)
    pixels = np.stack([row * size[1] + column, row[::-1] * size[1] + column])
    features = point_features(exported(backbone), 3, color, pixels)
    assert features.shape == (2, len(row), 3)
    assert features.dtype == torch.float32
    expected = np.stack([color[t].reshape(-1, 3)[p] for t, p in enumerate(pixels)])
    assert np.abs(color_of(features) - expected).max() < 0.2


def test_images_are_normalised_as_for_imagenet(exported):
    color = np.tile(np.array([0, 128, 255], np.uint8), (1, 32, 32, 1))
    features = point_features(exported(PatchMean()), 3, color, np.array([[0, 500]]))
    golden = torch.tensor([-2.1179, 0.2052, 2.6400])
    assert torch.allclose(features, golden.expand(1, 2, 3), atol=1e-4)


def test_features_reach_the_network_window(exported):
    dense = densify(sliding(4), WIDTH)
    dense = replace(dense, color=np.stack([ramp(HEIGHT, WIDTH)] * 4))
    path = exported(PatchMean())
    sampled = sampled_from(dense, optical_flow(dense, DIS), lambda color, at: point_features(path, 3, color, at))
    assert sampled.points.appearance.shape == (1, 4, 64, 3)
    found = color_of(sampled.points.appearance[0])[..., 0]
    inner = np.abs(sampled.pixels % WIDTH - WIDTH / 2) < WIDTH / 2 - 10
    assert np.abs(found - sampled.pixels % WIDTH)[inner].max() < 0.2


@pytest.fixture
def looking(tmp_path: Path) -> NetworkConfig:
    """Untrained weights that need three features per point."""
    config = Sim2ArtConfig(width=16, layers=1, heads=2, frames=4, points=64, keypoints=4, neighbours=4, appearance=3)
    path = tmp_path / "looking.safetensors"
    save_network(path, Sim2Art(config), {})
    return NetworkConfig(weights=str(path), min_certainty=0.0)


@pytest.mark.parametrize("user", ["pipeline", "benchmark"])
def test_the_network_is_shown_what_the_backbone_sees(user, looking, exported, monkeypatch):
    window = sliding(4)
    seen: list[Tensor] = []
    forward = Sim2Art.forward
    monkeypatch.setattr(Sim2Art, "forward", lambda self, w: (seen.append(w.appearance), forward(self, w))[1])

    def use(config: NetworkConfig) -> None:
        if user == "benchmark":
            network_only(window, np.zeros((4, HEIGHT, WIDTH), int), Config(network=config))
            return
        dense = densify(window, WIDTH)
        flows = optical_flow(dense, DIS)
        propose(dense, flows, track_points(dense, flows, FlowConfig()), dense.usable, config, FlowConfig())

    use(replace(looking, appearance=exported(RegisterTokens())))
    grey = color_of(seen[0][0])
    assert grey.shape == (4, 64, 3)
    assert np.allclose(grey, 60 + STEP_PX * np.arange(4)[:, None, None], atol=0.1)
    with pytest.raises(CheckpointError, match=r"need 3 image features per point: give network\.appearance"):
        use(looking)


def test_features_that_nobody_uses_are_refused():
    config = NetworkConfig(appearance="dinov3.pt")
    with pytest.raises(CheckpointError, match=r"weights small do not use image features: leave .* at none"):
        features_for(network("small"), config)
    assert features_for(network("small"), NetworkConfig()) is None


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            NetworkConfig(weights="smal"),
            r"no weights smal: set network\.weights to research, small, none, or an",
        ),
        (NetworkConfig(weights="my/own.safetensors"), r"no weights my/own\.safetensors: set network\.weights to"),
        (NetworkConfig(weights="none", appearance="dinov3.pt"), "appearance was given but network.weights is none"),
    ],
)
def test_a_wrong_network_is_said_before_any_work(config: NetworkConfig, message: str):
    with pytest.raises(CheckpointError, match=message):
        estimate_motion(sliding(3), Config(network=config), Clock(None))


# learned flow


def sliding(frames: int) -> Window:
    """A wall 1 m away that slides to the right by 2 px per frame and gets brighter by as much."""
    color = [np.full((HEIGHT, WIDTH, 3), 60 + STEP_PX * t, np.uint8) for t in range(frames)]
    depth = np.ones((HEIGHT, WIDTH), np.float32)
    K = np.array([[FOCAL, 0, WIDTH / 2], [0, FOCAL, HEIGHT / 2], [0, 0, 1]])
    return Window(tuple(RgbdFrame(t * 10**8, c, depth, K, np.eye(4)) for t, c in enumerate(color)))


def sampled_from(dense: DenseWindow, flows: Flows, features=None) -> SampledWindow:
    frames = np.arange(len(dense.depth_m))
    return sample_window(dense, flows, frames, dense.usable, 64, 0.001, FlowConfig(), features)


def test_flow_is_the_models_last_answer_at_the_images_size(exported):
    window = sliding(4)
    flows = optical_flow(densify(window, WIDTH), exported(Brighter()))
    for there, back in zip(flows.forward, flows.backward, strict=True):
        assert there.shape == back.shape == (HEIGHT, WIDTH, 2)
        assert there.dtype == np.float32
        assert np.allclose(there, [STEP_PX, 0], atol=1e-5)
        assert np.allclose(back, [-STEP_PX, 0], atol=1e-5)
    assert len(flows.forward) == len(list(pairwise(window.frames)))


def test_learned_flow_becomes_metric_scene_flow_and_tracks(exported):
    dense = densify(sliding(8), WIDTH)
    flows = optical_flow(dense, exported(Brighter()))
    window = sampled_from(dense, flows).points
    metric = window.flow[0] * window.flow_scale * window.scale
    known = window.flow_valid[0]
    assert known.float().mean() > 0.8  # what slides out of the image is lost
    assert torch.allclose(metric[known], torch.tensor([STEP_PX / FOCAL, 0, 0]), atol=1e-5)
    tracks: Tracks = track_points(dense, flows, FlowConfig())
    travelled = tracks.points[tracks.visible.all(1)]
    assert len(travelled) > 20
    assert np.allclose(travelled[:, -1] - travelled[:, 0], [7 * STEP_PX / FOCAL, 0, 0], atol=1e-5)


def test_flow_that_does_not_lead_back_is_not_trusted(exported):
    dense = densify(sliding(8), WIDTH)
    flows = optical_flow(dense, exported(OneWay()))
    assert not sampled_from(dense, flows).points.flow_valid.any()


def test_the_quick_look_for_motion_needs_no_flow_network():
    assert largest_motion(sliding(3), SegmentConfig(), FlowConfig(model="missing.pt")).amount == 0


# what is refused

UNREADABLE = {
    "missing": (lambda path: None, "does not exist"),
    "a folder": (lambda path: path.mkdir(), "does not exist"),
    "text": (lambda path: path.write_text("not a network"), "is no TorchScript file"),
    "weights alone": (lambda path: torch.save({"weight": torch.zeros(3)}, path), "weights alone are not enough"),
}
WRONG = {
    "one vector per image": (WholeImage(), 3, r"gives \(1, 3\) for an image \(1, 3, 64, 96\), expected .* 24 or more"),
    "another width": (PatchTokens(), 384, "gives 3 features per patch, the network's weights need 384: give the"),
    "two images": (OneWay(), 3, r"cannot take \(1, 3, 64, 96\) \("),
}


def one_sentence(error: pytest.ExceptionInfo, path: str) -> None:
    message = str(error.value)
    assert message.startswith(path)
    assert "\n" not in message
    assert len(message) < 300 + len(path)


@pytest.mark.parametrize("case", UNREADABLE)
def test_files_without_a_network_are_refused(case, tmp_path: Path):
    spoil, words = UNREADABLE[case]
    path = tmp_path / "file.pt"
    spoil(path)
    image = ramp(64, 96)
    with pytest.raises(CheckpointError, match=words) as error:
        point_features(str(path), 3, image[None], np.zeros((1, 4), int))
    one_sentence(error, str(path))
    with pytest.raises(CheckpointError, match=words) as error:
        learned_flow(str(path), image, image)
    one_sentence(error, str(path))


@pytest.mark.parametrize("case", WRONG)
def test_backbones_with_other_outputs_are_refused(case, exported):
    module, channels, words = WRONG[case]
    path = exported(module)
    with pytest.raises(CheckpointError, match=words) as error:
        point_features(path, channels, ramp(64, 96)[None], np.zeros((1, 4), int))
    one_sentence(error, path)


@pytest.mark.parametrize(
    ("module", "words"),
    [
        (NoFlow(), r"gives list for two images \(1, 3, 64, 96\): expected flow \(1, 2, 64, 96\)"),
        (PatchMean(), r"cannot take \(1, 3, 64, 96\) and \(1, 3, 64, 96\) \("),
    ],
    ids=["nothing", "one image"],
)
def test_flow_networks_with_other_outputs_are_refused(module, words, exported):
    path = exported(module)
    with pytest.raises(CheckpointError, match=words) as error:
        learned_flow(path, ramp(64, 96), ramp(64, 96))
    one_sentence(error, path)


@pytest.mark.parametrize(
    ("option", "words"),
    [("--config.network.appearance", "do not use image features"), ("--config.flow.model", "does not exist")],
)
def test_the_command_line_refuses_in_one_line(option, words, capsys, tmp_path: Path):
    out = tmp_path / "result"
    assert words in refuse(["run", SAMPLE, "--out", out, option, tmp_path / "missing.pt"], capsys, tmp_path)
