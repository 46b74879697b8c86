"""Confusion matrices, tables of classes and residuals: the numbers are those of scikit-learn, and
every line of them fits a terminal."""

import numpy as np
import pytest
from onepass import nn, optim
from onepass._text import amount, cut, cut_apart, padded, printable, width
from onepass.train import (
    Trainer,
    _metrics,
    classification_report,
    confusion_matrix,
    regression_report,
)
from onepass.train._classes import UndefinedError
from onepass.train._report_text import MARKS, scatter

RNG = np.random.default_rng(0)
LONG = "a very long name of a class, which goes on and on"
HOSTILE = ["cat", LONG, "猫" * 30, "Grün", "x\x1b[31m\ny", "$x^2$", "<b>", ""]


def pair(classes, count=200, right=0.7):
    true = RNG.integers(0, classes, count)
    predicted = np.where(RNG.random(count) < right, true, RNG.integers(0, classes, count))
    return true, predicted


CASES = {
    "two": (*pair(2), None),
    "seven": (*pair(7), None),
    "words": (np.array(list("abcd"))[pair(4)[0]], np.array(list("abcd"))[pair(4)[1]], None),
    "never true": (np.array([0, 0, 1]), np.array([0, 2, 2]), None),
    "never predicted": (np.array([0, 1, 2, 2]), np.array([0, 1, 1, 0]), None),
    "all wrong": (np.array([0, 1]), np.array([1, 0]), None),
    "truth values": (np.array([True, False, True]), np.array([True, True, True]), None),
    "one class": (np.zeros(3, int), np.zeros(3, int), None),
    "weights": (*pair(5), RNG.random(200)),
    "negative classes": (np.array([-5, 3, 3]), np.array([3, 3, -5]), None),
    "int8": (np.array([100, 127, -128], np.int8), np.array([100, 100, -128], np.int8), None),
}


@pytest.mark.parametrize("most", [6, 9, 16, 24])
@pytest.mark.parametrize("texts", [
    [f"a fairly long class name number {i} of the table" for i in range(40)],
    ["ab" * i + "c" + "ab" * (30 - i) for i in range(12)],
    ["short", "short", "another that is much too long", "another that is mush too long"],
    ["日本語のとても長い名前その一です", "日本語のとても長い名前その二です"],
    [],
], ids=["number", "inside", "mixed", "wide", "none"])  # fmt: skip
def test_names_that_are_shortened_stay_apart(texts, most):
    found = cut_apart(texts, most)
    assert [texts.index(text) for text in texts] == [found.index(shown) for shown in found]
    assert all(width(shown) <= most for shown in found)
    kept = [(text, shown) for text, shown in zip(texts, found, strict=True) if width(text) <= most]
    assert all(text == shown for text, shown in kept)


@pytest.mark.filterwarnings("ignore:A single label was found")
@pytest.mark.parametrize("name", CASES)
def test_the_numbers_are_those_of_scikit_learn(name):
    metrics = pytest.importorskip("sklearn.metrics")
    true, predicted, weight = CASES[name]
    report = classification_report(true, predicted, sample_weight=weight)
    theirs = metrics.classification_report(
        true, predicted, sample_weight=weight, output_dict=True, zero_division=0
    )
    ours = report.to_dict()
    if "accuracy" not in theirs:  # as it is called where each sample has one label
        theirs["accuracy"] = theirs.pop("micro avg")["precision"]
    assert ours.keys() == theirs.keys()
    for key, found in ours.items():
        assert found == pytest.approx(theirs[key], rel=1e-12), key
    options = {"sample_weight": weight, "labels": np.union1d(true, predicted)}
    expected = metrics.confusion_matrix(true, predicted, **options)
    np.testing.assert_allclose(report.matrix, expected, rtol=1e-12)
    for how in (None, "true", "pred", "all"):
        np.testing.assert_allclose(
            confusion_matrix(true, predicted, sample_weight=weight, normalize=how),
            metrics.confusion_matrix(true, predicted, normalize=how, **options),
            rtol=1e-12,
        )
    accuracy = metrics.accuracy_score(true, predicted, sample_weight=weight)
    assert report.accuracy == pytest.approx(accuracy, rel=1e-12)


