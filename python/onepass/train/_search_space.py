"""What a search draws parameters from, and the drawing: a function of (seed, trial, name)."""

from __future__ import annotations

import copy
import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from onepass import _numbers as numbers
from onepass._keywords import suggest_keywords
from onepass._repr import as_call
from onepass.data._loader import permutation
from onepass.train._marks import mark

STREAM = 2**64 - 2  # instead of an epoch: searches, loaders and splits draw different numbers
DOMAIN = 3  # the last word of Philox's counter: others are those of loaders and augmentations
MOST_LISTED = 2**20  # combinations that are shuffled as a whole
KINDS = "Uniform(low, high), LogUniform(low, high), Integer(low, high) or a list of choices"


class Distribution:
    """Base of what one parameter is drawn from."""

    count: int | None = None  # of values, each as likely as the others; None of a continuum
    log = False

    def at(self, u: float) -> Any:
        """The value that a share ``u`` of all draws, 0 <= u < 1, lies below."""
        raise NotImplementedError

    def nth(self, index: int) -> Any:
        """Value number ``index`` of ``count``."""
        raise NotImplementedError

    def place(self, value: Any) -> float:
        """Where the value is on an axis from 0 to 1."""
        raise NotImplementedError

    def kept(self, value: Any) -> Any:
        """The value for JSON."""
        return value

    def back(self, kept: Any) -> Any:
        """The value that `kept` was made of.

        Raises:
            ValueError: none that can be drawn.
        """
        if not self._has(kept):
            raise ValueError(f"{kept!r} cannot be drawn from {self!r}")
        return kept

    def _has(self, value: Any) -> bool:
        """Whether it can be drawn."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return as_call(self)


class Uniform(Distribution):
    """A number that is uniform in [low, high].

    The random sampler draws it to four digits of the range, so that what a table shows is the
    value itself.

    Args:
        low, high: the ends, low < high.

    Raises:
        TypeError, ValueError: an end other than a finite number, or low >= high.

    Example:
        >>> from onepass.train import Uniform
        >>> Uniform(0.0, 0.5)
        Uniform(low=0.0, high=0.5)
    """

    @suggest_keywords
    def __init__(self, low: float, high: float) -> None:
        owner = type(self).__name__
        above = 0.0 if self.log else None
        self.low = numbers.in_range(owner, "low", low, above=above)
        self.high = numbers.in_range(owner, "high", high, above=self.low)
        if self.high - self.low == math.inf:
            raise ValueError(f"{owner}: 'high' is {high!r}, expected a range that a float can hold")

    def at(self, u: float) -> float:
        return self._rounded(self.low + u * (self.high - self.low), self.high - self.low)

    def place(self, value: float) -> float:
        return (value - self.low) / (self.high - self.low)

    def _has(self, value: Any) -> bool:
        return type(value) is float and self.low <= value <= self.high

    def _rounded(self, value: float, scale: float) -> float:
        """To steps of at most a thousandth of the scale, within the ends."""
        rounded = round(value, 3 - math.floor(math.log10(scale)))
        return min(max(rounded, self.low), self.high)


class LogUniform(Uniform):
    """A number whose logarithm is uniform: as likely in [0.001, 0.01] as in [0.01, 0.1].

    Args:
        low, high: the ends, 0 < low < high.

    Raises:
        TypeError, ValueError: as `Uniform`, or low <= 0.

    Example:
        >>> from onepass.train import LogUniform
        >>> LogUniform(1e-4, 1e-1)
        LogUniform(low=0.0001, high=0.1)
    """

    log = True

    def at(self, u: float) -> float:
        low, high = math.log(self.low), math.log(self.high)
        value = math.exp(low + u * (high - low))
        return self._rounded(value, min(value, self.high - self.low))

    def place(self, value: float) -> float:
        return math.log(value / self.low) / math.log(self.high / self.low)


class Integer(Distribution):
    """A whole number in low, low + 1, …, high: both ends are in.

    Args:
        low, high: the ends, low < high.
        log: draw the logarithm uniformly, then round; needs low >= 1.

    Raises:
        TypeError, ValueError: an end other than a whole number, or low >= high.

    Example:
        >>> from onepass.train import Integer
        >>> Integer(16, 512, log=True)
        Integer(low=16, high=512, log=True)
    """

    @suggest_keywords
    def __init__(self, low: int, high: int, *, log: bool = False) -> None:
        self.log = numbers.flag("Integer", "log", log)
        self.low = numbers.integer("Integer", "low", low, 1 if self.log else -(2**53))
        self.high = numbers.integer("Integer", "high", high, self.low + 1, 2**53 + 1)
        self.count = None if self.log else self.high - self.low + 1

    def at(self, u: float) -> int:
        if not self.log:
            return min(self.low + int(u * (self.high - self.low + 1)), self.high)
        low, high = math.log(self.low - 0.5), math.log(self.high + 0.5)
        return min(max(round(math.exp(low + u * (high - low))), self.low), self.high)

    def nth(self, index: int) -> int:
        return self.low + index

    def place(self, value: int) -> float:
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def _has(self, value: Any) -> bool:
        return type(value) is int and self.low <= value <= self.high


class Choice(Distribution):
    """One of some values, each as likely. A plain list in a space means the same.

    Args:
        values: numbers, words, None, lists, tuples and dicts of them, functions or classes.

    Raises:
        TypeError: no list, or a value of another type. ValueError: no value, or one twice.

    Example:
        >>> from onepass.train import Choice
        >>> Choice(["adamw", "sgd"])
        Choice(values=['adamw', 'sgd'])
    """

    @suggest_keywords
    def __init__(self, values: Sequence[Any]) -> None:
        self.values = _checked_values("Choice: 'values'", values)
        self.labels = [*map(label, self.values)]
        self.count = len(self.values)

    def at(self, u: float) -> Any:
        return self.nth(min(int(u * len(self.values)), len(self.values) - 1))

    def nth(self, index: int) -> Any:
        return copy.deepcopy(self.values[index])  # build may change a list

    def place(self, value: Any) -> float:
        return (self.kept(value) + 0.5) / len(self.values)

    def kept(self, value: Any) -> int:
        return self.labels.index(label(value))

    def back(self, kept: Any) -> Any:
        if type(kept) is not int or not 0 <= kept < len(self.values):
            raise ValueError(f"{kept!r} is not the place of one of {len(self.values)} choices")
        return self.nth(kept)


class Draws:
    """The parameters of each trial, by its number, drawn at random.

    Where the space has a finite number of combinations, all come in random order before one comes
    again, then from the next seed.
    """

    def __init__(self, space: Mapping[str, Distribution], seed: int) -> None:
        self.space, self.seed = space, seed
        self.count = combinations(space)
        self._order = None
        if self.count is not None and self.count <= MOST_LISTED:
            self._order = permutation(self.count, seed, STREAM)

    def params(self, number: int) -> dict[str, Any]:
        """Those of trial ``number``."""
        if self._order is None:
            return {name: of.at(self.unit(number, name)) for name, of in self.space.items()}
        index = int(self._order[number % len(self._order)])
        found = {}
        for name in sorted(self.space):
            of = self.space[name]
            assert of.count is not None
            index, at = divmod(index, of.count)
            found[name] = of.nth(at)
        return {name: found[name] for name in self.space}

    def seed_of(self, number: int) -> int:
        """The seed of the training of trial ``number``."""
        again = 0 if self._order is None else number // len(self._order)
        return (self.seed + again) % 2**64

    def unit(self, number: int, name: str) -> float:
        """A number that is uniform in [0, 1), of this trial and this name."""
        return (word(self.seed, number, name) >> 11) * 2.0**-53


def combinations(space: Mapping[str, Distribution]) -> int | None:
    """How many there are; None for infinitely many."""
    counts = [of.count for of in space.values()]
    return math.prod(n for n in counts if n) if all(counts) else None


def word(seed: int, number: int, name: str) -> int:
    """64 random bits of (seed, trial, name)."""
    key = np.array([seed, number], np.uint64)
    counter = np.array([0, _digest(name), 0, DOMAIN], np.uint64)
    return int(np.random.Philox(key=key, counter=counter).random_raw())


def _digest(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")


def checked(space: Any) -> dict[str, Distribution]:
    """The space, with a `Choice` for each list.

    Raises:
        TypeError, ValueError: something else, with the parameter's name.
    """
    if not isinstance(space, Mapping):
        raise TypeError(f"search: 'space' is {space!r}, expected a dict of names and {KINDS}")
    if not space:
        raise ValueError("search: 'space' is empty, expected a parameter to vary")
    return {_name(name): _distribution(name, given) for name, given in space.items()}


def _name(name: Any) -> str:
    if not isinstance(name, str) or not name:
        raise TypeError(f"search: 'space' has the name {name!r}, expected a word")
    return name


def _distribution(name: str, given: Any) -> Distribution:
    what = f"search: {name!r} in 'space'"
    if isinstance(given, Distribution):
        return given
    if isinstance(given, list):
        _checked_values(what, given)
        return Choice(given)
    if isinstance(given, Mapping):
        raise TypeError(
            f"{what} is a dict, expected {KINDS}: a space has no conditions; draw all parameters, "
            "and use in build those that a choice needs"
        )
    cure = ""
    if isinstance(given, (tuple, range)) or hasattr(given, "tolist"):
        cure = "; for some values write a list, for a range Uniform or Integer"
    elif given is None or isinstance(given, (bool, int, float, str)):
        cure = f"; what never varies belongs into build, or [{given!r}]"
    raise TypeError(f"{what} is {given!r}, expected {KINDS}{cure}")


def _checked_values(what: str, values: Any) -> list[Any]:
    if not isinstance(values, (list, tuple)):
        raise TypeError(f"{what} is {values!r}, expected a list")
    if not values:
        raise ValueError(f"{what} is empty, expected a list of choices")
    plain = [v.item() if isinstance(v, np.generic) else v for v in values]
    seen: set[str] = set()
    for value in plain:
        _check_value(what, value)
        if label(value) in seen:
            raise ValueError(f"{what} has {label(value)} twice, expected different choices")
        seen.add(label(value))
    return plain


def _check_value(what: str, value: Any) -> None:
    if isinstance(value, Distribution):
        raise TypeError(
            f"{what} has {value!r} among its choices, expected values: a space has no conditions; "
            "give it a name of its own, and use it in build where a choice needs it"
        )
    if value is None or isinstance(value, (bool, int, str, type)) or _is_function(value):
        return
    if isinstance(value, float):
        if math.isnan(value):
            raise ValueError(f"{what} has nan, expected numbers")
        return
    if isinstance(value, (list, tuple)):
        for part in value:
            _check_value(what, part)
        return
    if isinstance(value, Mapping):
        for key, part in value.items():
            _check_value(what, key)
            _check_value(what, part)
        return
    raise TypeError(
        f"{what} has a {type(value).__name__}, expected numbers, words, None, lists, tuples and "
        "dicts of them, functions or classes; make it in build"
    )


def _is_function(value: Any) -> bool:
    return callable(value) and hasattr(value, "__qualname__")


def label(value: Any) -> str:
    """What tells a choice from others, the same in every process."""
    if isinstance(value, type) or _is_function(value):
        return f"{value.__module__}.{value.__qualname__}"
    if isinstance(value, (list, tuple)):
        ends = "[]" if isinstance(value, list) else "()"
        return f"{ends[0]}{', '.join(map(label, value))}{ends[1]}"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{label(k)}: {label(v)}' for k, v in value.items())}}}"
    return repr(value)


def shown(value: Any) -> str:
    """A value in a table: four digits of a number, a class by its name, words in one line."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, type) or _is_function(value):
        return str(value.__qualname__).rpartition(".")[2]
    if isinstance(value, (list, tuple)):
        return ",".join(map(shown, value)) or "()"
    return " ".join(str(value).split())


def marks_of_space(space: Mapping[str, Distribution]) -> dict[str, Any]:
    """What a resume compares."""
    found: dict[str, Any] = {}
    for name, of in space.items():
        told = f"[{', '.join(of.labels)}]" if isinstance(of, Choice) else repr(of)
        found[name] = mark("search", name, told, told)
    return found
