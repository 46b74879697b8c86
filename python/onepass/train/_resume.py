"""Checks that a resumed fit matches the run that it continues."""

from __future__ import annotations

import functools
import inspect
import warnings
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from onepass._array import to_numpy
from onepass.data import augment
from onepass.data._shares import placed
from onepass.optim.lr_scheduler import _zeros as zeros
from onepass.train import _schedule
from onepass.train._loaders import Loader
from onepass.train._training import fingerprint

OF_LOADER = ("size", "batch_size", "shuffle", "last_batch", "seed", "sampling")
OF_RUN = ("accumulate", "max_norm", "nonfinite", "reproducible")
# Another one gives other meanings to the numbers that the checkpoint keeps.
FIXED = {
    "loss": "the checkpoint's losses and its best epochs are of that one; to train its model on "
    "with another, take Trainer.load_weights(dir, model) and a new Trainer",
    "interval": "the checkpoint's schedule counts that",
}
OPTIONS = "optimizer"  # those of its groups, which a checkpoint brings along
NO_OPTIONS = ("initial_lr", zeros.KEY, "name", "train_mode")  # what groups hold beside them
# Not shown in full: arrays.
SHOWN = {
    "contents": ("other data, targets or weights", "these"),
    "validation": ("other validation data", "these"),
}


def described(run: Any, loader: Loader, validation: Loader | None) -> dict[str, Any]:
    """A checkpoint's record of data, batches and options, for `check`."""
    return {
        **{name: getattr(loader, name) for name in OF_LOADER},
        **{name: getattr(run, name) for name in OF_RUN},
        "regularizers": [_of_kind(type(r), r) for r in run.regularizers],
        **_fixed(run),
        "contents": fingerprint(loader),
        "validation": fingerprint(validation),
        "transform": of_transform(loader.transform),
        OPTIONS: _options(run.optimizer),
    }


def check(
    now: Mapping[str, Any], saved: Mapping[str, Any], *, resumes: bool, restores: bool
) -> None:
    """Refuse a fit that goes on inside an epoch with anything else than before.

    Between two epochs a difference is legal. A resumed run warns about it, because it may come from
    an argument that the caller forgot to repeat.

    Args:
        now: of `described`.
        saved: the saved run, its ``data`` and ``position``.
        resumes: whether a saved state was restored, or will be.
        restores: whether it will be; `check_fixed` then sees to the rest.
    """
    before = _of_earlier_version(saved["data"])
    names = [name for name in now if name != OPTIONS and not (restores and name in FIXED)]
    differing = [name for name in names if now[name] != before.get(name, now[name])]
    if not differing:
        return
    changes = [(name, *_shown(name, before[name], now[name])) for name in differing]
    if saved["position"]:
        name, was, here = changes[0]
        if name in SHOWN:
            what = "data, targets and weights" if name == "contents" else "validation data"
            raise ValueError(
                f"fit: the last fit ended inside an epoch, expected the same {what} to go on"
            )
        raise ValueError(
            f"fit: {name!r} is {here}, expected {was}: the run stopped inside an epoch, which "
            "needs the same data and batches to go on"
        )
    if resumes:
        told = "; ".join(f"had {was} and goes on with {here}" for _, was, here in changes)
        warnings.warn(
            f"the saved run {told}: its results will differ from those of an uninterrupted run",
            RuntimeWarning,
            stacklevel=5,
        )


def warn_of_options(data: Mapping[str, Any], saved_data: Mapping[str, Any] | None) -> None:
    """A checkpoint's options replace those that the caller may have changed on purpose.

    Args:
        data, saved_data: of `described`, before the checkpoint was restored, and in it.
    """
    now = data[OPTIONS]
    saved = (saved_data or {}).get(OPTIONS, now)
    changed = [name for name in now if name in saved and now[name] != saved[name]]
    if changed:
        told = ", ".join(f"{name}={saved[name]!r}, not {now[name]!r}" for name in changed)
        warnings.warn(
            f"the saved run goes on with the options of its own optimizer: {told}; to change them, "
            "load it (Trainer.load) and set optimizer.param_groups before fit",
            RuntimeWarning,
            stacklevel=5,
        )


