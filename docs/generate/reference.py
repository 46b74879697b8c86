"""The reference: a page for each thing, an index for each kind, and one of all names."""

from __future__ import annotations

import inspect
import pprint
import re
from functools import cache
from pathlib import Path
from typing import Any

from onepass import nn, optim
from onepass.ops._compat import libraries

from generate import accuracy, counterparts, docstrings, figures, names, performance
from generate import libraries as of_libraries
from generate.names import KINDS, Name

ROOT = Path(__file__).resolve().parents[2]
# A sentence that sets the thing against PyTorch, the paper, or other libraries.
COMPARES = re.compile(r"PyTorch|\bpaper\b|Against|Unlike|authors' code|torchvision|Keras")
# An error behind the first one of a line: "TypeError: of another type. ValueError: too large."
MORE_ERRORS = re.compile(r"(?<=\.)\s+(?=[A-Z]\w*(?:Error|Warning)(?:, \w+)*: )")
ARGUMENTS = ("Args", "Attributes")


def write(target: Path) -> None:
    """All pages of the reference."""
    (target / "figures").mkdir(parents=True, exist_ok=True)
    for page, entries in names.pages().items():
        path = target / f"{page}.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(_page(page, entries, target), encoding="utf-8")
    for kind in names.kinds():
        if kind not in names.TOGETHER:
            (target / kind).mkdir(exist_ok=True)
            (target / kind / "index.md").write_text(_index(kind), encoding="utf-8")
    (target / "names.md").write_text(_all_names(), encoding="utf-8")


def _page(page: str, entries: list[Name], target: Path) -> str:
    kind = page.partition("/")[0]
    link = _linker(entries[0])
    parts = [f"# {names.title(page)}"]
    lead = docstrings.parse(inspect.getdoc(_formula_of(kind, entries).value) or "").lead
    if not page.endswith("/all"):
        parts.append(f":::{{container}} lead\n{docstrings.inline(lead, link)}\n:::")
    parts += [_facts(entries)]
    figure = figures.of(kind, entries, target / "figures")
    if figure is not None:
        words = figure.words.replace("`", "")
        parts.append(f"![{words}](../figures/{figure.file})\n\n*{figure.words}*")
    parts += [_differences(kind, entries, link), *(_compat(name) for name in entries)]
    shown = set() if page.endswith("/all") else {lead}
    parts += [_entry(name, shown) for name in entries]
    return "\n\n".join(part for part in parts if part) + "\n"


def _formula_of(kind: str, entries: list[Name]) -> Name:
    """Whose first paragraph has the formula: the function's of ops, else the first."""
    of_ops = [n for n in entries if n.full.startswith("onepass.ops.") and n.short[4].islower()]
    return of_ops[0] if of_ops and kind in ("norms", "losses", "activations") else entries[0]


def _linker(name: Name) -> docstrings.Link:
    package = name.full.rpartition(".")[0]
    near = [names.link(package), names.link("onepass.ops"), names.link("onepass.optim")]

    def find(text: str) -> str | None:
        if not re.fullmatch(r"[\w.]+(\(\))?", text):
            return None
        return next((label for label in (f(text) for f in near) if label), None)

    return find


def _facts(entries: list[Name]) -> str:
    """Where it is to be had, what it costs, and where it was measured."""
    rows: list[tuple[str, str]] = []
    if len(entries) > 1 and not entries[0].page.endswith("/all"):
        links = " ".join(f"[`{name.short}`](#{name.label})" for name in entries)
        rows.append(("Names", links))
    moved = [f"`{name.short}` {_bytes(name)}" for name in entries if _record(name) is not None]
    if moved:
        rows.append(("Bytes read and written an element, float32", ", ".join(moved)))
    kept = _kept(entries[0].value)
    if kept:
        rows.append(("Memory that it keeps", docstrings.inline(kept, lambda _: None)))
    timed = performance.lines_of(entries)
    if timed:
        rows.append(("[Measured](../performance.md)", timed))
    if not rows:
        return ""
    return "\n\n".join(f"{head}\n: {text}" for head, text in rows)


@cache
def _records() -> dict[str, Any]:
    """The records of the tests, which know the fewest bytes that each function can move."""
    return {record.name: record for record in accuracy.records()}


def _record(name: Name) -> Any:
    if not name.full.startswith("onepass.ops."):
        return None
    return _records().get(name.short.removeprefix("ops.").rstrip("_"))


def _bytes(name: Name) -> str:
    return f"{_record(name).bytes(4):.4g}"


def _kept(value: Any) -> str:
    """The sentences of a docstring that say what memory an optimizer keeps."""
    if not (inspect.isclass(value) and issubclass(value, optim.Optimizer)):
        return ""
    text = " ".join((inspect.getdoc(value) or "").split())
    found = re.findall(r"(?:Keeps|It keeps|keeps)\b[^.]*?\bbytes?\b[^.]*(?=\.)", text)
    return f"{found[0][0].upper()}{found[0][1:]}." if found else ""


