"""The run of ``onepass train``: a multilayer perceptron on a table, with sound defaults."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import onepass
from onepass._page import is_page
from onepass.parallel import Alone, Communicator
from onepass.runs import _cross_validation, _evaluation, _options, _parts, _scores, _sessions
from onepass.runs._evaluation import Evaluated
from onepass.runs._fitting import Fitting
from onepass.runs._folder import Folder
from onepass.runs._names import (
    CHECKPOINTS,
    CONFUSION,
    CURVES,
    DIAGNOSIS,
    HISTORY,
    REPORT,
    RESIDUALS,
)
from onepass.runs._options import Options
from onepass.runs._ranks import agree, folder_of, refuse_others
from onepass.runs._report import renewed
from onepass.runs._saved_run import KeepBest, SavedRun
from onepass.runs._source import (
    Source,
    digest,
    digest_of_groups,
    found_again,
    name_of,
    same_place,
)
from onepass.runs._start import Start
from onepass.train._callbacks import EarlyStopping
from onepass.train._checkpoint import Checkpoint
from onepass.train._diagnosis import Diagnosis
from onepass.train._history import History
from onepass.train._profile import Profile
from onepass.train._progress import ProgressBar
from onepass.train._ranks import pieces_of
from onepass.train._trainer import Trainer
from onepass.train._verdict import verdict

OF_FOLDS = ("onepass", "options", "directory", "classes")  # in the records of folds too


class Recipe:
    """One run in one directory; the constructor finds all wrong options.

    Args:
        given: options by name, as in ``Options``; a resume takes the others from the run.
        out: the directory, or None for one in runs/.
        resume: go on with the run that is there.
        overwrite: replace the run that is there, once this one is done.
        diagnose, profile: watch layers, time the parts of a step.
        progress: show a bar and a table.
        source: the data, where it has been read; standard input can be read only once.
        comm: of the processes that train together, of which rank 0 writes; None: this one alone.

    Attributes:
        options, out: of the run. source, parts: its data. model, trainer, stopping: its training.
        notes: sentences for the user. folds: scores of the cross-validation, as far as it is done.
        result: of the held-out part, once it is trained. undrawn: picture → why it is not there.
    """

    def __init__(
        self,
        given: Mapping[str, Any],
        out: Path | None = None,
        *,
        resume: bool = False,
        overwrite: bool = False,
        diagnose: bool = False,
        profile: bool = False,
        progress: bool = True,
        source: Source | None = None,
        comm: Communicator | None = None,
    ) -> None:
        if resume and overwrite:
            raise ValueError("train: '--overwrite' is given, expected none with --resume")
        self.comm = comm = comm or Alone()
        folder = None
        if resume:
            folder = folder_of(comm, lambda: self._earlier(given, out))
        self.resume = folder is not None
        before = folder.record["options"] if folder is not None else {}
        if folder is not None and "data" not in given:
            before = {**before, "data": found_again(before["data"], folder.record.get("directory"))}
        if "data" not in {**before, **given}:
            where = f"; {out or 'runs/'} has no run to resume" if resume else ""
            raise ValueError(f"train: 'DATA' is missing, expected a data set or a file{where}")
        self.start = Start.of(given.get("init_from"), folder)
        network = self.start.options if self.start is not None else {}
        self.options = options = Options.of(given, {**network, **before})
        self._check_ranks()
        self._check_watching(diagnose=diagnose, profile=profile)
        self.source = source or Source.read(options)
        check_options_of_classes(self.source, given)
        self.parts = _parts.split(self.source, options.seed, options.preprocess)
        stages = [(self.parts.train, self.parts.validation)]
        if options.cv is not None:
            stages += _cross_validation.trained_on(self.source, options.cv, options.seed)
        contents = digest(self.source.classes, self.parts.X, self.parts.y)
        if folder is not None and folder.record.get("contents", contents) != contents:
            raise ValueError(
                f"{folder.path} was started with other contents of {before['data']}; --resume "
                "cannot go on with these"
            )
        grouping = digest_of_groups(self.source.groups)
        if folder is not None and folder.record.get("grouping") != grouping:
            raise ValueError(
                f"{folder.path} was started with other groups in {options.groups!r} of "
                f"{before['data']}; --resume cannot go on with these"
            )
        self.callbacks = [Diagnosis()] * diagnose + [Profile()] * profile
        self.diagnosis = next((c for c in self.callbacks if isinstance(c, Diagnosis)), None)
        self.profile = next((c for c in self.callbacks if isinstance(c, Profile)), None)
        self.progress = progress
        self.fitting = Fitting(self.source, self.parts, options, self.start, comm)
        self.parts = self.fitting.parts
        self.fitting.check(self.callbacks, stages)
        agree(comm)
        refuse_others(comm, "data", {"contents": contents, "groups": grouping})
        if folder is None:
            name = name_of(options.data)
            folder = folder_of(comm, lambda: Folder.new(name, out, overwrite=overwrite))
            assert folder is not None
        self.folder = folder
        self.out = self.folder.path
        self._had_page = is_page(self.folder.whole / REPORT)
        if options.cv is not None:
            self.folder.refuse_foreign_folds(options.cv)
        self.notes = [*self._notes(resume, before, contents), *self._begin(contents)]
        self.about = self._about(contents)
        self.result: Evaluated | None = None
        self.undrawn: dict[str, Exception] = {}
        self.trainer = self._trainer()
        self.folds: list[dict[str, Any]] = []
        agree(comm)

    def _check_ranks(self) -> None:
        """Refuse what several processes cannot do together."""
        size, options = self.comm.size, self.options
        pieces_of(options.reproducible, size, "train", "--reproducible")
        if size == 1:
            return
        wrong = cure = ""
        if options.cv is not None:
            wrong, cure = f"'--cv' is {options.cv}", "start it without mpiexec or torchrun"
        if options.device != "cpu":
            wrong = f"'--device' is {options.device}"
            cure = "start one process, or write a loop with parallel.NCCL"
        if options.data == "-":
            wrong, cure = "'DATA' is -, standard input", "give the name of a file"
        if wrong:
            raise ValueError(
                f"train: {wrong}, expected none with {size} processes that train together: {cure}"
            )

    def _check_watching(self, **given: bool) -> None:
        """Refuse to watch batches that are computed in pieces."""
        pieces = self.options.reproducible
        wrong = next((name for name, value in given.items() if value), None)
        if wrong and pieces is not None:
            raise ValueError(
                f"train: '--{wrong}' is given, expected none with --reproducible {pieces}: it "
                "measures whole batches, and these are computed in pieces; leave one of the two out"
            )

    @property
    def stopping(self) -> EarlyStopping:
        """The measure that has chosen the best epoch."""
        return self.fitting.stopping

    def describe(self) -> str:
        """The data, its parts, the network and the notes."""
        parts = self.parts
        sizes = (
            f"{len(parts.train)} training, {len(parts.validation)} validation, "
            f"{len(parts.test)} held out"
        )
        count = sum(p.data.size for p in self.fitting.model.parameters())
        network = f"{self.fitting.architecture}: {count:,} parameters"
        notes = [f"note: {note}" for note in self.notes]
        return "\n".join([self.source.describe(), sizes, network, *notes])

    def cross_validate(self) -> Iterator[str]:
        """Train the folds that are not done yet; gives a line for each of all."""
        if self.options.cv is None:
            return
        before = list(self.folder.record.get("folds", []))
        record = {name: self.folder.record.get(name) for name in OF_FOLDS}
        run = _cross_validation.FoldRuns(
            self.source, self.options, self.about, self.folder.path, record, self.start
        )
        for scores in run.scores(before):
            self.folds.append(scores)
            if self.folds != before[: len(self.folds)]:
                self.folder.write(folds=self.folds)
            yield f"fold {len(self.folds)}/{self.options.cv}: {_scores.line(scores)}"

    def fit(self) -> None:
        """Train; all that ranks do beside rank 0."""
        self.fitting.fit(self.trainer, self.folder.path / CHECKPOINTS if self.resume else None)

    def train(self) -> Evaluated:
        """Train, write the model, evaluate the held-out part and write the result."""
        self.fit()
        self.trainer.history.to_csv(self.out / HISTORY)  # damaged, perhaps, where no epoch was left
        saved = self._saved()
        saved.write(self.out)
        result = _evaluation.of_held_out(saved, self.parts, self.source.classes, self.out)
        self.folder.write(
            finished=_sessions.now(),
            epochs=self.trainer.epoch,
            best_epoch=self.stopping.best_epoch,
            verdict=self.verdict(),
            result=_scores.as_json(result.scores),
        )
        self.result = result
        return result

    def ended(self, how: str, why: str = "", where: str = "") -> None:
        """Keep that the training was "interrupted" or "failed", and why, for who reads the folder
        later.

        Args:
            where: of a loss or a gradient that is not finite.
        """
        _sessions.ended(self.folder, how, why, where)

    def renew_page(self) -> str:
        """Write report.html anew if the run, or the one that it replaces, has had one.

        Once the folder is closed: while it is open, the run is in progress.

        Returns:
            A sentence for the user where that fails; else "".
        """
        stands = self.folder.path == self.folder.whole  # and is not to replace a run yet
        return renewed(self.folder.path) if self._had_page and stands else ""

    def finish(self) -> None:
        """Take the place of the run that this one replaces, if it does; the last step."""
        try:
            self.folder.finish()
        finally:
            self.out = self.folder.path

    def judged(self) -> str:
        """One sentence about the run; the table of a Diagnosis, which has said its own."""
        return self.verdict() if self.diagnosis is None else self.diagnosis.table()

    def verdict(self) -> str:
        """The sentence."""
        if self.diagnosis is not None and self.diagnosis.verdict:
            return self.diagnosis.verdict
        history: History = self.trainer.history
        return verdict(history.get("loss", []), history.get("val_loss", []))

    def plot(self) -> list[str]:
        """Write the pictures; returns their names. Errors of drawing are in ``undrawn``.

        Raises:
            ImportError: Matplotlib is not installed.
        """
        drawn: list[str] = []
        self.undrawn = {}
        for name, draw in self._pictures():
            try:
                draw(self.out / name)
                drawn.append(name)
            except ImportError:
                raise
            except Exception as error:  # Matplotlib raises anything, such as for a wrong MPLBACKEND
                self.undrawn[name] = error
        return drawn

    def _pictures(self) -> Iterator[tuple[str, Callable[[Path], None]]]:
        """Name and how it is drawn, of each that there is."""
        if not self.trainer.history.epochs:
            return
        best = self.stopping.best_epoch or None
        yield CURVES, lambda path: self.trainer.history.plot(path, best=best)
        if self.result is not None:
            name = RESIDUALS if self.source.classes is None else CONFUSION
            yield name, self.result.report.plot
        if self.diagnosis is not None and self.diagnosis.history:
            yield DIAGNOSIS, self.diagnosis.plot

    @staticmethod
    def _earlier(given: Mapping[str, Any], out: Path | None) -> Folder | None:
        """The run to go on with."""
        if out is None and "data" not in given:
            raise ValueError("train: '--resume' is given, expected DATA or --out with it")

        def contradiction(record: dict[str, Any]) -> str | None:
            before = record["options"]
            if "fold" in record:
                fold = record["fold"]
                return (
                    f"--cv {fold.get('of')}, as fold {fold.get('number')} of a run; --resume goes "
                    "on with that run, so pass --out with its folder"
                )
            if out is None and not same_place(before.get("data"), given["data"]):
                return _options.contradiction("data", before.get("data"), given["data"])
            return Options.of({"data": "", **given}, before).contradicts(before)

        return Folder.earlier(name_of(given.get("data", "")), out, contradiction)

    def _notes(self, resume: bool, before: Mapping[str, Any], contents: str) -> list[str]:
        """On the data, the folder, and what a resume does.

        Args:
            before: the options of the run that this one goes on with.
        """
        notes = [*self.source.notes, *filter(None, [self.folder.note])]
        if self.comm.size > 1:
            notes.append(f"{self.comm.size} processes train together")
        if self.start is not None:
            notes += self.start.notes(self.options, self.source, self.parts, contents)
        if resume and not self.resume:
            notes.append(f"there is no run to resume; this one begins in {self.out}")
        record = self.folder.record
        if self.options.cv is not None and before and record.get("folds"):
            version = record.get("onepass")
            if version != onepass.__version__:
                notes.append(
                    f"the folds that are done are of onepass {version}, this is "
                    f"{onepass.__version__}: others may differ in bits"
                )
        if before and before["epochs"] != self.options.epochs:
            notes.append(
                f"--epochs was {before['epochs']}; from here on the learning rate is that of a run "
                f"of {self.options.epochs} epochs"
            )
            if self.options.cv is not None and before["epochs"] > self.options.epochs:
                notes.append(
                    "folds that have done more epochs than that keep them: the mean and deviation "
                    "are of folds of unequal length"
                )
        return notes

    def _begin(self, contents: str) -> list[str]:
        """Make the folder that of a run in progress; returns sentences for the user."""
        note = self.folder.put_damaged_history_aside()
        self.folder.remove_figures()
        record = self.folder.record
        same = _cross_validation.same_length(record.get("options", {}), self.options)
        self.folder.write(
            onepass=onepass.__version__,
            started=record.get("started", _sessions.now()),
            finished=None,
            options=self.options.as_json(),
            directory=os.getcwd(),
            contents=contents,
            grouping=digest_of_groups(self.source.groups),
            classes=self.source.classes and list(self.source.classes),
            result=None,
            folds=record.get("folds") if same else None,  # else they go on too
            ended=None,
            verdict=None,
            best_epoch=None,
            epochs=None,
            data=self.parts.described(self.source),
        )
        if self.start is not None and self.comm.rank == 0:
            self.start.keep(self.folder.path)
        return [*filter(None, [note, self.renew_page()])]

    def _about(self, contents: str) -> dict[str, Any]:
        """For a prediction, everything beside arrays."""
        options, source = self.options, self.source
        return {
            "version": onepass.__version__,
            "data": options.data,
            "contents": contents,
            "target": source.target,
            "classes": source.classes and list(source.classes),
            "architecture": vars(self.fitting.architecture),
            "preprocess": options.preprocess,
            "epochs": options.epochs,
        }

    def _saved(self) -> SavedRun:
        return SavedRun.of(self.about, self.fitting.model, self.parts)

    def _trainer(self) -> Trainer:
        keep = KeepBest(self.stopping, self._saved, self.out)
        checkpoint = Checkpoint(self.out / CHECKPOINTS, keep=2)
        bar = [ProgressBar()] if self.progress else []
        own = [_sessions.Began(self.folder), keep, *bar, checkpoint]
        return self.fitting.trainer([*self.callbacks, *own], log_dir=self.out)


def check_options_of_classes(source: Source, given: Mapping[str, Any]) -> None:
    """Refuse what has no meaning where the target is numbers."""
    for name in ("class_weight", "label_smoothing"):
        if source.classes is None and given.get(name):
            raise ValueError(
                f"train: '--{name.replace('_', '-')}' is given, expected it with classes; the "
                f"target {source.target!r} is numbers"
            )
