"""The training loop: loader → model → loss → backward → optimizer step → scheduler."""

from __future__ import annotations

import inspect
import math
from collections.abc import Generator, Iterable
from contextlib import closing, suppress
from typing import Any

from onepass._interruptions import to_the_end
from onepass.nn import _use
from onepass.train import _averages, _checks, _closure, _schedule
from onepass.train._buffers import Buffers, StepStart
from onepass.train._interrupt import Interrupt
from onepass.train._loaders import Loader
from onepass.train._penalties import Penalties
from onepass.train._run import Run
from onepass.train._spoilt import not_finite, spoilt_sample
from onepass.train._totals import Totals
from onepass.train._training import adopt
from onepass.train._weights import WeightedLoss, loss_of


class Loop:
    """Trains a run over the batches of a loader and calls its callbacks."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self._interrupt = Interrupt()
        # The divisor of the loss of the step's first batch, whose weight is 1; and the sum of the
        # weights of its batches so far.
        self._first_divisor = self._weight = 0.0
        self._penalties = Penalties()
        self._forget()

    def _forget(self) -> None:
        """Let callbacks and data go: a trainer is pickled without those of its last fit."""
        self._callbacks: list[Any] = []
        self._called: list[Any] = []
        self._batch: Any = ()

    def train(self, loader: Loader, validation: Loader | None) -> None:
        """Epochs until ``run.max_epochs`` or ``run.stop``."""
        run = self.run
        self._options = (
            {"need_input_grad": False}
            if "need_input_grad" in inspect.signature(run.model.backward).parameters
            else {}
        )
        self._has_weights = loader.sample_weight is not None
        self._validates = validation is not None
        self._begun = False
        try:
            self._follow_parts()
        except BaseException:
            self._penalties.end()
            self._forget()
            raise
        self._buffers = Buffers(run.model)
        self._start = StepStart(run, self._buffers)
        run.at_boundary = True
        run.optimizer.zero_grad()
        with self._interrupt:
            try:
                self._begun = True
                self._call("on_fit_begin")
                while run.epoch < run.max_epochs and not self._is_stopped():
                    self._run_epoch(loader, validation)
                run.at_boundary = False
                self._call("on_fit_end")
                run.ended = True
            except BaseException as error:
                _averages.turn(run.optimizer, training=False)
                self._abort(error)
                raise
            finally:
                self._penalties.end()
                self._forget()

    def _abort(self, error: BaseException) -> None:
        """Call ``on_abort`` of every callback, also where that of another one fails."""
        for number, callback in enumerate(self._called):
            try:
                callback.on_abort(self.run, error)
            except BaseException:
                for other in self._called[number + 1 :]:
                    with suppress(Exception):
                        other.on_abort(self.run, error)
                raise

    def _run_epoch(self, loader: Loader, validation: Loader | None) -> None:
        """The batches from ``position`` on, then validation and the epoch's row."""
        run = self.run
        self._interrupt.watch()  # handlers that the program has set since
        run.row_is_done = False
        run.epoch_begins = True
        try:
            self._call("on_epoch_begin")
        finally:
            run.epoch_begins = False
        if run.position:
            run.sums.refuse_others(run.metrics)
        _use.train(run.model)
        _averages.turn(run.optimizer, training=True)
        with closing(self._batches(loader)) as batches:  # ends their threads
            done = self._run_batches(loader, batches)
        _averages.turn(run.optimizer, training=False)
        if not done:
            return
        run.row = row = run.sums.values_of(run.metrics)
        if validation is not None:
            row |= {f"val_{k}": v for k, v in self._evaluated(validation).items()}
            self._call("on_validation_end", waits=True)
        before, mark, logged = run.torn, self._mark(), run.logged  # torn by a hook that was cut
        run.torn, run.at_boundary = True, False
        try:
            entry = {**row, **self._take_logged(), "lr": run.lr}
            _schedule.after_epoch(run, row)
            run.history.append(entry)
            run.row_is_done = True
            run.epoch += 1
            run.position, run.sums = 0, Totals()
        except Exception:
            run.torn, run.logged = before or self._mark() != mark, logged
            raise
        run.torn, run.at_boundary = before, True
        self._call("on_epoch_end")

    def _run_batches(self, loader: Loader, batches: Iterable[Any]) -> bool:
        """The rest of an epoch's batches; False where a callback stopped the run."""
        run = self.run
        counts = vars(run)  # the checks of what users set take longer than a batch's other counting
        pending = 0
        try:
            for batch in batches:
                run.at_boundary = False
                if pending == 0:
                    if not run.model.training:  # a hook has called its eval()
                        _use.train(run.model)
                    self._start.keep()
                    self._begin_step()
                pending += 1
                last = pending == run.accumulate or loader.ends(run.position + 1)
                self._forward_backward(batch)
                counts["position"] += 1
                if last:
                    self._update()
                    pending = 0
                    run.at_boundary = True
                    self._call("on_step_end")
                    if self._is_stopped():
                        return False
        except BaseException:
            if pending:
                to_the_end(self._start.put_back)
            raise
        return True

    def _begin_step(self) -> None:
        """Before the first batch of a step."""
        self._first_divisor = self._weight = 0.0

    def _forward_backward(self, batch: Any) -> None:
        """The loss of a batch, and its gradients."""
        self._batch = x, target, *weight = tuple(map(self.run.moved, batch))
        output = self.run.model(x)
        loss, dy, divisor = self._loss_of(output, target, *weight)
        self._count(loss, divisor, output)
        self._backward(x, dy, divisor)

    def _count(self, loss: Any, divisor: float | None, output: Any) -> None:
        """Count a batch in the sums of the epoch, unless its loss is not finite."""
        run, (x, target, *_) = self.run, self._batch
        run.batch_loss = 0.0 if divisor == 0 else float(loss)  # no label counts: nothing to learn
        finite = math.isfinite(run.batch_loss)
        if not finite and run.nonfinite == "raise":
            raise not_finite(run.batch_loss, self._where(), spoilt_sample(X=x, y=target))
        if finite or run.nonfinite == "propagate":
            run.sums.add(run.metrics, run.batch_loss, divisor, output, target)

    def _where(self) -> str:
        """The batch in progress, for messages."""
        return f"epoch {self.run.epoch + 1}, batch {self.run.position + 1}"

    def _loss_of(self, output: Any, target: Any, *weight: Any) -> tuple[Any, Any, float | None]:
        if weight:
            return self._weighted(output, target, *weight)
        return loss_of(self.run.loss, output, target)

    def _backward(self, x: Any, dy: Any, divisor: float | None) -> None:
        """The gradients of the loss and of the penalties of a batch."""
        run, share = self.run, self._share(divisor)
        dy = dy if share == 1 else dy * share
        if not self._penalties:
            run.model.backward(dy, **self._options)
            return
        self._penalties.before_backward(run, share)
        run.model.backward(dy, **self._options)
        values = self._penalties.of_batch(run, x, share)
        self._penalties.after_batch(run, values, divisor, run.position + 1)

    def _share(self, divisor: float | None) -> float:
        """The weight of the batch in the step, against the first that has any."""
        if divisor is None:  # sums add up to the sum of all
            return 1.0
        self._first_divisor = self._first_divisor or divisor
        weight = divisor / self._first_divisor if self._first_divisor else 0.0
        self._weight += weight
        return weight

    def _update(self) -> None:
        """Step with the mean over all that the accumulated batches hold, and zero the gradients."""
        run = self.run
        run.read_lr()
        self._gather()
        run.grad_scale = self._weight or 1.0
        run.read_norm()
        self._penalties.before_step(run)
        counts = vars(run)
        if _closure.needed(run.optimizer) and math.isfinite(norm := _closure.gradient_norm(run)):
            run.add_to_epoch("grad_norm", norm)
        self._call("on_before_step", waits=True)
        before, mark = counts["torn"], self._mark()  # torn by a hook that was cut
        counts["torn"] = True
        try:
            self._step()
        except Exception:
            counts["torn"] = before or self._mark() != mark
            raise
        counts["torn"] = before

    def _mark(self) -> tuple[Any, ...]:
        """What a step changes, or an epoch's end, and what cuts one."""
        run = self.run
        return (
            run.step,
            len(run.history),
            getattr(run.optimizer, "_taken", 0),
            getattr(run.scheduler, "last_epoch", None),
            self._interrupt.cuts,
        )

    def _objective(self) -> float:
        """The loss of the batch and the penalties, as they were evaluated last."""
        return self.run.batch_loss + (self._penalties.value if self._penalties else 0.0)

    def _evaluate(self) -> float:
        """The same of the step's batch where the parameters are now, and its gradients.

        With the masks of dropout and the running statistics of the step's start.
        """
        run, counts = self.run, vars(self.run)
        kept = counts["position"], counts["batch_loss"]
        run.optimizer.zero_grad()
        self._start.again()
        self._begin_step()
        counts["position"], self._penalties.silent = kept[0] - 1, True
        try:
            counts["batch_loss"] = self._again()
            self._penalties.before_step(run)
            return self._objective()
        finally:
            (counts["position"], counts["batch_loss"]), self._penalties.silent = kept, False

    def _again(self) -> float:
        """The loss of the step's batch where the parameters are now, and its gradients."""
        x, target, *weight = self._batch
        loss, dy, divisor = self._loss_of(self.run.model(x), target, *weight)
        self._backward(x, dy, divisor)
        return 0.0 if divisor == 0 else float(loss)

    def _step(self) -> None:
        run = self.run
        options: dict[str, Any] = {"max_norm": run.max_norm}
        if _closure.needed(run.optimizer):
            _closure.check(run, run.batches)
            options = {"closure": _closure.Closure(self._objective(), self._evaluate)}
        elif run.grad_scale != 1:
            options["grad_scale"] = run.grad_scale
        info = run.optimizer.step(**options, nonfinite=run.nonfinite, zero_grad=True)
        run.note_step(info)
        skipped = run.nonfinite == "skip" and bool(info.skipped)
        vars(run)["step"] += 1
        if skipped:
            run.skipped_steps += 1
            self._buffers.put_back()
        _schedule.after_step(run, skipped=skipped)

    def _call(self, hook: str, *, waits: bool = False) -> None:
        """Call a hook of every callback; Ctrl-C waits until all have run, or until the next hook
        where the run is between two of its states now.
        """
        self._call_each(hook)
        if self.run.callbacks != self._callbacks:  # the same ones are equal at once
            self.run.callbacks = self.run.callbacks  # checks what was put into the list
        if self.run.parts_changed:
            self._follow_parts()
        if not waits and self._is_interrupted():
            self._interrupt.answer()

    def _call_one(self, callback: Any, hook: str) -> None:
        """Call the hook of a callback; Ctrl-C is noted."""
        cuts = self._interrupt.cuts
        try:
            getattr(callback, hook)(self.run)
        except BaseException as error:
            self.run.torn |= self._interrupt.cuts != cuts  # else the hook itself raised it
            if not isinstance(error, KeyboardInterrupt):
                raise
            self._interrupt.note(error)

    def _follow_parts(self) -> None:
        """Go on with the parts that the user, or a hook, has set since.

        Raises:
            ValueError: an optimizer of another model, or a schedule of another optimizer.
        """
        run = self.run
        run.parts_changed = False
        _checks.of_model("Trainer", run.model, run.optimizer)
        _schedule.of_optimizer(run.scheduler, run.optimizer)
        self._penalties.follow(run)
        if self._has_weights:
            self._weighted = WeightedLoss(run.loss)
        present: list[Any] = list(run.callbacks)
        new = [c for c in present if all(c is not other for other in self._callbacks)]
        if new and self._begun:
            _checks.of_callbacks(run, new, validates=self._validates)
            assert run.training is not None
            adopt(run.training, new, fitting=True)
        self._callbacks, self._called = present, self._to_call(present)
        for callback in self._to_call(new) if self._begun else ():
            callback.on_fit_begin(run)

    # What several ranks do otherwise, see _shared_loop.py.

    def _batches(self, loader: Loader) -> Generator[Any, None, None]:
        """What is left of the epoch."""
        return loader.batches(self.run.epoch, self.run.position)

    def _evaluated(self, validation: Loader) -> dict[str, float]:
        """The loss and the metrics of the validation."""
        return self.run.evaluate_batches(validation)

    def _take_logged(self) -> dict[str, float]:
        """The averages of what was logged in the epoch."""
        return self.run.take_logged()

    def _call_each(self, hook: str) -> None:
        """Call a hook of every callback."""
        for callback in self._called:
            self._call_one(callback, hook)

    def _gather(self) -> None:
        """Before a step, whose gradients are those of all batches since the last."""

    def _is_interrupted(self) -> bool:
        """Whether there is a SIGINT to answer, between two hooks."""
        return self._interrupt.requested

    def _is_stopped(self) -> bool:
        """Whether the run ends here, after a hook."""
        return self.run.stop

    def _to_call(self, callbacks: list[Any]) -> list[Any]:
        """Those of the callbacks whose hooks are called."""
        return callbacks
