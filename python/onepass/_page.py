"""The frame of every HTML page: one file, light and dark, on paper too, without a network."""

from __future__ import annotations

import base64
import hashlib
import html
import json
from pathlib import Path
from typing import Any

# Nothing from elsewhere, and no script but the page's own, whatever a name in the page says.
POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src {scripts}; img-src data: blob:; "
    "base-uri 'none'; form-action 'none'"
)

BEGINNING = 300  # bytes

STYLE = """
:root { color-scheme: light dark; --ink: #1d2329; --paper: #fff; --soft: #5c6670; --line: #d9dee3;
  --stripe: #f5f7f9; --ahead: #2a78b5; --behind: #b94a30; --track: #e6eaee; --bad: #b3261e;
  --good: #2a7d3f; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e8ec; --paper: #14181c; --soft: #9aa5b0;
  --line: #2d343b; --stripe: #1a1f24; --ahead: #5aa9e6; --behind: #ee8a6c; --track: #2a3138;
  --bad: #ff8a80; --good: #6fcf8a; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 78rem; padding: 1.5rem 1rem 3rem; color: var(--ink);
  background: var(--paper); font: 15px/1.45 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.4rem; margin: 0 0 .8rem; } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
h3 { font-size: 1rem; margin: 1.2rem 0 .4rem; }
summary { cursor: pointer; color: var(--soft); font-size: .86rem; }
.wide { overflow-x: auto; } .wide:focus-visible, svg:focus-visible, summary:focus-visible {
  outline: 2px solid var(--ahead); outline-offset: 2px; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
td, th { overflow-wrap: normal; }
small { display: block; color: var(--soft); font-size: .78rem; }
.note { color: var(--soft); } .wrong { color: var(--bad); font-weight: 700; }
@media (max-width: 40rem) { body { padding: 1rem .5rem; } }
@media print { :root { color-scheme: light; --ink: #000; --paper: #fff; --soft: #444; --line: #bbb;
  --stripe: #f3f3f3; --ahead: #1c5f94; --behind: #a03a20; --track: #ddd; --bad: #900;
  --good: #175a2a; }
  html { font-size: 10px; } body { font-size: 1rem; max-width: none; padding: 0; }
  .wide { overflow: visible; border: 0; }
  details::details-content { content-visibility: visible; block-size: auto; }
  h2, h3 { break-after: avoid; } tr, figure, svg, img { break-inside: avoid; } }
"""

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="generator" content="onepass">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
{body}
{script}</body>
</html>
"""


def is_page(path: Path) -> bool:
    """Whether the file is one of these pages, and not somebody else's of the same name."""
    try:
        with open(path, "rb") as file:
            return b'<meta name="generator" content="onepass">' in file.read(BEGINNING)
    except OSError:
        return False


def page(title: str, body: str, *, style: str = "", script: str = "") -> str:
    """The page.

    Args:
        title: as text. body: as HTML. style: behind what all pages share.
    """
    return _PAGE.format(
        policy=policy(script),
        title=text(title),
        style=STYLE + style,
        body=body,
        script=f"<script>{script}</script>\n" if script else "",
    )


def policy(script: str = "") -> str:
    """What a browser may do for a page with this script."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return POLICY.format(scripts=f"'sha256-{digest}'" if script else "'none'")


def text(value: object) -> str:
    """As HTML; what UTF-8 lacks is replaced."""
    return html.escape(str(value).encode("utf-8", "replace").decode("utf-8"))


def embedded(name: str, value: Any) -> str:
    """JSON for a script, in an element with that id."""
    # "</script>" in a name would end the element
    content = json.dumps(value, allow_nan=False).replace("<", "\\u003c")
    return f'<script type="application/json" id="{name}">{content}</script>'
