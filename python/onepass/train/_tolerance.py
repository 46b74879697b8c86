"""Stopping where the gradient is small."""

from __future__ import annotations

import math

from onepass import _numbers as numbers
from onepass._keywords import suggest_keywords
from onepass.train._callbacks import Callback
from onepass.train._closure import gradient_norm, needed
from onepass.train._run import Run


class GradientTolerance(Callback):
    """Stop after the epoch in which ‖∇f‖ ≤ tol, f being the loss and the penalties of all samples.

    For training on all samples at once (``batch_size=len(X)``, or ``accumulate`` as large as the
    batches of an epoch): the norm is that of the gradient at which the epoch's step began, before
    clipping. The history gets ``grad_norm`` where it has none yet. A gradient that is small in
    one of several batches would say little, so these are refused. An LBFGS has a tolerance of its
    own, below which it stays where it is: for a ``tol`` below 1e-4, make it with
    ``tolerance_change=0``.

    Args:
        tol: the norm at which training ends.
        ord: 2, 1 or inf: which norm. SciPy's ``gtol`` is of inf.

    Attributes:
        norm: at the last step; NaN at first.
        converged: whether it was small enough.

    Raises:
        TypeError, ValueError: an argument of another type or out of range; at the start of
            training, several steps in an epoch.

    Example:
        >>> import numpy as np
        >>> from onepass import nn, optim
        >>> from onepass.train import GradientTolerance, Trainer
        >>> X = np.random.default_rng(0).standard_normal((50, 3))
        >>> model = nn.Linear(3, 1, dtype="float64")
        >>> optimizer = optim.LBFGS(model.parameters(), line_search_fn="strong_wolfe",
        ...                         tolerance_change=0)
        >>> small = GradientTolerance(1e-6)
        >>> trainer = Trainer(model, nn.MSELoss(), optimizer, callbacks=[small], progress=False)
        >>> history = trainer.fit(X, X[:, :1] + 1, max_epochs=100, batch_size=50)
        >>> small.converged, history["grad_norm"][-1] <= 1e-6
        (True, True)
    """

    @suggest_keywords
    def __init__(self, tol: float = 1e-5, ord: float = 2) -> None:
        self.tol = numbers.in_range("GradientTolerance", "tol", tol, 0)
        if ord not in (1, 2, math.inf):
            raise ValueError(f"GradientTolerance: 'ord' is {ord!r}, expected 1, 2 or inf")
        self.ord = ord
        self.reset()

    def reset(self) -> None:
        self.norm = math.nan

    @property
    def converged(self) -> bool:
        return self.norm <= self.tol

    def on_fit_begin(self, run: Run) -> None:
        if run.batches > run.accumulate:
            raise ValueError(
                f"GradientTolerance: an epoch has {run.batches} batches, and 'accumulate' is "
                f"{run.accumulate}, expected one step of all samples: batch_size=len(X), or "
                f"accumulate={run.batches}"
            )

    def on_before_step(self, run: Run) -> None:
        self.norm = gradient_norm(run, self.ord)
        if run.max_norm is None and not needed(run.optimizer) and math.isfinite(self.norm):
            norm = self.norm if self.ord == 2 else gradient_norm(run)
            run.add_to_epoch("grad_norm", norm)

    def on_epoch_end(self, run: Run) -> None:
        if self.converged:
            run.stop = True

    def state_dict(self) -> dict[str, float]:
        return {"norm": self.norm}

    def load_state_dict(self, state_dict: dict[str, float]) -> None:
        self.norm = float(state_dict["norm"])
