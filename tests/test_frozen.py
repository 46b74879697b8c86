"""A frozen parameter does not move, whenever it was frozen; freeze() holds running statistics."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from helpers import each_variant
from onepass import nn, optim
from onepass.train import Callback, Checkpoint, EarlyStopping, Trainer
from small_models import assert_same, normal, perturb, residual_model
from small_training import fit, make
from test_absent_gradients import OPTIMIZERS, state_of

X, Y = normal((24, 6), "float32"), np.arange(24) % 3


def build(dtype="float32", fuse=True):
    nn.manual_seed(4)
    k = {"dtype": dtype}
    return nn.Sequential(
        nn.Linear(6, 8, **k),
        nn.BatchNorm1d(8, **k),
        nn.ReLU(),
        nn.Residual(nn.Linear(8, 8, **k), nn.BatchNorm1d(8, **k)),
        nn.Linear(8, 3, **k),
        fuse=fuse,
    )


def frozen_arrays(module):
    return {name: p.data.copy() for name, p in module.named_parameters()}


@pytest.mark.parametrize("part", ["0", "1", "3", "3.body.0"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_on_after_freezing_a_layer(name, part):
    model = build()
    optimizer = OPTIMIZERS[name](model.parameters())
    trainer = Trainer(model, nn.CrossEntropyLoss(), optimizer, max_norm=1.0, progress=False)
    trainer.fit(X, Y, max_epochs=2, batch_size=8)
    module = dict(model.named_modules())[part].freeze()
    before, others = frozen_arrays(module), model[4].weight.data.copy()
    indices = [i for i, p in enumerate(model.parameters()) if not p.requires_grad]
    states = [state_of(optimizer, i) for i in indices]
    trainer.fit(X, Y, max_epochs=4, batch_size=8)
    assert_same(frozen_arrays(module), before)
    assert (model[4].weight.data != others).any()
    for i, state in zip(indices, states, strict=True):
        assert state["step"] == 6
        assert_same(state_of(optimizer, i), state)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("passed", [False, True])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_frozen_between_backward_and_step(name, passed, dtype):
    """Also where the gradients are passed, and the norm is that of the others alone."""
    model, others = build(dtype), build(dtype)
    optimizer = OPTIMIZERS[name](model.parameters())
    without = OPTIMIZERS[name]([p for i, p in enumerate(others.parameters()) if i not in (0, 1)])
    for m in (model, others):
        m.backward(m(X.astype(dtype)))
    given = [p.grad for p in model.parameters()] if passed else None
    model[0].freeze()
    before = frozen_arrays(model[0])
    info = optimizer.step(given, max_norm=0.5)
    expected = without.step(max_norm=0.5)
    assert info.grad_norm == expected.grad_norm
    assert_same(frozen_arrays(model[0]), before)
    for a, b in zip(list(model.parameters())[2:], list(others.parameters())[2:], strict=True):
        np.testing.assert_array_equal(a.data, b.data)
    assert 0 not in optimizer.state_dict()["state"]  # no step was counted


@each_variant
@pytest.mark.parametrize("passed", [False, True])
@pytest.mark.parametrize("zero_grad", [False, True])
def test_a_parameter_of_pytorch_that_was_frozen_later_does_not_move(variant, passed, zero_grad):
    """PyTorch's own optimizers go on moving it while it has a gradient."""
    torch = pytest.importorskip("torch")
    frozen, other = (torch.nn.Parameter(torch.ones(5)) for _ in range(2))
    decay = variant.record.accepted(weight_decay=0.1)
    optimizer = variant.make([frozen, other], lr=0.1, **decay)
    for step in range(3):
        for parameter in (frozen, other):
            parameter.grad = torch.full((5,), 2.0)
        if step:
            frozen.requires_grad_(False)
            before = frozen.clone()
        held = frozen.grad
        optimizer.step([frozen.grad, other.grad] if passed else None, zero_grad=zero_grad)
        if step:
            assert torch.equal(frozen, before)
            assert bool((held == 0).all()) == zero_grad
    assert [entry["step"] for entry in optimizer.state_dict()["state"].values()] == [1, 3]


def test_a_frozen_gradient_that_is_not_finite_stops_nothing():
    model = nn.Linear(3, 2)
    model.weight.requires_grad = False
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    bad = [np.full((2, 3), np.nan, np.float32), np.ones(2, np.float32)]
    assert optimizer.step(bad, nonfinite="raise").nonfinite_param is None
    assert np.isfinite(model.weight.data).all()


