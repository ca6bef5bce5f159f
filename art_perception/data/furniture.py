"""Procedural furniture and kitchen machines: a carcass whose front is split into cells with doors, drawers and flaps.

The front faces +x, y is to the left seen from behind, z up; all joints are closed at zero.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import numpy as np

from art_perception.data.assembly import SLIDE, TURN, Mover, X, Y, Z, assemble, at, bar_handle, shifted, turned
from art_perception.data.looks import glass, metal, paint, plastic, printed, wood
from art_perception.data.model import Material, SimObject, Surface, merge, moved
from art_perception.data.shapes import box, cylinder, frame

BODY, FRONT, GRIP, INSIDE, PANE = range(5)
"""Material slots shared by everything here."""

GAP_M = 0.002


@dataclass(frozen=True, slots=True)
class Cell:
    """A rectangle of the front plane at depth ``x``: (y0, y1) by (z0, z1), ``depth`` of room behind it."""

    x: float
    y0: float
    y1: float
    z0: float
    z1: float
    depth: float

    @property
    def width(self) -> float:
        """Extent along y."""
        return self.y1 - self.y0

    @property
    def height(self) -> float:
        """Extent along z."""
        return self.z1 - self.z0

    def rows(self, shares: np.ndarray) -> list[Cell]:
        """Split from the bottom up."""
        z = self.z0 + np.concatenate([[0], np.cumsum(shares)]) / np.sum(shares) * self.height
        return [replace(self, z0=float(a), z1=float(b)) for a, b in itertools.pairwise(z)]

    def columns(self, shares: np.ndarray) -> list[Cell]:
        """Split along y."""
        y = self.y0 + np.concatenate([[0], np.cumsum(shares)]) / np.sum(shares) * self.width
        return [replace(self, y0=float(a), y1=float(b)) for a, b in itertools.pairwise(y)]

    def shrunk(self, margin: float) -> Cell:
        """The cell without a margin on all sides."""
        m = margin
        return replace(self, y0=self.y0 + m, y1=self.y1 - m, z0=self.z0 + m, z1=self.z1 - m)


def carcass(depth: float, width: float, low: float, high: float, wall: float) -> tuple[list[Surface], Cell]:
    """Open box with back, sides, top and bottom, and the cell that is its opening."""
    w = width / 2
    panels = [
        box((0, -w, low), (wall, w, high), INSIDE),
        box((wall, -w, low), (depth, -w + wall, high), BODY),
        box((wall, w - wall, low), (depth, w, high), BODY),
        box((wall, -w + wall, low), (depth, w - wall, low + wall), BODY),
        box((wall, -w + wall, high - wall), (depth, w - wall, high), BODY),
    ]
    return panels, Cell(depth, -w, w, low, high, depth - wall)


def _panel(c: Cell, thick: float, rng: np.random.Generator) -> Surface:
    """Flat, framed or glazed front."""
    low, high = (c.x, c.y0, c.z0), (c.x + thick, c.y1, c.z1)
    flat = box(low, high, FRONT)
    kind = rng.choice(["flat", "framed", "glazed"], p=[0.5, 0.35, 0.15])
    border = 0.18 * min(c.width, c.height)
    if kind == "flat" or border < 0.02:
        return flat
    inner = c.shrunk(border)
    slab = box((c.x, inner.y0, inner.z0), (c.x + thick * 0.55, inner.y1, inner.z1), PANE if kind == "glazed" else FRONT)
    return merge([frame(low, high, border, FRONT), slab])


def door(cell: Cell, left: bool, rng: np.random.Generator, thick: float = 0.018, panel: Surface | None = None) -> Mover:
    """Door hinged at the cell's +y edge (``left``) or -y edge."""
    c = cell.shrunk(GAP_M)
    free = c.y0 + 0.04 if left else c.y1 - 0.04
    length = float(min(rng.uniform(0.1, 0.35), 0.5 * c.height))
    z = c.z0 + c.height * float(rng.uniform(0.35, 0.65))
    handle = shifted(bar_handle(rng, length, GRIP, True), c.x + thick, free, z)
    surface = merge([_panel(c, thick, rng) if panel is None else panel, handle])
    hinge = at(c.x + thick / 2, c.y1 if left else c.y0, c.z0)
    return Mover(surface, TURN, Z if left else -Z, hinge, float(rng.uniform(1.5, 2.3)))


