"""Transforms that move pixels, or give images another size."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onepass import _numbers as numbers
from onepass._keywords import suggest_keywords
from onepass.data.augment._arguments import interval, size_of
from onepass.data.augment._draws import Draws, whole
from onepass.data.augment._pad import padded
from onepass.data.augment._resize import resize
from onepass.data.augment._transform import Moved, Transform

FLIPS = ("horizontal", "vertical", "horizontal_and_vertical")
PADDING = ("constant", "edge", "reflect", "symmetric")
PARTS = 10  # drawn, of which the first that fits is taken


class RandomFlip(Moved):
    """Mirror left and right, upside down, or both, each with probability ``p``.

    Args:
        mode: "horizontal" (left and right), "vertical" or "horizontal_and_vertical".
        p: the probability of each of the two, drawn for itself.

    Source: Keras's ``RandomFlip`` with its default; torchvision's ``RandomHorizontalFlip`` and
    ``RandomVerticalFlip`` have ``p``.

    Raises:
        TypeError, ValueError: an argument of another kind or out of range.

    Example:
        >>> import numpy as np
        >>> from onepass.data.augment import RandomFlip
        >>> X = np.arange(3, dtype=np.float32).reshape(1, 1, 1, 3)
        >>> flipped, _ = RandomFlip("horizontal", p=1)(X, None, seed=0, epoch=0, index=[0])
        >>> flipped.ravel().tolist()
        [2.0, 1.0, 0.0]
    """

    moves = True

    @suggest_keywords
    def __init__(self, mode: str = "horizontal_and_vertical", p: float = 0.5) -> None:
        owner = type(self).__name__
        numbers.one_of(owner, "mode", mode, FLIPS)
        self.mode = mode
        self.p = numbers.in_range(owner, "p", p, 0, most=1)

    def images(self, X: NDArray[Any], draws: Draws) -> NDArray[Any]:
        """Images, flipped."""
        across, down = (draws.uniform(2) < self.p).T
        out: NDArray[Any] = X.copy()
        if self.mode != "vertical":
            out[across] = out[across, :, :, ::-1]
        if self.mode != "horizontal":
            out[down] = out[down, :, ::-1]
        return out


class RandomCrop(Moved):
    """A part of ``size`` at a place of its own in each image, uniform over all places.

    Args:
        size: a whole number, or (height, width).
        padding: pixels added first: a number for all sides, (left and right, top and bottom), or
            (left, top, right, bottom); None for none.
        pad_if_needed: add as many pixels to both sides of an axis as it lacks.
        fill: the value of pixels that are added, with "constant".
        padding_mode: "constant", "edge", "reflect" or "symmetric", as in ``np.pad``.

    Source: torchvision's ``RandomCrop``, its arguments and defaults; with ``padding=4`` the
    augmentation of He et al. 2015, "Deep residual learning", section 4.2.

    Raises:
        TypeError, ValueError: an argument of another kind or out of range; called, images that are
            smaller than ``size``.

    Example:
        >>> import numpy as np
        >>> from onepass.data.augment import RandomCrop
        >>> shift = RandomCrop(8, padding=1)  # by -1, 0 or 1 pixels
        >>> shift(np.ones((4, 1, 8, 8)), None, seed=0, epoch=0, index=range(4))[0].shape
        (4, 1, 8, 8)
    """

    moves = True

    @suggest_keywords
    def __init__(
        self,
        size: int | tuple[int, int],
        padding: int | tuple[int, ...] | None = None,
        pad_if_needed: bool = False,
        fill: float = 0.0,
        padding_mode: str = "constant",
    ) -> None:
        owner = type(self).__name__
        self.size = size_of(owner, size)
        self.padding = None if padding is None else _padding(owner, padding)
        self.pad_if_needed = numbers.flag(owner, "pad_if_needed", pad_if_needed)
        self.fill = numbers.in_range(owner, "fill", fill)
        numbers.one_of(owner, "padding_mode", padding_mode, PADDING)
        self.padding_mode = padding_mode

    def images(self, X: NDArray[Any], draws: Draws) -> NDArray[Any]:
        """Images, cropped."""
        left, top, right, bottom = self.padding or (0, 0, 0, 0)
        height, width = self.size
        if self.pad_if_needed:
            lacking = max(width - X.shape[3] - left - right, 0)
            left, right = left + lacking, right + lacking
            lacking = max(height - X.shape[2] - top - bottom, 0)
            top, bottom = top + lacking, bottom + lacking
        X = padded(X, (top, bottom), (left, right), self.padding_mode, self.fill)
        if X.shape[2] < height or X.shape[3] < width:
            raise ValueError(
                f"{type(self).__name__}: 'X' has images of {X.shape[2:]} with their padding, "
                f"expected at least {self.size}, the size; pad_if_needed=True adds what is missing"
            )
        parts = np.lib.stride_tricks.sliding_window_view(X, self.size, (2, 3))
        u = draws.uniform(2)
        i, j = (whole(u[:, k], parts.shape[2 + k]) for k in (0, 1))
        return np.asarray(parts[np.arange(len(X)), :, i, j])


class RandomResizedCrop(Transform):
    """A part of random area and aspect ratio, resized to ``size``.

    The area is ``scale`` of the image's, uniform; width / height is in ``ratio``, uniform in its
    logarithm. Of 10 draws the first that fits into the image counts; if none does, the largest part
    in the middle with a ratio in the range.

    Args:
        size: a whole number, or (height, width), of the result.
        scale: (low, high) shares of the area.
        ratio: (low, high) of width / height.
        antialias: average over all pixels where the part shrinks.

    Source: torchvision's ``RandomResizedCrop``, its arguments and defaults; Szegedy et al. 2014,
    "Going deeper with convolutions".

    Raises:
        TypeError, ValueError: an argument of another kind or out of range.

    Example:
        >>> import numpy as np
        >>> from onepass.data.augment import RandomResizedCrop
        >>> crop = RandomResizedCrop((5, 6))
        >>> crop(np.ones((2, 3, 9, 7)), None, seed=0, epoch=0, index=[0, 1])[0].shape
        (2, 3, 5, 6)
    """

    moves = True

    @suggest_keywords
    def __init__(
        self,
        size: int | tuple[int, int],
        scale: tuple[float, float] = (0.08, 1.0),
        ratio: tuple[float, float] = (3 / 4, 4 / 3),
        antialias: bool = True,
    ) -> None:
        owner = type(self).__name__
        self.size = size_of(owner, size)
        self.scale = interval(owner, "scale", scale, least=0, most=1)
        self.ratio = interval(owner, "ratio", ratio, above=0)
        if self.scale[1] == 0:
            raise ValueError(f"{owner}: 'scale' is {scale!r}, expected shares above 0")
        self.antialias = numbers.flag(owner, "antialias", antialias)

    def images(self, X: NDArray[Any], draws: Draws) -> NDArray[Any]:
        """Images, cropped and resized."""
        out = np.empty((*X.shape[:2], *self.size), X.dtype)
        boxes = self._boxes(X.shape[2], X.shape[3], draws)
        for image, result, (i, j, h, w) in zip(X, out, boxes.tolist(), strict=True):
            part = image[:, i : i + h, j : j + w]
            result[:] = resize(part, *self.size, antialias=self.antialias)
        return out

    def _boxes(self, height: int, width: int, draws: Draws) -> NDArray[np.int64]:
        """(N, 4): top, left, height and width of each part."""
        area = draws.uniform(PARTS, *self.scale) * (height * width)
        ratio = np.exp(draws.uniform(PARTS, *map(math.log, self.ratio)))
        w = np.rint(np.sqrt(area * ratio)).astype(np.int64)
        h = np.rint(np.sqrt(area / ratio)).astype(np.int64)
        fits = (w > 0) & (w <= width) & (h > 0) & (h <= height)
        rows, first = np.arange(len(w)), fits.argmax(axis=1)
        h, w = h[rows, first], w[rows, first]
        none = ~fits[rows, first]
        largest = _largest(height, width, self.ratio)
        h[none], w[none] = largest
        place = draws.uniform(2)
        i = np.minimum(place[:, 0] * (height - h + 1), height - h).astype(np.int64)
        j = np.minimum(place[:, 1] * (width - w + 1), width - w).astype(np.int64)
        i[none], j[none] = (height - largest[0]) // 2, (width - largest[1]) // 2
        return np.stack([i, j, h, w], axis=1)


class ShortSideResize(Transform):
    """Resize so that the shorter side has ``size`` pixels and the aspect ratio stays.

    Nothing is random: it goes before a crop, as in Krizhevsky et al. 2012, section 2.

    Args:
        size: of the shorter side.
        max_size: of the longer side at most; the shorter one is then smaller. None for no limit.
        antialias: average over all pixels where the images shrink.

    Source: torchvision's ``Resize`` of a whole number, its arguments and defaults.

    Raises:
        TypeError, ValueError: an argument of another kind or out of range.

    Example:
        >>> import numpy as np
        >>> from onepass.data.augment import ShortSideResize
        >>> resize = ShortSideResize(4)
        >>> resize(np.ones((1, 3, 8, 12)), None, seed=0, epoch=0, index=[0])[0].shape
        (1, 3, 4, 6)
    """

    moves = True

    @suggest_keywords
    def __init__(self, size: int, max_size: int | None = None, antialias: bool = True) -> None:
        owner = type(self).__name__
        self.size = numbers.integer(owner, "size", size, 1)
        if max_size is not None:
            max_size = numbers.integer(owner, "max_size", max_size, self.size + 1)
        self.max_size = max_size
        self.antialias = numbers.flag(owner, "antialias", antialias)

    def images(self, X: NDArray[Any], draws: Draws) -> NDArray[Any]:
        """Images, resized."""
        height, width = X.shape[2:]
        short, long = min(height, width), max(height, width)
        new_short, new_long = self.size, self.size * long // short
        if self.max_size is not None and new_long > self.max_size:
            new_short, new_long = max(self.max_size * new_short // new_long, 1), self.max_size
        size = (new_short, new_long) if height <= width else (new_long, new_short)
        return resize(X, *size, antialias=self.antialias)


def _padding(owner: str, value: Any) -> tuple[int, int, int, int]:
    """Left, top, right and bottom."""
    sides = value if isinstance(value, (tuple, list)) else (value,)
    if len(sides) not in (1, 2, 4):
        raise ValueError(
            f"{owner}: 'padding' is {value!r}, expected a whole number, or 2 or 4 of them"
        )
    sides = [numbers.integer(owner, "padding", v, 0) for v in sides]
    left, top, right, bottom = (sides * 4)[:4]
    return left, top, right, bottom


def _largest(height: int, width: int, ratio: tuple[float, float]) -> tuple[int, int]:
    """Height and width of the largest part whose width / height is in ``ratio``."""
    if width / height < ratio[0]:
        return min(max(round(width / ratio[0]), 1), height), width
    if width / height > ratio[1]:
        return height, min(max(round(height * ratio[1]), 1), width)
    return height, width