ABSENT = {
    "absent": ([0, 2], [2, 2], [0, 1, 2], None),
    "never true": ([0, 0, 1, 1], [0, 2, 1, 2], [0, 1, 2], None),
    "never predicted": (["a", "b", "b"], ["b", "b", "b"], ["c", "b", "a", "d"], None),
    "weights": ([0, 1, 3, 3], [1, 1, 0, 3], [3, 2, 1, 0], [0.5, 0.25, 2.0, 1.0]),
    "no weight": ([0, 1, 1], [0, 1, 0], [0, 1, 2], [0.0, 1.5, 0.1]),
}


@pytest.mark.parametrize("zero_division", [0, 1, np.nan])
@pytest.mark.parametrize("name", ABSENT)
def test_what_is_undefined_counts_as_in_scikit_learn(name, zero_division):
    metrics = pytest.importorskip("sklearn.metrics")
    true, predicted, labels, weight = ABSENT[name]
    options = {"labels": labels, "sample_weight": weight, "zero_division": zero_division}
    report = classification_report(true, predicted, **options)
    theirs = metrics.classification_report(true, predicted, output_dict=True, **options)
    ours = report.to_dict()
    if "accuracy" not in theirs:
        theirs["accuracy"] = theirs.pop("micro avg")["precision"]
    assert ours.keys() == theirs.keys()
    for key, found in ours.items():
        assert found == pytest.approx(theirs[key], rel=1e-12, nan_ok=True), key


SOME = (*pair(12, 400), [3, 11, 0, 7, 5])
SUBSETS = {
    "some": ([0, 1, 2, 2, 1, 0], [0, 2, 2, 1, 1, 2], [2, 0], None),
    "one": ([0, 1, 2, 2, 1, 0], [0, 2, 2, 1, 1, 2], [1], None),
    "one that is not there": ([0, 1, 2, 2, 1, 0], [0, 2, 2, 1, 1, 2], [7, 2, 0], None),
    "words": (list("abca"), list("accb"), ["c", "z", "a"], None),
    "truth values": ([True, False, True], [True, True, False], [True], None),
    "of twelve": (*SOME, None),
    "weights": (*SOME, RNG.random(400)),
    "no weight": ([0, 1, 1], [0, 1, 0], [1], [0.0, 1.5, 0.1]),
    "never true": ([0, 1, 1], [0, 2, 2], [2, 0], None),
    "all and more": ([0, 1, 1], [0, 1, 0], [9, 1, 0], None),
    "none right": ([0, 1, 2], [1, 2, 0], [1, 0], None),
}


@pytest.mark.filterwarnings("ignore:A single label was found")
@pytest.mark.parametrize("zero_division", [0, 1, np.nan])
@pytest.mark.parametrize("name", SUBSETS)
def test_some_of_the_labels_are_those_of_scikit_learn(name, zero_division):
    metrics = pytest.importorskip("sklearn.metrics")
    true, predicted, labels, weight = SUBSETS[name]
    options = {"labels": labels, "sample_weight": weight}
    report = classification_report(true, predicted, zero_division=zero_division, **options)
    theirs = metrics.classification_report(
        true, predicted, output_dict=True, zero_division=zero_division, **options
    )
    ours = report.to_dict()
    assert list(ours) == list(theirs)
    assert ("accuracy" in ours) == (name == "all and more") == report.whole
    for key, found in ours.items():
        assert found == pytest.approx(theirs[key], rel=1e-12, nan_ok=True), key
    for how in (None, "true", "pred", "all"):
        np.testing.assert_allclose(
            confusion_matrix(true, predicted, normalize=how, **options),
            metrics.confusion_matrix(true, predicted, normalize=how, **options),
            rtol=1e-12,
        )
    every = metrics.confusion_matrix(true, predicted, sample_weight=weight).sum()
    assert report.left_out == pytest.approx(every - report.matrix.sum(), abs=1e-9)
    text = report.text(80)
    said = f"({amount(report.left_out)} more, of or taken for other classes)"
    assert (said in text) == (not report.whole)
    assert ("micro avg" in text, "accuracy" in text.replace("balanced accuracy", "")) == (
        not report.whole, report.whole)  # fmt: skip
    assert report.headline in repr(report)


