"""Parses the records of a text into columns: numbers where all are plain, else words.

A part of the text with only numbers, words and quotes around whole cells goes through a fast
reader, any other part through ``csv``. If a column holds more than plain numbers and gaps, it is
read again as words, and all of them together decide its kind.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator

import numpy as np

from onepass.data import _blocks, _quotes
from onepass.data._blocks import NUMBER, WORD
from onepass.data._cells import PLAIN, may_have_thousands, shown
from onepass.data._codes import Codes
from onepass.data._columns import Floats, Numbers, Words, has_decimals
from onepass.data._edges import CURE_BELOW, filled, refuse_last
from onepass.data._forms import Form, Kind, is_numeric, numbers_of, sign_of
from onepass.data._layout import (
    LONGEST_CELL,
    Layout,
    check_quotes,
    explained,
    is_blank,
    layout_of,
    reader,
)
from onepass.data._loading import Loading
from onepass.data._marks import Marks
from onepass.data._plain import Plain
from onepass.data._source import Kept, Source, cell_with

CHUNK = 1 << 20  # characters of a part
LOOKED_AT = 10_000  # characters at the end that show a total
HEAD = 1 << 20  # characters that show the layout


class Text:
    """A table of text; ``read`` gives its columns.

    Attributes:
        layout: its separator and names.
        keeps_blank: whether a row of empty cells is a row, as it is where each gets a prediction;
            not at the end of the file.
        blank: how many such rows were left out.
        proven: for each column that was read as numbers, whether its points, or commas, are decimal
            signs for sure: 1.5 is, 1.500 may be one and a half thousand.
        doubtful: the first cell such as 1.500 of each column of plain numbers that has them and is
            not proven.
    """

    def __init__(self, source: Source, sep: str | None, header: bool | None) -> None:
        self.source = source
        self.keeps_blank = False
        self.blank = 0
        with source.open() as file:
            head = self._characters(file, 0, HEAD)
        if sep is None and source.ending == ".tsv":
            sep = "\t"
        self.layout: Layout = layout_of(source.name, head.lstrip("\ufeff"), sep, header)
        self.proven: dict[int, bool] = {}
        self.doubtful: dict[int, str] = {}
        self.rows = 0
        self.matrix: Floats | None = None

    def read(self, kinds: list[Kind], last: int = -1) -> dict[int, Numbers | Words]:
        """The columns by position.

        Args:
            kinds: of each column: NUMBER or a form of numbers (WORD if it holds anything else),
                WORD, or SKIP to leave it out.
            last: the column that comes last in the matrix of numbers.
        """
        while True:
            reading = _Reading(self, list(kinds), last)
            with self.source.open() as file, Loading(self.source) as loading:
                reading.run(file, loading)
            if reading.kinds == kinds:
                columns = reading.columns()
                self.proven, self.doubtful = reading.proven, reading.doubtful
                self.rows = reading.rows
                self.matrix, self.blank = reading.matrix, reading.blank
                return columns
            kinds = reading.kinds

    def _characters(self, file: io.TextIOWrapper, line: int, count: int) -> str:
        """About this many characters, up to the end of a line; ``line`` lines come before."""
        try:
            chunk = file.read(count)
            chunk = chunk + file.readline() if chunk else ""
        except UnicodeError as error:
            raise ValueError(f"{self.source.name}{self.source.undecoded()}") from error
        if "\0" in chunk:
            before, _, after = chunk.partition("\0")
            row = before.rpartition("\n")[2] + "\0" + after.partition("\n")[0]
            place = line + before.count("\n") + 1
            cell = cell_with("\0", row)
            raise ValueError(
                f"{self.source.name}: line {place}: {shown(cell)} has NUL characters, expected "
                "text; is it UTF-16? Pass encoding='utf-16-le' (--encoding utf-16-le)"
            )
        return chunk


class _Reading:
    """One pass over the text."""

    def __init__(self, text: Text, kinds: list[Kind], last: int) -> None:
        self.text, self.layout, self.kinds = text, text.layout, kinds
        self.rows = 0
        self.line = 0
        self.blank = self.pending = 0  # rows of empty cells: left out, and perhaps at the end
        self.doubtful: dict[int, str] = {}
        # The numbers alone do not tell 12,50 from 12,5, which the first cells do.
        self.proven = {
            place: sign_of(kind) in (None, self.layout.shows[place])
            for place, kind in enumerate(kinds)
            if is_numeric(kind)
        }
        self.forms = {place: kind for place, kind in enumerate(kinds) if isinstance(kind, Form)}
        self.matrix = np.empty((0, len(self.proven)))
        places = sorted(self.proven, key=lambda place: (place == last, place))
        self.slots = {place: slot for slot, place in enumerate(places)}
        self.codes = {p: Codes() for p, kind in enumerate(kinds) if kind == WORD}

    def run(self, file: io.TextIOWrapper, loading: Loading) -> None:
        for _ in range(self.layout.start):
            file.readline()
        self.line = self.layout.start
        last = ""
        while chunk := self.text._characters(file, self.line, CHUNK):
            last = last[-LOOKED_AT:] + chunk
            if not self._quick(chunk):
                self._slow(chunk, file)
            loading.update()
        self._check_end(last)

    def _check_end(self, chunk: str) -> None:
        """Refuses a total or a note in the last row; ``chunk`` is the end of the text."""
        sep = self.layout.sep
        lines = chunk[-LOOKED_AT:].split("\n")[chunk.count("\n") > 0 and len(chunk) > LOOKED_AT :]
        try:
            rows: list[list[str]] = [list(*reader([line], sep)) for line in lines]
        except (csv.Error, TypeError):
            return  # a cell of several lines
        while rows and is_blank(rows[-1]):
            rows.pop()
        line = self.line - (len(lines) - len(rows)) + chunk.endswith("\n")
        before = [row for row in rows[:-1] if not is_blank(row)]
        if rows and self.rows > 1 and not self.text.keeps_blank:  # else each gets a prediction
            refuse_last(f"{self.text.source.name}: line {line}", rows[-1], before)

    def columns(self) -> dict[int, Numbers | Words]:
        self.matrix.resize((self.rows, self.matrix.shape[1]), refcheck=False)
        units = {place: form.unit for place, form in self.forms.items()}
        found: dict[int, Numbers | Words] = {
            place: Numbers(self.matrix[:, slot], units.get(place, ""))
            for place, slot in self.slots.items()
        }
        found.update((place, codes.words()) for place, codes in self.codes.items())
        return dict(sorted(found.items()))

    def _quick(self, chunk: str) -> bool:
        """Read at once; False, and no row added, where that cannot be right."""
        sep, lines = self.layout.sep, chunk.count("\n") + (not chunk.endswith("\n"))
        if not sep.isascii() or chunk.isspace() or _has_long(chunk):
            return False
        if _quotes.HELD in chunk:
            return False
        quoted = '"' in chunk
        if quoted:
            bare = _quotes.without(chunk, sep)
            if bare is None:
                return False
            chunk = bare
        given = chunk
        zeros: Iterable[int] = ()
        if self.forms:
            plain = Plain(chunk, sep, len(self.kinds), self.forms)
            if plain.text is None:
                return False
            self._to_words(plain.odd)
            zeros, chunk = plain.zeros(), plain.text
        elif self.slots:
            zeros = Marks(chunk, sep).zeros()
        kinds = [kind if isinstance(kind, str) else NUMBER for kind in self.kinds]
        block = _blocks.of(chunk, sep, kinds, self.text.source.size)
        if block is None:
            return False
        count = max(map(len, block.values()), default=0)
        numbers = np.empty((count, len(self.slots)))
        for place, slot in self.slots.items():
            if is_numeric(self.kinds[place]):
                numbers[:, slot] = block[place]
        if np.isinf(numbers).any():
            return False  # a word such as inf, or too large
        if count != lines and count != self._filled_lines(given):
            return False  # a line that became empty was left out
        if self._has_blank(given, numbers):
            return False
        self._to_words(zeros)
        if pending := self._pending():
            gaps: dict[int, Iterable[str]] = {p: [""] * pending for p in self.codes}
            self._add(np.full((pending, len(self.slots)), np.nan), gaps)
        cells: dict[int, Iterable[str]] = {p: block[p] for p in self.codes}
        if quoted and _quotes.HELD in chunk:
            cells = {p: [word.replace(_quotes.HELD, sep) for word in c] for p, c in cells.items()}
        self._add(numbers, cells)
        if "." in given and (unproven := self._unproven()):
            found, others = Marks(given, sep).points(self.doubtful, unproven)
            self._doubt(found, others)
        self.line += lines
        return True

    def _unproven(self) -> list[int]:
        """The columns of plain numbers whose points may be signs of thousands."""
        return [p for p, sure in self.proven.items() if not sure and self.kinds[p] == NUMBER]

    def _doubt(self, found: dict[int, str], others: Iterable[int]) -> None:
        """Takes in points that may be signs of thousands, and columns with others."""
        self.doubtful = {**found, **self.doubtful}
        for place in others:
            self.proven[place] = True
        self.doubtful = {p: cell for p, cell in self.doubtful.items() if not self.proven[p]}

    def _to_words(self, places: Iterable[int]) -> None:
        """Columns that hold something else are read as words by the next pass."""
        for place in places:
            if is_numeric(self.kinds[place]):
                self.kinds[place] = WORD

    def _has_blank(self, chunk: str, numbers: Floats) -> bool:
        """Whether a row is empty cells; ``numbers`` are those that were read from the chunk."""
        empty = np.ones(len(numbers), bool)
        for place, slot in self.slots.items():
            if is_numeric(self.kinds[place]):
                empty &= np.isnan(numbers[:, slot])
                if not empty.any():
                    return False
        return any(line and is_blank(line.split(self.layout.sep)) for line in _lines(chunk))

    def _filled_lines(self, chunk: str) -> int:
        """How many lines are rows: all where there is one column, whose cell may be empty."""
        lines = _lines(chunk)
        return len(lines) if len(self.kinds) == 1 else sum(map(bool, lines))

    def _slow(self, chunk: str, file: io.TextIOWrapper) -> None:
        """Read cell by cell; records that go over the end of ``chunk`` take lines of ``file``."""
        rows = list(self._records(chunk, file))
        if not rows:
            return
        cells = list(zip(*rows, strict=True))
        numbers = np.full((len(rows), len(self.slots)), np.nan)
        for place, slot in self.slots.items():
            kind = self.kinds[place]
            if is_numeric(kind):
                found = numbers_of(cells[place], kind)
                if found is None:
                    self._to_words([place])
                else:
                    numbers[:, slot] = found
        self._add(numbers, {place: cells[place] for place in self.codes})
        for place in self._unproven():
            pointed = [cell.strip() for cell in cells[place] if "." in cell and PLAIN.search(cell)]
            groups = list(filter(may_have_thousands, pointed))
            self._doubt({place: groups[0]} if groups else {}, [place] * (groups != pointed))

    def _pending(self) -> int:
        """How many rows of empty cells come before the next row, where they are rows."""
        pending, self.pending = self.pending, 0
        if self.text.keeps_blank:
            return pending
        self.blank += pending
        return 0

    def _records(self, chunk: str, file: io.TextIOWrapper) -> Iterator[list[str]]:
        name, width, sep = self.text.source.name, len(self.layout.names), self.layout.sep
        lines = Kept(io.StringIO(chunk), file)
        records = reader(lines, sep)
        count = chunk.count("\n") + (not chunk.endswith("\n"))
        row, before = self.rows, self.line
        try:
            while records.line_num < count:
                lines.taken = []
                cells = next(records, None)
                if cells is None:
                    break
                if is_blank(cells):
                    self.pending += len(cells) == width or width == 1
                    continue
                for _ in range(self._pending()):
                    row += 1
                    yield [""] * width
                row += 1
                if len(cells) != width:
                    note = len(filled(cells)) == 1
                    hint = f"; if it is a title or a note, {CURE_BELOW}" if note else ""
                    raise ValueError(f"row {row} has {len(cells)} cells, expected {width}{hint}")
                if '"' in chunk:
                    check_quotes(cells, lines.taken, width, sep)
                yield cells
        except UnicodeDecodeError:
            raise
        except (csv.Error, ValueError) as error:
            first = before + records.line_num - max(len(lines.taken), 1) + 1
            what = explained(error) if isinstance(error, csv.Error) else error
            raise ValueError(f"{name}: line {first}: {what}") from error
        self.line += records.line_num

    def _add(self, numbers: Floats, cells: dict[int, Iterable[str]]) -> None:
        end = self.rows + len(numbers)
        if end > len(self.matrix):
            done, size = max(self.text.source.done(), 1), self.text.source.size
            guess = int(1.05 * end * size / done) if not self.text.source.packed else 0
            self.matrix.resize((max(guess, end + end // 4), len(self.slots)), refcheck=False)
        self.matrix[self.rows : end] = numbers
        for place, slot in self.slots.items():
            if not self.proven[place]:
                self.proven[place] = has_decimals(numbers[:, slot])
        for place, found in cells.items():
            self.codes[place].add(found, len(numbers))
        self.rows = end


def _lines(chunk: str) -> list[str]:
    return chunk.removesuffix("\n").split("\n")


def _has_long(chunk: str) -> bool:
    """Whether a line may be longer than a cell may be."""
    step = LONGEST_CELL // 2
    places = range(0, len(chunk) - step, step)
    return any(chunk.find("\n", place, place + step) < 0 for place in places)
