"""The command line where runs, paths and consoles are as people have them."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest
from commands import ENVIRONMENT, onepass
from test_cli import FAST, refused, table  # noqa: F401  (a fixture)

pytestmark = pytest.mark.filterwarnings("ignore")


def checkpoints(folder):
    return sorted(p.name for p in (folder / "checkpoints").iterdir())


# ------------------------------------------------------------------------------- consoles


@pytest.mark.parametrize("encoding", ["gbk", "ascii", "latin-1", "cp437", "shift_jis"])
def test_a_console_of_any_encoding_shows_the_training(table, encoding):  # noqa: F811
    env = {**ENVIRONMENT, "PYTHONIOENCODING": encoding}
    line = [sys.executable, "-m", "onepass", "train", table.name, *FAST]
    done = subprocess.run(line, cwd=table.parent, env=env, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"held-out part" in done.stdout


def test_a_plain_locale_shows_the_training(table):  # noqa: F811
    env = {k: v for k, v in ENVIRONMENT.items() if not k.startswith(("LC_", "LANG", "PYTHONUTF8"))}
    env |= {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    line = [sys.executable, "-m", "onepass", "train", table.name, *FAST]
    done = subprocess.run(line, cwd=table.parent, env=env, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")


def test_without_any_console(table):  # noqa: F811
    code = "import sys; sys.stdout = sys.stderr = None; import onepass.cli as c; "
    code += f"status = c.main(['train', {table.name!r}, *{FAST!r}]); import os; os._exit(status)"
    done = subprocess.run([sys.executable, "-c", code], cwd=table.parent, env=ENVIRONMENT)
    assert done.returncode == 0
    assert "result" in json.loads((table.parent / "runs" / "things" / "run.json").read_text())


def test_a_reader_that_goes_away_leaves_no_traceback(table):  # noqa: F811
    line = f"{sys.executable} -m onepass train {table.name} {' '.join(FAST)} | head -1"
    done = subprocess.run(line, shell=True, cwd=table.parent, env=ENVIRONMENT,
                          capture_output=True, text=True)  # fmt: skip
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("more", [{"NO_COLOR": "1"}, {"TERM": "dumb"}, {"FORCE_COLOR": "1"}])
def test_a_terminal_gets_no_colours(table, more):  # noqa: F811
    """NO_COLOR is kept, as nothing is ever coloured."""
    master, end = os.openpty()
    line = [sys.executable, "-m", "onepass", "train", table.name, *FAST]
    env = {**ENVIRONMENT, "TERM": "xterm-256color", **more}
    process = subprocess.Popen(line, cwd=table.parent, env=env, stdout=end, stderr=end)
    os.close(end)
    shown = b""
    try:
        while part := os.read(master, 1 << 16):
            shown += part
    except OSError:  # Linux: the other end is closed
        pass
    os.close(master)
    assert process.wait() == 0
    assert b"held-out part" in shown
    assert not re.search(rb"\x1b\[[0-9;]*m", shown)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_scores_that_cannot_be_written_are_an_error(table):  # noqa: F811
    assert onepass("train", table.name, *FAST, "--out", "run", cwd=table.parent).returncode == 0
    for more in ([], ["--json"]):
        line = [sys.executable, "-m", "onepass", "evaluate", "run", table.name, *more]
        with open("/dev/full", "w") as full:
            done = subprocess.run(line, cwd=table.parent, env=ENVIRONMENT, stdout=full,
                                  stderr=subprocess.PIPE, text=True)  # fmt: skip
        assert done.returncode == 1
        assert "cannot write the output: No space left on device" in done.stderr


# ------------------------------------------------------------------------------- directories


def test_a_resume_finds_its_data_from_anywhere(table, tmp_path):  # noqa: F811
    run = str(table.parent / "run")
    assert onepass("train", table.name, *FAST, "--out", run, cwd=table.parent).returncode == 0
    other = tmp_path / "other"
    other.mkdir()
    again = onepass("train", "--resume", "--out", run, "--epochs", "4", cwd=other)
    assert again.returncode == 0, again.stderr
    assert "--epochs was " in again.stdout


def test_a_run_without_its_record_is_named(table):  # noqa: F811
    assert onepass("train", table.name, *FAST, "--out", "run", cwd=table.parent).returncode == 0
    (table.parent / "run" / "run.json").unlink()
    again = onepass("train", "--resume", "--out", "run", cwd=table.parent)
    refused(again, "run: run.json is missing, expected it with --resume")


@pytest.mark.parametrize("name", ["none.feather", "none.json", "none", "none.csv"])
def test_a_file_that_is_not_there_is_said_so_whatever_the_options(tmp_path, name):
    done = onepass("train", name, "--categorical", "auto", cwd=tmp_path)
    refused(done, f"(no such file: {name}|'name_or_path' is '{name}', expected)")


def test_a_second_run_leaves_the_first_as_it_is(table):  # noqa: F811
    first = onepass("train", table.name, *FAST, cwd=table.parent)
    runs = table.parent / "runs"
    before = checkpoints(runs / "things"), (runs / "things" / "run.json").read_text()
    second = onepass("train", table.name, *FAST, "--seed", "1", cwd=table.parent)
    assert first.returncode == second.returncode == 0
    assert "runs/things holds another run; this one goes to runs/things-2" in second.stdout
    third = onepass("train", table.name, *FAST, cwd=table.parent)
    assert "goes to runs/things-3" in third.stdout
    assert (checkpoints(runs / "things"), (runs / "things" / "run.json").read_text()) == before
    resumed = onepass("train", table.name, *FAST, "--seed", "1", "--resume", cwd=table.parent)
    assert "runs/things-2: " in resumed.stdout


def test_tables_of_one_name_in_two_directories_have_two_runs(table):  # noqa: F811
    paths = []
    for name in ("a", "b"):
        (table.parent / name).mkdir()
        paths.append(f"{name}/train.csv")
        (table.parent / paths[-1]).write_text(table.read_text())
        assert onepass("train", paths[-1], *FAST, cwd=table.parent).returncode == 0
    runs = table.parent / "runs"
    for folder, path in zip((runs / "train", runs / "train-2"), paths, strict=True):
        assert json.loads((folder / "run.json").read_text())["options"]["data"] == path
        assert checkpoints(folder)
    for folder, path in zip(("runs/train: ", "runs/train-2: "), paths, strict=True):
        assert folder in onepass("train", path, *FAST, "--resume", cwd=table.parent).stdout


@pytest.mark.parametrize("file", ["run.json", "history.csv", "curves.png"])
def test_out_with_a_run_or_with_files_of_ones_own_is_refused(table, file):  # noqa: F811
    here = table.parent / "here"
    here.mkdir()
    (here / file).write_text("mine")
    done = onepass("train", table.name, *FAST, "--out", "here", cwd=table.parent)
    refused(done, "'--out' is 'here', which holds a run.*--resume.*--overwrite")
    done = onepass("train", table.name, *FAST, "--out", "here/none/..", cwd=table.parent)
    refused(done, "'--out' is 'here/none/..', which holds a run")
    assert (here / file).read_text() == "mine"
    done = onepass("train", table.name, *FAST, "--out", "here", "--overwrite", cwd=table.parent)
    assert done.returncode == 0
    assert "result" in json.loads((here / "run.json").read_text())
    both = onepass("train", table.name, *FAST, "--out", "here", "--overwrite", "--resume",
                   cwd=table.parent)  # fmt: skip
    refused(both, "'--overwrite' is given, expected none with --resume")


def test_a_run_is_replaced_when_the_new_one_is_done(table):  # noqa: F811
    """Not before; Ctrl-C leaves it, and the command to go on with the new one."""
    pytest.importorskip("fcntl")
    here = table.parent / "here"
    line = ["train", table.name, "--out", "here"]
    assert onepass(*line, *FAST, cwd=table.parent).returncode == 0
    before = {p.name: p.read_bytes() for p in here.iterdir() if p.is_file()}
    more = [sys.executable, "-m", "onepass", *line, "--epochs", "100000", "--overwrite"]
    with subprocess.Popen(more, cwd=table.parent, env=ENVIRONMENT, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True) as process:  # fmt: skip
        for shown in process.stdout:
            if shown.split()[:1] == ["1/100000"]:
                break
        refused(onepass(*line, "--resume", cwd=table.parent), "here is in use by another process")
        assert onepass("predict", "here", table.name, cwd=table.parent).returncode == 0
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert errors == "onepass: interrupted; go on with: onepass train --resume --out here/.new\n"
    assert {p.name: p.read_bytes() for p in here.iterdir() if p.is_file()} == before
    again = onepass("train", "--resume", "--epochs", "3", "--early-stopping", "1", "--out",
                    "here/.new", cwd=table.parent)  # fmt: skip
    assert again.returncode == 0, again.stderr
    assert "the run is in here: " in again.stdout
    assert not (here / ".new").exists()
    assert (here / "model.npz").read_bytes() != before["model.npz"]


def test_two_runs_at_once_do_not_share_a_directory(table):  # noqa: F811
    pytest.importorskip("fcntl")
    line = [sys.executable, "-m", "onepass", "train", table.name, "--out", "here"]
    with subprocess.Popen(
        [*line, "--epochs", "100000"], cwd=table.parent, env=ENVIRONMENT, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True,
    ) as process:  # fmt: skip
        for shown in process.stdout:
            if shown.split()[:1] == ["1/100000"]:
                break
        for option in ("--resume", "--overwrite"):
            done = onepass("train", table.name, "--epochs", "100000", "--out", "here", option,
                           cwd=table.parent)  # fmt: skip
            refused(done, "here is in use by another process")
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    again = onepass("train", table.name, "--epochs", "3", "--out", "here", "--resume",
                    cwd=table.parent)  # fmt: skip
    assert again.returncode == 0


def test_a_tilde_is_the_home(table, monkeypatch):  # noqa: F811
    env = {**ENVIRONMENT, "HOME": str(table.parent)}
    line = [sys.executable, "-m", "onepass", "train", f"~/{table.name}", *FAST]
    here = table.parent / "here"
    here.mkdir()
    for out in (["--out=~/run"], ["--out", "~/more/run"]):
        done = subprocess.run([*line, *out], cwd=here, env=env, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
    assert (table.parent / "run" / "run.json").is_file()
    assert (table.parent / "more" / "run" / "run.json").is_file()
    assert os.listdir(here) == []


@pytest.mark.parametrize("command", ["train", "predict"])
def test_an_error_is_one_line_whatever_it_names(table, command):  # noqa: F811
    more = ["things.csv"] if command == "predict" else []
    done = onepass(command, "two\nlines.csv", *more, cwd=table.parent)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "two lines.csv" in done.stderr


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("train things.csv --out ~nobody_here/x", "train: '--out' is '~nobody_here/x'"),
        ("train things.csv --out=~nobody_here", "train: '--out' is '~nobody_here'"),
        ("train ~nobody_here/things.csv", "'~nobody_here/things.csv'"),
        ("predict ~nobody_here/run things.csv", "'~nobody_here/run'"),
        ("evaluate ~nobody_here/run things.csv", "'~nobody_here/run'"),
    ],
)
def test_a_tilde_of_nobody_is_one_line(table, line, named):  # noqa: F811
    """It was a traceback; a folder called ~nobody_here is not made either."""
    done = onepass(*line.split(), cwd=table.parent)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert f"{named}, and no home directory is known for '~nobody_here'" in done.stderr
    assert not (table.parent / "~nobody_here").exists()


# ------------------------------------------------------------------------------- words, interrupts


@pytest.mark.parametrize(("line", "words"), [
    ("train things.csv --epoch 3", "train: unknown argument '--epoch'; did you mean '--epochs'"),
    ("train things.csv --learning-rate 0.1", "'--learning-rate'; did you mean '--lr'"),
    ("train things.csv --batchsize=3", "did you mean '--batch-size'"),
    ("train things.csv --drop-out 3", "did you mean '--dropout'"),
    ("trian things.csv", "unknown command 'trian'.*did you mean 'train'"),
    ("--verion", "unknown argument '--verion'.*did you mean '--version'"),
    ("help", "unknown command .help., expected one of train, predict, evaluate, report, "),
    ("train things.csv more.csv", "unknown argument 'more.csv'"),
])  # fmt: skip
def test_misspelt_words_are_told_with_the_nearest(table, line, words):  # noqa: F811
    refused(onepass(*line.split(), cwd=table.parent), words)


def test_an_interrupt_while_a_table_is_read_is_one_line(tmp_path):
    rows = "".join(f"{i}.5,{i}.25,{i % 7}.125\n" for i in range(400_000))
    (tmp_path / "big.csv").write_text(f"a,b,y\n{rows}")
    line = [sys.executable, "-m", "onepass", "train", "big.csv"]
    with subprocess.Popen(line, cwd=tmp_path, env=ENVIRONMENT, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True) as process:  # fmt: skip
        time.sleep(0.9)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert len(errors.splitlines()) == 1
    assert "interrupted" in errors


def test_an_interrupt_inside_exec_keeps_the_exit_status(tmp_path):
    """Where a library makes a class from text, a dataclass say."""
    (tmp_path / "sitecustomize.py").write_text("""
