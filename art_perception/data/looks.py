"""Palettes: materials and colours as they occur in homes."""

from __future__ import annotations

import numpy as np

from art_perception.data.model import Material, rgb


def random_color(rng: np.random.Generator, low: float = 0.05, high: float = 0.85) -> tuple[float, float, float]:
    """Linear RGB: mostly greys, creams and browns as in homes, now and then a strong colour."""
    grey = rng.uniform(low, high)
    if rng.random() < 0.2:
        color = grey * rng.uniform(0.15, 1.4, 3)
    else:
        warm = rng.uniform(-0.05, 0.4)
        color = grey * np.array([1 + 0.4 * warm, 1.0, 1 - warm]) * (1 + 0.03 * rng.normal(size=3))
    return rgb(color)


def wood(rng: np.random.Generator) -> Material:
    """Some wood, light to dark."""
    color = np.array([0.55, 0.36, 0.2]) * rng.uniform(0.25, 1.4) + rng.uniform(0, 0.08)
    return Material(rgb(color), "wood", float(rng.uniform(0.4, 0.9)), float(rng.uniform(0.5, 1.2)), 0.1)


def paint(rng: np.random.Generator) -> Material:
    """Painted board: often nearly white, sometimes coloured, with little or no texture."""
    color = np.full(3, rng.uniform(0.55, 0.88)) if rng.random() < 0.6 else np.array(random_color(rng, 0.1, 0.7))
    kind = str(rng.choice(["plain", "noise", "speckle", "brushed"]))
    return Material(rgb(color), kind, float(rng.uniform(0.2, 0.8)), float(rng.uniform(0.05, 0.4)), 0.15)


def metal(rng: np.random.Generator) -> Material:
    """Brushed or plain metal."""
    color = np.full(3, rng.uniform(0.25, 0.75)) + rng.normal(0, 0.02, 3)
    return Material(rgb(color), "brushed", float(rng.uniform(0.2, 0.5)), float(rng.uniform(0.2, 0.8)), 0.5)


def plastic(rng: np.random.Generator) -> Material:
    """Dark, white or coloured plastic."""
    grey = float(rng.choice([0.02, 0.05, 0.3, 0.75]))
    color = np.full(3, grey) if rng.random() < 0.6 else np.array(random_color(rng, 0.02, 0.6))
    return Material(rgb(color), str(rng.choice(["plain", "noise", "speckle"])), 0.15, float(rng.uniform(0, 0.3)), 0.3)


def glass(rng: np.random.Generator) -> Material:
    """Dark reflecting pane (opaque to the depth camera)."""
    return Material(rgb(np.full(3, 0.03) + rng.uniform(0, 0.08, 3)), "marble", 0.7, 0.5, 0.6)


def printed(rng: np.random.Generator, size_m: float) -> Material:
    """Coloured print, labels, a picture."""
    return Material(rgb(rng.uniform(0.15, 0.8, 3)), "print", size_m, float(rng.uniform(0.5, 1.0)), 0.05)


def anything(rng: np.random.Generator) -> Material:
    """A material for a surface about which nothing is known."""
    makers = (wood, paint, metal, plastic)
    return makers[rng.choice(4, p=[0.35, 0.35, 0.15, 0.15])](rng) if rng.random() < 0.92 else printed(rng, 0.4)
