"""What ``onepass bench parallel`` measures and prints, and what ranks should cost.

Every form is in processes of its own, which wait for their turn without taking a processor.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from onepass import _console
from onepass.bench import _machine
from onepass.bench._parallel_groups import Group, lacking
from onepass.bench._parallel_model import ALGORITHMS, Link, Step, fitted
from onepass.bench._parallel_rank import Layers
from onepass.bench._table import spread_text, time_text
from onepass.bench._timing import interleaved, quantile
from onepass.bench._training import NETWORKS

FORMAT = 1
ROUNDS = 15
SAMPLE_SECONDS = 0.05
MOST_SECONDS = 60.0  # for the samples of one network
SHARE = 1e-4  # of the largest change of a parameter: 20 times what rounding leaves
SIZES = (8, 1 << 10, 1 << 13, 1 << 16, 1 << 18, 1 << 20, 1 << 22, 1 << 24)  # bytes of a sum
FORMS = {"onepass": ("loop", "Trainer", "own norms"), "torch": ("torch",)}
LABELS = {"loop": "onepass", "Trainer": "onepass Trainer", "own norms": "onepass own norms",
          "torch": "torch"}  # fmt: skip


STEPS = {
    "demo": Layers(**vars(NETWORKS[0])),
    "25M": Layers("step of 1536-4096-4608-10 batch 64", (1536, 4096, 4608, 10), 64, 0.5, False),
}
LEGEND = """\
time     median of a step, and where four in five samples lie
speedup  the time of the same library's one process over it; all have as many threads together
error    parameters after 3 steps beside those of one process, as a share of the largest change of
         one; the digest of all ranks is one. Else the line is WRONG
