"""Images (N, C, H, W) in two memory orders: C order, or with the channels last, as PyTorch's.

A layer over images (convolutions, pools, batch norms, activations, dropout) takes both as they are
and gives its result in the order of its input; an array in any other order is copied to C order.
Layers over rows (group and instance norm, softmax) copy both to C order and say so.
``channels_last(x)`` is such an array as ``(N, H, W, C)`` in C order.
"""

from __future__ import annotations

from typing import Any

from onepass import _numbers as numbers
from onepass._array import Array, contiguous
from onepass.nn._checks import Like, like


def lies_channels_last(x: Array) -> bool:
    """Whether the memory of ``x`` (N, C, …) is dense with the channels last, and not in C order."""
    flags = getattr(x, "flags", None)  # NumPy's and CuPy's
    if flags is None or flags.c_contiguous or x.ndim < 3:
        return False
    return bool(channels_last(x).flags.c_contiguous)


def channels_last(x: Array) -> Array:
    """A view of (N, C, …) as (N, …, C); its reader refuses anything else."""
    axes = getattr(x, "ndim", 0)
    if axes == 4:
        return x.transpose(0, 2, 3, 1)
    return x if axes < 3 else x.transpose(0, *range(2, axes), 1)


def channels_first(x: Array) -> Array:
    """The inverse."""
    return x.transpose(0, 3, 1, 2) if x.ndim == 4 else x.transpose(0, -1, *range(1, x.ndim - 1))


def to_dense(x: Array, last: bool) -> Array:
    """``x`` (N, C, …) in C order, itself or with the channels last; copied where it must be."""
    return contiguous(channels_last(x) if last else x)


def to_images(y: Array, last: bool) -> Array:
    """The images (N, C, …) of `to_dense`."""
    return channels_first(y) if last else y


def take_mask(options: dict[str, Any]) -> dict[str, Any] | None:
    """Takes dropout out of an epilogue's options, as those of `ops.dropout`.

    A mask is that of the elements of (N, C, …) in C order, wherever they lie. The kernels with the
    channels last would count the elements in another order.
    """
    if "dropout_p" not in options:
        return None
    rest = ("seed", "offset", "first")
    return {"p": options.pop("dropout_p"), **{k: options.pop(k) for k in rest}}


def image(owner: str, x: Array, channels: int | None = None) -> Like:
    """Library, dtype and shape of ``x``, an array (N, C, H, W).

    Raises:
        TypeError: no array of floats. ValueError: another shape.
    """
    kind = like(owner, "x", x)
    if len(kind[2]) != 4 or (channels is not None and kind[2][1] != channels):
        expected = f"(N, {'C' if channels is None else channels}, H, W)"
        raise ValueError(f"{owner}: x has shape {kind[2]}, expected {expected}")
    return kind


def pair(owner: str, name: str, value: Any, least: int) -> tuple[int, int]:
    """A whole number for both axes, or two.

    Raises:
        TypeError: neither. ValueError: one is below ``least``.
    """
    values = value if isinstance(value, (tuple, list)) else (value, value)
    if len(values) != 2:
        raise ValueError(f"{owner}: {name!r} is {value!r}, expected a whole number or two")
    return (
        numbers.integer(owner, name, values[0], least),
        numbers.integer(owner, name, values[1], least),
    )
