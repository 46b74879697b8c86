"""threadpoolctl limits the threads of onepass's kernels as it does those of BLAS and OpenMP.

onepass registers with it when both are imported, whichever comes first. It does not import it
itself: that takes longer than all of ``import onepass``.
"""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from typing import Any

from onepass import _C

NAME = "threadpoolctl"
MOST = 1024  # threads of a call, as `config.set_num_threads` takes them


def connect() -> None:
    """Register now, or as soon as somebody imports it."""
    if NAME in sys.modules:
        register(sys.modules[NAME])
    else:
        sys.meta_path.insert(0, _Watch())


def register(threadpoolctl: Any) -> None:
    """Let a threadpoolctl see the pool."""
    if not hasattr(threadpoolctl, "register"):  # before 3.2
        return

    class Controller(threadpoolctl.LibController):  # type: ignore[misc]
        """The pool of `config.set_num_threads`."""

        user_api = internal_api = "onepass"
        filename_prefixes = ("_c.", "_C.")  # the name, in lower case by threadpoolctl 3
        check_symbols = ("onepass_pool",)  # PyTorch has an extension of the same name

        def get_num_threads(self) -> int:
            return _C.get_num_threads()

        def set_num_threads(self, num_threads: int) -> None:
            _C.set_num_threads(max(1, min(num_threads, MOST)))  # one number is for every library

        def get_version(self) -> str:
            return _C.__version__

    threadpoolctl.register(Controller)


class _Watch:
    """A finder that finds what the others do, and has the loader register onepass afterwards."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name != NAME:
            return None
        others = [f for f in sys.meta_path if f is not self and hasattr(f, "find_spec")]
        found = (f.find_spec(name, path, target) for f in others)
        spec = next((spec for spec in found if spec is not None), None)
        if spec is not None and spec.loader is not None:
            spec.loader = _ThenRegister(spec.loader, self)  # type: ignore[assignment]
        return spec


class _ThenRegister:
    """A loader that registers onepass with the module that it has loaded."""

    def __init__(self, loader: Any, watch: _Watch) -> None:
        self._loader, self._watch = loader, watch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def exec_module(self, module: Any) -> None:
        module.__spec__.loader = module.__loader__ = self._loader
        self._loader.exec_module(module)
        if self._watch in sys.meta_path:
            sys.meta_path.remove(self._watch)
        register(module)
