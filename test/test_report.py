"""The report page is complete, self-contained and says what not to trust; pictures show what they should."""

import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("open3d", exc_type=ImportError)

import viz_scene

from art_perception.geometry.kinematics import chain_of, displacements
from art_perception.geometry.mesh import empty_mesh
from art_perception.io.results import Labels, Result
from art_perception.types import Joint, Part, PoseCorrection
from art_perception.viz import figure, overlay, plots
from art_perception.viz.palette import part_rgb
from art_perception.viz.render import ObjectRenderer, fitting_view
from art_perception.viz.report import warnings_of, write_report


@pytest.fixture(scope="module")
def reconstruction() -> viz_scene.Reconstruction:
    return viz_scene.reconstruction()


@pytest.fixture
def result(reconstruction) -> Result:
    stamps_s = np.linspace(0, 2, 41)
    q = np.stack([np.sin(stamps_s), 0.1 * stamps_s], 1)
    q[10:13, 1] = np.nan
    seconds = {"flow": 1.0, "joints": 2.0, "total": 3.5}
    return Result("world", "clips/<odd> & name.mcap", reconstruction.motion.joints, stamps_s, q, seconds, "abc123")


@pytest.fixture
def labels() -> Labels:
    return Labels(np.zeros(2), np.zeros((2, 5, 2), int), np.zeros((2, 5, 3)), np.zeros((2, 5), int))


