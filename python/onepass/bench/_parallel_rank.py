"""A process of ``onepass bench parallel``: makes the steps that it times when it is asked to.

Between two questions it waits for its connection and takes no processor: an engine's own waiting
would take one from the process that is measured.
"""

from __future__ import annotations

import dataclasses
import gc
import hashlib
import json
import os
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from onepass.bench._training import MAX_NORM, SMOOTH, AdamWOptions, Mlp, model_of, target
from onepass.data._shares import Share, share_of

CHECKED_STEPS = 3
EPOCH = 32  # steps of an epoch of the Trainer
TOKEN = "BENCH_PARALLEL_TOKEN"  # says who has started this process


@dataclasses.dataclass(frozen=True)
class Layers(Mlp):
    """An `Mlp`, or one without its batch norms."""

    has_norms: bool = True

    def parameters(self) -> list[np.ndarray]:
        found = super().parameters()
        if self.has_norms:
            return found
        hidden = 4 * (len(self.sizes) - 2)  # weight, bias, and two of the norm
        return [p for i, p in enumerate(found) if i >= hidden or i % 4 < 2]

    def modules(self, n: Any, dropout: bool) -> Any:
        whole = super().modules(n, dropout)
        if self.has_norms:
            return whole
        return n.Sequential(*(part for part in whole if not isinstance(part, n.BatchNorm1d)))

    @property
    def rows(self) -> tuple[np.ndarray, np.ndarray]:
        """The batch: samples, and their classes."""
        return self.x, target(self)


@dataclasses.dataclass
class Steps:
    """Training steps of one form.

    run        run(count) makes so many, and gives the seconds that they took
    read       the parameters
    at_once    how many steps the form makes at least
    backward   seconds of all backwards so far
    """

    run: Callable[[int], float]
    read: Callable[[], list[np.ndarray]]
    at_once: int = 1
    backward: list[float] = dataclasses.field(default_factory=list)


class Silent:
    """A communicator whose ranks all have what this one has, so that nothing need be sent.

    It keeps the bytes of each sum: what a step would send, beside what it computes.
    """

    def __init__(self, size: int) -> None:
        self.rank, self.size = 0, size
        self.sums: list[int] = []

    def sum_(self, array: np.ndarray) -> None:
        """A table has a row for each rank; of all else the sum is ``size`` times what is there."""
        self.sums.append(array.nbytes)
        if array.ndim > 1 and len(array) == self.size:
            array[:] = array[self.rank]
        else:
            array *= self.size

    def broadcast_(self, array: np.ndarray, root: int = 0) -> None:
        """Leaves what all have."""

    def barrier(self) -> None:
        """Returns at once."""


def loop(
    network: Layers, options: AdamWOptions, comm: Any, share: Share, *, across: bool = True
) -> Steps:
    """A loop of one's own with `parallel.all_reduce_gradients`.

    Args:
        share: this rank's rows of the batch.
        across: batch norms normalise by the samples of all ranks.
    """
    from onepass import nn, optim, parallel
    from onepass.nn._shares import place

    nn.manual_seed(0)
    model = model_of(network, nn, dropout=True)
    if across:
        nn.convert_sync_batch_norm(model, comm)
    place(model, share.first)
    loss = nn.CrossEntropyLoss(reduction="sum")
    optimizer = optim.AdamW(model.parameters(), **vars(options))
    x, t = share.rows
    backward: list[float] = []

    def step() -> None:
        _, dy = loss(model(x), t)
        began = time.perf_counter()
        model.backward(dy, need_input_grad=False)
        backward.append(time.perf_counter() - began)
        parallel.all_reduce_gradients(optimizer, comm)
        optimizer.step(grad_scale=share.total, max_norm=MAX_NORM, zero_grad=True)

    return Steps(_timed(step, comm.barrier), lambda: [p.data for p in model.parameters()],
                 backward=backward)  # fmt: skip


def trained(network: Layers, options: AdamWOptions, comm: Any, epoch: int) -> Steps:
    """`Trainer.fit`, on the same batch again and again.

    Args:
        epoch: steps of one.
    """
    from onepass import nn, optim
    from onepass.train import Callback, Trainer

    class Clock(Callback):
        """The seconds of epochs, without what begins and ends a fit."""

        seconds = began = 0.0

        def on_epoch_begin(self, run: Any) -> None:
            self.began = time.perf_counter()

        def on_epoch_end(self, run: Any) -> None:
            self.seconds += time.perf_counter() - self.began

    nn.manual_seed(0)
    model, clock = model_of(network, nn, dropout=True), Clock()
    optimizer = optim.AdamW(model.parameters(), **vars(options))
    trainer = Trainer(
        model, nn.CrossEntropyLoss(), optimizer, max_norm=MAX_NORM, callbacks=[clock],
        parallel=comm, progress=False,
    )  # fmt: skip
    x, t = (np.concatenate([a] * epoch) for a in network.rows)

    def run(count: int) -> float:
        clock.seconds = 0.0
        epochs = trainer.epoch + count // epoch
        trainer.fit(x, t, max_epochs=epochs, batch_size=network.batch, shuffle=False)
        return clock.seconds

    return Steps(run, lambda: [p.data for p in model.parameters()], epoch)


