"""PyTorch's training step of a network, eager or compiled; and the same with the norms and the
optimizer of onepass.torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from onepass.bench import _training as training
from onepass.bench._peers._library import Lazily, MakeNetwork, Step

torch: Any = Lazily("torch")

Loss = Callable[[Any, Any], Any]


def _model(network: training.Network, dropout: bool) -> tuple[Any, Any, Any]:
    """The model, and the batch, which lies in memory as ours does."""
    model = training.model_of(network, torch.nn, dropout)
    return model, torch.from_numpy(network.x), torch.from_numpy(training.target(network))


def plain(around: Callable[[Loss], Loss]) -> MakeNetwork:
    """`around` may compile the forward."""

    def make(network: training.Network, options: training.AdamWOptions, dropout: bool) -> Step:
        model, x, t = _model(network, dropout)
        forward, parameters = around(_loss_of(model)), list(model.parameters())
        optimizer = torch.optim.AdamW(parameters, **vars(options), fused=True)

        def run() -> Any:
            loss = forward(x, t)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, training.MAX_NORM)
            optimizer.step()
            optimizer.zero_grad()
            return loss.detach()

        return Step(run, lambda: [p.detach().numpy().copy() for p in parameters])

    return make


def front(around: Callable[[Loss], Loss]) -> MakeNetwork:
    """PyTorch's model with its norms fused, and `onepass.torch.optim`."""

    def make(network: training.Network, options: training.AdamWOptions, dropout: bool) -> Step:
        from onepass.torch import fuse, optim

        adamw: Any = optim.AdamW
        model, x, t = _model(network, dropout)
        fuse(model)
        forward, parameters = around(_loss_of(model)), list(model.parameters())
        optimizer = adamw(parameters, **vars(options))

        def run() -> Any:
            loss = forward(x, t)
            loss.backward()
            optimizer.step(max_norm=training.MAX_NORM, zero_grad=True)
            return loss.detach()

        return Step(run, lambda: [p.detach().numpy().copy() for p in parameters])

    return make


def _loss_of(model: Any) -> Loss:
    def forward(x: Any, t: Any) -> Any:
        return torch.nn.functional.cross_entropy(model(x), t)

    return forward


def eager(forward: Loss) -> Loss:
    return forward