def warn_of_frozen(model: Any, saved: Sequence[str] | None) -> None:
    """A checkpoint has the values of frozen parameters, not that they are frozen.

    Args:
        saved: those that were frozen in it; None where it does not say.
    """
    names = dict(model.named_parameters())
    moving = [name for name in saved or () if name in names and names[name].requires_grad]
    held = [n for n, p in names.items() if not p.requires_grad and n not in (saved or [])]
    told = [f"{', '.join(moving)} frozen, which will move now"] * bool(moving)
    told += [f"{', '.join(held)} in training, frozen now"] * bool(held)
    if saved is not None and told:
        warnings.warn(
            f"the saved run had {' and '.join(told)}: freeze() and unfreeze() the same layers "
            "before fit to go on as it was",
            RuntimeWarning,
            stacklevel=5,
        )


def _options(optimizer: Any) -> dict[str, Any]:
    """The options of each group as they were before any schedule changed them."""
    groups = optimizer.param_groups
    found: dict[str, Any] = {}
    for number, group in enumerate(groups):
        label = f"{{}} of group {number}" if len(groups) > 1 else "{}"
        scheduled = "initial_lr" in group
        for name, value in group.items():
            if name in NO_OPTIONS:
                continue
            if name == "lr":
                found[label.format(name)] = float(group.get("initial_lr", value))
            elif name in ("betas", "momentum") and scheduled:
                continue  # a cycle of rates may have one of momentums
            elif isinstance(value, (bool, int, float, str)):
                found[label.format(name)] = value
            elif isinstance(value, tuple) and all(isinstance(v, (int, float)) for v in value):
                found[label.format(name)] = list(value)
    return found


def check_fixed(run: Any, saved: Mapping[str, Any] | None) -> None:
    """Refuse a checkpoint of another loss, or of a schedule that counts something else.

    Args:
        saved: of `described`; None where no fit had begun.
    """
    now = _fixed(run)
    for name, reason in FIXED.items():
        was = (saved or {}).get(name, now[name])
        if was != now[name]:
            raise ValueError(f"{name!r} is {now[name]}, expected {was}: {reason}")


def _fixed(run: Any) -> dict[str, Any]:
    return {"loss": _described(run.loss), "interval": _schedule.interval(run.scheduler)}


def _shown(name: str, was: Any, here: Any) -> tuple[str, str]:
    return SHOWN.get(name, (f"{name}={was!r}", repr(here)))


def _of_earlier_version(saved: Mapping[str, Any] | None) -> dict[str, Any]:
    before = dict(saved or {})
    if "drop_last" in before:
        before["last_batch"] = "drop" if before.pop("drop_last") else "keep"
    return before


def _described(part: Any) -> str:
    """A loss and the arguments it was made with, the same in every process."""
    if isinstance(part, functools.partial):
        given = [*map(_argument, part.args)]
        given += [f"{name}={_argument(value)}" for name, value in part.keywords.items()]
        return f"{_described(part.func)}({', '.join(given)})"
    name = getattr(part, "__qualname__", None)
    if name is not None:
        return str(name)
    # A subclass of a loss of onepass counts as that one: it may only watch.
    kinds = [kind for kind in type(part).__mro__ if kind.__module__.startswith("onepass.")]
    kind = kinds[0] if kinds else type(part)
    return _of_kind(kind, part)


def _of_kind(kind: type, part: Any) -> str:
    names = [n for n in inspect.signature(kind).parameters if hasattr(part, n)]
    arguments = ", ".join(f"{n}={_argument(getattr(part, n))}" for n in names)
    return f"{kind.__qualname__}({arguments})"


def of_transform(transform: Any) -> str:
    if isinstance(transform, functools.partial) and transform.func is placed:
        transform = transform.args[0]  # beside a split
    if isinstance(transform, augment.Compose):
        return f"Compose([{', '.join(map(of_transform, transform.transforms))}])"
    ours = type(transform).__module__.startswith("onepass.")
    return repr(transform) if transform is None or ours else _described(transform)


def _argument(value: Any) -> str:
    if value is None or isinstance(value, (bool, int, float, str)):
        return repr(value)
    if isinstance(value, (tuple, list)):
        return f"({', '.join(map(_argument, value))})"
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        array = np.ascontiguousarray(to_numpy(value))
        return f"<array {array.shape} of checksum {zlib.crc32(array.tobytes()):08x}>"
    return f"<{type(value).__name__}>"