def test_labels_that_no_sample_has():
    """scikit-learn gives a report of them, and no matrix."""
    metrics = pytest.importorskip("sklearn.metrics")
    for true, predicted, labels in (([0, 1], [1, 1], [5, 6]), ([0, 1], [1, 2], [2])):
        report = classification_report(true, predicted, labels=labels)
        theirs = metrics.classification_report(
            true, predicted, labels=labels, output_dict=True, zero_division=0
        )
        for key, found in report.to_dict().items():
            assert found == pytest.approx(theirs[key], rel=1e-12, nan_ok=True), key
        with pytest.raises(ValueError, match="must be in y_true"):
            metrics.confusion_matrix(true, predicted, labels=labels)
        with pytest.raises(ValueError, match=r"^confusion_matrix: 'labels' is \[.*of 'y_true'"):
            confusion_matrix(true, predicted, labels=labels)
    assert confusion_matrix([], [], labels=[1, 2]).tolist() == [[0, 0], [0, 0]]


def test_a_label_is_not_one_beside_it():
    """Of uint64 and int64 NumPy compares floats, which do not tell these apart."""
    big = 2**63
    true, predicted = np.array([big, big + 1], np.uint64), np.array([big - 1, big - 1], np.int64)
    report = classification_report(true, predicted, labels=[big])
    assert (report.support.tolist(), report.predicted.tolist()) == ([1], [0])
    assert report.left_out == 2


def test_a_report_of_some_labels_fits_a_narrow_terminal():
    true, predicted = pair(9, 500)
    text = classification_report(true, predicted, labels=[4, 1, 7, 2]).text(40)
    assert max(map(width, text.splitlines())) <= 40
    assert "others" not in text  # all four have their rows
    assert text.splitlines()[-1].endswith("other classes)") or "…" in text.splitlines()[-1]


def test_mistakes_of_some_labels_are_among_them():
    report = classification_report(list("aabbcc"), list("abacba"), labels=["b", "a"])
    assert report.mistakes() == [("b", "a", 1), ("a", "b", 1)]
    assert report.folded([0]).sum() == report.matrix.sum() == 3
    assert (report.left_out, np.isnan(report.accuracy)) == (3, True)


def numbers_of(line):
    return [float(cell.rstrip("*").replace("-", "nan")) for cell in line.split()[-4:]]


@pytest.mark.parametrize("zero_division", [0, 1, np.nan])
@pytest.mark.parametrize("name", ABSENT)
def test_the_averages_follow_from_the_lines(name, zero_division):
    """What a reader sees of the classes has the mean that the reader sees below it."""
    true, predicted, labels, weight = ABSENT[name]
    report = classification_report(true, predicted, labels=labels, sample_weight=weight,
                                   zero_division=zero_division)  # fmt: skip
    lines = str(report).splitlines()
    rows = np.array([numbers_of(line) for line in lines[1 : 1 + len(labels)]])
    found = {line.split()[0]: numbers_of(line) for line in lines if " avg " in line}
    support = rows[:, 3]
    for column, (macro, weighted) in enumerate(zip(found["macro"], found["weighted"],
                                                   strict=True)):  # fmt: skip
        if column < 3:
            there = ~np.isnan(rows[:, column])
            values, share = rows[there, column], support[there]
            assert macro == pytest.approx(values.mean(), abs=2e-4)
            assert weighted == pytest.approx(values @ share / share.sum(), abs=2e-4)
    marked = any("*" in line for line in lines[1 : 1 + len(labels)])
    assert marked == (zero_division == zero_division)
    assert lines[-1].startswith(f"* 0/0, counts as {zero_division}") == marked
    assert all(len(line) <= 80 for line in lines)


def test_labels_choose_order_and_names():
    metrics = pytest.importorskip("sklearn.metrics")
    true, predicted = ["b", "a", "b", "c"], ["b", "b", "b", "a"]
    found = confusion_matrix(true, predicted, labels=["c", "d", "b", "a"])
    expected = metrics.confusion_matrix(true, predicted, labels=["c", "d", "b", "a"])
    np.testing.assert_array_equal(found, expected)
    report = classification_report([2, 0], [2, 2], target_names=["x", "y", "z"])
    assert report.support.tolist() == [1, 0, 1]
    assert report.macro["f1"] == pytest.approx((0 + 0 + 2 / 3) / 3)


