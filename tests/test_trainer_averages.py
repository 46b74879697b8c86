"""A Trainer whose optimizer has ema_decay: it evaluates with the averages, and trains on with the
parameters, whatever happens in between."""

import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from onepass import nn, optim
from onepass.nn import _use
from onepass.train import Callback, Checkpoint, EarlyStopping, Trainer


def network(seed=0):
    nn.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))


def data(seed=1):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((64, 4)).astype(np.float32)
    return X, (X[:, 0] > 0).astype(np.int64)


def trainer(model, callbacks=(), loss=None, **options):
    optimizer = optim.SGD(model.parameters(), **{"lr": 0.5, "ema_decay": 0.8, **options})
    return Trainer(
        model, loss or nn.CrossEntropyLoss(), optimizer, callbacks=callbacks, progress=False
    )


def weights(model):
    return [p.data.copy() for p in model.parameters()]


def by_hand(model, averages, X, y):
    """The loss of a model with these parameters."""
    other = network()
    other.load_state_dict(model.state_dict())
    for p, average in zip(other.parameters(), averages, strict=True):
        p.data[...] = average
    other.eval()
    return float(nn.CrossEntropyLoss()(other(X), y)[0]), other(X)


def equal(a, b):
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def test_validation_evaluate_and_predict_use_the_averages():
    X, y = data()
    model, plain = network(), network()
    run = trainer(model)
    history = run.fit(X, y, max_epochs=2, batch_size=16, validation_data=(X, y))
    trainer(plain, ema_decay=None).fit(X, y, max_epochs=2, batch_size=16)
    held = weights(model)
    assert equal(held, weights(plain))  # training is the same
    loss, outputs = by_hand(model, run.optimizer.averages, X, y)
    assert loss != pytest.approx(by_hand(model, held, X, y)[0], rel=1e-3)
    assert history["val_loss"][-1] == pytest.approx(loss, rel=1e-6)
    assert run.evaluate(X, y)["loss"] == pytest.approx(loss, rel=1e-6)
    np.testing.assert_allclose(run.predict(X), outputs, rtol=1e-5, atol=1e-6)
    assert equal(weights(model), held)


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
@pytest.mark.parametrize("where", ["validation", "evaluate", "predict"])
def test_an_evaluation_that_ends_early_gives_the_parameters_back(where, error):
    X, y = data()
    model = network()
    fails = []

    class Loss(nn.CrossEntropyLoss):
        def __call__(self, output, target):
            if fails and not model.training:
                raise error("stop")
            return super().__call__(output, target)

    class Watch(Callback):
        def on_step_end(self, run):
            self.after = weights(model)
            fails.append(1)

    class Fails(nn.Module):
        def forward(self, x):
            if where == "predict" and fails:
                raise error("stop")
            return x

        def backward(self, dy):
            return dy

    watch = Watch()
    model.append(Fails())
    run = trainer(model, [watch], Loss())
    validation = (X, y) if where == "validation" else None
    if where == "validation":
        with pytest.raises(error, match="stop"):
            run.fit(X, y, max_epochs=1, batch_size=64, validation_data=validation)
    else:
        run.fit(X, y, max_epochs=1, batch_size=64)
        with pytest.raises(error, match="stop"):
            run.evaluate(X, y) if where == "evaluate" else run.predict(X)
    assert equal(weights(model), watch.after)
    assert not equal(weights(model), run.optimizer.averages)


def test_the_best_weights_are_the_averages_that_were_validated():
    X, y = data()
    model = network()
    run = trainer(model, [EarlyStopping("val_loss", patience=9)], lr=2.0)
    history = run.fit(X, y, max_epochs=6, batch_size=16, validation_data=(X, -y + 1))
    best = min(history["val_loss"])
    assert np.argmin(history["val_loss"]) < 5
    assert run.evaluate(X, -y + 1)["loss"] == pytest.approx(best, rel=1e-5)
    assert by_hand(model, weights(model), X, -y + 1)[0] == pytest.approx(best, rel=1e-5)


def test_a_layer_that_is_frozen_late_is_evaluated_as_it_is_and_the_best_epoch_stays():
    X, y = data()
    model = network()

    class Freeze(Callback):
        def on_epoch_begin(self, run):
            if run.epoch == 1:
                model[0].freeze()

    stopping = EarlyStopping("val_loss", patience=9)
    run = trainer(model, [Freeze(), stopping], lr=0.05)
    run.fit(X, y, max_epochs=2, batch_size=16, validation_data=(X, y))
    kept = stopping.best_epoch
    run.fit(X, y, max_epochs=4, batch_size=16, validation_data=(X, y))
    assert stopping.best_epoch >= kept > 0


