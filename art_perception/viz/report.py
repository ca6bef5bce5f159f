"""report.html: one self-contained page that shows what was found and how far it can be trusted."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from art_perception.io.results import Labels, Result
from art_perception.types import Joint, JointType, Part
from art_perception.viz.figure import animation, clip_picture, object_pictures, spread_frames
from art_perception.viz.palette import part_hex
from art_perception.viz.plots import Curve, line_plot
from art_perception.viz.style import CSS

if TYPE_CHECKING:
    from art_perception.pipeline import Reconstruction

REPORT_FILE = "report.html"
_LITTLE_SEEN = 0.5
_REMEDY = "record a larger or slower motion, or view it from another side."
_ANIMATION_FRAMES = 12
_STAGE_HEX = ("#0ea5e9", "#6366f1", "#a855f7", "#ec4899", "#f97316", "#eab308", "#22c55e", "#14b8a6")


def write_report(folder: Path, reconstruction: Reconstruction, result: Result, labels: Labels) -> Path:
    """Write ``report.html`` into a result folder and return its path."""
    sections = [
        _header(reconstruction, result),
        _warning_section(warnings_of(reconstruction, result)),
        _pictures(reconstruction),
        _joint_table(result.joints),
        _state_plots(reconstruction, result),
        _columns(_part_section(reconstruction.object.parts), _timing_section(result)),
        _file_section(folder, reconstruction, result, labels),
    ]
    name = escape(reconstruction.object.name)
    page = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{name} · art_perception</title>'
        f'<meta name="viewport" content="width=device-width,initial-scale=1"><style>{CSS}</style></head>'
        f"<body><main>{''.join(sections)}</main></body></html>\n"
    )
    path = Path(folder) / REPORT_FILE
    path.write_text(page, encoding="utf-8")
    return path


def warnings_of(reconstruction: Reconstruction, result: Result) -> list[str]:
    """List in plain sentences what should not be trusted: weak joints, unseen surfaces, lost frames."""
    out = []
    use = result.prior
    if use.used == "all":
        out.append(
            f"Nothing moved, so parts, joints and joint values are those of a typical {use.category}, fitted to one "
            f"view; it agrees with {use.score or 0:.0%} of what was measured. The reason: {use.reason}."
        )
    if result.correction.rms_m:
        out.append(
            f"Camera poses were corrected by {result.correction}: as recorded they disagree with what stands still."
        )
    for joint in result.joints:
        if not joint.valid:
            out.append(
                f"{joint.name} is not valid (confidence {joint.confidence:.0%}): do not act on it; "
                + ("film it while the part moves." if use.used == "all" else _REMEDY)
            )
    for part in reconstruction.object.parts:
        if not len(part.visual.faces):
            out.append(f"{part.name} has no surface: it was hardly seen.")
        elif part.observed < _LITTLE_SEEN:
            out.append(
                f"{part.name}: {1 - part.observed:.0%} of its surface was never seen and is closed by guess; "
                "film it from more sides to have it measured."
            )
    lost = int((~np.isfinite(result.q)).any(axis=1).sum())
    if lost:
        out.append(f"The object was lost in {lost} of {len(result.q)} frames; the plots have gaps there.")
    return out


def _header(reconstruction: Reconstruction, result: Result) -> str:
    joints, window = result.joints, reconstruction.window
    total = result.seconds.get("total", sum(reconstruction.seconds.values()))
    chips = [
        (len(joints), "joint" if len(joints) == 1 else "joints"),
        (len(result.stamps_s), "frames"),
        (f"{window.stamps_s[-1]:.1f} s", "window"),
        (f"{total:.1f} s", "run time"),
        (escape(result.fixed_frame), "fixed frame"),
        *([(escape(result.prior.category), "shape prior")] if result.prior.used != "none" else []),
    ]
    items = "".join(f'<span class="chip"><b>{value}</b> {what}</span>' for value, what in chips)
    title = f"<h1>{escape(reconstruction.object.name)}</h1><p>{escape(result.source)}</p>"
    return f'<header>{title}<div class="chips">{items}</div></header>'


def _warning_section(warnings: Sequence[str]) -> str:
    if not warnings:
        return ""
    return f'<section class="warn"><ul>{"".join(f"<li>{escape(w)}</li>" for w in warnings)}</ul></section>'


def _pictures(reconstruction: Reconstruction) -> str:
    q = reconstruction.motion.q
    moving = spread_frames(q, _ANIMATION_FRAMES)
    clip = [clip_picture(reconstruction, int(t), 480) for t in moving]
    rendered = object_pictures(reconstruction, moving.tolist(), clip[0].shape[:2])
    stamps_s = reconstruction.window.stamps_s
    stills = [
        _figure(_jpeg(clip_picture(reconstruction, int(t), 560)), f"{stamps_s[t]:.2f} s") for t in spread_frames(q, 4)
    ]
    pair = _figure(_webp(clip), "The clip: parts tinted, joint axes with their positive direction")
    pair += _figure(_webp(rendered), "The reconstructed object at the same joint values")
    return f'<section><div class="pair">{pair}</div><div class="frames">{"".join(stills)}</div></section>'


def _figure(source: str, caption: str) -> str:
    text = escape(caption)
    return f'<figure><img src="{source}" alt="{text}"><figcaption>{text}</figcaption></figure>'


def _jpeg(picture: np.ndarray) -> str:
    data = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 84])[1]
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()


def _webp(pictures: Sequence[np.ndarray]) -> str:
    return "data:image/webp;base64," + base64.b64encode(animation(pictures)).decode()


def _joint_table(joints: Sequence[Joint]) -> str:
    heads = ("Joint", "Type", "Axis", "Point on axis (m)", "Range", "Axis ±", "Position ±", "Confidence", "")
    rows = "".join(_joint_row(k, joint) for k, joint in enumerate(joints))
    head = "".join(f"<th>{h}</th>" for h in heads)
    return f'<section><h2>Joints</h2><div class="scroll"><table><tr>{head}</tr>{rows}</table></div></section>'


def _joint_row(index: int, joint: Joint) -> str:
    low, high = _shown(np.array(joint.limits), joint.type)
    revolute = joint.type is JointType.REVOLUTE
    valid = '<span class="badge yes">valid</span>' if joint.valid else '<span class="badge no">not valid</span>'
    cells = [
        f"{_dot(part_hex(index + 1))}<b>{escape(joint.name)}</b>",
        f"{joint.type.value}<br><small>{escape(joint.child)} on {escape(joint.parent)}</small>",
        _vector(joint.axis),
        _vector(joint.origin),
        f"{_decimal(low, 1)} … {_decimal(high, 1)} {_unit(joint.type)}",
        _spread(math.degrees(joint.axis_std_rad), "°"),
        _spread(100 * joint.origin_std_m, " cm") if revolute else "",
        f"{_meter(joint.confidence, part_hex(index + 1))}{joint.confidence:.0%}",
        valid,
    ]
    return "<tr>" + "".join(f"<td>{c}</td>" for c in cells) + "</tr>"


def _state_plots(reconstruction: Reconstruction, result: Result) -> str:
    start = result.stamps_s[0] if len(result.stamps_s) else 0.0
    frames = reconstruction.window.frames
    band = (frames[0].stamp_s - start, frames[-1].stamp_s - start)
    plots = []
    for k, joint in enumerate(result.joints):
        values = _shown(result.q[:, k], joint.type)
        unit = "degrees" if joint.type is JointType.REVOLUTE else "centimetres"
        curve = Curve(result.stamps_s - start, values, part_hex(k + 1), "seconds", unit, band)
        title = f"{joint.name} over time"
        plots.append(f"<div><h3>{_dot(part_hex(k + 1))}{escape(joint.name)}</h3>{line_plot(curve, title)}</div>")
    note = "<figcaption>Shaded: the window that parts and joints were estimated from.</figcaption>"
    return f'<section><h2>Joint values</h2><div class="plots">{"".join(plots)}</div>{note}</section>'


def _part_section(parts: Sequence[Part]) -> str:
    rows = "".join(_part_row(k, part) for k, part in enumerate(parts))
    head = "<tr><th>Part</th><th>Size (cm)</th><th>Triangles</th><th>Surface seen</th></tr>"
    return f'<section><h2>Parts</h2><div class="scroll"><table>{head}{rows}</table></div></section>'


def _part_row(index: int, part: Part) -> str:
    size = 100 * np.ptp(part.visual.vertices, axis=0) if len(part.visual.vertices) else np.zeros(3)
    seen = f"{_meter(part.observed, part_hex(index))}{part.observed:.0%}"
    name = f"{_dot(part_hex(index))}<b>{escape(part.name)}</b>"
    cells = (name, " &times; ".join(f"{s:.0f}" for s in size), f"{len(part.visual.faces):,}", seen)
    return "<tr>" + "".join(f"<td>{c}</td>" for c in cells) + "</tr>"


def _timing_section(result: Result) -> str:
    stages = {name: s for name, s in result.seconds.items() if name != "total"}
    whole = max(sum(stages.values()), 1e-9)
    colors = [_STAGE_HEX[i % len(_STAGE_HEX)] for i in range(len(stages))]
    bars = "".join(
        f'<i style="width:{100 * s / whole:.2f}%;background:{c}"></i>'
        for c, s in zip(colors, stages.values(), strict=True)
    )
    key = "".join(
        f"<li>{_dot(c)}{escape(name)} <small>{s:.2f} s</small></li>"
        for c, (name, s) in zip(colors, stages.items(), strict=True)
    )
    return f'<section><h2>Run time</h2><div class="stack">{bars}</div><ul class="key">{key}</ul></section>'


def _file_section(folder: Path, reconstruction: Reconstruction, result: Result, labels: Labels) -> str:
    faces = sum(len(p.visual.faces) for p in reconstruction.object.parts)
    files = [
        ("object.urdf", f"{len(result.joints) + 1} links with visual and convex collision meshes"),
        ("meshes/", f"{faces:,} triangles, coloured"),
        ("result.json", f"joints in {result.fixed_frame}, joint values of {len(result.stamps_s)} frames"),
        ("labels.npz", f"{labels.part.size:,} labelled points of {len(labels.stamp)} frames"),
    ]
    items = "".join(f'<li><a href="{f}">{f}</a> <small>{escape(what)}</small></li>' for f, what in files)
    command = f"art-perception view {escape(Path(folder).name)}"
    footer = f"<footer>Move the joints yourself: <code>{command}</code><br>Made by {escape(result.commit)}</footer>"
    return f'<section><h2>Files</h2><ul class="files">{items}</ul></section>{footer}'


def _columns(*sections: str) -> str:
    return f'<div class="columns">{"".join(sections)}</div>'


def _dot(color: str) -> str:
    return f'<i class="dot" style="background:{color}"></i>'


def _meter(fraction: float, color: str) -> str:
    return f'<span class="meter"><i style="width:{100 * fraction:.0f}%;background:{color}"></i></span>'


def _vector(v: np.ndarray) -> str:
    return " ".join(_decimal(x, 3) for x in v)


def _decimal(value: float, digits: int) -> str:
    """Fixed number of digits with a proper minus sign, and none before zero."""
    return f"{round(float(value), digits) + 0.0:.{digits}f}".replace("-", "&minus;")


def _shown(value: np.ndarray, joint_type: JointType) -> np.ndarray:
    """Degrees or centimetres."""
    return np.degrees(value) if joint_type is JointType.REVOLUTE else 100.0 * value


def _unit(joint_type: JointType) -> str:
    return "°" if joint_type is JointType.REVOLUTE else "cm"


def _spread(value: float, unit: str) -> str:
    return f"{value:.2g}{unit}" if math.isfinite(value) else "unknown"
