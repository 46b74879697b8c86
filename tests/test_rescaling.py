"""Rescaling: bytes of images in front of a model, in training, validation and predictions."""

import pickle

import fake_cupy
import numpy as np
import pytest
from onepass import nn, optim
from onepass.data.augment import Compose, RandomFlip
from onepass.train import Trainer
from small_models import normal

IMAGES = np.random.default_rng(0).integers(0, 256, (24, 1, 6, 6)).astype(np.uint8)
TARGETS = np.arange(24) % 3
SCALE, OFFSET = 1 / 127.5, -1.0


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int64", "float16", "float32", "float64"])
@pytest.mark.parametrize("width", ["float32", "float64"])
def test_values_and_gradients(dtype, width):
    layer = nn.Rescaling(SCALE, OFFSET, dtype=width)
    x = IMAGES[:, 0].transpose(0, 2, 1).astype(dtype)
    before, kind = x.copy(), dtype if dtype.startswith("float") else width
    y = layer(x)
    assert y.dtype == kind
    eps = np.finfo(kind).eps
    np.testing.assert_allclose(y, before * SCALE + OFFSET, rtol=0, atol=3 * eps)
    np.testing.assert_array_equal(x, before)
    dy = normal(x.shape, kind)
    dx = layer.backward(dy)
    assert dx.dtype == kind
    np.testing.assert_allclose(dx, dy * SCALE, rtol=2 * eps)
    assert layer.backward(dy, need_input_grad=False) is None


def test_white_is_one():
    assert nn.Rescaling(1 / 255)(np.uint8([0, 255])).tolist() == [0.0, 1.0]


def test_it_is_a_module_like_others(monkeypatch):
    layer = nn.Rescaling(0.5, 1)
    assert repr(pickle.loads(pickle.dumps(layer))) == "Rescaling(scale=0.5, offset=1.0)"
    assert repr(nn.Rescaling(2, dtype="float64")) == (
        "Rescaling(scale=2.0, offset=0.0, dtype='float64')"
    )
    nn.gradcheck(layer, normal((3, 4)))
    nn.gradcheck(nn.Sequential(nn.Rescaling(1 / 255), nn.Linear(6, 3)), IMAGES[:2])
    model = nn.Sequential(nn.Rescaling(1 / 255), nn.Linear(36, 3))
    assert nn.init.apply(model)["1.weight"].scheme == "xavier_normal"
    fake_cupy.install(monkeypatch)
    y = layer(fake_cupy.asarray(np.uint8([2, 4])))
    assert (type(y), y.get().tolist()) == (fake_cupy.ndarray, [2.0, 3.0])


@pytest.mark.parametrize(
    ("x", "kind"),
    [
        (None, "None"),
        ([1], "a list"),
        (np.ones(2, bool), "bool"),
        ("ab", "a str"),
        (np.uint8(3), "a uint8"),
    ],
)
def test_what_is_no_array_of_numbers_is_refused(x, kind):
    with pytest.raises(TypeError, match=f"^Rescaling: x (is|has dtype) {kind}"):
        nn.Rescaling(1)(x)


def test_wrong_arguments():
    for arguments, words in (
        ({"scale": np.nan}, "'scale' is nan"),
        ({"scale": 1, "offset": np.inf}, "'offset' is inf"),
        ({"scale": 1, "dtype": "uint8"}, "'dtype' is 'uint8'"),
    ):
        with pytest.raises(ValueError, match=f"^Rescaling: {words}"):
            nn.Rescaling(**arguments)
    layer = nn.Rescaling(1)
    layer(np.uint8([1]))
    with pytest.raises(TypeError, match="dy is numpy float64, expected numpy float32"):
        layer.backward(np.ones(1))


def trainer(*front):
    nn.manual_seed(0)
    model = nn.Sequential(*front, nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    return Trainer(model, nn.CrossEntropyLoss(), optimizer, progress=False)


def test_images_in_bytes_are_trained_validated_and_predicted_as_those_in_floats(tmp_path):
    np.save(tmp_path / "x.npy", IMAGES)
    options = {"max_epochs": 2, "batch_size": 6, "validation_split": 0.25}
    plain = trainer()
    flipped, floats = RandomFlip(), nn.Rescaling(1 / 255)(IMAGES)
    plain.fit(floats, TARGETS, transform=flipped, **options)
    for images in (IMAGES, np.load(tmp_path / "x.npy", mmap_mode="r")):
        t = trainer(nn.Rescaling(1 / 255))
        t.fit(images, TARGETS, transform=flipped, **options)
        assert t.history == plain.history
        np.testing.assert_array_equal(t.predict(images), plain.predict(floats))
        assert t.evaluate(images, TARGETS) == plain.evaluate(floats, TARGETS)


def test_validation_in_floats_is_refused_where_training_is_in_bytes():
    """It would be scaled twice."""
    t = trainer(nn.Rescaling(1 / 255))
    with pytest.raises(TypeError, match=r"samples of float32, expected uint8 as in training$"):
        t.fit(IMAGES, TARGETS, max_epochs=1, validation_data=(IMAGES / np.float32(255), TARGETS))


def scaled(X, y, **_):
    return X / np.float32(255), y


def test_a_transform_that_scales_is_not_enough_and_says_so_before_training():
    """It is for training alone; with Rescaling behind it training would be scaled twice."""
    transform = Compose([RandomFlip(), scaled])
    for front in ((), (nn.Rescaling(1 / 255),)):
        for validation in (
            {"validation_split": 0.25},
            {"validation_data": (IMAGES, TARGETS)},
            {"validation_data": list(zip(IMAGES, TARGETS, strict=True))},
        ):
            t = trainer(*front)
            with pytest.raises(TypeError, match=r"of uint8, expected float32 .* nn\.Rescaling as"):
                t.fit(IMAGES, TARGETS, transform=transform, max_epochs=1, **validation)
            assert t.epoch == t.position == 0
    trainer().fit(
        IMAGES, TARGETS, transform=transform, max_epochs=1, validation_data=scaled(IMAGES, TARGETS)
    )


def test_a_model_that_takes_no_bytes_names_the_cure():
    with pytest.raises(
        TypeError, match=r"x has dtype uint8, .*model with nn\.Rescaling\(1 / 255\)"
    ):
        trainer().predict(IMAGES)
    with pytest.raises(TypeError, match=r"x has dtype int64, .*astype\('float32'\)$"):
        nn.Linear(3, 3)(np.ones((2, 3), np.int64))