@pytest.mark.parametrize("every", [{"every_n_steps": 1}, {"every_n_epochs": 1}])
def test_a_checkpoint_resumes_with_the_same_bits_and_predicts_with_the_averages(every, tmp_path):
    X, y = data()
    whole = network()
    long = trainer(whole, [Checkpoint(tmp_path / "run", **every)])
    long.fit(X, y, max_epochs=3, batch_size=16)
    kept = Trainer.load_weights(tmp_path / "run", network(5), which="last")
    for p, average in zip(kept.parameters(), long.optimizer.averages, strict=True):
        np.testing.assert_array_equal(p.data, average)
    folder = tmp_path / "again"
    trainer(network(), [Checkpoint(folder, **every)]).fit(X, y, max_epochs=2, batch_size=16)
    second = network(7)
    again = trainer(second, [Checkpoint(folder, **every)])
    again.fit(X, y, max_epochs=3, batch_size=16, ckpt_path=folder)
    assert equal(weights(second), weights(whole))
    assert equal(again.optimizer.averages, long.optimizer.averages)


def test_the_checkpoint_of_the_best_epoch_has_its_averages(tmp_path):
    X, y = data()
    run = trainer(network(), [Checkpoint(tmp_path, monitor="val_loss")], lr=2.0)
    history = run.fit(X, y, max_epochs=5, batch_size=16, validation_data=(X, -y + 1))
    best = Trainer.load_weights(tmp_path, network(5))
    best.eval()
    loss = float(nn.CrossEntropyLoss()(best(X), -y + 1)[0])
    assert loss == pytest.approx(min(history["val_loss"]), rel=1e-5)


def with_averages(kind, model):
    if kind == "ema":
        return optim.SGD(model.parameters(), lr=0.5, momentum=0.9, ema_decay=0.8)
    return optim.ScheduleFreeSGD(model.parameters(), lr=0.5)


@pytest.mark.parametrize("kind", ["ema", "schedule free"])
def test_a_second_thread_evaluates_with_averages_beside_the_first(kind):
    """The second would keep the first one's averages as what the parameters held."""
    X, y = data()
    found = []

    class Looks(nn.Module):
        def forward(self, x):
            if watching and not found:
                found.append(None)
                with ThreadPoolExecutor(1) as pool:
                    found.append(pool.submit(t.predict, X).result())
                    found.append(pool.submit(t.evaluate, X, y).result())
            return x

        def backward(self, dy, *, need_input_grad=True):
            return dy

    watching = False
    model = nn.Sequential(Looks(), *network())
    t = Trainer(model, nn.CrossEntropyLoss(), with_averages(kind, model), progress=False)
    t.fit(X, y, max_epochs=1, batch_size=16)
    if kind == "schedule free":
        t.optimizer.train()
    held = weights(model)
    loss = t.evaluate(X, y)
    watching = True
    want = t.predict(X)
    assert (found[1] == want).all()
    assert found[2] == loss
    assert kind == "schedule free" or equal(held, weights(model))


@pytest.mark.parametrize("kind", ["ema", "schedule free"])
def test_any_number_of_threads_predict_with_averages_at_once(kind):
    """Three of four were refused."""
    X, y = data()
    model = network()
    t = Trainer(model, nn.CrossEntropyLoss(), with_averages(kind, model), progress=False)
    t.fit(X, y, max_epochs=2, batch_size=16)
    held, want, loss = weights(model), t.predict(X), t.evaluate(X, y)
    start = threading.Barrier(4)

    def work(number):
        start.wait()
        for _ in range(40):
            assert (t.predict(X, batch_size=16) == want).all()
            assert t.evaluate(X, y) == loss

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(work, range(4)))
    finally:
        sys.setswitchinterval(before)
    assert equal(held, weights(model))
    t.fit(X, y, max_epochs=3, batch_size=16)  # nothing is left that would keep it out


def test_trainers_with_other_averages_of_one_model_wait_for_each_other():
    X, y = data()
    model = network()
    trainers = []
    for number, decay in enumerate((0.5, 0.99, None)):
        optimizer = optim.SGD(model.parameters(), lr=0.5, ema_decay=decay)
        trainers.append(Trainer(model, nn.CrossEntropyLoss(), optimizer, progress=False))
        trainers[-1].fit(X, y, max_epochs=1 + number, batch_size=16)
    want = [t.predict(X) for t in trainers]
    assert not (want[0] == want[2]).all()
    start = threading.Barrier(6)

    def work(number):
        start.wait()
        for _ in range(30):
            assert (trainers[number % 3].predict(X, batch_size=16) == want[number % 3]).all()

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(6)))


