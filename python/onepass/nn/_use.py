"""Locks a model while threads use it, and restores its modes: training excludes other threads.

A call that evaluates or trains switches the modes; when it ends, every mode comes back. A layer's
own ``eval()`` outlives the switch: such a layer, with all that is inside it, keeps the mode it has
while the rest trains. The model's own ``eval()`` does not keep it from being trained.

Any number of threads may evaluate a model together; the last one that ends brings the modes back.
Those that evaluate it with other values of its parameters, such as averages, wait for each other.
Models that share a Parameter count as one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Condition, RLock, get_ident
from typing import Any, TypeAlias

from onepass._interruptions import ending_in
from onepass._one_thread import after_fork, refusal
from onepass._parameter import Parameter

Module: TypeAlias = Any  # that of _module.py, which imports this file


@contextmanager
def using(
    model: Module, call: str, *, trains: bool = False, evaluates: bool = False, values: Any = None
) -> Iterator[None]:
    """Around a call that trains or reads the model; several threads may read at once.

    One that reads other values than those that do so now waits until they are through.

    Args:
        model: the module; all inside it is in use too.
        call: its name, for messages.
        trains: whether the call changes the model; it may call `train`.
        evaluates: whether it needs evaluation mode.
        values: the optimizer whose averages the call reads; None: the parameters' own.

    Raises:
        RuntimeError: another thread trains the model, or reads it and this call would train it; or
            this call would have to wait, and others for what this thread is in.
    """
    entry = _Entry(get_ident(), call, trains, values)
    modules: list[Module] = []
    shared: list[Parameter] = []
    root = False

    def leave() -> None:
        entry.over = True  # at once: interruptions may leave the rest undone
        with _lock:
            over = [ended for module in modules if (ended := _ended(module, entry))]
            own = any(module is model for module, _ in over)
            if own and _overrides_train(model):
                _switch(model, root)
            _bring_back(over)
            for part in (*shared, *modules):
                _leave(part, entry)
            _forget_what_ended(entry.thread)
            _changed.notify_all()

    with ending_in(leave):
        with _lock:
            found = list(model.modules())
            shared_found = _parameters(found)
            while _waits((*found, *shared_found), entry):
                _changed.wait()
            root = model.training
            modules, shared = found, shared_found
            for module in modules:
                _enter(module, entry, (module.training, module._holds_eval))
            for parameter in shared:
                _enter(parameter, entry)
            if evaluates:
                _switch(model, False)
            elif trains:
                for module in modules:
                    module._saved.take_over(entry.thread)
        yield


def train(model: Module) -> None:
    """Training mode for all of ``model`` but the layers whose own ``eval()`` holds."""
    with _lock:
        _switch(model, True)


def refuse_change(module: Module, call: str, *, trains: bool = True) -> None:
    """Refuse a call from outside that would change a module under another thread.

    Args:
        call: its name, for messages.
        trains: False for a change that does not disturb an evaluation.

    Raises:
        RuntimeError: another thread trains the module, or reads it where the call ``trains``.
    """
    if id(module) in _uses:  # else at once: every change comes here
        with _lock:
            _refuse(module, _Entry(get_ident(), call, trains))


class _Swaps:
    """Whether parameters hold other values for a while.

    Attributes:
        state: another number after each beginning and end; negative while there are some.
        calls: of each call that has swapped values and will put them back, its thread and the ids
            of the parameters.
    """

    __slots__ = ("calls", "number", "state")

    def __init__(self) -> None:
        self.number = self.state = 0
        self.calls: dict[object, tuple[int, frozenset[int]]] = {}

    def count(self) -> int:
        self.number += 1
        self.state = -self.number if self.calls else self.number
        return self.number


swaps = _Swaps()


@contextmanager
def swapped(parameters: list[Parameter]) -> Iterator[None]:
    """Around a call in which the parameters hold other values.

    Other threads may read them only in such a call of their own.
    """
    me, call, ids = get_ident(), object(), frozenset(map(id, parameters))

    def note() -> None:
        number = swaps.count()
        for parameter in parameters:
            parameter._swap = number

    def begin() -> None:
        with _lock:
            swaps.calls[call] = me, ids
            note()

    def end() -> None:
        with _lock:
            swaps.calls.pop(call, None)
            note()

    with ending_in(end):
        begin()
        yield


def refuse_swapped(module: Module, call: str, before: int) -> None:
    """Refuse what a call has read where another thread swapped parameters meanwhile.

    Args:
        call: its name, for messages.
        before: ``swaps.state`` when it began.

    Raises:
        RuntimeError: it did.
    """
    me = get_ident()
    with _lock:
        if swaps.state == before and {thread for thread, _ in swaps.calls.values()} == {me}:
            return
        own = [ids for thread, ids in swaps.calls.values() if thread == me]
        others = [ids for thread, ids in swaps.calls.values() if thread != me]
        for parameter in module.parameters():
            key = id(parameter)
            if any(key in ids for ids in own):  # it holds them as long as this thread wants
                continue
            if parameter._swap > abs(before) or any(key in ids for ids in others):
                raise refusal(
                    call, "evaluates this model by a Trainer, with averages in its parameters"
                )


@dataclass(eq=False)
class _Entry:
    thread: int
    call: str
    trains: bool
    values: Any = None
    over: bool = False  # the call has ended


class _Use:
    """The calls in progress that use a module or a parameter."""

    def __init__(self, part: Any) -> None:
        self.part = part  # kept alive, so that its id stays its own
        self.entries: list[_Entry] = []
        # The modes before the first call, for calls that train and for calls that read.
        self.before: dict[bool, tuple[bool, bool]] = {}


_lock = RLock()  # held while modes change, not while they last
_changed = Condition(_lock)  # a call has ended
_uses: dict[int, _Use] = {}  # by the id of the module or parameter


@after_fork
def _forget_others(thread: int) -> None:
    """In a forked child, where only this thread is left, and nobody to release the lock."""
    global _lock, _changed
    _lock = RLock()
    _changed = Condition(_lock)
    over = []
    for key, use in list(_uses.items()):
        use.entries = [entry for entry in use.entries if entry.thread == thread]
        kinds = {entry.trains for entry in use.entries}
        ended = [use.before.pop(kind) for kind in list(use.before) if kind not in kinds]
        over += [(use.part, modes) for modes in ended if not isinstance(use.part, Parameter)]
        if not use.entries:
            del _uses[key]
    _bring_back(over)
    for call, (other, _) in list(swaps.calls.items()):
        if other != thread:
            del swaps.calls[call]
    swaps.count()


def _parameters(modules: list[Module]) -> list[Parameter]:
    """The parameters in these modules, each once."""
    found = (v for module in modules for v in vars(module).values() if isinstance(v, Parameter))
    return list({id(parameter): parameter for parameter in found}.values())


def _waits(parts: tuple[Any, ...], entry: _Entry) -> bool:
    """Whether a call must wait for those that read other values; refuses one that must not be."""
    for part in parts:
        _refuse(part, entry)
    others = [
        (part, other)
        for part in parts
        if id(part) in _uses
        for other in _uses[id(part)].entries
        if other.thread != entry.thread and other.values is not entry.values and not other.over
    ]
    if others and any(
        own.thread == entry.thread and not own.over for use in _uses.values() for own in use.entries
    ):  # they may wait for this thread as well
        raise _refusal(*others[0], entry)
    return bool(others)


def _refuse(part: Any, entry: _Entry) -> None:
    use = _uses.get(id(part))
    for other in use.entries if use is not None else ():
        if other.thread != entry.thread and (other.trains or entry.trains) and not other.over:
            raise _refusal(part, other, entry)


def _refusal(part: Any, other: _Entry, entry: _Entry) -> RuntimeError:
    what = "this model"
    if isinstance(part, Parameter):
        what = f"a model that shares the {part!r} with this one"
    return refusal(entry.call, f"is in {other.call} with {what}")


def _enter(part: Any, entry: _Entry, modes: tuple[bool, bool] = (True, False)) -> None:
    use = _uses.setdefault(id(part), _Use(part))
    _forget_cut_off(use, entry.thread)
    if not any(other.trains == entry.trains for other in use.entries):
        use.before[entry.trains] = modes
    use.entries.append(entry)


def _ended(part: Any, entry: _Entry) -> tuple[Any, tuple[bool, bool]] | None:
    """The module and the modes to bring back, where the last call of this kind ends.

    None too where an interruption came before the call had entered this part.
    """
    use = _uses.get(id(part))
    if use is None or entry not in use.entries:
        return None
    if any(other.trains == entry.trains and other is not entry for other in use.entries):
        return None
    return part, use.before[entry.trains]


def _leave(part: Any, entry: _Entry) -> None:
    use = _uses.get(id(part))
    if use is None or entry not in use.entries:
        return
    use.entries.remove(entry)
    if not any(other.trains == entry.trains for other in use.entries):
        use.before.pop(entry.trains, None)
    if not use.entries:
        del _uses[id(part)]


def _forget_cut_off(use: _Use, thread: int) -> None:
    """Forget calls of this thread that an interruption kept from leaving."""
    if any(other.over and other.thread == thread for other in use.entries):
        use.entries = [o for o in use.entries if not (o.over and o.thread == thread)]
        kinds = {other.trains for other in use.entries}
        use.before = {trains: modes for trains, modes in use.before.items() if trains in kinds}


def _forget_what_ended(thread: int) -> None:
    """Let go of models that an interruption kept calls of this thread from leaving."""
    ended = [
        part
        for part, use in _uses.items()
        if all(entry.over and entry.thread == thread for entry in use.entries)
    ]
    for part in ended:
        del _uses[part]


def _overrides_train(model: Module) -> bool:
    """Whether a subclass does more in ``train`` than `Module` does."""
    return str(type(model).train.__module__) != "onepass.nn._module"


def _switch(model: Module, mode: bool) -> None:
    modules = list(model.modules())
    holds = [(m, m._holds_eval) for m in modules]
    kept = {}
    if mode:
        kept = {
            m: m.training for top, hold in holds if hold and top is not model for m in top.modules()
        }

    def keep() -> None:
        for module, hold in holds:
            module._holds_eval = hold
        for module, was in kept.items():
            module.training = was

    with ending_in(keep):
        model.train(mode)  # a subclass may do more in there


def _bring_back(over: list[tuple[Module, tuple[bool, bool]]]) -> None:
    """The modes as they were, but for the modules that were switched by hand since."""
    for module, before in over:
        module.training = before[0]
    for module, before in over:
        if module._holds_eval != before[1]:
            for inner in module.modules():
                inner.training = not module._holds_eval
