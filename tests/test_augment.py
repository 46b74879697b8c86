"""What all transforms share: random numbers, seeds, fills, arguments."""

import inspect
import math

import numpy as np
import pytest
from onepass.data import augment
from onepass.data.augment import _draws, _sample
from onepass.data.augment._draws import Draws, seed_of_part
from small_augment import (
    call,
    images,
)


@pytest.mark.parametrize("samples", [0, 1, 4, _draws.MANY - 1, _draws.MANY, 3 * _draws.MANY])
@pytest.mark.parametrize("key", [(7, 9), (2**64 - 1, 2**64 - 1), (0, 0)])
def test_words_are_philox_at_the_samples_own_counter(samples, key):
    index = np.array([0, 3, 2**63, 2**64 - 1, *range(9, 9 + samples)], np.uint64)[:samples]
    numbers = Draws("RandomFlip", *key, index)
    name = _draws.zlib.crc32(b"RandomFlip")
    key = np.array(key, np.uint64)
    for part, count in enumerate((5, 2, *range(1, 19))):
        got = numbers.words(count)
        assert got.shape == (samples, count)
        for row, place in zip(got, index, strict=True):
            counter = np.array([0, name + (part << 32), place, 1], np.uint64)
            want = np.random.Philox(key=key, counter=counter).random_raw(count)
            np.testing.assert_array_equal(row, want)


def test_numbers_stay_the_same_from_release_to_release():
    """These words make a run of today the run of tomorrow."""
    X = np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4) / 16
    got, _ = call(augment.RandomCrop(2), X, index=[4])
    assert got.ravel().tolist() == FIRST["crop"]
    words = Draws("A", 1, 2, np.array([3], np.uint64)).words(2)
    assert words.tolist() == FIRST["words"]
    assert seed_of_part(1, 2) == FIRST["part"]


FIRST = {
    "crop": [0.5625, 0.625, 0.8125, 0.875],
    "words": [[7999440801513473156, 17110412264858014688]],
    "part": 8522060295706411025,
}


def first_of(name):
    """Some pixels, as whole numbers: they tell which words a class takes, and in which order."""
    X = (np.arange(432) ** 2 % 251).reshape(3, 3, 6, 8).astype(np.uint8)
    transform = getattr(augment, name)(*ROWS[name][0])
    got, _ = call(transform, X, np.arange(3.0), index=[4, 9, 2**40])
    return got.ravel()[5::31].tolist()


@pytest.mark.parametrize("name", augment.__all__)
def test_every_class_takes_its_words_in_the_order_of_the_release_before(name):
    """Else a resumed run would go on with other numbers."""
    got, want = first_of(name), ROWS[name][1]
    assert np.abs(np.subtract(got, want)).max() <= 1  # a logarithm may round otherwise elsewhere


ROWS = {
    "ColorJitter": ((0.5, 0.5, 0.5, 0.3),
        [23, 28, 237, 23, 126, 106, 74, 175, 107, 209, 98, 129, 59, 47]),
    "Compose": (([augment.RandomFlip(), augment.RandomCrop(5, 1)],),
        [179, 197, 63, 0, 5, 164, 219, 122]),
    "CutMix": ((0.5,),
        [25, 41, 222, 66, 75, 249, 86, 88, 4, 85, 80, 101, 63, 51]),
    "Cutout": ((3, 2),
        [25, 41, 0, 66, 75, 249, 86, 88, 4, 0, 80, 240, 63, 51]),
    "ElasticDeformation": ((12, 1),
        [0, 133, 39, 0, 68, 145, 0, 129, 63, 121, 179, 100, 119, 0]),
    "GaussianBlur": ((3,),
        [97, 104, 146, 129, 107, 121, 171, 125, 41, 107, 117, 171, 78, 85]),
    "GaussianNoise": ((),
        [0, 2, 255, 50, 102, 238, 31, 90, 21, 119, 101, 249, 54, 38]),
    "LensDistortion": ((0.4, 0.2),
        [25, 41, 222, 66, 75, 0, 0, 73, 9, 56, 80, 211, 96, 122]),
    "Mixup": ((0.5,),
        [45, 36, 193, 69, 111, 83, 38, 158, 192, 184, 178, 147, 114, 79]),
    "RandomAffine": ((20, (0.2, 0.2), (0.7, 1.3), 10, 9),
        [203, 26, 140, 56, 45, 33, 106, 166, 43, 66, 162, 105, 63, 61]),
    "RandomCrop": ((5, 1),
        [73, 103, 105, 0, 121, 237, 195, 125]),
    "RandomFlip": ((),
        [25, 41, 222, 66, 75, 112, 211, 114, 174, 49, 124, 105, 117, 113]),
    "RandomResizedCrop": (((6, 8),),
        [9, 138, 141, 119, 161, 147, 243, 127, 100, 161, 109, 203, 71, 135]),
    "ShortSideResize": ((7,),
        [20, 55, 143, 119, 33, 90, 221, 113, 121, 133, 121, 47, 41, 105, 98, 55, 86, 129, 148]),
}  # fmt: skip


