"""The schedule-free optimizers: their two sets of weights, what a state_dict says of them, and the
Trainer, which evaluates and saves the average."""

import copy
import pickle

import numpy as np
import pytest
from helpers import from_torch, to_torch
from onepass import nn, optim
from onepass.train import Callback, Checkpoint, EarlyStopping, Trainer
from small_steps import gradients, start
from staged import RIDERS

CLASSES = [optim.ScheduleFreeSGD, optim.ScheduleFreeAdamW]
each_class = pytest.mark.parametrize("cls", CLASSES)
ROUNDING = {"float64": 1e-14, "float32": 1e-5, "float16": 5e-3}


def made(cls, params, beta=0.8, **options):
    name = "momentum" if "SGD" in cls.__name__ else "betas"  # the authors' too
    value = beta if name == "momentum" else (beta, 0.99)
    return cls(params, lr=0.1, **{name: value}, **options)


def average(zs):
    """x: z of every step, all with the same weight."""
    return sum(zs) / len(zs)


@each_class
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_the_average_of_what_the_steps_went_through(cls, dtype):
    """Of z, that is, which starts at the parameters; `train` gives y back."""
    rng, params = start(dtype)
    opt, zs = made(cls, params, weight_decay=0.1), [[] for _ in params]
    for _ in range(12):
        opt.step(gradients(rng, params))
        for i, held in enumerate(zs):
            held.append(opt.state_dict()["state"][i]["z"].astype(np.float64))
    ys, bound = [p.copy() for p in params], ROUNDING[dtype]
    opt.eval()
    for p, y, z in zip(params, ys, zs, strict=True):
        np.testing.assert_allclose(p, average(z), rtol=bound, atol=bound)
        assert p.size < 10 or not np.allclose(p, y, rtol=bound, atol=bound)
    opt.eval()  # again: nothing happens
    opt.train()
    opt.train(True)
    for p, y in zip(params, ys, strict=True):
        np.testing.assert_allclose(p, y, rtol=bound, atol=bound)
    opt.train(False)
    for p, z in zip(params, zs, strict=True):
        np.testing.assert_allclose(p, average(z), rtol=bound, atol=bound)


@each_class
def test_a_parameter_without_a_gradient_is_its_own_average(cls):
    params = [np.ones(3), np.ones(2)]
    opt = made(cls, params)
    opt.step([np.ones(3), None])
    opt.step([-np.ones(3), None])
    opt.eval()
    np.testing.assert_array_equal(params[1], 1.0)
    assert (params[0] != 1).all()


@each_class
def test_a_step_in_eval_mode_is_refused(cls):
    p = np.ones(3)
    opt = made(cls, [p])
    opt.step([np.ones(3)])
    opt.eval()
    before = p.copy()
    for grads in ([np.ones(3)], [None]):
        with pytest.raises(RuntimeError, match=rf"{cls.__name__}: a step in eval mode, .*call opt"):
            opt.step(grads)
    np.testing.assert_array_equal(p, before)
    with pytest.raises(TypeError, match="'mode' is 'yes', expected True or False"):
        opt.train("yes")


@each_class
@pytest.mark.parametrize("way", ["load", "copy", "pickle"])
def test_what_is_saved_says_which_weights_these_are(cls, way):
    p = np.ones(3)
    opt = made(cls, [p])
    for sign in (1, -1, 1):
        opt.step([np.full(3, 0.5 * sign)])
    opt.eval()
    if way == "load":
        q = p.copy()
        other = made(cls, [q])
        other.load_state_dict(copy.deepcopy(opt.state_dict()))
    else:
        other = copy.deepcopy(opt) if way == "copy" else pickle.loads(pickle.dumps(opt))
        q = other.param_groups[0]["params"][0]
    with pytest.raises(RuntimeError, match="eval mode"):
        other.step([np.ones(3)])
    for optimizer in (opt, other):
        optimizer.train()
        optimizer.step([np.ones(3)])
    np.testing.assert_array_equal(q, p)


@each_class
def test_groups_of_two_modes_are_refused(cls):
    opt = made(cls, [{"params": [np.ones(3)]}, {"params": [np.ones(2)]}])
    opt.step([np.ones(3), np.ones(2)])
    saved = copy.deepcopy(opt.state_dict())
    saved["param_groups"][1]["train_mode"] = False
    with pytest.raises(ValueError, match="'train_mode' differs between groups"):
        opt.load_state_dict(saved)
    opt.step([np.ones(3), np.ones(2)])


@each_class
def test_a_group_that_joins_has_the_mode_of_the_others(cls):
    p, q = np.ones(3), np.ones(2)
    opt = made(cls, [p])
    opt.step([np.ones(3)])
    opt.eval()
    opt.add_param_group({"params": [q], "lr": 0.2})
    opt.train()
    opt.step([np.ones(3), np.ones(2)])
    np.testing.assert_array_equal(q == 1, False)