def flap(cell: Cell, at_bottom: bool, rng: np.random.Generator, thick: float = 0.02) -> Mover:
    """Front hinged at its lower (oven) or upper edge."""
    c = cell.shrunk(GAP_M)
    length = float(c.width * rng.uniform(0.3, 0.8))
    z = c.z1 - 0.05 if at_bottom else c.z0 + 0.05
    handle = shifted(bar_handle(rng, length, GRIP, False), c.x + thick, (c.y0 + c.y1) / 2, z)
    hinge = at(c.x + thick / 2, c.y0, c.z0 if at_bottom else c.z1)
    surface = merge([_panel(c, thick, rng), handle])
    return Mover(surface, TURN, Y if at_bottom else -Y, hinge, float(rng.uniform(1.2, 1.6)))


def _tray(c: Cell, depth: float, height: float, wall: float = 0.01) -> Surface:
    """Open box behind the front plane, front side missing."""
    x0, x1, z = c.x - depth, c.x, c.z0 + 0.015
    y0, y1 = c.y0 + 0.015, c.y1 - 0.015
    return merge([
        box((x0, y0, z), (x1, y1, z + wall), INSIDE),
        box((x0, y0, z), (x1, y0 + wall, z + height), INSIDE),
        box((x0, y1 - wall, z), (x1, y1, z + height), INSIDE),
        box((x0, y0, z), (x0 + wall, y1, z + height), INSIDE),
    ])  # fmt: skip


def drawer(cell: Cell, rng: np.random.Generator, thick: float = 0.018) -> Mover:
    """Drawer with a box behind its front."""
    c = cell.shrunk(GAP_M)
    depth = cell.depth * float(rng.uniform(0.8, 0.95))
    handle = bar_handle(rng, min(float(rng.uniform(0.08, 0.3)), 0.6 * c.width), GRIP, False)
    handle = shifted(handle, c.x + thick, (c.y0 + c.y1) / 2, c.z0 + c.height * float(rng.uniform(0.5, 0.8)))
    surface = merge([_panel(c, thick, rng), handle, _tray(c, depth, max(0.03, 0.7 * c.height - 0.02))])
    return Mover(surface, SLIDE, X, at(c.x, (c.y0 + c.y1) / 2, c.z0), depth * float(rng.uniform(0.6, 0.95)))


def _divided(cell: Cell, rng: np.random.Generator) -> list[Cell]:
    """Random grid of cells of sensible size."""
    columns = max(1, min(3, round(cell.width / float(rng.uniform(0.35, 0.7)))))
    out: list[Cell] = []
    for column in cell.columns(rng.uniform(0.7, 1.3, columns)):
        rows = max(1, min(4, round(cell.height / float(rng.uniform(0.2, 0.8)))))
        out += column.rows(rng.uniform(0.7, 1.3, rows))
    return out


def _fill(cell: Cell, rng: np.random.Generator, first: int) -> list[Mover]:
    """What closes one cell; ``first`` is the index its first mover will get. Tall cells get doors, low ones drawers."""
    if cell.height < 0.28:
        return [drawer(cell, rng)] if rng.random() < 0.85 else [flap(cell, False, rng)]
    if cell.width > 0.55:
        left, right = cell.columns(np.ones(2))
        return [door(left, False, rng), door(right, True, rng)]
    outer = door(cell, bool(rng.random() < 0.5), rng)
    if rng.random() > 0.25:
        return [outer]
    inner = replace(cell, x=cell.x - 0.03, depth=cell.depth - 0.03).shrunk(0.025).rows(np.ones(3))[0]
    hidden = drawer(inner, rng, 0.012)
    return [outer, replace(hidden, behind=first)]