class Page(HTMLParser):
    """Collects attributes that would load something and checks that tags close."""

    VOID = frozenset({"meta", "img", "br"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.images: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self.open.append(tag)
        values = dict(attrs)
        self.links += [values["href"]] if values.get("href") else []
        self.images += [values["src"]] if values.get("src") else []

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Shapes of a plot: nothing to close, nothing to load."""

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_and_loads_nothing(tmp_path: Path, reconstruction, result, labels) -> None:
    text = write_report(tmp_path, reconstruction, result, labels).read_text()
    page = Page(text)
    assert page.open == []
    assert len(page.images) >= 5
    assert all(source.startswith("data:image/") for source in page.images)
    assert page.links == ["object.urdf", "meshes/", "result.json", "labels.npz"]
    assert "<script" not in text
    assert "url(" not in text
    assert len(text) < 3_000_000
    assert list(tmp_path.iterdir()) == [tmp_path / "report.html"]


def test_the_page_names_every_joint_part_and_stage(tmp_path: Path, reconstruction, result, labels) -> None:
    text = write_report(tmp_path, reconstruction, result, labels).read_text()
    for word in ("joint_1", "joint_2", "part_2", "revolute", "prismatic", "flow", "not valid", "93%", "abc123"):
        assert word in text
    assert "clips/&lt;odd&gt; &amp; name.mcap" in text
    assert text.count("<svg") == 2


def test_unknown_uncertainty_and_unseen_parts_are_shown_as_such(tmp_path: Path, reconstruction, result, labels) -> None:
    obj = reconstruction.object
    unseen = (*obj.parts[:2], Part("part_2", empty_mesh(), (), 0.0))
    joints = tuple(replace(j, axis_std_rad=math.inf) for j in obj.joints)
    vague = replace(reconstruction, object=replace(obj, parts=unseen))
    text = write_report(tmp_path, vague, replace(result, joints=joints), labels).read_text()
    assert text.count("<td>unknown</td>") == 2
    assert "part_2 has no surface" in text


def test_warnings_say_what_not_to_trust(reconstruction, result) -> None:
    text = " ".join(warnings_of(reconstruction, result))
    assert "joint_2 is not valid" in text
    assert "joint_1" not in text
    assert "part_2: 65% of its surface was never seen" in text
    assert "lost in 3 of 41 frames" in text
    assert "Camera poses" not in text
    off = replace(result, correction=PoseCorrection(0.012, 0.8))
    assert "corrected by 1.2 cm and 0.8 deg" in " ".join(warnings_of(reconstruction, off))


def test_an_arrow_turns_with_its_joint_and_lies_on_the_axis(reconstruction) -> None:
    obj, q = reconstruction.object, np.array([0.7, 0.1])
    D = displacements(chain_of(obj.joints), q)
    for k, arrow in enumerate(overlay.axis_arrows(obj.joints, obj.parts, q)):
        direction = (arrow.line[1] - arrow.line[0]) / np.linalg.norm(arrow.line[1] - arrow.line[0])
        np.testing.assert_allclose(direction, D[k, :3, :3] @ obj.joints[k].axis, atol=1e-9)
    hinge = overlay.axis_arrows(obj.joints, obj.parts, q)[0]
    assert np.linalg.norm(np.cross(hinge.line - obj.joints[0].origin, [0, 0, 1.0]), axis=1).max() < 1e-9
    assert hinge.line[:, 2].max() > 0.87  # the door reaches from 0.325 to 0.875 m
    assert hinge.line[:, 2].min() < 0.33


def test_axes_are_drawn_where_the_camera_sees_them(reconstruction) -> None:
    frame, obj = reconstruction.window.frames[0], reconstruction.object
    blank = np.zeros((*viz_scene.SHAPE, 3), np.uint8)
    arrows = overlay.axis_arrows(obj.joints, obj.parts, np.zeros(2))
    drawn = overlay.draw_arrows(blank, arrows[:1], frame)
    rows, columns = np.nonzero((drawn == part_rgb(1)).all(-1))
    middle = np.linalg.inv(frame.T_world_camera) @ np.append(arrows[0].line.mean(0), 1)
    u, v = frame.K[:2, :2] @ (middle[:2] / middle[2]) + frame.K[:2, 2]
    assert np.hypot(columns - u, rows - v).min() < 3
    behind = replace(frame, T_world_camera=frame.T_world_camera @ np.diag([-1.0, 1, -1, 1]))
    assert not overlay.draw_arrows(blank, arrows, behind).any()


def test_an_axis_through_the_camera_is_cut_off(reconstruction) -> None:
    frame = reconstruction.window.frames[0]
    eye, forward = frame.T_world_camera[:3, 3], frame.T_world_camera[:3, 2]
    line = np.stack([eye - forward + [0, 0, 0.1], eye + 2 * forward])
    arrow = overlay.AxisArrow(line, np.zeros((0, 3)), 1, "joint_1")
    blank = np.zeros((*viz_scene.SHAPE, 3), np.uint8)
    assert overlay.draw_arrows(blank, [arrow], frame).any()


def test_tint_changes_only_labelled_pixels(reconstruction) -> None:
    frame, labels = reconstruction.window.frames[0], reconstruction.motion.labels[0].copy()
    labels[:, :150] = 255
    tinted = overlay.tint_parts(frame.color, labels)
    np.testing.assert_array_equal(tinted[:, :145], frame.color[:, :145])
    assert (tinted != frame.color).any()


def test_rendering_shows_parts_where_kinematics_puts_them(reconstruction) -> None:
    obj = reconstruction.object
    view = fitting_view(obj, viz_scene.camera_pose(0.0), (120, 160))
    renderer = ObjectRenderer(obj)

    def pixels(q: list[float], part: int) -> np.ndarray:
        return viz_scene.part_labels(renderer.render(np.array(q), view), 3) == part

    closed, opened = pixels([0, 0], 1), pixels([1.2, 0], 1)
    assert closed.sum() > 1.5 * opened.sum() > 0
    np.testing.assert_array_equal(pixels([0, 0], 2), pixels([0.0, 0], 2))
    assert pixels([0, 0.25], 2).sum() > pixels([0, 0], 2).sum()  # nearer to the camera
    border = np.ones(view.shape, bool)
    border[2:-2, 2:-2] = False
    assert not any((pixels(q, k) & border).any() for q in ([0, 0], [1.2, 0.25]) for k in range(3))


def test_an_unseen_part_is_simply_not_drawn(reconstruction) -> None:
    obj = reconstruction.object
    empty = replace(obj, parts=(*obj.parts[:2], Part("part_2", empty_mesh(), (), 0.0)))
    view = fitting_view(empty, viz_scene.camera_pose(0.0), (60, 80))
    image = ObjectRenderer(empty).render(np.zeros(2), view)
    assert not (viz_scene.part_labels(image, 3) == 2).any()


def test_frames_are_spread_over_the_motion_not_over_time() -> None:
    q = np.concatenate([np.zeros(50), np.linspace(0, 1, 11)])[:, None]
    np.testing.assert_allclose(q[figure.spread_frames(q, 3), 0], [0, 0.5, 1], atol=0.11)
    assert figure.spread_frames(np.zeros((9, 1)), 3).tolist() == [0, 4, 8]
    assert figure.spread_frames(np.zeros((2, 1)), 5).tolist() == [0, 1]


@pytest.mark.parametrize("name", ["figure.gif", "figure.webp"])
def test_the_figure_moves(tmp_path: Path, reconstruction, name: str) -> None:
    from PIL import Image

    with Image.open(figure.write_figure(tmp_path / name, reconstruction, height=90, count=4)) as image:
        assert image.n_frames == 6
        assert image.size == (240, 90)


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-3.2, 71), (0.001, 0.0013), (0, 0), (-5, -5), (1e5, 2e5)])
def test_ticks_are_few_and_cover_the_range(low: float, high: float) -> None:
    ticks = plots.nice_ticks(low, high)
    assert 2 <= len(ticks) <= 9 or low == high
    assert ticks[0] <= low + 1e-12
    assert ticks[-1] >= high - 1e-9 * abs(high)


def test_a_plot_breaks_where_values_are_missing() -> None:
    y = np.array([0.0, 1, 2, np.nan, 4, 5])
    svg = plots.line_plot(plots.Curve(np.arange(6.0), y, "#000000", "s", "deg", (0, 3)), "title")
    (path,) = re.findall(r'<path d="([^"]+)"', svg)
    assert path.count("M") == 2
    assert "nan" not in svg
    empty = plots.line_plot(plots.Curve(np.arange(3.0), np.full(3, np.nan), "#000000", "s", "deg", (0, 3)), "title")
    assert "<path" not in empty


def test_joint_type_is_all_a_joint_needs_to_be_drawn(reconstruction) -> None:
    joint: Joint = reconstruction.object.joints[0]
    unseen = (reconstruction.object.parts[0], Part("part_1", empty_mesh(), (), 0.0))
    (arrow,) = overlay.axis_arrows([joint], unseen, np.zeros(1))
    assert np.isfinite(arrow.line).all()
