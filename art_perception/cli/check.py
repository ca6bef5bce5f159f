"""``art-perception check``: is a URDF good for simulators and robot_state_publisher?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from art_perception.cli.options import parse
from art_perception.urdf.check import check_urdf
from art_perception.urdf.reader import load_urdf
from art_perception.urdf.writer import URDF_FILE

FOUND_PROBLEMS = 1


@dataclass(frozen=True, slots=True)
class CheckOptions:
    """Validate a URDF: structure, joints, inertias and meshes. Exit code 1 when there are problems."""

    urdf: Positional[Path]
    """The URDF, or a result folder that holds an object.urdf."""


def main(arguments: list[str]) -> int:
    """Entry point of the command."""
    path = parse(CheckOptions, "check", arguments).urdf
    path = path / URDF_FILE if path.is_dir() else path
    problems = check_urdf(path)
    for problem in problems:
        print(problem)
    if problems:
        print(f"{path}: {len(problems)} problem{'s' if len(problems) > 1 else ''}")
        return FOUND_PROBLEMS
    obj = load_urdf(path)
    print(
        f"{path}: good, {len(obj.parts)} parts, joints: {', '.join(f'{j.name} ({j.type.value})' for j in obj.joints)}"
    )
    return 0
