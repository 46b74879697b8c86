"""Which elements of a batch, or of a matrix of weights, each norm takes together."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from generate.drawing import BLUE, GREEN, GREY, PURPLE, RED, Figure, pyplot, save

SAMPLES, CHANNELS, PLACES = 3, 4, 4
HUES = (BLUE, RED, GREEN, PURPLE)
OF_BATCH, OF_WEIGHTS = ("N", "C", "H·W"), ("outputs", "inputs", "window")


class Block(NamedTuple):
    """How a norm divides a block of SAMPLES × CHANNELS × PLACES elements.

    Attributes:
        group: of an element at (sample, channel): its hue, and how far that goes to white, or below
            0 to black.
        words: what elements of one colour share.
        ends: what its three axes are.
    """

    group: Callable[[int, int], tuple[int, float]]
    words: str
    ends: tuple[str, str, str] = OF_BATCH


def _channel(_: int, channel: int) -> tuple[int, float]:
    return channel, 0.0


def _sample(sample: int, _: int) -> tuple[int, float]:
    return sample, 0.0


def _both(sample: int, channel: int) -> tuple[int, float]:
    return sample, (-0.35, 0.0, 0.3, 0.6)[channel]


def _pairs(sample: int, channel: int) -> tuple[int, float]:
    return sample, 0.5 * (channel // 2)


# By the page of each norm.
BLOCKS = {
    "batchnorm": Block(_channel, "BatchNorm: the elements of one colour, a channel of all "
                       "samples, share a mean and a deviation"),
    "batchrenorm": Block(_channel, "BatchRenorm: the elements of one colour, a channel of all "
                         "samples, share a mean and a deviation, and their corrections d and r"),
    "decorrelatedbatchnorm": Block(lambda _, c: (c // 2, 0.0), "DecorrelatedBatchNorm with "
                                   "`num_groups=2`: the channels of one colour share a covariance "
                                   "matrix, taken over all samples and positions"),
    "foldbatchnorm": Block(_sample, "fold_batch_norm: the weights of one colour, those of an "
                           "output, are multiplied by the same γ/σ", OF_WEIGHTS),
    "groupnorm": Block(_pairs, "GroupNorm with `num_groups=2`: the elements of one colour, a "
                       "group of channels of a sample, share a mean and a deviation"),
    "instancenorm": Block(_both, "InstanceNorm: the elements of one colour, a channel of a "
                          "sample, share a mean and a deviation"),
    "layernorm": Block(_sample, "LayerNorm with `normalized_shape=(C, H, W)`: the elements of "
                       "one colour, a sample, share a mean and a deviation"),
    "rmsnorm": Block(_sample, "RMSNorm with `normalized_shape=(C, H, W)`: the elements of one "
                     "colour, a sample, share a root mean square; no mean is subtracted"),
    "updatebatchnorm": Block(_channel, "update_batch_norm: the elements of one colour, a channel "
                             "of all samples of all batches, share a mean and a deviation"),
    "weightnorm": Block(_sample, "WeightNorm: the weights of one colour, those of an output, "
                        "share a length g", OF_WEIGHTS),
}  # fmt: skip
# Where a step along each axis of the block goes on paper.
DOWN, ALONG, BACK = np.array([0.0, -1.0]), np.array([1.0, 0.0]), np.array([0.42, 0.34])


def draw(page: str, folder: Path) -> Figure | None:
    """The figure of a norm's page."""
    if page not in BLOCKS:
        return None
    block = BLOCKS[page]
    figure, axes = pyplot().subplots(figsize=(5.6, 2.7))
    figure.subplots_adjust(left=0.02, right=0.98, top=0.98, bottom=0.02)
    _faces(axes, block)
    _ends(axes, block.ends)
    axes.set(xlim=(-3.2, 8.8), ylim=(-3.7, 2.1), aspect="equal")
    axes.axis("off")
    save(figure, folder / f"{page}.svg")
    return Figure(f"{page}.svg", block.words)


def _faces(axes: Any, block: Block) -> None:
    """The three sides that one sees: in front, on top and to the right."""
    from matplotlib.collections import PolyCollection
    from matplotlib.colors import to_rgb

    cells, paint = [], []

    def cell(corner: Any, first: Any, second: Any, sample: int, channel: int) -> None:
        cells.append([corner, corner + first, corner + first + second, corner + second])
        hue, pale = block.group(sample, channel)
        ink = np.array(to_rgb(HUES[hue]))
        paint.append(ink + pale * (1 - ink) if pale > 0 else ink * (1 + pale))

    # Channels along, samples down, positions back.
    for n in range(SAMPLES):
        for c in range(CHANNELS):
            cell(n * DOWN + c * ALONG, DOWN, ALONG, n, c)
    for c in range(CHANNELS):
        for x in range(PLACES):
            cell(c * ALONG + x * BACK, ALONG, BACK, 0, c)
    for n in range(SAMPLES):
        for x in range(PLACES):
            cell(CHANNELS * ALONG + n * DOWN + x * BACK, DOWN, BACK, n, CHANNELS - 1)
    axes.add_collection(PolyCollection(cells, facecolors=paint, edgecolors=GREY, linewidths=0.8))


def _ends(axes: Any, ends: tuple[str, str, str]) -> None:
    down, along, back = ends
    axes.text(-0.25, -SAMPLES / 2, down, ha="right", va="center")
    axes.text(CHANNELS / 2, -SAMPLES - 0.2, along, ha="center", va="top")
    middle = CHANNELS * ALONG + PLACES / 2 * BACK + SAMPLES * DOWN
    axes.text(middle[0] + 0.25, middle[1] - 0.1, back, ha="left", va="top")
