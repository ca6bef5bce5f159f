"""Procedural small objects: laptop, boxes, scissors, eyeglasses, stapler, fan, windows."""

from __future__ import annotations

import numpy as np

from art_perception.data.assembly import SLIDE, TURN, Mover, X, Y, Z, assemble, at, bar_handle, shifted, turned
from art_perception.data.looks import glass, metal, paint, plastic, printed, wood
from art_perception.data.model import Material, SimObject, Surface, merge
from art_perception.data.shapes import box, capsule, cylinder, frame, lathe, placed, prism, torus


def laptop(rng: np.random.Generator) -> SimObject:
    """Laptop with keyboard, pad and a picture on its screen; closed at zero."""
    w, d, t = rng.uniform(0.28, 0.38), rng.uniform(0.2, 0.27), rng.uniform(0.012, 0.022)
    lid = rng.uniform(0.006, 0.01)
    body = [
        box((0, -w / 2, 0), (d, w / 2, t), 0),
        box((d * 0.12, -w * 0.46, t), (d * 0.62, w * 0.46, t + 0.001), 1),
        box((d * 0.68, -w * 0.17, t), (d * 0.96, w * 0.17, t + 0.0008), 2),
    ]
    screen = merge([
        box((0, -w / 2, t + 0.002), (d, w / 2, t + 0.002 + lid), 0),
        box((d * 0.06, -w * 0.47, t + 0.0014), (d * 0.97, w * 0.47, t + 0.002), 3),
    ])  # fmt: skip
    keys = Material((0.04, 0.04, 0.04), "tiles", 0.076, 1.0)
    shell = metal(rng) if rng.random() < 0.6 else plastic(rng)
    mover = Mover(screen, TURN, -Y, at(0, 0, t + 0.002), float(rng.uniform(1.9, 2.8)))
    return assemble("laptop", body, [mover], (shell, keys, plastic(rng), printed(rng, 0.35)))


def _tub(w: float, d: float, h: float, wall: float) -> list[Surface]:
    """Box without a top, centred on z."""
    x, y = d / 2, w / 2
    return [
        box((-x, -y, 0), (x, y, wall), 1),
        box((-x, -y, wall), (-x + wall, y, h), 0),
        box((x - wall, -y, wall), (x, y, h), 0),
        box((-x + wall, -y, wall), (x - wall, -y + wall, h), 0),
        box((-x + wall, y - wall, wall), (x - wall, y, h), 0),
    ]


def container(rng: np.random.Generator) -> SimObject:
    """Box with a hinged lid, two half lids or the four flaps of a carton."""
    w, d, h = rng.uniform(0.2, 0.6), rng.uniform(0.15, 0.45), rng.uniform(0.08, 0.4)
    kind = rng.choice(["lid", "halves", "carton"])
    t = 0.004 if kind == "carton" else float(rng.uniform(0.006, 0.02))
    x, y = d / 2, w / 2
    wide = float(rng.uniform(1.8, 2.6)) if kind == "lid" else float(rng.uniform(2.2, 3.6))
    movers = []
    if kind == "lid":
        lid = merge([box((-x, -y, h), (x, y, h + t), 0), shifted(bar_handle(rng, 0.3 * w, 2, False), x, 0, h + t / 2)])
        movers.append(Mover(lid, TURN, -Y, at(-x, 0, h), wide))
    else:
        for side in (-1, 1):
            z = h + t * (side > 0)
            low, high = sorted((side * x, side * 0.002))
            movers.append(Mover(box((low, -y, z), (high, y, z + t), 0), TURN, side * Y, at(side * x, 0, z), wide))
    if kind == "carton":
        z, reach = h - t, min(x, y)
        for side in (-1, 1):
            low, high = sorted((side * y, side * (y - reach)))
            flap = box((-x + t, low, z), (x - t, high, z + t), 1)
            movers.append(Mover(flap, TURN, -side * X, at(0, side * y, z), wide, behind=0))
    card = Material((0.45, 0.3, 0.17), "print" if rng.random() < 0.5 else "noise", 0.4, 0.4, 0.0)
    outside = card if kind == "carton" else (wood(rng) if rng.random() < 0.5 else printed(rng, 0.4))
    return assemble("box", _tub(w, d, h, t), movers, (outside, paint(rng), metal(rng)))


def _blade(length: float, width: float, low: float, side: int) -> Surface:
    """One half of a pair of scissors lying in the plane z = ``low``: blade along +x, handle ring along -x."""
    t = 0.003
    blade = prism(
        np.array([[-0.02, -width], [length, -0.002], [length * 0.9, width * 0.4], [-0.02, width]]), low, low + t, 0
    )
    shank = turned(box((-length * 0.45, -0.006, low), (0, 0.006, low + t), 0), Z, side * -0.35)
    ring = torus(0.028, 0.006, 1)
    ring = placed(
        ring, np.diag([1.3, 0.8, 1.0]), at(-length * 0.42 - 0.03, side * (0.16 * length + 0.012), low + t / 2)
    )
    return merge([blade, shank, ring])


