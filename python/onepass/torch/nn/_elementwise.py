"""Activations, dropout, gated units, softmax, weight norm: functions of tensors with a gradient."""

from __future__ import annotations

from typing import Any

import torch

from onepass import _C, ops
from onepass.torch._differentiable import Differentiable
from onepass.torch._operators import is_compiling

# PyTorch makes a result in half the time that the extension takes to ask for one.
_like = torch.empty_like


def draw_seed(p: float, device: torch.device) -> torch.Tensor | None:
    """The seed of a mask, from torch's generator of the CPU; None where nothing is dropped.

    Hence `torch.manual_seed` repeats a run, and `torch.utils.checkpoint` the mask. While a CUDA
    graph is captured it comes from the generator of the device, so that each replay draws anew.
    """
    if p == 0.0:
        return None
    captured = (
        not is_compiling() and device.type == "cuda" and torch.cuda.is_current_stream_capturing()
    )
    where = device if captured else "cpu"
    return torch.randint(0, 2**63 - 1, (), dtype=torch.int64, device=where)


def as_word(seed: torch.Tensor | None) -> Any:
    """The seed as the extension takes it: a number, or a tensor on the device that it lies on."""
    return 0 if seed is None else seed if seed.is_cuda else int(seed)


# Activations whose gradient needs their result alone, which is kept as PyTorch does: the next layer
# keeps it too, as its input. That of ReLU is the same for the result as for the input.
_OF_RESULT = {*_C.activation_backward_y, "relu"}
_ACTIVATION_BACKWARD = {**_C.activation_backward, **_C.activation_backward_y}

activation = Differentiable(
    "activation", inputs="Tensor x", options="str name, float[] values", results=1,
    saved="Tensor x_or_y",
    run=lambda x, name, values: (_C.activation[name](x, _like(x), *values),),
    fake=lambda x, name, values: (_like(x),),
    save=lambda given, results, options: (results if options[0] in _OF_RESULT else given)[:1],
    gradient=lambda dy, wanted, x_or_y, name, values: [
        _ACTIVATION_BACKWARD[name](dy, x_or_y, _like(dy), *values)],
    fake_gradient=lambda dy, wanted, x_or_y, name, values: [_like(dy)],
)  # fmt: skip

# Kind → forward and backward. The seed is all that is kept.
_DROPOUTS = {
    "dropout": (_C.dropout, _C.dropout),
    "feature_dropout": (_C.feature_dropout, _C.feature_dropout),
    "alpha_dropout": (_C.alpha_dropout, _C.alpha_dropout_backward),
    "feature_alpha_dropout": (_C.feature_alpha_dropout, _C.feature_alpha_dropout_backward),
}
dropout = Differentiable(
    "dropout", inputs="Tensor x, Tensor seed", options="str kind, float p", results=1,
    saved="Tensor seed",
    run=lambda x, seed, kind, p: (_DROPOUTS[kind][0](x, _like(x), p, as_word(seed), 0, 0),),
    fake=lambda x, seed, kind, p: (_like(x),),
    save=lambda given, results, options: (given[1],),
    gradient=lambda dy, wanted, seed, kind, p: [
        _DROPOUTS[kind][1](dy, _like(dy), p, as_word(seed), 0, 0)],
    fake_gradient=lambda dy, wanted, seed, kind, p: [_like(dy)],
)  # fmt: skip


def _part(x: torch.Tensor, axis: int, pieces: int) -> torch.Tensor:
    shape = list(x.shape)
    shape[axis] //= pieces
    return x.new_empty(shape)


glu = Differentiable(
    "glu", inputs="Tensor x", options="str name, float[] values, int axis", results=1,
    saved="Tensor x",
    run=lambda x, name, values, axis: (_C.glu(x, name, tuple(values), axis, None),),
    fake=lambda x, name, values, axis: (_part(x, axis, 2),),
    save=lambda given, results, options: (given[0],),
    gradient=lambda dy, wanted, x, name, values, axis: [
        _C.glu_backward(dy, x, name, tuple(values), axis, _like(x))],
    fake_gradient=lambda dy, wanted, x, name, values, axis: [_like(x)],
)  # fmt: skip