def test_an_evaluation_that_would_wait_inside_another_one_is_refused():
    """The other thread may wait for this one as well."""
    X, _ = data()
    inside, leave, found = threading.Event(), threading.Event(), []

    class Holds(nn.Module):
        def forward(self, x):
            if threading.current_thread() is not threading.main_thread():
                inside.set()
                assert leave.wait(60)
            return x

        def backward(self, dy, *, need_input_grad=True):
            return dy

    class Asks(nn.Module):
        def forward(self, x):
            try:
                plain.predict(X)
            except RuntimeError as error:
                found.append(str(error))
            return x

        def backward(self, dy, *, need_input_grad=True):
            return dy

    model = nn.Sequential(Holds(), *network())
    t = trainer(model)
    plain = Trainer(model, t.loss, optim.SGD(model.parameters(), lr=0.5), progress=False)
    other = nn.Sequential(Asks(), nn.Linear(4, 2))
    asking = Trainer(other, t.loss, optim.SGD(other.parameters(), lr=0.5), progress=False)
    with ThreadPoolExecutor(1) as pool:
        job = pool.submit(t.predict, X)
        assert inside.wait(60)
        try:
            asking.predict(X)
        finally:
            leave.set()
        job.result()
    assert found
    assert "predict: another thread is in predict with this model" in found[0]


def test_a_schedule_free_optimizer_is_evaluated_with_its_own_average():
    X, y = data()
    found = []
    for decay in (None, 0.5):
        model = network()
        optimizer = optim.ScheduleFreeSGD(model.parameters(), lr=0.5, ema_decay=decay)
        run = Trainer(model, nn.CrossEntropyLoss(), optimizer, progress=False)
        run.fit(X, y, max_epochs=2, batch_size=16)
        found.append(run.predict(X))
    assert equal(found[:1], found[1:])


# Weights that load_weights gives to the model.


@pytest.mark.parametrize("which", ["last", "best"])
@pytest.mark.parametrize("decay", [0.8, 0.999])
def test_after_load_weights_the_loaded_weights_are_evaluated(tmp_path, which, decay):
    """The averages of the training before were, whatever was loaded."""
    X, y = data()
    saved = trainer(network(3), [Checkpoint(tmp_path, monitor="loss")], ema_decay=0.5)
    saved.fit(X, y, max_epochs=2, batch_size=16)
    run = trainer(network(), ema_decay=decay)
    run.fit(X, y, max_epochs=3, batch_size=16)
    Trainer.load_weights(tmp_path, run.model, which=which)
    loaded = weights(run.model)
    loss, outputs = by_hand(run.model, loaded, X, y)
    np.testing.assert_allclose(run.predict(X), outputs, rtol=1e-5, atol=1e-6)
    assert run.evaluate(X, y)["loss"] == pytest.approx(loss, rel=1e-6)
    assert run.run.evaluated_weights().keys() == run.model.state_dict().keys()
    assert equal(run.optimizer.averages, loaded)
    run.save(tmp_path / "again")
    again = Trainer.load_weights(tmp_path / "again", network(7), which="last")
    assert equal(weights(again), loaded)


def test_after_load_weights_the_averages_start_again_from_them(tmp_path):
    X, y = data()
    trainer(network(3), [Checkpoint(tmp_path)]).fit(X, y, max_epochs=2, batch_size=16)
    run = trainer(network())
    run.fit(X, y, max_epochs=3, batch_size=16)
    Trainer.load_weights(tmp_path, run.model, which="last")
    average, steps = weights(run.model), []

    class Follows(Callback):
        def on_step_end(self, run):
            steps.append(run.step)
            for own, p in zip(average, run.model.parameters(), strict=True):
                own += np.float32(0.2) * (p.data - own)

    run.callbacks = [Follows()]
    run.fit(X, y, max_epochs=4, batch_size=16)
    assert len(steps) == 4
    for own, kept in zip(average, run.optimizer.averages, strict=True):
        np.testing.assert_allclose(own, kept, rtol=1e-5, atol=1e-6)


def test_a_resume_a_swap_by_hand_and_other_models_leave_the_averages_alone(tmp_path):
    X, y = data()
    run = trainer(network(), [Checkpoint(tmp_path)])
    run.fit(X, y, max_epochs=2, batch_size=16)
    kept = [a.copy() for a in run.optimizer.averages]
    Trainer.load_weights(tmp_path, network(4), which="last")
    assert equal(run.optimizer.averages, kept)
    own = run.model.state_dict()
    run.model.load_state_dict(network(5).state_dict())
    run.model.load_state_dict(own)
    assert equal(run.optimizer.averages, kept)
    model = Trainer.load_weights(tmp_path, network(6), which="last")
    optimizer = optim.SGD(model.parameters(), lr=0.5, ema_decay=0.8)
    again = Trainer.load(tmp_path, model, nn.CrossEntropyLoss(), optimizer, progress=False)
    assert equal(again.optimizer.averages, kept)
    assert (again.predict(X) == run.predict(X)).all()