def of_torch(network: Layers, options: AdamWOptions, size: int) -> Steps:
    """PyTorch's loop, in DistributedDataParallel where there are several ranks."""
    import torch

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    barrier, rank = _nothing, 0
    model = model_of(network, torch.nn, dropout=True)
    if size > 1:
        if not torch.distributed.is_initialized():
            torch.distributed.init_process_group("gloo")
        rank, barrier = torch.distributed.get_rank(), torch.distributed.barrier
        model = torch.nn.parallel.DistributedDataParallel(model)
    parameters = list(model.parameters())
    optimizer = torch.optim.AdamW(parameters, **vars(options), fused=True)
    x, t = map(torch.from_numpy, share_of(network.rows, rank, size).rows)

    def step() -> None:
        torch.nn.functional.cross_entropy(model(x), t).backward()
        torch.nn.utils.clip_grad_norm_(parameters, MAX_NORM)
        optimizer.step()
        optimizer.zero_grad()

    return Steps(_timed(step, barrier), lambda: [p.detach().numpy() for p in parameters])


def _nothing() -> None:
    """One process waits for nobody."""


def _timed(step: Callable[[], object], barrier: Callable[[], object]) -> Callable[[int], float]:
    def run(count: int) -> float:
        barrier()
        began = time.perf_counter()
        for _ in range(count):
            step()
        return time.perf_counter() - began

    return run


class Process:
    """What this process is asked for: each public method is a question, its result the answer."""

    def __init__(self, network: Layers, library: str, size: int, folder: str) -> None:
        self._network, self._library, self._size = network, library, size
        self._folder = Path(folder)
        self._comm: Any = None
        self._forms: dict[str, Steps] = {}
        if library == "onepass":
            from onepass import parallel

            self._comm = parallel.find("auto")

    def _made(self, form: str, options: AdamWOptions, epoch: int) -> Steps:
        network, comm = self._network, self._comm
        if form == "torch":
            return of_torch(network, options, self._size)
        if form == "Trainer":
            return trained(network, options, comm, epoch)
        share = share_of(network.rows, comm.rank, comm.size)
        return loop(network, options, comm, share, across=form != "own norms")

    def check(self, form: str) -> dict[str, Any]:
        """A few smooth steps: a digest of the parameters, which go into a file of their own."""
        steps = self._made(form, SMOOTH, CHECKED_STEPS)
        steps.run(CHECKED_STEPS)
        whole = np.concatenate([p.reshape(-1) for p in steps.read()])
        digest = hashlib.sha256(whole.tobytes()).hexdigest()
        path = self._folder / f"{digest}.npy"
        if self._comm is None or self._comm.rank == 0:
            np.save(path, whole)
        return {"digest": digest, "path": str(path)}

    def make(self, form: str) -> dict[str, Any]:
        """The steps that are timed."""
        self._forms[form] = steps = self._made(form, AdamWOptions(), EPOCH)
        steps.run(steps.at_once)
        return {"at_once": steps.at_once}

    def time(self, form: str, count: int) -> float:
        """Seconds of a step."""
        gc.disable()
        try:
            return self._forms[form].run(count) / count
        finally:
            gc.enable()

    def reduce(self, size: int, count: int) -> float:
        """Seconds of a sum over ranks of so many bytes."""
        array = np.zeros(max(1, size // 4), np.float32)
        return _timed(lambda: self._comm.sum_(array), self._comm.barrier)(count) / count

    def add(self, size: int, count: int) -> float:
        """Seconds of adding one array of so many bytes to another."""
        a, b = np.zeros((2, max(1, size // 4)), np.float32)
        return _timed(lambda: np.add(a, b, out=a), self._comm.barrier)(count) / count

    def alone(self, size: int, count: int) -> dict[str, Any]:
        """A step of one of ``size`` ranks, which sends nothing: what it would send, its seconds
        and those of its backward."""
        rows = share_of(self._network.rows, self._comm.rank, self._comm.size).rows
        comm = Silent(size)
        steps = loop(self._network, AdamWOptions(), comm, Share(0, len(rows[0]) * size, rows))
        steps.run(2)
        seconds = []
        self._comm.barrier()
        for _ in range(count):
            comm.sums.clear()
            seconds.append(steps.run(1))
        backward = float(np.median(steps.backward[2:]))
        return {"sums": comm.sums, "seconds": float(np.median(seconds)), "backward": backward}


def main(port: str, library: str, size: str, folder: str, network: str) -> None:
    """Answers until the other side has closed the connection."""
    rank = next((os.environ[n] for n in ("PMI_RANK", "OMPI_COMM_WORLD_RANK", "PMIX_RANK", "RANK")
                 if n in os.environ), "0")  # fmt: skip
    fields = json.loads(network)
    chosen = Layers(**{**fields, "sizes": tuple(fields["sizes"])})
    process = Process(chosen, library, int(size), folder)
    with socket.create_connection(("127.0.0.1", int(port))) as connection:
        file = connection.makefile("rw", encoding="utf-8")
        print(json.dumps([os.environ[TOKEN], int(rank)]), file=file, flush=True)
        for line in file:
            name, arguments = json.loads(line)
            print(json.dumps(getattr(process, name)(*arguments)), file=file, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
