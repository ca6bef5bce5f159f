"""``art-perception generate``: a new object of a category, drawn from the shape prior, as a result folder."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
from tyro.conf import arg

from art_perception.cli.options import parse
from art_perception.cli.progress import stage_bar
from art_perception.errors import CheckpointError, UsageError
from art_perception.generate import GenerateConfig, generate
from art_perception.io.atomic import atomic_directory
from art_perception.io.results import Result, write_result
from art_perception.models.census import Census
from art_perception.models.checkpoint import SHIPPED, fingerprint, kinediff3d_file, load_census, load_kinematic_vae
from art_perception.models.kinematic_vae import KinematicVae
from art_perception.types import ArticulatedObject, Joint, JointType, PriorUse
from art_perception.urdf.writer import URDF_FILE, write_urdf
from art_perception.viz.sweep import states_picture, sweep

STATES_FILE = "states.png"
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class GenerateOptions:
    """Draw a new object from the shape prior of a category: URDF, meshes and a picture of its states."""

    category: str
    """Kind of object, such as laptop; an unknown one lists those that are known."""
    out: Path
    """Folder for the result; an earlier result there is replaced."""
    state: tuple[float, ...] = (0.0,)
    """Joint value, rad or metres, 0 = shut: one for all joints, or one per joint. It is written to result.json."""
    size_m: float | None = None
    """Diagonal of the object's bounding box when shut, metres; without it, a usual one."""
    weights: str = SHIPPED
    """Folder with kinediff3d_vae and kinediff3d_census.safetensors; shipped = the package's own."""
    draw: Annotated[GenerateConfig, arg(name="")] = field(default_factory=GenerateConfig)


def main(arguments: list[str]) -> int:
    """Entry point of the command."""
    options = parse(GenerateOptions, "generate", arguments)
    start = time.perf_counter()
    prior, census = load_prior(options.weights)
    if options.size_m is not None and not 0.01 <= options.size_m <= 10:
        raise UsageError(f"--size-m {options.size_m:g} is no size of an object: give 0.01 to 10 metres")
    index = category_index(options.category, prior)
    with stage_bar() as progress, atomic_directory(options.out) as folder:
        progress("drawing", 0.0)
        obj = generate(index, options.size_m, prior, census, options.draw)
        q = checked_state(options.state, obj.joints)
        progress("writing", 0.9)
        write_urdf(obj, folder)
        cv2.imwrite(str(folder / STATES_FILE), cv2.cvtColor(states_shown(obj, q), cv2.COLOR_RGB2BGR))
        seconds = {"total": time.perf_counter() - start}
        reason = f"drawn from the shape prior with seed {options.draw.seed}; nothing was measured"
        use = PriorUse(options.category, "all", None, reason)
        write_result(folder, Result("world", "generated", obj.joints, np.zeros(1), q[None], seconds, prior=use))
    print(describe(options.out, obj, q))
    return 0


def load_prior(weights: str) -> tuple[KinematicVae, Census]:
    """Read the shape prior and the census of its objects.

    Raises:
        CheckpointError: one is missing or none of its kind, or they do not belong together.
    """
    vae, census = (kinediff3d_file(weights, stage) for stage in ("vae", "census"))
    prior, counted = load_kinematic_vae(vae)[0], load_census(census)[0]
    if counted.prior != fingerprint(prior):
        raise CheckpointError(
            f"{census} counts the objects of another shape prior than {vae}: make it again with "
            f"`art-perception train kinediff3d --stage census --vae {vae}`"
        )
    return prior, counted


def category_index(category: str, prior: KinematicVae) -> int:
    """Index of a category by its name.

    Raises:
        UsageError: the prior does not know it.
    """
    names = [info.name for info in prior.categories]
    if category not in names:
        raise UsageError(f"category {category!r} is unknown: give one of {', '.join(names)}")
    return names.index(category)


def checked_state(state: Sequence[float], joints: Sequence[Joint]) -> np.ndarray:
    """Joint values (J,) from one for all joints or one per joint.

    Raises:
        UsageError: there are too many or too few, or one is outside its joint's limits.
    """
    if len(state) not in (1, len(joints)):
        raise UsageError(f"--state has {len(state)} values, the object {len(joints)} joint(s): give one, or one each")
    q = np.broadcast_to(np.array(state, float), len(joints)).copy()
    for joint, value in zip(joints, q, strict=True):
        low, high = joint.limits
        if not low <= value <= high:
            unit = "rad" if joint.type is JointType.REVOLUTE else "m"
            raise UsageError(
                f"--state {value:g} is outside the limits of {joint.name}: give {low:.2f} to {high:.2f} {unit}"
            )
    return q


def states_shown(obj: ArticulatedObject, q: np.ndarray) -> np.ndarray:
    """Picture of the object from shut to open, and at ``q`` where that is neither."""
    states = sweep(obj.joints, _SHOWN)
    if not any(np.allclose(q, state) for state in states):
        states = sorted([*states, q], key=lambda state: float(state[0]))
    return states_picture(obj, states)


def describe(out: Path, obj: ArticulatedObject, q: np.ndarray) -> str:
    """Lines for the terminal."""
    lines = [f"URDF    {(out / URDF_FILE).resolve()}", f"states  {(out / STATES_FILE).resolve()}"]
    for joint, value in zip(obj.joints, q, strict=True):
        unit = "rad" if joint.type is JointType.REVOLUTE else "m"
        low, high = joint.limits
        lines.append(f"{joint.name}  {joint.type.value}, {low:.2f} to {high:.2f} {unit}, now at {value:.2f}")
    return "\n".join([*lines, f"a new {obj.name} from the shape prior; nothing of it was measured"])
