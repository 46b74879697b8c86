"""Transforms that mix each sample with another one of its batch, targets too."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from onepass import _numbers as numbers
from onepass._keywords import suggest_keywords
from onepass.data.augment._draws import Draws, whole
from onepass.data.augment._transform import Transform, stored, working


class Mixing(Transform):
    """A transform of pairs: each sample takes a share of another, of images and of targets.

    Attributes:
        alpha: of the distribution Beta(alpha, alpha) of the share that a sample keeps.
        num_classes: of targets that are classes.
    """

    def __init__(self, alpha: float, num_classes: int | None) -> None:
        owner = type(self).__name__
        self.alpha = numbers.in_range(owner, "alpha", alpha, above=0)
        if num_classes is not None:
            num_classes = numbers.integer(owner, "num_classes", num_classes, 2)
        self.num_classes = num_classes

    def batch(self, X: NDArray[Any], y: Any, draws: Draws) -> tuple[Any, Any]:
        """Images and targets, mixed."""
        targets = None if y is None else self._shares(y, X.dtype)
        other = partners(draws)
        kept = draws.beta(self.alpha)
        images, kept = self.mixed(X, X[other], kept, draws)
        if targets is None:
            return images, None
        share = kept.astype(targets.dtype).reshape(len(X), *(1,) * (targets.ndim - 1))
        return images, share * targets + (1 - share) * targets[other]

    def mixed(
        self, X: NDArray[Any], others: NDArray[Any], kept: NDArray[np.float64], draws: Draws
    ) -> tuple[NDArray[Any], NDArray[np.float64]]:
        """Images of which each keeps about this share; and the share that it does keep."""
        raise NotImplementedError

    def _shares(self, y: Any, dtype: Any) -> NDArray[Any]:
        """Targets that can be averaged: numbers as they are, classes as shares of each class."""
        owner = type(self).__name__
        y = np.asarray(y)
        kind = working(dtype)
        if y.dtype.kind == "f":
            return np.asarray(y, np.result_type(y.dtype, np.float32))
        if y.dtype.kind not in "iub":
            raise TypeError(f"{owner}: 'y' has dtype {y.dtype}, expected classes or numbers")
        if self.num_classes is None:
            raise ValueError(
                f"{owner}: 'y' holds classes, which are mixed as shares of each class, expected "
                f"{owner}(…, num_classes=…); targets that are numbers need none"
            )
        if y.size and (int(y.min()) < 0 or int(y.max()) >= self.num_classes):
            odd = int(y.min()) if int(y.min()) < 0 else int(y.max())
            raise ValueError(
                f"{owner}: 'y' holds {odd}, expected classes from 0 to {self.num_classes - 1}"
            )
        return np.moveaxis(np.eye(self.num_classes, dtype=kind)[y.astype(np.int64)], -1, 1)


class Mixup(Mixing):
    """``x = λ x_i + (1 - λ) x_j`` and the same of the targets, λ from Beta(alpha, alpha).

    A word is drawn for each sample of the batch; in the order of these words, each sample i is
    mixed with the next one, j, and the last with the first. So the pairs depend on seed, epoch and
    the batch's indices, not on their order, and λ on seed, epoch and the index of i. Weights of
    samples stay those of i.

    Args:
        alpha: > 0; small ones leave most samples nearly as they are.
        num_classes: of targets that are classes (integers). They become shares of each class, (N,
            num_classes), which ``CrossEntropyLoss`` takes, and accuracy by the largest. Targets
            that are numbers, such as shares or those of a regression, are averaged as they are.

    Source: torchvision's ``MixUp``, its arguments and defaults, but with a λ for each sample; Zhang
    et al. 2017, "mixup: Beyond empirical risk minimization".

    Raises:
        TypeError, ValueError: an argument of another kind or out of range; called, classes without
            ``num_classes`` or beyond it.

    Example:
        >>> import numpy as np
        >>> from onepass.data.augment import Mixup
        >>> X, y = np.ones((4, 1, 2, 2)), np.array([0, 1, 2, 1])
        >>> X, y = Mixup(num_classes=3)(X, y, seed=0, epoch=0, index=range(4))
        >>> y.shape, y.sum(axis=1).round(6).tolist()
        ((4, 3), [1.0, 1.0, 1.0, 1.0])
    """

    @suggest_keywords
    def __init__(self, alpha: float = 1.0, num_classes: int | None = None) -> None:
        super().__init__(alpha, num_classes)

    def mixed(
        self, X: NDArray[Any], others: NDArray[Any], kept: NDArray[np.float64], draws: Draws
    ) -> tuple[NDArray[Any], NDArray[np.float64]]:
        """Averages of two images."""
        kind = working(X.dtype)
        share = kept.astype(kind)[:, None, None, None]
        return stored(share * X.astype(kind) + (1 - share) * others.astype(kind), X.dtype), kept


class CutMix(Mixing):
    """Each image has a box of another one; its target has the box's share of the other target.

    The box has √(1 - λ) of the image's height and width, with λ from Beta(alpha, alpha), a middle
    that is uniform over the image, and ends at its border. λ is then what is left of the image. The
    pairs are those of `Mixup`.

    Args:
        alpha: > 0.
        num_classes: as in `Mixup`.

    Source: torchvision's ``CutMix``, its arguments and defaults, but with a box for each sample;
    Yun et al. 2019, "CutMix: Regularization strategy to train strong classifiers".

    Raises:
        TypeError, ValueError: as in `Mixup`.

    Example:
        >>> import numpy as np
        >>> from onepass.data.augment import CutMix
        >>> X, y = np.zeros((2, 1, 4, 4)), np.array([0.0, 1.0])
        >>> X[1] = 1
        >>> X, y = CutMix()(X, y, seed=0, epoch=0, index=[5, 6])
        >>> bool((X.mean(axis=(1, 2, 3)) == y).all())
        True
    """

    moves = True

    @suggest_keywords
    def __init__(self, alpha: float = 1.0, num_classes: int | None = None) -> None:
        super().__init__(alpha, num_classes)

    def mixed(
        self, X: NDArray[Any], others: NDArray[Any], kept: NDArray[np.float64], draws: Draws
    ) -> tuple[NDArray[Any], NDArray[np.float64]]:
        """Images with a box of others."""
        inside = []
        for size, u in zip(X.shape[2:], draws.uniform(2).T, strict=True):
            middle, half = whole(u, size), (np.sqrt(1 - kept) * size / 2).astype(np.int64)
            place = np.arange(size)
            first, last = (middle - half)[:, None], (middle + half)[:, None]
            inside.append((place >= first) & (place < last))
        box = inside[0][:, :, None] & inside[1][:, None, :]
        share = 1 - box.sum(axis=(1, 2)) / (X.shape[2] * X.shape[3])
        return np.where(box[:, None], others, X), share


def partners(draws: Draws) -> NDArray[np.int64]:
    """(N,) the position of each sample's partner in the batch."""
    order = np.argsort(draws.words(1)[:, 0], kind="stable")
    partner = np.empty_like(order)
    partner[order] = np.roll(order, -1)
    return partner