def scissors(rng: np.random.Generator) -> SimObject:
    """Scissors lying flat; zero is closed."""
    length, width = rng.uniform(0.09, 0.14), rng.uniform(0.008, 0.013)
    lower, upper = _blade(length, width, 0.006, 1), _blade(length, width, 0.0095, -1)
    screw = shifted(cylinder(0.006, 0.005, 0, 16), 0, 0, 0.009)
    mover = Mover(upper, TURN, -Z, at(0, 0, 0.0095), float(rng.uniform(0.7, 1.2)))
    return assemble("scissors", [lower, screw], [mover], (metal(rng), plastic(rng)))


def eyeglasses(rng: np.random.Generator) -> SimObject:
    """Eyeglasses standing on their rims and temples, unfolded at zero."""
    lens, tube = rng.uniform(0.021, 0.026), rng.uniform(0.0018, 0.0035)
    gap, long = rng.uniform(0.016, 0.022), rng.uniform(0.13, 0.15)
    flat = rng.uniform(0.7, 1.0)
    base: list[Surface] = [box((-0.002, -gap / 2, lens * flat), (0.002, gap / 2, lens * flat + 0.005), 0)]
    movers = []
    for side in (-1, 1):
        center = at(0, side * (gap / 2 + lens), lens * flat)
        upright = np.array([[0, 0, 1.0], [0, 1, 0], [-flat, 0, 0]])
        base.append(placed(torus(lens, tube, 0), upright, center))
        base.append(placed(cylinder(lens, 0.001, 1, 28), upright, center))
        end = side * (gap / 2 + 2 * lens + tube)
        z = lens * flat * 1.5
        arm = merge([
            box((-long * 0.75, end - 0.002, z - 0.004), (0, end + 0.002, z + 0.004), 0),
            turned(box((-long * 0.27, -0.002, -0.004), (0, 0.002, 0.004), 0), Y, -0.6, at(-long * 0.74, end, z)),
        ])  # fmt: skip
        movers.append(Mover(arm, TURN, side * Z, at(-0.003, end, z), float(rng.uniform(1.4, 1.6))))
    return assemble("eyeglasses", base, movers, (plastic(rng), glass(rng)))


def stapler(rng: np.random.Generator) -> SimObject:
    """Stapler: magazine hinged on the base plate, upper arm hinged on the magazine."""
    length, width, height = rng.uniform(0.12, 0.2), rng.uniform(0.026, 0.04), rng.uniform(0.035, 0.055)
    y = width / 2
    base = [
        box((0, -y, 0), (length, y, 0.006), 0),
        box((0, -y, 0.006), (0.03, -y + 0.003, height * 0.8), 1),
        box((0, y - 0.003, 0.006), (0.03, y, height * 0.8), 1),
        box((length - 0.03, -y * 0.6, 0.006), (length - 0.012, y * 0.6, 0.009), 1),
    ]
    tilt = 0.1
    magazine = box((0, -y * 0.6, 0), (length * 0.95, y * 0.6, 0.014), 1)
    arm = merge([box((-0.004, -y, 0.016), (length, y, 0.03), 0), box((length * 0.55, -y, 0.03), (length, y, 0.036), 2)])
    pivot = at(0.014, 0, height * 0.55)
    movers = [
        Mover(turned(magazine, Y, -tilt, pivot), TURN, -Y, pivot, float(rng.uniform(0.5, 1.0))),
        Mover(turned(arm, Y, -tilt, pivot), TURN, -Y, pivot, float(rng.uniform(0.9, 1.6)), parent=0),
    ]
    return assemble("stapler", base, movers, (plastic(rng), metal(rng), plastic(rng)))


def _fan_head(radius: float, hub: float, wires: int) -> Surface:
    """Motor housing and guard of a fan whose hub is at height ``hub``, facing +x."""
    guard = radius * 1.08
    rings = ((guard, 0.06), (guard, 0.12), (radius * 0.5, 0.13), (radius * 0.5, 0.05))
    pieces = [turned(torus(r, 0.003, 2, 40), Y, np.pi / 2, at(x, 0, hub)) for r, x in rings]
    wire = box((0.126, -0.0015, 0.02), (0.129, 0.0015, guard), 2)
    pieces += [turned(wire, X, a, at(0, 0, hub)) for a in np.linspace(0, 2 * np.pi, wires, endpoint=False)]
    pieces.append(turned(capsule(0.045, 0.035, 0.09, 0), Y, np.pi / 2, at(-0.05, 0, hub)))
    return merge(pieces)