import signal
import onepass.cli._main
def run(argv):
    try:
        exec("import signal; signal.raise_signal(signal.SIGINT)")
    except KeyboardInterrupt:
        return 130
onepass.cli._main.run = run
""")
    env = {**ENVIRONMENT}
    env["PYTHONPATH"] = os.pathsep.join(filter(None, [str(tmp_path), env.get("PYTHONPATH")]))
    line = [sys.executable, "-m", "onepass"]
    done = subprocess.run(line, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (130, "")


def test_what_is_missing_is_told_before_the_training(table):  # noqa: F811
    code = "import sys; sys.modules['matplotlib'] = None; import importlib.util as u; "
    code += "find = u.find_spec; u.find_spec = lambda n: None if n == 'matplotlib' else find(n); "
    code += f"import onepass.cli as c; sys.exit(c.main(['train', {table.name!r}, *{FAST!r}]))"
    done = subprocess.run([sys.executable, "-c", code], cwd=table.parent, env=ENVIRONMENT,
                          capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0
    assert done.stdout.index("no curves.png, matplotlib") < done.stdout.index("1/3")


def test_info_says_what_a_library_is_for():
    done = onepass("info", cwd=None)
    assert "the progress bar" in done.stdout
    assert "samplers and pruners of a search" in done.stdout
    assert "onepass.jax; its arrays are read everywhere" in done.stdout


def test_a_resume_of_a_table_with_other_contents_is_refused(table):  # noqa: F811
    assert onepass("train", table.name, *FAST, cwd=table.parent).returncode == 0
    text = table.read_text()
    table.write_text(text.replace("small", "x").replace("large", "small").replace("x", "large"))
    done = onepass("train", table.name, *FAST, "--out", "runs/things", "--resume", cwd=table.parent)
    refused(done, "was started with other contents of things.csv; --resume cannot go on")
    (table.parent / "runs" / "things" / "run.json").write_text("{")
    done = onepass("train", table.name, *FAST, "--out", "runs/things", "--resume", cwd=table.parent)
    refused(done, "run.json is damaged")
    refused(onepass("train", table.name, "--out", "", cwd=table.parent), "'--out' is empty")
    refused(onepass("train", table.name, "--out", table.name, cwd=table.parent), "not a file")


def test_targets_that_float32_cannot_hold_have_errors_in_their_unit(tmp_path):
    rows = "".join(f"{i},{i}.5e39\n" for i in range(40))
    (tmp_path / "t.csv").write_text(f"a,y\n{rows}")
    done = onepass("train", "t.csv", *FAST, cwd=tmp_path)
    assert done.returncode == 0
    assert "nan" not in done.stdout.partition("held-out part")[2].splitlines()[0]


@pytest.mark.parametrize(
    ("damage", "epochs"), [("", 3), ("epoch,lo", 3), ("x" * 99, 3), ("epoch,loss\n1,0.5\n3,", 5)]
)
def test_a_damaged_history_does_not_stop_a_resume(table, damage, epochs):  # noqa: F811
    """The history is whole again, also where the run was at its end; a damaged file is kept."""
    run, more = table.parent / "run", ["--resume", "--epochs", str(epochs), "--out", "run"]
    assert onepass("train", table.name, *FAST, "--out", "run", cwd=table.parent).returncode == 0
    before = (run / "history.csv").read_text()
    (run / "history.csv").write_text(damage)
    done = onepass("train", *more, cwd=table.parent)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    if damage not in ("", "epoch,lo"):  # a table without rows is not another
        said = " ".join(done.stdout.split())
        assert "history.csv was damaged: it is history.1.csv now" in said
        assert (run / "history.1.csv").read_text() == damage
    text = (run / "history.csv").read_text()
    assert text.startswith(before)
    assert text.count("\n") == epochs + 1
