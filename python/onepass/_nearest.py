"""The option of an optimizer that a misspelt name stands for, or what other libraries call it.

Stricter than `_suggest.py`: an optimizer also takes options that it does not know.
"""

from __future__ import annotations

from collections.abc import Iterable

# Names of options in other libraries.
_ELSEWHERE = {
    "learning_rate": "lr",
    "wd": "weight_decay",
    "l2": "weight_decay",
    "decay": "weight_decay",
    "epsilon": "eps",
    "beta1": "betas",
    "beta2": "betas",
    "beta_1": "betas",
    "beta_2": "betas",
    "b1": "betas",
    "b2": "betas",
    "rho": "alpha",
}


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that ``name`` probably stands for, if there is one.

    One edit away, or two from a name of more than six letters: a letter more, less or another, or
    two neighbours exchanged.
    """
    options = list(known)
    plain = name.lower()
    if _ELSEWHERE.get(plain) in options:
        return _ELSEWHERE[plain]
    near = {option: _edits(plain, option) for option in options}
    best = min(near, key=near.__getitem__, default=None)
    if best is None or near[best] > (2 if len(best) > 6 else 1):
        return None
    return best


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``"; did you mean 'x'?"`` or ``""``."""
    near = nearest(name, known)
    return f"; did you mean {near!r}?" if near else ""


def _edits(a: str, b: str) -> int:
    """Least number of insertions, deletions, replacements and exchanges that turn a into b."""
    before: list[int] = []
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        new = [i]
        for j, y in enumerate(b, 1):
            best = min(row[j] + 1, new[j - 1] + 1, row[j - 1] + (x != y))
            if i > 1 and j > 1 and x == b[j - 2] and y == a[i - 2]:
                best = min(best, before[j - 2] + 1)
            new.append(best)
        before, row = row, new
    return row[-1]
