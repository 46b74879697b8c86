"""Penalties that a Trainer adds to its loss: objects, each with a column of the history.

``Trainer(model, loss, optimizer, regularizers=[L2(1e-4), Jacobian(1e-2)])`` trains on the loss plus
the penalties. ``history["loss"]`` stays the loss of the data, which ``val_loss`` can be compared
with (Keras adds the penalties to both). ``history["l2"]``, named by the regularizer's ``name``, is
the mean of weight·penalty over the epoch's steps, or its batches where it depends on these; what
is minimised is the sum of these columns and the loss.

- The gradient of a penalty is added before ``on_before_step``, before clipping and before the check
  for values that are not finite: ``max_norm`` clips the gradient of the sum.
- Penalties of parameters count once a step, however many batches it accumulates; those of batches
  are weighed as the losses of the batches are (with ``reduction="sum"`` they add up).
- Parameters that are frozen, or that the optimizer does not have, are in no penalty, and by default
  biases, and the scales and shifts of norms, are not either: ``exclude`` has the words of
  ``optim.param_groups(no_decay=)``.
- Decoupled weight decay, the proximal ``l1`` and ``max_weight_norm`` are options of the optimizers.
"""

from onepass.train.regularizers._activity import ActivationSparsity
from onepass.train.regularizers._base import ParameterRegularizer, Regularizer
from onepass.train.regularizers._jacobian import Jacobian
from onepass.train.regularizers._parameters import L1, L2, SoftOrthogonality

__all__ = [
    "L1",
    "L2",
    "ActivationSparsity",
    "Jacobian",
    "ParameterRegularizer",
    "Regularizer",
    "SoftOrthogonality",
]
