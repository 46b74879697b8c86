"""The numbers that a training reports, and its steps, do not depend on the sizes of its batches."""

import math

import numpy as np
import pytest
from onepass import nn, optim
from onepass.data import DataLoader
from onepass.data.augment import RandomFlip
from onepass.train import Trainer

RNG = np.random.default_rng(3)
N = 30
X = RNG.standard_normal((N, 4)).astype(np.float32)
Y = RNG.integers(0, 3, N)
IGNORED = np.where(RNG.random(N) < 0.4, -100, Y)
CLASS_WEIGHTS = [0.5, 2.0, 1.0]


def trainer(loss=None, outputs=3, lr=0.5, optimizer=optim.SGD, **options):
    nn.manual_seed(1)
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, outputs))
    return Trainer(model, loss or nn.CrossEntropyLoss(), optimizer(model.parameters(), lr=lr),
                   progress=False, **options)  # fmt: skip


def log_softmax(z):
    z = z.astype(np.float64)
    return z - np.log(np.exp(z).sum(axis=1, keepdims=True))


def cross_entropy(outputs, y, class_weight=(1.0, 1.0, 1.0), sample_weight=1.0):
    """The mean over labels that count, weighed by class and sample."""
    used = y != -100
    w = np.where(used, np.asarray(class_weight)[y * used], 0.0) * sample_weight
    return float((-log_softmax(outputs)[np.arange(len(y)), y * used] * w).sum() / w.sum())


# ------------------------------------------------------------------------ the loss of all samples


@pytest.mark.parametrize("batch_size", [1, 2, 5, 7, 29, 30, 256])
@pytest.mark.parametrize("y", [Y, IGNORED], ids=["all count", "some are ignored"])
@pytest.mark.parametrize("weight", [None, CLASS_WEIGHTS], ids=["plain", "class weights"])
def test_the_loss_of_evaluate_does_not_depend_on_the_batch_size(y, weight, batch_size):
    t = trainer(nn.CrossEntropyLoss(weight))
    want = cross_entropy(t.predict(X), y, weight or (1, 1, 1))
    assert t.evaluate(X, y, batch_size=batch_size)["loss"] == pytest.approx(want, rel=1e-6)


@pytest.mark.parametrize("batch_size", [1, 4, 30])
def test_a_loss_that_is_a_sum_is_the_sum_of_all_samples(batch_size):
    t = trainer(nn.CrossEntropyLoss(reduction="sum"))
    want = cross_entropy(t.predict(X), Y) * N
    assert t.evaluate(X, Y, batch_size=batch_size)["loss"] == pytest.approx(want, rel=1e-6)


@pytest.mark.parametrize("batch_size", [1, 4, 30])
def test_probabilities_and_segmentation_count_every_sample(batch_size):
    shares = RNG.dirichlet(np.ones(3), N).astype(np.float32)
    t = trainer()
    want = float((-log_softmax(t.predict(X)) * shares).sum(axis=1).mean())
    assert t.evaluate(X, shares, batch_size=batch_size)["loss"] == pytest.approx(want, rel=1e-6)

    class Pixels(nn.Module):
        def __init__(self):
            self.inner = nn.Linear(4, 6)

        def forward(self, x):
            return self.inner(x).reshape(-1, 3, 2)

    model = Pixels()
    labels = np.where(RNG.random((N, 2)) < 0.5, -100, RNG.integers(0, 3, (N, 2)))
    t = Trainer(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.1),
                metrics=["accuracy"], progress=False)  # fmt: skip
    out = np.moveaxis(t.predict(X), 1, -1).reshape(-1, 3)
    found = t.evaluate(X, labels, batch_size=batch_size)
    assert found["loss"] == pytest.approx(cross_entropy(out, labels.reshape(-1)), rel=1e-6)
    used = labels.reshape(-1) != -100
    assert found["accuracy"] == np.mean((out.argmax(axis=1) == labels.reshape(-1))[used])


def test_batches_of_ignored_labels_alone_count_for_nothing():
    y = np.array([-100] * 10 + [*Y[10:]])
    t = trainer(metrics=["accuracy"])
    want = cross_entropy(t.predict(X), y)
    found = t.evaluate(X, y, batch_size=5)
    assert found["loss"] == pytest.approx(want, rel=1e-6)
    assert found["accuracy"] == np.mean(t.predict(X)[10:].argmax(axis=1) == y[10:])
    history = t.fit(X, y, max_epochs=1, batch_size=5, shuffle=False)
    assert math.isfinite(history["loss"][0])
    assert math.isnan(trainer().evaluate(X, np.full(N, -100))["loss"])


