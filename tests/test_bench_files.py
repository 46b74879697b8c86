"""Files that `onepass bench` writes: resumed, kept, begun by a run that is interrupted."""

from __future__ import annotations

import csv
import json
import re

import pytest
from onepass.bench import _rows, _session
from onepass.bench._row import Row, Workload
from small_bench import RELU, hurried, run  # noqa: F401  (a fixture)


def odd(data, name, value):
    """A file whose first row has another value there, or with `...` none."""
    row = {k: v for k, v in data["results"][0].items() if (k, value) != (name, ...)}
    return data | {"results": [row if value is ... else row | {name: value}]}


def test_rows_that_the_file_has_are_not_measured_again(capsys, monkeypatch, tmp_path):
    path = tmp_path / "a.json"
    both = [*RELU, "--only", "^relu (65536|1048576)", "--json", path]
    status, out, _ = run(capsys, *both, "--minutes", "1e-9")
    assert status == 0
    assert "out of time before relu 65536" in out
    assert not path.exists()
    run(capsys, *RELU, "--json", path)
    first = json.loads(path.read_text())
    first["machine"] |= {"load": 99.0, "commit": "an earlier one"}  # others are found now
    path.write_text(json.dumps(first))
    _, out, _ = run(capsys, *both, "--resume")
    # All that is chosen is shown, what the file had first.
    assert re.findall(r"^relu (\d+) ", out, re.MULTILINE) == ["65536", "1048576"]
    data = json.loads(path.read_text())
    (kept,), head = first["results"], first["machine"]
    own = {"commit": "an earlier one", "date": head["date"], "load": 99.0}
    assert data["results"][0] == kept | {"run": own}  # of the time when it was measured
    assert "run" not in data["results"][1]
    assert data["options"] == first["options"]  # how the file was begun
    assert [call["only"] for call in data["resumed"]] == ["^relu (65536|1048576)"]
    assert (data["options"]["against"], data["machine"]["malloc"]) == ([], "plain")
    machine = data["machine"]
    for content, words in (
        ([], "cannot be read as a file of --json"),
        ({"machine": machine, "results": []}, "another version"),
        (data | {"machine": []}, "machine is [], expected an object"),
        (data | {"options": None}, "options is None, expected an object"),
        (
            data | {"results": [data["results"][0] | {"seconds": {}}]},
            "results[0].seconds has no 'onepass'",
        ),
        (odd(data, "ratios", {"torch": 2.0}), "results[0].ratios has 'torch', which has no sampl"),
        (odd(data, "low", {"onepass": "x"}), "results[0].low['onepass'] is 'x', expected a number"),
        (odd(data, "missing", {"jax": 3}), "results[0].missing['jax'] is 3, expected a text"),
        (odd(data, "group", ...), "results[0] has no 'group'"),
        (odd(data, "bytes", None), "results[0].bytes is None, expected a number >= 0"),
        (odd(data, "wrong", 2), "results[0].wrong is 2, expected true or false"),
        (data | {"machine": machine | {"malloc": "tuned"}}, "malloc was 'tuned' and is 'plain'"),
        (data | {"machine": machine | {"numpy": "1"}}, "numpy was '1' and is"),
        (data | {"machine": machine | {"clock": "processor time"}}, "clock was"),
        (data | {"options": {"quick": True}}, "--quick was True"),
        (data | {"options": {}}, "--against was None and is"),
    ):
        path.write_text(json.dumps(content))
        status, _, err = run(capsys, *both, "--resume")
        assert (status, err.count("\n")) == (2, 1)
        assert words in err, err
        assert json.loads(path.read_text()) == content


def test_what_is_gone_on_with_replaces_no_file_of_others(capsys, tmp_path):
    files = {name: tmp_path / f"a.{name}" for name in ("json", "csv", "html")}
    given = [part for name, path in files.items() for part in (f"--{name}", path)]
    assert run(capsys, *RELU, *given)[0] == 0
    assert run(capsys, *RELU, *given, "--resume")[0] == 0
    for name in ("csv", "html"):
        own = files[name].read_bytes()
        files[name].write_text("precious")
        status, _, err = run(capsys, *RELU, *given, "--resume")
        assert (status, err.count("\n")) == (2, 1)
        assert f"--{name} {files[name]}: the file is there already" in err
        assert files[name].read_text() == "precious"
        files[name].write_bytes(own)


def test_one_file_by_two_names_is_refused(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "b").mkdir()
    (tmp_path / "link.csv").symlink_to("a.json")
    for other in (tmp_path / "a.json", "b/../a.json", "link.csv"):
        status, _, err = run(capsys, *RELU, "--json", "a.json", "--csv", other)
        assert (status, "expected a file for each" in err) == (2, True)
        assert not (tmp_path / "a.json").exists()


def test_a_file_stays_until_it_has_a_row_to_give_way_to(capsys, monkeypatch, tmp_path):
    def interrupted(*_):
        raise KeyboardInterrupt

    path = tmp_path / "a.json"
    path.write_text("kept")
    monkeypatch.setattr(_session._run, "measured", interrupted)
    assert run(capsys, *RELU, "--json", path, "--overwrite")[0] == 130
    assert path.read_text() == "kept"
    path.unlink()
    assert run(capsys, *RELU, "--json", path)[0] == 130
    assert not path.exists()  # nothing to lose next time


