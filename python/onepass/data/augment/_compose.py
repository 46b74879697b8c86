"""Several transforms as one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from onepass import _numbers as numbers
from onepass._keywords import suggest_keywords
from onepass.data._given import pair_of
from onepass.data._shares import is_by_sample
from onepass.data.augment._draws import seed_of_part


class Compose:
    """Transforms, one after the other, each with a seed of its own.

    Args:
        transforms: of this module, or functions ``(X, y, *, seed, epoch, index) -> (X, y)``.

    Source: torchvision's ``Compose``.

    Raises:
        TypeError: no list of functions. ValueError: an empty one.

    Example:
        >>> import numpy as np
        >>> from onepass.data.augment import Compose, GaussianNoise, RandomFlip
        >>> both = Compose([RandomFlip("horizontal"), GaussianNoise()])
        >>> both(np.ones((2, 1, 3, 3)), None, seed=0, epoch=0, index=[0, 1])[0].shape
        (2, 1, 3, 3)
    """

    @suggest_keywords
    def __init__(self, transforms: Iterable[Callable[..., Any]]) -> None:
        if isinstance(transforms, str) or not isinstance(transforms, Iterable):
            raise TypeError(f"Compose: 'transforms' is {transforms!r}, expected a list of them")
        self.transforms = list(transforms)
        if not self.transforms:
            raise ValueError("Compose: 'transforms' is empty, expected at least one")
        for transform in self.transforms:
            if not callable(transform) or isinstance(transform, type):
                raise TypeError(
                    f"Compose: 'transforms' has {transform!r}, expected functions (X, y, *, seed, "
                    "epoch, index) -> (X, y), such as RandomFlip()"
                )

    @property
    def by_sample(self) -> bool:
        """Whether no sample depends on the others of its batch."""
        return all(map(is_by_sample, self.transforms))

    def __call__(self, X: Any, y: Any = None, *, seed: int, epoch: int, index: Any) -> Any:
        """``(X, y)`` after all of them."""
        seed = numbers.seed("Compose", "seed", seed)
        for part, transform in enumerate(self.transforms):
            own = seed_of_part(seed, part)
            result = transform(X, y, seed=own, epoch=epoch, index=index)
            X, y = pair_of("Compose", transform, result)
        return X, y

    def __repr__(self) -> str:
        return f"Compose([{', '.join(map(repr, self.transforms))}])"
