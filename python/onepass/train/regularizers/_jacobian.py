"""The penalty on how much outputs move with the inputs."""

from __future__ import annotations

from typing import Any

import numpy as np

from onepass import _numbers as numbers
from onepass._array import Array, beside, is_floating
from onepass.train._buffers import ModelState
from onepass.train.regularizers._base import Regularizer


class Jacobian(Regularizer):
    """weight·mean‖(f(x + eps·v) - f(x - eps·v)) / (2·eps)‖² over samples, v ~ N(0, I).

    Its expectation tends to ‖∂f/∂x‖²_F, the squared Frobenius norm of the Jacobian, as eps falls:
    the quotient is its directional derivative J·v up to eps²·f'''/6. The gradient by the parameters
    is that of the quotient as it stands, exact for every eps, by two more forward and backward
    calls (and a third forward), so that nothing is differentiated twice and every module can be
    in the model. Hoffman et al. project the outputs instead and differentiate twice: the same
    expectation. A piecewise linear network is smoothed: an eps that steps over a kink sees both
    sides.

    Both sides use the model in training mode, with one dropout mask, their own batch statistics,
    and running statistics that stay as they are. v is a function of (seed, epoch, batch), the same
    after a resume.

    Args:
        weight: what the penalty is multiplied by.
        name: the name of its column in the history.
        projections: how many random directions v are drawn for each batch.
        eps: in the unit of X; in float32, too small a one leaves rounding, some 1e-7·|f|/eps.
        seed: the seed of v, an integer, 0 <= seed < 2**64.

    Source: Hoffman, Roberts & Yaida, Robust Learning with Jacobian Regularization, 2019; Varga,
    Csiszárik & Zombori, Gradient Regularization Improves Accuracy of Discriminative Models, 2017.

    Example:
        >>> import numpy as np
        >>> from onepass import nn, optim
        >>> from onepass.train import Trainer
        >>> from onepass.train.regularizers import Jacobian
        >>> X = np.random.default_rng(0).standard_normal((64, 3), np.float32)
        >>> model = nn.Sequential(nn.Linear(3, 1))
        >>> trainer = Trainer(model, nn.MSELoss(), optim.SGD(model.parameters(), lr=0.1),
        ...                   regularizers=[Jacobian(0.1)], progress=False)
        >>> history = trainer.fit(X, X.sum(axis=1, keepdims=True), max_epochs=20)
        >>> bool(0.1 < history["jacobian"][-1] < 0.4)  # 0.1·‖(1, 1, 1)‖², less what it costs
        True
    """

    def __init__(
        self,
        weight: float,
        name: str = "jacobian",
        *,
        projections: int = 1,
        eps: float = 0.01,
        seed: int = 0,
    ) -> None:
        self._set(weight, name)
        self.projections = numbers.integer("Jacobian", "projections", projections, 1)
        self.eps = numbers.in_range("Jacobian", "eps", eps, above=0)
        self.seed = numbers.seed("Jacobian", "seed", seed)

    def after_batch(self, run: Any, x: Array, share: float) -> float:
        if not is_floating(x):
            raise TypeError(
                f"Jacobian: 'X' has dtype {x.dtype}, expected floats: there is no derivative by "
                "whole numbers"
            )
        if not self.weight or not (len(x) or run.place):  # of several ranks, all go on
            return 0.0
        where = [self.seed, run.epoch, run.position]
        rng = np.random.default_rng(np.random.SeedSequence(where))
        start = ModelState(run.model)
        start.keep()
        try:
            return sum(self._projected(run, start, x, share, rng) for _ in range(self.projections))
        finally:  # the masks of the batches that follow are those without a penalty
            start.again()

    def _projected(
        self, run: Any, start: ModelState, x: Array, share: float, rng: np.random.Generator
    ) -> float:
        model = run.model
        first, total = run.place or (0, len(x))
        drawn = rng.standard_normal((total, *x.shape[1:]))[first : first + len(x)] * self.eps
        step = beside(x, drawn.astype(str(x.dtype)))
        start.again()
        below = model(x - step)
        start.again()
        above = model(x + step)
        if not is_floating(above) or above.shape != below.shape:
            raise TypeError("Jacobian: the model's output is not an array of floats, expected one")
        slope = (above - below) / (2 * self.eps)
        each = self.weight / (max(len(x), 1) * self.projections)
        dy = slope * (each * share / self.eps)
        model.backward(dy)  # that of the last call, above
        start.again()
        model(x - step)
        model.backward(-dy)
        return each * float((slope * slope).sum(dtype=np.float64))
