"""`onepass bench compare`: how often its rule is right under noise, what it reads and refuses."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
from onepass import bench
from onepass.bench import _command

MACHINE = {"cpu": "a processor", "cpus": 2, "caches": {"L2": 1 << 20}, "torch": "2.13"}
ROUNDS = 15
# What samples of two shared cores look like (bench/README.md): the whole run is faster or slower,
# and drifts; the clock has two states; a function is faster or slower in a run, for its place in
# memory; preemption adds time to some samples, and others are lost. `white` is the noise of a
# sample, larger towards more time, whose size differs between functions by `scatter`.
NOISE = {
    "clock": 0, "machine": 0.03, "drift": 0.03, "slow": 0.25, "place": 0.006, "spike": 0.08,
    "white": 0.02, "scatter": 0.0,
}  # fmt: skip
# Fitted to the 600 functions of a run on two quiet cores.
MEASURED = {"slow": 0, "spike": 0.03, "white": 0.1, "scatter": 0.64}


def simulated(rng, factor, labels, noise):
    """Samples of one row: of ours, times `factor`, and of what takes turns with it."""
    turns = ROUNDS * labels
    slow = np.empty(turns)
    state = rng.random() < noise["slow"]
    for turn in range(turns):
        if rng.random() < 0.07:
            state = rng.random() < noise["slow"]
        slow[turn] = 0.12 * state
    shared = rng.normal(noise["clock"], noise["machine"]) + slow
    shared += rng.normal(0, noise["drift"]) * np.linspace(-0.5, 0.5, turns)
    samples = {}
    for i, label in enumerate(("onepass", "limit", "torch", "numpy")[:labels]):
        white = rng.normal(0, noise["white"] * np.exp(rng.normal(0, noise["scatter"])), ROUNDS)
        white *= np.where(white > 0, 1.13, 0.88)
        logs = shared[i::labels] + rng.normal(0, noise["place"]) + white
        spikes = rng.random(ROUNDS) < noise["spike"]
        logs += np.log1p(rng.exponential(0.4, ROUNDS)) * spikes
        kept = np.exp(logs)[rng.random(ROUNDS) < 0.85]
        samples[label] = (kept * (factor if i == 0 else 1)).tolist()
    return samples


def results(samples, **more):
    rows = [
        {"row": f"row {i}", "threads": 2, "device": "cpu", "dtype": "float32", "samples": each}
        | more
        for i, each in enumerate(samples)
    ]
    return {"format": 2, "machine": MACHINE, "results": rows}


def run(seed, factor=1.0, labels=3, **noise):
    rng = np.random.default_rng(seed)
    return results([simulated(rng, factor, labels, NOISE | noise) for _ in range(160)])


@pytest.mark.parametrize(
    ("labels", "noise", "seen"),
    [
        (3, {"slow": 0, "machine": 0.01, "drift": 0.01, "spike": 0.03, "white": 0.01}, 0.9),
        (3, {}, 0.4),
        (3, {"slow": 0, "spike": 0.25}, 0.6),
        (4, {"clock": 0.3}, 0.4),
        (2, {"slow": 0, "drift": 0.1}, 0),  # no rival
        (3, {"place": 0.03}, 0),
        (4, {"place": 0.05}, 0),
        (4, MEASURED | {"place": 0.03}, 0),
        (4, MEASURED | {"place": 0.1}, 0),
    ],
    ids=["steady", "two clocks", "preempted", "another clock", "drift", "3 %", "5 %", "measured",
         "measured, 10 %"],
)  # fmt: skip
def test_the_rule_is_right_in_95_of_100(labels, noise, seen):
    """Where nothing changed; where a tenth did, of the rows of which it says that a tenth is seen,
    which are at least that share."""
    before = run(11, 1.0, labels, **(noise | {"clock": 0}))
    found = bench.compare(before, run(12, 1.0, labels, **noise)).changes
    right = sum(change.verdict == "SAME" for change in found) / len(found)
    assert right >= 0.95
    for factor, verdict in ((1.1, "SLOWER"), (1 / 1.1, "FASTER")):
        found = bench.compare(before, run(13, factor, labels, **noise)).changes
        telling = [change for change in found if change.sees <= 0.1]
        assert len(telling) >= seen * len(found)
        right = sum(change.verdict == verdict for change in telling)
        assert right >= 0.95 * len(telling), verdict


def visited(seed, visits, factor=1.0, shared=0.13, own=0.11):
    """A run with --repeat, of nineteen rows, as noisy as two processors of a shared host were
    (bench/README.md): a visit is faster or slower as a whole, and each function in it. `factor` is
    ours."""
    rng = np.random.default_rng(seed)
    labels = ("onepass", "limit", "torch")
    machine = rng.normal(0, 0.03)
    rows = []
    for _ in range(19):
        logs = rng.normal(0, shared, (1, visits, 1)) + rng.normal(0, own, (3, visits, 1)) + machine
        logs = logs + rng.normal(0, 0.05, (3, visits, 2))
        logs += np.log1p(rng.exponential(0.4, logs.shape)) * (rng.random(logs.shape) < 0.05)
        logs[0] += np.log(factor)
        rows.append(dict(zip(labels, np.exp(logs).reshape(3, -1).tolist(), strict=True)))
    return results(rows, visits=dict.fromkeys(labels, [2] * visits))


def test_visits_show_a_tenth_on_a_noisy_machine():
    """A hundred visits do, in all rows; ten say that they cannot."""
    counts = dict.fromkeys(("SAME", "SLOWER", "FASTER"), 0)
    for seed in range(0, 30, 6):
        old = visited(seed, 100)
        for i, (verdict, factor) in enumerate(
            {"SAME": 1, "SLOWER": 1.1, "FASTER": 1 / 1.1}.items()
        ):
            found = bench.compare(old, visited(seed + 1 + i, 100, factor)).changes
            counts[verdict] += sum(change.verdict == verdict for change in found)
    assert min(counts.values()) >= 0.95 * 5 * 19, counts
    few = bench.compare(visited(50, 10), visited(51, 10))
    assert sum(change.verdict == "SAME" for change in few.changes) >= 18
    assert len(few.blind) == 19


def test_what_all_functions_of_a_visit_share_is_no_noise():
    """The more of it is shared, the less of it hides a change."""
    apart, shared = (
        bench.compare(visited(60, 40, shared=a, own=b), visited(61, 40, shared=a, own=b))
        for a, b in ((0.0, 0.17), (0.165, 0.04))
    )
    half, all_of_it = (np.median([c.noise for c in found.changes]) for found in (shared, apart))
    assert half < 0.6 * all_of_it


def test_visits_of_another_number_of_samples_are_refused():
    content = visited(0, 6)
    content["results"][0]["visits"]["torch"] = [2] * 5
    what = r"results\[0\]\.visits\['torch'\] is \[2, 2, 2, 2, 2\], expected counts of 12 samples"
    with pytest.raises(ValueError, match=what):
        bench.compare(content, content)


def odd(path, value):
    """A good file but for one place; `...` takes it away."""
    content = rows_of(onepass=1.0, torch=2.0)
    content["machine"] = dict(MACHINE)
    content["results"][0] |= {"visits": {"onepass": [4, 5], "torch": [4, 5]}}
    *way, last = path
    part = content = copy.deepcopy(content)
    for step in way:
        part = part[step]
    if value is ...:
        del part[last]
    else:
        part[last] = value
    return content


ROW = ("results", 0)
ODD = [
    (("machine",), ..., "it has no 'machine'"),
    (("machine",), [], "machine is [], expected an object"),
    (("machine", "cpus"), "two", "machine.cpus is 'two', expected a whole number >= 1"),
    (("machine", "load"), "high", "machine.load is 'high', expected a number >= 0"),
    (("results",), {}, "results is {}, expected a list"),
    (("results", 0), 3, "results[0] is 3, expected an object"),
    ((*ROW, "row"), ..., "results[0] has no 'row'"),
    ((*ROW, "row"), "", "results[0].row is '', expected a name"),
    ((*ROW, "dtype"), None, "results[0].dtype is None, expected a name"),
    ((*ROW, "threads"), "two", "results[0].threads is 'two', expected a whole number >= 1"),
    ((*ROW, "threads"), True, "results[0].threads is True, expected a whole number >= 1"),
    ((*ROW, "wrong"), "no", "results[0].wrong is 'no', expected true or false"),
    ((*ROW, "skipped"), 1, "results[0].skipped is 1, expected a text"),
    ((*ROW, "samples"), ..., "results[0] has no 'seconds'"),
    ((*ROW, "samples"), [], "results[0].samples is [], expected an object"),
    ((*ROW, "samples"), "fast", "results[0].samples is 'fast', expected an object"),
    ((*ROW, "samples"), {}, "results[0].samples is {}, expected at least one function"),
    ((*ROW, "samples", " "), [1.0], "results[0].samples has ' ', expected the label of a function"),
    ((*ROW, "samples", "torch"), 3, "results[0].samples['torch'] is 3, expected a list"),
    ((*ROW, "samples", "torch"), [], "results[0].samples['torch'] is [], expected at least one"),
    ((*ROW, "samples", "torch", 1), "x", "samples['torch'][1] is 'x', expected a number > 0"),
    ((*ROW, "samples", "torch", 1), True, "samples['torch'][1] is True, expected a number > 0"),
    ((*ROW, "samples", "torch", 1), -1, "samples['torch'][1] is -1, expected a number > 0"),
    ((*ROW, "visits"), 3, "results[0].visits is 3, expected an object"),
    ((*ROW, "visits", "torch"), ..., "results[0].visits has no 'torch'"),
    ((*ROW, "visits", "torch"), 9, "results[0].visits['torch'] is 9, expected a list"),
    ((*ROW, "visits", "torch", 0), 0, "visits['torch'][0] is 0, expected a whole number >= 1"),
]


@pytest.mark.parametrize(("path", "value", "message"), ODD, ids=lambda value: str(value)[:40])
def test_an_odd_file_is_one_clear_error(path, value, message, files, capsys):
    """The file, the place in it, what stands there, what was expected."""
    good = odd(("machine", "cpus"), 2)
    assert bench.compare(good, good).changes
    old, new = files(good, odd(path, value))
    status, text, error = compare(capsys, old, new)
    assert (status, text) == (2, "")
    start = f"onepass bench compare: {new} cannot be read as a file of --json: "
    assert error.startswith(start)
    assert message in error.removeprefix(start)
    assert error.count("\n") == 1
    with pytest.raises(ValueError, match=r"^compare: these results cannot be read"):
        bench.compare(good, odd(path, value))


def places_of(value, path=()):
    """Every place of a file, by its way from the top."""
    if path:
        yield path
    inside = enumerate(value) if isinstance(value, list) else ()
    for key, part in value.items() if isinstance(value, dict) else inside:
        yield from places_of(part, (*path, key))


def test_no_odd_value_is_a_raw_error():
    """Whatever stands anywhere, it is read, or refused in words of ours."""
    good, refused = odd(("machine", "cpus"), 2), 0
    for path in places_of(good):
        for value in (None, True, 3, -1, "x", "", [], {}, [1], {"a": 1}, float("nan"), ...):
            message = refusal(good, odd(path, value))
            assert message.startswith("compare: ") or not message, (path, value)
            refused += bool(message)
    assert refused > 100


def refusal(old, new):
    try:
        str(bench.compare(old, new, across_machines=True))
    except ValueError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("name", ["old", "new"])
def test_what_is_no_file_is_refused(name):
    with pytest.raises(TypeError, match=f"compare: '{name}' is 3, expected a file of --json"):
        bench.compare(**{"old": rows_of(onepass=1.0), "new": rows_of(onepass=1.0), name: 3})


def rows_of(**seconds):
    """One row, whose functions take so long, with samples as steady as can be."""
    steady = {label: [s * (1 + 0.001 * i) for i in range(9)] for label, s in seconds.items()}
    return results([steady])


def verdict_of(old, new, **more):
    (change,) = bench.compare(old, new, **more).changes
    return change.verdict


def test_a_change_counts_beside_what_was_timed_with_it():
    old = rows_of(onepass=1.0, limit=0.5, torch=2.0)
    # The whole machine takes a fifth longer.
    assert verdict_of(old, rows_of(onepass=1.2, limit=0.6, torch=2.4)) == "SAME"
    assert verdict_of(old, rows_of(onepass=1.2, limit=0.5, torch=2.0)) == "SLOWER"
    # Ours is faster in seconds, and yet slower than it could be.
    assert verdict_of(old, rows_of(onepass=0.95, limit=0.43, torch=1.72)) == "SLOWER"
    assert verdict_of(old, rows_of(onepass=0.8, limit=0.5, torch=2.0)) == "FASTER"
    assert verdict_of(old, rows_of(onepass=1.04, limit=0.5, torch=2.0)) == "SAME"


def test_a_limit_that_went_wild_proves_nothing():
    old = rows_of(onepass=1.0, limit=0.5)
    assert verdict_of(old, rows_of(onepass=1.0, limit=1.5)) == "SAME"
    assert verdict_of(old, rows_of(onepass=1.0, limit=0.1)) == "SAME"


@pytest.mark.parametrize(
    ("label", "library"),
    [
        ("torch", "torch"), ("torch compile", "torch"), ("onednn torch", "torch"),
        ("onednn torch", "onednn"), ("keras torch", "torch"), ("keras jax", "jax"),
        ("bitsandbytes", "torch"), ("optax jit", "jax"), ("jax jit", "jax"),
        ("sklearn plain MLP", "numpy"), ("products", "numpy"),
    ],
)  # fmt: skip
def test_a_rival_of_another_version_is_not_what_ours_is_compared_with(label, library):
    old, new = rows_of(onepass=1.0, **{label: 2.0}), rows_of(onepass=1.0, **{label: 1.7})
    assert verdict_of(old, new) == "SLOWER"
    old["machine"] = MACHINE | {library: "1.0", "thinc": None}
    new["machine"] = MACHINE | {library: "2.0", "thinc": "3"}
    found = bench.compare(old, new)
    assert found.changes[0].verdict == "SAME"
    assert [note for note in found.notes if "became" in note] == [
        f"{library} 1.0 became 2.0: it is left out."
    ]


def test_a_rival_of_other_libraries_still_counts():
    old, new = (
        rows_of(onepass=1.0, **{"keras jax": 2.0}),
        rows_of(onepass=1.0, **{"keras jax": 1.7}),
    )
    new["machine"] = MACHINE | {"torch": "2.14"}
    assert verdict_of(old, new) == "SLOWER"


def test_what_slows_our_pool_is_no_slower_machine():
    old = rows_of(onepass=1.0, limit=0.5, torch=2.0)
    found = bench.compare(old, rows_of(onepass=1.15, limit=0.575, torch=2.0))
    assert found.changes[0].verdict == "SLOWER"
    assert "Beside the rivals, the limit takes 15% more time" in found.notes[0]
    found = bench.compare(old, rows_of(onepass=1.15, limit=0.575, torch=2.3))
    assert (found.changes[0].verdict, found.notes) == ("SAME", [])
    # Without rivals it cannot be told, and is said.
    old = rows_of(onepass=1.0, limit=0.5)
    found = bench.compare(old, rows_of(onepass=1.15, limit=0.575))
    assert found.changes[0].verdict == "SAME"
    assert "No rival was timed" in found.notes[-1]


def test_our_pool_slower_in_many_noisy_rows():
    def slowed(content):
        for row in content["results"]:
            for label in ("onepass", "limit"):
                row["samples"][label] = [1.15 * s for s in row["samples"][label]]
        return content

    found = bench.compare(run(21), slowed(run(22)))
    assert "the limit takes 15% more time" in found.notes[0]
    assert len(found.slower) >= 0.9 * len(found.changes)


def test_same_says_what_it_cannot_see():
    noise = {"place": 0.04}
    found = bench.compare(run(23, **noise), run(24, **noise))
    blind = [change for change in found.changes if change.blind]
    assert blind == found.blind
    assert len(blind) > 0.9 * len(found.changes)
    assert all(change.sees > max(0.1, change.noise) for change in blind)
    assert f"SAME, but less than {blind[0].sees:.0%} cannot be seen" in str(found)
    assert str(found).endswith(f"; in {len(blind)} of these the noise would hide a change of 10%")
    steady = rows_of(onepass=1.0, limit=0.5, torch=2.0)
    assert not bench.compare(steady, steady).blind


def test_noise_is_learned_from_what_did_not_change():
    """The samples of both are as steady, but in one pair rivals differ from run to run."""

    def row(rng, scatter):
        rivals = {name: 2 * np.exp(rng.normal(0, scatter)) for name in ("torch", "numpy", "thinc")}
        return rows_of(onepass=1.0, **rivals)["results"][0]["samples"]

    def pair(scatter):
        rng = np.random.default_rng(5)
        return [results([row(rng, scatter) for _ in range(12)]) for _ in range(2)]

    still, apart = (bench.compare(*pair(scatter)).changes for scatter in (0.005, 0.1))
    assert max(change.noise for change in still) < 0.04
    assert min(change.noise for change in apart) > 0.15


def test_a_busy_machine_proves_large_differences_only():
    old, new = rows_of(onepass=1.0, torch=0.5), rows_of(onepass=1.15, torch=0.5)
    assert verdict_of(old, new) == "SLOWER"
    new["machine"] = MACHINE | {"load": 4.5}
    found = bench.compare(old, new)
    assert found.changes[0].verdict == "SAME"
    assert "the load was 4 on 2 processors" in found.notes[0]
    new["machine"]["load"] = 3.9
    assert verdict_of(old, new) == "SLOWER"


def test_a_wrong_result_is_not_fast():
    new = results([rows_of(onepass=0.5, limit=0.5)["results"][0]["samples"]], wrong=True)
    found = bench.compare(rows_of(onepass=1.0, limit=0.5), new)
    assert found.changes[0].verdict == "WRONG"
    assert found.slower == found.changes


def test_a_row_that_fails_now_fails_the_comparison(tmp_path, capsys):
    old, new = rows_of(onepass=1.0), rows_of(onepass=1.0)
    place = {k: new["results"][0][k] for k in ("row", "threads", "device", "dtype")}
    for why, wrong in (("OverflowError: too much", True), ("not enough memory", False)):
        new["results"] = [place | {"skipped": why, "wrong": wrong}]
        found = bench.compare(old, new)
        assert (found.failed, found.only_old) == (
            ([f"row 0 (2 threads): {why}"], []) if wrong else ([], [f"row 0 (2 threads): {why}"])
        )
        files = [tmp_path / "old.json", tmp_path / "new.json"]
        for file, content in zip(files, (old, new), strict=True):
            file.write_text(json.dumps(content))
        assert _command.main(["compare", *map(str, files)]) == (1 if wrong else 2)
        out = capsys.readouterr().out
        assert ("FAILED in the new file: row 0" in out) == wrong
        assert ("1 FAILED, 0 SLOWER" in out) == wrong


def test_a_row_that_is_wrong_without_an_old_time_fails_the_comparison(files, capsys):
    two = results([{"onepass": [1.0] * 5, "onepass out=": [0.5] * 5}] * 2)
    wrong = copy.deepcopy(two)
    wrong["results"][1]["wrong"] = True
    place = {k: two["results"][1][k] for k in ("row", "threads", "device", "dtype")}
    one = two["results"][:1]
    failed = [*one, place | {"skipped": "OverflowError: too much", "wrong": True}]
    skipped = [*one, place | {"skipped": "not enough memory", "wrong": False}]
    for rows in (one, failed, skipped, failed[1:]):
        old = two | {"results": rows}
        found = bench.compare(old, wrong)
        assert found.wrong == ["row 1 (2 threads)"]
        assert "row 1 (2 threads)" not in str(found.only_new)
        status, text, _ = compare(capsys, *files(old, wrong))
        assert status == 1
        assert "\nWRONG in the new file: row 1 (2 threads)\n" in f"\n{text}"
        assert "1 WRONG without an old time, 0 SLOWER" in text


def test_a_row_that_failed_and_is_right_is_said(files, capsys):
    """With its other forms; and a wrong one."""
    right = results([{"onepass": [1.0] * 5, "onepass out=": [0.5] * 5}])
    place = {k: right["results"][0][k] for k in ("row", "threads", "device", "dtype")}
    failed, wrong = copy.deepcopy(right), copy.deepcopy(right)
    failed["results"] = [place | {"skipped": "OverflowError: too much", "wrong": True}]
    wrong["results"][0]["wrong"] = True
    name = "row 0 (2 threads)"
    for old, line in (
        (failed, f"{name}, FAILED in the old file: OverflowError: too much"),
        (wrong, f"{name}, WRONG in the old file"),
    ):
        found = bench.compare(old, right)
        assert (found.mended, found.only_old, found.only_new, found.failed) == ([line], [], [], [])
        status, text, _ = compare(capsys, *files(old, right))
        assert status == 0
        assert f"\nmended: {line}\n" in f"\n{text}"
    # The other way round it has failed, with all its forms.
    found = bench.compare(right, failed)
    assert (found.failed, found.only_old) == ([f"{name}: OverflowError: too much"], [])
    # In both, and where the old file has no such row, too.
    found = bench.compare(failed, failed)
    assert found.failed == [f"{name}: OverflowError: too much; in the old file too"]
    assert compare(capsys, *files(failed, failed))[0] == 1
    other = results([{"onepass": [1.0] * 5}])
    other["results"][0]["row"] = "another"
    assert bench.compare(other, failed).failed == [f"{name}: OverflowError: too much"]
    # Rows that are not asked for do not count.
    failed["results"].append(other["results"][0])
    assert compare(capsys, *files(other, failed), "--only", "another")[0] == 0
    assert compare(capsys, *files(other, failed))[0] == 1
    assert bench.compare(wrong, wrong).mended == []


def test_rows_of_one_file_have_their_dtype():
    old, new = rows_of(onepass=1.0), rows_of(onepass=1.0)
    new["results"][0]["dtype"] = "bfloat16"
    found = bench.compare(old, new)
    assert found.only_old == ["row 0 (2 threads)"]
    assert found.only_new == ["row 0 bfloat16 (2 threads)"]


def test_the_same_files_give_the_same_answer():
    one, two = run(3), run(4)
    first = bench.compare(one, two)
    assert first == bench.compare(copy.deepcopy(one), two)
    assert {change.verdict for change in bench.compare(one, one).changes} == {"SAME"}


FIRST = {
    "machine": {"cpu": "a processor", "cpus": 2, "level": "v4"},
    "results": [
        {"row": "relu 64", "threads": 2, "seconds": {"onepass": 1.0, "torch": 2.0, "copy": 0.9},
         "ratio": 2.0, "copy_share": 0.9}
    ],
}  # fmt: skip


def first_format(seconds):
    content = copy.deepcopy(FIRST)
    content["results"][0]["seconds"]["onepass"] = seconds
    return content


def test_files_of_the_first_format():
    """They have medians alone, which prove large differences only; a new file may be beside one."""
    found = bench.compare(FIRST, first_format(1.1))
    assert found.changes[0].verdict == "SAME"
    assert "medians without samples" in found.notes[0]
    assert verdict_of(FIRST, first_format(1.5)) == "SLOWER"
    assert verdict_of(FIRST, first_format(0.6)) == "FASTER"
    new = rows_of(onepass=1.6, torch=2.0)
    new["results"][0]["row"] = "relu 64"
    assert verdict_of(FIRST, new) == "SLOWER"


def without_samples(content, rows):
    """The medians alone of some rows."""
    content = copy.deepcopy(content)
    for row in content["results"][:rows]:
        row["seconds"] = {label: float(np.median(s)) for label, s in row.pop("samples").items()}
    return content


@pytest.mark.parametrize("rows", [1, 12])
def test_medians_are_compared_with_medians(rows):
    """Skewed samples, whose faster half lies a tenth below their median."""

    def skewed(factor=1.0):
        steps = np.exp(0.25 * np.linspace(-1, 1, 15))
        each = {"onepass": factor * steps, "limit": 0.5 * steps, "torch": 2 * steps}
        return results([{label: s.tolist() for label, s in each.items()} for _ in range(12)])

    whole = skewed()
    found = bench.compare(without_samples(whole, rows), whole)
    assert [change.change for change in found.changes] == pytest.approx([0] * 12, abs=1e-9)
    assert {change.verdict for change in found.changes} == {"SAME"}
    expected = f" in {rows} rows" if rows < 12 else ""
    assert f"has medians without samples{expected}: there medians are compared" in found.notes[-1]
    # Rows with samples are as certain as before.
    certain = bench.compare(whole, whole).changes[0].noise
    noise = sorted(change.noise for change in found.changes)
    assert noise[0] == pytest.approx(certain, rel=0.2) or rows == 12
    assert 0.06 < noise[-1] < 0.16
    for factor, verdict in ((1.3, "SLOWER"), (0.7, "FASTER")):
        for pair in (
            (without_samples(whole, rows), skewed(factor)),
            (whole, without_samples(skewed(factor), rows)),
        ):
            found = bench.compare(*pair).changes
            assert {change.verdict for change in found} == {verdict}
            assert [c.change for c in found] == pytest.approx([factor - 1] * 12, abs=1e-9)


def test_files_of_a_gpu_in_the_first_format():
    def of(us):
        row = {"name": "adamw 1 G", "us": {"onepass": us, "torch fused": 90.0}}
        return {"machine": {"gpu": "H200"}, "results": [row]}

    (change,) = bench.compare(of(50.0), of(80.0)).changes
    assert (change.device, change.verdict) == ("cuda", "SLOWER")
    assert change.old == pytest.approx(50e-6)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("cpu", "another"),
        ("cpus", 64),
        ("caches", {}),
        ("clock", "processor time"),
        ("malloc", "tuned"),
        ("gpu", "H200"),
    ],
)
def test_other_machines_are_refused(name, value):
    old, new = rows_of(onepass=1.0, limit=0.5), rows_of(onepass=4.0, limit=2.0)
    old["machine"] = MACHINE | ({"malloc": "plain"} if name == "malloc" else {})
    new["machine"] = MACHINE | {name: value}
    with pytest.raises(ValueError, match=rf"measured alike: {name} is .*--across-machines"):
        bench.compare(old, new)
    assert verdict_of(old, new, across_machines=True) == "SAME"


# ---- the command


@pytest.fixture
def files(tmp_path):
    def write(*contents):
        paths = []
        for i, content in enumerate(contents):
            path = tmp_path / f"{i}.json"
            path.write_text(content if isinstance(content, str) else json.dumps(content))
            paths.append(str(path))
        return paths

    return write


def compare(capsys, *arguments):
    status = _command.main(["compare", *arguments])
    out = capsys.readouterr()
    return status, out.out, out.err


def test_the_command(files, capsys):
    old, new = rows_of(onepass=1e-5, torch=5e-6), rows_of(onepass=1.3e-5, torch=5e-6)
    gone = rows_of(onepass=1.0)["results"][0] | {"row": "gone"}
    new["results"].append({"row": "gone", "threads": 2, "skipped": "not enough memory"})
    old["results"].append(gone)
    new["results"].append(gone | {"row": "fresh", "threads": 1})
    status, text, _ = compare(capsys, *files(old, new))
    assert status == 1
    lines = text.splitlines()
    assert lines[0].split() == ["row", "threads", "old", "new", "change", "noise"]
    assert lines[1].split()[:7] == ["row", "0", "2", "10", "us", "13.1", "us"]
    assert "+30.0%" in lines[1]
    assert lines[1].endswith("SLOWER")
    assert lines[2:] == [
        "only in the old file: gone (2 threads): not enough memory",
        "only in the new file: fresh (1 thread)",
        "1 SLOWER, 0 FASTER, 0 SAME",
    ]
    assert compare(capsys, *files(old, old))[0] == 0
    assert compare(capsys, *files(new, old))[0] == 0  # FASTER does not fail


@pytest.mark.parametrize(
    ("contents", "more", "message"),
    [
        ((FIRST, "no json"), (), "1.json cannot be read as a file of --json: Expecting value"),
        ((FIRST, "[]"), (), "1.json cannot be read as a file of --json: it is [], expected an obj"),
        (
            (FIRST, {"machine": {}}),
            (),
            "1.json cannot be read as a file of --json: it has no 'results'",
        ),
        ((FIRST, {"format": 3}), (), "has format 3, this version of onepass reads 1 and 2"),
        (
            (FIRST, first_format(0.0)),
            (),
            "results[0].seconds['onepass'] is 0.0, expected a number > 0",
        ),
        ((FIRST, first_format(float("nan"))), (), "is nan, expected a number > 0"),
        ((FIRST, rows_of(onepass=1.0)), (), "have no row in common"),
        ((FIRST, FIRST), ("--only", "gelu"), "--only 'gelu' matches no row of"),
        ((FIRST, FIRST), ("--only", "("), "'(' is not a regular expression"),
        ((FIRST, FIRST), ("--against", "x"), "unrecognized arguments: --against x"),
        (
            (FIRST, FIRST | {"machine": {"cpu": "b"}}),
            (),
            "measured alike: cpu is 'a processor'",
        ),
        ((FIRST,), (), "the following arguments are required: NEW"),
        ((FIRST,), ("/nowhere.json",), "cannot read /nowhere.json: No such file"),
    ],
)
def test_wrong_use_is_one_line(files, capsys, contents, more, message):
    status, text, error = compare(capsys, *files(*contents), *more)
    assert (status, text) == (2, "")
    assert error.startswith("onepass bench compare: ")
    assert message in error
    assert error.count("\n") == 1
