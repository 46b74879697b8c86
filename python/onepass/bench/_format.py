"""The file of ``--json``: what it has to hold, checked where it is read, and nowhere else.

Every error names the file, the place in it, what stands there and what was expected.
"""

from __future__ import annotations

import dataclasses
import math
import reprlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, NoReturn

from onepass.bench._row import UsageError
from onepass.bench._table import FORMAT


class Kind(NamedTuple):
    """What a value may be."""

    expected: str
    has: Callable[[Any], bool]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and value is not True and math.isfinite(value)


OBJECT = Kind("an object", lambda value: isinstance(value, dict))
LIST = Kind("a list", lambda value: isinstance(value, list))
TEXT = Kind("a text", lambda value: isinstance(value, str))
NAME = Kind("a name", lambda value: isinstance(value, str) and value.strip() != "")
YES_OR_NO = Kind("true or false", lambda value: isinstance(value, bool))
COUNT = Kind("a whole number >= 1", lambda value: type(value) is int and value >= 1)
SECONDS = Kind("a number > 0", lambda value: _is_number(value) and value > 0)
LOAD = Kind("a number >= 0", lambda value: _is_number(value) and value >= 0)
LOAD_OR_NONE = Kind("a number >= 0 or null", lambda value: value is None or LOAD.has(value))
NUMBER_OR_NONE = Kind("a number or null", lambda value: value is None or _is_number(value))


@dataclasses.dataclass(frozen=True)
class Place:
    """A value of a file, and where it stands: "results[3].threads"."""

    file: str
    path: str
    value: Any

    def fail(self, words: str) -> NoReturn:
        """An error about this place."""
        place = f"{self.path} " if self.path else "it "
        raise UsageError(f"{self.file} cannot be read as a file of --json: {place}{words}")

    def check(self, kind: Kind) -> Any:
        """The value, which is of that kind."""
        if not kind.has(self.value):
            self.fail(f"is {reprlib.repr(self.value)}, expected {kind.expected}")
        return self.value

    def part(self, name: str) -> Place:
        """A member of an object, which has to be there."""
        return self._part(name, f"{self.path}.{name}".lstrip("."))

    def of(self, label: str) -> Place:
        """The same where the keys are labels of functions."""
        return self._part(label, f"{self.path}[{label!r}]")

    def _part(self, key: str, path: str) -> Place:
        if key not in self.check(OBJECT):
            self.fail(f"has no {key!r}")
        return Place(self.file, path, self.value[key])

    def maybe(self, name: str, kind: Kind) -> None:
        """A member that may be absent."""
        if name in self.check(OBJECT):
            self.part(name).check(kind)

    def members(self) -> Iterator[Place]:
        """All of an object whose keys are labels; there is at least one."""
        if not self.check(OBJECT):
            self.fail("is {}, expected at least one function")
        for label in self.value:
            if not NAME.has(label):
                self.fail(f"has {label!r}, expected the label of a function")
            yield self.of(label)

    def items(self) -> Iterator[Place]:
        """All of a list."""
        for i, value in enumerate(self.check(LIST)):
            yield Place(self.file, f"{self.path}[{i}]", value)


def check(content: Any, file: str) -> None:
    """What `compare` reads, of this version and of earlier ones.

    Args:
        content: of the file.
        file: its name.

    Raises:
        UsageError: the content is another one.
    """
    whole = Place(file, "", content)
    version = whole.check(OBJECT).get("format", 1)
    if version not in (1, FORMAT):
        raise UsageError(
            f"{file} has format {version}, this version of onepass reads 1 and {FORMAT}"
        )
    machine = whole.part("machine")
    machine.maybe("cpus", COUNT)
    machine.maybe("load", LOAD)
    for result in whole.part("results").items():
        _check_result(result)


def _check_result(result: Place) -> None:
    result.check(OBJECT)
    result.part("name" if "name" in result.value and "row" not in result.value else "row").check(
        NAME
    )
    for name, kind in (("device", NAME), ("dtype", NAME), ("threads", COUNT), ("wrong", YES_OR_NO)):
        result.maybe(name, kind)
    if "skipped" in result.value:
        result.part("skipped").check(TEXT)
        return
    if "samples" in result.value:
        _check_samples(result)
        return
    for time in result.part("us" if "us" in result.value else "seconds").members():
        time.check(SECONDS)


def _check_samples(result: Place) -> None:
    samples = result.part("samples")
    for each in samples.members():
        for time in each.items():
            time.check(SECONDS)
        if not each.value:
            each.fail("is [], expected at least one time")
    if "visits" not in result.value:
        return
    for each in result.part("visits").members():
        for count in each.items():
            count.check(COUNT)
    for label, times in samples.value.items():
        visits = result.part("visits").of(label)
        if sum(visits.value) != len(times):
            visits.fail(f"is {visits.value}, expected counts of {len(times)} samples")


def check_whole(content: Any, file: str) -> None:
    """All that a run of this version writes, so that ``--resume`` can go on with it."""
    check(content, file)
    whole = Place(file, "", content)
    options = whole.part("options")
    options.check(OBJECT)
    for result in whole.part("results").items():
        for name, kind in (
            ("row", NAME), ("group", TEXT), ("device", NAME), ("dtype", NAME), ("threads", COUNT),
        ):  # fmt: skip
            result.part(name).check(kind)
        result.maybe("run", OBJECT)
        result.maybe("asked", NAME)
        if "skipped" not in result.value:
            _check_measured(result)


def _check_measured(result: Place) -> None:
    """Of a row that has times."""
    samples = result.part("samples")
    samples.of("onepass")
    for name in ("seconds", "low", "high"):
        for label in samples.value:
            result.part(name).of(label).check(SECONDS)
        _check_labels(result.part(name), samples.value)
    for name in ("ratios", "own"):
        _check_labels(result.part(name), samples.value)
        for label in result.value[name]:
            result.part(name).of(label).check(SECONDS)
    # Where memory sets no limit, there are none.
    moved = LOAD if "limit" in samples.value else LOAD_OR_NONE
    for name, kind in (
        ("elements", COUNT), ("bytes", moved), ("error", NUMBER_OR_NONE), ("ulps", NUMBER_OR_NONE),
        ("products", NUMBER_OR_NONE), ("checked", TEXT), ("wrong", YES_OR_NO), ("missing", OBJECT),
    ):  # fmt: skip
        result.part(name).check(kind)
    for label in result.value["missing"]:
        result.part("missing").of(label).check(TEXT)


def _check_labels(labels: Place, known: dict[str, Any]) -> None:
    for label in labels.check(OBJECT):
        if label not in known:
            labels.fail(f"has {label!r}, which has no samples")
