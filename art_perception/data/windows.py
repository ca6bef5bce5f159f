"""Endless training windows: surface points of articulated objects as a moving depth camera would measure them.

Every frame's surface is found with a z-buffer over the object's surface points, on the CPU or a GPU and for a whole
batch at once; of what is visible, N points are drawn as random pixels would be. Then everything that can go wrong does:
depth noise that grows with range, holes, wrong and missing flow, masks that are too tight or too generous, hands.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from art_perception.data.bank import Bank
from art_perception.data.scenario import MAX_PARTS, Scenario, draw_scenario
from art_perception.geometry.lie import inverse, transform
from art_perception.geometry.point_window import normalise
from art_perception.geometry.witness import FREE, SURFACE, UNKNOWN, DepthGrid, testimony
from art_perception.types import PointWindow, WindowTruth

EXTRAS = 512
_DEPTH_BITS = 18
_FAR_M = 50.0
_FEWEST = 64  # points below which a frame keeps what should have been lost


@dataclass(frozen=True, slots=True)
class WindowsConfig:
    """Training windows."""

    frames: int = 16
    """Frames per window."""
    points: int = 512
    """Surface points per frame."""
    noise: float = 1.0
    """Multiple of the nominal sensor errors, 0 = exact."""
    min_sightings: int = 24
    """A moving part with fewer points in the whole window is not judged."""


@dataclass(frozen=True, slots=True, eq=False)
class _Scene:
    """B windows on the device: points of P objects and extras, per frame in the camera and where the camera is."""

    camera: Tensor  # (B, T, P, 3) metres, true optical frame
    normals: Tensor  # (B, T, P, 3) unit, towards the camera
    label: Tensor  # (B, P)
    world: Tensor  # (B, T, P, 3) metres, object frame
    T_reported: Tensor  # (B, T, 4, 4) object frame from camera, as recorded
    T_true: Tensor


def draw_windows(
    bank: Bank, count: int, config: WindowsConfig, rng: np.random.Generator, device: str | torch.device = "cpu"
) -> tuple[PointWindow, WindowTruth]:
    """Draw a batch of windows; a source counts by the square root of its number of objects, and they count alike.

    Args:
        bank: objects to draw from.
        count: windows in the batch.
        config: sizes and noise.
        rng: source of all randomness; the same state gives the same batch on the same device.
        device: where the windows are rendered and stay.
    """
    index = _choose_objects(bank, count, rng)
    scenarios = [draw_scenario(bank, i, config.frames, EXTRAS, rng) for i in index]
    generator = torch.Generator(device=device).manual_seed(int(rng.integers(2**62)))
    return render_windows(bank, scenarios, config, generator)


def _choose_objects(bank: Bank, count: int, rng: np.random.Generator) -> list[int]:
    sources = np.array(bank.sources)
    names = sorted(set(bank.sources))
    pools = [np.flatnonzero(sources == name) for name in names]
    weight = np.sqrt([len(pool) for pool in pools])
    return [int(rng.choice(pools[rng.choice(len(pools), p=weight / weight.sum())])) for _ in range(count)]


def render_windows(
    bank: Bank, scenarios: Sequence[Scenario], config: WindowsConfig, generator: torch.Generator
) -> tuple[PointWindow, WindowTruth]:
    """Measure scenarios of the same number of frames."""
    scene = _place(bank, scenarios, generator.device)
    rand = _Random(generator)
    cells = int(torch.randint(44, 77, (1,), generator=generator, device=generator.device))
    grid, visible = _zbuffer(scene, cells)
    noise = config.noise
    lost = _holes(scene, rand, noise) | _rim(grid, scene, rand, noise) | _cut_off(scene, rand, noise)
    shown = visible & ~lost
    for more in (visible, _ahead(scene)):
        shown = torch.where(shown.sum(2, keepdim=True) < _FEWEST, more, shown)
    pick = _pixels(scene, shown, config.points, rand)
    sigma = noise * 0.003 * rand.uniform(len(scenarios)) ** 2 + 2e-4 * noise
    points = _measure(scene, pick, sigma, rand, 0)
    flow, valid = _flow(scene, pick, visible, points, sigma, rand, noise)
    tolerance = 0.003 + 3 * sigma * _depth(scene) ** 2
    heard = _testify(scene, grid, points, tolerance, rand, noise)
    label = scene.label[:, None].expand(-1, config.frames, -1).gather(2, pick)
    rotation, origin = scene.T_reported[:, 0, :3, :3], scene.T_reported[:, 0, :3, 3]
    window = normalise(
        points=(points - origin[:, None, None]) @ rotation[:, None],
        flow=flow @ rotation[:, None],
        flow_valid=valid,
        normals=_measured_normals(scene, pick, rotation, rand, noise),
        seen=heard,
    )
    return window, _truth(scenarios, window, label, rotation, origin, config.min_sightings)


class _Random:
    """Random tensors of one generator."""

    def __init__(self, generator: torch.Generator) -> None:
        self._generator = generator

    def uniform(self, *shape: int) -> Tensor:
        return torch.rand(shape, generator=self._generator, device=self._generator.device)

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self._generator, device=self._generator.device)


def _place(bank: Bank, scenarios: Sequence[Scenario], device: torch.device) -> _Scene:
    """Move every surface point to where it is in every frame."""

    def tensor(x: np.ndarray) -> Tensor:
        return torch.as_tensor(np.ascontiguousarray(x), dtype=torch.float32, device=device)

    rows = []
    for s in scenarios:
        part = torch.as_tensor(np.r_[bank.part[s.index], np.full(len(s.extra), s.D.shape[1])], device=device)
        D = tensor(np.concatenate([s.D, s.T_extra[:, None]], 1))[:, part]
        rest = tensor(np.concatenate([bank.points[s.index] * s.scale, s.extra]))
        normal = tensor(np.concatenate([bank.normals[s.index], s.extra_normals]))
        label = torch.as_tensor(np.r_[s.label, s.extra_label], device=device)[part]
        world = torch.einsum("tpij,pj->tpi", D[..., :3, :3], rest) + D[..., :3, 3]
        rows.append((world, torch.einsum("tpij,pj->tpi", D[..., :3, :3], normal), label))
    world, normals, label = (torch.stack(x) for x in zip(*rows, strict=True))
    T_true = tensor(np.stack([s.T_camera for s in scenarios]))
    rotation = T_true[:, :, :3, :3]
    camera = (world - T_true[:, :, None, :3, 3]) @ rotation
    normals = normals @ rotation
    normals = normals * -torch.sign((normals * camera).sum(-1, keepdim=True))
    return _Scene(camera, normals, label, world, tensor(np.stack([s.T_reported for s in scenarios])), T_true)


def _ahead(scene: _Scene) -> Tensor:
    """Points (B, T, P) in front of the camera; what is not there is far away."""
    return (scene.camera[..., 2] > 0.05) & (scene.camera.norm(dim=-1) < _FAR_M)


def _size(scene: _Scene) -> Tensor:
    """Root mean square radius (B,) of the object in the first frame, metres; what stands around does not count."""
    return scene.world[:, 0, :-EXTRAS].std(1).norm(dim=-1).clamp(min=1e-3)


def _depth(scene: _Scene) -> Tensor:
    """Mean depth (B,) of the object."""
    return scene.camera[:, :, :-EXTRAS, 2].flatten(1).mean(1).clamp(min=0.1)


def _zbuffer(scene: _Scene, cells: int) -> tuple[DepthGrid, Tensor]:
    """Depth images of ``cells`` x ``cells`` around the object, and which points (B, T, P) are visible in them."""
    B, T, P, _ = scene.camera.shape
    z = scene.camera[..., 2]
    ahead = _ahead(scene)
    ray = scene.camera[..., :2] / z.clamp(min=0.05)[..., None]
    low = torch.where(ahead[..., None], ray, torch.inf).amin(2)
    high = torch.where(ahead[..., None], ray, -torch.inf).amax(2)
    focal = (cells - 3) / (high - low).amax((1, 2)).clamp(min=1e-3)
    focal = focal[:, None, None].expand(B, T, 2)
    corner = low - 1 / focal
    cell = ((ray - corner[:, :, None]) * focal[:, :, None]).round().long().clamp(0, cells - 1)
    flat = cell[..., 1] * cells + cell[..., 0]
    nearest, farthest = (torch.where(ahead, z, v).flatten(1) for v in (_FAR_M, 0.0))
    nearest, farthest = nearest.amin(1), farthest.amax(1)
    span = (farthest - nearest).clamp(min=1e-3)
    depth = ((z - nearest[:, None, None]) / span[:, None, None] * (2**_DEPTH_BITS - 1)).clamp(0, 2**_DEPTH_BITS - 1)
    key = torch.where(ahead, depth.long() * 2**14 + torch.arange(P, device=z.device), 2**62)
    best = key.new_full((B, T, cells * cells), 2**62).scatter_reduce_(2, flat, key, "amin")
    front = _spread(best.view(B, T, cells, cells))
    index = torch.where(front < 2**62, front % 2**14, P)
    grid = _grid(scene, index, focal, corner)
    near = index.flatten(2).gather(2, flat)
    hit, normal = _take(scene.camera, near), _take(scene.normals, near)
    gap = scene.camera - hit
    reach = 0.5 * z / focal[..., :1]
    hidden = (gap[..., 2] > reach) & ((gap * normal).sum(-1) < -0.3 * reach)
    return grid, ahead & ~hidden


def _spread(best: Tensor) -> Tensor:
    """Smallest key of the 3x3 neighbourhood: surface points are sparser than cells."""
    for dim in (2, 3):
        size = best.shape[dim]
        middle = best.clone()
        middle.narrow(dim, 1, size - 1).copy_(
            torch.minimum(middle.narrow(dim, 1, size - 1), best.narrow(dim, 0, size - 1))
        )
        middle.narrow(dim, 0, size - 1).copy_(
            torch.minimum(middle.narrow(dim, 0, size - 1), best.narrow(dim, 1, size - 1))
        )
        best = middle
    return best


def _take(points: Tensor, index: Tensor) -> Tensor:
    """Pick (B, T, M, 3) of (B, T, P, 3); index P takes the last point."""
    return points.gather(2, index.clamp(max=points.shape[2] - 1)[..., None].expand(*index.shape, 3))


def _grid(scene: _Scene, index: Tensor, focal: Tensor, corner: Tensor) -> DepthGrid:
    B, T, H, W = index.shape
    points, normals = (_take(x, index.flatten(2)).view(B, T, H, W, 3) for x in (scene.camera, scene.normals))
    state = torch.where(index < scene.camera.shape[2], SURFACE, FREE)
    return DepthGrid(points, normals, state, focal, corner, inverse(scene.T_reported))


def _holes(scene: _Scene, rand: _Random, noise: float) -> Tensor:
    """Points (B, T, P) without depth: a dark or shiny place in all frames, another one in each frame."""
    B, T, P, _ = scene.camera.shape
    size = _size(scene)
    often = noise * (rand.uniform(B) < 0.35)
    place = scene.world[torch.arange(B), 0, (rand.uniform(B) * P).long()]
    lasting = (scene.world[:, :1] - place[:, None, None]).norm(dim=-1) < (often * 0.4 * rand.uniform(B) * size)[
        :, None, None
    ]
    center = _take(scene.camera, (rand.uniform(B, T, 1) * P).long())
    radius = (noise * (rand.uniform(B, T) < 0.2) * 0.5 * rand.uniform(B, T)) * size[:, None]
    return lasting | ((scene.camera - center).norm(dim=-1) < radius[..., None])


def _rim(grid: DepthGrid, scene: _Scene, rand: _Random, noise: float) -> Tensor:
    """Points (B, T, P) at the object's outline, in windows whose mask is too tight."""
    B, _, H, W = grid.state.shape
    empty = torch.nn.functional.max_pool2d((grid.state == FREE).float(), 5, 1, 2)
    ray = scene.camera[..., :2] / scene.camera[..., 2:].clamp(min=0.05)
    cell = ((ray - grid.corner[:, :, None]) * grid.focal[:, :, None]).round().long().clamp(0, H - 1)
    outline = empty.flatten(2).gather(2, cell[..., 1] * W + cell[..., 0]) > 0
    return outline & (noise * (rand.uniform(B) < 0.35) > 0)[:, None, None]


