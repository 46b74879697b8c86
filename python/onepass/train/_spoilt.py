"""The cause of a loss that is not finite: values of the batch, or the training."""

from __future__ import annotations

from typing import Any

import numpy as np

from onepass._array import is_floating, to_numpy


class SpoiltBatchError(FloatingPointError):
    """A loss is not finite because the data of its batch are not."""


def not_finite(loss: float, where: str, spoilt: str | None) -> FloatingPointError:
    """The error of a loss that is not finite.

    Args:
        loss: its value.
        where: "epoch 1, batch 2".
        spoilt: what `spoilt_sample` says of its batch.
    """
    if spoilt is not None:
        return SpoiltBatchError(
            f"the loss is {loss} in {where}: {spoilt} of this batch; mend the data, or pass "
            "nonfinite='skip'"
        )
    return FloatingPointError(
        f"the loss is {loss} in {where}; lower the learning rate, check the data, or pass "
        "nonfinite='skip'"
    )


def spoilt_sample(first: int = 0, **batch: Any) -> str | None:
    """A value that is not finite and its sample, in words; None where all are finite.

    Args:
        first: the place in the batch of the first sample.
        batch: X and y of the batch, or of a part of it, as the model and the loss got them.
    """
    for name, values in batch.items():
        spoilt = _first_not_finite(values)
        if spoilt is not None:
            sample, value = spoilt
            return f"{name!r} has {value} in sample {first + sample}"
    return None


def _first_not_finite(values: Any) -> tuple[int, float] | None:
    """A sample that has such a value, and the value."""
    if not hasattr(values, "dtype") or not is_floating(values):
        return None
    array = np.atleast_1d(to_numpy(values).astype(np.float64))
    wrong = np.argwhere(~np.isfinite(array))
    return (int(wrong[0, 0]), float(array[tuple(wrong[0])])) if len(wrong) else None
