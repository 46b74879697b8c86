"""A layer's own eval() outlives the trainer's calls, and every mode comes back after them."""

from __future__ import annotations

import copy
import pickle
import threading

import numpy as np
import pytest
from onepass import nn, optim
from onepass.nn import _use
from onepass.train import Callback, Trainer, find_lr
from small_models import normal

X, Y = normal((24, 6), "float32"), np.arange(24) % 3


def build(fuse=True):
    nn.manual_seed(5)
    return nn.Sequential(
        nn.Linear(6, 8),
        nn.BatchNorm1d(8),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Residual(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Dropout(0.3)),
        nn.Linear(8, 3),
        fuse=fuse,
    )


def trainer_of(model, callbacks=()):
    optimizer = optim.AdamW(model.parameters(), lr=0.01)
    return Trainer(model, nn.CrossEntropyLoss(), optimizer, callbacks=callbacks, progress=False)


def modes(model):
    return {name: module.training for name, module in model.named_modules()}


CALLS = {
    "fit": lambda t: t.fit(X, Y, max_epochs=t.epoch + 1, batch_size=8, validation_data=(X, Y)),
    "evaluate": lambda t: t.evaluate(X, Y),
    "predict": lambda t: t.predict(X),
    "find_lr": lambda t: find_lr(t, X, Y, steps=5, batch_size=8),
}
OWN = {
    "a batch norm": ["1"],
    "a dropout": ["3"],
    "a block": ["4"],
    "a layer in a block": ["4.body.1"],
    "several": ["1", "3", "4.body.2"],
}


@pytest.mark.parametrize("fuse", [True, False])
@pytest.mark.parametrize("own", OWN)
def test_a_layers_own_eval_outlives_every_call(own, fuse):
    model = build(fuse)
    trainer = trainer_of(model)
    trainer.fit(X, Y, max_epochs=1, batch_size=8)
    for name in OWN[own]:
        assert dict(model.named_modules())[name].eval()
    before, held = modes(model), copy.deepcopy(model)
    for call in [*CALLS.values(), CALLS["fit"]]:
        call(trainer)
        assert modes(model) == before
    for (name, module), other in zip(model.named_modules(), held.modules(), strict=True):
        if isinstance(module, nn.BatchNorm1d):
            stays = any(f"{name}.".startswith(f"{top}.") for top in OWN[own])
            assert (module.running_mean == other.running_mean).all() == stays
    for dropout, at in ((model[3], "3"), (model[4].body[2], "4.body.2")):
        at_rest = dropout(np.ones((20, 8), np.float32)).all()
        assert at_rest == any(f"{at}.".startswith(f"{top}.") for top in OWN[own])


@pytest.mark.parametrize("call", CALLS)
def test_a_model_in_evaluation_is_trained_and_comes_back(call):
    model = build().eval()
    before = model.state_dict()
    CALLS[call](trainer_of(model))
    assert not any(modes(model).values())
    trained = any((before[k] != v).any() for k, v in model.state_dict().items() if "weight" in k)
    assert trained == (call == "fit")


@pytest.mark.parametrize("call", ["evaluate", "predict"])
def test_mixed_modes_come_back_exactly(call):
    model = build().eval()
    model[3].train()  # for Monte Carlo dropout
    model[4].body.train()
    before = modes(model)
    trainer = trainer_of(model)
    first, second = trainer.predict(X), trainer.predict(X)
    np.testing.assert_array_equal(first, second)
    CALLS[call](trainer)
    assert modes(model) == before


def test_train_of_the_model_or_the_layer_ends_it():
    model = build()
    trainer = trainer_of(model)
    for end in (model.train, model[1].train, lambda: model[1].train(True)):
        model[1].eval()
        end()
        before = model[1].running_mean.copy()
        CALLS["fit"](trainer)
        assert model[1].training
        assert (model[1].running_mean != before).any()


