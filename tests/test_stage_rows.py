"""What an optimizer tells a plan about its riders, and 16-bit rows that are scaled back."""

import numpy as np
import pytest
from cases import DTYPES
from onepass import _C, optim
from staged import VALUES

NARROW = [d for d in DTYPES if d.itemsize == 2]


def test_every_value_of_a_stage_has_a_name():
    assert sorted(_C.STAGES) == sorted(VALUES), "tests/staged.py: VALUES has others"


@pytest.mark.parametrize("name", VALUES)
def test_an_option_stands_where_the_extension_reads_it(name):
    options, value = VALUES[name]
    opt = optim.Adam([np.ones((2, 2), np.float32)], lr=0.125, **options)
    (row,) = opt._riders.rows
    assert dict(zip(_C.STAGES, row, strict=True)) == dict.fromkeys(_C.STAGES, 0.0) | {name: value}


@pytest.mark.parametrize("make", [optim.SGD, optim.Rprop], ids=["in the kernel", "not in it"])
def test_l1_follows_a_rate_that_changes(make):
    """Of Rprop the rate is where a state starts, so that its kernel does not have it."""
    p, plain = [np.full(4, 2.0)], [np.full(4, 2.0)]
    opt, without = make(p, lr=0.25, l1=0.5), make(plain, lr=0.25)
    for lr in (0.25, 0.0625):
        opt.param_groups[0]["lr"] = without.param_groups[0]["lr"] = lr
        plain[0][...] = p[0]
        for optimizer in (opt, without):
            optimizer.step([np.zeros(4)])
        np.testing.assert_array_equal(p[0], plain[0] - lr * 0.5)


@pytest.mark.parametrize("dtype", NARROW, ids=[d.name for d in NARROW])
@pytest.mark.parametrize("size", [1001, 2050])
def test_rows_scaled_back_are_rounded_at_random_too(dtype, size):
    """Rounded to the nearest, all elements of a row would be off by the same amount."""
    wanted = 1 - 2.0**-9 - 2.0**-13
    p = np.ones((60, size), dtype)
    limit = wanted * np.sqrt(size)
    opt = optim.SGD([p], lr=0.0, max_weight_norm=limit, stochastic_rounding=True)
    opt.step([np.zeros(p.shape, dtype)])
    values = p.astype(np.float64)
    assert len(np.unique(values)) == 2
    spread = values.std() / np.sqrt(values.size)
    assert abs(values.mean() - wanted) < 5 * spread
    assert len({row.tobytes() for row in p}) == len(p), "rows draw bits of their own"
