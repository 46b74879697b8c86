"""The part of the page on troubleshooting that lists every message, and finds a reader's own."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Sequence

from generate import names
from generate.messages import GROUPS, PLACE, Message, message_of, messages

# docs/static/messages.js compares what a reader pastes with the list, on the reader's machine.
SEARCH = """
<p><label for="said">Paste the message that you have:</label>
<input id="said" type="search" placeholder="AdamW: 'lr' is -1, expected …"></p>
<ol id="nearest"></ol>
<script type="application/json" id="owners">{owners}</script>
<script defer src="_static/messages.js"></script>
"""


def section(cures: Sequence[tuple[str, str]]) -> str:
    """All messages by group; `cures` are (message as printed, anchor of its explanation)."""
    explained = {message_of(said): anchor for said, anchor in reversed(cures)}  # the first counts
    search = SEARCH.strip().format(owners=json.dumps(_owners()))
    parts = ["## Every message", f"```{{raw}} html\n{search}\n```"]
    for title in dict.fromkeys(GROUPS.values()):
        items = [_item(m, explained.get(m)) for m in messages() if m.group == title]
        if items:
            listed = "\n".join(items)
            parts.append(f"### {title}")
            parts.append(f'```{{raw}} html\n<ul class="messages">\n{listed}\n</ul>\n```')
    return "\n\n".join(parts)


def _owners() -> dict[str, str]:
    """How messages begin → the page of the options: "AdamW", "adamw", "nn.init"."""
    found: dict[str, str] = {}
    for name in names.names():
        last = name.short.rpartition(".")[2].rstrip("_")
        found.setdefault(last, f"{name.page}.html#{name.label}")
    return found


def _item(message: Message, cure: str | None) -> str:
    text = re.sub(
        PLACE,
        lambda m: f"<var>{m[0].strip('{}')}</var>",
        html.escape(message.text, False),
    )
    more = f' <a href="#{cure}">what to do</a>' if cure else ""
    return (
        f'<li class="message" id="{message.anchor}"><a class="place" href="#{message.anchor}" '
        f'title="{", ".join(message.sources)}">{", ".join(message.errors)}</a> '
        f'<span class="said">{text}</span>{more}</li>'
    )