def fan(rng: np.random.Generator) -> SimObject:
    """Desk fan: the head swings on its pole, the blades turn in the head."""
    radius, height = rng.uniform(0.12, 0.22), rng.uniform(0.25, 0.6)
    foot = lathe(
        np.array([[0, 0], [radius * 0.8, 0], [radius * 0.75, 0.02], [0.02, 0.035], [0.014, 0.05], [0, 0.05]]), 0
    )
    pole = shifted(cylinder(0.014, height - 0.05, 2), 0, 0, 0.05)
    hub = height + 0.02
    head = _fan_head(radius, hub, int(rng.integers(8, 16)))
    tilt = float(rng.uniform(0.25, 0.6))
    blade = turned(box((-0.002, -0.04 * radius / 0.15, 0.02), (0.002, 0.04 * radius / 0.15, radius), 1), Z, tilt)
    blades = [turned(blade, X, a) for a in np.linspace(0, 2 * np.pi, int(rng.integers(3, 6)), endpoint=False)]
    rotor = shifted(merge([*blades, turned(cylinder(0.022, 0.03, 1), Y, np.pi / 2, at(-0.015, 0, 0))]), 0.09, 0, hub)
    movers = [
        Mover(head, TURN, Z, at(0, 0, hub), float(rng.uniform(0.6, 1.2)), low=-float(rng.uniform(0.6, 1.2))),
        Mover(rotor, TURN, X, at(0.09, 0, hub), np.pi, low=-np.pi, parent=0),
    ]
    return assemble("fan", [foot, pole], movers, (plastic(rng), plastic(rng), metal(rng)))


def _sash(x: float, y0: float, y1: float, z0: float, z1: float, rng: np.random.Generator, pane: bool) -> Surface:
    """Window sash: a frame with a pane or with bars only."""
    border, t = 0.05, 0.03
    pieces = [frame((x, y0, z0), (x + t, y1, z1), border, 1)]
    if pane:
        pieces.append(box((x + 0.012, y0 + border, z0 + border), (x + 0.016, y1 - border, z1 - border), 2))
    bars = int(rng.integers(0 if pane else 1, 3))
    for z in np.linspace(z0, z1, bars + 2)[1:-1]:
        pieces.append(box((x + 0.005, y0 + border, z - 0.012), (x + 0.025, y1 - border, z + 0.012), 1))
    return merge(pieces)


def _window_colors(rng: np.random.Generator) -> tuple[Material, ...]:
    outer = wood(rng) if rng.random() < 0.4 else paint(rng)
    sash = outer if rng.random() < 0.3 else (wood(rng) if rng.random() < 0.4 else paint(rng))
    return outer, sash, glass(rng) if rng.random() < 0.5 else printed(rng, 0.6), metal(rng)


def sliding_window(rng: np.random.Generator) -> SimObject:
    """Two sashes in two tracks, one or both of which slide sideways (or up)."""
    w, h = rng.uniform(0.7, 1.5), rng.uniform(0.6, 1.2)
    outer = frame((-0.02, -w / 2, 0), (0.1, w / 2, h), 0.05, 0)
    overlap, z0, z1 = 0.03, 0.05, h - 0.05
    half, pane = w / 2 - 0.05, bool(rng.random() < 0.7)
    left = _sash(0.0, -half, overlap, z0, z1, rng, pane)
    right = _sash(0.045, -overlap, half, z0, z1, rng, pane)
    grip = shifted(bar_handle(rng, 0.15, 3, True), 0.075, -overlap + 0.025, h / 2)
    reach = half * float(rng.uniform(0.6, 0.95))
    movers = [Mover(merge([right, grip]), SLIDE, -Y, at(0.045, 0, z0), reach)]
    base = [outer]
    if rng.random() < 0.5:
        movers.append(Mover(left, SLIDE, Y, at(0, 0, z0), reach))
    else:
        base.append(left)
    return assemble("sliding_window", base, movers, _window_colors(rng))


def hinged_window(rng: np.random.Generator) -> SimObject:
    """One or two casements hinged at the sides, or one hinged at its top."""
    w, h = rng.uniform(0.5, 1.3), rng.uniform(0.6, 1.3)
    outer = frame((-0.03, -w / 2, 0), (0.05, w / 2, h), 0.05, 0)
    y, z0, z1 = w / 2 - 0.05, 0.05, h - 0.05
    pane = bool(rng.random() < 0.7)
    far = float(rng.uniform(1.2, 2.0))
    if rng.random() < 0.25:
        sash = merge(
            [_sash(0.02, -y, y, z0, z1, rng, pane), shifted(bar_handle(rng, 0.12, 3, False), 0.05, 0, z0 + 0.025)]
        )
        return assemble("hinged_window", [outer], [Mover(sash, TURN, -Y, at(0.02, 0, z1), 1.0)], _window_colors(rng))
    edges = [(-y, y)] if w < 0.8 else [(-y, 0.0), (0.0, y)]
    movers = []
    for i, (y0, y1) in enumerate(edges):
        left = i == 1 or (len(edges) == 1 and rng.random() < 0.5)
        grip = shifted(bar_handle(rng, 0.12, 3, True), 0.05, y0 + 0.025 if left else y1 - 0.025, h / 2)
        sash = merge([_sash(0.02, y0 + 0.002, y1 - 0.002, z0, z1, rng, pane), grip])
        movers.append(Mover(sash, TURN, Z if left else -Z, at(0.035, y1 if left else y0, z0), far))
    return assemble("hinged_window", [outer], movers, _window_colors(rng))
