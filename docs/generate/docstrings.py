"""A docstring as Markdown: its sections, links to other pages, and what it says of arguments."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any

SECTION = re.compile(r"(Args|Attributes|Returns|Raises|Yields|Source|Example):(?: (.*))?$")
ENTRY = re.compile(r"^(?=\*{0,2}[\w.]+(?:, \*{0,2}[\w.]+)*: )", re.M)
ROLE = re.compile(r":(?:func|class|meth|mod|attr):`~?([^`]+)`")
SPAN = re.compile(r"(``.+?``|`[^`]+`)", re.S)
Link = Callable[[str], "str | None"]  # a name as docstrings write it → the label of its place


@dataclasses.dataclass
class Docstring:
    """Its parts, in the order of the text.

    Attributes:
        lead: the first paragraph, which has the formula where there is one.
        prose: the other paragraphs, also those behind a section.
        sections: title → text without its indentation.
    """

    lead: str
    prose: list[str]
    sections: dict[str, str]


def parse(text: str) -> Docstring:
    """The parts of a docstring; sections are those of Google's style, and ``Source: …``."""
    prose: list[str] = []
    sections: dict[str, str] = {}
    for block in _blocks(text.splitlines()):
        found = SECTION.match(block[0])
        if found is None:
            prose.append("\n".join(block))
            continue
        rest = inspect.cleandoc("\n".join(["", *block[1:]]))
        said = f"{found[2]}\n{rest}".strip() if found[2] else rest
        sections[found[1]] = f"{sections[found[1]]}\n{said}" if found[1] in sections else said
    return Docstring(prose[0] if prose else "", prose[1:], sections)


def _blocks(lines: list[str]) -> Iterator[list[str]]:
    """Paragraphs; a section goes on over blank lines as long as what follows is indented."""
    block: list[str] = []
    for line in lines:
        titled = block and SECTION.match(block[0]) is not None
        indented = line.startswith(" ")
        if titled and block[-1] == "" and line and not indented:
            yield [*block]
            block = []
        elif (not titled and not line and block) or (not titled and block and SECTION.match(line)):
            yield block
            block = []
        if line or block:
            block.append(line)
    if block:
        yield block


def arguments(text: str, section: str = "Args") -> dict[str, str]:
    """Name → description, of the arguments of a docstring."""
    described: dict[str, str] = {}
    for names, rest in entries(parse(text).sections.get(section, "")):
        described |= {name.strip().lstrip("*"): rest for name in names.split(",")}
    return described


def entries(text: str) -> list[tuple[str, str]]:
    """(names, description) of a section whose lines are ``names: description``."""
    found = []
    for entry in ENTRY.split(text)[1:]:
        names, _, rest = " ".join(entry.split()).partition(": ")
        found.append((names, rest))
    return found


def markdown(text: str, link: Link) -> str:
    """Paragraphs, lists, examples and formulas of a docstring as Markdown."""
    parts = []
    for part in re.split(r"\n\s*\n", text):
        if part.lstrip().startswith(">>>"):
            parts.append(f"```pycon\n{inspect.cleandoc(part)}\n```")
        elif part.startswith("    "):
            parts.append(f"```text\n{inspect.cleandoc(part)}\n```")
        else:
            parts.append(inline(part.removesuffix("::") + ":" * part.endswith("::"), link))
    return "\n\n".join(parts)


def inline(text: str, link: Link) -> str:
    """Names in backticks become links where they have a page; other signs lose their meaning."""
    text = ROLE.sub(r"`\1`", text)
    parts = SPAN.split(text)
    for i, part in enumerate(parts):
        if i % 2 == 0:
            parts[i] = re.sub(r"([\\*_<>\[\]|#~$])", r"\\\1", part).replace("\\>\\=", "\\>=")
            parts[i] = re.sub(r"^(\s*)(\d+)\.", r"\1\2\\.", parts[i], flags=re.M)
        else:
            name = " ".join(part.strip("`").split())
            label = link(name)
            parts[i] = f"`{name}`" if label is None else f"[`{name}`](#{label})"
    return "".join(parts)


def signature(name: str, value: Callable[..., Any], width: int = 88) -> str:
    """How it is called, without annotations, on lines of at most `width`; "" if it cannot be."""
    try:
        parameters = list(inspect.signature(value).parameters.values())
    except ValueError:  # an exception, or a tuple: nobody calls it
        return ""
    if parameters and parameters[0].name in ("self", "cls"):
        parameters = parameters[1:]
    parts, starred = [], False
    for parameter in parameters:
        starred |= parameter.kind is parameter.VAR_POSITIONAL
        if parameter.kind is parameter.KEYWORD_ONLY and not starred:
            parts.append("*")
            starred = True
        stars = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}
        text = stars.get(parameter.kind, "") + parameter.name
        if parameter.default is not parameter.empty:
            text += f"={default_of(parameter)}"
        parts.append(text)
    lines = [f"{name}("]
    for i, part in enumerate(parts):
        part += ")" if i == len(parts) - 1 else ", "
        if len(lines[-1]) + len(part.rstrip()) > width:
            lines[-1] = lines[-1].rstrip()
            lines.append(" " * (len(name) + 1))
        lines[-1] += part
    return "\n".join(lines) if parts else f"{name}()"


def default_of(parameter: inspect.Parameter) -> str:
    """The default as a reader would write it."""
    value = parameter.default
    return getattr(value, "__qualname__", None) or repr(value)


def slug(heading: str) -> str:
    """The anchor of a heading, as Sphinx and GitHub make it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