# Another thread that calls the model meanwhile.


@pytest.mark.parametrize(
    ("kind", "name"),
    [("ema", "predict"), ("ema", "evaluate"), ("ema", "validation"), ("schedule free", "predict"),
     ("schedule free", "evaluate")],
)  # fmt: skip
def test_a_call_of_the_model_in_another_thread_does_not_read_averages(kind, name):
    """It read averages, or half of them, in silence."""
    X, y = data()
    found, other = [], network(1)
    watching = False

    def reads(call):
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(call).exception()

    class Looks(nn.Module):
        def forward(self, x):
            nonlocal watching
            if watching and not self.training:
                watching = False
                found.extend([reads(lambda: model(X)), reads(lambda: model[1](X))])
                found.extend([reads(model.state_dict), reads(lambda: other(X))])
            return x

        def backward(self, dy, *, need_input_grad=True):
            return dy

    model = nn.Sequential(Looks(), *network()).eval()
    other.eval()[0].weight = nn.Parameter(other[0].weight.data)
    t = trainer(model)
    if kind == "schedule free":
        t.optimizer = optim.ScheduleFreeSGD(model.parameters(), lr=0.5)
    t.fit(X, y, max_epochs=1, batch_size=16)
    watching = True
    if kind == "schedule free":
        t.optimizer.train()
    if name == "validation":
        t.fit(X, y, max_epochs=2, batch_size=16, validation_data=(X, y))
    elif name == "predict":
        t.predict(X)
    else:
        t.evaluate(X, y)
    assert [type(error) for error in found[:3]] == [RuntimeError] * 3
    assert all(
        "another thread evaluates this model by a Trainer, with averages" in str(e)
        for e in found[:3]
    )
    assert found[3] is None  # another model
    model.eval()
    assert reads(lambda: model(X)) is None


@pytest.mark.parametrize("shares", [False, True])
def test_a_call_that_began_before_an_evaluation_with_averages_does_not_end_with_them(shares):
    """Deterministically: the evaluation begins and ends while the call is inside."""
    X, y = data()
    inside, leave = threading.Event(), threading.Event()

    class Waits(nn.Module):
        def forward(self, x):
            if threading.current_thread() is not threading.main_thread():
                inside.set()
                assert leave.wait(60)
            return x

        def backward(self, dy, *, need_input_grad=True):
            return dy

    model = nn.Sequential(*network())
    t = trainer(model)
    t.fit(X, y, max_epochs=1, batch_size=16)
    reader = nn.Sequential(nn.Linear(4, 8), Waits(), nn.Linear(8, 2)).eval()
    if shares:
        reader[2].weight = model[3].weight
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(reader, X)
        assert inside.wait(60)
        t.predict(X)
        leave.set()
        error = call.exception()
    assert isinstance(error, RuntimeError) is shares
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(reader, X).exception() is None


def test_many_calls_beside_many_evaluations_give_one_value_or_an_error():
    X, y = data()
    model = network().eval()
    t = trainer(model)
    t.fit(X, y, max_epochs=1, batch_size=16)
    want, wrong, refused, stop = model(X), [], [], threading.Event()

    def reads():
        while not stop.is_set():
            try:
                if not (model(X) == want).all():
                    wrong.append(1)
            except RuntimeError as error:
                refused.append(str(error))

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(2) as pool:
            jobs = [pool.submit(reads) for _ in range(2)]
            try:
                for _ in range(60):
                    t.predict(X, batch_size=16)
            finally:
                stop.set()
            assert [job.exception() for job in jobs] == [None, None]
    finally:
        sys.setswitchinterval(before)
    assert not wrong
    assert refused


def test_a_swap_within_a_swap_ends_with_it():
    """Who read the inner parameters afterwards was refused as long as the outer one lasted."""
    outer, layer = nn.Linear(2, 2), nn.Linear(2, 2).eval()
    x = np.ones((1, 2), np.float32)
    with ThreadPoolExecutor(1) as pool:
        with _use.swapped(list(outer.parameters())):
            with (
                _use.swapped(list(layer.parameters())),
                pytest.raises(RuntimeError, match="another thread evaluates this model"),
            ):
                pool.submit(layer, x).result()
            assert pool.submit(layer, x).result().shape == (1, 2)
            with pytest.raises(RuntimeError, match="another thread evaluates this model"):
                pool.submit(outer.eval(), x).result()
            with _use.swapped(list(outer.parameters())):
                pass
            with pytest.raises(RuntimeError, match="another thread evaluates this model"):
                pool.submit(outer, x).result()  # the first one has not ended
        assert pool.submit(outer, x).result().shape == (1, 2)
