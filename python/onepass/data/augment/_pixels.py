"""Transforms of the values of pixels: colours, noise, sharpness, holes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onepass import _numbers as numbers
from onepass._keywords import suggest_keywords
from onepass.data.augment._arguments import around, interval
from onepass.data.augment._blur import blur, gaussian
from onepass.data.augment._draws import Draws, between, whole
from onepass.data.augment._transform import Moved, Transform, stored

LARGEST = 1e6  # factor
GREY = (0.2989, 0.587, 0.114)  # of red, green and blue, as torchvision rounds them


class ColorJitter(Transform):
    """Change brightness, contrast, saturation and hue, in an order of its own for each image.

    With a factor f, limited to 0 to 1 afterwards: brightness is ``f x``, contrast ``f x + (1 - f)
    m`` with m the mean of the grey image, saturation ``f x + (1 - f) g`` with g the grey image,
    0.2989 red + 0.587 green + 0.114 blue; the hue h of HSV becomes h + f, modulo 1.

    Args:
        brightness, contrast, saturation: a number b for f in max(0, 1 - b) to 1 + b, or (low,
            high).
        hue: a number up to 0.5 for f in -hue to hue, or (low, high).

    Images of one channel are grey: saturation and hue leave them alone. With any other number than
    3, m is the mean of all channels, and these two are refused.

    Source: torchvision's ``ColorJitter``, its arguments and defaults.

    Raises:
        TypeError, ValueError: an argument of another kind or out of range; called, images beyond 0
            to 1, or saturation and hue of images that are not red, green and blue.

    Example:
        >>> import numpy as np
        >>> from onepass.data.augment import ColorJitter
        >>> darker = ColorJitter(brightness=(0.5, 0.5))
        >>> X = np.ones((1, 3, 1, 1), np.float32)
        >>> darker(X, None, seed=0, epoch=0, index=[0])[0].ravel().tolist()
        [0.5, 0.5, 0.5]
    """

    whole_range = False
    unit = True

    @suggest_keywords
    def __init__(
        self,
        brightness: float | tuple[float, float] = 0.0,
        contrast: float | tuple[float, float] = 0.0,
        saturation: float | tuple[float, float] = 0.0,
        hue: float | tuple[float, float] = 0.0,
    ) -> None:
        owner = type(self).__name__
        self.brightness = around(owner, "brightness", brightness, centre=1, least=0, most=LARGEST)
        self.contrast = around(owner, "contrast", contrast, centre=1, least=0, most=LARGEST)
        self.saturation = around(owner, "saturation", saturation, centre=1, least=0, most=LARGEST)
        if not isinstance(hue, (tuple, list)):
            hue = numbers.in_range(owner, "hue", hue, 0, most=0.5)
        self.hue = around(owner, "hue", hue, least=-0.5, most=0.5)

    def images(self, X: NDArray[Any], draws: Draws) -> NDArray[Any]:
        """Images with other colours."""
        colours = [self.saturation != (1.0, 1.0), self.hue != (0.0, 0.0)]
        if any(colours) and X.shape[1] not in (1, 3):
            raise ValueError(
                f"{type(self).__name__}: 'X' has {X.shape[1]} channels, expected 3 (or 1) for "
                "saturation and hue"
            )
        np.clip(X, 0, 1, out=X)
        order = np.argsort(draws.words(4), axis=1, kind="stable")
        u = draws.uniform(4)
        for turn in range(4):
            for number, (change, ends, neutral) in enumerate((
                (_brighter, self.brightness, 1.0), (_contrasted, self.contrast, 1.0),
                (_saturated, self.saturation, 1.0), (_of_hue, self.hue, 0.0),
            )):  # fmt: skip
                rows = np.flatnonzero(order[:, turn] == number)
                if ends == (neutral, neutral) or not len(rows):
                    continue
                f = between(u[rows, number], ends).astype(X.dtype)
                X[rows] = np.clip(change(X[rows], f[:, None, None, None]), 0, 1)
        return X


class GaussianNoise(Transform):
    """Add ``mean + sigma · z`` to every pixel, with z standard normal.

    Args:
        mean, sigma: for images from 0 to 1; times 255 for uint8.
        clip: limit the result to 0 to 1. With False, images may have any range, uint8 excepted.

    Source: torchvision's ``GaussianNoise``, its arguments and defaults.

    Raises:
        TypeError, ValueError: an argument of another kind or out of range; called with ``clip``,
            images beyond 0 to 1.

    Example:
        >>> import numpy as np
        >>> from onepass.data.augment import GaussianNoise
        >>> noise = GaussianNoise(sigma=0.5, clip=False)
        >>> X, _ = noise(np.zeros((1, 1, 64, 64)), None, seed=0, epoch=0, index=[0])
        >>> round(float(X.std()), 1)
        0.5
    """

    unit = True

    @suggest_keywords
    def __init__(self, mean: float = 0.0, sigma: float = 0.1, clip: bool = True) -> None:
        owner = type(self).__name__
        self.mean = numbers.in_range(owner, "mean", mean)
        self.sigma = numbers.in_range(owner, "sigma", sigma, 0)
        self.clip = numbers.flag(owner, "clip", clip)

    @property
    def whole_range(self) -> bool:  # type: ignore[override]
        """Without ``clip``, images may have any range."""
        return not self.clip

    def images(self, X: NDArray[Any], draws: Draws) -> NDArray[Any]:
        """Images with noise."""
        kind = X.dtype.type
        noise = draws.normal(math.prod(X.shape[1:]), kind).reshape(X.shape)
        X += noise * kind(self.sigma) + kind(self.mean)
        return np.clip(X, 0, 1, out=X) if self.clip else X


class GaussianBlur(Transform):
    """The mean of the neighbours, weighted by a Gaussian whose width is each image's own.

    Args:
        kernel_size: an odd number of pixels, or (across, down).
        sigma: the standard deviation in pixels: (low, high), drawn uniformly, or a number.

    At its border the image is mirrored, without its outermost pixels.

    Source: torchvision's ``GaussianBlur``, its arguments and defaults.

    Raises:
        TypeError, ValueError: an argument of another kind or out of range.

    Example:
        >>> import numpy as np
        >>> from onepass.data.augment import GaussianBlur
        >>> X = np.zeros((1, 1, 5, 5), np.float32)
        >>> X[0, 0, 2, 2] = 1
        >>> soft, _ = GaussianBlur(3, sigma=1)(X, None, seed=0, epoch=0, index=[0])
        >>> soft[0, 0, 2].round(2).tolist() == [0, np.float32(0.12), np.float32(0.2),
        ...                                     np.float32(0.12), 0]
        True
    """

    @suggest_keywords
    def __init__(
        self,
        kernel_size: int | tuple[int, int],
        sigma: float | tuple[float, float] = (0.1, 2.0),
    ) -> None:
        owner = type(self).__name__
        pair = kernel_size if isinstance(kernel_size, (tuple, list)) else (kernel_size,) * 2
        sizes = [numbers.integer(owner, "kernel_size", v, 1) for v in pair]
        if len(sizes) != 2 or not all(size % 2 for size in sizes):
            raise ValueError(
                f"{owner}: 'kernel_size' is {kernel_size!r}, expected an odd number, or a "
                "pair of them"
            )
        self.kernel_size = (sizes[0], sizes[1])
        ends = sigma if isinstance(sigma, (tuple, list)) else (sigma, sigma)
        self.sigma = interval(owner, "sigma", ends, above=0)

    def images(self, X: NDArray[Any], draws: Draws) -> NDArray[Any]:
        """Images, blurred."""
        sigma = draws.uniform(1, *self.sigma)[:, 0]
        across, down = (gaussian(sigma, size) for size in self.kernel_size)
        return blur(X, across, down)


class Cutout(Moved):
    """Overwrite squares, whose middle is uniform over the image and which may pass its border.

    Args:
        length: of a side, in pixels.
        n_holes: squares in each image.
        fill: their value.

    Source: DeVries and Taylor 2017, "Improved regularization of convolutional neural networks with
    Cutout", and the names of their code, which makes odd lengths one pixel shorter.

    Raises:
        TypeError, ValueError: an argument of another kind or out of range.

    Example:
        >>> import numpy as np
        >>> from onepass.data.augment import Cutout
        >>> X, _ = Cutout(1)(np.ones((1, 3, 4, 4)), None, seed=0, epoch=0, index=[0])
        >>> float(X.sum())
        45.0
    """

    @suggest_keywords
    def __init__(self, length: int, n_holes: int = 1, fill: float = 0.0) -> None:
        owner = type(self).__name__
        self.length = numbers.integer(owner, "length", length, 1)
        self.n_holes = numbers.integer(owner, "n_holes", n_holes, 1)
        self.fill = numbers.in_range(owner, "fill", fill)

    def images(self, X: NDArray[Any], draws: Draws) -> NDArray[Any]:
        """Images with holes."""
        row, column = np.arange(X.shape[2]), np.arange(X.shape[3])
        hole = np.zeros((len(X), *X.shape[2:]), bool)
        u = draws.uniform(2 * self.n_holes)
        for n in range(self.n_holes):
            top = whole(u[:, [2 * n]], X.shape[2]) - self.length // 2
            left = whole(u[:, [2 * n + 1]], X.shape[3]) - self.length // 2
            inside = (row >= top) & (row < top + self.length)
            hole |= inside[:, :, None] & ((column >= left) & (column < left + self.length))[:, None]
        fill = stored(np.array(self.fill), X.dtype)
        return np.where(hole[:, None], fill, X)


def _brighter(images: NDArray[Any], f: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(images * f)


def _contrasted(images: NDArray[Any], f: NDArray[Any]) -> NDArray[Any]:
    grey = _grey(images) if images.shape[1] == 3 else images
    mean = grey.reshape(len(grey), grey[0].size).mean(axis=1)
    return np.asarray(f * images + (1 - f) * mean[:, None, None, None])


def _saturated(images: NDArray[Any], f: NDArray[Any]) -> NDArray[Any]:
    if images.shape[1] == 1:
        return images
    return np.asarray(f * images + (1 - f) * _grey(images))


def _of_hue(images: NDArray[Any], f: NDArray[Any]) -> NDArray[Any]:
    """Through hue, saturation and value, as in Foley and van Dam."""
    if images.shape[1] == 1:
        return images
    red, green, blue = (images[:, i] for i in range(3))
    value, least = images.max(axis=1), images.min(axis=1)
    span = value - least
    grey = span == 0
    divisor = np.where(grey, 1, span)
    sector = np.where(
        value == red,
        (green - blue) / divisor,
        np.where(value == green, 2 + (blue - red) / divisor, 4 + (red - green) / divisor),
    )
    hue = (sector / 6 + f[:, 0]) % 1
    saturation = span / np.where(grey, 1, value)
    sector = np.floor(hue * 6)
    rest = hue * 6 - sector
    p = value * (1 - saturation)
    q = value * (1 - saturation * rest)
    t = value * (1 - saturation * (1 - rest))
    which = sector.astype(np.int64) % 6
    channels = ((value, q, p, p, t, value), (t, value, value, q, p, p), (p, p, t, value, value, q))
    return np.stack([np.choose(which, choice) for choice in channels], axis=1)


def _grey(images: NDArray[Any]) -> NDArray[Any]:
    weights = np.array(GREY, images.dtype)[:, None, None]
    parts = images * weights
    return np.asarray(parts[:, 0:1] + parts[:, 1:2] + parts[:, 2:3])
