"""Loss scaling without a pass of its own over the gradients."""

from __future__ import annotations

from typing import Any

import torch

from onepass.torch.optim import Optimizer


class GradScaler(torch.amp.GradScaler):
    """``torch.amp.GradScaler`` that lets a step of ``onepass.torch.optim`` find Inf and NaN.

    PyTorch's scaler reads and writes all gradients once before each step. This one leaves the check
    to the step, which unscales, checks, clips and updates in one call. Other optimizers, and
    gradients that `unscale_` has unscaled, are treated as by PyTorch's.

    Args:
        device, init_scale, growth_factor, backoff_factor, growth_interval, enabled: as in
            ``torch.amp.GradScaler``.

    Example:
        >>> import torch
        >>> import onepass.torch
        >>> model = torch.nn.Linear(2, 1)
        >>> optimizer = onepass.torch.optim.SGD(model.parameters(), lr=0.1)
        >>> scaler = onepass.torch.GradScaler("cpu", init_scale=8.0)
        >>> scaler.scale(model(torch.ones(1, 2)).sum()).backward()
        >>> scaler.step(optimizer, max_norm=1.0)
        >>> scaler.update()
        >>> optimizer.last_step.skipped
        False
    """

    def _check_inf_per_device(self, optimizer: torch.optim.Optimizer) -> dict[Any, Any]:
        if not isinstance(optimizer, Optimizer) or self._scale is None:
            return super()._check_inf_per_device(optimizer)
        # `update` reads this; the step fills it where it finds Inf or NaN.
        found = torch.zeros((), dtype=torch.float32, device=self._scale.device)
        self._per_optimizer_states[id(optimizer)]["found_inf_per_device"] = {found.device: found}
        optimizer._found = found
        return {found.device: found}
