"""The limits that rows are compared with: loops that move bytes, and the machine's roofline."""

from __future__ import annotations

import json

import numpy as np
import pytest
from onepass import _C, _streams, bench, config
from onepass._streams import Streams
from onepass.bench import _command, _limits, _machine, _roofline

MARK = np.float32(1).view(np.uint32)
SHAPES = _C.stream_shapes()
WAYS = [(past, alone) for past in (False, True) for alone in (False, True)]


def aligned(size, rng):
    """Any bits at all, from a multiple of 64 bytes on; and what lies around them."""
    around = rng.integers(0, 2**32, size + 64, dtype=np.uint32)
    begin = 16 + -around[16:].ctypes.data // 4 % 16
    return around, around[begin : begin + size].view(np.float32)


def moved(shape, size, past_caches, alone):
    """Runs a loop, and compares every bit of every array, and around it, with what it should be."""
    rng = np.random.default_rng(size)
    around, arrays = zip(*(aligned(size, rng) for _ in range(sum(shape))), strict=True)
    reads, writes = arrays[: shape[0]], arrays[shape[0] : shape[0] + shape[1]]
    updates = arrays[shape[0] + shape[1] :]
    before = [whole.copy() for whole in around]
    value = np.full(size, MARK)
    for read in reads:
        value ^= read.view(np.uint32)
    wanted = [*(read.copy() for read in reads), *[value] * shape[1]]
    wanted += [update.view(np.uint32) ^ value for update in updates]
    got = _C.move_streams(reads, writes, updates, past_caches, alone)
    assert got == (np.bitwise_xor.reduce(value) if shape[1:] == (0, 0) and size else 0)
    for whole, was, array, want in zip(around, before, arrays, wanted, strict=True):
        begin = (array.ctypes.data - whole.ctypes.data) // 4
        was[begin : begin + size] = want.view(np.uint32)
        np.testing.assert_array_equal(whole, was)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_byte_is_moved(shape):
    for size in (0, 1, 15, 16, 1000, 1024, 20_000):
        for way in WAYS:
            moved(shape, size, *way)


@pytest.mark.parametrize("level", _C.cpu_levels())
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_every_level_and_number_of_threads(level, threads):
    before = config.cpu_level(), config.get_num_threads()
    _C.set_cpu_level(level)
    config.set_num_threads(threads)
    try:
        for shape in ((1, 0, 0), (2, 2, 0), (1, 0, 3), (2, 1, 1)):
            moved(shape, 100_003, True, False)
            moved(shape, 100_003, False, False)
    finally:
        _C.set_cpu_level(before[0])
        config.set_num_threads(before[1])


def test_what_the_loops_refuse():
    x, y = np.ones(32, np.float32), np.ones(33, np.float32)
    odd = next(a for a in (y[1:], y[:-1]) if a.ctypes.data % 64)
    frozen = x.copy()
    frozen.flags.writeable = False
    for arguments, error, message in [
        (
            ([x] * 9, [], []),
            ValueError,
            r"no loop has \(reads, writes, updates\) = \(9, 0, 0\), there",
        ),
        (([], [], []), ValueError, r"= \(0, 0, 0\)"),
        (([x], [y], []), ValueError, r"'writes\[0\]' has shape \(33,\), expected \(32,\)"),
        (([x.astype(np.float64)], [], []), TypeError, r"'reads\[0\]' is float64, expected float32"),
        (([y[::2]], [], []), ValueError, r"'reads\[0\]' .*"),
        (([x], [frozen], []), ValueError, r"'writes\[0\]' is read-only"),
        (([x], [], [frozen]), ValueError, r"'updates\[0\]' is read-only"),
        (([x], 3, []), TypeError, r"'writes' is a int, expected a list or tuple"),
        ((["x"], [], []), TypeError, r"'reads\[0\]' is a str"),
    ]:
        with pytest.raises(error, match="move_streams: .*" + message):
            _C.move_streams(*arguments, False, True)
    with pytest.raises(ValueError, match=r"'writes\[0\]' does not begin at a multiple of 64 bytes"):
        _C.move_streams([x], [odd], [], True, True)
    assert (x == 1).all()


