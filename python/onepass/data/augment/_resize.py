"""Images of another size: weighted means of the pixels that each pixel of the result covers.

Where an image shrinks, the weights are a triangle as wide as two pixels of the result, so that no
pixel is left out (``antialias``, as Pillow and torchvision do); where it grows, they are bilinear.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray


def resize(images: NDArray[Any], height: int, width: int, *, antialias: bool) -> NDArray[Any]:
    """``images`` (…, H, W), float32 or float64, as (…, height, width)."""
    for axis, size in ((-1, width), (-2, height)):
        if images.shape[axis] == size:
            continue
        places, weights = _weights(images.shape[axis], size, antialias)
        shape = (size,) if axis == -1 else (size, 1)
        parts = [
            np.take(images, place, axis) * weight.astype(images.dtype).reshape(shape)
            for place, weight in zip(places, weights, strict=True)
        ]
        images = parts[0]
        for part in parts[1:]:
            images += part
    return images


@lru_cache(maxsize=512)
def _weights(size: int, out: int, antialias: bool) -> tuple[NDArray[Any], NDArray[Any]]:
    """Places and weights, (pixels that count, out), of each pixel of the result."""
    scale = size / out
    reach = max(scale, 1.0) if antialias else 1.0
    middle = scale * (np.arange(out) + 0.5) - 0.5
    first = np.ceil(middle - reach).astype(np.int64)
    places = first + np.arange(int(np.ceil(2 * reach)) + 1)[:, None]
    weights = np.maximum(1 - np.abs(places - middle) / reach, 0.0)
    if antialias:  # pixels beyond the border do not count
        weights *= (places >= 0) & (places < size)
        weights /= weights.sum(axis=0)
    used = weights.any(axis=1)
    return np.clip(places, 0, size - 1)[used], weights[used]
