"""diagnostics=True: norms of each parameter's gradient, update and value, beside float64's."""

import copy

import numpy as np
import pytest
from cases import as_float64
from helpers import each_dtype, each_variant, to_torch
from onepass import optim
from small_steps import gradients, start


def norm(x):
    return float(np.sqrt(np.sum(as_float64(x) ** 2)))


def expected(params, grads, after, scale=1.0):
    return [
        [None if g is None else norm(g) / scale for g in grads],
        [
            None if g is None else norm(as_float64(a) - as_float64(p))
            for p, g, a in zip(params, grads, after, strict=True)
        ],
        [None if g is None else norm(p) for p, g in zip(params, grads, strict=True)],
    ]


def assert_close(found, want, rel):
    assert found._fields == ("grad_norm", "update_norm", "param_norm")
    for name, got, wanted in zip(found._fields, found, want, strict=True):
        assert [x is None for x in got] == [x is None for x in wanted], name
        for index, (x, w) in enumerate(zip(got, wanted, strict=True)):
            if w is not None:
                assert float(x) == pytest.approx(w, rel=rel, abs=1e-30), f"{name}[{index}]"


@each_dtype
@each_variant
def test_the_norms_of_each_parameter(variant, dtype):
    rng, params = start(dtype)
    opt = variant.make(params, lr=0.1, diagnostics=True)
    assert opt.per_parameter is None
    for step in range(4):
        grads = gradients(rng, params, lambda i, step=step: (i + step) % 3)
        before = copy.deepcopy(params)
        kept = [None if g is None else np.array(g) for g in grads]
        opt.step(grads, max_norm=0.5, grad_scale=8.0, zero_grad=True)
        rel = 1e-12 if dtype == np.float64 else 1e-5
        assert_close(opt.per_parameter, expected(before, kept, params, 8.0), rel)


@each_variant
def test_measuring_changes_no_bit(variant):
    rng, params = start("float32")
    alone = copy.deepcopy(params)
    opt, twin = variant.make(params, lr=0.1, diagnostics=True), variant.make(alone, lr=0.1)
    for _ in range(3):
        grads = gradients(rng, params)
        opt.step(grads)
        twin.step(grads)
    for p, q in zip(params, alone, strict=True):
        np.testing.assert_array_equal(p, q)
    assert twin.per_parameter is None


def test_a_skipped_step_moved_nothing():
    p = np.ones(4)
    opt = optim.AdamW([p], lr=0.1, diagnostics=True)
    assert opt.step([np.array([1.0, np.inf, 0, 0])], nonfinite="skip").skipped
    assert opt.per_parameter == ([np.inf], [0.0], [2.0])


def test_a_refused_step_leaves_the_norms_of_the_last_one():
    p = np.ones(4)
    opt = optim.AdamW([p], lr=0.1, diagnostics=True)
    opt.step([np.ones(4)])
    before = opt.per_parameter
    for wrong, kind in (([np.ones(3)], ValueError), (["x"], TypeError), ([], ValueError)):
        with pytest.raises(kind, match="grads"):
            opt.step(wrong)
    with pytest.raises(FloatingPointError):
        opt.step([np.full(4, np.nan)], nonfinite="raise")
    assert opt.per_parameter is before


def test_the_norms_of_tensors():
    torch = pytest.importorskip("torch")
    rng, params = start("float32")
    tensors = [torch.nn.Parameter(to_torch(p)) for p in params]
    opt = optim.SGD(tensors, lr=0.1, diagnostics=True)
    grads = [rng.standard_normal(p.shape).astype(np.float32) for p in params]
    before = copy.deepcopy(params)
    for tensor, grad in zip(tensors, grads, strict=True):
        tensor.grad = torch.from_numpy(np.array(grad))
    opt.step()
    after = [t.detach().numpy() for t in tensors]
    assert_close(opt.per_parameter, expected(before, grads, after), 1e-5)


def test_a_word_is_no_flag():
    with pytest.raises(TypeError, match="SGD: 'diagnostics' is 'yes', expected True or False"):
        optim.SGD([np.ones(3)], diagnostics="yes")
