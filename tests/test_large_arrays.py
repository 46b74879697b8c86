"""Several threads write outputs above 48 MB past the caches. They have the bits of the same work in
parts, and of one thread."""

import numpy as np
import pytest
from helpers import assert_same
from onepass import config, ops

SIZE = 2**24 + 3  # float32: 64 MB, and a tail
HALF = SIZE // 2 // 1024 * 1024  # parts start at whole words of dropout bits
LEVELS = config.cpu_levels()


def starting_at(past_line: int, size: int) -> np.ndarray:
    """Zeros of float32 whose first element lies this many bytes past a cache line."""
    raw = np.zeros(4 * size + 128, np.uint8)
    start = (past_line - raw.ctypes.data) % 64
    array = raw[start : start + 4 * size].view(np.float32)
    assert array.ctypes.data % 64 == past_line
    return array


@pytest.fixture(scope="module")
def x() -> np.ndarray:
    return np.random.default_rng(0).standard_normal(SIZE, np.float32)


@pytest.fixture(autouse=True)
def several_threads():
    """Also where there is one processor; the fixture of conftest.py puts the number back."""
    config.set_num_threads(2)


def test_one_thread_streams_nothing_and_has_the_same_bits(x):
    streamed = [f(x) for f in (ops.relu, ops.tanh)]
    config.set_num_threads(1)
    for several, f in zip(streamed, (ops.relu, ops.tanh), strict=True):
        assert_same(f(x), several)


@pytest.mark.parametrize("past_line", [4, 32, 60])
@pytest.mark.parametrize("level", LEVELS)
def test_streamed_outputs_have_the_bits_of_small_ones(x, level, past_line):
    config.set_cpu_level(level)
    out = starting_at(past_line, SIZE)
    ops.relu(x, out=out)
    assert_same(out, np.maximum(x, 0), "relu")

    ops.dropout(x, 0.25, seed=3, offset=9, out=out)
    kept = ops.dropout_mask((SIZE,), 0.25, seed=3, offset=9)
    scale = ops.dropout(np.ones(64, np.float32), 0.25, seed=3, offset=9).max()
    assert_same(out, np.where(kept, x * scale, np.float32(0)), "dropout")


@pytest.mark.parametrize("past_line", [4, 60])
@pytest.mark.parametrize("level", LEVELS)
def test_a_streamed_batch_norm_has_the_bits_of_a_small_one(x, level, past_line):
    config.set_cpu_level(level)
    rows = SIZE // 64
    samples = x[: rows * 64].reshape(rows, 64)
    mean, var = np.full(64, 0.5, np.float32), np.full(64, 2.0, np.float32)
    weight, bias = np.full(64, 1.5, np.float32), np.full(64, -0.25, np.float32)

    def norm(part, out=None):
        return ops.batch_norm(
            part, weight, bias, mean, var, training=False, activation="relu", out=out
        )[0]

    whole = norm(samples, starting_at(past_line, rows * 64).reshape(rows, 64))
    assert whole.nbytes > 48 << 20
    cut = rows // 2
    assert_same(whole[:cut], norm(samples[:cut].copy()), "first half")
    assert_same(whole[cut:], norm(samples[cut:].copy()), "second half")


def test_windows_over_more_than_2_to_the_31_elements() -> None:
    """Zeros that are never written take no memory; the last window has the only element."""
    x = np.zeros((2, 1, 2**15 + 64, 2**15), np.float16)
    assert x.size > 2**31
    x[-1, -1, -1, -1] = 64
    for pool, want in (
        (lambda: ops.max_pool2d(x, 64)[0], 64),
        (lambda: ops.avg_pool2d(x, 64), 2**-6),
    ):
        y = pool()
        assert y[-1, -1, -1, -1] == want
        assert np.count_nonzero(y) == 1
