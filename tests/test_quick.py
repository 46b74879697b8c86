"""--quick thins out tests over several parameters: checked on lists made up for it."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from types import SimpleNamespace

import pytest
from cases import DTYPES
from conftest import LONG_FILES, _sample
from helpers import Extent, sweep


def items_over(*sizes: int) -> list[SimpleNamespace]:
    """The items of one test, as pytest makes them: each with the places of its parameters."""
    return [
        SimpleNamespace(
            callspec=SimpleNamespace(indices={f"p{axis}": place for axis, place in enumerate(at)})
        )
        for at in itertools.product(*map(range, sizes))
    ]


def places(items: list[SimpleNamespace]) -> list[tuple[int, ...]]:
    return [tuple(item.callspec.indices.values()) for item in items]


@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize("sizes", [(3, 4, 2), (5, 5, 5), (7, 1, 3), (2, 3, 4, 5), (9, 2, 2, 2)])
def test_every_pair_of_values_occurs(sizes, quick):
    kept = places(_sample(items_over(*sizes), quick=quick))
    for one, other in itertools.combinations(range(len(sizes)), 2):
        pairs = {(at[one], at[other]) for at in kept}
        assert pairs == set(itertools.product(range(sizes[one]), range(sizes[other])))
    assert len(kept) <= math.prod(sizes)


def test_a_sample_is_much_smaller_than_the_whole():
    kept = _sample(items_over(5, 5, 5, 5), quick=False)
    assert 25 <= len(kept) <= 625 // 4


@pytest.mark.parametrize("sizes", [(6, 4), (4, 6), (5, 5), (1, 3)])
def test_of_two_parameters_every_value_occurs_in_a_quick_run(sizes):
    assert _sample(items_over(*sizes), quick=False) == items_over(*sizes)
    kept = places(_sample(items_over(*sizes), quick=True))
    for axis, size in enumerate(sizes):
        assert {at[axis] for at in kept} == set(range(size))
    assert len(kept) == max(sizes)  # both walk at once


@pytest.mark.parametrize("quick", [False, True])
def test_a_test_over_fewer_parameters_is_kept_whole(quick):
    assert len(_sample(items_over(9), quick)) == 9
    plain = [SimpleNamespace()]
    assert _sample(plain, quick) == plain


def test_a_value_that_meets_only_one_other_is_kept():
    """Pairs that no item has are not demanded: a list need not be a product."""
    items = [item for item in items_over(3, 3, 3) if places([item])[0] != (1, 1, 1)]
    items = [item for item in items if places([item])[0][0] != 2 or places([item])[0][1] == 2]
    whole, kept = places(items), places(_sample(items, quick=False))
    for one, other in itertools.combinations(range(3), 2):
        assert {(a[one], a[other]) for a in kept} == {(a[one], a[other]) for a in whole}


def test_the_order_stays():
    items = items_over(4, 3, 3)
    kept = _sample(items, quick=False)
    assert [items.index(item) for item in kept] == sorted(items.index(item) for item in kept)


@pytest.mark.parametrize("shapes", [1, 2, 3, 4, 5, 11])
@pytest.mark.parametrize("options", [1, 2, 3, 4, 7])
def test_each_two_of_shape_options_and_dtype_meet(shapes, options, monkeypatch):
    case = SimpleNamespace(name="case", shapes=list(range(shapes)), options=list(range(options)))
    whole = set(itertools.product(range(shapes), range(options)))

    def part(dtype):
        return {(shape, option) for _, shape, option in sweep(case, dtype=dtype)}

    monkeypatch.setattr(Extent, "whole", False)
    parts = [part(dtype) for dtype in DTYPES]
    assert set().union(*parts) == whole
    for each in parts:
        assert {shape for shape, _ in each} == set(range(shapes))
        assert {option for _, option in each} == set(range(options))
    monkeypatch.setattr(Extent, "whole", True)
    assert all(part(dtype) == whole for dtype in DTYPES)


def test_files_that_take_long_exist():
    here = {path.name for path in Path(__file__).parent.glob("test_*.py")}
    assert set(LONG_FILES) <= here
    assert len(set(LONG_FILES)) == len(LONG_FILES)
