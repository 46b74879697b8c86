"""Folds of a cross-validation: which samples are held out together.

They are a function of the seed, the number of samples, and the labels or groups alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onepass import _numbers as numbers
from onepass._array import to_numpy
from onepass._keywords import suggest_keywords
from onepass.data._given import array_of
from onepass.data._loader import permutation
from onepass.data._split import STREAM, Indices, numbered


@suggest_keywords
def fold_indices(
    y: Any, folds: int = 5, *, stratify: bool | None = None, groups: Any = None, seed: int = 0
) -> list[tuple[Indices, Indices]]:
    """Indices of a training part and of a held-out part, for each fold of a cross-validation.

    Each sample is held out once. Without groups, sizes of the held-out parts differ by at most one,
    and so do the samples that they have of a class, where y is split by class. With groups no group
    is in both parts of a fold: the largest group comes first, each to the fold that has the fewest
    of its classes, or samples.

    Args:
        y: (N,) or (N, 1) targets, also a Series (by position) or a list; where it is not split by
            class, only their number matters.
        folds: how many, at least 2.
        stratify: spread each class of y evenly. None does so if y holds text, booleans, floating-
            point numbers that are all 0 or 1, or integers of which at most half as many differ as
            there are samples; a class with fewer samples than folds is then in some of them alone.
        groups: (N,) numbers or text: samples that belong together, such as those of a patient.
        seed: the seed of the random order, 0 <= seed < 2**64.

    Returns:
        A pair ``(train, test)`` for each fold, int64, positions in increasing order.

    Raises:
        TypeError: y or groups are not arrays of numbers or text. ValueError: more folds than
            samples, than groups, or with ``stratify=True`` than samples of a class; groups that do
            not fit y.

    Example:
        >>> import numpy as np
        >>> from onepass.data import fold_indices
        >>> y = np.array([0, 0, 1] * 4)
        >>> [np.bincount(y[test]).tolist() for train, test in fold_indices(y, 4)]
        [[2, 1], [2, 1], [2, 1], [2, 1]]
    """
    return indices_of("fold_indices", y, folds, stratify=stratify, groups=groups, seed=seed)


def indices_of(
    owner: str, y: Any, folds: Any, *, stratify: bool | None, groups: Any, seed: Any
) -> list[tuple[Indices, Indices]]:
    """The same for another call, which ``owner`` names in messages."""
    target = _one_axis(owner, "y", y)
    by_class = (
        _has_classes(target) if stratify is None else numbers.flag(owner, "stratify", stratify)
    )
    known, labels = numbered(target) if by_class else (None, None)
    names = [str(name) for name in known.tolist()] if known is not None else None
    group = None
    if groups is not None:
        group = numbered(_one_axis(owner, "groups", groups))[1]
        if len(group) != len(target):
            raise ValueError(
                f"{owner}: 'groups' has {len(group)} values, expected {len(target)}, one for each "
                "sample of y"
            )
    held_out = assigned(
        owner,
        "folds",
        len(target),
        folds,
        seed,
        labels=labels,
        names=names,
        groups=group,
        cure=" (stratify=False spreads samples whatever their class)",
        rare=stratify is None,
    )
    return pairs_of(held_out)


def pairs_of(held_out: Indices) -> list[tuple[Indices, Indices]]:
    """A training part and a held-out part for each fold, of the fold of each sample."""
    count = int(held_out.max()) + 1
    return [(np.flatnonzero(held_out != k), np.flatnonzero(held_out == k)) for k in range(count)]


def assigned(
    owner: str,
    argument: str,
    size: int,
    folds: Any,
    seed: Any,
    *,
    labels: Indices | None = None,
    names: Sequence[str] | None = None,
    groups: Indices | None = None,
    cure: str = "",
    rare: bool = False,
) -> Indices:
    """The fold in which each sample is held out, from 0.

    Args:
        owner, argument: of the call and of its number of folds, for messages.
        labels: the class of each sample, from 0, with these ``names``. groups: its group, from 0.
        cure: what else may be done about a class that is too rare.
        rare: take a class that has fewer samples than there are folds.

    Raises:
        TypeError, ValueError: ``folds`` or ``seed`` that cannot work.
    """
    numbers.integer(owner, argument, folds, 2)
    order = permutation(size, numbers.seed(owner, "seed", seed), STREAM)
    _refuse_more(owner, argument, folds, size, "the number of samples")
    if groups is not None:
        count = int(groups.max()) + 1
        _refuse_more(owner, argument, folds, count, "the number of groups")
        return _by_groups(groups, labels, int(folds), order)
    if labels is not None and not rare:
        counts = np.bincount(labels)
        rarest = int(np.where(counts, counts, size).argmin())
        named = names[rarest] if names is not None else rarest
        what = f"the number of samples of class {named!r}{cure}"
        _refuse_more(owner, argument, folds, int(counts[rarest]), what)
    if labels is not None:
        order = order[np.argsort(labels[order], kind="stable")]
    found = np.empty(size, np.int64)
    found[order] = np.arange(size) % folds
    return found


def _by_groups(
    groups: Indices, labels: Indices | None, folds: int, order: NDArray[np.int64]
) -> Indices:
    """Whole groups, the largest first, each to the fold that has the fewest of its classes."""
    label = np.zeros(len(groups), np.int64) if labels is None else labels
    count, classes = int(groups.max()) + 1, int(label.max()) + 1
    shares = np.bincount(groups * classes + label, minlength=count * classes)
    shares = shares.reshape(count, classes)
    each = shares.sum(axis=0).astype(np.float64)
    weight = 1 / np.maximum(each, 1) ** 2  # so that a rare class counts as much as a frequent one
    first = np.full(count, len(groups))
    np.minimum.at(first, groups[order], np.arange(len(order)))  # groups in random order
    sizes = shares.sum(axis=1)
    fold_of = np.empty(count, np.int64)
    there, filled = np.zeros((folds, classes)), np.zeros(folds)
    for number, group in enumerate(np.lexsort((first, -sizes))):
        if number < folds:
            fold = number  # no fold is empty
        else:
            cost = (there * shares[group]) @ weight
            fold = int(np.lexsort((filled, cost))[0])
        fold_of[group] = fold
        there[fold] += shares[group]
        filled[fold] += sizes[group]
    return fold_of[groups]


def split_groups(y: Any, groups: Any, share: float, seed: int) -> tuple[Indices, Indices]:
    """Positions of a training part, and of a part of about that share that has whole groups.

    The largest group comes first; each goes to the second part where that brings the samples of
    its classes nearer to the share. Classes are told apart as by `fold_indices`.

    Raises:
        ValueError: there is one group alone.
    """
    target, (_, group) = _one_axis("split", "y", y), numbered(_one_axis("split", "groups", groups))
    label = numbered(target)[1] if _has_classes(target) else np.zeros(len(target), np.int64)
    count, classes = int(group.max()) + 1, int(label.max()) + 1
    if count < 2:
        raise ValueError("'groups' has one group, expected at least two, one for each part")
    shares = np.bincount(group * classes + label, minlength=count * classes)
    shares = shares.reshape(count, classes)
    each = shares.sum(axis=0)
    missing = share * each
    order = permutation(count, seed, STREAM)
    order = order[np.argsort(-shares[order].sum(axis=1), kind="stable")]
    taken = np.zeros(count, bool)
    for number in order:
        left = missing - shares[number]
        if (((left**2 - missing**2) / each**2).sum()) < 0 and taken.sum() < count - 1:
            taken[number], missing = True, left
    if not taken.any():
        taken[order[-1]] = True  # the smallest
    return np.flatnonzero(~taken[group]), np.flatnonzero(taken[group])


def _refuse_more(owner: str, argument: str, folds: int, most: int, what: str) -> None:
    if folds > most:
        raise ValueError(f"{owner}: {argument!r} is {folds}, expected at most {most}, {what}")


def _one_axis(owner: str, name: str, values: Any) -> NDArray[Any]:
    """``values`` as an array (N,); of several targets a sample, anything with N rows."""
    listed = isinstance(values, (list, tuple))
    given = array_of(owner, name, np.asarray(values) if listed else values, text=True)
    array: NDArray[Any] = to_numpy(given)
    if not array.ndim or not len(array):
        raise ValueError(
            f"{owner}: {name!r} has shape {array.shape}, expected samples along axis 0"
        )
    if name == "groups" and array.ndim > 1:
        raise ValueError(
            f"{owner}: {name!r} has shape {array.shape}, expected one value for each sample"
        )
    if name == "groups" and array.dtype.kind == "f" and np.isnan(array).any():
        raise ValueError(
            f"{owner}: {name!r} has nan at {int(np.isnan(array).argmax())}, expected the group of "
            "each sample; give one that is alone a group of its own"
        )
    return array.reshape(-1) if array.ndim == 2 and array.shape[1] == 1 else array


def _has_classes(target: NDArray[Any]) -> bool:
    if target.ndim > 1:
        return False
    if target.dtype.kind == "f":
        return bool(((target == 0) | (target == 1)).all())
    if target.dtype.kind in "iu":  # whole numbers that hardly repeat are not classes
        return 2 * len(np.unique(target)) <= len(target)
    return True