class At(Callback):
    def __init__(self, epoch, action):
        self.epoch, self.action = epoch, action

    def on_epoch_end(self, run):
        if run.epoch == self.epoch:
            self.action(run)


def test_eval_in_a_callback_holds_from_then_on():
    model, seen = build(), []
    switch = At(1, lambda run: (run.model[1].eval(), seen.append(model[1].running_mean.copy())))
    trainer_of(model, [switch]).fit(X, Y, max_epochs=3, batch_size=8)
    assert not model[1].training
    assert model[4].body[1].training
    np.testing.assert_array_equal(model[1].running_mean, seen[0])
    switch = At(1, lambda run: run.model[1].train())
    trainer_of(model, [switch]).fit(X, Y, max_epochs=3, batch_size=8)
    assert model[1].training
    assert (model[1].running_mean != seen[0]).any()


def test_a_callback_that_leaves_the_model_in_evaluation_does_not_stop_training():
    model = build()
    trainer_of(model, [At(1, lambda run: run.model.eval())]).fit(X, Y, max_epochs=2, batch_size=8)
    assert model[1].num_batches_tracked == 6


@pytest.mark.parametrize("call", CALLS)
def test_modes_come_back_after_an_exception(call):
    model = build()
    model[1].eval()
    before = modes(model)

    def fail(output, target):
        raise KeyError("planned")

    trainer = trainer_of(model)
    trainer.run.loss = fail
    if call == "predict":
        model[5].forward = lambda x: fail(x, x)
    with pytest.raises(KeyError, match="planned"):
        CALLS[call](trainer)
    assert modes(model) == before


def test_a_train_method_of_ones_own_is_heeded():
    """PyTorch's idiom for batch norms that stay as they are."""

    class Net(nn.Module):
        def __init__(self):
            self.norm, self.head = nn.BatchNorm1d(6), nn.Linear(6, 3)

        def forward(self, x):
            return self.head(self.norm(x))

        def backward(self, dy, *, need_input_grad=True):
            return self.norm.backward(self.head.backward(dy))

        def train(self, mode=True):
            super().train(mode)
            self.norm.eval()
            return self

    model = Net().train()
    trainer = trainer_of(model)
    for call in CALLS.values():
        call(trainer)
        assert model.training
        assert not model.norm.training
    assert not model.norm.running_mean.any()


@pytest.mark.parametrize("twin_of", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_keep_it(twin_of):
    model = build()
    model[1].eval()
    twin = twin_of(model)
    CALLS["fit"](trainer_of(twin))
    assert modes(twin) == modes(model)


def test_predictions_from_several_threads_switch_once():
    """One that ends first does not put the model back into training under the others."""
    model = build()
    trainer = trainer_of(model)
    expected = trainer.predict(X)
    statistics = model.state_dict()
    wrong = []

    def predict():
        for size in (1, 2, 3, 5) * 6:
            if not np.allclose(trainer.predict(X, batch_size=size), expected, rtol=1e-5, atol=1e-6):
                wrong.append(size)

    threads = [threading.Thread(target=predict) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert all(modes(model).values())
    assert all((model.state_dict()[k] == v).all() for k, v in statistics.items())
    assert not _use._uses


def test_fit_in_one_thread_and_predict_in_another_is_one_error():
    model = build()
    messages = []

    def other(call):
        def run(_):
            def attempt():
                with pytest.raises(RuntimeError, match="another thread is") as error:
                    CALLS[call](trainer_of(model))
                messages.append(str(error.value))

            thread = threading.Thread(target=attempt)
            thread.start()
            thread.join()

        return run

    callbacks = [At(1, other(call)) for call in CALLS]
    trainer_of(model, callbacks).fit(X, Y, max_epochs=2, batch_size=8)
    assert len(messages) == len(CALLS)
    assert model[1].num_batches_tracked == 6
    thread = threading.Thread(target=lambda: CALLS["fit"](trainer_of(model)))
    thread.start()
    thread.join()
    assert model[1].num_batches_tracked == 9
    assert not _use._uses
