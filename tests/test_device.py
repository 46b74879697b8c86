"""Modules, optimizers and the trainer on CUDA: on fake_cupy's arrays, with the simulator behind it.

What runs on the device is compared with the same on the CPU.
"""

from __future__ import annotations

import pickle
import sys

import fake_cupy
import numpy as np
import pages
import pytest
from helpers import each_variant
from onepass import cli, config, nn, optim
from onepass.data import DataLoader
from onepass.optim.full_batch import GradientDescent, Newton
from onepass.optim.lr_scheduler import CosineAnnealingLR
from onepass.train import Checkpoint, EarlyStopping, Ensemble, Trainer
from onepass.train.regularizers import L1, L2, ActivationSparsity, Jacobian, SoftOrthogonality

pytestmark = pytest.mark.usefixtures("cupy")


def values(shape, dtype="float32", seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def on_host(array):
    assert isinstance(array, fake_cupy.ndarray)
    return array.get()


def assert_near(actual, expected, dtype="float32"):
    tolerance = {"float32": 2e-5, "float64": 1e-12}[np.dtype(dtype).name]
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance)


MODELS = {
    "linear": (lambda d: nn.Linear(5, 3, dtype=d), (7, 5)),
    "linear gelu dropout": (
        lambda d: nn.Sequential(nn.Linear(5, 6, dtype=d), nn.GELU(), nn.Dropout(0.4)),
        (7, 5),
    ),
    "batch norm": (lambda d: nn.BatchNorm1d(5, dtype=d), (7, 5)),
    "average batch norm": (lambda d: nn.BatchNorm1d(5, momentum=None, dtype=d), (7, 5)),
    "batch norm relu dropout": (
        lambda d: nn.Sequential(nn.BatchNorm2d(3, dtype=d), nn.ReLU(), nn.Dropout(0.3)),
        (4, 3, 5, 2),
    ),
    "volume": (lambda d: nn.Sequential(nn.BatchNorm3d(2, dtype=d), nn.Flatten()), (3, 2, 2, 3, 2)),
    "residual": (
        lambda d: nn.Sequential(
            nn.Residual(nn.Linear(5, 5, dtype=d), nn.BatchNorm1d(5, dtype=d)),
            nn.LeakyReLU(0.2),
        ),
        (7, 5),
    ),
    "convolutions": (
        lambda d: nn.Sequential(
            nn.Conv2d(3, 4, 3, padding="same", dtype=d),
            nn.ReLU(),
            nn.Dropout(0.3),
            nn.MaxPool2d(2),
            nn.Conv2d(4, 4, 3, groups=4, padding=1, dtype=d),
            nn.Conv2d(4, 6, 1, groups=2, dtype=d),
            nn.BatchNorm2d(6, dtype=d),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
        ),
        (3, 3, 6, 7),
    ),
    "convolutions, channels last": (
        lambda d: nn.Sequential(
            nn.Conv2d(3, 4, 3, 2, 1, channels_last=True, dtype=d),
            nn.ReLU(),
            nn.Dropout(0.3),
            nn.Conv2d(4, 4, 3, groups=4, padding=1, dtype=d),
            nn.BatchNorm2d(4, dtype=d),
            nn.Conv2d(4, 6, 1, dtype=d),
            nn.AvgPool2d(2),
            nn.Flatten(),
        ),
        (3, 3, 8, 9),
    ),
    "unfused": (
        lambda d: nn.Sequential(
            nn.Linear(5, 4, dtype=d), nn.Tanh(), nn.Sigmoid(), nn.Dropout(0.2), fuse=False
        ),
        (7, 5),
    ),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", MODELS)
def test_modules_compute_what_they_do_on_the_cpu(kind, dtype):
    make, shape = MODELS[kind]
    x = values(shape, dtype)
    results = []
    for device in ("cpu", "cuda"):
        nn.manual_seed(3)
        model = make(dtype).to(device)
        place = fake_cupy.asarray if device == "cuda" else np.asarray
        back = on_host if device == "cuda" else np.asarray
        for turn in range(2):
            y = model(place(x))
            dx = model.backward(place(values(y.shape, dtype, 1 + turn)))
        numbers = [back(y), back(dx), *(back(p.grad) for p in model.parameters())]
        model.eval()
        numbers += [back(model(place(x)))]
        state = model.state_dict()
        numbers += [v if v.ndim == 0 else back(v) for v in state.values()]
        results.append(numbers)
    for actual, expected in zip(results[1], results[0], strict=True):
        assert actual.dtype == expected.dtype
        assert_near(actual, expected, dtype)
    assert any(np.abs(number).max() > 0.1 for number in results[0])


def test_a_state_goes_from_device_to_device():
    nn.manual_seed(1)
    here, there = (nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)) for _ in range(2))
    there.to("cuda:1")
    assert there[0].weight.data.device.id == 1
    there.load_state_dict(here.state_dict())
    again = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    again.load_state_dict(there.state_dict())
    for name, value in here.state_dict().items():
        np.testing.assert_array_equal(again.state_dict()[name], value)
    copy = pickle.loads(pickle.dumps(there))
    np.testing.assert_array_equal(on_host(copy[0].weight.data), here[0].weight.data)
    there.to("cpu")
    assert isinstance(there[0].weight.data, np.ndarray)


