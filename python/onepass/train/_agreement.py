"""What ranks must have in common before they train together: checked, or given by rank 0."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onepass import nn
from onepass.parallel import Communicator
from onepass.parallel._collectives import broadcast_object, first_other
from onepass.parallel._errors import of_all
from onepass.train._from_rank_0 import sent
from onepass.train._loaders import Loader
from onepass.train._marks import PLAIN, checksums, made_with, text_of, without_addresses
from onepass.train._run import Run
from onepass.train._tree import pack

SHOWN = 200  # characters of a difference
# The arguments of fit whose checksums `run.data` has.
ARGUMENTS = {"contents": "X, y or sample_weight", "validation": "validation_data"}


def refuse_differences(
    run: Run, comm: Communicator, loader: Loader, validation: Loader | None
) -> None:
    """Refuse ranks with another model, other data or other options than rank 0, on all ranks.

    Raises:
        ValueError: there is one; it says what differs.
    """
    for what, text in _described(run):
        refuse_difference(comm, what, text)
    if comm.size > 1:
        for what, own in zip(ARGUMENTS.values(), (loader, validation), strict=True):
            refuse_difference(comm, what, f"rows of checksums {checksums(own)}")


def refuse_difference(comm: Communicator, what: str, text: str) -> None:
    """Refuse a text that is not that of rank 0, on all ranks.

    Raises:
        ValueError: with what it is of, and both texts where they begin to differ.
    """
    rank = None if comm.size == 1 else first_other(comm, text)
    if rank is None:
        return
    shown = [broadcast_object(comm, text, root) for root in (0, rank)]
    where = next((i for i, (a, b) in enumerate(zip(*shown, strict=False)) if a != b), 0)
    begin = max(where - SHOWN // 2, 0)
    parts = [("…" if begin else "") + text[begin : begin + SHOWN] for text in shown]
    raise of_all(
        ValueError(
            f"fit: {what!r} differs between ranks, {parts[0]} on rank 0 and {parts[1]} on rank "
            f"{rank}, expected the same on all ranks"
        )
    )


def other_batches(name: str, found: str) -> ValueError:
    """The error of batches, or of a transform, that are not the same on all ranks.

    Args:
        name: the argument of ``fit`` that gave them.
        found: how they differ.
    """
    expected = (
        "expected a function of X, y, seed, epoch and index alone"
        if name == "transform"
        else "expected the same whole batches on every rank, which takes its rows of each: without "
        "a DistributedSampler, and shuffled by one seed"
    )
    return of_all(ValueError(f"fit: {name!r} gave other batches: {found}, {expected}"))


def _described(run: Run) -> Iterator[tuple[str, str]]:
    """Name and text of all that must be equal; not of what shows its address, as functions do."""
    names = {id(p): name for name, p in run.model.named_parameters()}
    yield "parameters", str([
        (name, tuple(p.shape), str(p.dtype), p.requires_grad)
        for name, p in run.model.named_parameters()
    ])  # fmt: skip
    yield "modules", str({k: _settings(m) for k, m in run.model.named_modules()})
    yield "optimizer", str([
        type(run.optimizer).__name__,
        [[names.get(id(p)) for p in group["params"]] for group in run.optimizer.param_groups],
    ])  # fmt: skip
    yield "scheduler", without_addresses(run.scheduler)
    yield "metrics", text_of(run.metrics)
    yield "callbacks", str([_settings(c) for c in run.callbacks if _decides(c)])
    for name, value in (run.data or {}).items():
        yield ARGUMENTS.get(name, name), repr(value)
    for name in ("batches", "epoch", "step", "position"):
        yield name, repr(getattr(run, name))
    yield "masks of dropout", repr(nn.get_rng_state(run.model)["layers"])
    yield "state of the optimizer", _checksum(run.optimizer.state_dict())


def _decides(callback: Any) -> bool:
    """Whether all ranks must have a callback of ours; what those of users do is unknown."""
    ours = type(callback).__module__.startswith("onepass.")
    return ours and not (callback.rank_0_only or callback._only_watches)


def _settings(module: Any) -> str:
    """A part by its class and what it was made with; arrays not, which all get from rank 0."""
    made = made_with(type(module), module).items()
    given = [f"{name}={value!r}" for name, value in made if _is_plain(value)]
    return f"{type(module).__name__}({', '.join(given)})"


def _is_plain(value: Any) -> bool:
    if isinstance(value, (tuple, list)):
        return all(map(_is_plain, value))
    return isinstance(value, PLAIN)


def _checksum(state: Any) -> str:
    arrays: dict[str, NDArray[Any]] = {}
    tree = repr(pack(state, arrays, "state"))
    for name in arrays:
        tree += f"{name} {zlib.crc32(np.ascontiguousarray(arrays[name]).tobytes()):08x}"
    return tree


def share_model(run: Run, comm: Communicator) -> None:
    """Give every rank the parameters and buffers of rank 0."""
    state = sent(comm, run.model.state_dict() if comm.rank == 0 else None)
    if comm.rank:
        run.model.load_state_dict(state)