@pytest.mark.parametrize("kind", ["json", "csv", "html"])
def test_a_file_that_is_there_is_not_lost(capsys, monkeypatch, tmp_path, kind):
    """As a run's folder in `onepass train`: the user says which of the two is meant."""
    path = tmp_path / "a"
    path.write_text("half an hour")
    with monkeypatch.context() as patch:
        patch.setattr(_session._run, "measured", lambda *_: pytest.fail("measured in vain"))
        status, out, err = run(capsys, *RELU, f"--{kind}", path)
    assert (status, out, err.count("\n")) == (2, "", 1)
    cures = "--resume to go on with it, " if kind == "json" else ""
    assert f"{path}: the file is there already" in err
    assert f"(or {cures}--overwrite to replace it)" in err
    assert path.read_text() == "half an hour"
    assert run(capsys, *RELU, "--list", f"--{kind}", path)[0] == 0  # it writes nothing
    assert run(capsys, *RELU, f"--{kind}", path, "--overwrite")[0] == 0
    assert "relu 65536" in path.read_text()
    path.write_text("")  # of mktemp
    assert run(capsys, *RELU, f"--{kind}", path)[0] == 0
    # A table and a page that are made of the file of --json are made anew with it, not before.
    if kind != "json":
        more = [*RELU, "--resume", "--json", tmp_path / "a.json", f"--{kind}", path]
        assert run(capsys, *more)[0] == 2
        run(capsys, *RELU, "--json", tmp_path / "a.json")
        assert run(capsys, *more)[0] == 0


def test_a_resumed_run_shows_what_is_chosen_and_keeps_the_record(capsys, monkeypatch, tmp_path):
    path = tmp_path / "a.json"
    numpy = [*RELU, "--against", "numpy", "--json", path]
    run(capsys, *numpy, "--only", "^(relu|sigmoid|tanh) 65536")
    content = path.read_text()
    monkeypatch.setattr(_session._run, "measured", lambda *_: pytest.fail("nothing is left"))
    for only, names in (
        ("^(relu|sigmoid|tanh) 65536", ["sigmoid", "relu", "tanh"]),
        ("^relu 65536", ["relu"]),
    ):
        status, out, _ = run(capsys, *numpy, "--only", only, "--resume")
        assert status == 0
        assert sorted(re.findall(r"^(\w+) 65536 +1 ", out, re.MULTILINE)) == sorted(names)
        assert f" of {len(names)} rows are faster" in out
        assert ("not chosen here" in out) == (len(names) < 3)
        assert path.read_text() == content
    # The same in the other files, which are of all that the file has.
    table = tmp_path / "a.csv"
    run(capsys, *numpy, "--only", "^relu 65536", "--resume", "--csv", table)
    assert {line["row"] for line in csv.DictReader(table.read_text().splitlines())} == {
        "relu 65536", "sigmoid 65536", "tanh 65536",
    }  # fmt: skip
    # A wrong row counts where it is shown.
    data = json.loads(content)
    data["results"][0]["wrong"] = True
    path.write_text(json.dumps(data))
    wrong, *others = (result["row"] for result in data["results"])
    for row, expected in ((wrong, 1), (others[0], 0)):
        assert run(capsys, *numpy, "--only", f"^{row}$", "--resume")[0] == expected


def test_a_call_that_goes_on_is_recorded_once(capsys, tmp_path):
    path = tmp_path / "a.json"

    def goes_on(only):
        run(capsys, *RELU, "--only", only, "--json", path, "--resume")
        data = json.loads(path.read_text())
        return [call["only"] for call in (data["options"], *data.get("resumed", []))]

    assert goes_on("^relu 65536") == ["^relu 65536"]
    assert goes_on("^(relu|sigmoid) 65536") == ["^relu 65536", "^(relu|sigmoid) 65536"]
    assert goes_on("^(relu|sigmoid) 65536") == ["^relu 65536", "^(relu|sigmoid) 65536"]
    assert goes_on("^sigmoid 65536") == ["^relu 65536", "^(relu|sigmoid) 65536"]


def test_an_interrupted_run_keeps_its_rows(capsys, monkeypatch, tmp_path):
    def measured(row, context, meter, before):
        if "1048576" in row.name:
            raise KeyboardInterrupt
        return known(row, context, meter, before)

    known = _session._run.measured
    monkeypatch.setattr(_session._run, "measured", measured)
    half = {"numpy": "installed, but it cannot be imported: half of it is there"}
    monkeypatch.setattr(_session._run, "absent", lambda *_: half)
    path = tmp_path / "a.json"
    status, out, err = run(capsys, *RELU, "--only", "^relu ", "--json", path)
    assert status == 130
    assert "cannot be imported" not in out
    assert "interrupted" in err
    assert len(json.loads(path.read_text())["results"]) == 1
    assert "GB/s   on the fewest bytes" in out


def test_a_row_of_its_own_dtype_is_not_measured_again(capsys, monkeypatch, tmp_path):
    made = []

    def make(context):
        made.append(context.dtype)
        return Workload({"onepass": lambda: None}, 1, dtype="float16")  # memory sets no limit

    monkeypatch.setattr(_rows, "rows", lambda context: [Row("a", "optim", make)])
    path = tmp_path / "a.json"
    given = ["--threads", "1", "--against", "none", "--plain-malloc", "--json", path]
    for more in ((), ("--resume",)):
        assert run(capsys, *given, *more)[0] == 0
        (row,) = json.loads(path.read_text())["results"]
        assert (row["dtype"], row["asked"], made) == ("float16", "float32", ["float32"])
        assert row["bytes"] is None
