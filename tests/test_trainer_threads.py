"""A trainer and several threads: one trains, or any number read; anything else is a clear error."""

import copy
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from onepass import nn, optim
from onepass.train import Callback, EarlyStopping, Trainer
from small_training import X, Y, everything, fit, make, network, uninterrupted


class InAnotherThread(Callback):
    """Calls a function from another thread in the middle of a fit, and keeps its error."""

    def __init__(self, hook, call):
        self.call, self.errors = call, []
        setattr(self, hook, self.run_it)

    def run_it(self, run):
        with ThreadPoolExecutor(1) as pool:
            self.errors.append(pool.submit(self.call).exception())


CALLS = {
    "fit": lambda trainer, folder: fit(trainer),
    "evaluate": lambda trainer, folder: trainer.evaluate(X, Y),
    "predict": lambda trainer, folder: trainer.predict(X),
    "save": lambda trainer, folder: trainer.save(folder / "mid"),
    "load": lambda trainer, folder: Trainer.load(
        folder / "saved", trainer.model, trainer.loss, trainer.optimizer, metrics=["accuracy"],
        scheduler=trainer.scheduler, progress=False,
    ),
    "load_weights": lambda trainer, folder: Trainer.load_weights(
        folder / "saved", trainer.model, which="last"
    ),
}  # fmt: skip


@pytest.mark.parametrize("hook", ["on_before_step", "on_step_end", "on_epoch_end"])
@pytest.mark.parametrize("name", CALLS)
def test_a_call_from_another_thread_while_fit_trains(tmp_path, name, hook):
    expected = uninterrupted()
    other = InAnotherThread(hook, lambda: CALLS[name](trainer, tmp_path))
    trainer = make([other])
    trainer.save(tmp_path / "saved")
    fit(trainer)
    assert everything(trainer) == expected
    for error in other.errors:
        assert isinstance(error, RuntimeError)
        assert str(error).startswith(f"{name}: another thread is in fit with this model")
    assert not (tmp_path / "mid").exists()


OTHER_STATE = network(1).state_dict()
DIRECTLY = {
    "forward": lambda model: model(X),
    "forward of a layer": lambda model: model[1](X @ np.ones((4, 6), np.float32)),
    "backward": lambda model: model.backward(np.ones((8, 2), np.float32)),
    "eval": lambda model: model.eval(),
    "eval of a layer": lambda model: model[1].eval(),
    "train": lambda model: model.train(),
    "load_state_dict": lambda model: model.load_state_dict(OTHER_STATE),
    "zero_grad": lambda model: model.zero_grad(),
    "to": lambda model: model.to("cpu"),
}


@pytest.mark.parametrize("hook", ["on_fit_begin", "on_before_step", "on_step_end", "on_epoch_end"])
@pytest.mark.parametrize("name", DIRECTLY)
def test_a_model_used_directly_by_another_thread_between_two_calls_of_a_fit(name, hook):
    """Its statistics, masks, modes, weights and gradients are the fit's own."""
    expected = uninterrupted()
    other = InAnotherThread(hook, lambda: DIRECTLY[name](trainer.model))
    trainer = make([other])
    fit(trainer)
    assert everything(trainer) == expected
    assert len(other.errors) in (1, 3, 12)
    for error in other.errors:
        assert isinstance(error, RuntimeError)
        assert "another thread is in fit with this model" in str(error) or (
            name == "backward" and "came before forward" in str(error)
        )
    trainer.model.eval()(X)  # afterwards all may


def test_a_model_that_another_thread_trained_last_is_the_fits_before_its_first_step_too():
    class Asks(Callback):
        def on_fit_begin(self, run):
            errors.append(pool.submit(run.model, X).exception())

    errors = []
    trainer = make([Asks()])
    with ThreadPoolExecutor(1) as pool:
        pool.submit(trainer.model, X).result()
        fit(trainer)
        assert pool.submit(trainer.model.eval(), X).exception() is None
    assert "another thread is in fit" in str(errors[0])


def test_another_thread_may_evaluate_a_model_directly_while_a_fit_validates():
    found = []

    class Looks(nn.Module):
        def forward(self, x):
            if not self.training and not found:
                found.append(None)
                with ThreadPoolExecutor(1) as pool:
                    found.append(pool.submit(lambda: trainer.model[0](x)).exception())
                    found.append(pool.submit(trainer.model.train).exception())
                    found.append(pool.submit(trainer.model.eval).exception())
            return x

        def backward(self, dy, *, need_input_grad=True):
            return dy

    trainer = make(scheduled=False)
    trainer.model.insert(0, Looks())
    fit(trainer, max_epochs=1)
    assert found[1] is None
    assert all("another thread is in fit" in str(error) for error in found[2:])


def test_train_called_by_another_thread_while_one_predicts_is_refused():
    """Else the rest of the prediction would drop and use the statistics of its batches."""
    found = []

    class Looks(nn.Module):
        def forward(self, x):
            with ThreadPoolExecutor(1) as pool:
                found.append(pool.submit(trainer.model.train).exception())
                found.append(pool.submit(trainer.model.eval).exception())
            return x

    trainer = make(scheduled=False)
    expected = trainer.predict(X)
    trainer.model.insert(0, Looks())
    np.testing.assert_array_equal(trainer.predict(X), expected)
    assert "train: another thread is in predict" in str(found[0])
    assert found[1] is None


