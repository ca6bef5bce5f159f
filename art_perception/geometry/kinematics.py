"""Product-of-exponentials forward kinematics (Lynch & Park, "Modern Robotics", section 4.1).

Parts are stored in the fixed frame at zero joint values, so the only thing kinematics has to give is each part's
*displacement* ``D_k(q)``: a point of part k at ``p`` for q = 0 is at ``D_k(q) p``, where
``D_k = D_parent(k) exp(S_k q_k)``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from art_perception.geometry.lie import Array, exp_se3, namespace
from art_perception.geometry.screw import twist_of_joint
from art_perception.types import Joint


@dataclass(frozen=True, slots=True, eq=False)
class Chain:
    """A kinematic tree.

    Attributes:
        twists: (J, 6) unit twists ``[v, w]`` in the fixed frame at zero joint values.
        parents: (J,) index of the joint that moves the parent link, -1 for the base; parents come first.
    """

    twists: Array
    parents: tuple[int, ...]


def chain_of(joints: Sequence[Joint]) -> Chain:
    """Build the chain of ``joints`` from their parent and child link names.

    Raises:
        ValueError: a joint comes before its parent.
    """
    index = {joint.child: i for i, joint in enumerate(joints)}
    parents = tuple(index.get(joint.parent, -1) for joint in joints)
    if any(p >= i for i, p in enumerate(parents)):
        raise ValueError("joints must be ordered parents first")
    twists = np.stack([twist_of_joint(j) for j in joints]) if joints else np.zeros((0, 6))
    return Chain(twists, parents)


def displacements(chain: Chain, q: Array) -> Array:
    """Displacement of every moving part: q (..., J) -> (..., J, 4, 4)."""
    xp = namespace(q)
    own = exp_se3(q[..., None] * chain.twists)
    out: list[Array] = []
    for j, parent in enumerate(chain.parents):
        out.append(own[..., j, :, :] if parent < 0 else out[parent] @ own[..., j, :, :])
    return xp.stack(out, -3) if out else own


def with_base(D: Array) -> Array:
    """Prepend the identity displacement of the base: (..., J, 4, 4) -> (..., J + 1, 4, 4)."""
    xp = namespace(D)
    eye = np.eye(4, dtype=D.dtype) if xp is np else xp.eye(4, dtype=D.dtype, device=D.device)
    return (np.concatenate if xp is np else xp.cat)([xp.broadcast_to(eye, (*D.shape[:-3], 1, 4, 4)), D], -3)


def placed(twists: Array, q: Array) -> Array:
    """Displacements of a base and the parts that hang on it: twists (..., J, 6), q (..., J) -> (..., J + 1, 4, 4)."""
    return with_base(displacements(Chain(twists, (-1,) * q.shape[-1]), q))