def test_arrays_and_model_on_two_devices_are_one_error():
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU()).to("cuda")
    with pytest.raises(TypeError, match="move the model"):
        model(values((2, 4)))
    with pytest.raises(ValueError, match="'cuda:N'"):
        model.to("gpu")
    assert isinstance(model[0].weight.data, fake_cupy.ndarray)
    y = model(fake_cupy.asarray(values((2, 4))))
    assert y.shape == (2, 3)


def train_steps(model, optimizer, steps, device, first=0):
    place = fake_cupy.asarray if device == "cuda" else np.asarray
    loss = nn.CrossEntropyLoss(label_smoothing=0.1)
    losses = []
    for step in range(first, first + steps):
        x, y = values((8, 5), seed=step), np.arange(8) % 3
        value, dy = loss(model(place(x)), place(y))
        model.backward(dy)
        info = optimizer.step(max_norm=0.5, nonfinite="skip", zero_grad=True)
        losses += [float(value), float(info.grad_norm)]
        assert not info.skipped
    return losses


@each_variant
def test_an_optimizer_follows_its_parameters(variant):
    runs = []
    for devices in (("cpu", "cpu", "cpu"), ("cpu", "cuda", "cpu")):
        nn.manual_seed(5)
        # No bias: in front of a batch norm its gradient is rounding, which Adam makes steps of.
        model = nn.Sequential(
            nn.Linear(5, 6, bias=False), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3)
        )
        optimizer = variant.make(model.parameters(), lr=0.01)
        losses = []
        for number, device in enumerate(devices):
            model.to(device)
            losses += train_steps(model, optimizer, 3, device, 3 * number)
        state = optimizer.state_dict()["state"]
        runs.append((losses, model.state_dict(), state))
    assert_near(runs[1][0], runs[0][0])
    for name, value in runs[0][1].items():
        np.testing.assert_allclose(runs[1][1][name], value, rtol=2e-4, atol=2e-5)
    assert [s["step"] for s in runs[1][2].values()] == [9] * len(runs[0][2])
    assert all(isinstance(a, np.ndarray) for a in runs[1][2][0].values() if hasattr(a, "shape"))


def make_trainer(device, *callbacks, **options):
    nn.manual_seed(2)
    model = nn.Sequential(
        nn.Linear(5, 8, bias=False),
        nn.BatchNorm1d(8),
        nn.ReLU(),
        nn.Dropout(0.2),
        nn.Linear(8, 3),
    )
    optimizer = optim.AdamW(model.parameters(), lr=0.05)
    weight = np.array([1, 2, 1], np.float32)
    return Trainer(
        model, nn.CrossEntropyLoss(weight), optimizer, metrics=["accuracy"], callbacks=callbacks,
        scheduler=CosineAnnealingLR(optimizer, T_max=12, interval="step"), max_norm=1.0,
        progress=False, device=device, **options,
    )  # fmt: skip


def table(rows=48):
    X = values((rows, 5), seed=9)
    return X, (X[:, :3] + 0.1 * values((rows, 3), seed=8)).argmax(axis=1)


