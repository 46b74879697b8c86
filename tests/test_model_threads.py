"""One model, several threads: each gets in evaluation what it gets alone; training is for one."""

from __future__ import annotations

import copy
import random
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from onepass import nn
from small_models import assert_same, grads, normal, perturb, residual_model


@pytest.fixture(autouse=True)
def often_switched():
    """Threads take turns every few microseconds."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def together(*jobs):
    """Run each in a thread of its own; the exceptions."""
    errors = []
    barrier = threading.Barrier(len(jobs))

    def run(job):
        barrier.wait()
        try:
            job()
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors


class Own(nn.Module):
    """A user's module: state in ``saved`` alone."""

    def __init__(self, features, dtype):
        self.scale = nn.Parameter(np.full(features, 1.5, dtype))
        self.inner = nn.Sequential(nn.Linear(features, features, dtype=dtype), nn.GELU())

    def forward(self, x):
        self.saved = x
        return self.inner(x * self.scale.data)

    def backward(self, dy, *, need_input_grad=True):
        dx, x = self.inner.backward(dy), self.recall()
        self.scale.accumulate((dx * x).sum(axis=0))
        return dx * self.scale.data


def random_layers(rng, width, dtype, depth=0):
    """Layers from ``width`` to ``width``, some of them containers."""
    k = {"dtype": dtype}
    layers = []
    for _ in range(rng.randint(1, 4)):
        kind = rng.choice(["linear", "norm", "activation", "dropout", "residual", "own", "nested"])
        if kind == "linear":
            layers.append(nn.Linear(width, width, bias=rng.random() < 0.8, **k))
        elif kind == "norm":
            layers.append(nn.BatchNorm1d(width, **k))
        elif kind == "activation":
            layers.append(rng.choice([nn.ReLU, nn.Tanh, nn.GELU, nn.SiLU, nn.LeakyReLU])())
        elif kind == "dropout":
            layers.append(nn.Dropout(0.4))
        elif kind == "own":
            layers.append(Own(width, dtype))
        elif depth < 2:
            inside = random_layers(rng, width, dtype, depth + 1)
            shortcut = nn.Linear(width, width, **k) if rng.random() < 0.5 else None
            block = nn.Residual(*inside, shortcut=shortcut)
            layers.append(block if kind == "residual" else nn.Sequential(*inside))
    return layers or [nn.Identity()]


def random_model(seed):
    rng = random.Random(seed)
    nn.manual_seed(seed)
    width, dtype = rng.choice([3, 16, 65]), rng.choice(["float32", "float64"])
    model = nn.Sequential(
        nn.Flatten(),
        nn.Linear(12, width, dtype=dtype),
        *random_layers(rng, width, dtype),
        nn.Linear(width, 5, dtype=dtype),
        fuse=rng.random() < 0.7,
    )
    return perturb(model), dtype


@pytest.mark.parametrize("seed", range(12))
def test_each_thread_gets_what_it_gets_alone(seed):
    """Outputs and input gradients of random networks, bit for bit, in 2 to 5 threads."""
    model, dtype = random_model(seed)
    model.eval().freeze()
    rng = random.Random(seed)
    jobs, wrong = [], []
    for number in range(rng.randint(2, 5)):
        rows = rng.choice([1, 7, 64])
        x = normal((rows, 3, 4), dtype, seed=100 * seed + number)
        y = copy.deepcopy(model)(x)
        dy = normal(y.shape, dtype, seed=number)
        alone = copy.deepcopy(model)
        alone(x)
        dx = alone.backward(dy)

        def job(x=x, y=y, dy=dy, dx=dx):
            for _ in range(25):
                got = model(x)
                if not (got == y).all() or not (model.backward(dy) == dx).all():
                    wrong.append(len(x))

        jobs.append(job)
    assert together(*jobs) == []
    assert not wrong


def test_four_threads_and_one_perceptron():
    model = nn.Sequential(nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 8)).eval()
    inputs = [normal((256, 256), "float32", seed=i) for i in range(4)]
    expected = [model(x) for x in inputs]
    wrong = []

    def job(i):
        for _ in range(20):
            if not (model(inputs[i]) == expected[i]).all():
                wrong.append(i)

    assert together(*[lambda i=i: job(i) for i in range(4)]) == []
    assert not wrong


def test_a_thread_that_did_not_call_forward_has_nothing_to_go_back_through():
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU()).eval()
    model(normal((2, 4), "float32"))
    (error,) = together(lambda: model.backward(normal((2, 4), "float32")))
    assert "in evaluation mode and from this thread" in str(error)


def small(kind):
    nn.manual_seed(6)
    if kind == "own":
        return nn.Sequential(Own(6, "float64"), nn.BatchNorm1d(6, dtype="float64"))
    if kind == "linear":
        return nn.Linear(6, 3, dtype="float64")
    if kind == "batch norm":
        return nn.BatchNorm1d(6, dtype="float64")
    return residual_model(fuse=kind == "residual", p=0.2)


KINDS = ["own", "linear", "batch norm", "residual", "not fused"]


@pytest.mark.parametrize("kind", KINDS)
def test_interleaved_training_is_refused(kind):
    """Forward A, forward B, backward A: B's values are not A's."""
    model = small(kind)
    y = model(normal((8, 6)))
    before = dict(grads(model))
    assert together(lambda: model(normal((8, 6), seed=2))) == []
    with pytest.raises(RuntimeError, match="another thread trains this module too"):
        model.backward(y)
    assert grads(model) == before
    model.backward(model(normal((8, 6))))  # a forward of one's own, and all is well