def test_training_averages_over_samples_that_count():
    """With a rate of zero every batch sees the same weights, so the epoch is one evaluation."""
    for batch_size in (1, 4, 7, 30):
        t = trainer(nn.CrossEntropyLoss(CLASS_WEIGHTS), lr=0.0, metrics=["accuracy"])
        want = t.evaluate(X, IGNORED)
        history = t.fit(X, IGNORED, max_epochs=1, batch_size=batch_size)
        assert history["loss"][0] == pytest.approx(want["loss"], rel=1e-6)
        assert history["accuracy"][0] == pytest.approx(want["accuracy"], rel=1e-12)


# ------------------------------------------------------------------------------ accumulated batches


def weights_of(t):
    return np.concatenate([p.data.ravel() for p in t.model.parameters()])


@pytest.mark.parametrize(("batch_size", "accumulate", "last_batch"), [
    (20, 2, "keep"), (7, 5, "keep"), (7, 5, "balance"), (1, 30, "keep"), (4, 8, "keep"),
])  # fmt: skip
@pytest.mark.parametrize("loss", [
    nn.CrossEntropyLoss(), nn.CrossEntropyLoss(CLASS_WEIGHTS), nn.CrossEntropyLoss(reduction="sum"),
], ids=["mean", "class weights", "sum"])  # fmt: skip
@pytest.mark.parametrize("y", [Y, IGNORED], ids=["all count", "some are ignored"])
@pytest.mark.parametrize("max_norm", [None, 0.05])
def test_accumulated_batches_step_as_one_batch_of_all(
    y, loss, batch_size, accumulate, last_batch, max_norm
):
    lr = 0.01 if loss.reduction == "sum" else 0.5
    one = trainer(loss, lr=lr, max_norm=max_norm)
    many = trainer(loss, lr=lr, max_norm=max_norm, accumulate=accumulate, last_batch=last_batch)
    one.fit(X, y, max_epochs=3, batch_size=N)
    many.fit(X, y, max_epochs=3, batch_size=batch_size)
    assert one.step == many.step == 3
    np.testing.assert_allclose(weights_of(many), weights_of(one), rtol=2e-5, atol=2e-6)
    np.testing.assert_allclose(many.history["loss"], one.history["loss"], rtol=1e-5)


def test_accumulated_regression_steps_as_one_batch_of_all():
    y = RNG.standard_normal((N, 2)).astype(np.float32)
    one, many = trainer(nn.MSELoss(), 2), trainer(nn.MSELoss(), 2, accumulate=4, last_batch="keep")
    one.fit(X, y, max_epochs=4, batch_size=N)
    many.fit(X, y, max_epochs=4, batch_size=9)
    np.testing.assert_allclose(weights_of(many), weights_of(one), rtol=2e-5, atol=2e-6)


def test_a_first_batch_without_labels_accumulates_too():
    y = np.array([-100] * 10 + [*Y[10:]])
    one, many = trainer(), trainer(accumulate=3)
    one.fit(X, y, max_epochs=2, batch_size=N, shuffle=False)
    many.fit(X, y, max_epochs=2, batch_size=10, shuffle=False)
    np.testing.assert_allclose(weights_of(many), weights_of(one), rtol=2e-5, atol=2e-6)


# --------------------------------------------------------------------------------- the last batch


@pytest.mark.parametrize(("size", "batch_size"), [(30, 8), (33, 32), (31, 32), (65, 32), (7, 3)])
def test_balanced_batches_differ_by_one_sample_at_most(size, batch_size):
    loader = DataLoader(np.arange(size), np.arange(size), batch_size, True, last_batch="balance")
    batches = [y for _, y in loader]
    sizes = [len(y) for y in batches]
    assert len(batches) == len(loader) == math.ceil(size / batch_size)
    assert max(sizes) - min(sizes) <= 1
    assert sizes == sorted(sizes, reverse=True)  # pinned: later versions resume such runs
    assert max(sizes) <= batch_size
    assert sorted(np.concatenate(batches).tolist()) == list(range(size))
    assert loader.smallest_batch == min(sizes)
    resumed = [y.tolist() for _, y in loader.batches(0, 1)]
    assert resumed == [y.tolist() for y in batches[1:]]


