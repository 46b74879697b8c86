"""Marks by which a resumed run knows its arguments again."""

import functools
import json
import math
import random
import subprocess
import sys
import threading
import types

import numpy as np
import pytest
from onepass import nn
from onepass.data import MinMax, Standardize, augment
from onepass.train import _marks
from onepass.train._marks import mark, text_of
from test_cli import ENVIRONMENT


class Held:
    __slots__ = ("value",)

    def __init__(self, value):
        self.value = value


class Own:
    def __init__(self, k):
        self.k = k


def marked(value, **options):
    return mark("search", "transform", value, **options)


def test_marks_are_short_and_the_same_for_equal_values() -> None:
    def some():
        itself = [1]
        itself.append(itself)
        values = [np, int, print, {1, 2}, b"ab", range(3), np.dtype("f4"), np.array(["a"])]
        values += [np.exp, np.log, 1 + 2j, ..., {"a": 1}, {"a": 2}, Own(1), Own("1"), np.float32]
        return [*values, itself, list(range(10**5)), "a" * 10, Held(1), threading.Lock()]

    marks = [json.dumps(marked(value)) for value in some()]
    assert marks == [json.dumps(marked(value)) for value in some()]
    assert len(set(marks)) == len(marks)
    assert max(map(len, marks)) < 100
    assert marked(Held(1)) != marked(Held(2))


@pytest.mark.parametrize("value", [None, True, 3, 0.5, "word", -1e300])
def test_numbers_and_words_are_their_own_marks(value) -> None:
    assert marked(value) is value
    assert marked(np.float64(0.5)) == 0.5
    assert marked(np.int8(3)) == 3
    assert marked(math.nan) == marked(math.nan) == "nan"


def shifted(x, by=1):
    return x + by


def made(weights):
    return lambda x: x * weights


def with_defaults(by, to):
    def shifted(x, by=by, *, to=to):
        return x + by + to

    return shifted


class Moves:
    def step(self, x):
        return x + 1


class MovesOn:
    def step(self, x):
        return x + 2


def a_method(kind):
    method = kind().step
    method.__func__.__qualname__ = "Moves.step"
    return types.MethodType(method.__func__, Own(1))


PAIRS = {
    "a value of an array": (np.zeros(10**5), np.r_[np.zeros(70_000), 1e-300, np.zeros(29_999)]),
    "shape": (np.zeros((2, 3)), np.zeros((3, 2))),
    "dtype": (np.zeros(2, np.float32), np.zeros(2, np.int32)),
    "a list that a function brings along": (made([1, 2]), made([1, 3])),
    "an array that a function brings along": (made(np.ones(3)), made(np.ones(4))),
    "a default": (with_defaults(1, 2), with_defaults(2, 2)),
    "a default of a keyword": (with_defaults(1, 2), with_defaults(1, 3)),
    "a partial": (shifted, functools.partial(shifted, by=1)),
    "a method's code": (a_method(Moves), a_method(MovesOn)),
    "a constant": (lambda x: x * 2, lambda x: x * 2.0),
    "words in a set": (lambda x: x in {"a", "b"}, lambda x: x in {"a", "c"}),
    "a method's object": (Own(1).__init__, Own(2).__init__),
    "a built-in method's object": ([1].append, [2].append),
    "an option of ours": (MinMax(), MinMax(feature_range=(0, 2))),
    "what ours has learnt": (Standardize(), Standardize().fit(np.eye(3))),
    "an option inside": (
        augment.Compose([augment.GaussianNoise(0.1)]),
        augment.Compose([augment.GaussianNoise(0.2)]),
    ),
    "weights of a loss": (nn.CrossEntropyLoss([1.0, 2.0]), nn.CrossEntropyLoss([2.0, 1.0])),
    "deep inside": tuple(
        functools.reduce(lambda inner, _: Own(inner), range(30), k) for k in (1, 2)
    ),
}


@pytest.mark.parametrize("name", PAIRS)
def test_what_differs_has_another_mark(name) -> None:
    one, other = PAIRS[name]
    assert marked(one) == marked(one)
    assert marked(one)[1] != marked(other)[1]


def test_columns_of_a_frame_count() -> None:
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"a": [1.0, 2.0], "b": [3.0, 4.0]})
    assert marked(frame) == marked(frame.copy())
    assert marked(frame) != marked(frame.rename(columns={"a": "c"}))
    assert marked(frame["a"]) != marked(frame["b"])
    assert marked(frame["a"]) == marked(frame["a"].to_numpy())