maxout = Differentiable(
    "maxout", inputs="Tensor x", options="int pieces, int axis", results=1, saved="Tensor x",
    run=lambda x, pieces, axis: (_C.maxout(x, None, pieces, axis),),
    fake=lambda x, pieces, axis: (_part(x, axis, pieces),),
    save=lambda given, results, options: (given[0],),
    gradient=lambda dy, wanted, x, pieces, axis: [
        _C.maxout_backward(dy, x, _like(x), pieces, axis)],
    fake_gradient=lambda dy, wanted, x, pieces, axis: [_like(x)],
)  # fmt: skip

_SOFTMAX = {True: (_C.log_softmax, _C.log_softmax_backward),
            False: (_C.softmax, _C.softmax_backward)}  # fmt: skip
softmax = Differentiable(
    "softmax", inputs="Tensor x", options="int axis, bool log", results=1, saved="Tensor y",
    run=lambda x, axis, log: (_SOFTMAX[log][0](x, _like(x), axis),),
    fake=lambda x, axis, log: (_like(x),),
    save=lambda given, results, options: (results[0],),
    gradient=lambda dy, wanted, y, axis, log: [_SOFTMAX[log][1](dy, y, _like(y), axis)],
    fake_gradient=lambda dy, wanted, y, axis, log: [_like(y)],
)  # fmt: skip


# Behind these the gradient is the same for the result, without a bias, as for the product.
_PASSES = ("identity", "relu")


def _bias_gradients(
    dy: Any, wanted: Any, x: Any, bias: Any, seed: Any, axis: int, name: str, values: Any, p: float
) -> list[torch.Tensor]:
    added = torch.zeros_like(bias) if name in _PASSES else bias
    dx, dbias = _C.bias_act_backward(
        dy, x, added, _like(x), axis, name, tuple(values), p, as_word(seed), 0, 0
    )
    both = zip(wanted, (dx, dbias.to(bias.dtype)), strict=True)
    return [grad for want, grad in both if want]


bias_act = Differentiable(
    "bias_act", inputs="Tensor x, Tensor bias, Tensor? seed",
    options="int axis, str name, float[] values, float p", results=1,
    saved="Tensor x_or_y, Tensor bias, Tensor? seed",
    run=lambda x, bias, seed, axis, name, values, p: (
        _C.bias_act(x, bias, _like(x), axis, name, tuple(values), p, as_word(seed), 0, 0),),
    fake=lambda x, *_: (_like(x),),
    save=lambda given, results, options: (
        results[0] if options[1] in _PASSES else given[0], *given[1:3]),
    gradient=_bias_gradients,
    fake_gradient=lambda dy, wanted, x_or_y, bias, *_: [
        _like(t) for want, t in zip(wanted, (x_or_y, bias), strict=True) if want],
    differentiable=(0, 1),
)  # fmt: skip


def _weight_norm_gradients(dw: Any, wanted: Any, v: Any, g: Any, dim: int) -> list[torch.Tensor]:
    dv, dg = ops.weight_norm_backward(dw, v, g, dim)
    both = zip(wanted, (dv.contiguous(), dg.to(g.dtype)), strict=True)  # type: ignore[attr-defined]
    return [grad for want, grad in both if want]


weight_norm = Differentiable(
    "weight_norm", inputs="Tensor v, Tensor g", options="int dim", results=1,
    saved="Tensor v, Tensor g",
    run=lambda v, g, dim: (ops.weight_norm(v, g, dim).contiguous(),),  # type: ignore[attr-defined]
    fake=lambda v, g, dim: (v.new_empty(v.shape),),
    save=lambda given, results, options: given[:2],
    gradient=_weight_norm_gradients,
    fake_gradient=lambda dw, wanted, v, g, dim: [
        t.new_empty(t.shape) for want, t in zip(wanted, (v, g), strict=True) if want],
    differentiable=(0, 1),
)  # fmt: skip
