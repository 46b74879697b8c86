"""CSVLogger and log_dir: no file of anybody else is lost."""

import pytest
from onepass.train import Callback, Checkpoint, CSVLogger
from small_training import KilledError, StopAt, fit, make


def loss_column(path):
    header, *rows = (line.split(",") for line in path.read_text().splitlines())
    return [float(row[header.index("loss")]) for row in rows]


@pytest.mark.parametrize("text", [
    "a,b\n1,2\n", "epoch,loss\n1,2\nx,y\n", "epoch,loss\n1,2,3\n", "\n", "notes\n",
    "epoch,loss\n2,0.5\n", "\x00\x01",
])  # fmt: skip
@pytest.mark.parametrize("way", ["callback", "log_dir"])
def test_a_file_that_is_no_history_is_not_overwritten(tmp_path, text, way):
    path = tmp_path / "history.csv"
    path.write_text(text)
    logger = {"callbacks": [CSVLogger(path)]} if way == "callback" else {"log_dir": tmp_path}
    trainer = make(**logger)
    owner = "CSVLogger: 'path'" if way == "callback" else "Trainer: 'log_dir'"
    with pytest.raises(ValueError, match=f"{owner} is .*something else than the history"):
        fit(trainer)
    assert path.read_text() == text
    assert trainer.step == 0


def test_the_table_of_another_run_is_kept_beside_the_new_one(tmp_path):
    runs = []
    for seed in (1, 2, 3):
        trainer = make(log_dir=tmp_path, seed=seed)
        runs.append(fit(trainer, max_epochs=2)["loss"])
    names = ["history.1.csv", "history.2.csv", "history.csv"]
    assert sorted(p.name for p in tmp_path.iterdir()) == names
    assert [loss_column(tmp_path / name) for name in names] == runs


def test_a_run_that_goes_on_keeps_its_table(tmp_path):
    log, folder = tmp_path / "log.csv", tmp_path / "saved"
    trainer = make([CSVLogger(log), Checkpoint(folder, every_n_epochs=2)])
    for epochs in (1, 2, 3):
        fit(trainer, max_epochs=epochs)
    whole = loss_column(log)
    again = make([CSVLogger(log), Checkpoint(folder)])  # from epoch 2: the third row comes again
    fit(again, max_epochs=4, ckpt_path=folder)
    assert loss_column(log)[:3] == whole
    assert {p.name for p in tmp_path.iterdir()} == {"log.csv", "saved"}


@pytest.mark.parametrize("link", [False, True])
def test_two_loggers_of_one_file_are_refused(tmp_path, link):
    path = other = tmp_path / "log.csv"
    if link:
        other = tmp_path / "link.csv"
        other.symlink_to(path)
    with pytest.raises(ValueError, match="where CSVLogger writes too"):
        fit(make([CSVLogger(path), CSVLogger(other)]))
    with pytest.raises(ValueError, match=r"'log_dir' is .* where CSVLogger writes|'path' is .*too"):
        fit(make([CSVLogger(tmp_path / "history.csv")], log_dir=tmp_path))
    assert not path.exists()


def test_a_log_where_a_checkpoint_writes_is_refused(tmp_path):
    with pytest.raises(ValueError, match="where Checkpoint writes too"):
        fit(make([CSVLogger(tmp_path / "run"), Checkpoint(tmp_path / "run")]))
    assert not (tmp_path / "run").exists()


def test_a_log_beside_the_checkpoints_is_fine(tmp_path):
    fit(make([Checkpoint(tmp_path)], log_dir=tmp_path), max_epochs=2)
    assert len(loss_column(tmp_path / "history.csv")) == 2


@pytest.mark.parametrize(
    ("step", "kill"),
    [(2, 3), (2, 5), (6, 11)],
    ids=["in the first epoch", "behind the first row", "in the second"],
)
def test_a_resume_before_the_last_row_keeps_one_table(tmp_path, step, kill):
    """Also where a hook logs into a row after the table was written."""

    class Late(Callback):
        def on_epoch_end(self, run):
            run.log("late", run.epoch)

    log, folder = tmp_path / "log.csv", tmp_path / "saved"
    saves = Checkpoint(folder, every_n_steps=step, keep=1)
    with pytest.raises(KilledError):
        fit(make([CSVLogger(log), Late(), StopAt(step=kill), saves]))
    fit(make([CSVLogger(log), Late(), Checkpoint(folder)]), ckpt_path=folder)
    assert len(loss_column(log)) == 3
    assert {p.name for p in tmp_path.iterdir()} == {"log.csv", "saved"}
