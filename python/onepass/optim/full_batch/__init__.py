"""Optimizers for a loss of all samples: gradient descent and Newton's method with a line search.

As `LBFGS` they step by a closure that evaluates the loss, several times where the search needs it:
``optimizer.step(closure)``, or a Trainer with ``batch_size=len(X)``. A loss of other samples at
each evaluation has no line to search along.
"""

from onepass.optim.full_batch._descent import GradientDescent
from onepass.optim.full_batch._newton import Newton

__all__ = ["GradientDescent", "Newton"]