def test_a_number_that_stands_for_0_by_0_is_marked():
    names = ["here", "absent", "taken"]
    text = classification_report([0, 0], [0, 2], target_names=names).text()
    assert "absent               0*      0*      0*        0" in text
    assert "taken            0.0000      0*  0.0000        0" in text
    assert "* 0/0, counts as 0 in the averages; balanced accuracy leaves such recalls out" in text
    none = classification_report([0, 0], [0, 2], target_names=names, zero_division=np.nan)
    assert "absent                -       -       -        0" in none.text()
    assert "0/0" not in none.text()


def test_classes_of_other_integers():
    big = 2**63 + 5
    report = classification_report(np.array([1, big], np.uint64), np.array([1, -1], np.int64))
    assert report.labels == [-1, 1, big]
    held = np.array([np.int64(3), np.int64(4)], object)
    assert classification_report(held, held).labels == [3, 4]


def test_a_sample_without_weight_is_no_mistake():
    report = classification_report([1, 1, 0], [0, 1, 0], sample_weight=[0.0, 1.0, 1.0])
    assert report.mistakes() == []
    assert report.matrix.tolist() == [[1, 0], [0, 1]]


def test_a_class_called_as_a_mean_is_not_lost():
    report = classification_report([0, 1], [0, 1], target_names=["accuracy", "b"])
    with pytest.raises(ValueError, match="a class is called 'accuracy', as one of the means"):
        report.to_dict()


def test_mistakes_come_by_frequency():
    true, predicted = [0] * 9 + [1] * 5 + [2] * 2, [0] * 4 + [1] * 5 + [2] * 3 + [1, 1] + [0, 2]
    report = classification_report(true, predicted)
    assert report.mistakes() == [(0, 1, 5), (1, 2, 3), (2, 0, 1)]
    assert report.mistakes(1) == [(0, 1, 5)]
    assert report.muddled(2) == [0, 1]


def test_as_many_classes_as_samples_take_little_memory():
    """A matrix of 200,000 classes as an array has 320 GB."""
    true = np.arange(200_000)
    report = classification_report(true, np.roll(true, 1))
    assert report.accuracy == 0
    assert len(report.mistakes(3)) == 3
    assert max(map(width, report.text().splitlines())) <= 80
    with pytest.raises(MemoryError, match="200000 classes would have 4e\\+10 cells"):
        _ = report.matrix


@pytest.mark.parametrize("columns", [40, 60, 80, 100])
@pytest.mark.parametrize("classes", [1, 2, 8, 30, 1000])
def test_every_line_fits_the_terminal(classes, columns):
    true, predicted = pair(classes, 3000)
    names = (HOSTILE * 200)[:classes]
    names = [f"{name}{i}" if i >= len(HOSTILE) else name for i, name in enumerate(names)]
    report = classification_report(true, predicted, target_names=names)
    lines = report.text(columns).splitlines()
    assert max(map(width, lines)) <= columns
    assert len(lines) < 70
    assert "\x1b" not in report.text(columns)
    if classes > 20:
        that = "" if report.used.all() else " that occurs"
        assert cut(f"({classes - 12} more, none{that} with a smaller f1)", columns) in lines
        assert all("…" not in line.partition("  ")[2] for line in lines[:13])
    said = report.text(columns)
    assert "weighted" in said
    if columns >= 80:
        assert "precision" in said


def test_the_folded_matrix_has_the_whole_sum():
    true, predicted = pair(300, 5000)
    text = classification_report(true, predicted).text(80)
    body = text.partition("true class by row, predicted class by column:\n")[2].partition("\n\n")[0]
    rows = body.splitlines()[1:]
    assert "others" in rows[-1]
    count = len(rows)
    cells = [[int(c.replace(".", "0")) for c in row.split()[-count:]] for row in rows]
    assert sum(map(sum, cells)) == 5000


