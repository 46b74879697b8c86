"""The options of a run, and the optimizer and schedule that follow from them."""

from __future__ import annotations

import csv
import dataclasses
import inspect
import io
import json
import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

from onepass import optim
from onepass._suggest import suggestion
from onepass.data._reading import Reading
from onepass.nn._initialise import SCHEMES
from onepass.optim.lr_scheduler import LRScheduler
from onepass.runs import _schedules
from onepass.runs._network import activations

ADAM_LR = 4e-3
ADAM_KIN = ("adam", "adamw", "nadam", "radam")
ADAMW_WEIGHT_DECAY = 0.3  # times the rate; strong, because the tables are small
NEED_MORE_THAN_A_GRADIENT = ("lbfgs", "sparseadam")
FREE = ("data", "epochs", "device", "early_stopping")  # a resume may change them


@dataclass(frozen=True, kw_only=True)
class Options(Reading):
    """Options of ``onepass train``, with their defaults; those of reading the table among them.

    ``lr`` None means ADAM_LR for the Adam family, else the default of the optimizer, as
    ``weight_decay`` None does, but for AdamW: ADAMW_WEIGHT_DECAY.
    """

    data: str
    target: str | None = None
    task: str | None = None
    epochs: int = 60
    batch_size: int = 32
    lr: float | None = None
    optimizer: str = "adamw"
    weight_decay: float | None = None
    schedule: str = _schedules.DEFAULT
    schedule_options: tuple[str, ...] = ()
    hidden: tuple[int, ...] = (256, 256)
    norm: str = "batch"
    activation: str = "relu"
    dropout: float = 0.2
    init: str | None = None
    init_from: str | None = None
    freeze: int = 0
    label_smoothing: float = 0.1
    class_weight: str | None = None
    early_stopping: int = 20
    cv: int | None = None
    groups: str | None = None
    device: str = "cpu"
    reproducible: int | None = None
    seed: int = 0
    drop: tuple[str, ...] = ()
    features: tuple[str, ...] | None = None
    missing: str | None = None
    preprocess: str = "standardize"
    categorical: str | None = None
    words: tuple[str, ...] = ()

    @classmethod
    def of(cls, given: Mapping[str, Any], before: Mapping[str, Any] | None = None) -> Options:
        """From what was given, else from ``before``, the options in a run's record.

        Raises:
            ValueError: a value that cannot work.
        """
        names = {field.name for field in dataclasses.fields(cls)}
        kept = {name: value for name, value in (before or {}).items() if name in names}
        merged = {**kept, **given}
        for name in ("hidden", "drop", "features", "na_values", "words", "schedule_options"):
            if isinstance(merged.get(name), list):
                merged[name] = tuple(merged[name])
        for name in ("activation", "optimizer", "schedule", "init"):
            if isinstance(merged.get(name), str):
                merged[name] = merged[name].lower()
        if merged.get("init_from") is not None:
            merged["init_from"] = os.fspath(merged["init_from"])
        if str(merged.get("optimizer")).startswith("schedulefree"):
            merged.setdefault("schedule", _schedules.NONE)
        options = cls(**merged)
        _known("activation", options.activation, activations())
        _known("optimizer", options.optimizer, optimizers())
        if options.init is not None:
            _known("init", options.init, dict.fromkeys(SCHEMES))
        options._check_freeze()
        trial = optimizer(
            SimpleNamespace(parameters=lambda: [np.zeros((2, 2), np.float32)]), options
        )
        schedule(trial, options, options.epochs)
        if options.batch_size == 1 and options.norm == "batch" and options.hidden:
            raise ValueError(
                "train: '--batch-size' is 1, expected a number above 1 with batch norm (or --norm "
                "none)"
            )
        return options

    def _check_freeze(self) -> None:
        if self.freeze and self.init_from is None:
            raise ValueError("train: '--freeze' is given, expected --init-from with it")
        if self.freeze > len(self.hidden):
            raise ValueError(
                f"train: '--freeze' is {self.freeze}, expected at most {len(self.hidden)}, the "
                "number of hidden layers: the last layer is trained"
            )

    def contradicts(self, before: Mapping[str, Any]) -> str | None:
        """The first option that a run's record has otherwise, in words."""
        was = {**Options(data="").as_json(), **before}  # a record may be older than an option
        for name, value in self.as_json().items():
            if name not in FREE and was[name] != value:
                return contradiction(name, was[name], value)
        return None

    def as_json(self) -> dict[str, Any]:
        """As a run's record has them."""
        plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        return plain


def command(options: Options, out: str | None = None) -> str:
    """The command line of ``onepass train`` with these options, for a shell."""
    words = [] if out is None else ["--out", out]
    for field in dataclasses.fields(Options):
        value, option = getattr(options, field.name), f"--{field.name.replace('_', '-')}"
        if field.name == "data" or value == field.default:
            continue
        if isinstance(value, bool):  # --header
            words.append(option if value else option.replace("--", "--no-", 1))
            continue
        text = _listed(value) if isinstance(value, tuple) else str(value)
        words += [f"{option}={text}"] if text.startswith("-") else [option, text]
    return shlex.join(["onepass", "train", options.data, *words])


def _listed(values: tuple[Any, ...]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(values)
    return text.getvalue()


def contradiction(name: str, before: Any, given: Any) -> str:
    """``--lr 0.05; --resume cannot go on with --lr 0.1``."""
    was, now = (_shown(name, value) for value in (before, given))
    return f"{was}; --resume cannot go on with {now}"


def _shown(name: str, value: Any) -> str:
    option = "--" + name.replace("_", "-")
    if isinstance(value, list):
        value = ",".join(map(str, value))
    return f"no {option}" if value in (None, "") else f"{option} {value}"


def optimizers() -> dict[str, Any]:
    """Lower-case name → class, of those that step on gradients alone."""
    return {
        name.lower(): cls
        for name, cls in vars(optim).items()
        if isinstance(cls, type)
        and issubclass(cls, optim.Optimizer)
        and cls is not optim.Optimizer
        and name.lower() not in NEED_MORE_THAN_A_GRADIENT
    }


def optimizer(model: Any, options: Options) -> Any:
    """The optimizer of the options."""
    name = options.optimizer.lower()
    chosen: dict[str, float] = {}
    if options.lr is not None:
        chosen["lr"] = options.lr
    elif name in ADAM_KIN:
        chosen["lr"] = ADAM_LR
    made = optimizers()[name]
    if options.weight_decay is not None:
        if not takes_weight_decay(name):
            raise ValueError(
                "train: '--weight-decay' is given, expected none: "
                f"{made.__name__} has no such option"
            )
        chosen["weight_decay"] = options.weight_decay
    elif name == "adamw":
        chosen["weight_decay"] = ADAMW_WEIGHT_DECAY
    return made(model.parameters(), **chosen)


def takes_weight_decay(name: str) -> bool:
    """Whether the optimizer of this name has such an option."""
    return "weight_decay" in inspect.signature(optimizers()[name.lower()]).parameters


def schedule(optimizer: Any, options: Options, steps: int) -> LRScheduler | None:
    """The schedule of the options, for so many steps."""
    name, given = options.schedule, options.schedule_options
    return _schedules.schedule(optimizer, name, given, options.epochs, steps)


def _known(what: str, name: str, known: Mapping[str, Any]) -> None:
    if name not in known:
        hint = suggestion(name, known)
        raise ValueError(
            f"train: '--{what}' is {name!r}, expected one of {', '.join(sorted(known))}{hint}"
        )
