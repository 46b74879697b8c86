"""What train.search shows: a table, a picture, a line for each trial."""

import math
import sys

import numpy as np
import pytest
from onepass.train import Choice, History, LogUniform, SearchResult, Trial, search
from small_search import FIT, SPACE, X, Y, build


def trials_by_hand():
    rows = [
        ({"lr": 0.001, "kind": "a"}, "complete", 0.5, ""),
        ({"lr": 0.1, "kind": "b"}, "complete", 0.25, ""),
        ({"lr": 0.01, "kind": "a"}, "pruned", 0.75, "late"),
        ({"lr": 0.03, "kind": "b"}, "failed", math.nan, "RuntimeError: no"),
    ]
    space = {"lr": LogUniform(0.001, 0.1), "kind": Choice(["a", "b"])}
    found = [Trial(n, *row) for n, row in enumerate(rows)]
    return SearchResult(found, "val_loss", "min", 0, space)


def test_the_table_is_best_first() -> None:
    assert str(trials_by_hand()) == (
        "4 trials: 2 complete, 1 pruned, 1 failed; best val_loss 0.25, trial 1\n"
        " trial     lr  kind  val_loss  epochs\n"
        "     1    0.1     b      0.25       0\n"
        "     0  0.001     a       0.5       0\n"
        "     2   0.01     a      0.75       0  pruned: late\n"
        "     3   0.03     b       nan       0  failed: RuntimeError: no"
    )
    assert trials_by_hand().table(1).splitlines()[-1] == " … and 3 more"
    assert repr(trials_by_hand()).endswith("trial 1: lr=0.1, kind=b)")


def lines_of(result, monkeypatch):
    """The lines of the picture: (x, y, colour, style)."""
    from onepass.train import _search_plot

    figures = []
    monkeypatch.setattr(_search_plot, "save_figure", lambda figure, path: figures.append(figure))
    result.plot("any.png")
    (axes,) = figures[0].axes
    texts = {t.get_text(): t.get_position() for t in axes.texts}
    lines = [(*map(list, line.get_data()), line.get_color(), line.get_linestyle())
             for line in axes.lines]  # fmt: skip
    return [line for line in lines if line[0] == [0, 1, 2][: len(line[0])]], texts


def test_the_picture_has_a_line_a_trial_and_the_best_on_top(monkeypatch) -> None:
    pytest.importorskip("matplotlib")
    lines, texts = lines_of(trials_by_hand(), monkeypatch)
    assert len(lines) == 5  # that of the best has a white one below it
    *others, below, best = lines
    assert (below[2], best[2]) == ("white", "crimson")
    np.testing.assert_allclose(best[1], [1, 0.6875, 1])  # lr at the top, b, the least loss
    failed, pruned, worse = others
    assert failed[0] == [0, 1]  # it has no score
    assert failed[3] == "--"
    assert pruned[3] == ":"
    np.testing.assert_allclose(pruned[1], [0.5, 0.3125, 0])  # 0.01 is half way on a log axis
    np.testing.assert_allclose(worse[1], [0, 0.1875, 0.5])
    assert texts["0.001"][1] == 0
    assert texts["0.01"][1] == pytest.approx(0.5)
    assert texts["0.75"][1] == 0
    assert texts["0.25"][1] == 1
    assert "val_loss\n(lower is better)" in texts
    assert texts["a"][1] == 0.25
    upside = trials_by_hand()
    upside = SearchResult(upside.trials, "val_accuracy", "max", 0, upside.space)
    _, texts = lines_of(upside, monkeypatch)
    assert texts["0.75"][1] == 1


def test_the_picture_is_written(tmp_path) -> None:
    pytest.importorskip("matplotlib")
    result = search(build, SPACE, X, Y, **FIT)
    result.plot(tmp_path / "new" / "search.png")
    assert (tmp_path / "new" / "search.png").stat().st_size > 5000
    SearchResult([Trial(0, {"a": 1}, "failed", math.nan)], "loss", "min").plot(tmp_path / "b.svg")
    with pytest.raises(ValueError, match="there are no trials"):
        SearchResult([], "loss", "min").plot(tmp_path / "c.png")


@pytest.mark.parametrize("name", ["it.xyz", "it.tar.gz"])
def test_a_format_that_no_picture_has_is_refused(tmp_path, name) -> None:
    pytest.importorskip("matplotlib")
    result = SearchResult([Trial(0, {"a": 1}, "complete", 1.0)], "loss", "min")
    history = History()
    history.append({"loss": 0.5})
    for draws in (result, history):
        with pytest.raises(ValueError, match=rf"^plot: 'path' is '.*{name}', expected a .*\.png, "):
            draws.plot(tmp_path / name)
    result.plot(tmp_path / "IT.PNG")
    assert [path.name for path in tmp_path.iterdir()] == ["IT.PNG"]


def test_without_matplotlib_a_picture_says_what_to_install(monkeypatch, tmp_path) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    result = SearchResult([Trial(0, {"a": 1}, "complete", 1.0)], "loss", "min")
    with pytest.raises(ImportError, match=r"^plot: needs Matplotlib: pip install matplotlib$"):
        result.plot(tmp_path / "a.png")


def test_progress_is_a_line_a_trial(capsys) -> None:
    search(build, SPACE, X, Y, **{**FIT, "progress": True})
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert lines[0].startswith("trial 0  lr ")
    assert lines[0].endswith("best so far")
    search(build, SPACE, X, Y, **FIT)
    assert capsys.readouterr().out == ""


def test_words_of_any_kind_stand_in_one_line(tmp_path) -> None:
    space = {"a $x\ny": ["$\\frac{", "b\nc", "ü"]}
    result = search(
        lambda p: build({"lr": 0.01, "width": 4}), space, X, Y, resume=tmp_path / "ü", **FIT
    )
    assert len(result.table().splitlines()) == 5
    assert "b c" in result.table()
    pytest.importorskip("matplotlib")
    result.plot(tmp_path / "ü.png")
