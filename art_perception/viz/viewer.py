"""Web page of a result: turn every joint by hand, or play the recorded motion back."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from art_perception.eval.metrics import hold_last
from art_perception.io.results import LABELS_FILE, RESULT_FILE, Result, read_labels, read_result
from art_perception.types import ArticulatedObject, Joint, JointType
from art_perception.urdf.reader import load_urdf
from art_perception.viz.scene import ObjectScene

if TYPE_CHECKING:
    import viser

URDF_FILE = "object.urdf"
_TICK_S = 1 / 30
_SPEEDS = ("0.25x", "0.5x", "1x", "2x")
_BRAND_RGB = (14, 165, 233)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Recording:
    """Joint values over time, gaps filled with the last value known.

    Attributes:
        time_s: (F,) seconds since the first frame.
        stamps_s: (F,) seconds.
        q: (F, J) rad or m, columns in the order of the object's joints.
    """

    time_s: np.ndarray
    stamps_s: np.ndarray
    q: np.ndarray


def recording_of(result: Result, joints: Sequence[Joint]) -> Recording:
    """Joint values of ``result`` for ``joints``, paired by name; joints the result does not know stay at zero."""
    column = {joint.name: k for k, joint in enumerate(result.joints)}
    q = np.zeros((len(result.stamps_s), len(joints)))
    for j, joint in enumerate(joints):
        if joint.name in column:
            q[:, j] = hold_last(result.q[:, column[joint.name]])
    return Recording(result.stamps_s - result.stamps_s[0], result.stamps_s, q)


def serve(folder: Path | str, host: str = "127.0.0.1", port: int = 8080) -> None:
    """Show a result folder in the browser until interrupted.

    Args:
        folder: a result directory; result.json and labels.npz may be missing, object.urdf may not.
        host: address to listen on; ``0.0.0.0`` lets other machines in.
        port: TCP port; the next free one is taken when it is in use.

    Raises:
        ObjectError: the URDF, a mesh or a result file cannot be read.
    """
    viewer = Viewer(Path(folder), host, port)
    log.info("viewer of %s: open %s in a browser, Ctrl-C ends it", folder, viewer.url)
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        pass
    finally:
        viewer.stop()


class Viewer:
    """A running page; :meth:`stop` ends it."""

    def __init__(self, folder: Path, host: str = "127.0.0.1", port: int = 8080) -> None:
        """Load the result and start serving it; arguments and errors as in :func:`serve`."""
        self._object = load_urdf(folder / URDF_FILE)
        result = read_result(folder) if (folder / RESULT_FILE).exists() else None
        self._labels = read_labels(folder) if (folder / LABELS_FILE).exists() else None
        recorded = result is not None and len(result.stamps_s) > 1
        self._recording = recording_of(result, self._object.joints) if result is not None and recorded else None
        import viser

        self._server = viser.ViserServer(host, port, label=self._object.name, verbose=False)
        self.url = f"http://{'localhost' if host == '0.0.0.0' else host}:{self._server.get_port()}"
        camera = self._labels.T_world_camera if self._labels is not None else None
        self._scene = ObjectScene(self._server, self._object, None if camera is None else camera[0])
        self._sliders = self._add_controls(_described(self._object, result))
        self._stopping = threading.Event()
        self._player = threading.Thread(target=self._play, daemon=True)
        self._player.start()

    def joint_values(self) -> np.ndarray:
        """Joint values (J,) in rad and m that the sliders show."""
        pairs = zip(self._sliders, self._object.joints, strict=True)
        return np.array([slider.value / _per_unit(joint) for slider, joint in pairs])

    def seek(self, time_s: float) -> None:
        """Go to the recorded frame nearest to ``time_s`` seconds: sliders, parts and labelled points."""
        if self._recording is None:
            return
        frame = int(np.abs(self._recording.time_s - time_s).argmin())
        for slider, joint, value in zip(self._sliders, self._object.joints, self._recording.q[frame], strict=True):
            slider.value = float(np.clip(value * _per_unit(joint), slider.min, slider.max))  # type: ignore[misc]
        self._scene.show(self._recording.q[frame])
        if self._labels is not None:
            self._scene.show_points(self._labels, float(self._recording.stamps_s[frame]))

    def stop(self) -> None:
        """End playback and close the page."""
        self._stopping.set()
        self._player.join()
        self._server.stop()

    def _add_controls(self, joints: Sequence[Joint]) -> list[viser.GuiSliderHandle[float]]:
        gui = self._server.gui
        gui.configure_theme(show_logo=False, show_share_button=False, brand_color=_BRAND_RGB)
        gui.main_panel.dock_right()
        gui.add_markdown(f"## {self._object.name}\n{_summary(joints)}")
        with gui.add_folder("Joints"):
            sliders = [self._add_slider(joint) for joint in joints]
        if self._recording is not None:
            with gui.add_folder("Recording"):
                self._add_playback(round(float(self._recording.time_s[-1]), 2))
        with gui.add_folder("Show"):
            self._add_switches()
        return sliders

    def _add_slider(self, joint: Joint) -> viser.GuiSliderHandle[float]:
        tenths = 10 * _per_unit(joint) * np.array(joint.limits)
        low, high = min(np.floor(tenths[0]) / 10, 0.0), max(np.ceil(tenths[1]) / 10, 0.0)
        unit = "deg" if joint.type is JointType.REVOLUTE else "cm"
        slider = self._server.gui.add_slider(
            f"{joint.name} ({unit})", float(low), float(max(high, low + 0.1)), 0.1, 0.0, hint=_hint(joint)
        )
        # Only a hand on the slider (an event with a client) moves the parts; playback has moved them already.
        slider.on_update(lambda event: self._scene.show(self.joint_values()) if event.client is not None else None)
        return slider

    def _add_playback(self, duration_s: float) -> None:
        gui = self._server.gui
        self._playing = gui.add_checkbox("Play", False)
        self._speed = gui.add_dropdown("Speed", _SPEEDS, initial_value="1x")
        self._time = gui.add_slider("Time (s)", 0.0, duration_s, 0.01, 0.0)
        self._time.on_update(lambda _: self.seek(self._time.value))

    def _add_switches(self) -> None:
        gui, scene = self._server.gui, self._scene
        true_colors = gui.add_checkbox("True colours", False)
        true_colors.on_update(lambda _: scene.use_true_colors(true_colors.value))
        surface = gui.add_checkbox("Surface", True)
        surface.on_update(lambda _: scene.set_surface_visible(surface.value))
        axes = gui.add_checkbox("Joint axes", True)
        axes.on_update(lambda _: scene.set_axes_visible(axes.value))
        if self._labels is not None:
            scene.show_points(self._labels, float(self._labels.stamp[0]))
            points = gui.add_checkbox("Labelled points", False)
            points.on_update(lambda _: scene.set_points_visible(points.value))

    def _play(self) -> None:
        """Advance the time slider while Play is on; it starts again at the end."""
        while not self._stopping.wait(_TICK_S):
            if self._recording is not None and self._playing.value:
                step_s = _TICK_S * float(self._speed.value.rstrip("x"))
                ahead_s = self._time.value + step_s
                self._time.value = ahead_s if ahead_s <= self._time.max else 0.0  # type: ignore[misc]


def _described(obj: ArticulatedObject, result: Result | None) -> list[Joint]:
    """The object's joints, with the confidence that only result.json knows."""
    known = {joint.name: joint for joint in result.joints} if result is not None else {}
    return [known.get(joint.name, joint) for joint in obj.joints]


def _summary(joints: Sequence[Joint]) -> str:
    doubtful = [joint.name for joint in joints if not joint.valid]
    text = f"{len(joints)} joint{'s' * (len(joints) != 1)}"
    return f"{text}; not valid: {', '.join(doubtful)}" if doubtful else text


def _hint(joint: Joint) -> str:
    return f"{joint.type.value}, confidence {joint.confidence:.0%}{'' if joint.valid else ', not valid'}"


def _per_unit(joint: Joint) -> float:
    """Degrees per radian, or centimetres per metre."""
    return float(np.degrees(1.0)) if joint.type is JointType.REVOLUTE else 100.0
