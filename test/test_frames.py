import dataclasses

import cv2
import numpy as np
import pytest

from art_perception.errors import FrameError
from art_perception.io.frames import decode_color, decode_depth, decode_labels, make_frame, rectify
from art_perception.io.messages import CameraModel, EncodedImage, RawImage

RNG = np.random.default_rng(0)
H, W = 48, 64
K = np.array([[60.0, 0, 31.5], [0, 62.0, 23.5], [0, 0, 1]])


def raw(pixels: np.ndarray, encoding: str, *, padding: int = 0, is_bigendian: bool = False) -> RawImage:
    """Image message with ``padding`` garbage bytes after every row."""
    pixels = pixels.astype(pixels.dtype.newbyteorder(">" if is_bigendian else "<"))
    rows = np.ascontiguousarray(pixels).view(np.uint8).reshape(pixels.shape[0], -1)
    rows = np.hstack([rows, np.full((len(rows), padding), 171, np.uint8)])
    return RawImage(7, "optical", encoding, *pixels.shape[:2], rows.shape[1], is_bigendian, rows.ravel())


def encoded(pixels: np.ndarray, format: str, extension: str, prefix: bytes = b"") -> EncodedImage:
    data = prefix + cv2.imencode(extension, pixels)[1].tobytes()
    return EncodedImage(7, "optical", format, np.frombuffer(data, np.uint8))


def camera(distortion: tuple[float, ...] = (0.0,) * 5, model: str = "plumb_bob", matrix: np.ndarray = K) -> CameraModel:
    return CameraModel(7, "optical", H, W, matrix, np.array(distortion), model)


COLOR = RNG.integers(0, 256, (H, W, 3), dtype=np.uint8)
DEPTH_MM = RNG.integers(0, 5000, (H, W), dtype=np.uint16)
T = np.eye(4)


