"""The folder of a function with ``resume``: restarts, search, cross_validate say the same of it."""

import json

import numpy as np
import pytest
from onepass import nn, optim
from onepass.train import Callback, Trainer, cross_validate, restarts, search
from onepass.train._record import FORMAT, PYTHON, Record, read_json, write_json

X = np.random.default_rng(0).standard_normal((24, 2)).astype(np.float32)
Y = (X[:, 0] > 0).astype(np.int64)
FIT = {"max_epochs": 1, "batch_size": 12}
OURS = {"format": FORMAT, "python": PYTHON}  # beside what is kept


def trainer(callbacks=()):
    model = nn.Sequential(nn.Linear(2, 2))
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    return Trainer(model, nn.CrossEntropyLoss(), optimizer, callbacks=callbacks, progress=False)


def of_restarts(resume, callbacks=(), **more):
    return restarts(lambda s: trainer(callbacks), X, Y, n=1, resume=resume, **FIT, **more)


def of_search(resume, callbacks=(), **more):
    return search(
        lambda p: trainer(callbacks), {"k": [1, 2]}, X, Y, trials=1, resume=resume, progress=False,
        metric="loss", **FIT, **more,
    )  # fmt: skip


def of_folds(resume, callbacks=(), **more):
    return cross_validate(lambda s: trainer(callbacks), X, Y, folds=2, resume=resume, **FIT, **more)


CALLS = {
    "restarts": (of_restarts, "restarts.json"),
    "search": (of_search, "search.json"),
    "cross_validate": (of_folds, "cross_validation.json"),
}


@pytest.fixture(params=CALLS)
def call(request):
    return (request.param, *CALLS[request.param])


def files(folder):
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_other_arguments_are_refused_in_the_same_words(call, tmp_path) -> None:
    owner, function, _ = call
    place = tmp_path / "it"
    function(place)
    before = files(place)
    with pytest.raises(ValueError, match="'seed' is 1") as error:
        function(place, seed=1)
    assert str(error.value) == (
        f"{owner}: 'seed' is 1, expected 0, as in {place}; pass another directory to resume=, or "
        "none"
    )
    assert files(place) == before
    function(place)  # it is not in use


def test_something_else_is_refused(call, tmp_path) -> None:
    owner, function, _ = call
    (tmp_path / "mine").touch()
    words = rf"{owner}: 'resume' is '.*', which holds something else, expected a directory of "
    with pytest.raises(ValueError, match=words):
        function(tmp_path)
    with pytest.raises(NotADirectoryError, match=rf"{owner}: 'resume' is .*mine"):
        function(tmp_path / "mine")
    assert [p.name for p in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"format": "a"}', "[" * 100_000, "\xff"])
def test_a_damaged_record_is_refused(call, tmp_path, text) -> None:
    owner, function, name = call
    function(tmp_path)
    (tmp_path / name).write_text(text, encoding="latin-1")
    before = files(tmp_path)
    words = rf"{owner}: .*{name} is damaged \(.+\), expected what {owner} wrote; pass another direc"
    with pytest.raises(ValueError, match=words):
        function(tmp_path)
    assert files(tmp_path) == before


def test_a_record_that_lacks_an_argument_is_refused(call, tmp_path) -> None:
    owner, function, name = call
    function(tmp_path)
    known = json.loads((tmp_path / name).read_text())
    del known.get("settings", known)["seed"]
    (tmp_path / name).write_text(json.dumps(known))
    with pytest.raises(ValueError, match=rf"{owner}: .* is damaged \('seed' is missing\)"):
        function(tmp_path)


def test_a_record_of_a_later_version_is_refused(call, tmp_path) -> None:
    _, function, name = call
    function(tmp_path)
    known = json.loads((tmp_path / name).read_text())
    assert known["format"] == FORMAT
    (tmp_path / name).write_text(json.dumps({**known, "format": FORMAT + 1}))
    with pytest.raises(ValueError, match=f"has the format {FORMAT + 1}, expected at most {FORMAT}"):
        function(tmp_path)


