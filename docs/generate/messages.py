"""Every error message of the sources, so that a reader who has one finds its place.

Python's are found in the syntax tree, those of C++ in the text of the calls that raise them. What
stands for a value is ``…`` or the name of the variable in braces.
"""

from __future__ import annotations

import ast
import html
import re
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
# The folder of a source → the title of its group, and what a reader of a message knows it by.
GROUPS = {
    "bind": "Arrays and options, as kernels check them",
    "ops": "onepass.ops", "optim": "onepass.optim", "nn": "onepass.nn", "data": "onepass.data",
    "train": "onepass.train", "runs": "onepass.runs and the command line",
    "cli": "onepass.runs and the command line", "torch": "onepass.torch", "lab": "onepass.lab",
    "bench": "onepass.bench",
    "": "Numbers, words, paths, threads: in every part",
}  # fmt: skip
RAISES_CPP = re.compile(r"\b(value_error|type_error|index_error|runtime_error)\s*\(")
LITERAL_CPP = re.compile(r'"((?:[^"\\]|\\.)*)"')
# Functions that make an error of a text, or a warning.
MAKERS = {"warn": "warning", "refuse": "ValueError", "fail": "error"}
TEXTS = (ast.Constant, ast.JoinedStr, ast.BinOp)
PLACE = re.compile(r"\{[^{}]*\}|…")  # of a value
SHORT = 2  # words that a message needs to be worth an entry


class Message(NamedTuple):
    """A message as its source builds it.

    Attributes:
        error: the class, such as ValueError, or "warning".
        text: with ``{name}`` or ``…`` in the place of each value.
        source: file and line.
        group: the title that it stands under.
        anchor: of its place on the page.
    """

    error: str
    text: str
    source: str
    group: str
    anchor: str

    def matches(self, said: str) -> bool:
        """Whether `said` can be this message with its values."""
        parts = PLACE.split(self.text)
        return re.fullmatch(".*?".join(map(re.escape, parts)), said, re.S) is not None


@cache
def messages() -> tuple[Message, ...]:
    """All of them, each once."""
    found: list[Message] = []
    taken: dict[str, int] = {}
    known: set[tuple[str, str]] = set()
    for error, text, path, line in [*_of_python(), *_of_cpp()]:
        if len(re.findall(r"[A-Za-z']{2,}", re.sub(r"\{[^{}]*\}", "", text))) < SHORT:
            continue
        if (error, text) in known:
            continue
        known.add((error, text))
        words = re.findall(r"[a-z0-9_]+", re.sub(r"\{[^{}]*\}", " ", text).lower())
        slug = "-".join(["e", *words[:8]])
        taken[slug] = taken.get(slug, 0) + 1
        anchor = slug if taken[slug] == 1 else f"{slug}-{taken[slug]}"
        place = path.relative_to(ROOT)
        group = GROUPS[place.parts[1] if place.parts[0] == "csrc" else _package(place)]
        found.append(Message(error, text, f"{place.as_posix()}:{line}", group, anchor))
    return tuple(found)


def _package(place: Path) -> str:
    return place.parts[2] if len(place.parts) > 3 else ""


def _of_python() -> Iterator[tuple[str, str, Path, int]]:
    for path in sorted((ROOT / "python" / "onepass").rglob("*.py")):
        for call, inside in _calls(ast.parse(path.read_text(encoding="utf-8")), ()):
            name = _name_of(call.func)
            if name.endswith("Error") or name in MAKERS:
                texts = [a for a in call.args if isinstance(a, TEXTS)][:1] or call.args[:1]
                for text in texts:
                    words = " ".join(_template(text, inside).split())
                    yield MAKERS.get(name, name), words, path, call.lineno


def _calls(node: ast.AST, inside: tuple[ast.AST, ...]) -> Iterator[tuple[Any, Any]]:
    """Each call, with the functions that it stands in, the innermost first."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Call):
            yield child, inside
        within = (child, *inside) if isinstance(child, ast.FunctionDef) else inside
        yield from _calls(child, within)


def _name_of(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def _template(node: ast.AST, inside: Sequence[ast.AST], depth: int = 2) -> str:
    """The text of an expression that makes a message."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(_template(part, inside, depth) for part in node.values)
    if isinstance(node, ast.FormattedValue):
        return _template(node.value, inside, depth)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _template(node.left, inside, depth) + _template(node.right, inside, depth)
    if isinstance(node, ast.Name):
        made = _assigned(node.id, inside) if depth else None
        return f"{{{node.id}}}" if made is None else _template(made, inside, depth - 1)
    if isinstance(node, ast.Attribute):
        return f"{{{node.attr}}}"
    return "…"