def test_the_folded_matrix_of_weights_has_no_rounding_noise():
    """Cells without a sample are 0, and not what subtracting sums leaves."""
    rng = np.random.default_rng(1)
    true = np.arange(3000) % 300
    predicted = np.where(rng.random(3000) < 0.9, true, true // 30 * 30)
    weight = rng.random(3000) * 10
    report = classification_report(true, predicted, sample_weight=weight)
    chosen = [0, 3, 30, 299]
    folded = report.folded(chosen)
    place = np.full(300, 4)
    place[chosen] = range(4)
    expected = np.zeros((5, 5))
    np.add.at(expected, (place[true], place[predicted]), weight)
    np.testing.assert_allclose(folded, expected, rtol=1e-12, atol=0)
    assert (folded == 0).any()
    assert "e-" not in report.text(80)
    counts = classification_report(true, predicted).folded(chosen)
    assert counts.dtype == np.int64
    assert counts.sum() == 3000


def test_hidden_classes_have_no_smaller_f1():
    """One without a sample that was predicted has F1 0, and comes first."""
    true = np.repeat(np.arange(25), 10)
    predicted = true.copy()
    predicted[::10] = 25
    report = classification_report(true, predicted, labels=range(27))
    lines = str(report).splitlines()
    assert lines[1].split()[0] == "25"
    assert lines[13] == "(15 more, none that occurs with a smaller f1)"
    few = classification_report([0, 0], [0, 0], labels=range(30))
    assert "(18 more, none of which occurs)" in str(few)


def test_many_classes_are_cut_to_the_worst():
    true = np.repeat(np.arange(30), 30)
    predicted = np.where(np.arange(900) % 30 <= true, true, (true + 1) % 30)  # each better
    report = classification_report(true, predicted)
    shown = [int(line.split()[0]) for line in str(report).splitlines()[1:13]]
    assert shown == np.argsort(report.f1, kind="stable")[:12].tolist()
    assert shown[0] in (0, 1)


def test_small_matrices_are_whole():
    text = classification_report(list("aabbb"), list("aabab")).text()
    assert text.endswith("true class by row, predicted class by column:\n   a  b\na  2  .\nb  1  2")


WRONG = {
    "outputs": (([0, 1], [[0.1, 0.9], [0.8, 0.2]]), {}, ValueError, r"argmax\(axis=1\)"),
    "lengths": (([0, 1], [0]), {}, ValueError, "'y_pred' has 1 values, expected 2"),
    "measurements": (([0.5, 1], [0, 1]), {}, ValueError, "'y_true' holds 0.5, expected classes"),
    "nan": (([np.nan, 1], [0, 1]), {}, ValueError, "'y_true' holds nan, expected classes"),
    "text and numbers": ((["a"], [1]), {}, TypeError, "are text and numbers"),
    "mixed": (([0, "a"], [0, "a"]), {}, TypeError, "holds int, str, expected classes of one type"),
    "unknown": (
        ([0, 3], [0, 1]), {"target_names": ["a", "b"]}, ValueError, "holds 3, expected one of the",
    ),
    "no label": (([0], [0]), {"labels": []}, ValueError, "'labels' is empty, expected a class"),
    "labels of text": (([0], [0]), {"labels": ["a"]}, TypeError, "are text and numbers"),
    "no name": (([0], [0]), {"target_names": []}, ValueError, "'target_names' is empty"),
    "twice": (([0], [0]), {"labels": [0, 0]}, ValueError, "'labels' has a class twice"),
    "names": (([0], [0]), {"labels": [0, 1], "target_names": ["a"]}, ValueError, "has 1 names"),
    "name twice": (
        ([0], [0]), {"target_names": ["b", "a", "a"]}, ValueError, "'target_names' has 'a' twice",
    ),
    "zero_division": (([0], [0]), {"zero_division": 0.5}, ValueError, "is 0.5, expected 0, 1 or"),
    "zero_division text": (([0], [0]), {"zero_division": "warn"}, ValueError, "is 'warn', expec"),
    "one name": (([0], [0]), {"target_names": "ab"}, TypeError, "expected a name for each class"),
    "weights": (([0, 1], [0, 1]), {"sample_weight": [1]}, ValueError, "'sample_weight' has shape"),
    "negative": (([0], [0]), {"sample_weight": [-1]}, ValueError, "a number below 0"),
    "dates": (
        (np.array(["2020-01-01"], "M8[D]"),) * 2, {}, TypeError, r"dtype datetime64\[D\], expected",
    ),
    "objects": (([None], [None]), {}, TypeError, "holds NoneType, expected classes of one type"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_class_is_refused(name):
    arguments, options, error, words = WRONG[name]
    with pytest.raises(error, match=words):
        classification_report(*arguments, **options)


def test_wrong_options_of_a_matrix():
    with pytest.raises(ValueError, match=r"^confusion_matrix: 'y_pred' has 1 values, expected 2"):
        confusion_matrix([0, 1], [0])
    with pytest.raises(ValueError, match="'normalize' is 'rows', expected 'true', 'pred' or 'all'"):
        confusion_matrix([0], [0], normalize="rows")
    with pytest.raises(ValueError, match="'width' is 3, expected a whole number >= 20"):
        classification_report([0], [0]).text(3)


def test_no_sample_at_all():
    report = classification_report([], [], labels=["a", "b"])
    assert np.isnan(report.accuracy)
    assert report.matrix.tolist() == [[0, 0], [0, 0]]
    assert "accuracy" in report.text()


def test_arrays_of_other_libraries():
    torch = pytest.importorskip("torch")
    report = classification_report(torch.tensor([0, 1, 1]), torch.tensor([[0], [1], [0]]))
    assert report.matrix.tolist() == [[1, 0], [1, 1]]
    found = regression_report(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 3.0]))
    assert found.rmse[0] == pytest.approx(np.sqrt(0.5))


# ------------------------------------------------------------------------------- residuals


@pytest.mark.parametrize("outputs", [1, 3])
def test_residuals_are_those_of_scikit_learn(outputs):
    metrics = pytest.importorskip("sklearn.metrics")
    true = RNG.standard_normal((50, outputs)) * [1, 100, 1e-3][:outputs]
    predicted = true + 0.3 * RNG.standard_normal((50, outputs))
    report = regression_report(true, predicted)
    each = {"multioutput": "raw_values"}
    for k, found in enumerate(report.to_dict().values()):
        assert found == {
            "rmse": pytest.approx(np.sqrt(metrics.mean_squared_error(true, predicted, **each))[k]),
            "mae": pytest.approx(metrics.mean_absolute_error(true, predicted, **each)[k]),
            "r2": pytest.approx(metrics.r2_score(true, predicted, **each)[k]),
            "bias": pytest.approx(np.mean(true - predicted, axis=0)[k]),
            "deviation": pytest.approx(np.std(true - predicted, axis=0)[k]),
        }
    np.testing.assert_array_equal(report.residuals, true - predicted)
    np.testing.assert_allclose(report.quantiles["90 %"], np.quantile(true - predicted, 0.9, axis=0))


@pytest.mark.parametrize("columns", [20, 40, 80])
@pytest.mark.parametrize("scale", [1e-300, 1.0, 1e150, 8e307])
def test_residuals_fit_the_terminal(columns, scale):
    true = scale * RNG.uniform(-1, 1, (60, 2))
    report = regression_report(true, true * 0.9, target_names=[LONG, "猫\n"])
    lines = report.text(columns).splitlines()
    assert max(map(width, lines)) <= columns
    many = regression_report(np.repeat(true, 30, axis=1), np.repeat(true, 30, axis=1))
    assert max(map(width, many.text(columns).splitlines())) <= columns


def test_the_scatter_has_each_point_where_it_is():
    x = np.array([0.0, 10.0, 0.0, 10.0])
    lines = scatter(x, np.array([0.0, 10.0, 10.0, 0.0]), 60, "t").splitlines()
    top, bottom = lines[1].partition("|")[2], lines[-2].partition("|")[2]
    assert (top[0], top[-1], bottom[0], bottom[-1]) == tuple(MARKS[0] * 4)
    many = scatter(np.zeros(40), np.zeros(40), 60, "t")
    assert MARKS[-1] in many
    same = scatter(np.full(3, 2.5), np.full(3, 2.5), 60, "t")
    assert "3.75" in same
    assert "1.25" in same


@pytest.mark.parametrize(("low", "high", "ends"), [
    (-1002431.0, -998552.0, ["-9.9855e+05", "-1.0024e+06"]),
    (0.0, 3e7, ["3.0000e+07", "0.0000e+00"]),
    (-2e-5, 0.5, ["5.0000e-01", "-2.0000e-05"]),
    (-999999.0, 2.0, ["2.0000", "-999999.0000"]),
    (1e9, 1e9 + 100, ["1.0000001e+09", "1.0000000e+09"]),
])  # fmt: skip
def test_both_ends_of_the_scatter_have_one_notation(low, high, ends):
    values = np.array([low, high])
    lines = scatter(values, values, 60, "t").splitlines()
    found = [lines[1].partition("|")[0].strip(), lines[-2].partition("|")[0].strip()]
    assert len({len(text.rpartition(".")[2].partition("e")[0]) for text in found}) == 1
    assert found == ends
    assert all(
        abs(float(text) - value) <= 0.01 * (high - low)
        for text, value in zip(found, (high, low), strict=True)
    )


@pytest.mark.parametrize(("true", "predicted", "error", "words"), [
    ([1.0], [1.0, 2.0], ValueError, r"'y_pred' has shape \(2, 1\), expected \(1, 1\)"),
    ([], [], ValueError, "expected samples"),
    ([1.0, np.inf], [1.0, 1.0], ValueError, "holds inf or NaN"),
    (["a"], [1.0], TypeError, "'y_true' is list, expected an array of numbers"),
    (np.zeros((2, 2, 2)), np.zeros((2, 2, 2)), ValueError, "expected \\(N,\\) or"),
    (None, [1.0], TypeError, "'y_true' is NoneType"),
])  # fmt: skip
def test_what_is_no_regression_is_refused(true, predicted, error, words):
    with pytest.raises(error, match=words):
        regression_report(true, predicted)


EQUAL = {
    "met": ([2.0, 2.0, 2.0], [2.0, 2.0, 2.0]),
    "missed": ([2.0, 2.0, 2.0], [2.0, 2.0, 3.0]),
    "zeros": ([0.0, 0.0], [0.0, 1e-9]),
    "columns": ([[1.0, 5.0, 5.0], [1.0, 5.0, 7.0]], [[1.0, 6.0, 6.0], [1.0, 5.0, 6.0]]),
    "varied and met": ([1.0, 2.0], [1.0, 2.0]),
    "far off": ([1.0, 2.0], [1e8, -1e8]),
}


@pytest.mark.parametrize("name", EQUAL)
def test_equal_targets_have_the_r2_of_scikit_learn(name):
    metrics = pytest.importorskip("sklearn.metrics")
    true, predicted = map(np.asarray, EQUAL[name])
    each = metrics.r2_score(true, predicted, multioutput="raw_values")
    np.testing.assert_allclose(regression_report(true, predicted).r2, each, rtol=1e-13)
    mean = metrics.r2_score(true, predicted)
    assert _metrics.r2(predicted, true) == pytest.approx(mean, rel=1e-13)


@pytest.mark.parametrize("value", [0.1, 1 / 3, -1e300, 7.0, 5e-324])
def test_a_mean_that_is_off_by_one_ulp_makes_no_spread(value):
    """scikit-learn divides by the square of that ulp."""
    true = np.full((3, 1), value)
    other = true * [[1.0], [1.0], [2.0]]
    assert regression_report(true, other).r2.tolist() == [_metrics.r2(other, true)] == [0.0]
    assert regression_report(true, true).r2.tolist() == [_metrics.r2(true, true)] == [1.0]
    assert regression_report(other, other).r2.tolist() == [_metrics.r2(other, other)] == [1.0]


@pytest.mark.parametrize("scale", [1e-300, 1e-200, 1e200, 8e307])
def test_r2_has_no_unit(scale):
    """The squares of such numbers leave the range of float64."""
    true, predicted = np.array([0.0, 1.0, -1.0, 0.5]), np.array([0.25, 0.75, -1.0, 0.5])
    expected = regression_report(true, predicted).r2[0]
    assert 0 < expected < 1
    found = regression_report(scale * true, scale * predicted).r2[0]
    assert found == pytest.approx(expected, rel=1e-12)


def test_one_sample_has_no_r2():
    metrics = pytest.importorskip("sklearn.metrics")
    with pytest.warns(sklearn_warning(), match="less than two samples"):
        assert np.isnan(metrics.r2_score([1.0], [1.0]))
    with pytest.warns(RuntimeWarning, match="'r2' is nan: R² of fewer than two samples"):
        assert np.isnan(regression_report([1.0], [1.0]).r2).all()
    with pytest.raises(UndefinedError, match="fewer than two samples"):
        _metrics.r2(np.ones((1, 1)), np.ones((1, 1)))


def sklearn_warning():
    return pytest.importorskip("sklearn.exceptions").UndefinedMetricWarning


@pytest.mark.parametrize(("targets", "expected"), [([2.0] * 4, 0.0), ([1.0], None)])
def test_the_r2_of_an_epoch_is_the_same(targets, expected):
    target = np.array(targets, np.float32)[:, None]
    model = nn.Sequential(nn.Linear(1, 1))
    trainer = Trainer(model, nn.MSELoss(), optim.SGD(model.parameters(), lr=0.0), metrics=["r2"],
                      progress=False)  # fmt: skip
    if expected is not None:
        assert trainer.evaluate(target, target)["r2"] == expected
        return
    with pytest.warns(RuntimeWarning, match="the metric 'r2' is nan: R² of fewer than two"):
        assert np.isnan(trainer.evaluate(target, target)["r2"])


def test_names_of_outputs():
    with pytest.raises(ValueError, match="has 1 names, expected 2"):
        regression_report(np.zeros((3, 2)), np.ones((3, 2)), target_names=["a"])
    with pytest.raises(ValueError, match="'target_names' has 'a' twice, expected each once"):
        regression_report(np.zeros((3, 2)), np.ones((3, 2)), target_names=["a", "a"])
    with pytest.raises(TypeError, match="expected a name for each output"):
        regression_report([1, 2], [1, 2], target_names="y")
    assert regression_report([1, 1], [1, 2]).r2.tolist() == [0.0]


# ------------------------------------------------------------------------------- pictures


def size_of(path):
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG")
    return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")


@pytest.mark.filterwarnings("ignore:the picture shows")  # where no font has the letters
@pytest.mark.parametrize("classes", [1, 8, 30, 1200])
def test_a_matrix_is_drawn_with_any_names(classes, tmp_path):
    pytest.importorskip("matplotlib")
    true, predicted = pair(classes, 400)
    names = [*HOSTILE, *map(str, range(2000))][:classes]
    report = classification_report(true, predicted, target_names=names)
    report.plot(tmp_path / "new" / "matrix.png")
    wide, high = size_of(tmp_path / "new" / "matrix.png")
    assert 300 < wide < 2000
    assert 300 < high < 2000


@pytest.mark.filterwarnings("ignore:the picture shows")
@pytest.mark.parametrize(("outputs", "count"), [(1, 60), (9, 7000)])
def test_residuals_are_drawn(outputs, count, tmp_path):
    pytest.importorskip("matplotlib")
    true = RNG.standard_normal((count, outputs))
    names = [*HOSTILE, *(f"{name} 2" for name in HOSTILE)][:outputs]
    regression_report(true, true * 0.9 + 0.1, target_names=names).plot(tmp_path / "r.png")
    assert size_of(tmp_path / "r.png")[1] == 480 * min(outputs, 6)


# ------------------------------------------------------------------------------- text


def test_letters_have_their_widths():
    assert [width(t) for t in ("abc", "猫", "é", "e\u0301", "ｱ", "")] == [3, 2, 1, 1, 1, 0]
    assert padded("猫", 4) == "猫  "
    assert padded("猫", 4, right=True) == "  猫"
    for name in HOSTILE:
        for most in range(1, 30):
            assert width(cut(printable(name), most)) <= most
    assert cut("abcdefghij", 7) == "abcd…ij"
    assert cut("abc", 3) == "abc"
    persian, family = "\u0645\u06cc\u200c\u062e", "\U0001f468\u200d\U0001f469"
    assert (printable(persian), printable(family)) == (persian, family)
    assert printable("a\tb\u202ec\x00\n") == "a b\ufffdc\ufffd "