@pytest.mark.parametrize(
    "generator",
    [np.random.default_rng(0), np.random.RandomState(0), np.random.PCG64(0), random.Random(0)],
    ids=lambda generator: type(generator).__name__,
)
def test_random_numbers_that_go_on_are_refused_where_nothing_begins_them_anew(generator) -> None:
    name = type(generator).__name__
    words = rf"search: 'transform' has a {name}, which a resume could not bring back"
    with pytest.raises(ValueError, match=words):
        marked(generator)
    with pytest.raises(ValueError, match=words):
        marked(Own(generator))
    before = marked(Own(generator), refitted=True)
    assert before == marked(Own(generator), refitted=True)
    draw = getattr(generator, "random", None) or getattr(generator, "random_raw", None)
    draw()
    assert before != marked(Own(generator), refitted=True)


def test_what_is_fitted_anew_counts_by_what_it_was_made_with() -> None:
    def both(value):
        return marked(value, refitted=True)

    assert both(Standardize()) == both(Standardize().fit(np.eye(3)))
    assert both(MinMax()) != both(MinMax(feature_range=(0, 2)))
    pytest.importorskip("sklearn")
    from sklearn.decomposition import PCA
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    one = make_pipeline(StandardScaler(), PCA(2))
    fitted = make_pipeline(StandardScaler(), PCA(2)).fit(np.eye(4))
    assert both(one) == both(fitted)
    assert both(one) != both(make_pipeline(StandardScaler(), PCA(3)))
    assert marked(one) != marked(fitted)


def test_what_nothing_tells_from_another_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'transform' has a list_iterator, .* search without res"):
        marked(Own([iter([])]))


def test_texts_are_calls() -> None:
    assert text_of(nn.CrossEntropyLoss(label_smoothing=0.1)).endswith("label_smoothing=0.1)")
    assert text_of(functools.partial(shifted, by=Own(1))) == "shifted(by=<Own>)"
    assert text_of(Own((1, [2.5, "a"], None))) == "Own(k=(1, (2.5, 'a'), None))"
    assert text_of({"a": math.tanh}) == "{'a': tanh}"
    one, other = (text_of(np.float32([k, 2])) for k in (1, 3))
    assert one.startswith("<array (2,) of checksum ")
    assert one != other
    noise = augment.Compose([augment.GaussianNoise(0.1), shifted])
    assert text_of(noise) == f"Compose(transforms=({augment.GaussianNoise(0.1)!r}, shifted))"
    assert marked(np.ones(3))[0] is None  # no message shows numbers of data
    assert marked((np.ones(3), np.ones(3)))[0] is None


def test_a_mark_is_the_same_in_every_process():
    code = """if True:
        from functools import partial
        from onepass import nn
        from onepass.train._marks import mark
        from onepass.data import Standardize
        def f(x, k=3, *, names=frozenset("abcdef")):
            return x in {"one", "two", "three"} or [y for y in x if y in ("a", "b")]
        class Own:
            def __init__(self):
                self.f, self.g, self.me, self.s = f, lambda: f, self, {"x", "y", "z"}
        parts = [Own(), Standardize(), nn.MSELoss(), partial(f, k=Own), len]
        print(mark("search", "parts", parts), mark("search", "parts", parts, refitted=True))
    """
    marks = {
        subprocess.run([sys.executable, "-c", code], env={**ENVIRONMENT, "PYTHONHASHSEED": seed},
                       capture_output=True, text=True, check=True).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert len(marks) == 1


def test_marks_of_files_are_read_in_pieces(tmp_path, monkeypatch):
    values = np.random.default_rng(0).standard_normal((300, 3))
    np.save(tmp_path / "x.npy", values)
    rows = np.load(tmp_path / "x.npy", mmap_mode="r")
    whole = _marks.digest(values)
    monkeypatch.setattr(_marks, "CHUNK", 500)
    assert _marks.digest(values) == whole
    assert _marks.digest(rows) == whole
    for place in (0, 20, 21, 150, 299):  # of 64 rows that are spread, most are others
        changed = values.copy()
        changed[place, 1] += 1e-12
        assert _marks.digest(changed) != whole
