"""Decode and check one RGB-D frame: buffers and encodings in, a rectified RgbdFrame out.

Shared by the bag reader and the ROS nodes. Depth units follow from the encoding (REP 118), never from the values.
"""

from __future__ import annotations

import functools

import cv2
import numpy as np

from art_perception.errors import FrameError
from art_perception.io.messages import AnyImage, CameraModel, EncodedImage, RawImage
from art_perception.types import RgbdFrame

_COLOR_CHANNELS = {"rgb8": 3, "bgr8": 3, "rgba8": 4, "bgra8": 4, "mono8": 1, "8UC1": 1, "8UC3": 3}
_COLOR_TO_RGB = {
    "bgr8": cv2.COLOR_BGR2RGB,
    "8UC3": cv2.COLOR_BGR2RGB,
    "rgba8": cv2.COLOR_RGBA2RGB,
    "bgra8": cv2.COLOR_BGRA2RGB,
    "mono8": cv2.COLOR_GRAY2RGB,
    "8UC1": cv2.COLOR_GRAY2RGB,
}
_DEPTH_DTYPE = {"16UC1": "u2", "32FC1": "f4"}
_MASK_ENCODINGS = ("mono8", "8UC1")
_COMPRESSED_DEPTH_HEADER = 12  # bytes: int32 format, float32 quantisation A and B
_PINHOLE_MODELS = ("plumb_bob", "rational_polynomial")
_FISHEYE_MODELS = ("equidistant", "fisheye")


def _pixels(image: RawImage, dtype: str, channels: int, topic: str) -> np.ndarray:
    """View the buffer as (H, W) or (H, W, channels), honouring row padding and byte order."""
    kind = np.dtype(dtype).newbyteorder(">" if image.is_bigendian else "<")
    row = image.width * channels * kind.itemsize
    step = image.step or row
    if image.height < 1 or image.width < 1 or step < row or image.data.size < step * image.height:
        raise FrameError(
            f"{topic} image of {image.width}x{image.height} {image.encoding} has {image.data.size} bytes and step "
            f"{image.step}, expected at least {row} bytes per row: the message is damaged; check the driver"
        )
    rows = image.data[: step * image.height].reshape(image.height, step)[:, :row]
    pixels = np.ascontiguousarray(rows).view(kind).reshape(image.height, image.width, channels)
    return pixels[..., 0] if channels == 1 else pixels


def _decompress(image: EncodedImage, data: np.ndarray, flags: int, topic: str) -> np.ndarray:
    pixels = cv2.imdecode(data, flags) if data.size else None
    if pixels is None:
        raise FrameError(
            f"{topic} image with format '{image.format}' ({data.size} bytes) cannot be decoded, "
            "expected JPEG or PNG: the message is damaged or uses another codec; republish it as jpeg or png"
        )
    return pixels


def decode_color(image: AnyImage) -> np.ndarray:
    """Colour image as (H, W, 3) uint8 RGB.

    Raises:
        FrameError: unknown encoding or damaged buffer.
    """
    if isinstance(image, EncodedImage):
        return cv2.cvtColor(_decompress(image, image.data, cv2.IMREAD_COLOR, "colour"), cv2.COLOR_BGR2RGB)
    if image.encoding not in _COLOR_CHANNELS:
        raise FrameError(
            f"colour encoding '{image.encoding}' is not supported, expected rgb8, bgr8, rgba8, bgra8 or mono8: "
            "convert it in the driver or with image_proc"
        )
    pixels = _pixels(image, "u1", _COLOR_CHANNELS[image.encoding], "colour")
    conversion = _COLOR_TO_RGB.get(image.encoding)
    return pixels if conversion is None else cv2.cvtColor(pixels, conversion)


def decode_depth(image: AnyImage) -> np.ndarray:
    """Depth map as (H, W) float32 metres, 0 where there is no measurement.

    Raises:
        FrameError: unknown encoding or damaged buffer.
    """
    if isinstance(image, EncodedImage):
        return _decode_compressed_depth(image)
    if image.encoding not in _DEPTH_DTYPE:
        raise _unknown_depth(f"encoding '{image.encoding}'")
    return _metres(_pixels(image, _DEPTH_DTYPE[image.encoding], 1, "depth"))


def _unknown_depth(what: str) -> FrameError:
    return FrameError(
        f"depth {what} is not supported, expected 16UC1 (millimetres) or 32FC1 (metres), raw or as compressedDepth "
        "PNG: set the camera driver to one of these"
    )


def _metres(depth: np.ndarray) -> np.ndarray:
    """Millimetres (unsigned integers) or metres (floats) to clean float32 metres."""
    if depth.dtype.kind == "u":
        return depth.astype(np.float32) * np.float32(1e-3)
    depth = depth.astype(np.float32)
    return np.where(np.isfinite(depth) & (depth > 0), depth, np.float32(0))


def _decode_compressed_depth(image: EncodedImage) -> np.ndarray:
    """16-bit PNG in millimetres, or compressed_depth_image_transport: a 12-byte header before the PNG.

    There 32FC1 is quantised inverse depth: metres = A / (pixel - B), A and B being the header's last two floats.
    """
    encoding, has_header = image.format.split(";")[0].strip(), "compressedDepth" in image.format
    if encoding not in _DEPTH_DTYPE or "rvl" in image.format or (encoding == "32FC1" and not has_header):
        raise _unknown_depth(f"format '{image.format}'")
    payload = image.data[_COMPRESSED_DEPTH_HEADER:] if has_header else image.data
    pixels = _decompress(image, payload, cv2.IMREAD_UNCHANGED, "depth")
    if pixels.dtype != np.uint16 or pixels.ndim != 2:
        raise _unknown_depth(f"format '{image.format}' with {pixels.dtype} pixels")
    if encoding == "16UC1":
        return _metres(pixels)
    a, b = np.frombuffer(image.data[4:_COMPRESSED_DEPTH_HEADER].tobytes(), "<f4")
    with np.errstate(divide="ignore", invalid="ignore"):
        return _metres(np.where(pixels > 0, a / (pixels.astype(np.float32) - b), np.float32(0)))


