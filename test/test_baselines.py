"""FeatClust finds joints where its assumptions hold, and is told apart from a good method where they do not."""

import numpy as np
import pytest

from art_perception.errors import MotionError
from art_perception.eval import baselines, metrics
from art_perception.geometry.kinematics import chain_of, displacements, with_base
from art_perception.geometry.lie import transform
from art_perception.types import Joint, JointType

FRAMES = 12
DOOR = Joint("door", "base", "d", JointType.REVOLUTE, np.array([0, 0, 1.0]), np.array([1.0, 0, 0]), (0, 1))
DRAWER = Joint("drawer", "base", "d", JointType.PRISMATIC, np.array([0, -1.0, 0]), np.zeros(3), (0, 1))


def clip(joint: Joint, last: float, noise_m: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tracks (N, T, 3) of a static block and a moving one a metre apart, true parts (N,) and states (T,)."""
    rng = np.random.default_rng(0)
    rest = rng.uniform(-0.2, 0.2, (2, 150, 3)) + np.array([[[0, 0, 0]], [[1.3, 0, 0]]])
    q = np.linspace(0, last, FRAMES)
    D = with_base(displacements(chain_of([joint]), q[:, None]))
    points = transform(D, rest[None]).reshape(FRAMES, -1, 3).transpose(1, 0, 2)
    return points + noise_m * rng.normal(size=points.shape), np.repeat([0, 1], 150), q


@pytest.mark.parametrize(("joint", "last"), [(DOOR, 0.8), (DRAWER, 0.3)])
def test_well_separated_parts_are_recovered(joint: Joint, last: float) -> None:
    points, true, q = clip(joint, last)
    found = baselines.featclust(points, np.ones(points.shape[:2], bool), 2)
    (estimate,) = found.joints
    assert estimate.type is joint.type
    assert metrics.axis_angle_deg(estimate.axis, joint.axis) < 0.1
    assert metrics.state_error(found.q[:, 0], q, joint.type) < 0.1
    assert (found.part == true[:, None]).all()
    if joint.type is JointType.REVOLUTE:
        assert metrics.line_to_line_cm(estimate.axis, estimate.origin, joint.axis, joint.origin) < 0.1


def test_hidden_points_are_neither_clustered_nor_used() -> None:
    points, true, q = clip(DOOR, 0.8)
    visible = np.ones(points.shape[:2], bool)
    visible[::3, 4:] = False
    broken = np.where(visible[..., None], points, 1e3)
    found = baselines.featclust(broken, visible, 2)
    assert (found.part[~visible] == baselines.HIDDEN).all()
    assert (found.part[visible] == np.broadcast_to(true[:, None], visible.shape)[visible]).all()
    assert metrics.state_error(found.q[:, 0], q, JointType.REVOLUTE) < 0.1


def test_the_same_seed_gives_the_same_answer() -> None:
    points, _, _ = clip(DOOR, 0.8, 0.01)
    visible = np.ones(points.shape[:2], bool)
    a, b = (baselines.featclust(points, visible, 3, seed=4) for _ in range(2))
    np.testing.assert_array_equal(a.part, b.part)
    np.testing.assert_array_equal(a.q, b.q)


def test_appearance_tells_touching_parts_apart() -> None:
    points, true, _ = clip(DRAWER, 0.1)
    touching = points - np.where(true == 1, 1.1, 0.0)[:, None, None] * [1, 0, 0]
    visible = np.ones(points.shape[:2], bool)
    colour = np.broadcast_to(np.where(true == 1, 1.0, -1.0)[:, None, None], (*visible.shape, 1))

    def right(appearance: np.ndarray | None) -> float:
        part = baselines.featclust(touching, visible, 2, appearance=appearance).part
        return float((part == true[:, None]).mean())

    assert right(None) < 0.95
    assert right(colour) == 1.0


def test_nothing_to_cluster_is_an_error() -> None:
    with pytest.raises(MotionError, match="too few"):
        baselines.featclust(np.zeros((2, 5, 3)), np.ones((2, 5), bool), 3)
