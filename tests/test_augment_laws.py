"""The laws of every class in `augment`: a function of (seed, epoch, index) alone.

A new class is tested as soon as it is in `augment.__all__`; without an example here, this fails.
"""

import copy
import inspect
import pickle
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from onepass.data import augment
from onepass.data.augment import (
    ColorJitter,
    Compose,
    CutMix,
    Cutout,
    ElasticDeformation,
    GaussianBlur,
    GaussianNoise,
    LensDistortion,
    Mixup,
    RandomAffine,
    RandomCrop,
    RandomFlip,
    RandomResizedCrop,
    ShortSideResize,
    _transform,
)

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = [
    ColorJitter(0.4, 0.4),
    ColorJitter(0.4, 0.4, 0.4, 0.2),
    Compose([RandomAffine(20, (0.2, 0.2)), RandomAffine(20), GaussianNoise()]),
    Compose([RandomFlip(), Compose([Cutout(3), Mixup(num_classes=5)])]),
    CutMix(num_classes=5),
    Cutout(3, n_holes=2, fill=0.5),
    ElasticDeformation(30, 1.5, fill=0.5),
    GaussianBlur((3, 5)),
    GaussianNoise(0.01, 0.3),
    GaussianNoise(clip=False),
    LensDistortion(0.3, (0.0, 0.1), fill=0.5),
    Mixup(0.4, num_classes=5),
    RandomAffine(30, (0.2, 0.3), (0.7, 1.4), (-10, 10, -5, 5), 0.5, stretch=(0.8, 1.25)),
    RandomCrop((6, 5), padding=(1, 2), pad_if_needed=True, fill=0.5),
    RandomCrop(4, padding=1, pad_if_needed=True, padding_mode="symmetric"),
    RandomFlip(),
    RandomResizedCrop((6, 5)),
    RandomResizedCrop(9, (0.5, 1), antialias=False),
    ShortSideResize(5, max_size=6),
]
COLOURS = EXAMPLES[1]
IDS = [f"{type(t).__name__}{i}" for i, t in enumerate(EXAMPLES)]
SIZES = [(8, 8), (7, 10), (1, 1), (1, 6), (9, 2)]
KINDS = ["uint8", "float16", "float32", "float64"]
every = pytest.mark.parametrize("transform", EXAMPLES, ids=IDS)


def images(count=6, channels=3, size=(7, 10), kind="float32", seed=0):
    values = np.random.default_rng(seed).random((count, channels, *size))
    return (values * 255).astype("u1") if kind == "uint8" else values.astype(kind)


def classes(count=6):
    return np.arange(count) % 5


def call(transform, X, y=None, index=None, seed=3, epoch=2):
    index = np.arange(len(X)) + 10 if index is None else index
    return transform(X, y, seed=seed, epoch=epoch, index=index)


def mixes(transform):
    if isinstance(transform, Compose):
        return any(map(mixes, transform.transforms))
    return isinstance(transform, (Mixup, CutMix))


def same(one, other):
    for a, b in zip(one, other, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)


def test_every_class_has_an_example():
    known = {type(t).__name__ for t in EXAMPLES}
    assert known == set(augment.__all__), "add an example of the class to EXAMPLES"


def test_the_page_and_the_bench_have_every_class():
    page = (ROOT / "docs/augmentation.md").read_text(encoding="utf-8")
    lines = [line for line in page.splitlines() if line.startswith("| `")]
    cells = [cell for line in lines for cell in re.findall(r"`(\w+)\((.*?)\)`", line)]
    assert {name: arguments.split(", ") for name, arguments in cells} == {
        name: list(inspect.signature(getattr(augment, name)).parameters) for name in augment.__all__
    }
    timed = {*re.findall(r"^\| `(\w+)` \| \d", page, re.M)}
    bench = (ROOT / "bench/augment.py").read_text(encoding="utf-8")
    assert timed == {*re.findall(r"augment\.(\w+)\(", bench)} == {*augment.__all__} - {"Compose"}


