"""torch.distributed: processes that torchrun has started, with tensors or NumPy arrays."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from threading import get_ident
from typing import Any
from weakref import WeakSet

import numpy as np

from onepass._array import Array, is_tensor_of_torch
from onepass.parallel._calls import Calls, State
from onepass.parallel._errors import OtherRankError
from onepass.parallel._exit import LONGEST, watch
from onepass.parallel._protocol import Alone, check, check_root

_LOOK = timedelta(seconds=0.2)  # between two looks at who has failed
_GONE = ("closed by peer", "reset by peer", "Broken pipe")  # what gloo says of a dead process
_PATIENCE = 2.0  # seconds for which the process with the store waits for others to read in it


class Torch:
    """The processes of a group of torch.distributed, with tensors or NumPy arrays.

    If a rank fails or leaves, gloo lets the others fail in their next call, with an error that says
    which rank and why. NCCL does not, and its ranks wait: ``torchrun`` ends them, so start them by
    it. (Nothing is done where somebody types, as in a notebook.)

    Args:
        group: None is the default group, which is initialised first if it is not: by what
            ``torchrun`` says, with gloo for arrays on the CPU and NCCL for those on CUDA.

    Attributes:
        rank, size: of this process; how many there are.

    Raises:
        ModuleNotFoundError: PyTorch is not installed.
        TypeError: ``group`` is not one, or this process is not in it.
        RuntimeError: no group, and not started by ``torchrun``.

    Example:
        >>> import numpy as np
        >>> from onepass import parallel
        >>> comm = parallel.find("auto")  # parallel.Torch() under torchrun
        >>> x = np.full(2, comm.rank + 1.0)
        >>> comm.sum_(x)  # torchrun --nproc-per-node 3 …: [6. 6.]
        >>> x
        array([1., 1.])
    """

    def __init__(self, group: Any = None) -> None:
        self._torch, self._dist = _imported()
        if group is None:
            group = _default_group(self._torch, self._dist)
        if not isinstance(group, self._dist.ProcessGroup) or self._dist.get_rank(group) < 0:
            raise TypeError(
                f"Torch: 'group' is {group!r}, expected a group of torch.distributed that this "
                "process is in"
            )
        self._group = group
        self.rank: int = self._dist.get_rank(group)
        self.size: int = self._dist.get_world_size(group)
        # NCCL alone takes nothing from the host.
        on_host = "cpu:" in self._dist.get_backend_config(group)
        self._host = "cpu" if on_host else self._torch.device("cuda")
        self._member = _member_of(self._dist, group) if self.size > 1 else None
        if self._member is not None:
            self._member.users.add(self)

    def __reduce__(self) -> Any:
        return Alone, ()  # a copy or a pickle is of one process

    def sum_(self, array: Array) -> None:
        """Leaves Σ over ranks of ``array`` in it. Raises: as `Communicator.sum_`."""
        self._check(array)
        self._do(lambda x: self._dist.all_reduce(x, group=self._group, async_op=True), array)

    def broadcast_(self, array: Array, root: int = 0) -> None:
        """Overwrites ``array`` with that of rank ``root``."""
        self._check(array)
        check_root("Torch", root, self.size)
        source = self._dist.get_global_rank(self._group, root)
        self._do(lambda x: self._dist.broadcast(x, source, group=self._group, async_op=True), array)

    def barrier(self) -> None:
        """Returns when every rank has called it."""
        self._said(lambda: self._dist.barrier(self._group, async_op=True))

    def _fill_rows(self, table: Array) -> None:
        """As ``sum_`` of a table of which each rank has its own row, and zeros elsewhere."""
        self._check(table)

        def gather(rows: Any) -> Any:
            own = rows[self.rank].clone()
            return self._dist.all_gather([*rows], own, group=self._group, async_op=True)

        if table.size if isinstance(table, np.ndarray) else table.numel():
            self._do(gather, table)

    @property
    def _exchange(self) -> Callable[[Array, Array, int], None] | None:
        """None over gloo, where who waits for a message cannot learn that its sender has failed."""
        return None if self._member is None or self._member.can_look_out else self._swap

    def _swap(self, send: Array, receive: Array, partner: int) -> None:
        """`Engine._exchange`."""
        dist, group = self._dist, self._group
        peer = dist.get_global_rank(group, partner)
        sent = self._tensor(send)

        def exchange(received: Any) -> Any:
            works = dist.batch_isend_irecv([
                dist.P2POp(dist.isend, sent, peer, group),
                dist.P2POp(dist.irecv, received, peer, group),
            ])  # fmt: skip
            for work in works[:-1]:
                work.wait()
            return works[-1]

        self._do(exchange, receive)

    def _check(self, array: Any) -> None:
        check("Torch", array)
        if not isinstance(array, np.ndarray) and not is_tensor_of_torch(array):
            raise TypeError(
                f"Torch: 'array' is a {type(array).__name__}, expected a tensor or a NumPy array; "
                "for arrays of CuPy there is parallel.NCCL()"
            )

    def _do(self, call: Callable[[Any], Any], array: Array) -> None:
        """Calls with a tensor of the array's memory, or of a copy of it on the device."""
        tensor = self._tensor(array)
        self._said(lambda: call(tensor))
        if isinstance(array, np.ndarray) and self._host != "cpu":
            array[...] = tensor.cpu().numpy()

    def _tensor(self, array: Array) -> Any:
        if is_tensor_of_torch(array):
            return array.detach()
        return self._torch.from_numpy(array).to(self._host)

    def _said(self, call: Callable[[], Any]) -> None:
        """Calls, and waits; if another rank has left, the error says which one and why.

        Args:
            call: begins, and gives what to wait for.
        """
        if self._member is None:
            return  # nobody to speak with
        self._member.threads.add(get_ident())
        self._member.enter()
        try:
            work = call()
            if not self._member.can_look_out:
                work.wait()
        except RuntimeError as error:
            raise self._member.cause(error, self._member.who_left()) from error
        if self._member.can_look_out:
            self._member.wait(work)

    def _fail(self, why: str) -> None:
        if self._member is not None:
            self._member.fail(why)