def test_a_class_of_another_name_keeps_its_numbers_by_stream():
    class Mirror(augment.RandomFlip):
        stream = "RandomFlip"

    class Renamed(augment.RandomFlip):
        pass

    X = images((8, 8), count=40)
    want = call(augment.RandomFlip(), X)[0]
    np.testing.assert_array_equal(call(Mirror(), X)[0], want)
    assert (call(Renamed(), X)[0] != want).any()


def test_parts_of_a_compose_have_seeds_of_their_own():
    X = np.full((50, 1, 8, 8), 0.5)
    noise = augment.GaussianNoise(sigma=0.05)
    twice, _ = call(augment.Compose([noise, noise]), X)
    one = call(noise, X, seed=seed_of_part(5, 0))[0]
    np.testing.assert_array_equal(twice, call(noise, one, seed=seed_of_part(5, 1))[0])
    assert (twice - 0.5).std() == pytest.approx(0.05 * math.sqrt(2), rel=0.05)
    seen = []
    augment.Compose([lambda X, y, **given: seen.append(given) or (X, y)])(
        X, None, seed=1, epoch=2, index=[3] * 50
    )
    assert seen == [{"seed": seed_of_part(1, 0), "epoch": 2, "index": [3] * 50}]


BEYOND = {  # arguments with which the first pixel of most images lies beyond the image
    "Cutout": (20,),
    "ElasticDeformation": (1e4, 1),
    "LensDistortion": ((9, 9), 0),
    "RandomAffine": (0, None, (0.1, 0.1)),
    "RandomCrop": (8, 8),
}


def with_fill():
    classes = [getattr(augment, name) for name in augment.__all__]
    return [c.__name__ for c in classes if "fill" in inspect.signature(c).parameters]


@pytest.mark.parametrize("name", with_fill())
@pytest.mark.parametrize(("fill", "want"), [
    (0.5, 1), (2.5, 3), (3.49, 3), (-7, 0), (254.5, 255), (300, 255),
])  # fmt: skip
def test_a_fill_is_rounded_as_computed_pixels_are(name, fill, want):
    X = np.full((9, 1, 5, 7), 100, np.uint8)
    got, _ = call(getattr(augment, name)(*BEYOND[name], fill=fill), X)
    values, counts = np.unique(got[:, :, 0, 0], return_counts=True)
    assert values[counts.argmax()] == want
    for kind in ("float16", "float32", "float64"):
        got, _ = call(getattr(augment, name)(*BEYOND[name], fill=fill), X.astype(kind) / 100)
        assert np.isin(np.array(fill, kind), got)


class Wider(augment.RandomCrop):
    """A class of a user's, which has its own name in messages."""

    def __init__(self, fill=0.0):
        super().__init__(9, fill=fill)