def test_a_whole_frozen_model_and_one_that_thaws():
    model = build()
    optimizer = optim.AdamW(model.parameters(), lr=0.1)
    model.backward(model(X))
    model.freeze()
    before = frozen_arrays(model)
    optimizer.step()
    assert_same(frozen_arrays(model), before)
    model.unfreeze()
    optimizer.step()
    assert all((p.data != before[n]).any() for n, p in model.named_parameters())


def buffers(model):
    return {k: v for k, v in model.state_dict().items() if "running" in k or "tracked" in k}


@pytest.mark.parametrize("fuse", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_frozen_statistics_are_held_and_used_in_training_mode(dtype, fuse):
    """Forward and backward are those of evaluation mode; dropout after the norm still drops."""
    model = perturb(residual_model(dtype=dtype, fuse=fuse))
    twin = copy.deepcopy(model)
    x = normal((12, 6), dtype)
    model.freeze()
    twin.eval()
    before = buffers(model)
    y, expected = model(x), twin(x)
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(model.backward(y), twin.backward(y))
    assert_same(buffers(model), before)


@pytest.mark.parametrize("fuse", [True, False])
def test_dropout_behind_frozen_statistics_drops(fuse):
    model = nn.Sequential(nn.BatchNorm1d(50), nn.ReLU(), nn.Dropout(0.5), fuse=fuse).freeze()
    x = np.ones((40, 50), np.float32)
    y = model(x)
    assert 0.3 < (y == 0).mean() < 0.7
    model.unfreeze()
    assert (model(x) == 0).all()  # a constant channel is beta


def test_freeze_without_statistics_and_unfreeze():
    model = build()
    for freeze, moves in (
        (lambda: model.freeze(statistics=False), True),
        (model.freeze, False),
        (model.unfreeze, True),
        (lambda: model[1].freeze(), False),
    ):
        freeze()
        before = model[1].running_mean.copy()
        model(X)
        assert (model[1].running_mean != before).any() == moves
    assert model[1].num_batches_tracked == 2
    with pytest.raises(TypeError, match="freeze: 'statistics' is 'no', expected True or False"):
        model.freeze(statistics="no")


def test_a_norm_without_statistics_uses_the_batch():
    norm = nn.BatchNorm1d(6, track_running_stats=False)
    y = norm(X)
    np.testing.assert_array_equal(norm.freeze()(X), y)


@pytest.mark.parametrize("momentum", [0.1, None])
def test_frozen_statistics_outlive_fit_and_copies(momentum):
    model = build()
    model[1].momentum = momentum
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    trainer = Trainer(model, nn.CrossEntropyLoss(), optimizer, progress=False)
    trainer.fit(X, Y, max_epochs=1, batch_size=8)
    model[1].freeze()
    before = {k: v for k, v in buffers(model).items() if k.startswith("1.")}
    trainer.fit(X, Y, max_epochs=2, batch_size=8)
    assert_same({k: v for k, v in buffers(model).items() if k.startswith("1.")}, before)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert not twin[1].weight.requires_grad
        twin(X)
        np.testing.assert_array_equal(twin[1].running_mean, model[1].running_mean)
        assert (twin[3].body[1].running_mean != model[3].body[1].running_mean).any()


@pytest.mark.parametrize("epoch", [1, 2, 3])
@pytest.mark.parametrize("what", ["0", "1"], ids=["weights", "batch norm"])
def test_early_stopping_does_not_move_what_was_frozen_later(what, epoch):
    """The best epoch is the first; a layer is frozen after a later one."""

    class Freezes(Callback):
        def on_epoch_end(self, run):
            if run.epoch == epoch:
                dict(run.model.named_modules())[what].freeze()
                kept.update({k: v for k, v in run.model.state_dict().items() if k[0] == what})

    class Worse(Callback):
        logs = ("worse_loss",)

        def on_validation_end(self, run):
            run.log("worse_loss", run.epoch)

    kept = {}
    stopping = EarlyStopping("worse_loss", patience=9)
    trainer = make([Worse(), stopping, Freezes()])
    fit(trainer, max_epochs=4)
    state = trainer.model.state_dict()
    assert kept
    for name, values in kept.items():
        np.testing.assert_array_equal(state[name], values)
    assert stopping.best_epoch == (1 if epoch == 1 else epoch + 1)


def test_early_stopping_still_gives_back_the_best_epoch_where_a_layer_was_frozen_before_it():
    trainer = make([stopping := EarlyStopping("loss", mode="max", patience=9)])
    trainer.model[0].freeze()
    fit(trainer)
    assert stopping.best_epoch > 0
    best = stopping.best_weights
    state = trainer.model.state_dict()
    assert all(np.array_equal(state[name], best[name]) for name in state)


def test_early_stopping_does_not_move_statistics_that_were_frozen_later():
    """Of a batch norm without weights."""

    class Freezes(Callback):
        def on_epoch_end(self, run):
            run.log("worse_loss", run.epoch)
            if run.epoch == 2:
                run.model[1].freeze()
                kept.append(run.model[1].running_mean.copy())

    kept = []
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8, affine=False), nn.Linear(8, 3))
    freezes = Freezes()
    freezes.logs = ("worse_loss",)
    trainer = Trainer(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.1),
                      callbacks=[freezes, EarlyStopping("worse_loss", patience=9)],
                      progress=False)  # fmt: skip
    trainer.fit(X, Y, max_epochs=4, batch_size=8)
    np.testing.assert_array_equal(model[1].running_mean, kept[0])