def _shelf(cell: Cell, opening: Cell) -> list[Surface]:
    """Board on top of a cell and beside it, inside the carcass."""
    boards, wall, x0, x1 = [], 0.019, 0.02, cell.x - 0.04
    y0, y1 = max(cell.y0, opening.y0 + wall), min(cell.y1, opening.y1 - wall)
    if cell.z1 < opening.z1 - wall:
        boards.append(box((x0, y0, cell.z1 - 0.006), (x1, y1, cell.z1 + 0.006), INSIDE))
    if cell.y1 < opening.y1 - wall:
        z0, z1 = max(cell.z0, opening.z0 + wall), min(cell.z1, opening.z1 - wall)
        boards.append(box((x0, cell.y1 - 0.006, z0), (x1, cell.y1 + 0.006, z1), INSIDE))
    return boards


def _with_hatch(movers: list[Mover], cell: Cell, rng: np.random.Generator) -> list[Mover]:
    """Hang a small door on the first door: a door on a door."""
    big = movers[0]
    low, high = big.surface.vertices.min(0), big.surface.vertices.max(0)
    if big.type is not TURN or abs(big.axis[2]) < 0.5 or high[2] - low[2] < 0.5:
        return movers
    c = replace(cell, x=big.origin[0] + 0.012, y0=low[1], y1=high[1], z0=low[2], z1=high[2])
    c = c.rows(np.array([0.5, 0.35, 0.15]))[1].shrunk(0.07)
    return [*movers, replace(door(c, bool(big.axis[2] > 0), rng, 0.012), parent=0)]


def _palette(rng: np.random.Generator) -> tuple[Material, ...]:
    body = wood(rng) if rng.random() < 0.5 else paint(rng)
    front = body if rng.random() < 0.4 else (wood(rng) if rng.random() < 0.4 else paint(rng))
    return body, front, metal(rng), paint(rng), glass(rng)


def cabinet(rng: np.random.Generator) -> SimObject:
    """Cabinet with any mix of doors, drawers and flaps, drawers behind doors, sometimes a hatch in a door."""
    width, depth = rng.uniform(0.35, 1.3), rng.uniform(0.3, 0.6)
    height = rng.uniform(0.45, 1.7) if width < 0.8 else rng.uniform(0.4, 1.1)
    foot = rng.uniform(0.0, 0.12)
    base, opening = carcass(depth, width, foot, foot + height, 0.018)
    movers: list[Mover] = []
    for i, cell in enumerate(_divided(opening, rng)):
        if i and rng.random() < 0.12:
            continue
        movers += _fill(cell, rng, len(movers))
        base += _shelf(cell, opening)
    if rng.random() < 0.3:
        movers = _with_hatch(movers, opening, rng)
    if foot > 0.02:
        base.append(box((0.03, -width / 2 + 0.03, 0), (depth - 0.03, width / 2 - 0.03, foot), GRIP))
    return assemble("cabinet", base, movers, _palette(rng))


def drawer_table(rng: np.random.Generator) -> SimObject:
    """Desk or side table with one to three drawers under its top."""
    width, depth = rng.uniform(0.45, 1.4), rng.uniform(0.4, 0.7)
    height, box_height = rng.uniform(0.5, 0.78), rng.uniform(0.1, 0.2)
    low, top = height - box_height, 0.025
    base, opening = carcass(depth, width, low, height - top, 0.018)
    base.append(box((-0.02, -width / 2 - 0.02, height - top), (depth + 0.04, width / 2 + 0.02, height), BODY))
    leg = rng.uniform(0.02, 0.035)
    for x in (leg, depth - leg):
        for y in (-width / 2 + leg, width / 2 - leg):
            base.append(box((x - leg, y - leg, 0), (x + leg, y + leg, low), BODY))
    count = 1 if width < 0.6 else int(rng.integers(1, 4))
    return assemble("drawer_table", base, [drawer(c, rng) for c in opening.columns(np.ones(count))], _palette(rng))


def _appliance(rng: np.random.Generator) -> tuple[Material, ...]:
    body = metal(rng) if rng.random() < 0.5 else paint(rng)
    front = body if rng.random() < 0.6 else (glass(rng) if rng.random() < 0.4 else metal(rng))
    return body, front, metal(rng) if rng.random() < 0.6 else plastic(rng), paint(rng), glass(rng)


