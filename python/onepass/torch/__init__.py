"""onepass behind PyTorch's own names: import ``onepass.torch.optim`` and ``onepass.torch.nn`` for
``torch.optim`` and ``torch.nn``.

>>> import torch
>>> from onepass.torch import optim
>>> model = torch.nn.Linear(2, 1)
>>> optimizer = optim.AdamW(model.parameters(), lr=1e-2)
>>> model(torch.ones(1, 2)).sum().backward()
>>> optimizer.step(max_norm=1.0)
>>> optimizer.last_step.skipped
False

`nn` has PyTorch's modules over the kernels, `fuse` puts its norms into a model that exists.
`GradScaler` is ``torch.amp.GradScaler`` without its pass over the gradients.
"""

from __future__ import annotations

try:
    import torch as _torch  # noqa: F401
except ImportError as error:
    raise ImportError(
        "onepass.torch needs PyTorch, which cannot be imported: pip install torch. Arrays of other "
        "libraries are trained with onepass.optim"
    ) from error

from onepass.nn._exchange._torch_residual import Residual
from onepass.torch import nn, optim
from onepass.torch._fuse import fuse
from onepass.torch._grad_scaler import GradScaler

__all__ = ["GradScaler", "Residual", "fuse", "nn", "optim"]
