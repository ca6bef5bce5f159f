"""How a hand that holds a camera moves."""

from __future__ import annotations

import numpy as np

from art_perception.geometry.lie import exp_se3, exp_so3, from_rotation_translation


def smoothstep(x: np.ndarray) -> np.ndarray:
    """Minimum-jerk profile from 0 to 1."""
    x = np.clip(x, 0, 1)
    return x**3 * (10 - 15 * x + 6 * x * x)


def wander(times_s: np.ndarray, scale: np.ndarray, rng: np.random.Generator, period_s: float = 2.0) -> np.ndarray:
    """Smooth zero-start noise (T, D): a few slow sines per dimension with amplitude ``scale`` (D,)."""
    out = np.zeros((len(times_s), len(scale)))
    for harmonic in (1.0, 2.3, 4.1):
        phase = rng.uniform(0, 2 * np.pi, len(scale))
        rate = 2 * np.pi * harmonic / period_s * rng.uniform(0.7, 1.3, len(scale))
        amplitude = scale * rng.normal(size=len(scale)) / harmonic
        out += amplitude * (np.sin(rate * times_s[:, None] + phase) - np.sin(phase))
    return out


def pose_error(times_s: np.ndarray, sigma: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Errors (T, 4, 4) of recorded camera poses, slow drift and some jitter; ``sigma`` (6,) metres and rad."""
    return exp_se3(wander(times_s, 0.7 * sigma, rng, 4.0) + 0.3 * sigma * rng.normal(size=(len(times_s), 6)))


def look_at(eye: np.ndarray, target: np.ndarray, roll: np.ndarray) -> np.ndarray:
    """Optical-frame poses (T, 4, 4) at ``eye`` (T, 3) looking at ``target`` (T, 3); z is up, ``roll`` (T,) in rad."""
    z = target - eye
    z /= np.linalg.norm(z, axis=-1, keepdims=True)
    x = np.cross(z, np.array([0.0, 0.0, 1.0]))
    x /= np.linalg.norm(x, axis=-1, keepdims=True)
    R = np.stack([x, np.cross(z, x), z], -1)
    R = R @ exp_so3(roll[:, None] * np.array([0.0, 0.0, 1.0]))
    return from_rotation_translation(R, eye)


def hand_held(
    times_s: np.ndarray,
    target: np.ndarray,
    azimuth: float,
    elevation: float,
    distance_m: float,
    arc_rad: float,
    shake: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """Camera poses (T, 4, 4) of a person walking part of an arc around ``target`` (3,) and never holding still."""
    span = max(float(times_s[-1]), 1e-9)
    progress = smoothstep(times_s / span * rng.uniform(0.8, 1.2)) - 0.5
    noise = wander(times_s, shake * np.array([0.02, 0.02, 0.03, 0.035, 0.02]), rng)
    az = azimuth + arc_rad * progress + noise[:, 0]
    el = elevation + arc_rad * rng.uniform(-0.3, 0.3) * progress + noise[:, 1]
    distance = distance_m * (1 + rng.uniform(-0.12, 0.12) * shake * progress + noise[:, 2])
    el = np.clip(el, -0.2, 1.35)
    eye = target + distance[:, None] * np.stack([np.cos(el) * np.cos(az), np.cos(el) * np.sin(az), np.sin(el)], -1)
    aim = target + distance_m * wander(times_s, shake * np.full(3, 0.015), rng, 3.0)
    return look_at(eye, aim, shake * rng.normal(0, 0.05) + noise[:, 3])