def with_batch_norm(shape=(4,), **options):
    if len(shape) == 1:
        model = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 3))
    else:
        model = nn.Sequential(nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(18, 3))
    return Trainer(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.1),
                   progress=False, **options)  # fmt: skip


@pytest.mark.parametrize(("options", "batch_size", "words"), [
    ({"last_batch": "keep"}, 29, "last_batch='balance' or 'drop'"),
    ({}, 1, "a batch_size above 4"),
    ({"last_batch": "drop"}, 1, "a batch_size above 4"),
])  # fmt: skip
def test_one_value_for_a_batch_norm_is_refused_before_the_first_step(options, batch_size, words):
    t = with_batch_norm(**options)
    before = weights_of(t)
    with pytest.raises(ValueError, match=words):
        t.fit(X, Y, max_epochs=1, batch_size=batch_size)
    assert t.step == 0
    np.testing.assert_array_equal(weights_of(t), before)


@pytest.mark.parametrize(("options", "batch_size", "words"), [
    ({}, 2, "'batch_size' is 2, which leaves 2 in a batch"),
    ({"last_batch": "keep"}, 27, "leaves a last batch of 3"),
])  # fmt: skip
def test_few_values_for_a_batch_norm_are_told(options, batch_size, words):
    with pytest.warns(RuntimeWarning, match=words):
        with_batch_norm(**options).fit(X, Y, max_epochs=1, batch_size=batch_size)


@pytest.mark.filterwarnings("error")
def test_images_train_with_a_last_batch_of_one():
    images = RNG.standard_normal((9, 2, 3, 3)).astype(np.float32)
    t = with_batch_norm((2, 3, 3), last_batch="keep")
    t.fit(images, Y[:9], max_epochs=1, batch_size=4)
    assert t.step == 3


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("hold", [
    lambda m: m[1].eval(), lambda m: m.freeze(), lambda m: m[1].freeze(),
], ids=["own eval", "model frozen", "layer frozen"])  # fmt: skip
def test_held_statistics_train_with_a_last_batch_of_one(hold):
    t = with_batch_norm(last_batch="keep")
    hold(t.model)
    t.fit(X[:9], Y[:9], max_epochs=1, batch_size=4)
    assert t.step == 3
    np.testing.assert_array_equal(t.model[1].running_mean, np.zeros(5))


@pytest.mark.filterwarnings("error")
def test_a_network_without_batch_norm_trains_with_batches_of_one():
    trainer(last_batch="keep").fit(X, Y, max_epochs=1, batch_size=1)


# ---------------------------------------------------------------------- weights of samples, classes


@pytest.mark.parametrize("batch_size", [30, 7])
@pytest.mark.parametrize("own", [None, CLASS_WEIGHTS], ids=["plain", "loss weights"])
@pytest.mark.parametrize("y", [Y, IGNORED], ids=["all count", "some are ignored"])
def test_sample_weights_weigh_loss_and_gradient(y, own, batch_size):
    """Accumulated to one step, against the step of the weighted mean in float64 differences."""
    w = RNG.uniform(0, 3, N)
    t = trainer(nn.CrossEntropyLoss(own), lr=1.0, accumulate=99)
    before = [p.data.copy() for p in t.model.parameters()]
    want = cross_entropy(t.predict(X), y, own or (1, 1, 1), w)
    history = t.fit(X, y, max_epochs=1, batch_size=batch_size, sample_weight=w)
    assert history["loss"][0] == pytest.approx(want, rel=1e-6)
    after = [p.data.copy() for p in t.model.parameters()]
    probe = trainer(nn.CrossEntropyLoss(own))
    for p, value in zip([*probe.model.parameters()], before, strict=True):
        p.data = value.astype(np.float64)
    x = X.astype(np.float64)
    for p, start, end in zip([*probe.model.parameters()], before, after, strict=True):
        at = (0,) * p.data.ndim
        values = []
        for step in (1e-5, -1e-5):
            p.data[at] = float(start[at]) + step
            values.append(cross_entropy(probe.model(x), y, own or (1, 1, 1), w))
            p.data[at] = start[at]
        assert start[at] - end[at] == pytest.approx((values[0] - values[1]) / 2e-5, abs=1e-6)


