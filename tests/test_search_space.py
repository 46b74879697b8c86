"""What a search draws: a function of (seed, number, name), as likely as it should be."""

import math

import numpy as np
import pytest
from onepass import nn
from onepass.train import Choice, Integer, LogUniform, Uniform, search
from onepass.train._search_space import Draws, checked
from small_search import FIT, SPACE, X, Y, bits, build


def drawn(space, count, seed=0):
    draws = Draws(checked(space), seed)
    return [draws.params(number) for number in range(count)]


def test_a_draw_is_a_function_of_seed_number_and_name() -> None:
    many = drawn(SPACE, 6)
    assert many == drawn(SPACE, 6)
    assert many[:3] == drawn(SPACE, 3)
    assert many != drawn(SPACE, 6, seed=1)
    assert [p["lr"] for p in drawn({"x": Uniform(0, 1), "lr": SPACE["lr"]}, 6)] == [
        p["lr"] for p in many
    ]
    assert len({p["lr"] for p in many}) == 6
    # A promise to searches that go on with a later version.
    assert drawn({"lr": LogUniform(1e-4, 1), "n": Integer(1, 9, log=True)}, 3, seed=7) == GOLDEN


GOLDEN = [{"lr": 0.0001939, "n": 2}, {"lr": 0.1694, "n": 6}, {"lr": 0.0004292, "n": 1}]


def test_a_log_uniform_number_is_as_likely_in_each_decade() -> None:
    values = [p["x"] for p in drawn({"x": LogUniform(1e-4, 1.0)}, 2000)]
    assert all(1e-4 <= v <= 1 for v in values)
    counts = np.bincount([min(int(math.log10(v) + 4), 3) for v in values], minlength=4)
    assert (abs(counts - 500) < 90).all()  # 4.6 standard deviations
    assert all(v == float(f"{v:.4g}") for v in values)  # a table shows the value itself


@pytest.mark.parametrize(
    ("low", "high"), [(0, 1), (-3, 5), (1e6, 1e6 + 1), (1e-300, 1e-299), (0.1, 0.1000001)]
)
def test_a_uniform_number_is_as_likely_in_each_part(low, high) -> None:
    values = np.array([p["x"] for p in drawn({"x": Uniform(low, high)}, 1200)])
    assert values.min() >= low
    assert values.max() <= high
    counts = np.histogram((values - low) / (high - low), 4, (0, 1))[0]
    assert (abs(counts - 300) < 70).all()
    assert len(set(values)) > 500


def test_whole_numbers_reach_both_ends() -> None:
    values = [p["n"] for p in drawn({"n": Integer(2, 5), "u": Uniform(0, 1)}, 800)]
    assert (abs(np.bincount(values) - [0, 0, 200, 200, 200, 200]) < 60).all()
    logs = [p["n"] for p in drawn({"n": Integer(1, 100, log=True)}, 3000)]
    assert {1, 100} <= set(logs)
    assert abs(sum(v < 10 for v in logs) - 1650) < 160  # log(9.5/0.5) / log(100.5/0.5) = 0.555
    assert all(type(v) is int for v in values + logs)


def test_a_finite_space_gives_each_combination_once() -> None:
    space = {"a": [1, 2, 3], "b": Integer(0, 3), "c": ["x", None]}
    found = drawn(space, 24)
    assert len({tuple(p.items()) for p in found}) == 24
    assert len({str(drawn(space, 24, seed)) for seed in range(4)}) == 4
    assert [*found[0]] == ["a", "b", "c"]


def test_what_comes_again_comes_from_the_next_seed() -> None:
    def made(params):
        return build({"lr": 0.01, **params})

    result = search(made, {"width": [4, 8]}, X, Y, seed=2**64 - 2, **{**FIT, "trials": 6})
    widths = [t.params["width"] for t in result.trials]
    assert widths == widths[:2] * 3
    assert set(widths) == {4, 8}
    assert [t.seed for t in result.trials] == [*[2**64 - 2] * 2, *[2**64 - 1] * 2, 0, 0]
    assert len({t.score for t in result.trials}) == 6
    trainer = result.build()
    trainer.callbacks = []
    trainer.fit(X, Y, max_epochs=3, batch_size=16, validation_split=0.2)
    assert bits(trainer) == bits(result.best.trainer)


def test_choices_are_any_values_and_a_fresh_copy_each_time() -> None:
    values = [None, True, 1, 1.0, "adamw", (64, 64), [64], {"lr": 0.1}, nn.ReLU, math.tanh]
    of = Choice([*values, np.float64(0.5), np.str_("word")])
    assert [of.back(of.kept(v)) for v in values] == values
    assert [type(v) for v in of.values[-2:]] == [float, str]
    of.nth(6).append(1)
    assert of.nth(6) == [64]
    assert repr(Choice(["a", 2])) == "Choice(values=['a', 2])"
