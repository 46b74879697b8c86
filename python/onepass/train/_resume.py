"""Checks that a resumed fit matches the run that it continues."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from onepass.data._shares import placed
from onepass.optim.lr_scheduler import _zeros as zeros
from onepass.train import _schedule
from onepass.train._loaders import Loader
from onepass.train._marks import OF_LOADER, fingerprint, text_of, text_of_kind
from onepass.train._warned import warn

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

# The filters of `warnings` are the process's: a thread that changes them changes those of others.
_goes_on: ContextVar[bool] = ContextVar("a fit that may have nothing left to do", default=False)


@contextmanager
def goes_on() -> Iterator[None]:
    """Inside, `say_nothing_is_left` says nothing: nobody has made a mistake there."""
    token = _goes_on.set(True)
    try:
        yield
    finally:
        _goes_on.reset(token)


def say_nothing_is_left(epoch: int, max_epochs: int) -> None:
    """Warn that a fit finds the epochs done that it was asked for."""
    if not _goes_on.get():
        warn(
            f"fit: {epoch} of {max_epochs} epochs are done, nothing was trained; pass a larger "
            "max_epochs, which is the total over all calls"
        )


def described(run: Any, loader: Loader, validation: Loader | None) -> dict[str, Any]:
    """A checkpoint's record of data, batches and options, for `check`."""
    return {
        **{name: getattr(loader, name) for name in OF_LOADER},
        **{name: getattr(run, name) for name in OF_RUN},
        "regularizers": [text_of_kind(type(r), r) for r in run.regularizers],
        **_fixed(run),
        "contents": fingerprint(loader),
        "validation": fingerprint(validation),
        "transform": _transform(loader.transform),
        OPTIONS: options_of(run.optimizer),
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
        warn(f"the saved run {told}: its results will differ from those of an uninterrupted run")


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
        warn(
            f"the saved run goes on with the options of its own optimizer: {told}; to change them, "
            "load it (Trainer.load) and set optimizer.param_groups before fit",
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
        warn(
            f"the saved run had {' and '.join(told)}: freeze() and unfreeze() the same layers "
            "before fit to go on as it was",
        )


def options_of(optimizer: Any) -> dict[str, Any]:
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
    return {"loss": loss_of(run.loss), "interval": _schedule.interval(run.scheduler)}


def _shown(name: str, was: Any, here: Any) -> tuple[str, str]:
    return SHOWN.get(name, (f"{name}={was!r}", repr(here)))


def _of_earlier_version(saved: Mapping[str, Any] | None) -> dict[str, Any]:
    before = dict(saved or {})
    if "drop_last" in before:
        before["last_batch"] = "drop" if before.pop("drop_last") else "keep"
    return before


def loss_of(loss: Any) -> str:
    """A loss in words; a subclass of one of onepass counts as that one: it may only watch."""
    kinds = [kind for kind in type(loss).__mro__ if kind.__module__.startswith("onepass.")]
    return text_of_kind(kinds[0], loss) if kinds else text_of(loss)


def _transform(transform: Any) -> str:
    if isinstance(transform, functools.partial) and transform.func is placed:
        transform = transform.args[0]  # beside a split
    return text_of(transform)
