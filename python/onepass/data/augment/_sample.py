"""The one way to read images between pixels: every geometric change but a resize comes here.

A change says, for each pixel of the result, where in the image it comes from. That place is rounded
to 1/32 of a pixel, the resolution of OpenCV; the value there is the bilinear mean of the four
pixels around it. Beyond the image lies ``fill``. OpenCV does it where it is installed, which takes
a third of NumPy's time for large images and gives the same bits. (SciPy takes as long as NumPy.)
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

STEPS = 32  # of a pixel
SMALL = 256  # pixels of an image that NumPy reads faster
LONGEST = 32000  # pixels of a side in OpenCV, whose maps hold 16-bit numbers


def warp(
    images: NDArray[Any],
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    fill: float,
) -> NDArray[Any]:
    """``images`` (N, C, H, W), float32 or float64, at the places x (column) and y (row).

    Args:
        x, y: (N, H', W') in pixels; (0, 0) is the middle of the first one.

    Returns:
        (N, C, H', W') of the same dtype.
    """
    height, width = images.shape[2:]
    # One pixel of the fill before the image and two behind it are all that is ever read.
    padded = np.full((*images.shape[:2], height + 3, width + 3), fill, images.dtype)
    padded[:, :, 1:-2, 1:-2] = images
    pays = height * width >= SMALL and max(padded.shape[2:]) <= LONGEST
    read = _by_opencv if pays and _has_opencv() else _by_numpy
    out: NDArray[Any] = read(padded, _steps(x, width), _steps(y, height))
    return out


def _steps(place: NDArray[np.float64], size: int) -> NDArray[np.int64]:
    """Places in the padded image, in steps; a NaN, as of infinite bends, lies beyond it."""
    steps = np.floor(np.clip(np.nan_to_num(place, nan=-1), -1, size) * STEPS + 0.5) + STEPS
    return steps.astype(np.int64)


def _by_numpy(images: NDArray[Any], x: NDArray[np.int64], y: NDArray[np.int64]) -> NDArray[Any]:
    count, channels, height, width = images.shape
    flat = images.reshape(count, channels, height * width)
    corner = (y // STEPS * width + x // STEPS).reshape(count, 1, x[0].size if count else 0)
    one = images.dtype.type(1 / STEPS)
    right, low = ((v % STEPS).astype(images.dtype).reshape(corner.shape) * one for v in (x, y))
    left, high = 1 - right, 1 - low
    out: NDArray[Any] = high * left * np.take_along_axis(flat, corner, axis=2)
    out += high * right * np.take_along_axis(flat, corner + 1, axis=2)
    out += low * left * np.take_along_axis(flat, corner + width, axis=2)
    out += low * right * np.take_along_axis(flat, corner + width + 1, axis=2)
    return out.reshape(count, channels, *x.shape[1:])


def _by_opencv(images: NDArray[Any], x: NDArray[np.int64], y: NDArray[np.int64]) -> NDArray[Any]:
    cv = import_module("cv2")
    whole = np.stack([x // STEPS, y // STEPS], axis=3).astype(np.int16)
    parts = (y % STEPS * STEPS + x % STEPS).astype(np.uint16)
    out = np.empty((*images.shape[:2], *x.shape[1:]), images.dtype)
    for image, result, corner, part in zip(images, out, whole, parts, strict=True):
        for plane, values in zip(image, result, strict=True):
            values[:] = cv.remap(plane, corner, part, cv.INTER_LINEAR)
    return out


@cache
def _has_opencv() -> bool:
    try:
        import_module("cv2")
    except ImportError:
        return False
    return True


def grid(count: int, height: int, width: int) -> tuple[Any, Any]:
    """Columns (1, 1, W) and rows (1, H, 1) of pixels, from the middle of the image."""
    column = np.arange(width, dtype=np.float64) - (width - 1) / 2
    row = np.arange(height, dtype=np.float64) - (height - 1) / 2
    return column[None, None, :], row[None, :, None]