def test_the_trainer_on_a_device():
    X, y = table()
    histories, predictions = [], []
    for device in ("cpu", "cuda"):
        trainer = make_trainer(device, EarlyStopping(patience=9))
        histories.append(trainer.fit(X, y, max_epochs=8, batch_size=16, validation_split=0.25))
        predictions.append(trainer.predict(X))
        assert trainer.evaluate(X, y)["accuracy"] > 0.5
    assert isinstance(trainer.model[0].weight.data, fake_cupy.ndarray)
    assert set(histories[0]) == set(histories[1])
    for name, numbers in histories[0].items():
        np.testing.assert_allclose(histories[1][name], numbers, rtol=1e-3, atol=1e-4)
    assert histories[0]["loss"][-1] < histories[0]["loss"][0]
    assert isinstance(predictions[1], np.ndarray)
    np.testing.assert_allclose(predictions[1], predictions[0], rtol=1e-3, atol=1e-3)


def regularized(device, make):
    X, y = table()
    nn.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Dropout(0.2), nn.Linear(8, 3)
    )
    trainer = Trainer(
        model, nn.CrossEntropyLoss(), make(model.parameters()), progress=False, device=device,
        regularizers=[L2(0.01), L1(0.01), SoftOrthogonality(0.01), Jacobian(0.01, eps=0.1),
                      ActivationSparsity(0.01)],
    )  # fmt: skip
    history = trainer.fit(X, y, max_epochs=4, batch_size=len(X), shuffle=False)
    return history, Ensemble([trainer]).predict(X)


@pytest.mark.parametrize(
    "make",
    [
        lambda p: optim.SGD(p, lr=0.1),
        lambda p: optim.LBFGS(p, max_iter=3, line_search_fn="strong_wolfe"),
        GradientDescent,
        lambda p: Newton(p, cg_max_iter=3),
    ],
    ids=["sgd", "lbfgs", "descent", "newton"],
)
def test_penalties_and_searches_on_a_device(make):
    (here, first), (there, second) = regularized("cpu", make), regularized("cuda", make)
    assert set(here) == set(there)
    for name in ("l2", "l1", "soft_orthogonality", "jacobian", "activation_sparsity", "loss"):
        np.testing.assert_allclose(there[name], here[name], rtol=3e-3, atol=1e-4, err_msg=name)
    np.testing.assert_allclose(second, first, rtol=5e-2, atol=1e-2)


def test_data_that_is_on_the_device_already():
    X, y = table()
    runs = []
    for device, place in ((None, np.asarray), ("cuda", np.asarray), ("cuda", fake_cupy.asarray)):
        trainer = make_trainer(device)
        history = trainer.fit(
            place(X), place(y), max_epochs=2, batch_size=16, validation_split=0.25
        )
        runs.append((history, trainer.predict(place(X))))
    np.testing.assert_array_equal(runs[2][0]["loss"], runs[1][0]["loss"])
    np.testing.assert_array_equal(on_host(runs[2][1]), runs[1][1])
    np.testing.assert_allclose(runs[2][0]["loss"], runs[0][0]["loss"], rtol=1e-4)


@pytest.mark.parametrize("second", ["cuda", "cpu"])
def test_a_run_resumes_on_either_device(tmp_path, second):
    X, y = table()
    whole = make_trainer("cuda")
    whole.fit(X, y, max_epochs=3, batch_size=16)
    make_trainer("cuda", Checkpoint(tmp_path)).fit(X, y, max_epochs=2, batch_size=16)
    resumed = make_trainer(second)
    resumed.fit(X, y, max_epochs=3, batch_size=16, ckpt_path=tmp_path)
    if second == "cuda":
        assert resumed.history["loss"] == whole.history["loss"]
        for name, value in whole.model.state_dict().items():
            np.testing.assert_array_equal(
                fake_cupy.asnumpy(resumed.model.state_dict()[name]), fake_cupy.asnumpy(value)
            )
    else:
        assert_near(resumed.history["loss"], whole.history["loss"], "float32")


def test_a_loss_that_is_not_finite_is_told_on_a_device():
    X, y = table(32)
    X[20] = np.nan
    trainer = make_trainer("cuda")
    with pytest.raises(FloatingPointError, match="the loss is nan in epoch 1"):
        trainer.fit(X, y, max_epochs=1, batch_size=8)
    skipping = make_trainer("cuda", nonfinite="skip")
    skipping.fit(X, y, max_epochs=1, batch_size=8)
    assert skipping.skipped_steps == 1
    for value in skipping.model.parameters():
        assert np.isfinite(on_host(value.data)).all()
    for norm in (trainer.model[1], skipping.model[1]):
        assert np.isfinite(on_host(norm.running_mean)).all()
        assert np.isfinite(on_host(norm.running_var)).all()
    assert int(skipping.model[1].num_batches_tracked) == 3