def _cut_off(scene: _Scene, rand: _Random, noise: float) -> Tensor:
    """Points (B, T, P) beyond one border of the image, in windows that do not show the whole object."""
    B = len(scene.label)
    side = (rand.uniform(B, 1, 1) * 2).long()[..., None]
    ray = (scene.camera[..., :2] / scene.camera[..., 2:].clamp(min=0.05)).gather(
        3, side.expand(*scene.camera.shape[:3], 1)
    )
    flipped = ray[..., 0] * torch.where(rand.uniform(B, 1, 1) < 0.5, -1.0, 1.0)
    first = flipped[:, 0, :-EXTRAS]
    border = first.amin(1) + (first.amax(1) - first.amin(1)) * (0.55 + 0.45 * rand.uniform(B))
    return (flipped > border[:, None, None]) & (noise * (rand.uniform(B) < 0.15) > 0)[:, None, None]


def _pixels(scene: _Scene, shown: Tensor, count: int, rand: _Random) -> Tensor:
    """Draw (B, T, N) visible points, as likely as pixels would show them; few are repeated when there are too few."""
    B, T, P = shown.shape
    cosine = -(scene.normals * scene.camera).sum(-1) / scene.camera.norm(dim=-1).clamp(min=1e-6)
    weight = cosine.clamp(0.02, 1) / scene.camera[..., 2].clamp(min=0.05) ** 2
    score = weight.log() - (-rand.uniform(B, T, P).clamp(1e-9, 1 - 1e-7).log()).log()
    best = torch.where(shown, score, -torch.inf).topk(count, 2)
    found = torch.isfinite(best.values).sum(2, keepdim=True).clamp(min=1)
    return best.indices.gather(2, torch.arange(count, device=shown.device).expand(B, T, count) % found)