class _Member(Calls):
    """This process among those of a group: one that leaves says so in their store, and lets go of
    its connections, which the others notice in their next call. There it also says that it has
    failed in a fit, and why."""

    def __init__(self, dist: Any, group: Any) -> None:
        super().__init__("Torch")
        self._dist = dist
        self.rank, self.size = dist.get_rank(group), dist.get_world_size(group)
        self._store = dist.PrefixStore("onepass", dist.distributed_c10d._get_default_store())
        self._keys = [f"left/{dist.get_global_rank(group, rank)}" for rank in range(self.size)]
        self._failed = [key.replace("left", f"failed/{group.group_name}") for key in self._keys]
        self._lets_go = "nccl" not in dist.get_backend_config(group)  # which waits for the others
        self.can_look_out = self._lets_go
        self._has_store = dist.get_rank() == 0 and "TORCHELASTIC_RUN_ID" not in os.environ
        self._patience = 0.0
        self._is_said = False
        self.users: WeakSet[Torch] = WeakSet()
        self.threads: set[int] = set()
        watch(self)

    def speaks_in(self, thread: int) -> bool:
        return thread in self.threads

    def end(self, why: str) -> None:
        self._say(f"failed: {why}")

    def wait(self, work: Any) -> None:
        """Until a call is done.

        Raises:
            RuntimeError: it fails, or a rank has failed that does not come to it.
        """
        left = None
        while True:
            # Before: a call that is done since a wait for it has ended may have gone well.
            is_done, had_left = work.is_completed(), left
            try:
                work.wait(_LOOK)
                return
            except RuntimeError as error:
                left = self.who_left()
                fails = left is not None and _is_failure(left)
                if not fails:
                    self.look_out()  # its program may go on, or may have left since
                if is_done or fails or had_left:
                    raise self.cause(error, left) from error

    def cause(self, error: RuntimeError, left: str | None) -> RuntimeError:
        """The error of a call that has raised ``error``, when another rank has said that it leaves,
        and why, or none has."""
        if left is None and any(words in str(error) for words in _GONE):
            return self._gone()
        if left is None:
            return RuntimeError(f"Torch: a call failed: {error}")
        if _is_failure(left):
            return OtherRankError(f"Torch: {left}", is_announced=True)
        return RuntimeError(f"Torch: {left}")

    def _states(self) -> list[State]:
        return [State(*map(int, self._told(key).split())) for key in self._failed]

    def _reason(self, rank: int) -> str:
        return self._told(f"{self._failed[rank]}/why")

    def _told(self, key: str) -> str:
        try:
            told: str = self._store.get(key).decode() if self._store.check([key]) else ""
        except RuntimeError as error:  # whoever kept the store is gone
            raise self._gone() from error
        return told

    def _gone(self) -> OtherRankError:
        what = f"another rank of {self.size} has ended without a word"
        return OtherRankError(f"Torch: {what}, as by a signal", what)

    def _publish(self, state: State, why: str = "") -> None:
        key = self._failed[self.rank]
        with suppress(RuntimeError):  # whoever kept the store is gone, and so are the others
            if why:
                self._store.set(f"{key}/why", why)
            self._store.set(key, " ".join(map(str, state)))

    def _ahead(self) -> list[int]:
        """Those that have left: who is in a call learns of a failure and says so."""
        with suppress(RuntimeError):
            return [rank for rank, key in enumerate(self._keys) if self._store.check([key])]
        return []

    def is_announced(self) -> bool:
        left = self.who_left()
        return left is not None and _is_failure(left)

    def leave(self) -> None:
        self._say("has left")
        # A group that is still known when Python ends takes the process down with the threads of
        # gloo: "terminate called without an active exception".
        _of_group.clear()
        for user in self.users:
            user._group = None
        if self._lets_go and self._dist.is_initialized():
            self._dist.destroy_process_group()
        # The others learn of a failure, and of who has said it, by the store.
        patience = LONGEST if self.knows_of_failure() else _PATIENCE
        self._patience = time.monotonic() + patience

    def may_go(self) -> bool:
        """The process with the store stays until the others had the time to read in it."""
        return (
            not self._has_store
            or time.monotonic() > self._patience
            or all(self._store.check([key]) for key in self._keys)
        )

    def close(self) -> None:
        """Nothing: `leave` has closed all."""

    def _say(self, what: str) -> None:
        if self._is_said:
            return
        self._is_said = True
        with suppress(RuntimeError):  # whoever kept the store may be gone, and so are the others
            self._store.set(self._keys[self.rank], what)

    def who_left(self) -> str | None:
        """Which other rank has said that it leaves, and why; one that has failed, if one has."""
        found: list[str] = []
        with suppress(RuntimeError):
            for rank, key in enumerate(self._keys):
                if self._store.check([key]):
                    found.append(f"rank {rank} of {self.size} {self._store.get(key).decode()}")
        return next(filter(_is_failure, found), found[0] if found else None)


