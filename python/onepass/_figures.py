"""Matplotlib's figures, which is imported where one is drawn, with letters of any script."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager
from functools import cache
from pathlib import Path
from typing import Any

from onepass._files import replacing
from onepass._paths import expanded
from onepass._quiet import ProcessSetting
from onepass._text import JOINERS

# Asked first where the usual font lacks a letter: they have many of one style.
FONTS = ("Noto Sans", "Noto Sans CJK JP", "Noto Sans CJK SC", "Noto Sans Arabic",
         "Noto Sans Devanagari", "WenQuanYi Micro Hei", "Microsoft YaHei", "PingFang SC",
         "Hiragino Sans", "Arial Unicode MS", "Segoe UI")  # fmt: skip
NO_OUTLINES = ("Emoji", "LastResort", "Last Resort")  # colours, or boxes for every letter
INSTEAD = "?"
KINDS = ("png", "svg", "pdf", "jpg", "webp")
MOST_SHOWN = 5  # letters in a warning
_told: set[str] = set()


def new_figure(width: float, height: float = 4) -> Any:
    """A Matplotlib figure of its own, outside pyplot's global state."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("plot: needs Matplotlib: pip install matplotlib") from error
    return Figure(figsize=(width, height), layout="constrained")


def save_figure(figure: Any, path: str | Path) -> bytes:
    """Write the figure, making the folder where it is missing; returns the file's content.

    Its texts get fonts that have their letters, as far as Matplotlib knows any.
    """
    target = expanded(path)
    kind, known = target.suffix[1:].lower(), figure.canvas.get_supported_filetypes()
    if kind and kind not in known:
        raise ValueError(
            f"plot: 'path' is {str(path)!r}, expected a name that ends in "
            f"{', '.join(f'.{k}' for k in KINDS if k in known)} or another format of Matplotlib"
        )
    image = io.BytesIO()
    with _without_notes_on_weights():
        _set_fonts(figure)
        figure.savefig(image, format=target.suffix[1:] or None, dpi=120)
    with replacing(target, "picture") as file:
        file.write(image.getvalue())
    return image.getvalue()


def _kept_filters() -> Callable[[], object]:
    return lambda: _logger.removeFilter(_is_worth_it)


def _is_worth_it(record: logging.LogRecord) -> bool:
    """Whether it is more than that a family has one weight, and that one is taken."""
    return not record.getMessage().startswith("findfont: Failed to find font weight")


_logger = logging.getLogger("matplotlib.font_manager")
_filters = ProcessSetting(_kept_filters)


def _without_notes_on_weights() -> AbstractContextManager[None]:
    """Without lines on standard error for each family that is looked at for its letters."""
    return _filters.changed(lambda: _logger.addFilter(_is_worth_it))


def drawable(names: Mapping[int, str], what: str) -> list[str]:
    """Names as a picture can show them; one with a letter that no font has by its number.

    Args:
        names: by number, from 0.
        what: they are names of, such as "class": "class 3" is number 2.
    """
    with _without_notes_on_weights():
        lacking = fonts_for("".join(names.values()))[1]
    if lacking:
        _warn(lacking, f"'{what} 1' and the like")
    return [f"{what} {i + 1}" if lacking & {*name} else name for i, name in names.items()]


def fonts_for(text: str) -> tuple[list[str], set[str]]:
    """Families that together have the letters of a text, and those letters that none has.

    The families are those that Matplotlib is set to use, and behind them as few as are needed.
    """
    import matplotlib

    families: list[str] = list(matplotlib.rcParams["font.family"])
    lacking = {letter for letter in text if not letter.isascii()}
    for name in (*families, *_others()) if lacking else ():
        found = {letter for letter in lacking if ord(letter) in _letters(name)}
        if found and name not in families:
            families.append(name)
        lacking -= found
        if not lacking:
            break
    return families, lacking


def _others() -> Iterator[str]:
    """The families that Matplotlib has found, the likely ones first."""
    from matplotlib import font_manager

    there = {entry.name for entry in font_manager.fontManager.ttflist}
    yield from (name for name in FONTS if name in there)
    for name in sorted(there - {*FONTS}):
        if not any(word in name for word in NO_OUTLINES):
            yield name


@cache
def _letters(family: str) -> Collection[int]:
    """The code points that a family has glyphs for; none where it is not there."""
    from matplotlib import font_manager
    from matplotlib.ft2font import FT2Font

    try:
        of = font_manager.FontProperties(family=[family])
        path = font_manager.findfont(of, fallback_to_default=False)
        return frozenset(FT2Font(path).get_charmap())
    except (ValueError, OSError, RuntimeError):  # not found, not read, not a font
        return frozenset()


def _set_fonts(figure: Any) -> None:
    """Fonts for all texts of a figure; letters that none has are marks."""
    from matplotlib.text import Text

    texts: list[Any] = [t for t in figure.findobj(Text) if not t.get_text().isascii()]
    plain = [t for t in texts if "$" not in t.get_text() or not t.get_parse_math()]
    if not plain:
        return
    families, lacking = fonts_for("".join(text.get_text() for text in plain))
    for text in figure.findobj(Text):
        text.set_fontfamily(families)
    if not lacking:
        return
    _warn(lacking, repr(INSTEAD))
    instead = {ord(letter): "" if letter in JOINERS else INSTEAD for letter in lacking}
    for text in plain:
        text.set_text(text.get_text().translate(instead))


def _warn(letters: set[str], shown: str) -> None:
    """Of letters that nobody has been warned of yet."""
    if not (new := sorted(letters - _told)):
        return
    _told.update(new)
    some = ", ".join(new[:MOST_SHOWN]) + ", …" * (len(new) > MOST_SHOWN)
    warnings.warn(
        f"the picture shows {shown} instead of {some}: no font that Matplotlib knows has these "
        "letters; install one, such as Noto Sans CJK or Noto Sans of the script (Debian: "
        "fonts-noto-cjk, fonts-noto-core), and delete the file fontlist-*.json in Matplotlib's "
        "cache (matplotlib.get_cachedir())",
        RuntimeWarning,
        stacklevel=4,
    )
