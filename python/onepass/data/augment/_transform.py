"""What all transforms share: their call, the arrays they take, their arguments."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from onepass import _numbers as numbers
from onepass._repr import as_call
from onepass.data.augment._draws import Draws

DTYPES = ("uint8", "float16", "float32", "float64")
PIECE = 1 << 17  # elements
SLACK = 1e-3  # beyond 0 to 1, which roundings of a transform before may leave


class Transform:
    """A random change of the images of a batch: a function of (seed, epoch, index) alone.

    Subclasses define `images`, or `batch` where they change the targets too, or where samples
    depend on each other.

    Attributes:
        whole_range: whether it takes numbers of any range; else floating-point images are in 0 to 1
            and uint8 images in 0 to 255.
        unit: whether `images` has uint8 images from 0 to 1, as the others are.
        moves: whether it moves what an image shows. Targets of each pixel would stay behind and are
            refused.
        stream: which random numbers it draws; None for the name of the class. A class that gets
            another name keeps its numbers, and so the runs of its users, by the name before.
    """

    whole_range = True
    unit = False
    moves = False
    stream: ClassVar[str | None] = None

    @property
    def by_sample(self) -> bool:
        """Whether no sample depends on the others of its batch."""
        return type(self).batch in (Transform.batch, Moved.batch)

    def __call__(self, X: Any, y: Any = None, *, seed: int, epoch: int, index: Any) -> Any:
        """The batch, changed; ``X`` and ``y`` stay as they are.

        Args:
            X: images (N, C, H, W), float32, float64, float16 or uint8.
            y: a target for each, or None.
            seed, epoch: whole numbers below 2⁶⁴.
            index: (N,) the samples' places in the data.

        Returns:
            ``(X, y)``: a new array of the same dtype, and the targets.

        Raises:
            TypeError: another dtype, or no NumPy array. ValueError: another shape, numbers out of
                the range that the transform needs, targets of each pixel that it would not move.
        """
        owner = type(self).__name__
        X = images_of(owner, X)
        seed = numbers.seed(owner, "seed", seed)
        epoch = numbers.integer(owner, "epoch", epoch, 0, 2**64)
        places = _index(owner, index, len(X))
        if y is not None and (not hasattr(y, "__len__") or len(y) != len(X)):
            raise ValueError(
                f"{owner}: 'y' has {len(y) if hasattr(y, '__len__') else 'no'} targets, expected "
                f"{len(X)}, one for each image"
            )
        if self.moves and (shape := np.shape(y))[2:] and shape[-2:] == X.shape[-2:]:
            raise ValueError(
                f"{owner}: 'y' has shape {shape}, a target for each pixel, which this transform "
                "would not move with the image, expected a target for each image (as further "
                "channels of X, targets would be moved)"
            )
        if not self.whole_range:
            _check_range(owner, X)
        with np.errstate(all="ignore"):  # NaN and what is out of all bounds stay or become so
            return self.batch(X, y, Draws(self.stream or owner, seed, epoch, places))

    def batch(self, X: NDArray[Any], y: Any, draws: Draws) -> tuple[Any, Any]:
        """Images and targets, changed.

        Here `images` changes the images, in pieces, which stay in the cache between its passes, and
        the targets stay as they are.
        """
        step = max(PIECE // math.prod(X.shape[1:]), 1)
        starts = range(0, max(len(X), 1), step)
        parts = [self._piece(X[i : i + step], draws.of(slice(i, i + step))) for i in starts]
        return parts[0] if len(parts) == 1 else np.concatenate(parts), y

    def _piece(self, X: NDArray[Any], draws: Draws) -> NDArray[Any]:
        kind, top = working(X.dtype), top_of(X.dtype) if self.unit else 1.0
        images = X.astype(kind)
        if top == 1:
            return stored(self.images(images, draws), X.dtype)
        images /= kind(top)
        return stored(self.images(images, draws) * kind(top), X.dtype)

    def images(self, X: NDArray[Any], draws: Draws) -> NDArray[Any]:
        """Images in float32 or float64, which may be overwritten, changed."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return as_call(self)


class Moved(Transform):
    """A transform that only moves pixels, in one pass: it keeps their dtype and bits."""

    def batch(self, X: NDArray[Any], y: Any, draws: Draws) -> tuple[Any, Any]:
        return self.images(X, draws), y


def images_of(owner: str, X: Any) -> NDArray[Any]:
    """Images as an array (N, C, H, W) of a dtype that transforms take."""
    if not isinstance(X, np.ndarray):
        raise TypeError(
            f"{owner}: 'X' is a {type(X).__name__}, expected a NumPy array: images are changed in "
            "CPU memory, before Trainer(device=…) moves a batch"
        )
    if X.dtype.name not in DTYPES or not X.dtype.isnative:
        raise TypeError(f"{owner}: 'X' has dtype {X.dtype}, expected {', '.join(DTYPES)}")
    if X.ndim != 4 or 0 in X.shape[1:]:
        raise ValueError(
            f"{owner}: 'X' has shape {X.shape}, expected images (N, C, H, W); digits in rows of 64 "
            "become them by X.reshape(-1, 1, 8, 8)"
        )
    return np.ascontiguousarray(X)  # sums then run alike


def working(dtype: Any) -> Any:
    """The dtype that images of ``dtype`` are computed in."""
    return np.float64 if dtype == np.float64 else np.float32


def stored(images: NDArray[Any], dtype: Any) -> NDArray[Any]:
    """Computed images in ``dtype``; whole numbers are rounded, halves upwards, and limited."""
    if dtype == np.uint8:
        images = np.clip(np.floor(images + 0.5), 0, 255)
    return images.astype(dtype, copy=False)


def top_of(dtype: Any) -> float:
    """The number that white has: 255 in uint8, else 1."""
    return 255.0 if dtype == np.uint8 else 1.0


def _index(owner: str, index: Any, count: int) -> NDArray[np.uint64]:
    places = np.asarray(index)
    if places.size == 0 and count == 0:
        return np.empty(0, np.uint64)
    if places.dtype.kind not in "iu" or places.shape != (count,) or (places < 0).any():
        raise ValueError(
            f"{owner}: 'index' has dtype {places.dtype} and shape {places.shape}, expected "
            f"({count},) whole numbers >= 0, the place of each image in the data"
        )
    return places.astype(np.uint64)


def _check_range(owner: str, X: NDArray[Any]) -> None:
    if X.dtype == np.uint8 or not X.size:
        return
    low, high = float(X.min()), float(X.max())
    if low < -SLACK or high > 1 + SLACK:  # NaN passes, and stays NaN
        raise ValueError(
            f"{owner}: 'X' lies within {low:g} to {high:g}, expected images from 0 to 1, or uint8 "
            "from 0 to 255; scale them first, and standardize behind it"
        )