@pytest.mark.parametrize("frozen_in", ["train", "eval"])
@pytest.mark.parametrize("thawed_in", ["train", "eval"])
@pytest.mark.parametrize("cls", [optim.ScheduleFreeSGD, optim.ScheduleFreeAdamW])
def test_the_two_modes_of_a_schedule_free_optimizer_do_not_move_what_is_frozen(
    cls, frozen_in, thawed_in
):
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    optimizer, x = cls(model.parameters(), lr=0.1), normal((8, 4), "float32")

    def steps():
        optimizer.train()
        for _ in range(4):
            model.backward(model(x))
            optimizer.step(zero_grad=True)

    steps()
    getattr(optimizer, frozen_in)()
    model[0].freeze()
    kept = model[0].state_dict()
    for _ in range(2):
        steps()
        assert_same(model[0].state_dict(), kept)
        optimizer.eval()
        assert_same(model[0].state_dict(), kept)
    getattr(optimizer, thawed_in)()
    model[0].unfreeze()
    optimizer.train()
    optimizer.eval()  # its value is its average as well as its y
    for name, value in kept.items():
        np.testing.assert_allclose(model[0].state_dict()[name], value, rtol=1e-6)
    steps()
    assert (model[0].weight.data != kept["weight"]).any()


def test_a_trainer_with_a_schedule_free_optimizer_does_not_move_what_a_hook_freezes():
    class Freezes(Callback):
        kept = None

        def on_step_end(self, run):
            if run.step == 3:
                self.kept = run.model[0].freeze().state_dict()

    model, freezes = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)), Freezes()
    optimizer = optim.ScheduleFreeAdamW(model.parameters(), lr=0.1)
    trainer = Trainer(model, nn.CrossEntropyLoss(), optimizer, callbacks=[freezes], progress=False)
    fit(trainer)
    assert_same(model[0].state_dict(), freezes.kept)


class FreezesLater(Callback):
    """Freezes a layer as the second epoch begins: a resume behind it does not come by here."""

    def on_epoch_begin(self, run):
        if run.epoch == 1 and run.position == 0:
            run.model[0].freeze()


def test_a_resume_says_that_a_layer_which_was_frozen_will_move(tmp_path):
    """A checkpoint holds values; whether they are frozen, the program says."""
    fit(make([FreezesLater(), Checkpoint(tmp_path)]), max_epochs=2)
    later = make([FreezesLater()])
    with pytest.warns(RuntimeWarning, match=r"had 0\.weight, 0\.bias frozen, which will move now"):
        fit(later, ckpt_path=tmp_path)
    loaded = make()
    loaded = Trainer.load(
        tmp_path, loaded.model, loaded.loss, loaded.optimizer, scheduler=loaded.scheduler,
        metrics=["accuracy"], progress=False,
    )  # fmt: skip
    with pytest.warns(RuntimeWarning, match="which will move now"):
        fit(loaded)


def test_a_resume_with_the_same_layers_frozen_says_nothing(tmp_path, recwarn):
    fit(make([FreezesLater(), Checkpoint(tmp_path)]), max_epochs=2)
    later = make()
    later.model[0].freeze()
    fit(later, ckpt_path=tmp_path)
    assert not recwarn.list


def test_a_resume_says_that_a_layer_which_was_trained_is_frozen_now(tmp_path):
    fit(make([Checkpoint(tmp_path)]), max_epochs=2)
    later = make()
    later.model[0].freeze()
    with pytest.warns(RuntimeWarning, match=r"had 0\.weight, 0\.bias in training, frozen now"):
        fit(later, ckpt_path=tmp_path)
