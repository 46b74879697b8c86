"""Reads the outputs and targets of a classification: scores, classes, margins, shares.

If a sample has one output, the threshold of class 1 is 0 for a logit, and a half for a probability
or a number that approximates the target, 0 or 1. The loss decides which it is, else the last layer
of a `Sequential`, else the first outputs; or the metric requires one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from onepass import _numbers as numbers
from onepass import nn, ops
from onepass._array import is_floating, to_numpy

KINDS = ("logits", "probabilities", "numbers")
_PASSING = (nn.Identity, nn.Flatten, nn.Dropout)


class UndefinedError(ValueError):
    """A metric has no value for these outputs and targets, whatever the model."""


@dataclass(eq=False)
class Classes:
    """The kind of the outputs of one loss and one model.

    Attributes:
        loss: its ``ignore_index`` marks labels that do not count; its ``outputs``, one of KINDS,
            says what it takes outputs for.
        of_model: what the model's last layer makes of its outputs; None where that is not known.
        seen: what the first outputs showed.
        asked: whether several ranks have looked at the first outputs together, see `decide`.
    """

    loss: Any = None
    of_model: str | None = None
    seen: str | None = None
    asked: bool = False

    def follow(self, loss: Any, model: Any) -> None:
        """From now on of this loss and this model."""
        self.loss, self.of_model, self.seen, self.asked = loss, _of_model(model), None, False

    def is_open(self) -> bool:
        """Whether the next outputs are to decide it, of all ranks together."""
        return not (said(self.loss) or self.of_model or self.seen or self.asked)

    def vote(self, output: Any, target: Any) -> tuple[bool, bool]:
        """Whether these outputs, of some ranks' rows, are logits, and whether they say anything."""
        try:
            scores, _ = self.labels(output, target)
        except ValueError:
            return False, True  # no classes: a metric of classes says it
        if scores.ndim > 1:
            return False, True
        return _are_outside(scores), not np.isnan(scores).all()

    def decide(self, outside: bool, said: bool) -> None:
        """By the votes of all ranks."""
        self.seen, self.asked = "logits" if outside else None, said

    def kind(self, scores: Any) -> str:
        """The kind of one output a sample; ``scores`` are some, (M,).

        Raises:
            ValueError: nothing says so, and they may be logits as well as probabilities.
        """
        known = said(self.loss) or self.of_model or self.seen
        if known is not None:
            return known
        if np.isnan(scores).all():
            return "logits"  # of no sample, or none that says anything; the next outputs decide
        if not _are_outside(scores):
            raise ValueError(
                "the outputs lie within 0 to 1, so they may be probabilities or logits, expected "
                "a loss that says which: give it the attribute outputs = 'probabilities' or "
                "'logits'"
            )
        self.seen = "logits"
        return self.seen

    def labels(self, output: Any, target: Any) -> tuple[Any, Any]:
        """Scores (M, C) or (M,), and classes (M,), of labels that count.

        The class is the index of the largest score along axis 1, also in targets that are
        probabilities.
        """
        y, t = to_numpy(output), to_numpy(target)
        one = y.ndim == 1 or y.shape[1] == 1
        shape = y.shape if y.ndim == 1 else (y.shape[0], *y.shape[2:])
        fits = t.shape in (shape, (*shape[:1], 1, *shape[1:]), y.shape)  # the second: a column
        if one and is_floating(t) and ((t < 0) | (t > 1)).any():
            raise ValueError(
                "'target' holds numbers outside of 0 to 1, expected classes, such as 0 and "
                "1; for a regression pass 'mse', 'mae' or 'r2'"
            )
        if one:
            y = y.reshape(-1)
            t = t.reshape(-1) > 0.5 if is_floating(t) else t.reshape(-1)
        elif fits:
            if t.shape == y.shape:
                if not _are_shares(t):
                    raise ValueError(
                        f"'target' has shape {t.shape} and rows that do not sum to 1, "
                        "expected one class a sample, or probabilities; for several classes a "
                        "sample pass a function of your own"
                    )
                t = t.argmax(axis=1)
            y, t = np.moveaxis(y, 1, -1).reshape(-1, y.shape[1]), t.reshape(-1)
        if not fits:
            raise ValueError(
                f"'target' has shape {tuple(np.shape(target))}, expected one class for each "
                f"of the outputs, {tuple(np.shape(output))}"
            )
        if t.dtype.kind in "iu":
            used = t != getattr(self.loss, "ignore_index", -100)
            y, t = y[used], t[used]
            count = 2 if one else y.shape[1]
            if ((t < 0) | (t >= count)).any():
                odd = t[(t < 0) | (t >= count)][0]
                raise ValueError(
                    f"'target' holds {odd}, expected classes from 0 to {count - 1}"
                    f"{', as there is one output' if one else f', as there are {count} outputs'}"
                )
        return y, t.astype(np.int64)

    def predicted(self, scores: Any) -> Any:
        """The classes that the scores say; -1, which no label is, where one is NaN."""
        if scores.ndim > 1:
            return np.where(np.isnan(scores).any(axis=1), -1, scores.argmax(axis=1))
        border = 0.0 if self.kind(scores) == "logits" else 0.5
        return np.where(np.isnan(scores), -1, scores > border)

    def settle(self, output: Any, target: Any) -> None:
        """Raise what `predicted` and `shares` would, at an epoch's first batch."""
        scores, _ = self.labels(output, target)
        if scores.ndim == 1:
            self.kind(scores)

    def shares(self, scores: Any) -> Any:
        """The probability of each class, in double: the softmax; of one output, of 0 and 1."""
        z = np.asarray(scores, np.float64)
        if z.ndim == 1 and self.kind(scores) != "logits":
            z = np.clip(z, 0, 1)  # numbers that come near 0 and 1 may pass them
            return np.stack([1 - z, z], axis=1)
        return softmax(np.stack([np.zeros_like(z), z], axis=1) if z.ndim == 1 else z)


