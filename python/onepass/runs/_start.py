"""The weights that a run begins with, where they are those of an earlier run.

A copy of them lies in the run's own folder, so that a resume needs no other.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from onepass import nn
from onepass.runs import _parts
from onepass.runs._folder import Folder
from onepass.runs._names import START
from onepass.runs._options import Options
from onepass.runs._parts import Parts
from onepass.runs._saved_run import SavedRun, load_run, read_run
from onepass.runs._source import Source, found_again

KEPT = ("hidden", "norm", "activation")  # of the architecture: weights have a meaning with them


@dataclass(frozen=True)
class Start:
    """An earlier run whose weights, and scale of the inputs, another run begins with."""

    name: str
    run: SavedRun

    @classmethod
    def of(cls, init_from: Any, folder: Folder | None) -> Start | None:
        """Of the option's value; that of a run to go on with is in its folder.

        Raises:
            FileNotFoundError, ValueError: no run is there, or it is damaged.
        """
        if folder is not None:
            init_from = folder.record["options"].get("init_from")
            file = folder.path / START
            if init_from and file.is_file():
                return cls(init_from, read_run(file))
            init_from = init_from and found_again(init_from, folder.record.get("directory"))
        return cls(str(init_from), load_run(init_from)) if init_from else None

    @property
    def options(self) -> dict[str, Any]:
        """Of the network, where nothing else is asked for."""
        built = self.run.about["architecture"]
        kept = {name: built[name] for name in (*KEPT, "dropout")}
        return {**kept, "preprocess": self.run.about.get("preprocess", "standardize")}

    def check(self, options: Options, parts: Parts) -> None:
        """Refuse another network, and other inputs."""
        before = self.options
        for name in (*KEPT, "preprocess"):
            was, now = before[name], getattr(options, name)
            if list(was) != list(now):
                was, now = (
                    v if isinstance(v, str) else ",".join(map(str, v)) or "none" for v in (was, now)
                )
                raise ValueError(
                    f"train: '--{name}' is {now}, expected {was} as in the run of --init-from, "
                    f"{self.name}"
                )
        was, now = self.run.encoding.feature_names, parts.encoding.feature_names
        if list(was) != list(now):
            shown = [", ".join(map(repr, names)) for names in (was, now)]
            shown = [text if len(text) < 100 else f"{text[:100]}…" for text in shown]
            raise ValueError(
                f"train: '--init-from' is {self.name!r}, whose {len(was)} inputs are {shown[0]}, "
                f"expected those of the data, {len(now)}: {shown[1]}"
            )

    def scaled(self, parts: Parts, source: Source) -> Parts:
        """The parts, with inputs as the weights were trained on."""
        _parts.check_range(self.run.scale, parts.X, parts.encoding)
        target = self.run.target_scale if self.same_target(source) else parts.target_scale
        return replace(parts, scale=self.run.scale, target_scale=target)

    def same_target(self, source: Source) -> bool:
        """Whether the last layer says the same thing."""
        classes, named = self.run.about["classes"], source.classes
        if classes is None or named is None:
            return classes is None and named is None and self.run.target == source.target
        return list(classes) == list(named)

    def put_into(self, model: Any, source: Source) -> None:
        """The weights; of the last layer only where it has the same target."""
        pairs = list(zip(_with_state(self.run.model), _with_state(model), strict=True))
        for old, new in pairs if self.same_target(source) else pairs[:-1]:
            new.load_state_dict(old.state_dict())

    def notes(self, options: Options, source: Source, parts: Parts, contents: str) -> list[str]:
        """Sentences for the user."""
        last = "" if self.same_target(source) else ", the last layer is new"
        layers = "1 layer stays" if options.freeze == 1 else f"{options.freeze} layers stay"
        frozen = f"; the first {layers} as before" if options.freeze else ""
        notes = [f"weights and scale of inputs are those of {self.name}{last}{frozen}"]
        if options.init is not None and not last:
            notes.append(f"--init {options.init} has no effect: no layer is new")
        same_data = self.run.about.get("contents") == contents
        same_rows = np.array_equal(np.sort(self.run.held_out), np.sort(parts.test))
        if same_data and (options.cv is not None or not same_rows):
            folds = "folds" if same_rows else "the result"
            cure = "" if same_rows else "; pass the --seed of that run"
            notes.append(
                f"{self.name} was trained on rows that are held out here: {folds} will look too "
                f"good{cure}"
            )
        return notes

    def keep(self, folder: Path) -> None:
        """Write the copy."""
        self.run.write(folder, START)


def freeze(model: Any, count: int) -> None:
    """Freeze the first ``count`` linear layers and their norms."""
    linear = [i for i, layer in enumerate(model) if isinstance(layer, nn.Linear)]
    if count:
        model[: linear[count]].freeze()


def _with_state(model: Any) -> list[Any]:
    """Layers that dropout, which a run may add or leave out, does not renumber."""
    return [layer for layer in model if layer.state_dict()]
