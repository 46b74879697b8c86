"""Training on all samples at once: LBFGS in a Trainer, the norm of the gradient, a tolerance."""

import math

import numpy as np
import pytest
from onepass import nn, optim
from onepass.optim.lr_scheduler import StepLR
from onepass.train import Callback, Checkpoint, GradientTolerance, Trainer
from onepass.train.regularizers import L2, ActivationSparsity, Jacobian

RNG = np.random.default_rng(2)
X = RNG.standard_normal((60, 5))
Y = (X @ RNG.standard_normal(5) + 0.3 * RNG.standard_normal(60) > 0).astype(np.int64)
F8 = {"dtype": "float64"}


class KilledError(Exception):
    pass


class KillAfter(Callback):
    def __init__(self, epoch):
        self.epoch = epoch

    def on_epoch_end(self, run):
        if run.epoch == self.epoch:
            raise KilledError


def linear():
    nn.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 2, **F8))


def deep():
    nn.manual_seed(0)
    return nn.Sequential(
        nn.Linear(5, 6, **F8), nn.BatchNorm1d(6, **F8), nn.Tanh(), nn.Dropout(0.2),
        nn.Linear(6, 2, **F8),
    )  # fmt: skip


def lbfgs(parameters, **options):
    return optim.LBFGS(parameters, line_search_fn="strong_wolfe", **{"max_iter": 5, **options})


def trainer(model, make=lbfgs, callbacks=(), **options):
    return Trainer(
        model, nn.CrossEntropyLoss(), make(model.parameters()), callbacks=callbacks,
        progress=False, **options,
    )  # fmt: skip


def fit(made, epochs=8, **options):
    return made.fit(X, Y, max_epochs=epochs, **{"batch_size": 60, "shuffle": False, **options})


def bits(model):
    return {name: value.tobytes() for name, value in model.state_dict().items()}


def by_hand(model, optimizer, steps, penalty=0.0):
    loss = nn.CrossEntropyLoss()
    weights = [p for p in model.parameters() if p.ndim == 2]

    def closure():
        optimizer.zero_grad()
        value, dy = loss(model(X), Y)
        model.backward(dy)
        for p in weights:
            p.grad += penalty * p.data
        return float(value) + 0.5 * penalty * sum(float((p.data**2).sum()) for p in weights)

    return [optimizer.step(closure).loss for _ in range(steps)]


@pytest.mark.parametrize("penalty", [0.0, 0.1])
def test_lbfgs_takes_the_steps_of_a_loop_of_ones_own(penalty) -> None:
    made = trainer(linear(), regularizers=[L2(penalty)])
    history = fit(made)
    model = linear()
    losses = by_hand(model, lbfgs(model.parameters()), 8, penalty)
    total = np.array(history["loss"]) + history["l2"]
    np.testing.assert_allclose(total, losses, rtol=1e-11)
    for got, want in zip(made.model.parameters(), model.parameters(), strict=True):
        np.testing.assert_allclose(got.data, want.data, rtol=1e-7, atol=1e-9)
    assert np.all(np.diff(total) <= 0)


def test_the_first_loss_is_computed_once() -> None:
    calls = []

    class Counted(nn.Linear):
        def forward(self, x):
            calls.append(self.weight.data.copy())
            return super().forward(x)

    model = nn.Sequential(Counted(5, 2, **F8))
    made = trainer(model, lambda p: optim.LBFGS(p, lr=0.1, max_iter=3))
    fit(made, 2)
    assert len(calls) == 6  # three a step: at its start, and after two of three moves


def test_every_evaluation_has_the_masks_and_statistics_of_the_first() -> None:
    seen = []

    class Watched(nn.Sequential):
        def forward(self, x):
            start = self.layers[1].running_mean.copy(), self.layers[3].stream.peek()
            y = super().forward(x)
            seen.append((start, self.layers[1].num_batches_tracked.item()))
            return y

    nn.manual_seed(0)
    model = Watched(*deep().layers)
    made = trainer(model)
    fit(made, 1)
    assert len(seen) > 3
    for (mean, mask), count in seen:
        assert np.array_equal(mean, np.zeros(6))
        assert mask == seen[0][0][1]
        assert count == 1
    fit(made, 2)
    assert model.layers[1].num_batches_tracked.item() == 2


def test_no_step_raises_the_loss_although_there_is_dropout() -> None:
    made = trainer(deep(), seed=3)
    steps = []

    class Falls(Callback):
        def on_step_end(self, run):
            loop, start = made._loop, run.batch_loss
            loop._start.again()
            loss, *_ = loop._loss_of(run.model(X), Y)
            steps.append((start, float(loss)))

    made.callbacks = [Falls()]
    history = fit(made, 5)
    assert all(after < before for before, after in steps)
    assert [before for before, _ in steps] == history["loss"]


def test_penalties_of_activations_are_in_the_loss_that_is_searched() -> None:
    made = trainer(deep(), regularizers=[Jacobian(0.01), ActivationSparsity(0.01)], seed=3)
    losses = []
    evaluate = made._loop._evaluate

    def watched():
        losses.append(evaluate())
        return losses[-1]

    made._loop._evaluate = watched
    history = fit(made, 3)
    total = sum(np.array(history[name]) for name in ("loss", "jacobian", "activation_sparsity"))
    assert losses[0] < total[0]
    assert np.all(np.array(history["jacobian"]) > 0)


