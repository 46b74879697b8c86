"""A Gaussian mean over neighbours, along columns and rows; the image is mirrored at its border."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from onepass.data.augment._pad import padded


def gaussian(sigma: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """(N, size): weights exp(-x² / 2σ²) around the middle, with the sum 1."""
    x = np.arange(size) - (size - 1) / 2
    weights = np.exp(-0.5 * (x / sigma[:, None]) ** 2)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def blur(
    images: NDArray[Any], across: NDArray[np.float64], down: NDArray[np.float64]
) -> NDArray[Any]:
    """``images`` (N, C, H, W), each weighted by its row of ``across`` and of ``down``.

    Args:
        across, down: (N, odd number), or (1, odd number) for all images.
    """
    for weights, axis in ((across, 3), (down, 2)):
        reach = weights.shape[1] // 2
        sides = (reach, reach)
        rows, columns = (sides, (0, 0)) if axis == 2 else ((0, 0), sides)
        wide = padded(images, rows, columns, "reflect")
        out = np.zeros_like(images)
        for k, weight in enumerate(weights.astype(images.dtype).T):
            place = [slice(None)] * 4
            place[axis] = slice(k, k + images.shape[axis])
            out += wide[tuple(place)] * weight[:, None, None, None]
        images = out
    return images