@each_class
def test_each_group_has_its_own_part_of_the_average(cls):
    params = [np.ones(3), np.ones(3)]
    name = "momentum" if cls is optim.ScheduleFreeSGD else "betas"
    value = 0.5 if name == "momentum" else (0.5, 0.99)
    opt = made(cls, [{"params": params[:1]}, {"params": params[1:], name: value}])
    alone = [np.ones(3), np.ones(3)]
    single = [made(cls, alone[:1]), made(cls, alone[1:], 0.5)]
    for sign in (1, -1, -1):
        opt.step([np.full(3, 0.5 * sign)] * 2)
        for one in single:
            one.step([np.full(3, 0.5 * sign)])
    for optimizer in (opt, *single):
        optimizer.eval()
    np.testing.assert_array_equal(params, alone)
    assert (params[0] != params[1]).all()


@each_class
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_tensors(cls, dtype):
    """The same bits as arrays, and autograd sees that the weights have changed."""
    torch = pytest.importorskip("torch")
    rng, params = start(dtype)
    theirs = [torch.nn.Parameter(to_torch(p.copy())) for p in params]
    mine, other = made(cls, params), made(cls, theirs)
    for _ in range(3):
        grads = gradients(rng, params)
        mine.step(grads)
        other.step([to_torch(g.copy()) for g in grads])
    versions = [t._version for t in theirs]
    mine.eval()
    other.eval()
    for p, t in zip(params, theirs, strict=True):
        np.testing.assert_array_equal(from_torch(t.detach()), p)
    assert all(t._version > version for t, version in zip(theirs, versions, strict=True))


@each_class
@pytest.mark.parametrize("rider", RIDERS)
def test_riders_that_may_change_what_an_update_did_are_refused(cls, rider):
    if rider in ("noise", "ema_decay"):  # the one reaches y and z alike, the other follows y
        made(cls, [np.ones((2, 2))], **{rider: RIDERS[rider]})
        return
    with pytest.raises((TypeError, ValueError), match=f"{cls.__name__}: {rider!r} .*move y"):
        made(cls, [np.ones((2, 2))], **{rider: RIDERS[rider]})


@pytest.mark.parametrize("momentum", [0.0, 1.0, -0.5])
def test_an_average_that_would_have_no_part_is_refused(momentum):
    with pytest.raises(ValueError, match=r"'momentum' is .*, expected a number > 0 and < 1"):
        optim.ScheduleFreeSGD([np.ones(3)], momentum=momentum)
    with pytest.raises(ValueError, match=r"'betas\[0\]' is .*, expected a number > 0 and < 1"):
        optim.ScheduleFreeAdamW([np.ones(3)], betas=(momentum, 0.9))


@each_class
@pytest.mark.parametrize("warmup_steps", [0, 5])
def test_the_authors_package_goes_the_same_way(cls, warmup_steps):
    torch = pytest.importorskip("torch")
    theirs = pytest.importorskip("schedulefree")
    rng, params = start("float64")
    tensors = [torch.nn.Parameter(to_torch(p.copy())) for p in params]
    options = {"weight_decay": 0.1, "warmup_steps": warmup_steps, "r": 0.5}
    mine = made(cls, params, **options)
    name = {"ScheduleFreeSGD": "SGDScheduleFree", "ScheduleFreeAdamW": "AdamWScheduleFree"}
    other = made(getattr(theirs, name[cls.__name__]), tensors, **options)
    other.train()
    for step in range(50):
        if step in (10, 30):
            for optimizer in (mine, other):
                optimizer.eval()
                optimizer.train()
        grads = gradients(rng, params)
        mine.step(grads)
        for t, g in zip(tensors, grads, strict=True):
            t.grad = to_torch(g.copy())
        other.step()
        for p, t in zip(params, tensors, strict=True):
            np.testing.assert_allclose(p, t.detach().numpy(), rtol=1e-10, atol=1e-12)
    mine.eval()
    other.eval()
    for p, t in zip(params, tensors, strict=True):
        np.testing.assert_allclose(p, t.detach().numpy(), rtol=1e-10, atol=1e-12)


# ---------------------------------------------------------------------------------------- a Trainer


def network(seed=0):
    nn.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))


def data(seed=1):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((64, 4)).astype(np.float32)
    return X, (X[:, 0] > 0).astype(np.int64)


def trainer(model, cls=optim.ScheduleFreeSGD, callbacks=()):
    return Trainer(
        model, nn.CrossEntropyLoss(), made(cls, model.parameters()), callbacks=callbacks,
        progress=False,
    )  # fmt: skip


class Watch(Callback):
    """Which weights are there at each hook, and a validation inside an epoch."""

    def __init__(self, X, y):
        self.data, self.seen, self.inside = (X, y), [], []

    def on_before_step(self, run):
        self.seen.append(("step", run.optimizer.training))

    def on_step_end(self, run):
        y = run.model[0].weight.data.copy()
        loss = run.evaluate(*self.data)["loss"]
        run.optimizer.eval()
        self.inside.append((loss, direct(run.model, *self.data)))
        run.optimizer.train()
        np.testing.assert_allclose(run.model[0].weight.data, y, rtol=1e-5, atol=1e-6)

    def on_validation_end(self, run):
        self.seen.append(("validation", run.optimizer.training))

    def on_epoch_end(self, run):
        self.seen.append(("epoch", run.optimizer.training))