def _assigned(name: str, inside: Sequence[ast.AST]) -> ast.AST | None:
    """The one text that a function assigns to the name, or None."""
    for function in inside:
        values = [
            node.value
            for node in ast.walk(function)
            if isinstance(node, ast.Assign)
            and any(isinstance(t, ast.Name) and t.id == name for t in node.targets)
        ]
        if len(values) == 1 and isinstance(values[0], (ast.JoinedStr, ast.Constant, ast.BinOp)):
            return values[0]
        if values:
            return None
    return None


def _of_cpp() -> Iterator[tuple[str, str, Path, int]]:
    errors = {"value_error": "ValueError", "type_error": "TypeError",
              "index_error": "IndexError", "runtime_error": "RuntimeError"}  # fmt: skip
    for path in sorted((ROOT / "csrc" / "bind").iterdir()):
        source = path.read_text(encoding="utf-8")
        for found in RAISES_CPP.finditer(source):
            call = _call(source, found.end() - 1)
            if not LITERAL_CPP.search(call):
                continue
            line = source.count("\n", 0, found.start()) + 1
            yield errors[found[1]], _text_of_cpp(call), path, line


def _call(source: str, start: int) -> str:
    """From one parenthesis to the one that closes it."""
    depth, inside = 0, False
    for at in range(start, len(source)):
        sign = source[at]
        if sign == '"' and source[at - 1] != "\\":
            inside = not inside
        depth += 0 if inside else (sign == "(") - (sign == ")")
        if depth == 0:
            return source[start : at + 1]
    return source[start:]


def _text_of_cpp(call: str) -> str:
    """The literals of a call, with … for what is between them."""
    literals = list(LITERAL_CPP.finditer(call))
    _, comma, rest = call[1 : literals[0].start()].partition(",")
    text = "…" if not comma else f"{{op}}: {'…' if rest.strip() else ''}"
    for before, literal in zip([None, *literals], literals, strict=False):
        between = call[before.end() if before else 0 : literal.start()]
        if before is not None and between.strip():
            text += "…"
        text += literal[1].replace('\\"', '"').replace("\\n", " ")
    tail = call[literals[-1].end() : -1]
    return " ".join((text + ("…" if "+" in tail else "")).split())


# What a reader pastes is compared with the words of every message, on the reader's machine.
SCRIPT = """
<p><label for="said">Paste the message that you have:</label>
<input id="said" type="search" placeholder="AdamW: 'lr' is -1, expected …"></p>
<ol id="nearest"></ol>
<script>
(function () {
  var words = function (text) { return text.toLowerCase().match(/[a-z_]{2,}/g) || []; };
  var all = null;  // the messages stand below: they are read when somebody begins to type
  var read = function () {
    return Array.prototype.map.call(document.querySelectorAll("li.message"), function (item) {
      var said = item.querySelector(".said").cloneNode(true);
      said.querySelectorAll("var").forEach(function (value) { value.remove(); });
      return { item: item, words: words(said.textContent) };
    });
  };
  document.getElementById("said").addEventListener("input", function () {
    var said = new Set(words(this.value)), list = document.getElementById("nearest");
    list.textContent = "";
    if (said.size < 2) return;
    all = all || read();
    var near = all.map(function (one) {
      var common = one.words.filter(function (word) { return said.has(word); }).length;
      return { item: one.item, fit: common / Math.sqrt(one.words.length * said.size) };
    });
    near.sort(function (a, b) { return b.fit - a.fit; });
    near.slice(0, 5).forEach(function (one) {
      if (one.fit < 0.3) return;
      var copy = one.item.cloneNode(true);
      copy.removeAttribute("id");
      list.appendChild(copy);
    });
  });
})();
</script>
"""


def section(cures: Sequence[tuple[str, str]]) -> str:
    """All messages by group; `cures` are (message as printed, anchor of its explanation)."""
    explained = {message_of(said): anchor for said, anchor in reversed(cures)}  # the first counts
    parts = ["## Every message", f"```{{raw}} html\n{SCRIPT.strip()}\n```"]
    for title in dict.fromkeys(GROUPS.values()):
        items = [_item(m, explained.get(m)) for m in messages() if m.group == title]
        if items:
            listed = "\n".join(items)
            parts.append(f"### {title}")
            parts.append(f'```{{raw}} html\n<ul class="messages">\n{listed}\n</ul>\n```')
    return "\n\n".join(parts)


def message_of(said: str) -> Message | None:
    """The message that a program has printed: of those that fit, the one of most words."""
    fitting = [message for message in messages() if message.matches(said)]
    return max(fitting, key=lambda message: len(PLACE.sub("", message.text)), default=None)


def _item(message: Message, cure: str | None) -> str:
    text = re.sub(
        PLACE,
        lambda m: f"<var>{m[0].strip('{}')}</var>",
        html.escape(message.text, False),
    )
    more = f' <a href="#{cure}">what to do</a>' if cure else ""
    return (
        f'<li class="message" id="{message.anchor}"><a class="place" href="#{message.anchor}" '
        f'title="{message.source}">{message.error}</a> <span class="said">{text}</span>{more}</li>'
    )
