"""Transforms that bend images: each says where a pixel of the result comes from."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onepass import _numbers as numbers
from onepass._keywords import suggest_keywords
from onepass.data.augment._arguments import around, interval, pair
from onepass.data.augment._blur import blur, gaussian
from onepass.data.augment._draws import Draws, between
from onepass.data.augment._sample import grid, warp
from onepass.data.augment._transform import Transform

RIGHT_ANGLE = 89.9  # degrees of shear: at 90 an image is a line


class RandomAffine(Transform):
    """Rotate, move, scale, stretch and shear each image around its middle.

    A pixel at q from the middle goes to ``R S q + t``, with torchvision's rotation and shear
    ``R = [[cos(a-v)/cos v, -cos(a-v) tan(u)/cos v - sin a], [sin(a-v)/cos v, -sin(a-v) tan(u)/cos v
    + cos a]]`` for the angle a (clockwise) and the shears u and v, and S = scale · diag(√r, 1/√r).
    Values between pixels are bilinear, at places rounded to 1/32 of a pixel.

    Args:
        degrees: a number d for -d to d, or (low, high).
        translate: (a, b): t is up to a · width and b · height, rounded to whole pixels; or None.
        scale: (low, high), or None for 1.
        shear: degrees: a number s for u in -s to s, (low, high) of u, or four numbers, those of u
            and of v; or None.
        fill: the value beyond the image, 0 to 255 for uint8.
        stretch: (low, high) of r, by which width / height changes at the same area, uniform in its
            logarithm; or None for 1.

    Source: torchvision's ``RandomAffine``, its arguments and defaults but that it reads the nearest
    pixel; Keras reads as here. ``stretch`` is added.

    Raises:
        TypeError, ValueError: an argument of another kind or out of range.

    Example:
        >>> import numpy as np
        >>> from onepass.data.augment import RandomAffine
        >>> turn = RandomAffine((90, 90))
        >>> X = np.array([[[[1, 0], [0, 0]]]], np.float32)
        >>> turn(X, None, seed=0, epoch=0, index=[0])[0].tolist()
        [[[[0.0, 1.0], [0.0, 0.0]]]]
    """

    moves = True

    @suggest_keywords
    def __init__(
        self,
        degrees: float | tuple[float, float],
        translate: tuple[float, float] | None = None,
        scale: tuple[float, float] | None = None,
        shear: float | tuple[float, ...] | None = None,
        fill: float = 0.0,
        *,
        stretch: tuple[float, float] | None = None,
    ) -> None:
        owner = type(self).__name__
        self.degrees = around(owner, "degrees", degrees)
        self.translate = None
        if translate is not None:
            if not isinstance(translate, (tuple, list)) or len(translate) != 2:
                raise ValueError(
                    f"{owner}: 'translate' is {translate!r}, expected a pair of shares of width "
                    "and height"
                )
            self.translate = pair(owner, "translate", translate, low=0, most=1)
        self.scale = None if scale is None else interval(owner, "scale", scale, above=0)
        self.stretch = None if stretch is None else interval(owner, "stretch", stretch, above=0)
        self.shear = None if shear is None else _shears(owner, shear)
        self.fill = numbers.in_range(owner, "fill", fill)

    def images(self, X: NDArray[Any], draws: Draws) -> NDArray[Any]:
        """Images, bent."""
        height, width = X.shape[2:]
        u = draws.uniform(7)
        angle = np.deg2rad(between(u[:, 0], self.degrees))
        (low_u, high_u, low_v, high_v) = self.shear or (0.0, 0.0, 0.0, 0.0)
        shear_u = np.deg2rad(between(u[:, 1], (low_u, high_u)))
        shear_v = np.deg2rad(between(u[:, 2], (low_v, high_v)))
        scale = between(u[:, 3], self.scale or (1.0, 1.0))
        low, high = self.stretch or (1.0, 1.0)
        stretch = np.exp(between(u[:, 4], (math.log(low), math.log(high))) / 2)
        across, down = self.translate or (0.0, 0.0)
        move_x = np.rint((2 * u[:, 5] - 1) * across * width)
        move_y = np.rint((2 * u[:, 6] - 1) * down * height)
        a, c = np.cos(angle - shear_v) / np.cos(shear_v), np.sin(angle - shear_v) / np.cos(shear_v)
        b = -a * np.tan(shear_u) - np.sin(angle)
        d = -c * np.tan(shear_u) + np.cos(angle)  # a d - b c = 1
        column, row = grid(len(X), height, width)
        a, b, c, d, scale, stretch, move_x, move_y = (
            v[:, None, None] for v in (a, b, c, d, scale, stretch, move_x, move_y)
        )
        column, row = column - move_x, row - move_y
        x = (d * column - b * row) / (scale * stretch) + (width - 1) / 2
        y = (a * row - c * column) * (stretch / scale) + (height - 1) / 2
        return warp(X, x, y, self.fill)


class LensDistortion(Transform):
    """Bend images as a lens does: radially, with a strength of its own for each.

    A pixel at q from the middle comes from ``q (1 + k1 r² + k2 r⁴)``, where r is its distance in
    halves of the diagonal: 1 in the corners. A positive k bends lines outwards in the middle (a
    barrel), a negative one inwards (a cushion); below k1 = -1/3 corners show the inside again.

    Args:
        k1, k2: a number k for -k to k, or (low, high).
        fill: the value beyond the image, 0 to 255 for uint8.

    Source: the radial terms of Brown 1966, "Decentering distortion of lenses". Neither torchvision
    nor Keras has it.

    Raises:
        TypeError, ValueError: an argument of another kind or out of range.

    Example:
        >>> import numpy as np
        >>> from onepass.data.augment import LensDistortion
        >>> bend = LensDistortion(0.3)
        >>> bend(np.ones((2, 1, 9, 9)), None, seed=0, epoch=0, index=[0, 1])[0].shape
        (2, 1, 9, 9)
    """

    moves = True

    @suggest_keywords
    def __init__(
        self,
        k1: float | tuple[float, float] = 0.2,
        k2: float | tuple[float, float] = 0.0,
        fill: float = 0.0,
    ) -> None:
        owner = type(self).__name__
        self.k1 = around(owner, "k1", k1)
        self.k2 = around(owner, "k2", k2)
        self.fill = numbers.in_range(owner, "fill", fill)

    def images(self, X: NDArray[Any], draws: Draws) -> NDArray[Any]:
        """Images, bent."""
        height, width = X.shape[2:]
        u = draws.uniform(2)
        k1, k2 = (between(u[:, i], k)[:, None, None] for i, k in enumerate((self.k1, self.k2)))
        column, row = grid(len(X), height, width)
        corner = ((width - 1) ** 2 + (height - 1) ** 2) / 4
        square = (column**2 + row**2) / (corner or 1.0)
        factor = 1 + square * (k1 + square * k2)
        x = column * factor + (width - 1) / 2
        y = row * factor + (height - 1) / 2
        return warp(X, x, y, self.fill)


class ElasticDeformation(Transform):
    """Move each pixel a little, neighbours alike.

    A pixel comes from its place plus ``alpha / 2 · G * U`` pixels, in each direction: U is uniform
    in -1 to 1 at every pixel, G a Gaussian of standard deviation ``sigma`` with the sum 1.

    Args:
        alpha: how far, as torchvision counts: alpha / 2 pixels times the smoothed noise; a number,
            or (across, down). (Simard et al. count in pixels: pass twice theirs.)
        sigma: in pixels, > 0: a number, or (across, down).
        fill: the value beyond the image, 0 to 255 for uint8.

    Source: torchvision's ``ElasticTransform``, its arguments and defaults; Simard et al. 2003,
    "Best practices for convolutional neural networks".

    Raises:
        TypeError, ValueError: an argument of another kind or out of range.

    Example:
        >>> import numpy as np
        >>> from onepass.data.augment import ElasticDeformation
        >>> bend = ElasticDeformation(alpha=20, sigma=2)
        >>> bend(np.ones((2, 1, 9, 9)), None, seed=0, epoch=0, index=[0, 1])[0].shape
        (2, 1, 9, 9)
    """

    moves = True

    @suggest_keywords
    def __init__(
        self,
        alpha: float | tuple[float, float] = 50.0,
        sigma: float | tuple[float, float] = 5.0,
        fill: float = 0.0,
    ) -> None:
        owner = type(self).__name__
        self.alpha = pair(owner, "alpha", alpha, low=0)
        self.sigma = pair(owner, "sigma", sigma, above=0)
        self.fill = numbers.in_range(owner, "fill", fill)

    def images(self, X: NDArray[Any], draws: Draws) -> NDArray[Any]:
        """Images, bent."""
        height, width = X.shape[2:]
        noise = draws.uniform(2 * height * width, -1, 1)
        noise = noise.reshape(len(X), 2, height, width)
        across, down = (
            gaussian(np.array([sigma]), 2 * math.ceil(4 * sigma) + 1) for sigma in self.sigma
        )
        field = blur(noise, across, down)
        column, row = grid(len(X), height, width)
        x = column + (width - 1) / 2 + self.alpha[0] / 2 * field[:, 0]
        y = row + (height - 1) / 2 + self.alpha[1] / 2 * field[:, 1]
        return warp(X, x, y, self.fill)


def _shears(owner: str, value: Any) -> tuple[float, float, float, float]:
    limits = {"least": -RIGHT_ANGLE, "most": RIGHT_ANGLE}
    if isinstance(value, (tuple, list)) and len(value) == 4:
        u = interval(owner, "shear", value[:2], **limits)
        return (*u, *interval(owner, "shear", value[2:], **limits))
    if isinstance(value, (tuple, list)) and len(value) != 2:
        raise ValueError(f"{owner}: 'shear' is {value!r}, expected a number, or 2 or 4 of them")
    low, high = around(owner, "shear", value)
    return (*interval(owner, "shear", (low, high), **limits), 0.0, 0.0)
