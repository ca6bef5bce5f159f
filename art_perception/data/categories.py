"""Categories of KineDiff3D: which joints of which objects make a sample, and the canonical frame it is stated in.

A category has a fixed number of parts: a base and one moving part, or two for eyeglasses. *Variable topology*: a
cabinet with n doors gives n samples, in each of which one door is the moving part and everything else, the other
doors shut, belongs to the base. An object of any number of joints is reconstructed one joint at a time.

Canonical frame: z up, the front towards +x, origin at the centre of the bounding box of the rest state, whose diagonal
is 1. At rest every joint is shut (eyeglasses: unfolded, what they stand with); q = 0 is rest, positive q opens.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from art_perception.data.model import SimObject, Surface, merge
from art_perception.geometry.kinematics import displacements, with_base
from art_perception.geometry.lie import exp_so3, transform
from art_perception.geometry.screw import twist_of
from art_perception.types import Joint, JointType

MAX_PARTS = 3
_WIDEST_TURN = 4.0  # rad; what turns further is a wheel or a turntable


@dataclass(frozen=True, slots=True)
class Category:
    """Which objects and joints belong to a category.

    Attributes:
        objects: categories of the simulator, PartNet-Mobility and Infinigen it is made from, lower case.
        type: of its joints.
        movers: moving parts of a sample.
        front: cosine between +x and where the moving part is (revolute) or goes (prismatic) that a sample must reach.
        upright: smallest ``abs(axis z)``.
        most_joints: of an object; a carton of many flaps is shut in no order we know.
        handed: whether the mirror image is another object; of scissors, whose blades would change roles, it is the same
            one read in another way.
        partnet_turn: about z, rad, that brings the front of PartNet-Mobility's to +x; elsewhere it is there.
    """

    objects: frozenset[str]
    type: JointType = JointType.REVOLUTE
    movers: int = 1
    front: float = -1.0
    upright: float = 0.0
    most_joints: int = 24
    handed: bool = True
    partnet_turn: float = np.pi


CATEGORIES = {
    "laptop": Category(frozenset({"laptop"})),
    "eyeglasses": Category(frozenset({"eyeglasses"}), movers=2, upright=0.8),
    "dishwasher": Category(frozenset({"dishwasher"}), front=0.3),
    "scissors": Category(frozenset({"scissors"}), upright=0.8, handed=False, partnet_turn=-np.pi / 2),
    "drawer": Category(frozenset({"drawer", "drawer_table", "cabinet", "storagefurniture", "table"}),
                       JointType.PRISMATIC, front=0.9),
    "box": Category(frozenset({"box"}), most_joints=4),
    "microwave": Category(frozenset({"microwave"}), front=0.3),
    "refrigerator": Category(frozenset({"fridge", "refrigerator"}), front=0.3, upright=0.8),
    "cabinet": Category(frozenset({"cabinet", "storagefurniture", "table"}), front=0.3, upright=0.8),
}  # fmt: skip
"""The categories by name; their order is the index a network knows them by."""

NAMES = tuple(CATEGORIES)


@dataclass(frozen=True, slots=True, eq=False)
class ShapeObject:
    """A base and its moving parts in the canonical frame at rest.

    Attributes:
        name: of the object, and of the joint when it has several.
        category: index into ``NAMES``.
        parts: ``parts[0]`` the base, ``parts[k + 1]`` moved by joint k.
        axis: (J, 3) unit, positive opens.
        origin: (J, 3) a point on each axis.
        type: one for all joints.
        limits: (J, 2) rad or units, the first 0.
        size_m: metres per unit: the diagonal of the bounding box at rest.
    """

    name: str
    category: int
    parts: tuple[Surface, ...]
    axis: np.ndarray
    origin: np.ndarray
    type: JointType
    limits: np.ndarray
    size_m: float

    @property
    def twists(self) -> np.ndarray:
        """(J, 6) unit twists in the canonical frame at rest."""
        return np.stack([twist_of(self.type, a, o) for a, o in zip(self.axis, self.origin, strict=True)])


def samples_of(obj: SimObject, source: str) -> list[ShapeObject]:
    """All samples an object gives, in any category; none when nothing of it fits.

    Args:
        obj: object in its own frame, metres.
        source: where it comes from (``procedural``, ``infinigen``, ``partnet``).
    """
    shut = at_rest(obj)
    blocked = {k for k, _ in obj.blockers}
    out = []
    for index, category in enumerate(CATEGORIES.values()):
        if obj.category not in category.objects or len(obj.joints) > category.most_joints:
            continue
        fitting = [k for k, joint in enumerate(shut.joints) if k not in blocked and _fits(joint, category)]
        for chosen in _choices(fitting, category):
            sample = _canonical(shut, chosen, index, category.partnet_turn if source == "partnet" else 0.0)
            if all(_in_front(sample, j, category) for j in range(len(chosen))):
                out.append(sample)
    return out


def rest_state(joint: Joint) -> float:
    """Value at which a joint is shut: 0 where it may slide or spin both ways, else its lower limit."""
    low, high = joint.limits
    if joint.type is JointType.PRISMATIC or high - low > _WIDEST_TURN:
        return float(np.clip(0.0, low, high))
    return low


def _fits(joint: Joint, category: Category) -> bool:
    low, high = joint.limits
    turns_too_far = joint.type is JointType.REVOLUTE and high - low > _WIDEST_TURN
    return joint.type is category.type and not turns_too_far and abs(joint.axis[2]) >= category.upright


def _choices(fitting: list[int], category: Category) -> list[list[int]]:
    """Joints of every sample."""
    if category.movers == 1:
        return [[k] for k in fitting]
    return [fitting] if len(fitting) == category.movers else []


def at_rest(obj: SimObject) -> SimObject:
    """The object with all joints shut and zero there."""
    q = np.array([rest_state(joint) for joint in obj.joints])
    D = with_base(displacements(obj.chain, q))
    parents = np.array(obj.chain.parents) + 1
    joints = tuple(
        replace(j, axis=D[p, :3, :3] @ j.axis, origin=transform(D[p], np.asarray(j.origin)[None])[0],
                limits=(0.0, j.limits[1] - rest))
        for j, p, rest in zip(obj.joints, parents, q, strict=True)
    )  # fmt: skip
    parts = tuple(replace(s, vertices=transform(d, s.vertices)) for s, d in zip(obj.parts, D, strict=True))
    return replace(obj, parts=parts, joints=joints)


def _canonical(obj: SimObject, chosen: list[int], category: int, turn: float) -> ShapeObject:
    """Group the parts by which chosen joint carries them, and express them in the canonical frame."""
    owner = _owners(obj, chosen)
    groups = [merge([p for p, o in zip(obj.parts, owner, strict=True) if o == k]) for k in range(len(chosen) + 1)]
    R = exp_so3(np.array([0.0, 0.0, turn]))
    points = np.concatenate([g.vertices for g in groups]) @ R.T
    low, high = points.min(0), points.max(0)
    middle, size = (low + high) / 2, float(np.linalg.norm(high - low))
    joints = [obj.joints[k] for k in chosen]
    sliding = joints[0].type is JointType.PRISMATIC
    order = np.argsort([float((R @ j.origin)[1]) for j in joints])  # from the object's right to its left
    groups = [groups[0], *(groups[i + 1] for i in order)]
    joints = [joints[i] for i in order]
    return ShapeObject(
        name=f"{obj.name}_{joints[0].name}",
        category=category,
        parts=tuple(replace(g, vertices=(g.vertices @ R.T - middle) / size) for g in groups),
        axis=np.stack([R @ j.axis for j in joints]),
        origin=np.stack([(R @ j.origin - middle) / size for j in joints]),
        type=joints[0].type,
        limits=np.array([j.limits for j in joints]) / (size if sliding else 1.0),
        size_m=size,
    )


def _owners(obj: SimObject, chosen: list[int]) -> list[int]:
    """For every part, 1 + the index in ``chosen`` of the joint that carries it, 0 for the base."""
    owner = [0]
    for k, parent in enumerate(obj.chain.parents):
        owner.append(chosen.index(k) + 1 if k in chosen else owner[parent + 1])
    return owner


def _in_front(sample: ShapeObject, j: int, category: Category) -> bool:
    """Whether the moving part is, or goes, where the category has its front."""
    if sample.type is JointType.PRISMATIC:
        return bool(sample.axis[j, 0] >= category.front)
    vertices = sample.parts[j + 1].vertices
    if not len(vertices):
        return False
    middle = (vertices.min(0) + vertices.max(0)) / 2
    reach = np.abs(np.concatenate([p.vertices[:, 0] for p in sample.parts])).max()
    return bool(middle[0] / reach >= category.front)