# ---- limits of rows


def test_a_limit_moves_the_bytes_of_the_row(monkeypatch):
    given = []
    monkeypatch.setattr(_C, "move_streams", lambda *arguments: given.append(arguments))
    _limits.limit(Streams(1, 0, 3), 7e5, 2)()
    reads, writes, updates, past_caches, _ = given[-1]
    assert (len(reads), len(writes), len(updates)) == (1, 0, 3)
    assert {a.size for a in (*reads, *updates)} == {25_000}  # 7 arrays pass
    assert not past_caches
    addresses = [a.ctypes.data for a in (*reads, *updates)]
    assert all(address % 64 == 0 for address in addresses)
    assert len({address % 4096 for address in addresses}) == 4
    # Of what is only written both ways are tried, and where waking a worker may not pay, neither.
    assert {call[3:] for call in given} == {(False, False), (False, True)}
    given.clear()
    _limits.limit(Streams(1, 1), 4e6, 2)
    assert {call[3:] for call in given} == {(False, False), (True, False)}


def test_the_limit_is_the_fastest_way():
    clock = {"slow": 5, "fast": 1}
    calls = []

    def spin(label):
        calls.append(label)
        for _ in range(20_000 * clock[label]):
            pass

    functions = {label: lambda label=label: spin(label) for label in clock}
    assert _streams.fastest(functions, 1) is functions["fast"]
    assert set(calls) == set(clock)


def test_a_large_limit_finds_nothing_in_a_cache(monkeypatch):
    monkeypatch.setattr(_machine, "last_cache", lambda: 100_000)
    used = []
    monkeypatch.setattr(_C, "move_streams", lambda reads, *_: used.append(reads[0].ctypes.data))
    for rotates, places in ((True, 400_000 // 12_000 + 1), (False, 1)):
        function = _limits.limit(Streams(1, 0, 1), 12_000, 1, rotates)
        used.clear()
        for _ in range(100):
            function()
        assert len(set(used)) == places


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_arrays_that_have_a_loop(shape):
    assert _streams.nearest(Streams(*shape)) == shape


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ((1, 9, 0), (1, 4, 0)),
        ((9, 1, 0), (4, 1, 0)),
        ((0, 0, 4), (0, 0, 1)),
        ((0, 3, 0), (0, 1, 0)),
    ],
)
def test_other_arrays_have_the_nearest(wanted, found):
    assert _streams.nearest(Streams(*wanted)) == found


@pytest.mark.parametrize("wanted", [(0, 0, 0), (-1, 2, 0)])
def test_no_arrays_at_all(wanted):
    with pytest.raises(ValueError, match="expected at least one array"):
        _streams.nearest(Streams(*wanted))


# ---- the roofline


@pytest.fixture
def quick(monkeypatch):
    """Small arrays and one sample."""
    small = [_roofline.Place("L2", 1 << 14, True), _roofline.Place("memory", 1 << 16)]
    monkeypatch.setattr(_roofline, "places", lambda threads: (small, ["a note"]))
    monkeypatch.setattr(_machine, "machine", lambda: {"cpu": "a processor", "cpus": 2})
    monkeypatch.setattr(_roofline, "interleaved", lambda f, rounds: {name: [2e-6] for name in f})


def test_a_roofline(quick):
    before = config.get_num_threads()
    found = bench.roofline([2, 1], rounds=1)
    assert config.get_num_threads() == before
    assert found.threads == [1, 2]
    assert len(found.rates) == 5 * 2 * 2
    # A copy of 16 KiB in all, in 2 us; an optimizer's seven arrays over memory for four.
    assert found.rate("copy", "L2", 1).bytes_per_second == (1 << 14) / 2e-6
    assert found.rate("copy", "L2", 2).bytes_per_second == (2 << 14) / 2e-6
    assert found.rate("optimizer", "memory", 2).bytes_per_second == 7 / 4 * (1 << 16) / 2e-6
    lines = str(found).splitlines()
    assert lines[1].split("  ")[-1].strip() == "memory, 64 KiB"
    assert lines[2].split()[:3] == ["read", "1", "8.2"]
    assert lines[-1] == "a note"
    with pytest.raises(KeyError):
        found.rate("copy", "L3", 1)