def test_another_trainer_of_the_same_model_is_told_too():
    def second():
        twin = Trainer(trainer.model, trainer.loss, optim.SGD(trainer.model.parameters()),
                       progress=False)  # fmt: skip
        fit(twin)

    other = InAnotherThread("on_step_end", second)
    trainer = make([other])
    fit(trainer, max_epochs=1)
    assert {str(error)[:24] for error in other.errors} == {"fit: another thread is i"}


def test_after_the_fit_any_thread_may_go_on():
    trainer = make()
    for epochs in (1, 2, 3):
        with ThreadPoolExecutor(1) as pool:
            pool.submit(fit, trainer, max_epochs=epochs).result()
    assert everything(trainer) == uninterrupted()


def test_after_a_failed_fit_any_thread_may_go_on():
    class Fails(Callback):
        def on_step_end(self, run):
            if run.step == 2:
                raise KeyError

    failed = make([Fails()], scheduled=False)
    with pytest.raises(KeyError):
        fit(failed)
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(failed.predict, X).result().shape == (30, 2)
        pool.submit(fit, failed, max_epochs=1).result()
    assert failed.epoch == 1


def test_a_fit_while_another_thread_predicts():
    """Fit would put the model into training mode under it."""
    inside, leave = threading.Event(), threading.Event()

    class Slow(nn.Module):
        def __init__(self):
            self.layer = nn.Linear(4, 2)

        def forward(self, x):
            if not inside.is_set():
                inside.set()
                leave.wait(60)
            return self.layer(x)

        def backward(self, dy, **options):
            return self.layer.backward(dy, **options)

    model = Slow()
    trainer = Trainer(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters()), progress=False)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(trainer.predict, X)
        inside.wait(60)
        try:
            with pytest.raises(RuntimeError, match="fit: another thread is in predict"):
                fit(trainer)
        finally:
            leave.set()
        assert running.result().shape == (30, 2)
    assert trainer.step == 0
    fit(trainer, max_epochs=1)


def test_predict_from_many_threads_at_once():
    """Each gets what it gets alone, and the modules end in their own modes: dropout would tell."""

    class Double(nn.Module):
        """Keeps nothing of a call, so that only the modes can go wrong."""

        def __init__(self):
            self.spare = nn.Linear(4, 2).eval()

        def forward(self, x):
            return x * (np.random.default_rng().random() if self.training else 2.0)

        def backward(self, dy, **options):
            return 2.0 * dy

    model = nn.Sequential(Double(), nn.Flatten())
    trainer = Trainer(model, nn.MSELoss(), optim.SGD(model.parameters()), progress=False)
    start = threading.Barrier(4)

    def work(number):
        data = X[:8] + number
        start.wait()
        return all(
            np.array_equal(trainer.predict(data, batch_size=2), 2 * data) for _ in range(200)
        )

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            assert all(pool.map(work, range(4)))
    finally:
        sys.setswitchinterval(before)
    assert [module.training for module in model.modules()] == [True, True, False, True]


def test_copies_train_side_by_side():
    """Two threads, two copies: each what it is alone."""
    first = make([EarlyStopping(patience=9)], max_norm=1.0)
    trainers = [first, *(copy.deepcopy(first) for _ in range(3))]
    fit(alone := copy.deepcopy(first))
    expected = everything(alone)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(fit, trainers))
    for trainer in trainers:
        assert everything(trainer) == expected


def test_one_callback_in_two_threads():
    stopping = EarlyStopping()
    fits = []

    class Meanwhile(Callback):
        def on_step_end(self, run):
            if run.step == 2:
                with ThreadPoolExecutor(1) as pool:
                    fits.append(pool.submit(fit, second).exception())

    first, second = make([stopping, Meanwhile()]), make([stopping])
    fit(first)
    assert str(fits[0]).startswith("EarlyStopping: another fit is using this callback")
    assert second.step == 0


@pytest.mark.parametrize("name", ["fit", "predict", "evaluate"])
@pytest.mark.parametrize("hook", ["on_before_step", "on_epoch_end"])
def test_models_that_share_a_parameter_are_trained_one_at_a_time(hook, name):
    def use():
        model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2))
        model[0].weight = trainer.model[0].weight
        other = Trainer(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters()), progress=False)
        CALLS[name](other, None)

    expected = uninterrupted()
    other = InAnotherThread(hook, use)
    trainer = make([other])
    shape = tuple(trainer.model[0].weight.shape)
    assert shape == (6, 4)
    fit(trainer)
    assert everything(trainer) == expected
    assert other.errors
    for error in other.errors:
        assert isinstance(error, RuntimeError)
        assert f"{name}: another thread is in fit with a model that shares the Parameter(" in str(
            error
        )


def test_models_that_share_a_parameter_predict_at_once_and_train_in_turn():
    one, other = (nn.Sequential(nn.Linear(4, 2)) for _ in range(2))
    other[0].weight = one[0].weight
    trainers = [Trainer(m, nn.CrossEntropyLoss(), optim.SGD(m.parameters()), progress=False)
                for m in (one, other)]  # fmt: skip
    alone = [t.predict(X) for t in trainers]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(lambda t: t.predict(X), trainers))
    for a, b in zip(alone, together, strict=True):
        np.testing.assert_array_equal(a, b)
    with ThreadPoolExecutor(1) as pool:
        for trainer in trainers:
            pool.submit(trainer.fit, X, Y, max_epochs=1).result()
