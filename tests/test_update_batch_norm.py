"""`nn.update_batch_norm`: the statistics, what is left alone, and averaged weights."""

from __future__ import annotations

import math

import numpy as np
import pytest
from onepass import nn, optim
from onepass.data import DataLoader, load
from onepass.train import Callback, Trainer
from small_models import assert_same, normal, perturb

X = 2 * normal((64, 5), "float32") + 3


def model_of(front=nn.BatchNorm1d, **norm):
    nn.manual_seed(0)
    return perturb(
        nn.Sequential(
            nn.Linear(5, 6), front(6, **norm), nn.ReLU(), nn.Dropout(0.5),
            nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Linear(4, 2),
        )
    )  # fmt: skip


def statistics(model):
    return {k: v for k, v in model.state_dict().items() if "running" in k or "tracked" in k}


def test_they_are_those_of_torch_where_batches_have_one_size():
    torch = pytest.importorskip("torch")
    ours = model_of()
    ours[3].p = 0.0  # torch's drops
    theirs = torch.nn.Sequential(
        torch.nn.Linear(5, 6), torch.nn.BatchNorm1d(6), torch.nn.ReLU(), torch.nn.Dropout(0.0),
        torch.nn.Linear(6, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 2),
    )  # fmt: skip
    theirs.load_state_dict({k: torch.from_numpy(v) for k, v in ours.state_dict().items()})
    batches = [X[i : i + 16] for i in range(0, 64, 16)]
    nn.update_batch_norm(ours, batches)
    torch.optim.swa_utils.update_bn([torch.from_numpy(x) for x in batches], theirs)
    for name, value in theirs.state_dict().items():
        np.testing.assert_allclose(ours.state_dict()[name], value.numpy(), rtol=2e-6, err_msg=name)


@pytest.mark.parametrize("sizes", [(64,), (16, 16, 16, 16), (30, 30, 4), (3, 61), (2, 2, 60)])
@pytest.mark.parametrize("momentum", [0.1, None, 0.0])
def test_a_batch_counts_by_its_samples(sizes, momentum):
    norm = nn.BatchNorm1d(5, momentum=momentum)
    norm.running_mean[...] = np.nan  # whatever was there
    norm.running_var[...] = np.inf
    parts = np.split(X.astype(np.float64), np.cumsum(sizes)[:-1])
    nn.update_batch_norm(norm, [p.astype(np.float32) for p in parts])
    np.testing.assert_allclose(norm.running_mean, X.astype(np.float64).mean(axis=0), rtol=1e-6)
    var = sum(len(p) * p.var(axis=0, ddof=1) for p in parts) / 64
    np.testing.assert_allclose(norm.running_var, var, rtol=1e-6)
    assert norm.num_batches_tracked == len(sizes)
    assert norm.momentum == momentum


