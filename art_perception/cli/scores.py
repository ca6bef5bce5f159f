"""Compare a result folder with the ground truth of the recording it was made from."""

from __future__ import annotations

from pathlib import Path

from art_perception.errors import BagError
from art_perception.eval.scoring import ClipScore, Prediction, Samples, Truth, sample_part_ids, score_clip, truth_from
from art_perception.io.bag import read_ground_truth, read_part_ids
from art_perception.io.results import read_labels, read_result
from art_perception.urdf.reader import load_urdf


def read_truth(bag: Path) -> Truth | None:
    """Ground truth of a recording; None when it has none.

    Raises:
        BagError: the recording is missing or damaged.
        ObjectError: its robot description is no URDF.
    """
    truth = read_ground_truth(bag)
    if truth is None:
        return None
    joints = load_urdf(truth.robot_description, load_meshes=False).joints
    return truth_from(joints, truth.joint_names, truth.stamps_ns * 1e-9, truth.positions)


def require_truth(bag: Path) -> Truth:
    """Ground truth of a recording.

    Raises:
        BagError: it has none.
    """
    truth = read_truth(bag)
    if truth is None:
        raise BagError(f"{bag} has no ground truth (topics /ground_truth/...): use `art-perception run` on it")
    return truth


def score_folder(name: str, folder: Path, bag: Path, truth: Truth, category: str, memory_mb: float) -> ClipScore:
    """Score the result in ``folder``, reading it as anybody else would.

    Raises:
        ObjectError: a file of the result is missing or damaged.
    """
    result, labels = read_result(folder), read_labels(folder)
    prediction = Prediction(result.joints, result.stamps_s, result.q, float(result.stamps_s[0]))
    ids = sample_part_ids(labels.stamp, labels.pixel, ((stamp * 1e-9, image) for stamp, image in read_part_ids(bag)))
    samples = Samples(labels.stamp, labels.point, labels.part, ids) if ids.any() else None
    return score_clip(name, prediction, truth, samples, category, result.seconds, memory_mb)