def _is_failure(left: str) -> bool:
    return "failed: " in left


_of_group: dict[Any, _Member] = {}


def _member_of(dist: Any, group: Any) -> _Member:
    """The same for every Torch over one group."""
    if group not in _of_group:
        _of_group[group] = _Member(dist, group)
    return _of_group[group]


def _default_group(torch: Any, dist: Any) -> Any:
    if not dist.is_initialized():
        lacking = [n for n in ("RANK", "WORLD_SIZE", "MASTER_ADDR") if n not in os.environ]
        if lacking:
            raise RuntimeError(
                f"Torch: torch.distributed has no group and the environment no "
                f"{', '.join(lacking)}: start the program by torchrun, or call "
                "torch.distributed.init_process_group() first"
            )
        on_cuda = torch.cuda.is_available() and dist.is_nccl_available()
        if on_cuda:
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        dist.init_process_group("cpu:gloo,cuda:nccl" if on_cuda else "gloo")
    return dist.group.WORLD


def _imported() -> Any:
    try:
        import torch
    except ImportError as error:
        raise ModuleNotFoundError(
            f"Torch: PyTorch cannot be imported: {error}; see pytorch.org for how to install it"
        ) from error
    if not torch.distributed.is_available():
        raise RuntimeError("Torch: this build of PyTorch has no torch.distributed, expected one")
    return torch, torch.distributed