def _differences(kind: str, entries: list[Name], link: docstrings.Link) -> str:
    """What the docstrings say of PyTorch and of the paper, once, behind what signatures say."""
    found: list[str] = []
    for name in entries:
        parsed = docstrings.parse(inspect.getdoc(name.value) or "")
        for paragraph in [parsed.lead, *parsed.prose]:
            if paragraph.lstrip().startswith((">>>", "- ")):
                continue
            for sentence in re.split(r"(?<=[.:])\s+(?=[A-Z`])", " ".join(paragraph.split())):
                if COMPARES.search(sentence) and sentence not in found:
                    found.append(sentence)
    beside = counterparts.said(kind, entries)
    if beside and not (beside == counterparts.NONE and found):
        found.insert(0, beside)
    if not found:
        return ""
    lines = "\n".join(f"- {docstrings.inline(sentence, link)}" for sentence in found)
    return f":::{{admonition}} Beside PyTorch and the paper\n{lines}\n:::"


def _compat(name: Name) -> str:
    """The table of ``compat=`` of an optimizer's class."""
    rule = getattr(name.value, "_rule", None)
    if rule is None or "compat" not in inspect.signature(name.value).parameters:
        return ""
    kernel = name.short.rpartition(".")[2].lower()
    if set(libraries(kernel)) == {"torch"}:
        return ""
    rows = of_libraries.rows_of(kernel)[1:]  # without PyTorch, with which they are compared
    return "**As other libraries have it**, with `compat=`\n\n" + of_libraries.table(
        ("library", "defaults that differ", "formula"), rows
    )


def _entry(name: Name, shown: set[str]) -> str:
    """One name: how it is called, and its docstring, without what the page has above."""
    link = _linker(name)
    parts = [f"({name.label})=\n## `{name.short}`"]
    first = next(other for other in names.names() if other.value is name.value)
    if first is not name:
        return f"{parts[0]}\n\nThe same as [`{first.short}`](#{first.label})."
    if not callable(name.value):
        return f"{parts[0]}\n\n```python\n{pprint.pformat(name.value, width=88)}\n```"
    if name.value.__module__.startswith("torch."):
        return f"{parts[0]}\n\nPyTorch's own class."
    parsed = docstrings.parse(inspect.getdoc(name.value) or "")
    call = docstrings.signature(name.short.rpartition(".")[2], name.value)
    if call:
        parts.append(f"```python\n{call}\n```")
    for paragraph in [parsed.lead, *parsed.prose]:
        if paragraph not in shown:
            parts.append(docstrings.markdown(paragraph, link))
    shown |= {parsed.lead, *(parsed.prose if name.full.startswith("onepass.optim.") else ())}
    for section, body in parsed.sections.items():
        parts.append(_section(section, body, name, link))
    if inspect.isclass(name.value):
        parts += _methods(name, link)
    return "\n\n".join(part for part in parts if part)


def _options_of_counterpart(name: Name) -> tuple[Name | None, dict[str, str]]:
    """What a name of the PyTorch front shares with its counterpart: option → description."""
    plain = name.full.replace("onepass.torch.", "onepass.") if name.is_front else ""
    other = next((other for other in names.names() if other.full == plain), None)
    if other is None:
        return None, {}
    described = docstrings.arguments(inspect.getdoc(other.value) or "")
    mine, theirs = _defaults(name.value), _defaults(other.value)
    return other, {k: v for k, v in described.items() if mine.get(k) == theirs.get(k)}


def _section(section: str, body: str, name: Name, link: docstrings.Link) -> str:
    if section == "Example":
        return f"**Example**\n\n{docstrings.markdown(body, link)}"
    if section in ARGUMENTS or (section == "Raises" and re.match(r"[\w, .]+: ", body)):
        defaults = _defaults(name.value) if section == "Args" else {}
        other, same = _options_of_counterpart(name) if section == "Args" else (None, {})
        rows = []
        body = MORE_ERRORS.sub("\n", body)
        for heads, said in docstrings.entries(body):
            if all(same.get(head.strip().lstrip("*")) == said for head in heads.split(",")):
                continue
            terms = [f"`{head.strip()}`" + defaults.get(head.strip(), "")
                     for head in heads.split(",")]  # fmt: skip
            rows.append(f"{', '.join(terms)}\n: {docstrings.inline(said, link)}")
        title = {"Args": "Options", "Attributes": "Attributes", "Raises": "Errors"}[section]
        if other is not None and same:
            title += f" beside those of [`{other.short}`](#{other.label})"
        return f"**{title}**\n\n" + "\n\n".join(rows) if rows else ""
    return f"**{section}** {docstrings.markdown(body, link)}"


