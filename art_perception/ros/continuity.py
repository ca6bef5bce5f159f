"""Parts and joints keep their names, and joints their directions, when a later estimate replaces an earlier one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from art_perception.pipeline import Reconstruction
from art_perception.types import Joint, Part, PartMotion


def continued(new: Reconstruction, old: Reconstruction) -> Reconstruction:
    """Name the joints of ``new`` as in ``old``, and let them count in the same direction.

    Args:
        new: the later estimate; the order of its parts and joints stays.
        old: the earlier one, in the same fixed frame.
    """
    same = partners(new.object.parts[1:], old.object.parts[1:])
    names = _names(new.object.joints, {k: old.object.joints[j] for k, j in same.items()})
    signs = [_sign(joint, old.object.joints[same[k]]) if k in same else 1 for k, joint in enumerate(new.object.joints)]
    joints = tuple(_renamed(j, names, sign) for j, sign in zip(new.object.joints, signs, strict=True))
    base, *moving = new.object.parts
    parts = (base, *(replace(part, name=joint.child) for part, joint in zip(moving, joints, strict=True)))
    motion = PartMotion(new.motion.labels, joints, new.motion.q * np.array(signs))
    return replace(new, object=replace(new.object, joints=joints, parts=parts), motion=motion)


def partners(new: Sequence[Part], old: Sequence[Part]) -> dict[int, int]:
    """Which old part (value) each new part (key) is, going by where their meshes are; nearest first, one each."""
    pairs = sorted(
        (distance, k, j)
        for k, part in enumerate(new)
        for j, other in enumerate(old)
        if (distance := _distance(part, other)) < 1
    )
    found: dict[int, int] = {}
    for _, k, j in pairs:
        if k not in found and j not in found.values():
            found[k] = j
    return found


def _distance(a: Part, b: Part) -> float:
    """Distance of the parts' middles in units of half the larger one's diagonal; infinite without meshes."""
    if not (len(a.visual.vertices) and len(b.visual.vertices)):
        return np.inf
    low, high = (np.stack([f(p.visual.vertices, axis=0) for p in (a, b)]) for f in (np.min, np.max))
    middle, size = (low + high) / 2, np.linalg.norm(high - low, axis=-1)
    return float(np.linalg.norm(middle[0] - middle[1]) / (0.5 * size.max()))


def _names(joints: Sequence[Joint], known: dict[int, Joint]) -> dict[str, tuple[str, str]]:
    """Names of joint and child, by the child's present name: those of the known joint, or some that are left."""
    taken = {joint.name for joint in known.values()}
    left = iter((joint.name, joint.child) for joint in joints if joint.name not in taken)
    return {
        joint.child: (known[k].name, known[k].child) if k in known else next(left) for k, joint in enumerate(joints)
    }


def _sign(joint: Joint, known: Joint) -> int:
    return -1 if joint.type is known.type and joint.axis @ known.axis < 0 else 1


def _renamed(joint: Joint, names: dict[str, tuple[str, str]], sign: int) -> Joint:
    name, child = names[joint.child]
    _, parent = names.get(joint.parent, ("", joint.parent))
    low, high = sorted(sign * limit for limit in joint.limits)
    return replace(joint, name=name, child=child, parent=parent, axis=sign * joint.axis, limits=(low, high))
