"""Rates of zero. Schedules of one optimizer multiply, and 0 times anything is 0.

Where schedules set a group's rate to 0, the product of all others would be lost, so the group keeps
it beside ``"lr"``. It counts as long as the rate is 0: where a user sets another one, the next step
of a schedule goes on from that. A 0 set by hand over such a 0 cannot be told from it.
"""

from __future__ import annotations

from typing import Any

from onepass import _numbers as numbers

KEY = "lr_without_zeros"
Held = tuple[float, int, int]  # the product; how many schedules are at 0; at which step the first


def held(group: dict[str, Any]) -> Held | None:
    """What the group keeps; None where no schedule has set its rate to 0."""
    kept = group.get(KEY)
    if kept is None or float(group["lr"]) != 0:
        return None  # a rate that was set by hand since counts
    product, count, since = kept
    return float(product), int(count), int(since)


def put(group: dict[str, Any], kept: Held | None) -> None:
    """Keep ``kept`` beside the rate, or nothing."""
    if kept is None:
        group.pop(KEY, None)
    else:
        group[KEY] = kept


def check(owner: str, kept: Any, groups: int) -> None:
    """Check what a state_dict says that each of the groups keeps; None: an earlier version's.

    Raises:
        TypeError, ValueError: it is no list of that, or of another number of groups.
    """
    name = "state_dict['without_zeros']"
    if kept is None:
        return
    if not isinstance(kept, (list, tuple)) or len(kept) != groups:
        raise TypeError(f"{owner}: {name} is {kept!r}, expected a list with {groups} entries")
    for number, own in enumerate(kept):
        if own is None:
            continue
        if not isinstance(own, (list, tuple)) or len(own) != 3:
            raise TypeError(f"{owner}: {name}[{number}] is {own!r}, expected three numbers or None")
        numbers.in_range(owner, f"{name}[{number}][0]", own[0], 0)
        numbers.integer(owner, f"{name}[{number}][1]", own[1], 1)
        numbers.integer(owner, f"{name}[{number}][2]", own[2], 0)
