"""find_lr: its rate trains, whatever the net, optimizer and loss; nothing else has changed."""

import itertools
import math
import signal

import numpy as np
import pytest
from onepass import nn, optim
from onepass.train import LRFinder, Trainer, find_lr
from onepass.train._lr_curve import choose, diverged, judge, smoothed
from small_training import X, Y, everything, flat, make

RNG = np.random.default_rng(0)
CENTRES = RNG.standard_normal((10, 64))


def blobs(n=1000, seed=0):
    """Ten classes in 64 dimensions, standardised: digits without scikit-learn."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 10, n)
    x = CENTRES[y] + 0.9 * rng.standard_normal((n, 64))
    return ((x - x.mean(0)) / x.std(0)).astype(np.float32), y


def digits():
    data = pytest.importorskip("sklearn.datasets").load_digits()
    spread = data.data.std(0)
    x = (data.data - data.data.mean(0)) / np.where(spread > 0, spread, 1)
    return x.astype(np.float32), data.target.astype(np.int64)


def net(seed, *sizes, norm=False, p=0.0, act=nn.ReLU, dtype="float32"):
    nn.manual_seed(seed)
    layers = []
    for a, b in itertools.pairwise(sizes[:-1]):
        layers.append(nn.Linear(a, b, dtype=dtype))
        layers += [nn.BatchNorm1d(b, dtype=dtype)] * norm + [act()] + [nn.Dropout(p)] * (p > 0)
    return nn.Sequential(*layers, nn.Linear(*sizes[-2:], dtype=dtype))


def trainer(model, loss=None, kind=optim.SGD, seed=0, **options):
    optimizer = kind(model.parameters(), lr=0.1, **options)
    return Trainer(model, loss or nn.CrossEntropyLoss(), optimizer, progress=False, seed=seed)


def momentum(parameters, lr):
    return optim.SGD(parameters, lr=lr, momentum=0.9)


def trained(t, rate, x, y, epochs):
    for group in t.optimizer.param_groups:
        group["lr"] = rate
    return t.fit(x, y, max_epochs=epochs)["loss"][-1]


@pytest.mark.parametrize("data", [digits, blobs])
@pytest.mark.parametrize("seed", range(10))
def test_the_suggestion_trains_64_128_10_with_sgd(seed, data):
    x, y = data()
    t = trainer(net(seed, 64, 128, 10), seed=seed)
    found = find_lr(t, x, y)
    assert 0.03 <= found.suggestion <= 0.7
    assert found.suggestion in found.lrs
    assert trained(t, found.suggestion, x, y, epochs=6) < 0.1


def pixels():
    """Digits whose pixels go from 0 to 1."""
    data = pytest.importorskip("sklearn.datasets").load_digits()
    return (data.data / 16).astype(np.float32), data.target.astype(np.int64)


def linear_teacher(samples=640):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((samples, 64)).astype(np.float32)
    return x, (x @ rng.standard_normal((64, 10))).argmax(axis=1)


def labels_at_random(samples=256):
    rng = np.random.default_rng(0)
    return rng.standard_normal((samples, 64)).astype(np.float32), rng.integers(0, 10, samples)


@pytest.mark.parametrize(
    ("data", "epochs"), [(pixels, 15), (linear_teacher, 15), (labels_at_random, 30)]
)
@pytest.mark.parametrize("seed", range(10))
def test_the_suggestion_has_a_margin_where_one_rate_alone_trains_well(seed, data, epochs):
    """The next rate, a factor of three above, diverges or is worse."""
    x, y = data()
    t = trainer(net(seed, 64, 128, 10), seed=seed)
    found = find_lr(t, x, y)
    assert 0.03 <= found.suggestion <= 0.7
    assert found.suggestion in found.lrs
    assert trained(t, found.suggestion, x, y, epochs=epochs) < 0.1


@pytest.mark.parametrize(
    ("kind", "low", "high"), [(momentum, 0.005, 0.15), (optim.AdamW, 1e-3, 3e-2)]
)
@pytest.mark.parametrize("norm", [False, True])
def test_the_suggestion_trains_with_other_optimizers_and_batch_norm(kind, low, high, norm):
    x, y = blobs()
    t = trainer(net(1, 64, 128, 10, norm=norm, p=0.2 * norm), kind=kind)
    found = find_lr(t, x, y)
    assert low <= found.suggestion <= high * (1 + 4 * norm)
    assert trained(t, found.suggestion, x, y, epochs=6) < 0.15


@pytest.mark.parametrize("scale", [1.0, 80.0])
@pytest.mark.parametrize("samples", [60, 3000])
def test_the_suggestion_trains_a_regression(scale, samples):
    """A target in other units asks for another rate."""
    rng = np.random.default_rng(3)
    x = rng.standard_normal((samples, 8)).astype(np.float32)
    y = (scale * (x[:, :1] - x[:, 1:2] * x[:, 2:3])).astype(np.float32)
    t = trainer(net(0, 8, 64, 1), nn.MSELoss())
    found = find_lr(t, x, y)
    before = t.evaluate(x, y)["loss"]
    assert trained(t, found.suggestion, x, y, epochs=2 + 3000 // samples) < 0.35 * before


def test_the_suggestion_trains_twenty_samples_in_float64():
    x, y = blobs(20)
    t = trainer(net(0, 64, 32, 10, dtype="float64"))
    found = find_lr(t, x.astype(np.float64), y)
    assert trained(t, found.suggestion, x, y, epochs=60) < 0.1


class Noisy:
    """A loss whose value, not its gradient, is noisy."""

    def __init__(self, spread):
        self.loss, self.spread = nn.CrossEntropyLoss(), spread
        self.rng = np.random.default_rng(0)

    def __call__(self, y, target):
        loss, dy = self.loss(y, target)
        return float(loss) + self.spread * self.rng.standard_normal(), dy


@pytest.mark.parametrize("spread", [0.05, 0.3])
def test_a_noisy_loss_does_not_mislead(spread):
    x, y = blobs()
    assert 0.01 <= find_lr(trainer(net(0, 64, 128, 10), Noisy(spread)), x, y).suggestion <= 1.5


@pytest.mark.parametrize("loss", [nn.CrossEntropyLoss(), Noisy(0.3)])
def test_where_nothing_can_be_learnt_there_is_no_number(loss):
    x, y = blobs()
    t = trainer(net(0, 64, 32, 10).freeze(), loss)
    found = find_lr(t, x, y)
    assert found.suggestion is None
    assert "no suggestion: no rate from 1e-07 to 10 lowers the loss" in found.reason
    assert len(found.lrs) == len(found.losses) == 100


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"min_lr": 1e4, "max_lr": 1e6}, "lower min_lr"),
        ({"min_lr": 1e-9, "max_lr": 1e-7}, "no rate from 1e-09 to 1e-07"),
    ],
)
def test_a_range_without_a_rate_that_works_says_so(options, words):
    x, y = blobs()
    found = find_lr(trainer(net(0, 64, 32, 10)), x, y, **options)
    assert found.suggestion is None
    assert words in found.reason


def test_a_loss_that_is_not_finite_at_the_start_is_refused():
    x, y = blobs()
    x[:, 3] = np.nan
    with pytest.raises(RuntimeError, match="loss is nan before the first step"):
        find_lr(trainer(net(0, 64, 32, 10)), x, y)


def test_groups_keep_the_ratio_of_their_rates():
    model = net(0, 4, 6, 2)
    groups = [{"params": list(model[0].parameters()), "lr": 0.2}]
    groups += [{"params": list(model[2].parameters()), "lr": 0.05}]
    optimizer = optim.SGD(groups, lr=0.1)
    seen = []

    class Watch(LRFinder):
        def on_before_step(self, run):
            super().on_before_step(run)
            seen.append([group["lr"] for group in run.optimizer.param_groups])

    t = Trainer(model, nn.CrossEntropyLoss(), optimizer, callbacks=[Watch()], progress=False)
    t.fit(X, Y, max_epochs=5)
    assert seen[0] == pytest.approx([1e-7, 0.25e-7])
    assert all(b == pytest.approx(a / 4) for a, b in seen)
    assert [group["lr"] for group in optimizer.param_groups] == [0.2, 0.05]


# Nothing else has changed.


class Spoilt:
    """Cross entropy that raises at its n-th call."""

    def __init__(self, error, at):
        self.loss, self.error, self.left = nn.CrossEntropyLoss(), error, at

    def __call__(self, y, target):
        self.left -= 1
        if self.left == 0:
            raise self.error
        return self.loss(y, target)


def rest(t):
    """Besides `everything`: gradients, modes, and what is drawn next."""
    return {
        "grads": {k: None if p.grad is None else p.grad.tobytes() for k, p in named(t)},
        "modes": [module.training for module in t.model.modules()],
        "random": nn.get_rng_state(t.model),
    }


def named(t):
    return t.model.named_parameters()


@pytest.mark.parametrize("kind", [optim.AdamW, momentum, optim.NAdam])
@pytest.mark.parametrize(
    ("error", "at"), [(None, 0), (ValueError, 1), (ValueError, 30), (KeyboardInterrupt, 400)]
)
@pytest.mark.parametrize("steps", [0, 2])
def test_everything_is_as_before_also_after_an_error(kind, error, at, steps):
    nn.manual_seed(4)
    model = nn.Sequential(
        nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(0.4), nn.Linear(6, 2)
    )
    optimizer = kind(model.parameters(), lr=0.02)
    t = Trainer(model, nn.CrossEntropyLoss(), optimizer, progress=False)
    if steps:
        t.fit(X, Y, max_epochs=steps)
    model.backward(nn.CrossEntropyLoss()(model(X), Y)[1])
    model[1].eval()
    before = flat(everything(t)) | flat(rest(t))
    if error is not None:
        t.loss = Spoilt(error, at)
        with pytest.raises(error):
            find_lr(t, X, Y, steps=40)
        t.loss = nn.CrossEntropyLoss()
    else:
        find_lr(t, X, Y, steps=40)
    assert flat(everything(t)) | flat(rest(t)) == before


def test_ctrl_c_restores_the_start():
    class Press(nn.Module):
        calls = 0

        def forward(self, x):
            type(self).calls += 1
            if type(self).calls == 50:
                signal.raise_signal(signal.SIGINT)
            return x

        def backward(self, dy, *, need_input_grad=True):
            return dy

    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), Press(), nn.Linear(6, 2))
    t = trainer(model, kind=optim.AdamW)
    before = flat(everything(t)) | flat(rest(t))
    with pytest.raises(KeyboardInterrupt):
        find_lr(t, X, Y)
    assert flat(everything(t)) | flat(rest(t)) == before


def test_the_callback_restores_the_start_and_suggests_a_tenth_of_the_least():
    x, y = blobs()
    model = net(0, 64, 128, 10)
    finder = LRFinder()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    before = {k: v.tobytes() for k, v in model.state_dict().items()}
    t = Trainer(
        model,
        nn.CrossEntropyLoss(),
        optimizer,
        callbacks=[finder],
        nonfinite="propagate",
        progress=False,
    )
    t.fit(x, y, max_epochs=5)
    assert {k: v.tobytes() for k, v in model.state_dict().items()} == before
    result = finder.result
    least = result.lrs[int(np.argmin(result.losses))]
    assert least / 12 < result.suggestion < least / 8
    assert "a tenth" in result.reason


# The curve.


def test_smoothing_does_not_lag():
    """The least of a smoothed valley is where it was."""
    at = np.arange(100)
    valley = (at - 60) ** 2.0
    assert int(np.argmin(smoothed(valley))) == 60
    np.testing.assert_allclose(smoothed(np.full(50, 3.0)), 3.0)


def test_divergence_is_three_in_a_row_or_far_off_or_not_finite():
    assert diverged(1.0, [0.9, math.inf])
    assert not diverged(1.0, [2.1, 0.9, 2.1, 2.1])
    assert diverged(1.0, [0.9, 2.1, 2.1, 2.1])
    assert diverged(1.0, [20.0])
    assert not diverged(1.0, [3.0, 3.0, 3.0], noise=0.5)


def test_the_chosen_rate_is_the_middle_of_those_that_train():
    lrs = list(np.geomspace(1e-3, 10, 37))
    curve = [2.0] * 20 + list(np.linspace(1.9, 0.5, 12)) + [0.6, 0.8, 1.0, 2, 3]

    def train(rate):
        return math.inf if rate > 2 else 0.1 if rate > 0.03 else 1.5

    rate, reason, trials = choose(2.0, lrs, curve, 0.0, train)
    good = [lr for lr, loss in trials if loss == 0.1]
    assert len(good) == 4
    assert rate == good[2]
    assert "equally well" in reason
    rates = [lr for lr, _ in trials]
    assert rates == sorted(rates, reverse=True)


def test_rates_that_all_fail_in_training_give_no_number():
    lrs = list(np.geomspace(1e-3, 10, 37))
    curve = list(np.linspace(2.0, 1.0, 37))
    result = judge(2.0, lrs, curve, lambda rate: math.inf)
    assert result.suggestion is None
    assert "did not lower" in result.reason


def test_the_plot_says_how_the_suggestion_was_chosen(tmp_path):
    pytest.importorskip("matplotlib")
    x, y = blobs()
    found = find_lr(trainer(net(0, 64, 32, 10)), x, y)
    found.plot(tmp_path / "lr.svg")
    text = (tmp_path / "lr.svg").read_text(encoding="utf-8")
    for words in (found.reason, "suggestion", "smoothed", "short training"):
        assert words in text.replace("\n", " ")
    nothing = find_lr(trainer(net(0, 64, 32, 10).freeze()), x, y)
    nothing.plot(tmp_path / "none.png")
    assert (tmp_path / "none.png").exists()


def test_a_loader_is_taken_and_keeps_its_epoch():
    from onepass.data import DataLoader

    x, y = blobs()
    loader = DataLoader(x, y, 32, shuffle=True)
    loader.epoch = 5
    assert 0.03 <= find_lr(trainer(net(0, 64, 128, 10)), loader).suggestion <= 0.7
    assert loader.epoch == 5


def test_accumulated_batches_are_one_step():
    t = make(scheduled=False, accumulate=2)
    assert len(find_lr(t, X, Y, steps=20, min_lr=1e-4).lrs) <= 20


@pytest.mark.parametrize(("options", "kind", "words"), [
    ({"max_lr": np.inf}, ValueError, "'max_lr' is inf, expected a number > 0 and finite"),
    ({"max_lr": np.nan}, ValueError, "'max_lr' is nan, expected a number > 0"),
    ({"max_lr": -1}, ValueError, "'max_lr' is -1, expected a number > 0"),
    ({"max_lr": 10**400}, ValueError, "'max_lr' is 10+, expected a number > 0 and finite"),
    ({"max_lr": None}, TypeError, "'max_lr' is None"),
    ({"min_lr": np.inf}, ValueError, "'min_lr' is inf, expected a number > 0 and < 10"),
    ({"min_lr": -np.inf}, ValueError, "'min_lr' is -inf"),
    ({"min_lr": 0}, ValueError, "'min_lr' is 0"),
    ({"min_lr": 20.0}, ValueError, "'min_lr' is 20.0, expected a number > 0 and < 10"),
    ({"steps": np.inf}, TypeError, "'steps' is inf"),
    ({"steps": -3}, ValueError, "'steps' is -3"),
    ({"maxlr": 3}, TypeError, "unknown keyword 'maxlr'; did you mean 'max_lr'"),
])  # fmt: skip
@pytest.mark.parametrize("call", [find_lr, LRFinder], ids=["find_lr", "LRFinder"])
def test_numbers_that_are_no_range_of_rates(call, options, kind, words):
    trainer = make(scheduled=False)
    before = everything(trainer)
    data = (trainer, X, Y) if call is find_lr else ()
    with pytest.raises(kind, match=f"^{call.__name__}: {words}"):
        call(*data, **options)
    assert everything(trainer) == before


@pytest.mark.parametrize("what", [3, None, nn.Sequential(nn.Linear(4, 2))])
def test_a_rate_is_found_for_a_trainer(what):
    with pytest.raises(TypeError, match=r"find_lr: 'trainer' is a .*, expected a Trainer"):
        find_lr(what, X, Y)
