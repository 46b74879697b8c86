"""Pictures show letters of any script as far as a font is there, and never boxes."""

import warnings

import numpy as np
import pytest
from onepass import _figures
from onepass._figures import drawable, fonts_for, new_figure, save_figure
from onepass.cli import main
from onepass.runs import write_report
from onepass.train import (
    Choice,
    SearchResult,
    Trial,
    classification_report,
    regression_report,
)

matplotlib = pytest.importorskip("matplotlib")
CATS = ["\u732b", "\u72ac", "plain"]  # cat and dog in Japanese


@pytest.fixture(autouse=True)
def nobody_was_told(monkeypatch):
    monkeypatch.setattr(_figures, "_told", set())


@pytest.fixture
def no_more_fonts(monkeypatch):
    monkeypatch.setattr(_figures, "_others", lambda: iter(()))


def texts_of(figure):
    from matplotlib.text import Text

    figure.canvas.draw()
    return {text.get_text(): text for text in figure.findobj(Text) if text.get_text()}


@pytest.fixture
def drawn(monkeypatch):
    """The figures that are saved, with their texts."""
    found, save = [], _figures.save_figure

    def keep(figure, path):
        save(figure, path)
        found.append(texts_of(figure))

    from onepass.train import _report_plot, _search_plot

    for module in (_report_plot, _search_plot):
        monkeypatch.setattr(module, "save_figure", keep)
    return found


def letter_of_another_font():
    """One that the usual font lacks, and a family that comes with Matplotlib has."""
    usual = _figures._letters("DejaVu Sans")
    more = sorted(set(_figures._letters("STIXGeneral")) - set(usual))
    return chr(next(code for code in more if chr(code).isprintable() and code > 0x2000))


def test_a_font_that_has_the_letters_is_found(monkeypatch, drawn, tmp_path):
    letter = letter_of_another_font()
    monkeypatch.setattr(_figures, "_others", lambda: iter(["no such font", "STIXGeneral"]))
    families, lacking = fonts_for(f"a{letter}\u00e9")
    assert (families[-1], lacking) == ("STIXGeneral", set())
    assert "no such font" not in families
    names = [letter, f"b{letter}"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # Matplotlib warns of a glyph that is missing
        classification_report([0, 1], [0, 1], target_names=names).plot(tmp_path / "m.png")
        regression_report(np.eye(2), np.eye(2), target_names=names).plot(tmp_path / "r.svg")
    for texts in drawn:
        shown = [text for text in texts.values() if letter in text.get_text()]
        assert shown
        assert all("STIXGeneral" in text.get_fontfamily() for text in shown)


def test_names_without_a_font_are_numbers_and_the_cure_is_named_once(
    no_more_fonts, drawn, tmp_path
):
    report = classification_report([0, 1, 2], [0, 1, 1], target_names=CATS)
    with pytest.warns(
        RuntimeWarning,
        match=r"the picture shows 'class 1' and the like instead of "
        r"\u72ac, \u732b: no font .*; install one, such as Noto Sans CJK",
    ) as told:
        report.plot(tmp_path / "m.png")
    assert len(told) == 1
    assert {"class 1", "class 2", "plain"} <= drawn[0].keys()
    assert not any(set("".join(CATS[:2])) & set(text) for text in drawn[0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report.plot(tmp_path / "again.png")  # nobody is warned twice
        regression_report(np.eye(2), np.eye(2), target_names=CATS[:2]).plot(tmp_path / "r.png")
    assert "output 1: R\u00b2 1.0000" in drawn[2]
    with pytest.warns(RuntimeWarning, match="instead of \u72d0:"):
        classification_report([0], [0], target_names=["\u72d0"]).plot(tmp_path / "fox.png")


def test_the_terminal_and_the_page_keep_the_names(no_more_fonts, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = [f"{i % 7},{i % 5},{CATS[i % 3]}" for i in range(60)]
    text = "\n".join(["a,b,kind", *lines]) + "\n"
    (tmp_path / "t.csv").write_text(text, encoding="utf-8")
    assert main(["train", "t.csv", "--hidden", "4", "--epochs", "2", "--quiet", "--out", "r"]) == 0
    page = write_report("r").read_text(encoding="utf-8")
    assert all(page.count(name) >= 3 for name in CATS)
    report = classification_report([0, 1, 2], [0, 1, 1], target_names=CATS)
    assert all(name in report.text() for name in CATS)


def test_only_names_that_are_drawn_are_looked_at(no_more_fonts, tmp_path):
    """Of more classes than have their names in the picture, none is."""
    of = np.arange(60)
    report = classification_report(of, of, target_names=[f"\u732b{i}" for i in of])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report.plot(tmp_path / "m.png")


def test_other_texts_have_marks(no_more_fonts, drawn, tmp_path):
    trials = [Trial(i, {"kind": name}, "complete", 0.5 + i) for i, name in enumerate(CATS)]
    result = SearchResult(trials, "val_loss", "min", 0, {"kind": Choice(CATS)})
    with pytest.warns(RuntimeWarning, match=r"the picture shows '\?' instead of"):
        result.plot(tmp_path / "s.png")
    assert {"?", "plain"} <= drawn[0].keys()


def test_formulas_and_joiners(no_more_fonts, tmp_path):
    figure = new_figure(3)
    axes = figure.subplots()
    axes.set_title("$\u732b$ and a formula", parse_math=True)
    axes.set_xlabel("a\u200db\u732b")
    with pytest.warns() as told:
        save_figure(figure, tmp_path / "f.png")
    assert [w for w in told if "the picture shows" in str(w.message)]
    assert axes.get_title() == "$\u732b$ and a formula"
    assert axes.get_xlabel().endswith("b?")


def test_ascii_asks_for_no_font(monkeypatch, tmp_path):
    def asked(family):
        raise AssertionError(family)

    monkeypatch.setattr(_figures, "_letters", asked)
    assert fonts_for("plain")[1] == set()
    assert drawable({0: "a", 1: "b"}, "class") == ["a", "b"]
    classification_report(["a", "b"], ["a", "a"]).plot(tmp_path / "m.png")


def test_fonts_of_colours_and_boxes_are_left_out(monkeypatch):
    from types import SimpleNamespace

    from matplotlib import font_manager

    names = ["Zapf", "Noto Color Emoji", "LastResort", "Arial Unicode MS", "Ahem"]
    manager = SimpleNamespace(ttflist=[SimpleNamespace(name=name) for name in names])
    monkeypatch.setattr(font_manager, "fontManager", manager)
    assert list(_figures._others()) == ["Arial Unicode MS", "Ahem", "Zapf"]


def test_a_family_of_one_weight_is_taken_without_a_word(monkeypatch, caplog, tmp_path):
    from matplotlib import font_manager

    light = next((e.name for e in font_manager.fontManager.ttflist if e.weight in (200, 380)), None)
    if light is None:
        pytest.skip("all families here have the usual weight")
    monkeypatch.setattr(_figures, "_others", lambda: iter([light]))
    _figures._letters.cache_clear()
    font_manager.fontManager._findfont_cached.cache_clear()
    with caplog.at_level("DEBUG", "matplotlib.font_manager"):
        with pytest.warns(RuntimeWarning, match="no font"):
            classification_report([0], [0], target_names=["\u732b"]).plot(tmp_path / "m.png")
        assert not [r for r in caplog.records if "Failed to find font weight" in r.getMessage()]
        logger = font_manager._log
        logger.warning("findfont: Failed to find font weight of the user's own")
    assert caplog.messages[-1].endswith("of the user's own")  # nothing is hidden afterwards
    assert not logger.filters