def test_one_call_at_a_time_has_the_folder(call, tmp_path) -> None:
    pytest.importorskip("fcntl")
    owner, function, _ = call
    refused = []

    class Second(Callback):
        def on_fit_begin(self, run):
            with pytest.raises(BlockingIOError) as error:
                function(tmp_path)
            refused.append(str(error.value))

    function(tmp_path, [Second()])
    assert set(refused) == {
        f"{owner}: 'resume' is {str(tmp_path)!r}, in which another call trains, expected one at a "
        "time"
    }


def test_what_is_the_same_is_not_written_again(tmp_path) -> None:
    record = Record("search", tmp_path / "a", "it.json")
    assert record.held is None
    record.begin({"k": 1, "free": [2, "x"]})
    assert read_json(record.path) == {"k": 1, "free": [2, "x"], **OURS} == record.held
    before = record.path.stat().st_ino
    record.begin({"k": 1, "free": (2, "x")})
    assert record.path.stat().st_ino == before
    record.begin({"k": 1, "free": 3}, free=["free"])
    assert read_json(record.path)["free"] == 3
    record.close()
    again = Record("search", tmp_path / "a", "it.json")
    assert again.held == {"k": 1, "free": 3, **OURS}
    again.close()


def test_another_version_of_python_is_told_where_a_function_differs(tmp_path, monkeypatch) -> None:
    """Which compiles the same lines to other code."""
    monkeypatch.setattr("onepass.train._record.PYTHON", "3.2")
    record = Record("search", tmp_path, "it.json")
    record.begin({"k": 1, "f": ["f", "1"]})
    record.close()
    monkeypatch.undo()
    again = Record("search", tmp_path, "it.json")
    again.begin({"k": 1, "f": ["f", "1"]})
    with pytest.raises(
        ValueError, match=rf"as in .* \(begun with Python 3\.2; .* in {PYTHON}\); pass"
    ):
        again.begin({"k": 1, "f": ["f", "2"]})
    again.close()


GROUPS = [
    ({"n": {"a": 1}}, {"n": {"a": 2}}, "'a' in 'n' is 1, expected 2, as in"),
    ({"n": {"a": 1, "b": 1}}, {"n": {"a": 1}}, "'b' in 'n' is 1, expected not there, as in"),
    ({"n": {"a": 1}}, {"n": {"a": 1, "b": "x"}}, "'b' in 'n' is not there, expected 'x', as in"),
    ({"n": ["f", "1"]}, {"n": ["g", "2"]}, "'n' is f, expected g, as in"),
    ({"n": ["f", "1"]}, {"n": ["f", "2"]}, "'n' is f with other contents, expected the same as in"),
    ({"n": [None, "1"]}, {"n": ["f", "2"]}, "'n' is another one, expected the same as in"),
    ({"n": None}, {"n": [None, "2"]}, "'n' is another one, expected the same as in"),
    ({"n": "a" * 99}, {"n": "b"}, "'n' is another one, expected the same as in"),
    ({"n": [0.9, 0.99]}, {"n": [0.8, 0.99]}, r"'n' is \[0.9, 0.99\], expected \[0.8, 0.99\], as"),
]


@pytest.mark.parametrize(("given", "held", "words"), GROUPS)
def test_the_first_difference_is_told(tmp_path, given, held, words) -> None:
    record = Record("search", tmp_path, "it.json")
    with pytest.raises(ValueError, match=f"search: {words}"):
        record.compare(given, held)
    record.compare(given, {**given, "more": 1})
    record.close()


def test_json_is_replaced_as_a_whole(tmp_path) -> None:
    path = tmp_path / "new" / "a.json"
    write_json(path, "record", {"a": 1})
    with pytest.raises(TypeError):
        write_json(path, "record", {"a": object()})
    assert read_json(path) == {"a": 1}
    assert [p.name for p in path.parent.iterdir()] == ["a.json"]
