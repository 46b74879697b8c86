"""Reports of a classification or regression in a terminal, within so many columns, in ASCII but
for names. ``report`` is a ClassificationReport or a RegressionReport."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onepass._text import amount, cut, cut_apart, padded, printable, table, width
from onepass.train import _score_table

HEADS = ("precision", "recall", "f1", "support")
SHORT_HEADS = ("prec", "rec", "f1", "n")  # where there is no room
NARROW = 60  # columns
MOST_ROWS = 20  # of a table
FOLDED = 12  # of them, where there are more classes
MOST_MISTAKES = 5
MOST_CLASSES = 20  # in a matrix
LONGEST = 24  # columns of a name
EMPTY = "."
MARK = "*"  # of what stands for 0/0
MOST_PLOTS = 3  # of outputs
HEIGHT = 12  # lines of a scatter plot
MARKS = ".:oO@"  # 1, 2, 3-4, 5-8, more points in a cell
LINE = "-"  # where prediction and target are equal, or the residual is 0


def shown(value: float) -> str:
    """As in any table of scores; a sign for NaN."""
    return "-" if value != value else _score_table.number(value)


# ------------------------------------------------------------------------------- classes


def of_classes(report: Any, columns: int) -> str:
    """The table, the matrix, the mistakes."""
    parts = [table_of_classes(report, columns), matrix(report, columns), mistakes(report, columns)]
    return "\n\n".join(part for part in parts if part)


def table_of_classes(report: Any, columns: int) -> str:
    """Precision, recall, F1 and support, a line a class; of many classes the worst."""
    count = len(report.labels)
    chosen = list(range(count)) if count <= MOST_ROWS else worst_first(report)[:FOLDED].tolist()
    narrow = columns < NARROW
    note = undefined(report)
    room = _room(columns, 30 if narrow else 36)
    rows: list[tuple[str, ...]] = [("class", *(SHORT_HEADS if narrow else HEADS))]
    names = _short([report.names[i] for i in chosen], room)
    rows += [(name, *_numbers(report, i)) for name, i in zip(names, chosen, strict=True)]
    total = amount(report.support.sum().item())
    for name, means in report.averages.items():
        name = name.partition(" ")[0] if narrow else name
        values = [shown(value) for value in means.values()]
        rows.append((name, *[""] * (3 - len(values)), *values, total))
    lines = table(rows)
    if count > len(chosen):
        lines.insert(1 + len(chosen), f"({others(report, count - len(chosen))})")
    lines += [note] * bool(note)
    return "\n".join(line if width(line) <= columns else cut(line, columns) for line in lines)


def worst_first(report: Any) -> NDArray[np.int64]:
    """The indices by F1, from the smallest on; those that do not occur come last."""
    order: NDArray[np.int64] = np.argsort(np.where(report.used, report.f1, np.inf), kind="stable")
    return order


def others(report: Any, count: int) -> str:
    """What is true of those that are not shown, the last of the order."""
    hidden = report.used[worst_first(report)[-count:]]
    if not hidden.any():
        return f"{count} more, none of which occurs"
    that = "" if hidden.all() else " that occurs"
    return f"{count} more, none{that} with a smaller f1"


def undefined(report: Any) -> str:
    """What is behind a number that is marked; "" if none is."""
    zero = report.zero_division
    lacking = not (report.support > 0).all()
    if zero != zero or not (lacking or (report.predicted == 0).any()):
        return ""
    more = "; balanced accuracy leaves such recalls out" * lacking
    return f"{MARK} 0/0, counts as {zero:.0f} in the averages{more}"


def _numbers(report: Any, i: int) -> tuple[str, ...]:
    found = [marked(value, there) for value, there in report.measures(i).values()]
    return (*found, amount(report.support[i].item()))


def marked(value: float, there: bool, form: Callable[[float], str] = shown) -> str:
    """The number; with a mark where it stands for 0/0."""
    return form(value) if there or value != value else f"{value:.0f}{MARK}"


def matrix(report: Any, columns: int) -> str:
    """Rows are classes, columns what they were taken for; classes that do not fit are one."""
    count = len(report.labels)
    if not count:
        return ""
    most = min(count, MOST_CLASSES)
    while True:
        lines = _matrix(report, most, columns)
        if most <= 1 or max(map(width, lines)) <= columns:
            break
        most -= 1
    if not report.whole:
        lines.append(f"({amount(report.left_out)} more, of or taken for other classes)")
    return "\n".join(cut(line, columns) for line in lines)


def _matrix(report: Any, most: int, columns: int) -> list[str]:
    count = len(report.labels)
    chosen = list(range(count)) if most >= count else report.muddled(most)
    folded = len(chosen) < count
    cells: NDArray[Any] = report.folded(chosen) if folded else report.part(chosen)
    names = [printable(report.names[i]) for i in chosen]
    if folded:
        names.append(f"{count - len(chosen)} others")
    shown = [[amount(cell) if cell else EMPTY for cell in row] for row in cells.tolist()]
    room = _room(columns, 2 * len(shown))
    widest = max(len(cell) for row in shown for cell in row)
    heads = names
    if max(map(width, names)) > max(widest, 4):  # too long to stand above: numbers
        heads = [str(i) for i in range(1, len(names) + 1)]
        names = [f"{i} {name}" for i, name in enumerate(names, 1)]
    rows = [["", *heads]]
    rows += [[name, *row] for name, row in zip(_short(names, room), shown, strict=True)]
    title = "true class by row, predicted class by column:"
    return [title if len(title) <= columns else "true by row, predicted below:"[:columns],
            *table(rows)]  # fmt: skip


def mistakes(report: Any, columns: int) -> str:
    """The most frequent ones, a line each; "" where the matrix is small enough to see them."""
    if len(report.labels) <= 5:
        return ""
    found = report.mistakes(MOST_MISTAKES)
    if not found:
        return ""
    called = dict(zip(report.labels, report.names, strict=True))
    counts = [amount(n) for _, _, n in found]
    room = max(4, (columns - max(map(len, counts)) - len("  x   taken for ")) // 2)
    pairs = [(called[true], called[taken]) for true, taken, _ in found]
    true, taken = ([*names] for names in zip(*pairs, strict=True))
    names = _short([*true, *taken], room)
    size = max(map(len, counts))
    lines = [
        f"  {n:>{size}} x {names[i]} taken for {names[i + len(true)]}" for i, n in enumerate(counts)
    ]
    return "\n".join(["most frequent mistakes:", *(cut(line, columns) for line in lines)])


def _room(columns: int, others: int) -> int:
    """Columns of a name beside what else is in a line."""
    return max(6, min(LONGEST, columns - others - 2))


def _short(names: Sequence[str], room: int) -> list[str]:
    return cut_apart([printable(name) for name in names], room)


# ------------------------------------------------------------------------------- numbers


def of_numbers(report: Any, columns: int) -> str:
    """The errors, the quantiles of the residuals, and a scatter plot."""
    parts = [table_of_numbers(report, columns), _quantiles(report, columns)]
    names = _short(report.names, 12)
    for k in report.worst(MOST_PLOTS):
        of = f" of {names[k]}" if len(report.names) > 1 else ""
        title = f"predicted{of}, over true"
        parts.append(scatter(report.true[:, k], report.predicted[:, k], columns, title))
    return "\n\n".join(parts)


def table_of_numbers(report: Any, columns: int) -> str:
    """RMSE, MAE, R², bias and deviation, a line an output; of many outputs the worst."""
    heads: tuple[str, ...] = ("rmse", "mae", "r2", "bias", "deviation")
    while True:
        rows: list[tuple[str, ...]] = [("output", *heads)]
        chosen = report.worst(MOST_ROWS)
        room = _room(columns, 9 * len(heads) + 4)
        for name, k in zip(_short([report.names[k] for k in chosen], room), chosen, strict=True):
            values = (shown(float(getattr(report, head)[k])) for head in heads)
            rows.append((name, *values))
        lines = table(rows)
        if len(heads) == 1 or max(map(width, lines)) <= columns:
            break
        heads = heads[:-1]
    more = len(report.names) - len(chosen)
    if more:
        lines.append(f"({more} more, none with a smaller r2)")
    return "\n".join(cut(line, columns) for line in lines)


def _quantiles(report: Any, columns: int) -> str:
    names = list(report.quantiles)
    several = len(report.names) > 1
    outputs = _short(report.names, 12)
    chosen = report.worst(MOST_ROWS) if several else [0]
    while True:
        rows = [["residual", *names]]
        for k in chosen:
            values = [shown(float(report.quantiles[name][k])) for name in names]
            rows.append([outputs[k] if several else "", *values])
        lines = table(rows)
        if max(map(width, lines)) <= columns or len(names) <= 3:
            return "\n".join(cut(line, columns) for line in lines)
        names = names[:1] + names[2:-2] + names[-1:]  # the outer ones but the ends


def _ends(high: float, low: float) -> list[str]:
    """Both in one notation, to a hundredth of what lies between them."""
    texts = [shown(high), shown(low)]
    if not any("e" in text for text in texts):
        return texts
    for places in range(4, 17):
        texts = [f"{high:.{places}e}", f"{low:.{places}e}"]
        errors = [abs(float(texts[0]) - high), abs(float(texts[1]) - low)]
        if max(errors) <= 0.01 * (high - low):
            break
    return texts


def scatter(x: NDArray[Any], y: NDArray[Any], columns: int, title: str) -> str:
    """``y`` over ``x`` in one scale, with the line where they are equal."""
    low, high = float(min(x.min(), y.min())), float(max(x.max(), y.max()))
    if not high > low:
        low, high = low - (abs(low) or 1.0) * 0.5, high + (abs(high) or 1.0) * 0.5
    ends = _ends(high, low)
    margin = max(map(len, ends)) + 1
    wide = max(4, min(2 * 2 * HEIGHT + 12, columns - margin - 1))
    with np.errstate(over="ignore"):
        at = np.minimum((x / 2 - low / 2) / (high / 2 - low / 2) * wide, wide - 1).astype(int)
        up = np.minimum((y / 2 - low / 2) / (high / 2 - low / 2) * HEIGHT, HEIGHT - 1).astype(int)
    counts = np.zeros((HEIGHT, wide), np.int64)
    np.add.at(counts, (up, at), 1)
    grid = [[" "] * wide for _ in range(HEIGHT)]
    for column in range(wide):
        grid[int(column / wide * HEIGHT)][column] = LINE
    for row, column in np.argwhere(counts):
        level = int(np.ceil(np.log2(counts[row, column])))
        grid[row][column] = MARKS[min(level, len(MARKS) - 1)]
    lines = [cut(f"{title} ({LINE} where they are equal)", columns)]
    for row in reversed(range(HEIGHT)):
        end = {HEIGHT - 1: ends[0], 0: ends[1]}.get(row, "")
        lines.append(f"{padded(end, margin - 1, right=True)} |{''.join(grid[row])}".rstrip())
    below = padded(ends[1], wide - len(ends[0])) + ends[0]
    lines.append(f"{' ' * margin} {below}" if len(below) <= wide + 1 else "")
    return "\n".join(line[:columns] for line in lines if line)
