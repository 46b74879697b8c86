"""The reference itself: the published vectors of Philox, and PyTorch in float64 for every row."""

import math

import numpy as np
import pytest
import reference as ref
from cases import BY_NAME, CASES
from helpers import flat, sweep, to_torch

KNOWN_ANSWERS = [  # Random123's kat_vectors, philox4x32 with 10 rounds
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.mark.parametrize(("counter", "key", "words"), KNOWN_ANSWERS)
def test_philox_known_answers(counter, key, words):
    assert tuple(int(w) for w in ref.philox(counter, key)) == words


def test_mask_is_what_the_text_says():
    """The mapping once more, an element at a time in plain integers."""
    p, seed, offset = 0.3, 2**40 + 17, 2**35 + 3
    mask = ref.dropout_mask((300,), p, seed=seed, offset=offset)
    for e in (0, 1, 31, 32, 127, 128, 299):
        u = 0
        for k in range(32):
            g = e // 128
            counter = (g % 2**32, (g >> 32) | k << 24, offset % 2**32, offset >> 32)
            word = int(ref.philox(counter, (seed % 2**32, seed >> 32))[e // 32 % 4])
            u = u << 1 | (word >> e % 32) & 1
        assert mask[e] == (u >= round(p * 2**32)), e


# --------------------------------------------------------------------- the rows, as torch has them


def _activation(name):
    from torch.nn import functional

    return {"identity": lambda x: x, "sigmoid": functional.sigmoid, "tanh": functional.tanh}.get(
        name, getattr(functional, name, None)
    )


def _tail(z, activation=None, dropout_p=0.0, seed=0, offset=0):
    name, options = ref._split(activation)
    z = _activation(name)(z, **options)
    keep = to_torch(ref.dropout_mask(z.shape, dropout_p, seed=seed, offset=offset).copy())
    return (z * ref.dropout_scale(dropout_p)).where(keep, 0.0)


def _gradients(y, dy, inputs):
    import torch

    wanted = [i for i in inputs if i is not None]
    found = iter(torch.autograd.grad(y, wanted, dy, allow_unused=True, materialize_grads=True))
    return [None if i is None else next(found) for i in inputs]


def _bias_act(x, bias, axis=1, **tail):
    shape = [1] * x.ndim
    shape[axis] = -1
    return _tail(x + bias.reshape(shape), **tail)


def _bias_act_backward(dy, x, bias, **options):
    return _gradients(_bias_act(x, bias, **options), dy, [x, bias])


def _batch_norm(x, w, b, mean, var, residual, *, training, momentum=0.1, eps=1e-5,
                channels_last=False, **tail):  # fmt: skip
    from torch.nn import functional

    mean, var = (None if a is None else a.detach().clone() for a in (mean, var))
    z = x.movedim(-1, 1) if channels_last else x
    z = functional.batch_norm(z, mean, var, w, b, training, momentum, eps) if x.numel() else z * 1
    z = z.movedim(1, -1) if channels_last else z
    z = z if residual is None else z + residual
    if not training:
        tail["dropout_p"] = 0.0
    return _tail(z, **tail), mean, var


def _batch_norm_backward(dy, x, w, b, mean, var, residual, **options):
    y = _batch_norm(x, w, b, mean, var, residual, **options)[0]
    grads = _gradients(y, dy, [x, w, b, residual])
    return grads if residual is not None else grads[:3]


def _cross_entropy(logits, target, weight, **options):
    from torch.nn import functional

    weight = None if weight is None else weight.detach()
    loss = functional.cross_entropy(logits, target.detach(), weight, **options)
    return loss, *_gradients(loss.sum(), None, [logits])


def _global_norm(arrays, ord=2):
    import torch

    return torch.nn.utils.get_total_norm([a for a in arrays if a.numel()] or [torch.zeros(1)], ord)


def _update(kind, names):
    def run(params, grads, *states, step=2, **options):
        import torch

        params = [torch.nn.Parameter(p.detach().clone()) for p in params]
        if kind in ("Adam", "AdamW"):
            options["amsgrad"] = len(names) == 3
        optimizer = getattr(torch.optim, kind)(params, **options)
        for i, p in enumerate(params):
            p.grad = grads[i].detach()
            if step > 1 or kind != "SGD":
                optimizer.state[p] = {
                    n: s[i].detach().clone() for n, s in zip(names, states, strict=True)
                }
            if kind != "SGD":
                optimizer.state[p]["step"] = torch.tensor(step - 1.0)
        optimizer.step()
        return params, *([optimizer.state[p][n] for p in params] for n in names)

    return run


MOMENTS = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq")
TORCH = {
    **{n: lambda x, n=n, **o: _activation(n)(x, **o) for n in ref.ACTIVATIONS},
    **{
        f"{n}_backward": lambda dy, x, n=n, **o: _gradients(_activation(n)(x, **o), dy, [x])[0]
        for n in ref.ACTIVATIONS
    },
    "bias_act": _bias_act,
    "bias_act_backward": _bias_act_backward,
    "batch_norm": _batch_norm,
    "batch_norm_backward": _batch_norm_backward,
    "cross_entropy": _cross_entropy,
    "global_norm": _global_norm,
    "sgd": _update("SGD", ()),
    "sgd_momentum": _update("SGD", ("momentum_buffer",)),
    "adam": _update("Adam", MOMENTS[:2]),
    "adam_amsgrad": _update("Adam", MOMENTS),
    "adamw": _update("AdamW", MOMENTS[:2]),
    "rmsprop": _update("RMSprop", ("square_avg",)),
    "adamw_amsgrad": _update("AdamW", MOMENTS),
}  # dropout has no row: its bits are ours alone


@pytest.mark.parametrize("case", [BY_NAME[n] for n in TORCH], ids=list(TORCH))
def test_reference_equals_torch(case):
    torch = pytest.importorskip("torch")

    def tensor(a):
        if isinstance(a, list):
            return [tensor(v) for v in a]
        if not isinstance(a, np.ndarray):
            return a
        t = to_torch(np.array(a))
        return t.requires_grad_() if t.is_floating_point() else t

    for label, shape, options in sweep(case):
        if math.prod(shape) > 3e4:
            continue
        inputs = case.inputs(shape, "float64", options)
        want = case.expect(inputs, options)
        keywords = {k: v for k, v in options.items() if not k.startswith("with_")}
        got = TORCH[case.name](*map(tensor, inputs), **keywords)
        got = flat(got if isinstance(got, (tuple, list)) and case.name != "global_norm" else [got])
        for i, (g, w) in enumerate(zip(got, flat(want), strict=True)):
            where = f"{label} result {i}"
            assert (g is None) == (w is None), where
            if w is not None:
                scale = np.abs(w).max() if np.size(w) else 0.0
                np.testing.assert_allclose(
                    g.detach().numpy(), w, rtol=1e-9, atol=1e-12 * scale, err_msg=where
                )
    assert torch.is_grad_enabled()


def test_every_row_but_dropout_is_compared():
    assert {c.name for c in CASES} - set(TORCH) == {"dropout", "dropout_backward", "dropout_mask"}