def test_a_weight_of_zero_is_a_sample_left_out_and_two_is_the_sample_twice():
    w = np.where(np.arange(N) % 3 == 0, 0.0, 1.0)
    w[4] = 2.0
    index = [*np.flatnonzero(w).tolist(), 4]
    weighted, plain = trainer(), trainer()
    weighted.fit(X, Y, max_epochs=2, batch_size=N, sample_weight=w)
    plain.fit(X[index], Y[index], max_epochs=2, batch_size=N)
    np.testing.assert_allclose(weights_of(weighted), weights_of(plain), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("form", ["dict", "list", "balanced"])
def test_class_weights_weigh_samples_by_their_class(form):
    counts = np.bincount(Y)
    balanced = N / (3 * counts)
    given = {"dict": dict(enumerate(CLASS_WEIGHTS)), "list": CLASS_WEIGHTS, "balanced": "balanced"}
    values = balanced if form == "balanced" else np.array(CLASS_WEIGHTS)
    one, other = trainer(), trainer()
    one.fit(X, Y, max_epochs=2, batch_size=8, class_weight=given[form])
    other.fit(X, Y, max_epochs=2, batch_size=8, sample_weight=values[Y])
    np.testing.assert_array_equal(weights_of(one), weights_of(other))
    loss = trainer(nn.CrossEntropyLoss(values))  # PyTorch's weighted mean is the same
    loss.fit(X, Y, max_epochs=2, batch_size=8)
    np.testing.assert_allclose(weights_of(one), weights_of(loss), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["classes", "samples", "regression"])
def test_a_weighted_fit_is_pytorchs_own_loop(kind):
    torch = pytest.importorskip("torch")
    rng, several = np.random.default_rng(4), kind == "regression"
    w = rng.uniform(0, 3, N).astype(np.float32)
    y = rng.standard_normal((N, 3)).astype(np.float32) if several else Y
    t = trainer(nn.MSELoss() if several else nn.CrossEntropyLoss(), lr=0.3)
    start = [torch.from_numpy(p.data.copy()).requires_grad_() for p in t.model.parameters()]
    weights = {"class_weight": CLASS_WEIGHTS} if kind == "classes" else {"sample_weight": w}
    t.fit(X, y, max_epochs=5, batch_size=N, shuffle=False, **weights)
    x, target, weight = map(torch.from_numpy, (X, y, w))
    cross = torch.nn.functional.cross_entropy
    optimizer = torch.optim.SGD(start, lr=0.3)
    for _ in range(5):
        z = torch.tanh(x @ start[0].T + start[1]) @ start[2].T + start[3]
        if kind == "classes":
            loss = cross(z, target, torch.tensor(CLASS_WEIGHTS, dtype=torch.float32))
        else:
            each = ((z - target) ** 2).mean(1) if several else cross(z, target, reduction="none")
            loss = (weight * each).sum() / weight.sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    torchs = np.concatenate([p.detach().numpy().ravel() for p in start])
    np.testing.assert_allclose(weights_of(t), torchs, rtol=2e-5, atol=2e-6)
    assert t.history["loss"][-1] == pytest.approx(loss.item(), rel=1e-5)


def test_weights_of_a_regression_and_of_a_function():
    y = RNG.standard_normal((N, 1)).astype(np.float32)
    w = RNG.uniform(0, 3, N)

    def mean(output, target, sample_weight):
        scaled = sample_weight[:, None] / sample_weight.sum()
        difference = output - target
        return (scaled * difference**2).sum(), 2 * (scaled * difference).astype(output.dtype)

    one, other = trainer(nn.MSELoss(), 1, 0.1), trainer(mean, 1, 0.1)
    one.fit(X, y, max_epochs=3, batch_size=7, sample_weight=w)
    other.fit(X, y, max_epochs=3, batch_size=7, sample_weight=w)
    np.testing.assert_allclose(weights_of(one), weights_of(other), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(one.history["loss"], other.history["loss"], rtol=1e-5)


@pytest.mark.parametrize(("options", "kind", "words"), [
    ({"sample_weight": np.ones(3)}, ValueError, r"'sample_weight' has shape \(3,\)"),
    ({"sample_weight": -np.ones(N)}, ValueError, "'sample_weight' has -1.0 at 0"),
    ({"sample_weight": np.full(N, np.nan)}, ValueError, "'sample_weight' has nan"),
    ({"sample_weight": np.zeros(N)}, ValueError, "sum 0"),
    ({"sample_weight": ["a"] * N}, TypeError, "'sample_weight' is a list"),
    ({"class_weight": {7: 1.0}}, ValueError, "has the class 7"),
    ({"class_weight": "auto"}, ValueError, "'class_weight' is 'auto'"),
    ({"class_weight": [1.0, 2.0]}, ValueError, "no weight for class 2"),
])  # fmt: skip
def test_weights_that_cannot_be_used_are_refused(options, kind, words):
    t = trainer()
    with pytest.raises(kind, match=words):
        t.fit(X, Y, max_epochs=1, **options)
    assert t.step == 0


def test_weights_for_a_loss_that_takes_none_are_refused():
    t = trainer(lambda y, target: nn.CrossEntropyLoss()(y, target))
    with pytest.raises(TypeError, match="an argument sample_weight"):
        t.fit(X, Y, max_epochs=1, sample_weight=np.ones(N))
    assert t.step == 0


def test_float_targets_have_no_classes_to_weigh():
    with pytest.raises(TypeError, match="'class_weight' needs class indices"):
        trainer(nn.MSELoss(), 1).fit(X, X[:, :1], max_epochs=1, class_weight="balanced")


# ------------------------------------------------------------------------------------ messages


@pytest.mark.parametrize("shape", [(N,), (N, 1)])
def test_class_indices_as_floats_are_told_to_be_integers(shape):
    with pytest.raises(TypeError, match="expected class indices as integers"):
        trainer().fit(X, Y.astype(np.float64).reshape(shape), max_epochs=1)


@pytest.mark.parametrize(("weight", "kind"), [
    ("balanced", TypeError), ([[1, 2]], ValueError), (3.0, TypeError), ([1j, 2], TypeError),
    ({0: 1.0}, TypeError), (["a", "b"], TypeError),
])  # fmt: skip
def test_class_weights_that_are_none_are_refused_where_they_are_given(weight, kind):
    with pytest.raises(kind, match=r"CrossEntropyLoss: .?weight"):
        nn.CrossEntropyLoss(weight)


@pytest.mark.parametrize("result", [0.5, np.float32(1), None, np.zeros(3), (1, 2, 3), (1.0, None)])
def test_a_loss_that_returns_no_pair_is_told_to_return_one(result):
    t = trainer(lambda y, target: result)
    for call in (t.evaluate, lambda *data: t.fit(*data, max_epochs=1)):
        with pytest.raises(TypeError, match=r"returned a .*expected a pair \(loss, dy\)"):
            call(X, Y)


@pytest.mark.parametrize(("result", "words"), [
    ((1.0, [0.0]), "a gradient that is a list, expected a pair"),
    ((1j, None), "a loss of 1j, expected one real number"),
    ((np.complex64(1), None), "a loss of np.complex64.*, expected one real number"),
])  # fmt: skip
def test_what_is_wrong_with_the_pair_of_a_loss_is_named(result, words):
    def loss(y, target):
        value, dy = result
        return value, np.zeros_like(y) if dy is None else dy

    with pytest.raises(TypeError, match=f"'loss' returned {words}"):
        trainer(loss).fit(X, Y, max_epochs=1)


@pytest.mark.parametrize("name", ["", " "])
def test_a_metric_has_a_name(name):
    with pytest.raises(ValueError, match="'metrics' has the name '"):
        trainer(metrics={name: "accuracy"})


# ------------------------------------------------------------------------------------ transforms


def test_a_transform_sees_each_training_batch_with_the_places_of_its_samples():
    calls = []

    def noted(x, y, *, seed, epoch, index):
        np.testing.assert_array_equal(x, X[index])
        np.testing.assert_array_equal(y, Y[index])
        calls.append((seed, epoch, sorted(index.tolist())))
        return x * 2, y

    one, other = trainer(seed=4), trainer(seed=4)
    one.fit(X, Y, max_epochs=2, batch_size=8, transform=noted, validation_data=(X, Y))
    assert sorted(i for _, epoch, index in calls if epoch == 0 for i in index) == [*range(N)]
    assert {(seed, epoch) for seed, epoch, _ in calls} == {(4, 0), (4, 1)}
    other.fit(2 * X, Y, max_epochs=2, batch_size=8)
    np.testing.assert_array_equal(weights_of(one), weights_of(other))
    weighted = DataLoader(X, Y, 8, sample_weight=np.arange(N), transform=noted)
    np.testing.assert_array_equal(np.concatenate([w for _, _, w in weighted]), np.arange(N))
    alone = DataLoader(X, batch_size=8, transform=lambda x, y, **_: (x + 1, y))
    np.testing.assert_array_equal(np.concatenate([*alone]), X + 1)


@pytest.mark.parametrize(("transform", "words"), [
    (3, "'transform' is 3, expected a function"),
    (RandomFlip, r"'transform' is the class RandomFlip, expected one made of it: RandomFlip\("),
    (lambda x, y, **_: x, "expected a pair"),
])  # fmt: skip
def test_wrong_transforms_are_refused(transform, words):
    with pytest.raises(TypeError, match=words):
        trainer().fit(X, Y, max_epochs=1, transform=transform)


def test_class_weights_as_a_list_or_in_float64_are_taken():
    plain = nn.CrossEntropyLoss(np.array(CLASS_WEIGHTS, np.float32))
    whole = nn.CrossEntropyLoss(np.float32([1, 2, 3]))(X[:, :3], Y)
    np.testing.assert_array_equal(
        nn.CrossEntropyLoss(np.array([1, 2, 3]))(X[:, :3], Y)[1], whole[1]
    )
    for weight in (CLASS_WEIGHTS, np.array(CLASS_WEIGHTS)):
        loss, dy = nn.CrossEntropyLoss(weight)(X[:, :3], Y)
        want, dwant = plain(X[:, :3], Y)
        assert float(loss) == float(want)
        np.testing.assert_array_equal(dy, dwant)


# --------------------------------------------------------------------- batches that others make


class Epochs:
    """Batches as a user may write them; remembers the epochs that it is set to."""

    def __init__(self, count=None):
        self.count, self.told = count, []

    def set_epoch(self, epoch):
        self.told.append(epoch)

    def __len__(self):
        return self.count or 5

    def __iter__(self):
        return ((X[i : i + 6], Y[i : i + 6]) for i in range(0, N, 6))


def of_torch():
    torch = pytest.importorskip("torch")
    data = torch.utils.data.TensorDataset(torch.tensor(X), torch.tensor(Y))
    return torch.utils.data.DataLoader(data, batch_size=6)


@pytest.mark.parametrize(
    "source", [Epochs, of_torch, lambda: [*Epochs()]], ids=["own", "PyTorch", "list"]
)
def test_batches_of_ones_own_and_of_pytorch_train_as_arrays_do(source):
    want = trainer(metrics=["f1"])
    want.fit(X, Y, max_epochs=2, batch_size=6, shuffle=False, validation_data=(X, Y))
    source, t = source(), trainer(metrics=["f1"])
    t.fit(source, max_epochs=2, validation_data=source)
    np.testing.assert_array_equal(weights_of(t), weights_of(want))
    assert list(t.history) == list(want.history)
    for name, values in want.history.items():
        assert t.history[name] == pytest.approx(values, rel=1e-6)
    assert t.evaluate(source) == pytest.approx(t.evaluate(X, Y), rel=1e-6)
    np.testing.assert_array_equal(t.predict(source), t.predict(X, batch_size=6))
    np.testing.assert_array_equal(t.predict(DataLoader(X, Y, 6)), t.predict(X, batch_size=6))
    if isinstance(source, Epochs):
        assert source.told[:3] == [0, 0, 1]  # training, validation, training


@pytest.mark.parametrize(("source", "kind", "words"), [
    ((p for p in [(X, Y)]), TypeError, "is a generator, which can be read only once"),
    (type("Empty", (), {"__iter__": lambda s: iter([])})(), ValueError, "gave no batch"),
    (type("Xs", (Epochs,), {"__iter__": lambda s: iter([X])})(), TypeError, "gave a ndarray"),
    (Epochs(7), ValueError, "gave 5 batches, expected 7"),
    ({"x": X}, ValueError, "'y' is None"),
], ids=["generator", "no length", "no pairs", "wrong length", "dict"])  # fmt: skip
def test_batches_that_cannot_be_read_are_refused(source, kind, words):
    with pytest.raises(kind, match=words):
        trainer().fit(source, max_epochs=1)