onepass            a loop with parallel.all_reduce_gradients, batch norms over all ranks
onepass Trainer    Trainer.fit with parallel="auto"
onepass own norms  the loop, and each rank normalises by its own samples, as DDP does
torch              eager, on several ranks in DistributedDataParallel with gloo"""


@dataclasses.dataclass(frozen=True)
class Line:
    """A form of a step."""

    step: str
    form: str
    ranks: int
    threads: int
    samples: list[float]
    error: float | None  # None: nothing to compare with
    wrong: str  # why; "" if it is right

    @property
    def seconds(self) -> float:
        return median(self.samples)

    def as_dict(self) -> dict[str, Any]:
        low, high = (quantile(self.samples, share) for share in (0.1, 0.9))
        return {**dataclasses.asdict(self), "seconds": self.seconds, "low": low, "high": high}


class Run:
    """One run of the command: ``content`` is what its file has."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._given = Link(options.latency, 1 / options.bandwidth, 0.0)
        self.content: dict[str, Any] = {
            "format": FORMAT,
            "machine": _machine.machine(),
            "options": {k: v for k, v in vars(options).items() if k not in ("json", "overwrite")},
            "lines": [], "sums": [], "paper": [], "missing": {},
        }  # fmt: skip

    def run(self) -> bool:
        """Measures and prints; whether every line is right."""
        options, about = self._options, self.content["machine"]
        _say(f"onepass {about['onepass']} on {about['cpu']}, {about['cpus']} processors, "
             f"{about['level']}\n\n{_HEAD}")  # fmt: skip
        right = True
        for name in options.only:
            network = STEPS[name]
            _say(f"\n{name}: {network.name}, {_count(network):,} parameters")
            with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
                groups = self._groups(network, Path(folder), stack)
                lines = self._lines(network, groups)
                self._show(lines)
                right &= not any(line.wrong for line in lines)
                for group in groups:
                    if group.library == "onepass" and group.size > 1:
                        self._model(network, group, lines)
        _say("\n" + LEGEND)
        for name, why in self.content["missing"].items():
            _say(f"not measured: {name}: {why}")
        return right

    def _groups(self, network: Layers, folder: Path, stack: contextlib.ExitStack) -> list[Group]:
        found = []
        for library in ("onepass", *self._options.against):
            for size in self._options.ranks:
                name = f"{library} on {size} ranks" if size > 1 else library
                why = self.content["missing"].get(name) or lacking(library, size)
                if why:
                    self.content["missing"][name] = why
                    continue
                threads = max(1, self._options.threads // size)
                group = Group(library, size, threads, network, folder)
                stack.callback(group.close)
                found.append(group)
        return found

    # Steps.

    def _lines(self, network: Layers, groups: list[Group]) -> list[Line]:
        forms = {
            (form, group.size): group
            for group in groups
            for form in FORMS[group.library]
            if not (form == "own norms" and (group.size == 1 or not network.has_norms))
        }
        checks = self._checked(network, forms)
        samples = self._timed(forms)
        return [
            Line(network.name, form, size, group.threads, samples[form, size], *checks[form, size])
            for (form, size), group in forms.items()
        ]

    def _checked(
        self, network: Layers, forms: dict[tuple[str, int], Group]
    ) -> dict[tuple[str, int], tuple[float | None, str]]:
        """(error, what is wrong) of each form."""
        begun = np.concatenate([p.reshape(-1) for p in network.parameters()])
        alone: dict[str, np.ndarray] = {}
        found: dict[tuple[str, int], tuple[float | None, str]] = {}
        for (form, size), group in forms.items():
            answers = group.ask("check", form)
            digests = {answer["digest"] for answer in answers}
            path = Path(answers[0]["path"])
            whole = np.load(path)
            path.unlink()
            if size == 1:
                alone[form] = whole
            error = None
            if form in alone and form != "torch":  # which drops by other masks
                error = _off(whole, alone[form], begun)
            wrong = "parameters of ranks differ" if len(digests) > 1 else ""
            if error is not None and not error <= SHARE:
                wrong = f"parameters are not those of one process: {error:.2g}"
            found[form, size] = error, wrong
        return found

    def _timed(self, forms: dict[tuple[str, int], Group]) -> dict[tuple[str, int], list[float]]:
        turns = _Turns()
        for (form, size), group in forms.items():
            at_once = group.ask("make", form)[0]["at_once"]
            turns.add(f"{form} {size}", group, at_once, "time", form)
        samples = turns.samples(self._options.rounds)
        return {(form, size): samples[f"{form} {size}"] for form, size in forms}

    def _show(self, lines: list[Line]) -> None:
        alone = {line.form: line.seconds for line in lines if line.ranks == 1}
        for line in lines:
            base = alone.get("loop" if line.form == "own norms" else line.form)
            speedup = "" if base is None else f"{base / line.seconds:.2f}x"
            found = line.as_dict()
            error = "" if line.error is None or line.ranks == 1 else f"{line.error:.2g}"
            spread = spread_text(found["seconds"], found["low"], found["high"])
            label = LABELS[line.form] + (
                " DDP gloo" if line.form == "torch" and line.ranks > 1 else ""
            )
            _say(
                f"  {label:24} {line.ranks:5} {line.threads:4} {time_text(line.seconds):>10} "
                f"{spread:<15} {speedup:>8}  {f'WRONG: {line.wrong}' if line.wrong else error}"
            )
            self.content["lines"].append(found)

    # The model on paper.

    def _model(self, network: Layers, group: Group, lines: list[Line]) -> None:
        """Fits latency and bandwidth of the ranks here, and goes on to many."""
        options, size = self._options, group.size
        gradients = 4 * _count(network)
        sizes = sorted({*SIZES, gradients})
        turns = _Turns()
        for count in sizes:
            turns.add(str(count), group, 1, "reduce", count)
        turns.add("add", group, 1, "add", gradients)
        found = {name: median(values) for name, values in turns.samples(options.rounds).items()}
        seconds = [found[str(count)] for count in sizes]
        a, b = fitted(sizes, seconds)
        rate = f", {1e-9 / b:.2f} GB/s" if b else ""
        _say(f"\n  sums over {size} ranks: {time_text(a)} and {b * 1e9:.3f} ns a byte{rate}")
        for count, t in zip(sizes, seconds, strict=True):
            line = time_text(a + b * count)
            _say(f"  {count:12,} bytes {time_text(t):>10}, by the line {line:>10}")
        measured = next(x.seconds for x in lines if (x.form, x.ranks) == ("loop", size))
        (here, *_) = group.ask("alone", size, max(5, options.rounds))
        predicted = here["seconds"] + sum(a + b * n for n in here["sums"])
        _say(f"  a step is {time_text(here['seconds'])} without messages, and {len(here['sums'])} "
             f"sums of {sum(here['sums']):,} bytes: {time_text(predicted)}, measured "
             f"{time_text(measured)} ({predicted / measured - 1:+.0%})")  # fmt: skip
        self.content["sums"].append({
            "step": network.name, "ranks": size, "bytes": sizes, "seconds": seconds,
            "latency": a, "seconds_per_byte": b, "alone": here, "predicted": predicted,
            "measured": measured,
        })  # fmt: skip
        by = dataclasses.replace(self._given, adding=found["add"] / gradients)
        self._paper(network, group, by)

    def _paper(self, network: Layers, group: Group, by: Link) -> None:
        options = self._options
        rows = network.batch // group.size
        _say(f"\n  on paper, {time_text(by.latency)} and {options.bandwidth / 1e9:g} GB/s, adding "
             f"{1e-9 / by.adding:.3g} GB/s, {rows} rows a rank: a step, and what of it computes\n"
             f"  {'ranks':>6} {'MB':>7} {'computes':>10} {'overlap':>8}"
             + "".join(f"{name:>18}" for name in ALGORITHMS))  # fmt: skip
        last = network.sizes[0] * network.sizes[1] / _count(network)
        for ranks in options.at:
            (one, *_) = group.ask("alone", ranks, 5)
            step = Step(one["sums"], one["seconds"], one["backward"], last)
            about = f"  {ranks:6} {sum(step.sums) / 1e6:7.2f} {time_text(step.computes):>10}"
            found = {}
            for overlap in (False, True):
                seconds = {
                    name: step.seconds(name, ranks, by, overlap=overlap) for name in ALGORITHMS
                }
                cells = (f"{time_text(t)} {step.computes / t:>5.0%}" for t in seconds.values())
                _say(
                    f"{about} {'yes' if overlap else 'no':>8}" + "".join(f"{c:>18}" for c in cells)
                )
                about = " " * len(about)
                found["with overlap" if overlap else "without"] = seconds
            self.content["paper"].append({
                "step": network.name, "ranks": ranks, "rows": rows, "seconds": found,
                "latency": by.latency, "seconds_per_byte": by.inverse,
                "seconds_per_byte_added": by.adding, **dataclasses.asdict(step),
            })  # fmt: skip


class _Turns:
    """Questions that take turns; their time is what the processes say, not what asking takes."""

    def __init__(self) -> None:
        self._now = 0.0
        self._calls: dict[str, Any] = {}

    def add(self, name: str, group: Group, at_once: int, question: str, argument: Any) -> None:
        """A question of seconds, given an argument and how often to do it."""

        def ask(count: int) -> float:
            return max(map(float, group.ask(question, argument, count)))

        one = min(ask(at_once) for _ in range(3))
        wanted = min(SAMPLE_SECONDS / max(one, 1e-7), 1000.0)
        count = at_once * max(1, round(wanted / at_once))

        def call() -> None:
            self._now += ask(count)

        self._calls[name] = call

    def samples(self, rounds: int) -> dict[str, list[float]]:
        """Seconds, of each question."""
        return interleaved(self._calls, rounds, lambda: self._now, MOST_SECONDS)


_HEAD = f"{'step':26} ranks  thr       time (10-90 %)        speedup  error"


def _count(network: Layers) -> int:
    """Of parameters."""
    return sum(p.size for p in network.parameters())


def _off(whole: np.ndarray, alone: np.ndarray, begun: np.ndarray) -> float:
    """The largest difference as a share of the largest change; infinite where one is NaN."""
    change = float(np.abs(alone - begun).max())
    error = float(np.abs(whole - alone).max()) / change if change else float("inf")
    return error if error == error else float("inf")


def _say(text: str) -> None:
    _console.write(text + "\n", sys.stdout)