def microwave(rng: np.random.Generator) -> SimObject:
    """Microwave: door hinged on the left of the user, control panel on the other side."""
    width, depth, height = rng.uniform(0.42, 0.56), rng.uniform(0.32, 0.42), rng.uniform(0.25, 0.33)
    base, opening = carcass(depth, width, 0.01, height, 0.02)
    panel, doorway = opening.columns(np.array([1, rng.uniform(2.5, 4)]))
    base.append(box((depth - 0.1, panel.y0, panel.z0), (depth + 0.02, panel.y1, panel.z1), BODY))
    screen = panel.rows(np.array([3, 1, 0.3]))[1].shrunk(0.012)
    base.append(box((depth, screen.y0, screen.z0), (depth + 0.021, screen.y1, screen.z1), PANE))
    for row in panel.rows(np.array([0.4, 1, 1, 1, 2]))[1:4]:
        for key in row.columns(np.ones(3)):
            k = key.shrunk(0.004)
            base.append(box((depth, k.y0, k.z0), (depth + 0.0225, k.y1, k.z1), GRIP))
    plate = cylinder(0.12, 0.008, PANE, 32)
    base.append(shifted(plate, depth * 0.5, (doorway.y0 + doorway.y1) / 2, 0.04))
    return assemble("microwave", base, [door(doorway, True, rng, 0.03)], _appliance(rng))


def dishwasher(rng: np.random.Generator) -> SimObject:
    """Dishwasher: a flap at the bottom edge, two racks that slide out above it when it is open."""
    width, depth, height = rng.uniform(0.44, 0.62), rng.uniform(0.52, 0.62), rng.uniform(0.78, 0.9)
    base, opening = carcass(depth, width, 0.1, height, 0.02)
    base.append(box((0.05, -width / 2 + 0.02, 0), (depth - 0.06, width / 2 - 0.02, 0.1), GRIP))
    lower, upper = opening.rows(np.array([8, 1]))
    base.append(box((depth, upper.y0, upper.z0), (depth + 0.02, upper.y1, upper.z1), PANE))
    movers = [flap(lower, True, rng, 0.035)]
    inside = replace(lower, x=depth - 0.03, depth=depth - 0.08).shrunk(0.025)
    for row in inside.rows(np.array([1.1, 1.0]))[: int(rng.integers(1, 3))]:
        reach = inside.depth * float(rng.uniform(0.7, 0.9))
        tray = merge(
            [
                _tray(row, inside.depth, 0.1, 0.006),
                box((row.x - 0.006, row.y0, row.z0), (row.x, row.y1, row.z0 + 0.1), GRIP),
            ]
        )
        movers.append(Mover(tray, SLIDE, X, at(row.x, 0, row.z0), reach, behind=0))
    return assemble("dishwasher", base, movers, _appliance(rng))


def fridge(rng: np.random.Generator) -> SimObject:
    """Refrigerator: one or two doors (side by side or one above the other), freezer drawer, sometimes door in door."""
    width, depth, height = rng.uniform(0.5, 0.92), rng.uniform(0.52, 0.7), rng.uniform(0.85, 1.85)
    base, opening = carcass(depth, width, 0.03, height, 0.04)
    cells = opening.rows(np.array([1, rng.uniform(1.2, 2.2)])) if rng.random() < 0.7 and height > 1.1 else [opening]
    left = bool(rng.random() < 0.5)
    movers: list[Mover] = []
    for i, cell in enumerate(cells):
        if width > 0.78:
            near, far = cell.columns(np.ones(2))
            movers += [door(near, False, rng, 0.05), door(far, True, rng, 0.05)]
        elif i == 0 and len(cells) == 2 and rng.random() < 0.3:
            movers.append(drawer(cell, rng, 0.05))
        else:
            movers.append(_fridge_door(cell, left, rng))
        for z in np.linspace(cell.z0, cell.z1, 4)[1:-1]:
            base.append(box((0.04, cell.y0 + 0.05, z), (depth - 0.12, cell.y1 - 0.05, z + 0.008), PANE))
    if rng.random() < 0.35:
        movers = _with_hatch(movers, opening, rng)
    return assemble("fridge", base, movers, _appliance(rng))


