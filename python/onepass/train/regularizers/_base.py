"""What a regularizer is, and those that are functions of parameters alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from onepass import _numbers as numbers
from onepass._array import Array
from onepass._keywords import SuggestsKeywords
from onepass._parameter import parameters_of
from onepass._repr import as_call
from onepass.optim._param_groups import is_one_of, norms_of


class Regularizer(SuggestsKeywords):
    """A penalty that a Trainer adds to its loss, and whose value it puts into the history.

    For penalties of parameters derive from `ParameterRegularizer`; else override ``after_batch``.

    Attributes:
        weight: what the penalty is multiplied by. It may be changed between two steps.
        name: the name of its column in the history.
        transient: names of attributes that belong to a fit in progress, which copies and pickles
            leave out; those of the bases are too.

    Example:
        >>> import numpy as np
        >>> from onepass.train.regularizers import Regularizer
        >>> class OutputSize(Regularizer):
        ...     '''weight·mean y², as a second backward of the model adds it.'''
        ...     def __init__(self, weight, name="output_size"):
        ...         self._set(weight, name)
        ...     def after_batch(self, run, x, share):
        ...         y = run.model(x)
        ...         run.model.backward(2 * self.weight * share / y.size * y)
        ...         return self.weight * float(np.mean(y * y))
        >>> OutputSize(0.1)
        OutputSize(weight=0.1, name='output_size')
    """

    weight: float
    name: str
    transient: ClassVar[tuple[str, ...]] = ("_fit",)
    _fit: Any = None  # the one that uses it now

    def _set(self, weight: float, name: Any) -> None:
        owner = type(self).__name__
        self.weight = numbers.in_range(owner, "weight", weight, 0)
        if not isinstance(name, str) or not name:
            raise TypeError(f"{owner}: 'name' is {name!r}, expected a name of the history's column")
        self.name = name

    def begin(self, run: Any) -> None:
        """Before the first batch of a fit, and where a hook has set other parts of the run.

        Raises:
            TypeError, ValueError: the regularizer does not suit the model.
        """

    def end(self) -> None:
        """After the last batch, also where an exception ends the fit."""

    def before_backward(self, run: Any, share: float) -> None:
        """Between forward and backward of a batch.

        Args:
            share: what the gradient of the batch's loss is multiplied by; the step divides the sum
                over its batches by ``run.grad_scale``.
        """

    def after_batch(self, run: Any, x: Array, share: float) -> float | None:
        """Add share·weight·∇penalty of a batch to the gradients, after the backward of its loss.

        Returns:
            weight·penalty; None where there is none of a batch.
        """
        return None

    def before_step(self, run: Any) -> float | None:
        """Add run.grad_scale·weight·∇penalty to the gradients, before the optimizer's step.

        Returns:
            weight·penalty; None where there is none of a step.
        """
        return None

    def __getstate__(self) -> dict[str, Any]:
        left_out = {n for cls in type(self).__mro__ for n in vars(cls).get("transient", ())}
        return {name: value for name, value in vars(self).items() if name not in left_out}

    def __repr__(self) -> str:
        return as_call(self)


class ParameterRegularizer(Regularizer):
    """A penalty of the parameters: a subclass defines ``penalty(arrays) -> (value, gradients)``.

    It has a ``name``, which its objects have unless they are given another, and may have
    ``least_axes``: parameters with fewer axes are left alone.

    Args:
        weight: what the penalty is multiplied by.
        name: the name of its column in the history; None: that of the class.
        exclude: parameters left alone, by the words of ``optim.param_groups(no_decay=)``.

    Example:
        >>> from onepass.train.regularizers import ParameterRegularizer
        >>> class Quartic(ParameterRegularizer):
        ...     '''weight·Σp⁴.'''
        ...     name = "quartic"
        ...     def penalty(self, arrays):
        ...         return sum(float((p**4).sum()) for p in arrays), [4 * p**3 for p in arrays]
        >>> Quartic(0.1).exclude
        ('bias', 'norm')
    """

    exclude: tuple[str, ...] = ("bias", "norm")
    least_axes: ClassVar[int] = 0
    transient = ("_chosen",)
    _chosen: Sequence[Any] = ()

    def __init__(
        self,
        weight: float,
        name: str | None = None,
        *,
        exclude: Sequence[str] = exclude,
    ) -> None:
        owner = type(self).__name__
        self._set(weight, getattr(type(self), "name", None) if name is None else name)
        if isinstance(exclude, str) or not all(isinstance(word, str) for word in exclude):
            raise TypeError(f"{owner}: 'exclude' is {exclude!r}, expected a list of words")
        self.exclude = tuple(exclude)

    def penalty(self, arrays: Sequence[Array]) -> tuple[float, Sequence[Array]]:
        """The penalty without its weight, and its gradient by each of the arrays."""
        raise NotImplementedError(f"{type(self).__name__} has no penalty")

    def begin(self, run: Any) -> None:
        norms = norms_of(run.model)
        stepped = set(map(id, parameters_of(run.optimizer)))
        self._chosen = [
            p
            for name, p in run.model.named_parameters()
            if id(p) in stepped
            and p.ndim >= self.least_axes
            and not any(is_one_of(word, name, p, norms) for word in self.exclude)
        ]
        if not self._chosen:
            axes = f" with {self.least_axes} axes or more" if self.least_axes else ""
            raise ValueError(
                f"{type(self).__name__}: 'exclude' is {self.exclude!r}, which leaves no parameter"
                f"{axes} of the optimizer, expected at least one"
            )

    def end(self) -> None:
        self._chosen = ()

    def before_step(self, run: Any) -> float:
        moving = [p for p in self._chosen if p.requires_grad]
        if not moving or not self.weight:
            return 0.0
        value, gradients = self.penalty([p.data for p in moving])
        factor = self.weight * run.grad_scale
        for parameter, gradient in zip(moving, gradients, strict=True):
            parameter.accumulate(gradient * factor)
        return self.weight * value