def softmax(scores: Any) -> Any:
    """Along axis 1, in double."""
    return ops.softmax(np.asarray(scores, np.float64), 1)


def margins(scores: Any) -> Any:
    """Scores in double; of two classes the second over the first. Unlike shares they never tie.

    Of more classes the logarithms of the shares: what is added to all scores of a sample has no
    effect on the model, nor on these.
    """
    z = np.asarray(scores, np.float64)
    if z.ndim < 2:
        return z
    return z[:, 1] - z[:, 0] if is_binary(z) else ops.log_softmax(z, 1)


def is_binary(scores: Any) -> bool:
    """Whether the scores are of two classes."""
    return bool(scores.ndim == 1 or scores.shape[1] == 2)


def said(loss: Any) -> str | None:
    """What a loss says that outputs are; None where it says nothing.

    Raises:
        ValueError: something else than one of KINDS.
    """
    outputs = getattr(loss, "outputs", None)
    if not isinstance(outputs, str):  # a loss may keep its outputs there
        return None
    numbers.one_of("Trainer", "loss.outputs", outputs, KINDS)
    return outputs


def _of_model(model: Any) -> str | None:
    """Of what is known to run as it is listed: what its last layer gives. Else None."""
    while isinstance(model, nn.Sequential):
        runs = ("__call__", "forward", "fused_forward")
        if any(getattr(type(model), name) is not getattr(nn.Sequential, name) for name in runs):
            return None
        inside = [layer for layer in model if not isinstance(layer, _PASSING)]
        if not inside:
            return None
        model = inside[-1]
    if isinstance(model, nn.Sigmoid) and type(model).forward is nn.Sigmoid.forward:
        return "probabilities"
    return "logits" if type(model).__module__.startswith("onepass.nn.") else None


def _are_outside(scores: Any) -> bool:
    """Whether some lie outside of 0 to 1."""
    return bool(((scores < 0) | (scores > 1)).any())


def _are_shares(t: Any) -> bool:
    return bool((t >= 0).all() and np.allclose(t.sum(axis=1), 1, atol=1e-3))
