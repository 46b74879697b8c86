"""Converts users' data to arrays, or refuses it and names its type."""

from __future__ import annotations

from typing import Any

import numpy as np


def array_of(owner: str, name: str, value: Any, *, text: bool = False) -> Any:
    """An array of real numbers from ``value``.

    Taken: arrays of NumPy, CuPy and PyTorch (tensors in CPU memory as NumPy arrays, without their
    gradients), DataFrames and Series by position whatever their index (what is missing in them is
    NaN), and objects that NumPy can read with a shape of their own.

    Args:
        owner, name: of the call and its argument, for messages.
        text: take text too, as targets that name classes.

    Raises:
        TypeError: a list, a sparse matrix, masked values, no array at all, or not of real numbers.
    """
    if type(value) is not np.ndarray:
        value = _converted(owner, name, value)
    objects = isinstance(value, np.ndarray) and value.dtype.kind == "O"
    if text and objects and all(map(_is_text, value.flat)):
        value = value.astype(str)
    kinds = "biufUS" if text else "biuf"
    if isinstance(value, np.ndarray) and value.dtype.kind not in kinds and not _is_bfloat16(value):
        raise TypeError(
            f"{owner}: {name!r} has dtype {value.dtype}, expected real numbers"
            f"{_cure_of(value.dtype)}"
        )
    return value


def pair_of(owner: str, transform: Any, result: Any) -> tuple[Any, Any]:
    """``(X, y)``, which a transform of batches returned.

    Raises:
        TypeError: it returned something else.
    """
    if not isinstance(result, tuple) or len(result) != 2:
        raise TypeError(
            f"{owner}: {transform!r} returned a {type(result).__name__}, expected a pair (X, y)"
        )
    return result


def rows_of(value: Any, index: Any) -> Any:
    """The rows at these positions; of a DataFrame or Series, a DataFrame or Series."""
    return value.iloc[index] if hasattr(value, "iloc") else value[index]


def _converted(owner: str, name: str, value: Any) -> Any:
    kind, root = type(value).__name__, type(value).__module__.partition(".")[0]
    if isinstance(value, np.ma.MaskedArray):
        if np.ma.is_masked(value):
            raise TypeError(
                f"{owner}: {name!r} is a MaskedArray with masked values, expected an array; fill "
                f"them, such as with {name}.filled(0), or leave their rows out"
            )
        return value.data
    if isinstance(value, np.matrix):
        return np.asarray(value)
    if isinstance(value, np.ndarray):
        return value
    if hasattr(value, "toarray"):
        raise TypeError(
            f"{owner}: {name!r} is a {kind}, expected an array ({name}.toarray() makes one)"
        )
    if hasattr(value, "iloc") or root == "polars":
        return _from_frame(owner, name, value)
    if root == "torch" and hasattr(value, "layout"):
        return _from_tensor(owner, name, value)
    if root == "cupy":
        return value
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return value if hasattr(value, "__cuda_array_interface__") else np.asarray(value)
    raise TypeError(f"{owner}: {name!r} is a {kind}, expected an array (np.asarray makes one)")


def _from_frame(owner: str, name: str, value: Any) -> Any:
    """The values of a table or column; numbers of several kinds in one that holds them all."""
    array = value.to_numpy()
    if array.dtype != object:
        return np.ascontiguousarray(array)  # sums then run as over an array
    columns = [(str(c), value[c]) for c in value] if array.ndim == 2 else [(str(value.name), value)]
    for label, column in columns:
        if not all(map(_is_real, column.dropna())):
            if array.ndim == 1 and all(isinstance(v, str) for v in column):
                return array.astype(str)
            raise TypeError(
                f"{owner}: {name!r} has other things than numbers in column {label!r}, expected "
                "real numbers in every column; encode it, or leave it out"
            )
    return value.to_numpy(np.float64, na_value=np.nan)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_real(value: Any) -> bool:
    return isinstance(value, (bool, int, float, np.number, np.bool_))


def _from_tensor(owner: str, name: str, value: Any) -> Any:
    if str(value.layout) != "torch.strided" or value.is_complex() or value.is_quantized:
        what = "complex" if value.is_complex() else str(value.layout)
        raise TypeError(
            f"{owner}: {name!r} is a Tensor ({what}), expected a dense one of real numbers"
        )
    if value.device.type != "cpu":
        return value.detach()
    value = value.detach().resolve_neg()
    return value.float().numpy() if str(value.dtype) == "torch.bfloat16" else value.numpy()


def _is_bfloat16(array: Any) -> bool:
    return bool(array.dtype.name == "bfloat16")


def _cure_of(dtype: Any) -> str:
    return {
        "O": "; convert it with astype('float64')",
        "c": "; pass its real and imaginary parts as columns",
        "V": "; pass its fields as columns of one array",
        "M": "; pass a duration in numbers",
        "m": "; divide it by a unit, such as np.timedelta64(1, 's')",
    }.get(dtype.kind, "; encode the text as numbers")
