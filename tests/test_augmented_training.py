"""Training with augmentation: on training batches alone, after a resume, with every loss."""

import functools

import numpy as np
import pytest
from onepass import nn, optim
from onepass.data import DataLoader
from onepass.data.augment import (
    Compose,
    CutMix,
    GaussianNoise,
    Mixup,
    RandomAffine,
    RandomCrop,
    RandomFlip,
)
from onepass.train import Callback, Checkpoint, Trainer
from small_training import KilledError, StopAt, everything, flat
from test_augment_laws import EXAMPLES

N, CLASSES = 24, 3
GENERATOR = np.random.default_rng(0)
X = GENERATOR.random((N, 1, 6, 6), np.float32)
Y = np.arange(N) % CLASSES
STEPS = 3 * 4

PLANS = {
    "images": Compose([RandomAffine(20, (0.2, 0.2)), GaussianNoise(sigma=0.05), RandomFlip()]),
    "mixup": Compose([RandomCrop(6, padding=1), Mixup(0.4, num_classes=CLASSES)]),
    "cutmix": CutMix(num_classes=CLASSES),
}


def network(outputs=CLASSES):
    nn.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.3),
        nn.Linear(64, outputs),
    )  # fmt: skip


def make(callbacks=(), loss=None, **options):
    model = network(options.pop("outputs", CLASSES))
    return Trainer(
        model, loss or nn.CrossEntropyLoss(), optim.AdamW(model.parameters(), lr=0.01),
        callbacks=callbacks, progress=False, **{"metrics": ["accuracy"], **options},
    )  # fmt: skip


def fit(trainer, transform, **options):
    defaults = {"max_epochs": 3, "batch_size": 6, "validation_data": (X[:9], Y[:9])}
    return trainer.fit(X, Y, transform=transform, **{**defaults, **options})


@pytest.fixture(scope="module")
def whole():
    @functools.cache
    def of(plan, split):
        t = make()
        fit(t, PLANS[plan], **split_of(split))
        return everything(t)

    return of


def split_of(split):
    return {"validation_data": None, "validation_split": 0.25} if split else {}


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("workers", [0, 1, 3])
def test_any_number_of_workers_trains_the_same(plan, workers, whole):
    t = make()
    fit(t, PLANS[plan], num_workers=workers)
    assert flat(everything(t)) == flat(whole(plan, False))
    u = make()
    fit(u, None)
    assert everything(u)["model"] != everything(t)["model"]


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("step", [1, 3, 4, 7, 11])
@pytest.mark.parametrize("split", [False, True])
def test_a_resume_inside_an_epoch_goes_on_bit_for_bit(plan, step, split, whole, tmp_path):
    options = split_of(split)
    if split and step == 11:
        step = 8
    with pytest.raises(KilledError):
        fit(make([Checkpoint(tmp_path, every_n_steps=1), StopAt(step)]), PLANS[plan], **options)
    t = make([Checkpoint(tmp_path, every_n_steps=1)])
    fit(t, PLANS[plan], ckpt_path=tmp_path, num_workers=2, **options)
    assert flat(everything(t)) == flat(whole(plan, split))


def test_a_resume_with_another_transform_is_told(tmp_path):
    with pytest.raises(KilledError):
        fit(make([Checkpoint(tmp_path / "a", every_n_steps=1), StopAt(2)]), PLANS["cutmix"])
    with pytest.raises(
        ValueError, match=r"'transform' is .*None.*CutMix\(alpha=1.0, num_classes=3"
    ):
        fit(make(), None, ckpt_path=tmp_path / "a")
    fit(make([Checkpoint(tmp_path / "b")]), PLANS["cutmix"], max_epochs=1)
    with pytest.warns(RuntimeWarning, match=r"had transform=.*CutMix.* goes on with .*RandomCrop"):
        fit(make(), PLANS["mixup"], ckpt_path=tmp_path / "b")


def doubled(X, y, *, seed, epoch, index):
    return X * 2, y


def test_functions_of_the_user_are_the_same_in_every_process(tmp_path):
    """No address of one comes into a checkpoint."""
    for transform in (doubled, Compose([RandomFlip(), doubled]), functools.partial(doubled)):
        t = make()
        fit(t, transform)
        assert " at 0x" not in t.data["transform"]
        assert "doubled" in t.data["transform"]


def test_validation_evaluate_and_predict_leave_the_transform_out():
    seen = []

    def spoils(X, y, *, index, **_):
        seen.extend(index.tolist())
        return X * 0, y

    loader = DataLoader(X, Y, 6, shuffle=True, transform=spoils)
    t = make()
    plain = t.evaluate(X, Y)
    assert t.evaluate(loader) == pytest.approx(plain)
    np.testing.assert_array_equal(t.predict(loader), t.predict(X, batch_size=6))
    assert seen == []
    t.fit(X, Y, max_epochs=1, batch_size=6, validation_data=loader)
    assert seen == []
    assert t.history["val_loss"][-1] == pytest.approx(t.evaluate(X, Y)["loss"])
    fit(make(), spoils, max_epochs=1)
    assert sorted(seen) == [*range(N)]
    assert loader.transform is spoils


