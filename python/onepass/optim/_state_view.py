"""``optimizer.state``: the states of an optimizer, by parameter."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

Entry = Mapping[str, Any]


class StateView(Mapping[Any, Entry]):
    """A parameter → its step count and states, read-only; the arrays are the optimizer's own.

    Parameters are told apart by identity, so arrays can be looked up too. One that never had a
    gradient has an empty entry and is not counted, as in PyTorch.

    Args:
        parameters: of the optimizer.
        entries: gives the entries of a state_dict, by position.
    """

    def __init__(
        self, parameters: Sequence[Any], entries: Callable[[], Mapping[int, Entry]]
    ) -> None:
        self._parameters, self._entries = parameters, entries

    def __getitem__(self, parameter: Any) -> Entry:
        for index, own in enumerate(self._parameters):
            if own is parameter:
                return MappingProxyType(self._entries().get(index, {}))
        raise KeyError(parameter)

    def __iter__(self) -> Iterator[Any]:
        return iter([self._parameters[index] for index in self._entries()])

    def __len__(self) -> int:
        return len(self._entries())

    def __contains__(self, parameter: object) -> bool:
        return any(own is parameter for own in self)

    def __repr__(self) -> str:
        return f"<state of {len(self)} of {len(self._parameters)} parameters>"