@pytest.mark.parametrize(("make", "kind", "words"), [
    (lambda: augment.Compose([]), ValueError, "'transforms' is empty"),
    (lambda: augment.Compose(3), TypeError, "'transforms' is 3, expected a list"),
    (lambda: augment.Compose([augment.RandomFlip]), TypeError, "'transforms' has .* RandomFlip"),
    (lambda: call(augment.Compose([lambda X, y, **_: X]), images()), TypeError, "expected a pair"),
    (lambda: augment.RandomFlip("sideways"), ValueError, "'mode' is 'sideways'"),
    (lambda: augment.RandomFlip(p=1.5), ValueError, "'p' is 1.5, expected a number >= 0 and <= 1"),
    (lambda: augment.RandomCrop(0), ValueError, "'size' is 0, expected a whole number >= 1"),
    (lambda: augment.RandomCrop((3, 3, 3)), ValueError, "'size' is"),
    (lambda: augment.RandomCrop(3, padding=(1, 2, 3)), ValueError, "'padding' is"),
    (lambda: augment.RandomCrop(3, padding=-1), ValueError, "'padding' is -1"),
    (lambda: augment.RandomCrop(3, padding_mode="wrap"), ValueError, "'padding_mode' is 'wrap'"),
    (lambda: augment.RandomCrop(3, fill=math.nan), ValueError, "'fill' is nan"),
    (lambda: augment.RandomResizedCrop(3, scale=(0.5, 1.5)), ValueError, "'scale' is 1.5"),
    (lambda: augment.RandomResizedCrop(3, scale=(0, 0)), ValueError, "expected shares above 0"),
    (lambda: Wider(fill=math.nan), ValueError, "Wider: 'fill' is nan"),
    (lambda: call(Wider(), images()), ValueError, "Wider: 'X' has images of"),
    (lambda: augment.RandomResizedCrop(3, ratio=(2, 1)), ValueError, "'ratio' is .* low <= high"),
    (lambda: augment.RandomResizedCrop(3, ratio=2), ValueError, "'ratio' is 2, expected a pair"),
    (lambda: augment.ColorJitter(hue=0.6), ValueError, "'hue' is 0.6"),
    (lambda: augment.ColorJitter(-0.5), ValueError, "'brightness' is -0.5"),
    (lambda: augment.ColorJitter(contrast=1e300), ValueError, "'contrast' is 1e.300"),
    (lambda: augment.ColorJitter((-0.5, 1)), ValueError, "'brightness' is -0.5"),
    (lambda: augment.RandomAffine(-3), ValueError, "'degrees' is -3"),
    (lambda: augment.RandomAffine(3, 0.1), ValueError, "'translate' is 0.1, expected a pair"),
    (lambda: augment.RandomAffine(3, (0.1, 1.5)), ValueError, "'translate' is 1.5"),
    (lambda: augment.RandomAffine(3, scale=(0, 1)), ValueError, "'scale' is 0, expected .* > 0"),
    (lambda: augment.RandomAffine(3, shear=90), ValueError, "'shear' is"),
    (lambda: augment.RandomAffine(3, shear=(1, 2, 3)), ValueError, "'shear' is .* 2 or 4"),
    (lambda: augment.RandomAffine(3, stretch=(0, 1)), ValueError, "'stretch' is"),
    (lambda: augment.RandomAffine("3"), TypeError, "'degrees' is '3'"),
    (lambda: augment.LensDistortion((1, 0)), ValueError, "'k1' is"),
    (lambda: augment.ElasticDeformation(sigma=0), ValueError, "'sigma' is 0, expected a"),
    (lambda: augment.ElasticDeformation(alpha=-1), ValueError, "'alpha' is -1"),
    (lambda: augment.ElasticDeformation((1, 2, 3)), ValueError, "'alpha' is"),
    (lambda: augment.GaussianNoise(sigma=-1), ValueError, "'sigma' is -1"),
    (lambda: augment.GaussianNoise(clip="no"), TypeError, "'clip' is 'no'"),
    (lambda: augment.GaussianBlur(4), ValueError, "'kernel_size' is 4, expected an odd"),
    (lambda: augment.GaussianBlur(3, 0), ValueError, "'sigma' is 0, expected a number > 0"),
    (lambda: augment.Cutout(0), ValueError, "'length' is 0"),
    (lambda: augment.Cutout(3, 0), ValueError, "'n_holes' is 0"),
    (lambda: augment.Mixup(0), ValueError, "'alpha' is 0, expected a number > 0"),
    (lambda: augment.CutMix(num_classes=1), ValueError, "'num_classes' is 1"),
])  # fmt: skip
def test_wrong_arguments_are_refused(make, kind, words):
    with pytest.raises(kind, match=words):
        make()


@pytest.mark.parametrize("transform", [
    augment.RandomAffine(0, scale=(1e-320, 1e-320)), augment.RandomAffine(1e300),
    augment.RandomAffine(0, scale=(1e300, 1e308)), augment.LensDistortion((-1e308, -1e308), 1e308),
    augment.LensDistortion((1.7e308, 1.7e308), (1.7e308, 1.7e308)),
    augment.ElasticDeformation(1e300, 1), augment.GaussianBlur(3, 1e-300), augment.Mixup(1e-300),
    augment.GaussianBlur(3, 1e300), augment.Mixup(1e300), augment.CutMix(1e-9),
    augment.RandomResizedCrop(3, (1e-300, 1e-300)), augment.Cutout(10**9),
    augment.RandomResizedCrop(3, ratio=(1e-300, 1e300)), augment.GaussianNoise(sigma=1e300),
])  # fmt: skip
@pytest.mark.parametrize("opencv", [False, True])
def test_arguments_beyond_all_use_give_numbers_without_a_warning(transform, opencv, monkeypatch):
    if opencv:
        pytest.importorskip("cv2")
        monkeypatch.setattr(_sample, "SMALL", 0)
    monkeypatch.setattr(_sample, "_has_opencv", lambda: opencv)
    X = images((7, 7), kind="float32")  # with a pixel in the middle, which is 0 times infinity
    result, _ = call(transform, X)
    assert np.isfinite(result).all()
    assert ((result >= 0) & (result <= 1 + 1e-6)).all()
