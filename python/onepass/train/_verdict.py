"""One sentence about a training, from its numbers alone, in the terms of the textbooks.

Source: Karpathy's CS231n notes, "Babysitting the learning process" (loss curves, the ratio of
updates to weights, dead units); Glorot and Bengio 2010 (gradients by layer).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import fmean, median

DEAD, MOST = 0.25, 0.5  # shares of a layer's units
EXPLODED = 1e6  # of the first layer's variance of activations
VANISHED = 1e-3  # of the largest layer's gradient
WILD = 0.05  # update over weight in a step: far above the 1e-3 that is usual
FIRST = 1.4  # times the loss of the first batch: two epochs that made it worse
LARGE = 0.015  # update over weight: large enough to make it worse; else the batch was a light one
ROSE = 1.5  # times the least loss
SLOPE = 0.03  # of the fall so far, in the last quarter of the epochs
LEARNT = 0.02  # of the first loss
FLAT = 4  # epochs: in fewer, flat cannot be told from what has just begun to fall
STEADY = 4  # epochs, each with a lower loss than the one before: no accident, however slow
OVERFIT = 0.1  # of the least validation loss

Numbers = Sequence[float]
Layers = Mapping[str, Numbers]


def verdict(
    loss: Numbers,
    val_loss: Numbers = (),
    *,
    gradient_rms: Layers | None = None,
    update_ratio: Layers | None = None,
    dead_units: Layers | None = None,
    start: float = math.nan,
    start_gradients: Mapping[str, float] | None = None,
    start_variances: Mapping[str, float] | None = None,
    failed: str = "",
    spoilt: bool = False,
) -> str:
    """Findings about a training, the most serious first, and what to do.

    The losses it names are those of single epochs, to three or four digits.

    Args:
        loss, val_loss: one number an epoch.
        gradient_rms, update_ratio, dead_units: layer → one number an epoch, from the input on, as
            `Diagnosis` keeps them.
        start, start_gradients, start_variances: loss, gradients and variances of activations of
            the first batch.
        failed: where the loss was not finite, if training ended by that.
        spoilt: whether that was because the data of the batch were not.

    Example:
        >>> from onepass.train import verdict
        >>> verdict([2.3, 1.1, 0.6, 0.4], [2.2, 1.2, 0.8, 0.6]).partition(":")[0]
        'more epochs wanted'
    """
    gradients, updates, dead = gradient_rms or {}, update_ratio or {}, dead_units or {}
    if spoilt:
        return (
            f"data not finite: the loss is not finite in {failed}, as a value of the batch; mend "
            "the data, or leave such batches out (nonfinite='skip')"
        )
    return (
        _explodes(start_variances or {})
        or _by_layer(start_gradients or {})
        or _diverged(loss, updates, start, failed)
        or _dead(dead, MOST)
        or _by_layer({name: fmean(values) for name, values in gradients.items() if values})
        or _too_high(loss, updates)
        or _overfits(loss, val_loss)
        or _dead(dead, DEAD)
        or _nothing(loss, updates)
        or _slopes(loss, val_loss)
        or _well(loss, val_loss)
    )


def _diverged(loss: Numbers, updates: Layers, start: float, failed: str) -> str:
    cure = "lower the learning rate (find_lr suggests one) or pass max_norm"
    if failed:
        return f"rate too high: the loss is not finite in {failed}; {cure}"
    if not loss:
        return "no epoch is done: nothing to judge"
    for epoch, value in enumerate(loss, 1):
        if not math.isfinite(value):
            return f"rate too high: the loss is {value} in epoch {epoch}; {cure}"
    large = any(values and values[0] > LARGE for values in updates.values())
    worse = large and len(loss) > 1 and loss[1] > FIRST * start
    if len(loss) > 1 and loss[0] > (FIRST if worse else 3 * FIRST) * start > 0:
        return (
            f"rate too high: the loss is {loss[0]:.3g} in epoch 1, above the {start:.3g} of "
            f"the first batch; {cure}"
        )
    begin = max(start, loss[0])
    if len(loss) > 1 and loss[-1] > begin + 0.1 * abs(begin):
        return (
            f"rate too high: the loss is {loss[-1]:.3g} after {len(loss)} epochs, above the "
            f"{begin:.3g} of the beginning; {cure}"
        )
    low = min(loss)
    room = (ROSE - 1) * max(abs(low), 0.1 * (loss[0] - low))
    if len(loss) > 1 and min(loss[-2:]) > low + room and loss[-1] > low + 0.2 * (loss[0] - low):
        epoch = loss.index(low) + 1
        return (
            f"rate too high: the loss rises, from {low:.3g} after epoch {epoch} to "
            f"{loss[-1]:.3g}; {cure}"
        )
    return ""


def _dead(layers: Layers, limit: float) -> str:
    shares = {name: values[-1] for name, values in layers.items() if values}
    worst = max(shares, key=lambda name: _number(shares[name], 0.0), default="")
    if not worst or not shares[worst] >= limit:
        return ""
    return (
        f"dead units in layer {worst}: {shares[worst]:.0%} of its units pass no gradient for any "
        "sample; lower the learning rate, check the scale of inputs and initial weights, or take "
        "leaky_relu instead of relu"
    )


def _by_layer(gradients: Mapping[str, float]) -> str:
    """Zeros are left out: of a layer behind one that starts at zero, or behind dead units."""
    means = {name: value for name, value in gradients.items() if 0 < value < math.inf}
    if len(means) < 2:
        return ""
    low, high = min(means, key=means.__getitem__), max(means, key=means.__getitem__)
    if means[low] > VANISHED * means[high]:
        return ""
    ratio = means[low] / means[high]
    names = list(means)
    if names.index(low) < names.index(high):
        kind, cure = "vanishing", "add batch norm or residuals, or take relu"
    else:
        kind, cure = "exploding", "add batch norm, smaller initial weights or max_norm"
    where = low if kind == "vanishing" else high
    return (
        f"{kind} gradients in layer {where}: layer {high} gets a gradient of rms "
        f"{means[high]:.1g}, layer {low} {ratio:.1g} of it; {cure}"
    )


def _explodes(variances: Mapping[str, float]) -> str:
    """Activations whose scale multiplies from layer to layer take the gradients along."""
    first = {name: value for name, value in variances.items() if not value <= 0}
    if len(first) < 3:
        return ""
    begin, *_, end = first
    if first[end] <= EXPLODED * first[begin]:
        return ""
    return (
        f"exploding gradients: the activations' variance grows from {first[begin]:.1g} in layer "
        f"{begin} to {first[end]:.1g} in layer {end}; add batch norm or smaller initial weights"
    )


def _too_high(loss: Numbers, updates: Layers) -> str:
    """Flat early, at a high level, while each step changes the weights by a lot."""
    wild = {name: median(values[len(values) // 2 :]) for name, values in updates.items() if values}
    wild = {name: value for name, value in wild.items() if value > WILD}
    if not wild or len(loss) < FLAT:
        return ""
    half = len(loss) // 2
    early, late = min(loss[: half + 1]), fmean(loss[half:])
    if late < 0.9 * early or late < 0.1 * loss[0]:
        return ""
    if early - fmean(loss[-2:]) > 0.1 * (loss[0] - min(loss)):
        return ""  # it still falls
    worst = max(wild, key=wild.__getitem__)
    return (
        f"rate too high: the loss is flat early, at {loss[-1]:.3g}, while a step changes the "
        f"weights of layer {worst} by {wild[worst]:.0%}; lower the learning rate (find_lr suggests "
        "one)"
    )


def _overfits(loss: Numbers, val_loss: Numbers) -> str:
    if len(val_loss) < 4 or not all(map(math.isfinite, val_loss)):
        return ""
    curve = [median(val_loss[max(i - 1, 0) : i + 2]) for i in range(len(val_loss))]
    best = min(range(len(curve)), key=curve.__getitem__)
    if best > len(curve) - 4:
        return ""
    low, late = curve[best], fmean(val_loss[-3:])
    steps = [abs(b - a) for a, b in zip(val_loss[1:], val_loss, strict=False)]
    fall = max(loss[0], val_loss[0]) - low
    if late - low < max(OVERFIT * abs(low), OVERFIT * fall, 3 * median(steps)):
        return ""
    first = min(range(max(best - 1, 0), best + 2), key=val_loss.__getitem__)
    last = max(range(len(val_loss) - 3, len(val_loss)), key=val_loss.__getitem__)
    if loss[-1] > loss[first]:
        return ""
    return (
        f"overfitting since epoch {first + 1}: val_loss rises from {val_loss[first]:.3g} to "
        f"{val_loss[last]:.3g} in epoch {last + 1} while loss falls from {loss[first]:.3g} to "
        f"{loss[-1]:.3g}; stop there (EarlyStopping), or use more data, dropout or weight decay"
    )


def _nothing(loss: Numbers, updates: Layers) -> str:
    fell = len(loss) > 1 and loss[0] - min(loss) > LEARNT * abs(loss[0]) and loss[-1] < loss[0]
    if len(loss) < 2 or fell:
        return ""
    steady = len(loss) >= STEADY and all(b < a for a, b in pairwise(loss))
    largest = max((values[-1] for values in updates.values() if values), default=math.nan)
    if steady and not largest < 1e-4:
        return (
            f"more epochs wanted: loss falls in every epoch, but slowly, from {loss[0]:.4g} to "
            f"{loss[-1]:.4g}; or raise the learning rate (find_lr suggests one)"
        )
    if largest < 1e-4:
        return (
            f"rate too low: the loss stays at {loss[-1]:.3g} and a step changes the weights by "
            f"{largest:.1g} at most; raise the learning rate (find_lr suggests one)"
        )
    return (
        f"nothing is learnt: the loss stays at {loss[-1]:.3g}; check data, targets and the "
        "learning rate (find_lr suggests one)"
    )


def _slopes(loss: Numbers, val_loss: Numbers) -> str:
    name, curve = ("val_loss", val_loss) if val_loss else ("loss", loss)
    if len(curve) < 2 or not all(map(math.isfinite, curve)):
        return ""
    count = max(1, len(curve) // 4)
    late = fmean(curve[-count:])
    before = fmean(curve[-2 * count : -count])
    fall = max(curve) - min(curve)
    if before - late < SLOPE * fall or curve[-1] > min(curve) + SLOPE * fall:
        return ""
    first = max(range(len(curve) - 2 * count, len(curve) - count), key=curve.__getitem__)
    return (
        f"more epochs wanted: {name} is still sloping, from {curve[first]:.3g} in epoch "
        f"{first + 1} to {curve[-1]:.3g} in epoch {len(curve)}"
    )


def _well(loss: Numbers, val_loss: Numbers) -> str:
    checked = f", val_loss {val_loss[-1]:.3g}" if val_loss else ""
    if len(loss) == 1:
        return f"more epochs wanted: one is too few to judge by (loss {loss[0]:.3g}{checked})"
    return f"all well: loss {loss[0]:.3g} to {loss[-1]:.3g}{checked} in {len(loss)} epochs"


def _number(value: float, instead: float) -> float:
    return value if math.isfinite(value) else instead