def _measure(scene: _Scene, pick: Tensor, sigma: Tensor, rand: _Random, shift: int) -> Tensor:
    """Positions (B, T, N, 3) of picked points ``shift`` frames later, with depth noise along the ray, object frame."""
    B, T, N = pick.shape
    later = (torch.arange(T, device=pick.device) + shift).clamp(0, T - 1)
    point = _take(scene.camera[:, later], pick)
    z = point[..., 2:]
    error = sigma[:, None, None, None] * z.clamp(min=0.2) ** 2 * rand.normal(B, T, N, 1)
    moved = point * (1 + error / z.clamp(min=0.05))
    return transform(scene.T_reported[:, later], moved)


def _flow(
    scene: _Scene, pick: Tensor, visible: Tensor, points: Tensor, sigma: Tensor, rand: _Random, noise: float
) -> tuple[Tensor, Tensor]:
    """Displacement to the next frame (B, T, N, 3) as optical flow and two depth images give it, and where it exists."""
    B, T, N = pick.shape
    last = torch.arange(T, device=pick.device) == T - 1
    step = torch.where(last, -1, 1)
    there = _measure(scene, pick, sigma, rand, 1)
    before = _measure(scene, pick, sigma, rand, -1)
    there = torch.where(last[:, None, None], before, there)
    flow = (there - points) * step[:, None, None]
    shown = visible[:, (torch.arange(T, device=pick.device) + step)].gather(2, pick)
    if noise == 0:
        return flow * shown[..., None], shown
    kind = rand.uniform(B)
    field = _texture(scene, pick, rand)
    plain = (kind[:, None, None] > 0.5) & (field < rand.uniform(B)[:, None, None])
    weak = torch.where(rand.uniform(B, 1, 1) < 0.6, 0.0, rand.uniform(B, 1, 1))
    flow = torch.where(plain[..., None], flow * weak[..., None], flow)
    shown = shown & ~(plain & (rand.uniform(B, 1, 1) < 0.65))
    drift = 0.004 * rand.uniform(B) ** 2 * _depth(scene)
    flow = flow + drift[:, None, None, None] * (0.5 * rand.normal(B, T, N, 3) + rand.normal(B, T, 1, 3) * 0.3)
    wrong = rand.uniform(B, T, N) < 0.15 * rand.uniform(B, 1, 1)
    flow = torch.where(wrong[..., None], flow.roll(N // 2, 2) + 0.02 * rand.normal(B, T, N, 3), flow)
    shown = shown & (rand.uniform(B, T, N) < 0.95 - 0.3 * rand.uniform(B, 1, 1)) & (kind < 0.9)[:, None, None]
    return flow * shown[..., None], shown


def _texture(scene: _Scene, pick: Tensor, rand: _Random) -> Tensor:
    """A smooth random field (B, T, N) in [0, 1] that clings to the surface: how textured each place is."""
    B, P = scene.label.shape
    size = _size(scene)
    wave = (2 + 6 * rand.uniform(B, 3, 1)) * rand.normal(B, 3, 3) / size[:, None, None]
    part = rand.uniform(B, 12)[:, :].gather(1, (scene.label + 1).clamp(0, 11))
    field = torch.sin(torch.einsum("bpi,bki->bpk", scene.world[:, 0], wave) + 6.3 * rand.uniform(B, 1, 3)).mean(-1)
    mixed = (0.5 + 0.5 * field + part).mul(0.5).clamp(0, 1)
    return mixed[:, None].expand(B, pick.shape[1], P).gather(2, pick)


def _testify(scene: _Scene, grid: DepthGrid, points: Tensor, tolerance: Tensor, rand: _Random, noise: float) -> Tensor:
    """What other frames saw at the points, with missing depth here and there."""
    lost = rand.uniform(*grid.state.shape) < noise * 0.2 * rand.uniform(len(points), 1, 1, 1)
    # where nothing of the object is, the background may be missing as well (out of range, out of the image)
    blind = (grid.state == FREE) & (noise * (rand.uniform(len(points), 1, 1, 1) < 0.1) > 0)
    state = torch.where(lost | blind, UNKNOWN, grid.state)
    return testimony(replace(grid, state=state), points, tolerance)


def _measured_normals(scene: _Scene, pick: Tensor, rotation: Tensor, rand: _Random, noise: float) -> Tensor:
    """Normals (B, T, N, 3) in the first camera's frame, as depth images give them."""
    B, T, N = pick.shape
    normal = _take(scene.normals, pick) + noise * 0.3 * rand.uniform(B, 1, 1, 1) * rand.normal(B, T, N, 3)
    normal = torch.nn.functional.normalize(normal, dim=-1) @ scene.T_reported[:, :, :3, :3].mT
    missing = rand.uniform(B, T, N, 1) < 0.1 * noise
    return torch.where(missing, 0.0, normal @ rotation[:, None])


def _truth(
    scenarios: Sequence[Scenario], window: PointWindow, label: Tensor, rotation: Tensor, origin: Tensor, least: int
) -> WindowTruth:
    """Express the joints in the window's frame and units."""
    device = label.device
    B, T = label.shape[:2]
    kind = torch.full((B, MAX_PARTS), -1, dtype=torch.long)
    axis, pivot = np.zeros((2, B, MAX_PARTS, 3), np.float32)
    amount = np.zeros((B, T, MAX_PARTS), np.float32)
    for b, s in enumerate(scenarios):
        count = len(s.type)
        kind[b, :count] = torch.as_tensor(s.type)
        # reported poses differ from true ones: the truth is where the true camera puts it, seen from the first frame
        back = s.T_reported[0] @ inverse(s.T_camera[0])
        axis[b, :count] = s.axis @ back[:3, :3].T
        pivot[b, :count] = transform(back, s.pivot)
        amount[b, :, :count] = s.amount
    axis_t, pivot_t, amount_t = (torch.as_tensor(x, device=device) for x in (axis, pivot, amount))
    axis_t = axis_t @ rotation
    pivot_t = ((pivot_t - origin[:, None]) @ rotation - window.center[:, None]) / window.scale[:, None, None]
    kind = kind.to(device)
    amount_t = torch.where((kind == 1)[:, None], amount_t / window.scale[:, None, None], amount_t)
    sightings = torch.stack([(label == k + 1).flatten(1).sum(1) for k in range(MAX_PARTS)], 1)
    weak = (sightings < least) & (kind >= 0)
    kind = torch.where(weak, -1, kind)
    hidden = torch.nn.functional.pad(weak, (1, 0)).gather(1, label.flatten(1).clamp(min=0)).view_as(label)
    return WindowTruth(torch.where(hidden, -1, label), kind, axis_t, pivot_t, amount_t)
