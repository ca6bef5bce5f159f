"""What physics engines say of a URDF: how deep a moving part gets into the base between its joint's limits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest


def deepest_m(urdf: Path, states: int = 61) -> float:
    """Deepest interpenetration of the base's collision pieces and a moving part's, over the range of every joint."""
    pybullet = pytest.importorskip("pybullet")
    client = pybullet.connect(pybullet.DIRECT)
    try:
        body = pybullet.loadURDF(str(urdf), useFixedBase=True, physicsClientId=client)
        infos = [pybullet.getJointInfo(body, i, physicsClientId=client) for i in range(pybullet.getNumJoints(body))]
        base = [info[12] for info in infos].index(b"base")
        deepest = 0.0
        for joint, lower, upper in ((i[0], i[8], i[9]) for i in infos if i[2] != pybullet.JOINT_FIXED):
            for q in np.linspace(lower, upper, states):
                pybullet.resetJointState(body, joint, q, physicsClientId=client)
                contacts = pybullet.getClosestPoints(body, body, 0.0, base, joint, physicsClientId=client)
                deepest = max([deepest, *(-contact[8] for contact in contacts)])
            pybullet.resetJointState(body, joint, max(lower, min(0.0, upper)), physicsClientId=client)
        return deepest
    finally:
        pybullet.disconnect(client)


def mujoco_ranges(urdf: Path) -> np.ndarray:
    """Ranges (J, 2) of the joints that MuJoCo finds in a URDF."""
    mujoco = pytest.importorskip("mujoco")
    return np.array(mujoco.MjModel.from_xml_path(str(urdf)).jnt_range)