@every
@pytest.mark.parametrize("kind", KINDS)
def test_a_sample_is_the_same_in_any_batch(transform, kind):
    X, y, index = images(kind=kind), classes(), np.array([7, 3, 2**40, 0, 12, 5])
    whole = call(transform, X, y, index)
    order = np.array([4, 0, 5, 2, 1, 3])
    same(call(transform, X[order], y[order], index[order]), [a[order] for a in whole])
    if mixes(transform):
        return
    for part in ([2], [0, 3], [5, 4, 3]):
        same(call(transform, X[part], y[part], index[part]), [a[part] for a in whole])
    twice = np.array([1, 1, 4])  # as draws with replacement give them
    same(call(transform, X[twice], y[twice], index[twice]), [a[twice] for a in whole])


@every
@pytest.mark.parametrize("piece", [1, 300, 420, 10**6])
def test_pieces_of_a_batch_do_not_show(transform, piece, monkeypatch):
    X, y = images(7), classes(7)
    want = call(transform, X, y)
    monkeypatch.setattr(_transform, "PIECE", piece)
    same(call(transform, X, y), want)


class Negative(augment._transform.Transform):
    """A class of a user's, which changes the targets too."""

    def batch(self, X, y, draws):
        return 1 - X, None if y is None else 1 - y


class Shifted(augment._transform.Transform):
    """Another one, which sees images of every dtype from 0 to 1."""

    unit = True

    def images(self, X, draws):
        assert X.max() <= 1
        return X / 2 + draws.uniform(1)[:, :, None, None].astype(X.dtype) / 2


@pytest.mark.parametrize("piece", [1, 420, 10**6])
def test_a_class_that_changes_targets_loses_none(piece, monkeypatch):
    monkeypatch.setattr(_transform, "PIECE", piece)
    X, y = images(7), np.linspace(0, 1, 7)
    same(call(Negative(), X, y), (1 - X, 1 - y))


def test_a_class_of_units_gives_all_dtypes_the_same():
    whole, shares = images(5, kind="uint8"), images(5, kind="uint8") / 255
    got, want = call(Shifted(), whole)[0], call(Shifted(), shares)[0]
    np.testing.assert_allclose(got, 255 * want, atol=0.501)


@every
def test_the_same_arguments_give_the_same_bits_and_others_do_not(transform):
    X, y = images(), classes()
    want = call(transform, X, y)
    same(call(transform, X, y), want)
    if isinstance(transform, ShortSideResize):
        return
    others = [
        call(transform, X, y, seed=4), call(transform, X, y, epoch=3),
        call(transform, X, y, index=np.arange(6) + 11),
    ]  # fmt: skip
    for other in others:
        assert (other[0] != want[0]).any()
    one = np.repeat(X[:1], 6, axis=0)  # equal images of other places
    changed = call(transform, one, y)[0]
    assert mixes(transform) or any((changed[0] != image).any() for image in changed[1:])


@every
@pytest.mark.parametrize("kind", KINDS)
def test_arguments_stay_as_they_are_and_layouts_do_not_matter(transform, kind):
    X, y = images(kind=kind), classes()
    want = call(transform, X, y)
    kept, targets = X.copy(), y.copy()
    X.flags.writeable = y.flags.writeable = False
    index = np.arange(6) + 10
    index.flags.writeable = False
    result = call(transform, X, y, index)
    same(result, want)
    assert not np.shares_memory(result[0], X)
    assert result[0].flags.writeable
    np.testing.assert_array_equal(X, kept)
    np.testing.assert_array_equal(y, targets)
    strided = np.zeros((12, 3, 14, 20), X.dtype)[::2, :, ::2, ::-2]
    strided[...] = X
    for other in (
        np.asfortranarray(X),
        strided,
        X.transpose(0, 2, 3, 1).copy().transpose(0, 3, 1, 2),
    ):
        same(call(transform, other, y, [*range(10, 16)]), want)


@every
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("channels", [1, 3, 7])
def test_any_size_dtype_and_number_of_channels(transform, kind, channels):
    if channels == 7 and transform is COLOURS:
        with pytest.raises(ValueError, match="'X' has 7 channels, expected 3"):
            call(transform, images(2, 7))
        return
    for size in SIZES:
        y = classes(4)
        X, targets = call(transform, images(4, channels, size, kind), y)
        assert X.dtype == kind
        assert X.shape[:2] == (4, channels)
        assert kind == "uint8" or np.isfinite(X).all()
        assert targets is y if not mixes(transform) else targets.shape == (4, 5)
        none, targets = call(transform, images(0, channels, size, kind), y[:0])
        assert none.shape == (0, *X.shape[1:])
        assert none.dtype == kind
        assert len(targets) == 0
        assert call(transform, images(2, channels, size, kind))[1] is None


