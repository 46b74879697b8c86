"""Random numbers of trainings: neither moved by other threads nor moving what others draw."""

import warnings
from concurrent.futures import ThreadPoolExecutor
from threading import Thread

import numpy as np
import pytest
from onepass import nn, optim
from onepass.train import Callback, LogUniform, Trainer, cross_validate, find_lr, restarts, search

RNG = np.random.default_rng(0)
X = RNG.standard_normal((60, 4)).astype(np.float32)
Y = (X[:, 0] * X[:, 1] > 0).astype(np.int64)
EPOCHS = 2


def alone():
    """Nobody does anything."""


def elsewhere(call):
    """The value of a call in a thread of its own, when that has ended."""
    found = []
    thread = Thread(target=lambda: found.append(call()))
    thread.start()
    thread.join()
    return found[0]


def drawn():
    return float(nn.Linear(1, 1).weight.data[0, 0])


def another_script():
    """Seeds, draws and makes layers, in another thread."""

    def script():
        nn.manual_seed(77)
        return drawn(), nn.Dropout(0.5)(np.ones((2, 2), np.float32))

    elsewhere(script)


class Hooks(Callback):
    """Lets the others do something in each step; draws itself, as one that adds layers does."""

    def __init__(self, others):
        self.others = others

    def on_step_end(self, run):
        self.others()

    def on_epoch_end(self, run):
        run.log("drawn", drawn())


def trained(others, lr=0.05, seed=0):
    first = nn.Linear(4, 8)
    others()
    model = nn.Sequential(first, nn.Tanh(), nn.Dropout(0.3), nn.Linear(8, 2))
    optimizer = optim.Adam(model.parameters(), lr=lr)
    return Trainer(
        model, nn.CrossEntropyLoss(), optimizer, seed=seed, progress=False,
        callbacks=[Hooks(others)],
    )  # fmt: skip


def searched(seed, others=alone, **more):
    found = search(
        lambda params: trained(others, params["lr"]), {"lr": LogUniform(1e-3, 1e-1)}, X, Y,
        trials=3, seed=seed, progress=False, max_epochs=EPOCHS, **more,
    )  # fmt: skip
    return [dict(trial.history) for trial in found.trials], weights(found.build())


def restarted(seed, others=alone, **more):
    options = {"n": 2, "seed": seed, "max_epochs": EPOCHS, **more}
    runs = restarts(lambda s: trained(others, seed=s), X, Y, **options)
    return [(dict(run.history), weights(run.trainer)) for run in runs]


def folded(seed, others=alone, **more):
    options = {"folds": 2, "seed": seed, "max_epochs": EPOCHS, **more}
    found = cross_validate(lambda s: trained(others, seed=s), X, Y, **options)
    return [(dict(fold.history), fold.scores, weights(fold.trainer)) for fold in found]


def estimated(seed, others=alone):
    pytest.importorskip("sklearn")
    from onepass.sklearn import MLPClassifier

    model = MLPClassifier((8,), dropout=0.3, max_iter=EPOCHS, random_state=seed, batch_size=20)
    for _ in range(3):
        others()
        model.partial_fit(X, Y, classes=[0, 1])
    return [array.tolist() for array in model.coefs_]


def weights(trainer):
    return {name: array.tolist() for name, array in trainer.model.state_dict().items()}


CALLS = pytest.mark.parametrize("call", [searched, restarted, folded, estimated])


@CALLS
def test_threads_get_what_one_after_another_gets(call):
    seeds = range(4)
    expected = [call(seed) for seed in seeds]
    with ThreadPoolExecutor(len(seeds)) as pool:
        assert list(pool.map(call, seeds)) == expected


@pytest.mark.parametrize("call", [searched, restarted, folded])
def test_threads_leave_the_filters_of_warnings(call, tmp_path, monkeypatch):
    """Which the process has: of two threads that change them, one puts back what the other set."""

    def changed(*args, **options):
        raise AssertionError("the filters were changed")

    for _ in range(2):  # begun, and gone on with
        with monkeypatch.context() as patch:
            patch.setattr(warnings, "catch_warnings", changed)
            call(0, resume=tmp_path)


@CALLS
def test_another_thread_that_seeds_and_draws_changes_nothing(call):
    assert call(3, another_script) == call(3)


@CALLS
def test_the_random_numbers_outside_go_on(call):
    nn.manual_seed(99)
    expected = nn.get_rng_state()
    call(3)
    assert nn.get_rng_state() == expected


@pytest.mark.parametrize("call", [searched, restarted, folded])
def test_a_build_that_seeds_seeds_itself_alone(call):
    nn.manual_seed(99)
    expected = nn.get_rng_state()
    mask, ones = nn.Dropout(0.5), np.ones((4, 4), np.float32)
    place = mask.stream.peek()
    call(3, lambda: nn.manual_seed(5))
    assert mask.stream.peek() == place
    mask(ones)
    assert nn.get_rng_state() == {**expected, "streams": 1}


def masked(others=alone, epochs=3):
    nn.manual_seed(1)
    trainer = trained(alone, seed=4)
    trainer.callbacks = [Hooks(others)]
    for epoch in range(epochs):
        trainer.fit(X, Y, max_epochs=epoch + 1)
    return trainer


def test_a_fit_keeps_its_masks_when_another_thread_seeds():
    assert weights(masked(another_script, 1)) == weights(masked(epochs=1))


def test_a_hook_that_seeds_seeds_the_fit_and_what_comes_behind_it():
    """As a script that seeds between two fits does."""
    expected = nn.Dropout(0.5)
    nn.manual_seed(6)
    places = []
    trainer = masked(lambda: nn.manual_seed(6), 1)
    for layer in (trainer.model[2], expected):
        places.append(layer.stream.peek()[0])
    assert places == [6, 6]
    assert nn.get_rng_state()["seed"] == 6


class Draws(nn.Module):
    """The values are passed on; a number is drawn, here or in another thread."""

    def __init__(self, draw):
        self.seen, self.draw = [], draw

    def forward(self, x):
        self.seen.append(self.draw())
        return x

    def backward(self, dy):
        return dy


def checked(draw):
    """What a model has drawn in `gradcheck` and `find_lr`, which call it many times."""
    draws = Draws(draw)
    model = nn.Sequential(nn.Linear(4, 2), draws)
    nn.gradcheck(model, X[:3], samples=2)
    trainer = Trainer(
        model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.1), progress=False
    )
    find_lr(trainer, X, Y, steps=5)
    assert len(draws.seen) > 20
    return draws.seen


def test_numbers_that_another_thread_draws_do_not_come_again():
    seen = [*checked(lambda: elsewhere(drawn)), drawn()]
    assert len(set(seen)) == len(seen)


def test_numbers_drawn_for_a_check_come_again():
    nn.manual_seed(3)
    nn.Linear(4, 2)
    expected = drawn()
    nn.manual_seed(3)
    checked(drawn)
    assert drawn() == expected