def test_an_evaluation_where_the_step_began_gives_the_same_bits() -> None:
    penalties = [L2(0.1), Jacobian(0.1), ActivationSparsity(0.1)]
    made = trainer(deep(), regularizers=penalties, seed=3)
    compared = []

    class Again(Callback):
        def on_before_step(self, run):
            known = made._loop._objective()
            grads = [p.grad.copy() for p in run.model.parameters()]
            assert made._loop._evaluate() == known
            for p, grad in zip(run.model.parameters(), grads, strict=True):
                assert np.array_equal(p.grad, grad)
            compared.append(known)

    made.callbacks = [Again()]
    history = fit(made, 3)
    total = sum(np.array(history[name]) for name in ["loss", *(r.name for r in penalties)])
    np.testing.assert_allclose(total, compared, rtol=1e-14)


@pytest.mark.parametrize("stop", [1, 3, 6])
def test_a_resume_gives_the_same_bits(tmp_path, stop) -> None:
    def made(*callbacks):
        found = trainer(
            deep(), callbacks=callbacks, seed=4, regularizers=[L2(0.01), Jacobian(0.01)]
        )
        found.scheduler = StepLR(found.optimizer, 3, 0.5)
        return found

    whole = made()
    fit(whole, shuffle=True)
    expected = bits(whole.model), dict(whole.history)
    with pytest.raises(KilledError):
        fit(made(Checkpoint(tmp_path, every_n_epochs=1), KillAfter(stop + 1)), shuffle=True)
    again = made(Checkpoint(tmp_path, every_n_epochs=1))
    fit(again, ckpt_path=tmp_path, shuffle=True)
    assert (bits(again.model), dict(again.history)) == expected


def test_grad_norm_is_that_at_the_start_of_each_step() -> None:
    model = linear()
    made = trainer(model)
    _, dy = nn.CrossEntropyLoss()(model(X), Y)
    model.backward(dy)
    expected = math.sqrt(sum(float((p.grad**2).sum()) for p in model.parameters()))
    history = fit(made)
    np.testing.assert_allclose(history["grad_norm"][0], expected, rtol=1e-12)
    assert history["grad_norm"][-1] < 0.05 * expected


@pytest.mark.parametrize("order", [1, 2, math.inf])
def test_training_ends_at_the_tolerance(order) -> None:
    for make in (lbfgs, lambda p: optim.SGD(p, lr=1.0)):
        small = GradientTolerance(1e-3, order)
        made = trainer(linear(), make, [small], regularizers=[L2(0.1)])
        history = fit(made, 500)
        assert small.converged
        assert small.norm <= 1e-3
        assert made.epoch < 400
        norms = history["grad_norm"]
        bound = {1: 1e-3, 2: 1e-3, math.inf: 1e-3 * math.sqrt(12)}[order]
        assert norms[-1] <= bound
        assert len(norms) == made.epoch
        if order == 2:
            assert all(norm > 1e-3 for norm in norms[:-1])


def test_the_tolerance_takes_accumulated_batches() -> None:
    def sgd(p):
        return optim.SGD(p, lr=1.0)

    ends = []
    for size, accumulate in ((60, 1), (20, 3)):
        small = GradientTolerance(1e-3)
        made = trainer(linear(), sgd, [small], accumulate=accumulate, regularizers=[L2(0.1)])
        fit(made, 500, batch_size=size)
        ends.append((made.epoch, small.norm))
    assert ends[0][0] == ends[1][0]
    np.testing.assert_allclose(ends[0][1], ends[1][1], rtol=1e-9)


def test_a_frozen_layer_stays_and_counts_in_no_norm() -> None:
    model = deep()
    model.layers[0].freeze()
    before = model.layers[0].weight.data.copy()
    fit(trainer(model))
    assert np.array_equal(model.layers[0].weight.data, before)


def test_weights_of_samples_take_part() -> None:
    made = trainer(linear(), regularizers=[L2(0.1)])
    fit(made, 30, sample_weight=np.where(Y == 1, 1.0, 0.0))
    assert (made.predict(X).argmax(axis=1) == 1).all()


def test_a_loss_that_is_not_finite() -> None:
    bad = X.copy()
    bad[0, 0] = np.nan
    for nonfinite in ("raise", "skip"):
        model = linear()
        made = trainer(model, nonfinite=nonfinite)
        before = bits(model)
        if nonfinite == "raise":
            with pytest.raises(FloatingPointError, match="epoch 1, batch 1"):
                made.fit(bad, Y, max_epochs=1, batch_size=60)
        else:
            made.fit(bad, Y, max_epochs=1, batch_size=60)
            assert made.skipped_steps == 1
        assert bits(model) == before


@pytest.mark.parametrize(
    ("options", "given", "message"),
    [
        ({}, {"batch_size": 30}, "leaves 2 batches.*expected one of all samples with LBFGS"),
        ({"accumulate": 2}, {}, "'accumulate' is 2, expected 1 with LBFGS"),
        ({"max_norm": 1.0}, {}, "'max_norm' is 1.0, expected None with LBFGS"),
    ],
)
def test_what_such_a_step_cannot_do_is_refused_first(options, given, message) -> None:
    model = linear()
    before = bits(model)
    with pytest.raises(ValueError, match=message):
        fit(trainer(model, **options), **given)
    assert bits(model) == before


def test_wrong_tolerances_are_refused() -> None:
    with pytest.raises(ValueError, match="'tol' is -1"):
        GradientTolerance(-1)
    with pytest.raises(ValueError, match="'ord' is 3, expected 1, 2 or inf"):
        GradientTolerance(ord=3)
    made = trainer(linear(), lambda p: optim.SGD(p, lr=0.1), [GradientTolerance()])
    with pytest.raises(ValueError, match="an epoch has 3 batches, and 'accumulate' is 1"):
        fit(made, batch_size=20)
    assert made.step == 0
