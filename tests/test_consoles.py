"""Training with the default progress on any console: none, closed, any encoding, a notebook."""

import io
import subprocess
import sys
import textwrap
import types

import pytest
from onepass import _bar
from onepass.train import Callback, Profile, ProgressBar
from small_training import everything, fit, make, uninterrupted


class WriteAndFlush:
    """Like the objects that GUIs put in the place of sys.stdout."""

    def __init__(self):
        self.text = ""

    def write(self, text):
        self.text += text

    def flush(self):
        pass


class WriteOnly:
    def __init__(self):
        self.text = ""

    def write(self, text):
        self.text += text


class ClosedTerminal(io.StringIO):
    """A terminal whose window was closed in the first epoch."""

    lines = 0

    def isatty(self):
        return True

    def write(self, text):
        self.lines += 1
        if self.lines > 2:
            raise OSError(5, "Input/output error")
        return len(text)


def closed():
    file = io.StringIO()
    file.close()
    return file


class NoReader(WriteOnly):
    def write(self, text):
        raise BrokenPipeError(32, "Broken pipe")


CONSOLES = {
    "none": lambda: None, "write and flush": WriteAndFlush, "write only": WriteOnly,
    "closed": closed, "terminal closed meanwhile": ClosedTerminal, "no reader": NoReader,
}  # fmt: skip


@pytest.mark.parametrize("with_tqdm", [True, False])
@pytest.mark.parametrize("console", CONSOLES)
def test_training_goes_on_without_a_console(monkeypatch, console, with_tqdm):
    """Case 13 of the field: the default progress, and the result of a training without."""
    expected = uninterrupted()
    if not with_tqdm:
        monkeypatch.setitem(sys.modules, "tqdm", None)
    trainer = make(progress=True)
    monkeypatch.setattr(sys, "stdout", CONSOLES[console]())
    fit(trainer)
    shown = getattr(sys.stdout, "text", None)
    monkeypatch.undo()
    assert everything(trainer) == expected
    if shown is not None and console != "no reader":
        assert [line.split()[0] for line in shown.splitlines()] == ["epoch", "1/3", "2/3", "3/3"]


@pytest.mark.parametrize("console", CONSOLES)
def test_a_progress_bar_into_a_given_stream(console):
    trainer = make([ProgressBar(CONSOLES[console]())])
    fit(trainer)
    assert trainer.epoch == 3


def test_a_progress_bar_into_something_else_is_refused():
    with pytest.raises(TypeError, match=r"ProgressBar: 'file' is 'log.txt', expected a stream"):
        ProgressBar("log.txt")


class Named(Callback):
    def on_epoch_begin(self, run):
        run.log("Präzision→µ", 0.5)


@pytest.mark.parametrize("encoding", ["ascii", "gbk", "cp1252", "cp437", "utf-16", "utf-8"])
@pytest.mark.parametrize("terminal", [False, True])
def test_tables_in_any_encoding(monkeypatch, encoding, terminal):
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding=encoding)
    monkeypatch.setattr(file, "isatty", lambda: terminal, raising=False)
    profile = Profile(steps=2, skip=0)
    fit(make([Named(), profile, ProgressBar(file)]))
    file.write(profile.table())  # plain print
    file.flush()
    text = raw.getvalue().decode(encoding)
    assert "3/3" in text
    assert "matrix products" in text
    if encoding == "ascii":
        assert "Pr?zision??" in text
    if encoding == "utf-8":
        assert "Präzision→µ" in text


def test_a_history_and_a_profile_print_on_a_plain_console():
    profile = Profile(steps=2, skip=0)
    trainer = make([profile])
    fit(trainer)
    for shown in (profile.table(), repr(trainer), repr(trainer.history), str(profile)):
        assert shown.isascii()


@pytest.mark.parametrize("code", [
    "sys.stdout = None", "sys.stdout = sys.stderr = None", "os.close(1)",
    "sys.stdout.close()", "sys.stdout.reconfigure(encoding='gbk')",
])  # fmt: skip
def test_a_program_without_a_console_trains(tmp_path, code):
    program = textwrap.dedent(f"""
        import os, sys
        import numpy as np
        from onepass import nn, optim
        from onepass.train import Trainer
        {code}
        X = np.ones((8, 2), np.float32)
        model = nn.Sequential(nn.Linear(2, 2))
        trainer = Trainer(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters()))
        trainer.fit(X, np.zeros(8, np.int64), max_epochs=2)
        open(sys.argv[1], "w").write(str(trainer.epoch))
        os._exit(0)
    """)
    done = tmp_path / "done"
    subprocess.run([sys.executable, "-c", program, done], check=True, stdout=subprocess.DEVNULL)
    assert done.read_text() == "2"


def test_output_into_head(tmp_path):
    """The reader of the pipe ends after the first line; the training goes on."""
    program = textwrap.dedent("""
        import os, sys
        import numpy as np
        from onepass import nn, optim
        from onepass.train import Callback, Trainer
        class Wait(Callback):
            def on_epoch_begin(self, run):
                if run.epoch == 1:
                    sys.stdin.readline()
        X = np.ones((8, 2), np.float32)
        model = nn.Sequential(nn.Linear(2, 2))
        trainer = Trainer(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters()),
                          callbacks=[Wait()])
        trainer.fit(X, np.zeros(8, np.int64), max_epochs=4)
        open(sys.argv[1], "w").write(str(trainer.epoch))
        os._exit(0)
    """)
    done = tmp_path / "done"
    with subprocess.Popen([sys.executable, "-c", program, done], stdout=subprocess.PIPE,
                          stdin=subprocess.PIPE) as process:  # fmt: skip
        assert process.stdout.readline().split()[0] == b"epoch"
        process.stdout.close()
        process.stdin.write(b"go on\n")
        process.stdin.close()
        assert process.wait() == 0
    assert done.read_text() == "4"


# Notebooks.


def in_a_notebook(monkeypatch, seconds):
    """A kernel whose cell output is a stream that is not a terminal."""
    module = types.ModuleType("IPython")
    module.get_ipython = lambda: types.SimpleNamespace(kernel=object())
    monkeypatch.setitem(sys.modules, "IPython", module)
    monkeypatch.setattr(_bar, "NOTEBOOK_SECONDS", seconds)
    monkeypatch.setattr(sys, "stdout", WriteAndFlush())
    return sys.stdout


def test_a_notebook_shows_progress_within_an_epoch(monkeypatch):
    notebook = in_a_notebook(monkeypatch, -1.0)
    fit(make(progress=True))
    for epoch in (1, 2, 3):
        for batch in (1, 2, 3, 4):
            assert f"\repoch {epoch}/3 {batch}/4" in notebook.text
    lines = [line.rpartition("\r")[2] for line in notebook.text.rstrip().split("\n")]
    assert [line.split()[0] for line in lines] == ["epoch", "1/3", "2/3", "3/3"]
    assert "\x1b" not in notebook.text  # not every front end knows escape sequences


@pytest.mark.filterwarnings("ignore:fit. 'batch_size' is 2")
def test_a_notebook_is_not_flooded(monkeypatch):
    """Whatever the number of batches, an update now and then; the first comes at once."""
    notebook = in_a_notebook(monkeypatch, 1e9)
    fit(make(progress=True), batch_size=2, max_epochs=2)
    assert notebook.text.count("\repoch") == 2


def test_another_stream_in_a_notebook_is_a_file(monkeypatch):
    in_a_notebook(monkeypatch, -1.0)
    file = WriteAndFlush()
    fit(make([ProgressBar(file)]))
    assert "\r" not in file.text