def _defaults(value: Any) -> dict[str, str]:
    try:
        parameters = inspect.signature(value).parameters.values()
    except (TypeError, ValueError):
        return {}
    return {
        p.name: f" = `{docstrings.default_of(p)}`" for p in parameters if p.default is not p.empty
    }


def _methods(name: Name, link: docstrings.Link) -> list[str]:
    """The public methods that a class defines itself, or that only its private bases do."""
    parts = []
    for method, value in inspect.getmembers(name.value):
        if method.startswith("_") or not (inspect.isfunction(value) or inspect.ismethod(value)):
            continue
        text = value.__doc__ if name.is_front else inspect.getdoc(value)  # not that of PyTorch
        if not text or not _is_own(name.value, method):
            continue
        parsed = docstrings.parse(inspect.cleandoc(text))
        parts.append(f"### `{method}`")
        on = f"{name.value.__name__}." if inspect.ismethod(value) else ""  # of a class
        parts.append(f"```python\n{docstrings.signature(f'{on}{method}', value)}\n```")
        parts += [docstrings.markdown(p, link) for p in [parsed.lead, *parsed.prose]]
        own = Name(f"{name.short}.{method}", name.full, value, name.page, name.label)
        parts += [_section(s, body, own, link) for s, body in parsed.sections.items()]
    return parts


BASES = ("Optimizer", "LRScheduler", "Callback", "Regularizer", "Transform", "dict")


def _is_own(cls: type, method: str) -> bool:
    """Whether the first class that defines it is not a base that has a page of its own."""
    if issubclass(cls, nn.Module) and cls is not nn.Module:
        return method in vars(cls) and not hasattr(nn.Module, method)
    owner = next(base for base in cls.__mro__ if method in vars(base))
    if owner.__module__.startswith("torch."):
        return False
    return owner is cls or owner.__name__ not in BASES


def _index(kind: str) -> str:
    title, said = KINDS[kind]
    pages = sorted((p for p in names.pages() if p.startswith(f"{kind}/")), key=names.title)
    pages.sort(key=lambda page: names.title(page).lower())
    rows = []
    for page in pages:
        entries = names.pages()[page]
        lead = docstrings.parse(inspect.getdoc(_formula_of(kind, entries).value) or "").lead
        sentence = re.split(r"(?<=[.;])\s", " ".join(lead.split()))[0].rstrip(".;:") + "."
        stem = page.partition("/")[2]
        rows.append(f"[{names.title(page)}]({stem}.md)\n: "
                    f"{docstrings.inline(sentence, lambda _: None)}")  # fmt: skip
    listed = "\n".join(page.partition("/")[2] for page in pages)
    overview = figures.overview(kind)
    image = f"![{overview.words}](../figures/{overview.file})\n\n" if overview else ""
    return (
        f"# {title}\n\n{said[0].upper()}{said[1:]}.\n\n{image}"
        + "\n\n".join([*rows, *(_front() if kind == "torch" else ())])
        + f"\n\n```{{toctree}}\n:hidden:\n\n{listed}\n```\n"
    )


def links() -> str:
    """Of the home page: what there is to look up."""
    shown = [f"[{KINDS[kind][0]}]({names.index_of(kind)}.md)" for kind in names.kinds()]
    return " · ".join([*shown, "[all names](names.md)"])


def contents() -> str:
    """The part of the navigation that has the reference."""
    listed = "\n".join([*map(names.index_of, names.kinds()), "names"])
    return f"```{{toctree}}\n:hidden:\n:caption: Reference\n\n{listed}\n```"


def _front() -> list[str]:
    """What the packages of the PyTorch front say of themselves, and links to their names."""
    found = [package for package in names.packages() if package.__name__ in names.FRONT]
    if not found:
        return ["This site was built without PyTorch, so the names of `onepass.torch` are missing."]
    parts = []
    for package in found:
        mine = [n for n in names.names() if n.full.rpartition(".")[0] == package.__name__]
        parsed = docstrings.parse(inspect.getdoc(package) or "")
        link = _linker(mine[0])
        parts.append(f"## {package.__name__}")
        parts += [docstrings.markdown(text, link) for text in [parsed.lead, *parsed.prose]]
        mine.sort(key=lambda name: name.short.lower())
        parts.append(" · ".join(f"[`{n.short.rpartition('.')[2]}`](#{n.label})" for n in mine))
    return parts


def _all_names() -> str:
    """Every public name with a link, by package."""
    parts = ["# All names"]
    packages: dict[str, list[Name]] = {}
    for name in names.names():
        packages.setdefault(name.full.rpartition(".")[0], []).append(name)
    for package, found in packages.items():
        found.sort(key=lambda name: name.short.lower())
        links = " · ".join(f"[`{n.short.rpartition('.')[2]}`](#{n.label})" for n in found)
        parts.append(f"## {package}\n\n{links}")
    return "\n\n".join(parts) + "\n"