def decode_labels(image: AnyImage, topic: str) -> np.ndarray:
    """Single-channel 8-bit image, e.g. a mask or part numbers, as (H, W) uint8.

    Args:
        image: mono8 or 8UC1 image, or a lossless (PNG) compressed one.
        topic: what the image is, for error messages.

    Raises:
        FrameError: unknown encoding or damaged buffer.
    """
    if isinstance(image, EncodedImage):
        return _decompress(image, image.data, cv2.IMREAD_GRAYSCALE, topic)
    if image.encoding not in _MASK_ENCODINGS:
        raise FrameError(
            f"{topic} encoding '{image.encoding}' is not supported, expected mono8: convert it before publishing"
        )
    return _pixels(image, "u1", 1, topic)


def check_camera_model(model: CameraModel) -> None:
    """Check that K is a usable pinhole matrix and the distortion is known.

    Raises:
        FrameError: K is zero, not finite or not a pinhole matrix, or the distortion model is unknown.
    """
    K = model.K
    if not np.isfinite(K).all() or K[0, 0] <= 0 or K[1, 1] <= 0 or not np.allclose(K[2], [0, 0, 1]):
        raise FrameError(
            f"camera_info has K = {K.ravel().tolist()}, expected positive focal lengths in pixels: "
            "the driver publishes no calibration; calibrate the camera (camera_calibration) or fix the driver"
        )
    if not np.isfinite(model.distortion).all():
        raise FrameError("camera_info has NaN in its distortion: calibrate the camera again")
    if model.distortion.any() and model.distortion_model not in _PINHOLE_MODELS + _FISHEYE_MODELS:
        raise FrameError(
            f"camera_info has the distortion model '{model.distortion_model}', expected plumb_bob, "
            "rational_polynomial or equidistant: publish the rectified image instead"
        )


@functools.lru_cache(maxsize=4)
def _rectify_maps(height: int, width: int, K: bytes, distortion: bytes, model: str) -> tuple[np.ndarray, np.ndarray]:
    """Source pixel of every rectified pixel, for the same K without distortion."""
    matrix, coefficients = np.frombuffer(K).reshape(3, 3), np.frombuffer(distortion)
    fisheye = model in _FISHEYE_MODELS
    build = cv2.fisheye.initUndistortRectifyMap if fisheye else cv2.initUndistortRectifyMap
    return build(matrix, coefficients, np.eye(3), matrix, (width, height), cv2.CV_32FC1)


def rectify(pixels: np.ndarray, model: CameraModel, interpolation: int = cv2.INTER_NEAREST) -> np.ndarray:
    """Remove lens distortion, keeping K; pixels seen by no source pixel become 0.

    Args:
        pixels: (H, W) or (H, W, 3).
        model: calibration; returned unchanged when its distortion is all zero.
        interpolation: OpenCV flag; nearest for depth and labels, which must not be blended.
    """
    if not model.distortion.any():
        return pixels
    maps = _rectify_maps(*pixels.shape[:2], model.K.tobytes(), model.distortion.tobytes(), model.distortion_model)
    return cv2.remap(pixels, *maps, interpolation, borderMode=cv2.BORDER_CONSTANT, borderValue=0)


def _check_size(name: str, shape: tuple[int, ...], color_shape: tuple[int, ...], remedy: str) -> None:
    if shape[:2] != color_shape[:2]:
        raise FrameError(
            f"{name} is {shape[1]}x{shape[0]} but the colour image is {color_shape[1]}x{color_shape[0]}: {remedy}"
        )


def make_frame(
    color: AnyImage, depth: AnyImage, camera: CameraModel, T_world_camera: np.ndarray, mask: AnyImage | None = None
) -> RgbdFrame:
    """Decode, check and rectify the messages of one instant.

    Args:
        color: colour image; its stamp becomes the frame's.
        depth: depth image registered to the colour image.
        camera: calibration of the colour image.
        T_world_camera: (4, 4) pose of the colour optical frame in the fixed frame at the colour stamp.
        mask: object mask, non-zero = the object, or None.

    Raises:
        FrameError: anything in the messages is unusable; the message says what and what to do.
    """
    check_camera_model(camera)
    rgb, depth_m = decode_color(color), decode_depth(depth)
    remedy = (
        "depth must be registered to colour; on a RealSense start the driver with align_depth.enable:=true and use "
        "/camera/aligned_depth_to_color/image_raw"
    )
    _check_size("depth", depth_m.shape, rgb.shape, remedy)
    if camera.height and camera.width:
        remedy = "publish the camera_info that belongs to this image size"
        _check_size("camera_info", (camera.height, camera.width), rgb.shape, remedy)
    return RgbdFrame(
        color.stamp_ns,
        rectify(rgb, camera, cv2.INTER_LINEAR),
        rectify(depth_m, camera),
        camera.K,
        T_world_camera,
        None if mask is None else _decode_mask(mask, rgb.shape, camera),
    )


def _decode_mask(mask: AnyImage, color_shape: tuple[int, ...], camera: CameraModel) -> np.ndarray:
    labels = decode_labels(mask, "mask")
    _check_size("mask", labels.shape, color_shape, "publish the mask at the size of the colour image")
    return rectify(labels, camera) > 0
