"""Reads the text of a table from a file (compressed or not), standard input or an open file."""

from __future__ import annotations

import codecs
import gzip
import io
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from onepass._paths import expanded
from onepass.data._cells import shown

MARKS = (  # the longer first: UTF-32's begins as UTF-16's
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
PACKED = b"\x1f\x8b"
OTHER_FILES = {
    b"PK\x03\x04": "a zip archive or an Excel file; unpack it, or name it .xlsx",
    b"\xd0\xcf\x11\xe0": "an old Excel file; save it as .xlsx or CSV",
    b"PAR1": "a Parquet file; name it .parquet",
    b"\x93NUM": "an array of NumPy; save it as .npz with X and y",
    b"BZh": "packed by bzip2; unpack it",
    b"\xfd7zX": "packed by xz; unpack it",
    b"%PDF-": "a PDF; save its table as CSV",
    b"SQLite format 3": "a database of SQLite; save a table of it as CSV",
}
OTHER_TEXT = {
    rb"<(!doctype )?html": "a web page, HTML, and no table; download the file itself",
    rb"<\?xml": "XML; save it as .xlsx or CSV",
    rb"\[\s*[\[{]|\{\s*\"": "JSON; save it as CSV, such as by pandas' read_json and to_csv",
}
BEGINNING = 256  # bytes that show what a file is


class Source:
    """Text that can be read from its start any number of times.

    Attributes:
        name: what messages call it.
        stem: the name without folder and endings.
        ending: the last ending, in lower case, without ``.gz``.
        size: its bytes, packed as they may be.
    """

    def __init__(self, given: Any, encoding: str | None = None) -> None:
        self._bytes: bytes | None = None
        self._path = Path()
        if hasattr(given, "read"):
            self.name = str(getattr(given, "name", "the table"))
            self._bytes = _contents(given)
        elif str(given) == "-":
            self.name = "standard input"
            if sys.stdin is None:
                raise ValueError("read_table: there is no standard input")
            self._bytes = _contents(getattr(sys.stdin, "buffer", sys.stdin))
        else:
            self._path = expanded(given, "read_table: 'source'")
            self.name = str(self._path)
            if not self._path.is_file():
                what = "is a folder" if self._path.is_dir() else "no such file"
                raise FileNotFoundError(f"{what}: {self._path}")
        named = Path(self.name)
        if named.suffix.lower() == ".gz":
            named = named.with_suffix("")
        self.stem, self.ending = named.stem, named.suffix.lower()
        self.size = self._path.stat().st_size if self._bytes is None else len(self._bytes)
        self.packed, self.encoding = self._kind(encoding)
        self._raw: BinaryIO | None = None

    def _kind(self, encoding: str | None) -> tuple[bool, str]:
        """Whether it is packed, and its encoding."""
        with self._binary() as raw:
            first = raw.read(BEGINNING)
        packed = first.startswith(PACKED)
        if packed:
            with self._binary() as raw, _damage(self.name), gzip.GzipFile(fileobj=raw) as inner:
                first = inner.read(BEGINNING)
        self._refuse_others(first, packed)
        marked = next((name for mark, name in MARKS if first.startswith(mark)), None)
        if encoding is not None:
            try:
                "".encode(encoding)
            except (LookupError, TypeError, UnicodeError):
                raise ValueError(
                    f"read_table: 'encoding' is {encoding!r}, expected the name of a text encoding,"
                    " such as 'utf-8', 'latin-1', 'cp1252' or 'utf-16'"
                ) from None
        if marked is None and encoding is None and b"\0" in first[:4]:
            order = "be" if first.startswith(b"\0") else "le"
            raise ValueError(
                f"{self.name}: not UTF-8 text, but perhaps UTF-16 without a byte-order mark; pass "
                f"encoding='utf-16-{order}' (--encoding utf-16-{order})"
            )
        return packed, marked or encoding or "utf-8"

    def _refuse_others(self, first: bytes, packed: bool) -> None:
        """Refuses files of other kinds by their beginning, with the cure."""
        if packed and first.startswith(PACKED):
            raise ValueError(f"{self.name} is packed twice; unpack it")
        for begin, what in OTHER_FILES.items():
            if first.startswith(begin):
                raise ValueError(f"{self.name} is {what}")
        text = first.removeprefix(codecs.BOM_UTF8).lstrip()
        for pattern, what in OTHER_TEXT.items():
            if re.match(pattern, text, re.IGNORECASE):
                raise ValueError(f"{self.name} is {what}")

    @contextmanager
    def open(self, errors: str = "strict") -> Iterator[io.TextIOWrapper]:
        """The text from its start; every kind of line end is ``\\n``."""
        with self._binary() as raw, _damage(self.name):
            self._raw = raw
            unpacked: Any = gzip.GzipFile(fileobj=raw) if self.packed else raw
            with io.TextIOWrapper(unpacked, self.encoding, errors, newline=None) as text:
                yield text

    def undecoded(self) -> str:
        """Where the text is not in its encoding, and the cure."""
        named = self.encoding.upper()
        wide = named.replace("_", "-").startswith(("UTF-16", "UTF-32"))
        odd = "[\ufffd]" if wide else "[\udc80-\udcff]"  # what stands for bytes that are not text
        where = ""
        try:
            with self.open("replace" if wide else "surrogateescape") as file:
                for number, line in enumerate(file, 1):
                    if re.search(odd, line):
                        cell = cell_with(odd, line.rstrip("\n")).encode("utf-8", "surrogateescape")
                        seen = cell.decode("utf-8", "backslashreplace")
                        where = f" line {number}: {shown(seen).replace(chr(92) * 2, chr(92))} is"
                        break
        except UnicodeError:
            return (
                f": not {named} text, there is no byte-order mark; pass encoding='utf-16-le' or "
                "'utf-16-be' (--encoding utf-16-le)"
            )
        return (
            f":{where} not {named} text; save it as UTF-8, or pass encoding= (--encoding): "
            "'latin-1', 'cp1252', 'utf-16', …"
        )

    def done(self) -> int:
        """How many of ``size`` bytes have been read since the last ``open``."""
        return self._raw.tell() if self._raw is not None and not self._raw.closed else self.size

    def _binary(self) -> BinaryIO:
        return self._path.open("rb") if self._bytes is None else io.BytesIO(self._bytes)


def cell_with(odd: str, line: str) -> str:
    """The cell of a line that has a character of the class ``odd``, whatever the separator."""
    found = re.search(rf"[^,;|\t\"]*{odd}[^,;|\t\"]*", line)
    return found[0].strip() if found else line


def _contents(file: Any) -> bytes:
    contents = file.read()
    return contents.encode() if isinstance(contents, str) else bytes(contents)


@contextmanager
def _damage(name: str) -> Iterator[None]:
    """Errors of a packed file as ValueError."""
    import zlib

    try:
        yield
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{name}: damaged or cut short: {error}") from error


class Kept:
    """Lines one after another; ``taken`` has those since it was emptied last."""

    def __init__(self, *lines: Iterable[str]) -> None:
        self.lines = (line for part in lines for line in part)
        self.taken: list[str] = []

    def __iter__(self) -> Kept:
        return self

    def __next__(self) -> str:
        self.taken.append(next(self.lines))
        return self.taken[-1]