@pytest.mark.parametrize("front", [nn.BatchNorm1d, nn.BatchRenorm])
@pytest.mark.parametrize("batches", [1, 3])
def test_dropout_does_not_drop_and_norms_before_use_the_batch(front, batches):
    model = model_of(front)
    nn.update_batch_norm(model, [X] * batches)
    assert [getattr(model[1], name, None) for name in ("rmax", "dmax")] in ([None] * 2, [3.0, 5.0])
    x = X.astype(np.float64)
    state = {k: v.astype(np.float64) for k, v in model.state_dict().items()}
    z = x @ state["0.weight"].T + state["0.bias"]
    z = (z - z.mean(axis=0)) / np.sqrt(z.var(axis=0) + 1e-5)
    z = np.maximum(z * state["1.weight"] + state["1.bias"], 0)
    z = z @ state["4.weight"].T + state["4.bias"]
    np.testing.assert_allclose(state["5.running_mean"], z.mean(axis=0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(state["5.running_var"], z.var(axis=0, ddof=1), rtol=1e-5)


@pytest.mark.parametrize(
    ("norm", "shape"),
    [
        (nn.BatchNorm2d(3), (6, 3, 4, 4)),
        (nn.BatchRenorm(3), (6, 3, 5)),
        (nn.InstanceNorm1d(3, track_running_stats=True), (6, 3, 5)),
        (nn.DecorrelatedBatchNorm(3), (16, 3)),
        (nn.BatchNorm3d(3, affine=False), (6, 3, 2, 2, 2)),
    ],
    ids=lambda v: type(v).__name__,
)
def test_every_norm_with_running_statistics(norm, shape):
    x = normal(shape, "float32") + 3
    norm(x)
    nn.update_batch_norm(norm, [x, x])
    twin = type(norm)(3, **({"track_running_stats": True} if "Instance" in str(norm) else {}))
    twin.momentum = 1.0
    twin(x)
    for name in ("running_mean", "running_var", "running_projection"):
        if hasattr(twin, name):
            np.testing.assert_allclose(getattr(norm, name), getattr(twin, name), rtol=1e-6)


@pytest.mark.parametrize("training", [True, False])
def test_only_statistics_change(training):
    model = model_of().train(training)
    model[0].eval()
    model.backward(model(X))
    y = model(X)
    dx = model.backward(y)
    grads = {k: p.grad.copy() for k, p in model.named_parameters()}
    before, modes = model.state_dict(), [m.training for m in model.modules()]
    holds, state = [m._holds_eval for m in model.modules()], nn.get_rng_state(model)
    nn.update_batch_norm(model, [X[:32], X[32:], X])
    assert nn.get_rng_state(model) == state
    assert [m.training for m in model.modules()] == modes
    assert [m._holds_eval for m in model.modules()] == holds
    after = model.state_dict()
    moved = [k for k in before if (before[k] != after[k]).any()]
    assert moved == list(statistics(model))
    assert_same({k: p.grad for k, p in model.named_parameters()}, grads)
    if training:  # backward still goes back through the forward of before
        np.testing.assert_array_equal(model.backward(y), dx)
    assert [m.momentum for m in (model[1], model[5])] == [0.1, 0.1]


def test_modes_come_back_within_a_fit_too():
    model, seen = model_of(), []

    class Update(Callback):
        def on_epoch_end(self, run):
            before = [m.training for m in model.modules()]
            nn.update_batch_norm(model, [X])
            seen.append(before == [m.training for m in model.modules()])

    optimizer = optim.SGD(model.parameters(), lr=0.1)
    trainer = Trainer(model, nn.CrossEntropyLoss(), optimizer, callbacks=[Update()], progress=False)
    trainer.fit(X, np.arange(64) % 2, max_epochs=2)
    assert seen == [True, True]
    assert all(m.training for m in model.modules())


def test_frozen_norms_and_those_that_hold_evaluation_are_left_alone():
    for leave in (lambda m: m.freeze(), lambda m: m.eval()):
        model = model_of()
        leave(model[1])
        before = statistics(model)
        nn.update_batch_norm(model, [X])
        after = statistics(model)
        for name in before:
            assert (before[name] == after[name]).all() == name.startswith("1."), name
    model = model_of()
    model[1].freeze(statistics=False)  # parameters alone
    model.eval()  # of the whole model: not a layer's own
    before = statistics(model)
    nn.update_batch_norm(model, [X])
    assert not any((before[name] == value).all() for name, value in statistics(model).items())


def test_loaders_of_all_kinds():
    want = model_of()
    nn.update_batch_norm(want, [X[:40], X[40:]])
    y = np.arange(64)
    kinds = {
        "pairs": [(X[:40], y[:40]), (X[40:], y[40:])],
        "lists": [[X[:40]], [X[40:], None, "more"]],
        "a generator": (x for x in (X[:40], X[:0], X[40:])),
        "DataLoader": DataLoader(X, y, batch_size=40),
        "DataLoader of x": DataLoader(X, batch_size=40),
    }
    for name, loader in kinds.items():
        model = model_of()
        nn.update_batch_norm(model, loader)
        assert_same(model.state_dict(), want.state_dict())
        assert getattr(loader, "epoch", 0) == 0, name


def test_loaders_of_torch():
    torch = pytest.importorskip("torch")
    want, model = model_of(), model_of()
    nn.update_batch_norm(want, [X[:40], X[40:]])
    data = torch.utils.data.TensorDataset(torch.from_numpy(X), torch.arange(64))
    nn.update_batch_norm(model, torch.utils.data.DataLoader(data, batch_size=40))
    assert_same(model.state_dict(), want.state_dict())


class Table:  # as a DataFrame
    shape = (64, 5)


def broken():
    yield X
    raise OSError("the disk is full")


@pytest.mark.parametrize(
    ("loader", "error", "match"),
    [
        (X, TypeError, "'loader' is a ndarray, expected batches, such as DataLoader"),
        ({"x": X}, TypeError, "'loader' is a dict"),
        ("digits", TypeError, "'loader' is a str"),
        (None, TypeError, "'loader' is a NoneType"),
        ([], ValueError, "'loader' gave no sample"),
        ([X[:0]], ValueError, "'loader' gave no sample"),
        ([X, {"x": X}], TypeError, "'loader' gave a dict, expected an array, or a tuple"),
        ([X, 3.0], TypeError, "'loader' gave a float"),
        ([X, Table()], TypeError, "expected a NumPy array"),
        ([X, ()], TypeError, "'loader' gave a tuple"),
        ([X, X[:1]], ValueError, "BatchNorm1d|more than 1|one value"),
        ([X, X[:, :4]], ValueError, r"Linear: x has shape \(64, 4\)"),
        (broken(), OSError, "the disk is full"),
    ],
)
def test_errors_change_nothing(loader, error, match):
    model = model_of()
    model[0].eval()
    before, modes = model.state_dict(), [m.training for m in model.modules()]
    with pytest.raises(error, match=match):
        nn.update_batch_norm(model, loader)
    assert_same(model.state_dict(), before)
    assert [m.training for m in model.modules()] == modes
    assert model[1].momentum == 0.1


def test_a_model_without_norms_is_left_without_a_pass():
    nn.update_batch_norm(nn.Sequential(nn.Linear(5, 2)), broken())
    with pytest.raises(TypeError, match=r"'model' is a NoneType, expected an nn\.Module"):
        nn.update_batch_norm(None, [X])


def test_averaged_weights_need_statistics_of_their_own():
    data = load("digits")
    x, y = ((data.X - 8) / 8).astype(np.float32), data.y
    nn.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 32), nn.BatchNorm1d(32),
        nn.ReLU(), nn.Linear(32, 10),
    )  # fmt: skip
    optimizer = optim.SGD(model.parameters(), lr=0.3, ema_decay=0.99)
    trainer = Trainer(model, nn.CrossEntropyLoss(), optimizer, metrics=["accuracy"], progress=False)
    trainer.fit(x[:1300], y[:1300], max_epochs=4, batch_size=32)
    for parameter, average in zip(model.parameters(), optimizer.averages, strict=True):
        parameter.data[...] = average
    plain = nn.Sequential(*model, fuse=False).eval()
    old = nn.CrossEntropyLoss()(plain(x[1300:]), y[1300:])[0]
    nn.update_batch_norm(model, DataLoader(x[:1300], y[:1300], batch_size=100))
    new = nn.CrossEntropyLoss()(plain(x[1300:]), y[1300:])[0]
    assert float(new) < float(old)
    z = x[:1300].astype(np.float64) @ model[0].weight.data.T.astype(np.float64)
    np.testing.assert_allclose(
        model[1].running_mean, z.mean(axis=0) + model[0].bias.data, rtol=1e-4, atol=1e-4
    )
    assert math.isfinite(float(new))