def frame(**changes: object):
    parts = {"color": raw(COLOR, "rgb8"), "depth": raw(DEPTH_MM, "16UC1"), "camera": camera(), "T_world_camera": T}
    return make_frame(**(parts | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize("padding", [0, 5])
@pytest.mark.parametrize(
    ("encoding", "pixels", "expected"),
    [
        ("rgb8", COLOR, COLOR),
        ("bgr8", COLOR[..., ::-1], COLOR),
        ("rgba8", np.dstack([COLOR, COLOR[..., 0]]), COLOR),
        ("bgra8", np.dstack([COLOR[..., ::-1], COLOR[..., 0]]), COLOR),
        ("mono8", COLOR[..., 0], np.dstack([COLOR[..., 0]] * 3)),
    ],
)
def test_colour_encodings_and_row_padding(encoding, pixels, expected, padding):
    np.testing.assert_array_equal(decode_color(raw(pixels, encoding, padding=padding)), expected)


def test_compressed_colour():
    np.testing.assert_array_equal(decode_color(encoded(COLOR[..., ::-1], "rgb8; png compressed bgr8", ".png")), COLOR)
    smooth = np.dstack([np.tile(np.linspace(0, 255, W), (H, 1))] * 3).astype(np.uint8)
    smooth[..., 1] = 40
    jpeg = decode_color(encoded(smooth[..., ::-1], "jpeg", ".jpg"))
    assert np.abs(jpeg.astype(int) - smooth).max() < 12


@pytest.mark.parametrize("is_bigendian", [False, True])
@pytest.mark.parametrize("padding", [0, 6])
def test_depth_units_follow_the_encoding_not_the_values(is_bigendian, padding):
    layout = {"padding": padding, "is_bigendian": is_bigendian}
    np.testing.assert_allclose(decode_depth(raw(DEPTH_MM, "16UC1", **layout)), DEPTH_MM * 1e-3, rtol=1e-6)
    metres = DEPTH_MM.astype(np.float32)  # large values stay metres
    np.testing.assert_array_equal(decode_depth(raw(metres, "32FC1", **layout)), metres)


def test_missing_depth_is_zero():
    depth = np.full((H, W), 1.5, np.float32)
    depth[0, :4] = [np.nan, np.inf, -np.inf, -1]
    out = decode_depth(raw(depth, "32FC1"))
    assert out.dtype == np.float32
    np.testing.assert_array_equal(out[0, :5], [0, 0, 0, 0, 1.5])


def test_compressed_depth_millimetres():
    expected = (DEPTH_MM * 1e-3).astype(np.float32)
    with_header = ["16UC1; compressedDepth png", "16UC1; compressedDepth"]
    for format, prefix in [(f, bytes(12)) for f in with_header] + [("16UC1; png compressed ", b"")]:
        np.testing.assert_allclose(decode_depth(encoded(DEPTH_MM, format, ".png", prefix)), expected, rtol=1e-6)


def test_compressed_depth_quantised_metres():
    depth, q, far = RNG.uniform(0.3, 5, (H, W)).astype(np.float32), 100.0, 10.0
    depth[0, 0] = np.nan
    a = q * (q + 1)  # as compressed_depth_image_transport: pixel = A / depth + B
    b = 1 - a / far
    pixels = np.nan_to_num(a / depth + b).astype(np.uint16)
    header = np.int32(1).tobytes() + np.array([a, b], "<f4").tobytes()
    out = decode_depth(encoded(pixels, "32FC1; compressedDepth png", ".png", header))
    assert out[0, 0] == 0
    valid = np.isfinite(depth)
    assert (np.abs(out - depth)[valid] <= 1.01 * depth[valid] ** 2 / a).all()  # one quantisation step


DISTORTIONS = [
    ("plumb_bob", (-0.25, 0.08, 0.002, -0.003, 0.01)),
    ("rational_polynomial", (0.2, -0.1, 0.001, 0.002, 0.03, 0.3, -0.1, 0.02)),
    ("equidistant", (0.05, -0.02, 0.01, -0.003)),
]


def _distorted(function, model: str, coefficients: tuple[float, ...]) -> np.ndarray:
    """What a lens with this distortion sees of a scene painted on the plane z = 1."""
    pixels = np.stack(np.meshgrid(np.arange(W), np.arange(H)), -1).reshape(-1, 1, 2).astype(np.float64)
    undistort = cv2.fisheye.undistortPoints if model == "equidistant" else cv2.undistortPoints
    precise = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 100, 1e-12)
    rays = undistort(pixels, K, np.array(coefficients), criteria=precise)
    return function(rays.reshape(H, W, 2))


@pytest.mark.parametrize(("model", "coefficients"), DISTORTIONS)
def test_rectified_images_obey_the_pinhole_model(model, coefficients):
    def scene(p):
        return 100 + 60 * np.sin(2 * p[..., 0] + 1) + 60 * np.cos(3 * p[..., 1])

    image = _distorted(scene, model, coefficients).astype(np.float32)
    u, v = np.meshgrid(np.arange(W), np.arange(H))
    expected = scene(np.stack([(u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1]], -1))
    out = rectify(image, camera(coefficients, model), cv2.INTER_LINEAR)
    inside = np.zeros((H, W), bool)
    inside[8:-8, 8:-8] = True
    assert np.abs(out - expected)[inside].max() < 0.5
    assert np.abs(image - expected)[inside].max() > 1  # the distortion was worth removing


def test_depth_and_mask_are_never_blended():
    depth = np.where(np.arange(W) % 2, 1000, 2000).astype(np.uint16) * np.ones((H, 1), np.uint16)
    mask = raw((depth > 1500).astype(np.uint8) * 255, "mono8")
    out = frame(depth=raw(depth, "16UC1"), mask=mask, camera=camera((-0.2, 0.05, 0, 0, 0)))
    assert set(np.unique(out.depth_m)) <= {np.float32(0), np.float32(1), np.float32(2)}
    assert out.mask.dtype == bool
    np.testing.assert_array_equal(out.mask, out.depth_m > 1.5)


def test_zero_distortion_changes_nothing():
    out = frame(mask=raw(np.eye(H, W, dtype=np.uint8), "8UC1"))
    np.testing.assert_array_equal(out.color, COLOR)
    np.testing.assert_array_equal(out.mask, np.eye(H, W, dtype=bool))
    np.testing.assert_array_equal(out.K, K)
    assert out.stamp_ns == 7


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"depth": raw(DEPTH_MM[::2, ::2], "16UC1")}, ["32x24", "64x48", "align_depth.enable:=true"]),
        ({"depth": raw(DEPTH_MM, "mono16")}, ["'mono16'", "16UC1", "32FC1"]),
        ({"depth": encoded(DEPTH_MM, "16UC1; compressedDepth rvl", ".png", bytes(12))}, ["rvl", "16UC1"]),
        ({"depth": encoded(DEPTH_MM.astype(np.uint8), "16UC1; compressedDepth png", ".png", bytes(12))}, ["uint8"]),
        ({"color": raw(COLOR[..., 0], "bayer_rggb8")}, ["'bayer_rggb8'", "rgb8"]),
        ({"color": EncodedImage(7, "", "jpeg", np.zeros(40, np.uint8))}, ["cannot be decoded", "'jpeg'"]),
        ({"color": EncodedImage(7, "", "jpeg", np.zeros(0, np.uint8))}, ["cannot be decoded", "0 bytes"]),
        ({"color": dataclasses.replace(raw(COLOR, "rgb8"), data=np.zeros(99, np.uint8))}, ["99 bytes", "damaged"]),
        ({"color": dataclasses.replace(raw(COLOR, "rgb8"), step=10)}, ["step 10", "192"]),
        ({"camera": camera(matrix=np.zeros((3, 3)))}, ["K = [0.0, 0.0", "calibrate"]),
        ({"camera": camera(matrix=np.full((3, 3), np.nan))}, ["K = [nan", "calibrate"]),
        ({"camera": camera((0.1,), "thin_prism")}, ["'thin_prism'", "plumb_bob"]),
        ({"camera": camera((np.nan,) * 5)}, ["NaN", "calibrate"]),
        ({"camera": dataclasses.replace(camera(), width=640, height=480)}, ["camera_info is 640x480", "64x48"]),
        ({"mask": raw(np.ones((H // 2, W), np.uint8), "mono8")}, ["mask is 64x24", "64x48"]),
        ({"mask": raw(COLOR, "rgb8")}, ["mask encoding 'rgb8'", "mono8"]),
    ],
)
def test_unusable_messages_are_named(changes, words):
    with pytest.raises(FrameError) as error:
        frame(**changes)
    assert all(word in str(error.value) for word in words), str(error.value)
    assert "\n" not in str(error.value)


def test_part_numbers_pass_unchanged():
    parts = RNG.integers(0, 5, (H, W), dtype=np.uint8)
    np.testing.assert_array_equal(decode_labels(raw(parts, "mono8", padding=3), "part_ids"), parts)
    np.testing.assert_array_equal(decode_labels(encoded(parts, "mono8; png compressed ", ".png"), "part_ids"), parts)
