"""The same bits for any number of threads and any instruction set, from several Python threads at
once, and in a forked child."""

import contextlib
import math
import os
import subprocess
import sys
import sysconfig
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from cases import CASES, DTYPES
from helpers import CASE_IDS, Extent, assert_all_same, each_dtype, sweep
from onepass import config, ops

each_case = pytest.mark.parametrize("case", CASES, ids=CASE_IDS)


def several_chunks(case):
    """One shape small, one that is dealt out to several threads, whatever the serial cutoff."""
    if case.family == "loss":
        return [(17, 10), (4003, 61), (3, 65539)]
    if case.family == "rows":  # halves and pieces of every axis
        return [(30, 66), (30, 66, 6, 12), (3000, 66)]
    if (1025,) in case.shapes:
        return [(1025,), (200003,)]
    shapes = [(65, 129), (29, 67, 9, 13), (3001, 67)]
    return [shape for shape in shapes if len(shape) >= min(map(len, case.shapes))]


def settings_of(place):
    """(level, threads) to compare: one thread of the best level, several, another level; one of
    each kind, by the place in the grid, or all with --all-cases."""
    *others, best = config.cpu_levels()
    more, levels = [(best, n) for n in (2, 3, 7)], [(level, 2) for level in others]
    if Extent.whole:
        return [(best, 1), *more, *levels]
    return [(best, 1), *(some[place % len(some)] for some in (more, levels) if some)]


@each_dtype
@each_case
def test_threads_and_levels_give_the_same_bits(case, dtype):
    options = case.options if dtype == np.float32 else case.options[-2:]
    for place, (label, shape, option) in enumerate(sweep(case, several_chunks(case), options)):
        want = None
        of_shape, of_option = divmod(place, len(options))
        for level, threads in settings_of(of_shape + of_option + DTYPES.index(dtype)):
            config.set_cpu_level(level)
            config.set_num_threads(threads)
            assert config.get_num_threads() == threads
            assert config.cpu_level() == level
            got = case.run(case.inputs(shape, dtype, option), option)
            want = want or got
            assert_all_same(got, want, f"{label}: {threads} threads, {level}")


def test_there_is_a_level_to_choose():
    levels = config.cpu_levels()
    assert levels, "no instruction set at all"
    assert config.cpu_level() == levels[-1], "the best one is the default"
    for level in levels:
        config.set_cpu_level(level)
        assert config.cpu_level() == level


def test_wrong_settings():
    for level in ("v5", "avx512", "", None):
        with pytest.raises((ValueError, TypeError)):
            config.set_cpu_level(level)
    for threads in (0, -1):
        with pytest.raises(ValueError, match=str(threads)):
            config.set_num_threads(threads)
    assert config.get_num_threads() >= 1


def test_calls_from_eight_threads():
    work = []
    for case in CASES:
        for shape in several_chunks(case)[:2]:
            options = case.options[-1]
            work.append((case, shape, options, case.inputs(shape, "float32", options)))
    want = [case.run(case.inputs(s, "float32", o), o) for case, s, o, _ in work]
    start = threading.Barrier(8)

    def everything(turn):
        start.wait()
        for k in range(len(work)):
            i = (k + turn * 5) % len(work)
            case, shape, options, _ = work[i]
            got = case.run(case.inputs(shape, "float32", options), options)
            assert_all_same(got, want[i], f"{case.name}{shape} in thread {turn}")

    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(everything, turn) for turn in range(8)]:
            done.result()


def test_types_that_eight_threads_see_first():
    """The border remembers what a type offers, of more types than it has room for."""
    kinds = [type(f"Kind{i}", (np.ndarray,), {}) for i in range(60)]
    x = np.random.default_rng(0).standard_normal(33).astype(np.float32)
    want, start = ops.relu(x), threading.Barrier(8)

    def everything(turn):
        start.wait()
        for i in range(len(kinds)):
            got = ops.relu(x.view(kinds[(i + turn * 7) % len(kinds)]))
            assert np.array_equal(got, want)

    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(everything, turn) for turn in range(8)]:
            done.result()


@pytest.mark.skipif(not sysconfig.get_config_var("Py_GIL_DISABLED"), reason="has a GIL")
def test_no_extension_switches_the_gil_on():
    code = "import sys; from onepass import _C, _jax; sys.exit(sys._is_gil_enabled())"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_number_of_threads_may_change_meanwhile():
    x = np.random.default_rng(0).standard_normal(300001).astype(np.float32)
    want = ops.gelu(x)
    stop = threading.Event()

    def change():
        while not stop.is_set():
            for n in (1, 5, 2):
                config.set_num_threads(n)

    with ThreadPoolExecutor(1) as pool:
        changing = pool.submit(change)
        try:
            for _ in range(50):
                assert_all_same([ops.gelu(x)], [want])
        finally:
            stop.set()
        changing.result()


def in_child(work, seconds=20):
    """work() in a forked child; True when it returns True in time."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # fork with threads: that is the point
        child = os.fork()
    if child == 0:
        status = 1
        with contextlib.suppress(BaseException):
            status = 0 if work() else 1
        os._exit(status)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status) == 0
        time.sleep(0.002)
    os.kill(child, 9)
    os.waitpid(child, 0)
    return False


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_works():
    x = np.random.default_rng(0).standard_normal(500001).astype(np.float32)
    config.set_num_threads(3)
    want = ops.gelu(x), ops.global_norm([x])

    def same():
        return np.array_equal(ops.gelu(x), want[0]) and ops.global_norm([x]) == want[1]

    assert in_child(same)
    assert in_child(lambda: in_child(same)), "a grandchild"
    assert same(), "the parent goes on"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_fork_in_the_middle_of_a_call():
    """Another thread is inside a kernel, and may hold any lock, at the moment of the fork."""
    x = np.random.default_rng(0).standard_normal(500001).astype(np.float32)
    config.set_num_threads(3)
    want = ops.gelu(x)
    stop = threading.Event()

    def busy():
        out = np.empty_like(x)
        while not stop.is_set():
            ops.gelu(x, out=out)

    with ThreadPoolExecutor(1) as pool:
        pool.submit(busy)
        try:
            for turn in range(10):
                assert in_child(lambda: np.array_equal(ops.gelu(x), want)), f"fork {turn}"
        finally:
            stop.set()


def test_subnormals_survive():
    """Flush-to-zero set for an optimizer is put back on every thread, and none is set by import."""
    tiny = np.full(300001, 1e-40, np.float32)
    half = np.float32(0.5)
    ops.global_norm([tiny])
    ops.sgd_([tiny.copy()], [tiny], step=1, lr=1.0)
    assert np.finfo(np.float64).tiny / 2 != 0
    assert (tiny * half != 0).all()
    for threads in (1, 2, 7):
        config.set_num_threads(threads)
        assert (ops.leaky_relu(-tiny, negative_slope=0.5) == -tiny * half).all()
    assert math.ldexp(1.0, -1074) != 0
