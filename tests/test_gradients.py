"""Every backward against central differences of its own forward, in float64, every element, with
every combination that can be fused. The float64 formulas of tests/cases have no part in it."""

import itertools

import numpy as np
import pytest
from cases import CASES
from helpers import each_form
from onepass import ops

STEP = 1e-6


def numeric(f, x, dy):
    """d(Σ dy·f(x))/dx by central differences, an element at a time."""
    dx = np.zeros_like(x)
    for at in np.ndindex(*x.shape):
        kept = x[at]
        x[at] = kept + STEP
        up = f().copy()
        x[at] = kept - STEP
        dx[at] = (dy * ((up - f()) / (2 * STEP))).sum()
        x[at] = kept
    return dx


def assert_gradient(got, want, label):
    """Truncation is of order STEP², cancellation eps/STEP = 2e-10 of the sum's terms."""
    np.testing.assert_allclose(got, want, rtol=1e-6, atol=3e-8, err_msg=str(label))


@each_form
def test_activation(record, form):
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal(301) * 3, rng.standard_normal(301)
    for kink in record.kinks:
        x[np.abs(x - kink) < 1e-3] = kink + 0.1
    f, options = record.op, form.options
    want = dy * (f(x + STEP, **options) - f(x - STEP, **options)) / (2 * STEP)
    assert_gradient(record.op_backward(dy, x, **options), want, record.name)


@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
def test_dropout(p):
    rng = np.random.default_rng(1)
    x, dy = rng.standard_normal((2, 200))
    how = {"p": p, "seed": 3, "offset": 4}
    want = dy * (ops.dropout(x + STEP, **how) - ops.dropout(x - STEP, **how)) / (2 * STEP)
    assert_gradient(ops.dropout_backward(dy, **how), want, p)


@each_form
def test_bias_act(record, form):
    rng = np.random.default_rng(2)
    for (shape, axis), dropout_p in itertools.product(
        [((4, 3), 1), ((2, 3, 2, 2), 1), ((3, 4), 0), ((2, 2, 3), -1)], (0.0, 0.4)
    ):
        x, dy = rng.standard_normal((2, *shape))
        bias = rng.standard_normal(shape[axis])
        how = {"axis": axis, "activation": (record.name, form.options)}
        how |= {"dropout_p": dropout_p, "seed": 5}
        dx, dbias = ops.bias_act_backward(dy, x, bias, **how)

        def forward(x=x, bias=bias, how=how):
            return ops.bias_act(x, bias, **how)

        assert_gradient(dx, numeric(forward, x, dy), (shape, how))
        assert_gradient(dbias, numeric(forward, bias, dy), (shape, how))


@pytest.mark.parametrize("training", [True, False])
@each_form
def test_batch_norm(record, form, training):
    rng = np.random.default_rng(3)
    for (shape, last), dropout_p, residual, affine in itertools.product(
        [((5, 3), False), ((3, 2, 2, 2), False), ((3, 2, 2), False), ((3, 2, 3), True)],
        (0.0, 0.4),
        (False, True),
        (True, False),
    ):
        channels = shape[-1 if last else 1]
        x, r, dy = rng.standard_normal((3, *shape))
        w, b = rng.uniform(0.5, 1.5, (2, channels)) if affine else (None, None)
        mean, var = rng.uniform(0.5, 1.5, (2, channels))
        how = {"training": training, "eps": 1e-2, "activation": (record.name, form.options)}
        how |= {"channels_last": last, "dropout_p": dropout_p, "seed": 8, "offset": 1}
        how["residual"] = r = r if residual else None

        def both(x=x, w=w, b=b, mean=mean, var=var, how=how):
            return ops.batch_norm(x, w, b, mean.copy(), var.copy(), **how)

        def forward(both=both):
            return both()[0]

        grads = ops.batch_norm_backward(dy, both()[1])
        assert len(grads) == (4 if residual else 3)
        for got, wrt in zip(grads, (x, w, b, r), strict=False):
            if wrt is None:
                assert got is None
            else:
                assert_gradient(got, numeric(forward, wrt, dy), (shape, how))


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_cross_entropy(reduction):
    rng = np.random.default_rng(4)
    for shape, smoothing, weighted, kind in itertools.product(
        [(5, 3), (2, 3, 4)], (0.0, 0.2), (False, True), ("indices", "ignoring", "probabilities")
    ):
        logits = rng.standard_normal(shape) * 2
        if kind == "probabilities":
            target = np.moveaxis(rng.dirichlet(np.ones(3), (shape[0], *shape[2:])), -1, 1).copy()
        else:
            target = rng.integers(0, 3, (shape[0], *shape[2:]))
        if kind == "ignoring":
            target[::2] = -100
        how = {"reduction": reduction, "label_smoothing": smoothing}
        how["weight"] = rng.uniform(0.5, 1.5, 3) if weighted else None

        def loss(logits=logits, target=target, how=how):
            return np.asarray(ops.cross_entropy(logits, target, **how)[0], np.float64)

        dlogits = ops.cross_entropy(logits, target, **how)[1]
        assert_gradient(dlogits, numeric(loss, logits, np.ones(())), (shape, kind, how))


LOSSES = [case for case in CASES if case.family == "loss" and case.name != "cross_entropy"]


@pytest.mark.parametrize("case", LOSSES, ids=[case.name for case in LOSSES])
def test_losses(case):
    for options in case.options:
        x, *others = case.inputs((5, 7), "float64", options)
        if np.shape(others[0]) == x.shape:
            x[np.abs(x - others[0]) < 1e-3] += 0.01  # away from the kink where they are equal

        def loss(x=x, others=others, options=options):
            return np.asarray(case.run((x, *others), options)[0], np.float64)

        dx = case.run((x, *others), options)[1]
        assert_gradient(dx, numeric(loss, x, np.ones(())), (case.name, options))