@pytest.mark.parametrize("kind", KINDS)
def test_one_thread_after_another(kind):
    """As in one thread, to the bit."""
    model = small(kind)
    twin = copy.deepcopy(model)

    def train(m, seed):
        m.backward(m(normal((8, 6), seed=seed)))

    for seed in range(3):
        train(twin, seed)
        assert together(lambda seed=seed: train(model, seed)) == []
    train(twin, 9)
    train(model, 9)
    assert_same(model.state_dict(), twin.state_dict())
    assert_same(grads(model), grads(twin))


def test_a_thread_may_go_back_through_what_another_did():
    model, outputs = small("residual"), []
    assert together(lambda: outputs.append(model(normal((8, 6))))) == []
    model.backward(outputs[0])
    assert all(grad is not None for grad in grads(model).values())


@pytest.mark.parametrize("kind", KINDS)
def test_forward_and_backward_may_be_in_any_threads_one_after_another(kind):
    """With the threads of a pool, which run what comes next, it was refused at random."""
    model = small(kind)
    twin = copy.deepcopy(model)
    outputs = []
    threads = [ThreadPoolExecutor(1) for _ in range(2)]
    for number in range(6):
        forward, backward = threads if number % 2 else threads[::-1]
        x = normal((8, 6), seed=number)
        outputs = [forward.submit(model, x).result()]
        backward.submit(model.backward, outputs[0]).result()
        if number == 3:
            backward.submit(model.backward, outputs[0]).result()
            twin.backward(twin(x))
            twin.backward(outputs[0])
        else:
            twin.backward(twin(x))
    for pool in threads:
        pool.shutdown()
    assert_same(model.state_dict(), twin.state_dict())
    assert_same(grads(model), grads(twin))


@pytest.mark.parametrize("kind", KINDS)
def test_a_forward_between_forward_and_backward_is_refused_after_many_good_ones(kind):
    model = small(kind)
    pool = ThreadPoolExecutor(1)
    for seed in range(3):
        y = model(normal((8, 6), seed=seed))
        pool.submit(model.backward, y).result()
    y = model(normal((8, 6)))
    pool.submit(model, normal((8, 6), seed=2)).result()
    pool.shutdown()
    before = dict(grads(model))
    with pytest.raises(RuntimeError, match="another thread trains this module too"):
        model.backward(y)
    assert grads(model) == before


@pytest.mark.parametrize("kind", KINDS)
def test_two_that_train_at_once(kind):
    """Each call succeeds or is refused, and the statistics count those that succeeded."""
    model = small(kind)
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm1d)]
    done, errors = [], []

    def job():
        for _ in range(40):
            try:
                y = model(normal((8, 6)))
                done.append(1)
                model.backward(y)
            except RuntimeError as error:
                errors.append(str(error))

    assert together(job, job) == []
    assert all("another thread trains this module too" in error for error in errors)
    for norm in norms:
        assert len(done) <= norm.num_batches_tracked <= 80
        assert np.isfinite(norm.running_var).all()


def test_a_call_during_a_call_is_refused():
    """Deterministically: the second thread comes while the first is inside."""
    inside, leave = threading.Event(), threading.Event()

    class Slow(nn.Module):
        def forward(self, x):
            inside.set()
            leave.wait(10)
            return x

    model = nn.Sequential(nn.BatchNorm1d(6), Slow())
    x = normal((8, 6), "float32")
    first = threading.Thread(target=lambda: model(x))
    first.start()
    inside.wait(10)
    try:
        with pytest.raises(RuntimeError, match="another thread trains this module too"):
            model(x)
    finally:
        leave.set()
        first.join()
    assert model[0].num_batches_tracked == 1
    inside.clear()
    model(x)
    assert model[0].num_batches_tracked == 2


@pytest.mark.parametrize("own_eval", [None, "0", "1", "1.body", "1.body.3", "5", "5.shortcut"])
@pytest.mark.parametrize("fuse", [True, False])
def test_an_evaluation_between_forward_and_backward_changes_nothing(fuse, own_eval):
    """Also of the same shape, and where a layer of the model is in evaluation mode all the time."""
    models = []
    for evaluates in (False, True):
        nn.manual_seed(7)
        model = perturb(residual_model(fuse=fuse, p=0.3))
        if own_eval is not None:
            dict(model.named_modules())[own_eval].eval()
        before = [m.training for m in model.modules()]
        y = model(normal((12, 6)))
        if evaluates:
            model.eval()
            model(normal((12, 6), seed=3))
            for module, mode in zip(model.modules(), before, strict=True):
                module.training = mode
        dx = model.backward(y)
        models.append({"y": y, "dx": dx, **grads(model), **model.state_dict()})
    assert_same(*models)


def test_a_layer_that_trains_in_a_model_that_does_not():
    """The other way round: a training step in between leaves the evaluation's values alone."""
    gradients = []
    for trains in (False, True):
        nn.manual_seed(7)
        model = nn.Sequential(nn.Sequential(nn.Linear(6, 6), nn.Tanh()), nn.Linear(6, 3))
        model.eval()[0].train()
        y = model(normal((12, 6), "float32"))
        if trains:
            model.train()(normal((12, 6), "float32", seed=3))
            model.eval()[0].train()
        gradients.append({"dx": model.backward(y), **grads(model)})
    assert_same(*gradients)


def test_backward_goes_by_the_mode_of_the_module():
    model = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.BatchNorm1d(6))
    y = model(normal((8, 6), "float32"))
    model.eval()
    with pytest.raises(RuntimeError, match=r"came before forward: .* in evaluation mode"):
        model.backward(y)
    model.train()
    model.backward(y)
