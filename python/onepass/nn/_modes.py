"""Training and evaluation as a trainer switches them: for a while, then every mode comes back.

A layer's own ``eval()`` outlives the switch: such a layer, with all that is inside it, keeps the
mode it has while the rest trains. The model's own ``eval()`` does not keep it from being trained.

Any number of threads may evaluate a model together; the last one that ends brings the modes back.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock, get_ident

from onepass.nn._module import Module


class _Use:
    """The threads that use a module, and the mode it had before."""

    def __init__(self, module: Module) -> None:
        self.module = module  # kept alive, so that its id stays its own
        self.before = module.training, module._holds_eval
        self.threads: list[int] = []


_lock = RLock()  # held while modes change, not while they last
_evaluated: dict[int, _Use] = {}  # by the id of the module
_trained: dict[int, _Use] = {}


@contextmanager
def evaluation(model: Module) -> Iterator[None]:
    """All of ``model`` in evaluation mode.

    Raises:
        RuntimeError: another thread trains it.
    """
    with _use(model, _evaluated, refused=(_trained,)):
        with _lock:
            _switch(model, False)
        yield


@contextmanager
def training(model: Module) -> Iterator[None]:
    """The time in which a trainer may call `train`.

    Raises:
        RuntimeError: another thread trains or evaluates the model.
    """
    with _use(model, _trained, refused=(_trained, _evaluated)):
        yield


def train(model: Module) -> None:
    """Training mode for all of ``model`` but the layers whose own ``eval()`` holds."""
    with _lock:
        _switch(model, True)


def _switch(model: Module, mode: bool) -> None:
    modules = list(model.modules())
    holds = [(m, m._holds_eval) for m in modules]
    kept = {}
    if mode:
        kept = {
            m: m.training for top, hold in holds if hold and top is not model for m in top.modules()
        }
    model.train(mode)  # a subclass may do more in there
    for module, hold in holds:
        module._holds_eval = hold
    for module, was in kept.items():
        module.training = was


@contextmanager
def _use(
    model: Module, uses: dict[int, _Use], refused: tuple[dict[int, _Use], ...]
) -> Iterator[None]:
    thread = get_ident()
    with _lock:
        modules = list(model.modules())
        for module in modules:
            for others in refused:
                if (use := others.get(id(module))) and set(use.threads) - {thread}:
                    raise RuntimeError(_BUSY.format(type(model).__name__))
        root = model.training
        for module in modules:
            uses.setdefault(id(module), _Use(module)).threads.append(thread)
    try:
        yield
    finally:
        with _lock:
            over = []
            for module in modules:
                use = uses[id(module)]
                use.threads.remove(thread)
                if not use.threads:
                    over.append(uses.pop(id(module)))
            if any(use.module is model for use in over) and type(model).train is not Module.train:
                _switch(model, root)
            _bring_back(over)


def _bring_back(uses: list[_Use]) -> None:
    """The modes as they were, but for the modules that were switched by hand since."""
    for use in uses:
        use.module.training = use.before[0]
    for use in uses:
        if use.module._holds_eval != use.before[1]:
            for module in use.module.modules():
                module.training = not use.module._holds_eval


_BUSY = (
    "{}: another thread is training this model, or still uses it; wait until it has finished, or "
    "use a copy in this thread (copy.deepcopy(model))"
)
