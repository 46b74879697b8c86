"""The processes that ``onepass bench parallel`` starts, and what it asks them."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from onepass.bench._parallel_rank import TOKEN, Layers

SECONDS = 300.0  # that an answer may take
LAUNCHERS = ("PMI", "PMIX", "OMPI", "HYDRA", "MPI", "TORCHELASTIC")
OWN = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
THREADS = ("OMP_NUM_THREADS", "ONEPASS_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class EndedError(Exception):
    """Processes that ended, or did not answer; says why in a line."""


def mpiexec() -> str | None:
    """The one beside this Python, as a wheel brings it, else that of the system."""
    beside = shutil.which("mpiexec", path=str(Path(sys.executable).parent))
    return beside or shutil.which("mpiexec")


def lacking(library: str, size: int) -> str:
    """Why a library cannot run on so many processes; "" where it can."""
    if library == "torch":
        from onepass.bench._peers import LIBRARIES

        if (why := LIBRARIES["torch"].absent()) is not None:
            return why
        import torch

        return "" if torch.distributed.is_available() else "this PyTorch has no torch.distributed"
    if size == 1:
        return ""
    if importlib.util.find_spec("mpi4py") is None or mpiexec() is None:
        return "mpi4py or mpiexec is not installed (pip install onepass[mpi])"
    return ""


class Group:
    """Processes of one library that train one network together.

    Args:
        library: "onepass" or "torch".
        size: how many.
        threads: that each computes with.
        folder: for files.

    Raises:
        EndedError: they do not come up.
    """

    def __init__(
        self, library: str, size: int, threads: int, network: Layers, folder: Path
    ) -> None:
        self.library, self.size, self.threads = library, size, threads
        self._started: list[subprocess.Popen[bytes]] = []
        self._files: list[Any] = []
        self._errors = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed by close()
        try:
            with socket.create_server(("127.0.0.1", 0)) as server:
                self._start(server, threads, network, folder)
        except BaseException:
            self.close()
            raise

    def _start(self, server: socket.socket, threads: int, network: Layers, folder: Path) -> None:
        token = secrets.token_hex()
        environment = {TOKEN: token, **dict.fromkeys(THREADS, str(threads))}
        port, fields = server.getsockname()[1], json.dumps(dataclasses.asdict(network))
        program = [sys.executable, "-m", "onepass.bench._parallel_rank", str(port), self.library,
                   str(self.size), str(folder), fields]  # fmt: skip
        for command, more in _commands(self.library, self.size, program):
            self._started.append(
                subprocess.Popen(
                    command, env={**_environment(), **environment, **more},
                    stdin=subprocess.DEVNULL, stdout=self._errors, stderr=self._errors,
                )
            )  # fmt: skip
        found: dict[int, Any] = {}
        server.settimeout(0.2)
        deadline = time.monotonic() + SECONDS
        while len(found) < self.size:
            try:
                connection, _ = server.accept()
            except TimeoutError:
                if any(process.poll() is not None for process in self._started):
                    raise EndedError(self._why()) from None
                if time.monotonic() > deadline:
                    who = f"{len(found)} of {self.size} processes of {self.library}"
                    raise EndedError(f"{who} came in {SECONDS:.0f} s") from None
                continue
            connection.settimeout(SECONDS)
            file = connection.makefile("rw", encoding="utf-8")
            connection.close()  # with the file
            try:
                given, rank = json.loads(file.readline())
            except (OSError, ValueError) as error:
                raise EndedError(f"a process did not say its rank: {error}") from None
            if given == token:
                found[rank] = file
        self._files = [found[rank] for rank in range(self.size)]

    def ask(self, question: str, *arguments: Any) -> list[Any]:
        """The answers of all, in order of rank.

        Raises:
            EndedError: one has ended.
        """
        try:
            for file in self._files:
                print(json.dumps([question, arguments]), file=file, flush=True)
            lines = [file.readline() for file in self._files]
        except OSError as error:
            raise EndedError(f"{question}: {error}") from None
        if not all(lines):
            raise EndedError(self._why())
        return [json.loads(line) for line in lines]

    def close(self) -> None:
        """Ends the processes: each ends with its connection, and is killed if it does not."""
        for file in self._files:
            file.close()
        for process in self._started:
            try:
                process.wait(5 if self._files else 0)
            except subprocess.TimeoutExpired:
                process.terminate()  # mpiexec then ends what it has started
                try:
                    process.wait(5)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
        self._errors.close()

    def _why(self) -> str:
        """The last line that they have printed."""
        for process in self._started:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                continue
        self._errors.seek(0)
        lines = [line for line in self._errors.read().decode(errors="replace").splitlines()
                 if line.strip()]  # fmt: skip
        said = [line for line in lines if "Error" in line or line.startswith("onepass:")]
        return ([*lines, *said] or ["the processes ended without a word"])[-1].strip()[:200]


def _commands(
    library: str, size: int, program: list[str]
) -> list[tuple[list[str], Mapping[str, str]]]:
    """The processes to start, each with its variables."""
    if size == 1:
        return [(program, {})]
    if library == "onepass":
        return [([str(mpiexec()), "-n", str(size), *program], {"HYDRA_LAUNCHER": "fork"})]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(size)}
    return [(program, {**shared, "RANK": str(rank)}) for rank in range(size)]


def _environment() -> dict[str, str]:
    """Without the variables of a launcher around this process."""
    return {k: v for k, v in os.environ.items() if not k.startswith(LAUNCHERS) and k not in OWN}