def test_a_transform_may_change_the_shape_and_the_dtype():
    larger = np.pad(X, ((0, 0), (0, 0), (2, 2), (2, 2)))
    whole_numbers = (larger * 255).astype(np.uint8)

    def scaled(X, y, **_):
        return X / np.float32(255), y

    t = make()
    options = {"max_epochs": 2, "batch_size": 4, "validation_data": (X, Y)}
    t.fit(whole_numbers, Y, transform=Compose([RandomCrop(6), scaled]), **options)
    assert np.isfinite(t.history["loss"]).all()
    with pytest.raises(ValueError, match=r"samples of shape \(1, 6, 6\), expected \(1, 8, 8\)"):
        make().fit(larger, Y, transform=RandomCrop(8), **options)


LOSSES = {
    "cross entropy": (nn.CrossEntropyLoss(), CLASSES, CLASSES, Y),
    "smoothed": (nn.CrossEntropyLoss(label_smoothing=0.1), CLASSES, CLASSES, Y),
    "weighted": (nn.CrossEntropyLoss(np.float32([1, 2, 3])), CLASSES, CLASSES, Y),
    "sum": (nn.CrossEntropyLoss(reduction="sum"), CLASSES, CLASSES, Y),
    "logits": (nn.BCEWithLogitsLoss(), 1, None, (Y[:, None] > 0).astype(np.float32)),
    "shares": (nn.BCEWithLogitsLoss(), CLASSES, CLASSES, Y),
    "numbers": (nn.MSELoss(), 1, None, Y[:, None].astype(np.float32)),
    "huber": (nn.HuberLoss(), 1, None, Y[:, None].astype(np.float64)),
}


@pytest.mark.parametrize("mix", [Mixup, CutMix])
@pytest.mark.parametrize("name", LOSSES)
def test_losses_take_the_targets_of_mixes(mix, name):
    """The loss of an epoch is that of the batches as they were mixed, by the loss itself."""
    loss, outputs, classes, y = LOSSES[name]
    transform = mix(0.5, num_classes=classes)
    t = make(loss=loss, outputs=outputs, metrics=())
    expected = []

    class Same(Callback):
        def on_step_end(self, run):
            batches = DataLoader(X, y, 6, True, seed=0, transform=transform).batches(0)
            target = run.moved([*batches][run.step - 1][1])
            expected.append(float(loss(outputs_seen[-1], target)[0]))
            assert run.batch_loss == pytest.approx(expected[-1], rel=1e-6)

    outputs_seen = []
    called = loss.__class__.__call__

    class Watched(type(loss)):
        def __call__(self, output, target):
            outputs_seen.append(np.array(output))
            return called(self, output, target)

    loss.__class__ = Watched
    try:
        t.callbacks = [Same()]
        t.fit(X, y, max_epochs=1, batch_size=6, transform=transform)
    finally:
        loss.__class__ = Watched.__mro__[1]
    assert len(expected) == 4
    total = sum(expected) if name == "sum" else np.mean(expected)
    assert t.history["loss"][0] == pytest.approx(total, rel=1e-6)


@pytest.mark.parametrize("mix", [Mixup, CutMix])
def test_metrics_and_weights_go_with_mixes(mix):
    t = make(metrics=["accuracy", "balanced_accuracy", "top_2_accuracy"])
    weights = np.linspace(0.5, 2, N)
    for options in ({}, {"sample_weight": weights}, {"class_weight": {0: 2.0}}):
        t.fit(
            X,
            Y,
            max_epochs=t.epoch + 1,
            batch_size=6,
            transform=mix(num_classes=CLASSES),
            **options,
        )
        assert np.isfinite([t.history[name][-1] for name in ("loss", "accuracy")]).all()
        assert 0 <= t.history["top_2_accuracy"][-1] <= 1


def test_a_weight_of_a_mixed_sample_is_that_of_its_own_place():
    weights, seen = np.arange(1.0, N + 1), []
    transform = Mixup(num_classes=CLASSES)
    loader = DataLoader(X, Y, 6, True, sample_weight=weights, transform=transform)
    for x, y, w in loader.batches(0):
        seen.extend(w.tolist())
        assert y.shape == (len(x), CLASSES)
    assert seen == weights[loader.order(0)].tolist()


def test_every_class_trains_through_fit():
    """As they are called by a loader: batches of views, the last one smaller."""
    for transform in EXAMPLES:
        model = nn.Sequential(nn.AdaptiveAvgPool2d(6), *network(outputs=5).layers)
        optimizer = optim.AdamW(model.parameters(), lr=0.01)
        t = Trainer(model, nn.CrossEntropyLoss(), optimizer, progress=False)
        t.fit(X[:23], Y[:23], max_epochs=1, batch_size=6, shuffle=False, transform=transform)
        assert np.isfinite(t.history["loss"]).all(), transform


def test_augmentation_teaches_what_it_varies():
    """Digits moved by a pixel: a network that has not seen such is wrong on half of them."""
    sklearn = pytest.importorskip("sklearn.datasets")
    digits, labels = sklearn.load_digits(return_X_y=True)
    images = np.float32(digits / 16).reshape(-1, 1, 8, 8)
    train, test, y, truth = images[:200], images[1000:], labels[:200], labels[1000:]
    moved, _ = RandomCrop(8, padding=1)(test, None, seed=9, epoch=0, index=range(len(test)))
    accuracy = {}
    for name, transform in (("plain", None), ("moved", RandomCrop(8, padding=1))):
        nn.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
        optimizer = optim.Adam(model.parameters(), lr=1e-3)
        t = Trainer(model, nn.CrossEntropyLoss(), optimizer, metrics=["accuracy"], progress=False)
        t.fit(train, y, max_epochs=60, transform=transform)
        accuracy[name] = t.evaluate(moved, truth)["accuracy"]
    assert accuracy["moved"] > accuracy["plain"] + 0.2