@every
def test_threads_copies_and_reprs_give_the_same(transform):
    X, y = images(40), classes(40)
    want = call(transform, X, y)
    with ThreadPoolExecutor(7) as pool:
        for result in pool.map(lambda _: call(transform, X, y), range(14)):
            same(result, want)
    names = {name: getattr(augment, name) for name in augment.__all__}
    again = eval(repr(transform), names)
    for other in (copy.deepcopy(transform), pickle.loads(pickle.dumps(transform)), again):
        assert repr(other) == repr(transform)
        same(call(other, X, y), want)


@every
def test_no_other_random_numbers_are_drawn(transform):
    before = np.random.get_state()  # noqa: NPY002
    call(transform, images(), classes())
    after = np.random.get_state()  # noqa: NPY002
    assert before[2:] == after[2:]
    np.testing.assert_array_equal(before[1], after[1])


@every
def test_the_largest_numbers_are_taken(transform):
    most = 2**64 - 1
    X, _ = call(transform, images(2), classes(2), np.array([most, 2**63], np.uint64), most, most)
    assert np.isfinite(X).all()


WRONG = {
    "a list": (lambda X: X.tolist(), {}, TypeError, "'X' is a list, expected a NumPy array"),
    "whole numbers": (
        lambda X: X.astype(int),
        {},
        TypeError,
        "'X' has dtype int64, expected uint8",
    ),
    "big-endian": (lambda X: X.astype(">f4"), {}, TypeError, "'X' has dtype >f4"),
    "one image": (lambda X: X[0], {}, ValueError, "has shape .* expected images"),
    "no pixels": (lambda X: X[..., :0], {}, ValueError, "has shape .* expected images"),
    "a short index": (None, {"index": [1, 2]}, ValueError, r"'index' has .* expected \(6,\)"),
    "a negative index": (None, {"index": [-1] * 6}, ValueError, "'index'"),
    "a real index": (None, {"index": [0.5] * 6}, ValueError, "'index' has dtype float64"),
    "a negative seed": (None, {"seed": -1}, ValueError, "'seed' is -1"),
    "a real epoch": (None, {"epoch": 0.5}, TypeError, "'epoch' is 0.5"),
    "few targets": (None, {"y": classes(5)}, ValueError, "'y' has 5 targets, expected 6"),
}


@every
@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_calls_are_refused(transform, wrong):
    change, options, kind, words = WRONG[wrong]
    X = images() if change is None else change(images())
    given = {"seed": 0, "epoch": 0, "index": range(6), "y": classes(), **options}
    with pytest.raises(kind, match=words):
        transform(X, **given)


@pytest.mark.parametrize("cls", [c for c in augment.__all__ if c != "Compose"])
def test_unknown_arguments_get_the_nearest_name(cls):
    with pytest.raises(TypeError, match="strength"):
        getattr(augment, cls)(strength=1)


STAY = {"ColorJitter", "Cutout", "GaussianBlur", "GaussianNoise", "Mixup"}
MOVE = {
    "CutMix",
    "ElasticDeformation",
    "LensDistortion",
    "RandomAffine",
    "RandomCrop",
    "RandomFlip",
}
MOVE |= {"RandomResizedCrop", "ShortSideResize"}


def _moves(transform):
    if isinstance(transform, Compose):
        return any(map(_moves, transform.transforms))
    assert type(transform).__name__ in STAY | MOVE, "does it move what an image shows?"
    return type(transform).__name__ in MOVE


@every
@pytest.mark.parametrize("channels", [(), (1,)], ids=["(N, H, W)", "(N, 1, H, W)"])
def test_targets_of_each_pixel_do_not_stay_behind(transform, channels):
    X = images()
    masks = (X[:, :1] > 0.5).astype(np.float32).reshape(len(X), *channels, *X.shape[2:])
    index = np.arange(len(X))
    if not _moves(transform):
        transform(X, masks, seed=1, epoch=2, index=index)
        return
    with pytest.raises(ValueError, match="a target for each pixel, which this transform would not"):
        transform(X, masks, seed=1, epoch=2, index=index)