def direct(model, X, y):
    model.eval()
    loss = nn.CrossEntropyLoss()(model(X), y)[0]
    model.train()
    return float(loss)


@each_class
def test_a_trainer_validates_and_ends_with_the_average(cls):
    X, y = data()
    model = network()
    watch = Watch(X, y)
    run = trainer(model, cls, [watch])
    history = run.fit(X, y, max_epochs=2, batch_size=32, validation_data=(X, y))
    epoch = [("step", True), ("step", True), ("validation", False), ("epoch", False)]
    assert watch.seen == 2 * epoch
    for inside, expected in watch.inside:
        assert inside == pytest.approx(expected, rel=1e-5)
    assert history["val_loss"][-1] == pytest.approx(direct(model, X, y), rel=1e-6)
    assert not run.optimizer.training
    np.testing.assert_allclose(run.predict(X), model(X), rtol=1e-6)
    run.fit(X, y, max_epochs=3, batch_size=32)
    assert run.optimizer.training is False


def test_a_stopped_run_and_one_that_fails_end_with_the_average():
    X, y = data()

    class Stop(Callback):
        def on_step_end(self, run):
            run.stop = True

    class Fail(Callback):
        def on_step_end(self, run):
            raise OSError("no")

    for callback in (Stop(), Fail()):
        run = trainer(network(), callbacks=[callback])
        try:
            run.fit(X, y, max_epochs=2, batch_size=32)
        except OSError:
            assert isinstance(callback, Fail)
        assert not run.optimizer.training


@each_class
@pytest.mark.parametrize("every", [{"every_n_steps": 1}, {"every_n_epochs": 1}])
def test_checkpoints_hold_the_average_and_a_resume_has_the_same_bits(cls, every, tmp_path):
    X, y = data()
    folder = tmp_path / "run"
    whole = network()
    long = trainer(whole, cls, [Checkpoint(folder, keep=100, **every)])
    long.fit(X, y, max_epochs=3, batch_size=16)
    kept = Trainer.load_weights(folder, network(5), which="last")
    for a, b in zip(kept.parameters(), whole.parameters(), strict=True):
        np.testing.assert_allclose(a.data, b.data, rtol=1e-5, atol=1e-6)
    folder = tmp_path / "again"
    first = network()
    trainer(first, cls, [Checkpoint(folder, **every)]).fit(X, y, max_epochs=2, batch_size=16)
    second = network(7)
    again = trainer(second, cls, [Checkpoint(folder, **every)])
    again.fit(X, y, max_epochs=3, batch_size=16, ckpt_path=folder)
    for a, b in zip(second.parameters(), whole.parameters(), strict=True):
        np.testing.assert_array_equal(a.data, b.data)


def test_the_best_weights_are_averages():
    X, y = data()
    model = network()
    stopping = EarlyStopping(monitor="val_loss", patience=1)
    history = trainer(model, callbacks=[stopping]).fit(
        X, y, max_epochs=4, batch_size=16, validation_data=(X, y)
    )
    assert min(history["val_loss"]) == pytest.approx(direct(model, X, y), rel=1e-6)


@each_class
def test_the_optimizer_of_pytorchs_kind_turns_its_weights_too(cls):
    torch = pytest.importorskip("torch")
    from onepass.torch import optim as front

    p, t = np.ones(5), torch.nn.Parameter(torch.ones(5, dtype=torch.float64))
    mine, theirs = cls([p], lr=0.1), getattr(front, cls.__name__)([t], lr=0.1)
    for sign in (1, -1, 1):
        mine.step([np.full(5, 0.5 * sign)])
        t.grad = torch.full((5,), 0.5 * sign, dtype=torch.float64)
        theirs.step()
    for turn in ("eval", "train"):
        getattr(mine, turn)()
        getattr(theirs, turn)()
        np.testing.assert_array_equal(t.detach().numpy(), p)
        if turn == "eval":
            with pytest.raises(RuntimeError, match="eval mode"):
                theirs.step()


@pytest.mark.parametrize(
    ("cls", "name", "other"),
    [("ScheduleFreeSGD", "momentum", 0.5), ("ScheduleFreeAdamW", "betas", (0.5, 0.999))],
)
def test_the_average_keeps_the_beta_that_it_was_made_with(cls, name, other):
    p = np.ones(3)
    opt = getattr(optim, cls)([p], lr=0.1)
    opt.param_groups[0][name] = other  # before the first step
    opt.step([np.ones(3)])
    opt.param_groups[0][name] = (0.7, 0.999) if name == "betas" else 0.7
    before = p.copy()
    for use in (lambda: opt.step([np.ones(3)]), opt.eval):
        with pytest.raises(ValueError, match=f"{name!r} of group 0 was changed from 0.5 to 0.7"):
            use()
        assert (p == before).all()
    opt.param_groups[0][name] = other
    opt.step([np.ones(3)])
    fresh = getattr(optim, cls)([np.ones(3)], lr=0.1)
    fresh.step([np.ones(3)])
    fresh.load_state_dict(opt.state_dict())  # with its own beta
    fresh.step([np.ones(3)])