@pytest.mark.parametrize(
    ("caches", "free", "sizes"),
    [
        ({"L1": 1 << 15, "L2": 1 << 20, "L3": 1 << 25}, 1 << 40, [1 << 19, 1 << 24, 1 << 28]),
        ({}, 1 << 40, [1 << 19, 1 << 24, 1 << 28]),  # assumed
        ({"L2": 1 << 20, "L3": 1 << 28}, 1 << 40, [1 << 19, 1 << 27, 1 << 30]),
        ({"L2": 1 << 20, "L3": 1 << 30}, 1 << 40, [1 << 19, 1 << 29, 1 << 31]),
        ({"L2": 1 << 22}, 1 << 40, [1 << 21, 1 << 28]),  # there is no third
        ({"L2": 1 << 20, "L3": 1 << 25}, 1 << 28, [1 << 19, 1 << 24, 1 << 26]),
    ],
)
def test_sizes_of_caches_and_memory(monkeypatch, caches, free, sizes):
    monkeypatch.setattr(_machine, "caches", lambda: caches)
    monkeypatch.setattr(_roofline, "free_memory", lambda: free)
    found, notes = _roofline.places(2)
    assert [place.size for place in found] == sizes
    assert bool(notes) == (not caches or "L3" not in caches or free < 1 << 40)


@pytest.mark.parametrize(
    ("keywords", "error"),
    [({"threads": []}, ValueError), ({"threads": [0]}, ValueError), ({"threads": [1.5]}, TypeError),
     ({"rounds": 0}, ValueError), ({"memory": 3}, ValueError),
     ({"memory": 10**30}, ValueError)],
)  # fmt: skip
def test_what_a_roofline_refuses(keywords, error):
    with pytest.raises(error, match=f"roofline: '{next(iter(keywords))}' is"):
        bench.roofline(**keywords)


def test_the_numbers_of_threads():
    assert _roofline._counts(1) == [1]
    assert _roofline._counts(6) == [1, 2, 3, 4, 5, 6]
    assert _roofline._counts(48) == [*range(1, 9), 16, 32, 48]


def test_the_command(quick, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert _command.main(["roofline", "--threads", "1,2", "--json", "r.json"]) == 0
    assert capsys.readouterr().out.endswith("a note\nwrote roofline.png\n")
    from matplotlib import image

    picture = image.imread(tmp_path / "roofline.png")
    assert picture.shape[1] > 1000
    assert len(np.unique(picture.reshape(-1, picture.shape[2]), axis=0)) > 50
    numbers = json.loads((tmp_path / "r.json").read_text())
    assert len(numbers["rates"]) == 20
    assert _command.main(["roofline", "--threads", "1", "--png", "none"]) == 0
    assert "wrote" not in capsys.readouterr().out
    again = ["roofline", "--threads", "1", "--png", "none", "--json", "r.json"]
    assert _command.main(again) == 2
    assert "--json r.json: the file is there already" in capsys.readouterr().err
    assert json.loads((tmp_path / "r.json").read_text()) == numbers
    assert _command.main([*again, "--overwrite"]) == 0
    assert len(json.loads((tmp_path / "r.json").read_text())["rates"]) == 10
    capsys.readouterr()
    for arguments, message in [
        (["--threads", "0"], "'0', expected numbers of threads such as 1,2"),
        (
            ["--threads", "1", "--png", "x.nope"],
            "--png x.nope: expected a name that ends with .png",
        ),
        (["--threads", "1", "--png", "no/x.png"], "cannot write no/x.png: there is no folder"),
        (["--threads", "1", "--json", "no/x"], "cannot write no/x: there is no folder"),
        (["fast"], "unrecognized arguments: fast"),
    ]:
        assert _command.main(["roofline", *arguments]) == 2
        error = capsys.readouterr().err
        assert error.startswith("onepass bench roofline: ")
        assert message in error
        assert error.count("\n") == 1
