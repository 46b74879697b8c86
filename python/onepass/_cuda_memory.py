"""Memory and streams of CUDA devices, which belong to the library of the caller's arrays.

csrc/bind calls these functions by name: it allocates no device memory and creates no stream itself.
"""

from __future__ import annotations

import sys
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np

from onepass._array import (
    Array,
    copy_into,
    is_tensor_of_torch,
    is_torch,
    keep_for_graph,
    kept,
    library,
    refuse_capture,
    torch_if_imported,
)

__all__ = ["keep_for_graph"]  # csrc/bind finds it here

if TYPE_CHECKING:
    import numpy.typing as npt


def current_stream(x: Array, device: int) -> int:
    """The address of the current stream of the library of ``x``; 0 is the default stream."""
    root = type(x).__module__.partition(".")[0]
    if root == "cupy":
        return int(sys.modules["cupy"].cuda.get_current_stream(device).ptr)
    if is_tensor_of_torch(x):
        return int(sys.modules["torch"].cuda.current_stream(device).cuda_stream)
    stream = getattr(x, "__cuda_array_interface__", {}).get("stream")
    return 0 if stream is None or stream == 1 else int(stream)  # 1 is another name of 0


def lend(
    like: Array, count: int, dtype: str, device: int, stream: int, zeroed: bool = False
) -> Array:
    """Memory on a CUDA device from the pool of the library of ``like``, for work on ``stream``.

    Args:
        zeroed: it is kept, and counts: a graph that is being captured must not zero it.
    """
    lib, at_home = _cuda_library(like)
    make = lib.zeros if zeroed else lib.empty
    if is_torch(lib):
        with lib.cuda.stream(None if at_home else lib.cuda.ExternalStream(stream, device=device)):
            if zeroed:
                refuse_capture(lib)
            return make(count, dtype=getattr(lib, dtype), device=f"cuda:{device}")
    with lib.cuda.Device(device):
        own = nullcontext() if at_home else lib.cuda.ExternalStream(stream, device)
        with own:
            if zeroed:
                refuse_capture(lib)
            return kept(make(count, dtype))


def read_back(x: Array, device: int, stream: int) -> npt.NDArray[Any]:
    """The values of a CUDA array that work on ``stream`` writes; waits for that work."""
    lib = library(x)
    if current_stream(x, device) != stream:
        synchronize(x, device)
    host: npt.NDArray[Any] = x.cpu().numpy() if is_torch(lib) else x.get()
    return host


def overwrite(x: Array, values: list[int], device: int, stream: int) -> None:
    """Puts ``values`` at the beginning of a CUDA array that work on ``stream`` writes."""
    if current_stream(x, device) != stream:
        synchronize(x, device)
    copy_into(x[: len(values)], np.array(values, np.int64))


def synchronize(x: Array, device: int) -> None:
    """Waits for all work on the device of ``x``."""
    lib, _ = _cuda_library(x)
    if is_torch(lib):
        lib.cuda.synchronize(device)
    else:
        lib.cuda.Device(device).synchronize()


def order(first: int, then: int, device: int) -> None:
    """Later work on the stream ``then`` waits for present work on ``first``; the host does not.

    Raises:
        RuntimeError: one of them captures a CUDA graph, and the other is outside of it.
    """
    try:
        _order(first, then, device)
    except Exception as error:
        if "captur" not in str(error).lower():
            raise
        raise RuntimeError(
            f"a CUDA graph is being captured, and of the streams on which the arrays of this call "
            f"are worked on, {first:#x} and {then:#x}, one is outside of the capture: make the "
            "capturing stream the current one of each library, or let the other wait for an event "
            "of it first"
        ) from error


def _order(first: int, then: int, device: int) -> None:
    lib, _ = _cuda_library(None)
    if is_torch(lib):
        event = lib.cuda.Event()
        event.record(lib.cuda.ExternalStream(first, device=device))
        lib.cuda.ExternalStream(then, device=device).wait_event(event)
        return
    with lib.cuda.Device(device):
        event = lib.cuda.Event(disable_timing=True)
        event.record(lib.cuda.ExternalStream(first, device))
        lib.cuda.ExternalStream(then, device).wait_event(event)


def _cuda_library(like: Array) -> tuple[Any, bool]:
    """The library that serves ``like`` on CUDA, and whether it made ``like``."""
    try:
        if (lib := library(like)) is not np:
            return lib, True
    except TypeError:
        pass
    if cupy := sys.modules.get("cupy"):
        return cupy, False
    torch = torch_if_imported()
    if torch is not None and torch.cuda.is_available():
        return torch, False
    raise RuntimeError(
        f"a call on {type(like).__name__} needs memory on a CUDA device, which its library does "
        "not lend; import cupy or torch first to take it from there"
    )