def test_float64_data_for_a_model_on_a_device():
    X, y = table()
    wide = X.astype(np.float64)
    runs = [
        make_trainer("cuda").fit(data, y, max_epochs=1, batch_size=16)
        for data in (X, wide, fake_cupy.asarray(wide))
    ]
    assert runs[0] == runs[1] == runs[2]


def test_a_loader_over_device_arrays_moves_the_order_alone():
    X, y = (fake_cupy.asarray(a) for a in table())
    loader = DataLoader(X, y, batch_size=16, shuffle=True, seed=4)
    fake_cupy.state.synchronised = 0
    batches = list(loader)
    assert fake_cupy.state.synchronised == 0
    expected = list(DataLoader(X.get(), y.get(), batch_size=16, shuffle=True, seed=4))
    for (x, target), (x0, target0) in zip(batches, expected, strict=True):
        np.testing.assert_array_equal(on_host(x), x0)
        np.testing.assert_array_equal(on_host(target), target0)


@pytest.mark.parametrize("data", ["digits", "diabetes"])
def test_the_command_line_on_a_device(data, tmp_path, capsys, monkeypatch):
    pytest.importorskip("sklearn")
    monkeypatch.setattr(config, "cuda_available", lambda: True)
    arguments = ["train", data, "--device", "cuda", "--epochs", "1", "--hidden", "8"]
    arguments += ["--batch-size", "256", "--out", str(tmp_path)]
    assert cli.main(arguments) == 0, capsys.readouterr()
    assert "held-out part" in capsys.readouterr().out
    assert (tmp_path / "history.csv").is_file()
    assert cli.main([*arguments[:5], "2", *arguments[6:], "--resume"]) == 0


@pytest.mark.parametrize("data", ["iris", "diabetes"])
def test_a_saved_run_predicts_on_a_device(data, tmp_path, capsys, monkeypatch):
    pytest.importorskip("sklearn")
    monkeypatch.setattr(config, "cuda_available", lambda: True)
    arguments = ["train", data, "--epochs", "1", "--hidden", "8", "--out", str(tmp_path), "--quiet"]
    assert cli.main(arguments) == 0
    capsys.readouterr()
    for command in ("predict", "evaluate"):
        shown = []
        for device in ("cpu", "cuda"):
            assert cli.main([command, str(tmp_path), data, "--device", device]) == 0
            shown.append(capsys.readouterr().out)
        assert shown[0] == shown[1] != ""
    monkeypatch.setattr(config, "cuda_available", lambda: False)
    assert cli.main(["predict", str(tmp_path), data, "--device", "cuda"]) == 2
    assert "--device cuda: " in capsys.readouterr().err


def test_the_command_line_says_why_there_is_no_device(monkeypatch, capsys):
    monkeypatch.setattr(config, "cuda_why_not", lambda: "no such thing")
    monkeypatch.setattr(config, "cuda_available", lambda: False)
    assert cli.main(["train", "digits", "--device", "cuda"]) == 2
    assert "no such thing" in capsys.readouterr().err


def test_a_machine_without_cupy(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(RuntimeError, match="pip install cupy"):
        nn.Linear(2, 2).to("cuda")


def test_a_whole_model_is_initialised_folded_and_given_statistics_on_the_device():
    results = []
    for device in ("cpu", "cuda"):
        nn.manual_seed(3)
        model = nn.Sequential(
            nn.Linear(5, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.WeightNorm(nn.Linear(6, 4)),
            nn.BatchNorm1d(4),
        ).to(device)  # fmt: skip
        x = values((12, 5))
        x = x if device == "cpu" else fake_cupy.cupy.asarray(x)
        report = nn.init.apply(model, seed=5)
        nn.update_batch_norm(model, [x[:8], x[8:]])
        folded = nn.fold_batch_norm(model)
        assert len(folded) == 3
        y = [model.eval()(x), folded(x), model[1].running_var, model[0].weight.data]
        results.append((report, [a if device == "cpu" else on_host(a) for a in y]))
    (here, on_cpu), (there, on_device) = results
    assert here == there
    for a, b in zip(on_cpu, on_device, strict=True):
        assert_near(a, b)


@pytest.mark.parametrize("page", [page for page in pages.PAGES if pages.needs(page, "cupy")])
def test_the_pages_on_cupy_print_what_they_say(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert pages.run(page) > 0