def _fridge_door(cell: Cell, left: bool, rng: np.random.Generator) -> Mover:
    """Thick door with bins on its inner side."""
    mover = door(cell, left, rng, 0.05)
    inner = cell.shrunk(0.07)
    bins = [
        box((cell.x - 0.08, inner.y0, z), (cell.x, inner.y1, z + 0.07), INSIDE)
        for z in np.linspace(inner.z0, inner.z1 - 0.1, max(2, round(inner.height / 0.35)))
    ]
    return replace(mover, surface=merge([mover.surface, *bins]))


def oven(rng: np.random.Generator) -> SimObject:
    """Oven: a glazed flap under a panel with turning knobs, sometimes a drawer below."""
    width, depth, height = rng.uniform(0.45, 0.7), rng.uniform(0.5, 0.62), rng.uniform(0.6, 0.92)
    base, opening = carcass(depth, width, 0.02, height, 0.03)
    low, middle, top = opening.rows(np.array([0.25, 1, 0.25]))
    base.append(box((depth - 0.1, top.y0, top.z0), (depth + 0.02, top.y1, top.z1), BODY))
    pane = middle.shrunk(0.09)
    window = box((depth + 0.03, pane.y0, pane.z0), (depth + 0.032, pane.y1, pane.z1), PANE)
    main = flap(middle, True, rng, 0.03)
    movers = [replace(main, surface=merge([main.surface, window]))]
    movers.append(drawer(low, rng, 0.03))
    for y in np.linspace(top.y0, top.y1, int(rng.integers(4, 7)))[1:-1]:
        z = (top.z0 + top.z1) / 2
        dial = merge([cylinder(0.02, 0.025, GRIP, 20), box((-0.02, -0.004, 0.02), (0.02, 0.004, 0.034), PANE)])
        knob = turned(dial, Y, np.pi / 2)
        movers.append(Mover(shifted(knob, depth + 0.02, y, z), TURN, X, at(depth, y, z), 4.7))
    return assemble("oven", base, movers, _appliance(rng))


def _portal(x0: float, x1: float, width: float, height: float, border: float, material: int) -> Surface:
    """Two posts and a lintel around an opening that starts at the floor."""
    y = width / 2
    return merge([
        box((x0, -y - border, 0), (x1, -y, height + border), material),
        box((x0, y, 0), (x1, y + border, height + border), material),
        box((x0, -y, height), (x1, y, height + border), material),
    ])  # fmt: skip


def room_door(rng: np.random.Generator) -> SimObject:
    """Room door in its frame, with a lever handle that turns on the leaf."""
    width, height = rng.uniform(0.65, 0.95), rng.uniform(1.9, 2.1)
    wall = _portal(0.0, 0.1, width + 0.02, height + 0.01, 0.35, BODY)
    casing = _portal(-0.01, 0.115, width, height, 0.06, INSIDE)
    left = bool(rng.random() < 0.5)
    cell = Cell(0.07, -width / 2, width / 2, 0.0, height, 0.0)
    c = cell.shrunk(0.004)
    leaf = _panel(c, 0.04, rng)
    hinge = at(c.x + 0.04, c.y1 if left else c.y0, c.z0)
    free = c.y0 + 0.07 if left else c.y1 - 0.07
    side = 1.0 if left else -1.0
    lever = merge([
        turned(cylinder(0.012, 0.05, GRIP, 14), Y, np.pi / 2, at(0, 0, 0)),
        box((0.04, -0.01 if left else -0.13, -0.01), (0.058, 0.13 if left else 0.01, 0.01), GRIP),
    ])  # fmt: skip
    pivot = at(c.x + 0.04, free, 1.03)
    movers = [
        Mover(leaf, TURN, side * Z, hinge, float(rng.uniform(1.4, 1.9))),
        Mover(moved(lever, pivot), TURN, -side * X, pivot, float(rng.uniform(0.6, 0.9)), parent=0),
    ]
    return assemble("door", [wall, casing], movers, (paint(rng), wood(rng) if rng.random() < 0.5 else paint(rng),
                    metal(rng), paint(rng), printed(rng, 0.5)))  # fmt: skip
