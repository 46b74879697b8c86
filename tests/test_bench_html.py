"""`onepass bench --html`: the page says what the JSON says, and works in a browser."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import math
import re
import shutil
import subprocess

import pytest
from onepass.bench import _html

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)


def result(row, seconds, limit=None, ratios=None, **more):
    ratios = ratios or {}
    times = {"onepass": seconds, **{label: r * seconds for label, r in ratios.items()}}
    times |= {"limit": limit} if limit else {}
    return {
        "row": row, "group": "optim", "device": "cpu", "dtype": "float32", "threads": 2,
        "elements": 1000, "bytes": 8000, "streams": [1, 1, 0],
        "seconds": times, "low": {"onepass": 0.9 * seconds}, "high": {"onepass": 1.2 * seconds},
        "ratios": ratios, "error": 0.25, "ulps": 1.5, "wrong": False, "missing": {},
    } | more  # fmt: skip


RESULTS = [
    result("adamw 10", 2.5e-5, 2e-5, {"torch fused": 0.8, "optax jit": 12.0}),
    result("adamw 9", 1e-3, 0.9e-3, {"torch fused": 1.6}, missing={"optax": "JAX <takes> all"}),
    result("sgd </script><b>", 3e-6, None, {}, error=7.5, wrong=True),
    {"row": "adamw 1G", "group": "optim", "threads": 2, "skipped": "not enough memory"},
    result("relu", 2.0, 1.0, {"numpy": 3.0}, group="activation", dtype="bfloat16"),
]
CONTENT = {
    "format": 2,
    "machine": {"cpu": "A & B", "cpus": 2, "caches": {"L2": 1 << 20}, "load": 0.123456},
    "results": RESULTS,
}
ROW = re.compile(r"<tr>(.*?)</tr>", re.DOTALL)
CELL = re.compile(
    r'<t[dh][^>]*?(?: data-value="([^"]*)")?(?: class="?\w+"?)?>(.*?)</t[dh]>', re.DOTALL
)


def rows_of(text):
    """The cells of each row: (value, what one reads)."""
    bodies = re.findall(r"<tbody>(.*?)</tbody>", text, re.DOTALL)
    return [
        [(html.unescape(value), re.sub(r"<.*?>", " ", shown)) for value, shown in CELL.findall(row)]
        for body in bodies
        for row in ROW.findall(body)
    ]


def test_the_page_has_the_numbers_of_the_json():
    text = _html.page(CONTENT)
    rows = {cells[0][0]: cells for cells in rows_of(text)}
    for given in RESULTS:
        if "skipped" in given:
            assert given["skipped"] in rows[given["row"]][2][1]
            continue
        name = given["row"] + (" bfloat16" if given["dtype"] == "bfloat16" else "")
        value = dict(zip(_html.COLUMNS, (v for v, _ in rows[name]), strict=True))
        ours = given["seconds"]["onepass"]
        limit, ratios = given["seconds"].get("limit"), given["ratios"].values()
        assert float(value["time"]) == ours
        assert value["GB/s"] == (repr(given["bytes"] / ours / 1e9) if limit else "")
        assert value["limit"] == (repr(limit / ours) if limit else "")
        assert value["ratio"] == (repr(min(ratios)) if ratios else "")
        assert float(value["error"]) == given["error"]
    shown = {name: [text for _, text in cells] for name, cells in rows.items()}
    assert shown["adamw 10"][2].split() == ["25", "µs", "22.5", "µs", "to", "30", "µs"]
    assert shown["adamw 10"][4].split() == ["80", "%"]
    assert shown["adamw 10"][6].split() == ["0.80×", "torch", "fused", "12.00×", "optax", "jit"]
    assert shown["sgd </script><b>"][7] == "WRONG"
    embedded = re.search(r'id="results">(.*?)</script>', text, re.DOTALL)[1]
    assert json.loads(embedded) == CONTENT


def test_the_page_needs_no_network():
    text = _html.page(CONTENT)
    assert not re.search(r"https?:|src=|@import|url\(|<link", text)
    assert "<b>" not in re.sub(r"<b>[\d.]+×</b>", "", text)  # names are text
    assert "JAX &lt;takes&gt; all" in text


def test_a_page_of_nothing():
    assert "No row has been measured." in _html.page({"machine": {"cpu": "x"}, "results": []})


# Clicks as a user does, and writes what is then there into the page.
CLICKS = """
const table = document.querySelector("table"), heads = [...table.tHead.rows[0].cells];
const names = () => [...table.tBodies[0].rows].map(row => row.cells[0].textContent);
const said = {};
for (const name of ["row", "row", "time", "time", "ratio", "limit"]) {
  const head = heads.find(each => each.textContent === name);
  head.querySelector("button").click();
  said[name + " " + head.getAttribute("aria-sort")] = names();
}
said.sorted = table.querySelectorAll("[aria-sort]").length;
const box = document.querySelector(".track .bar").getBoundingClientRect();
const track = document.querySelector(".track").getBoundingClientRect();
said.bar = box.width / track.width;
said.wide = document.documentElement.scrollWidth - window.innerWidth;
said.dark = getComputedStyle(document.body).backgroundColor;
document.body.dataset.said = JSON.stringify(said);
"""


def with_script(text, script):
    """The page with one more script, which its policy then lets run."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    begin, policy, rest = re.split(r"(?<=script-src )('[^;]*)", text, maxsplit=1)
    assert "unsafe-inline" not in policy
    allowed = f"{policy} 'sha256-{digest}'".replace("'none' ", "")
    return f"{begin}{allowed}{rest}".replace("</body>", f"<script>{script}</script></body>")


def browse(page, *options):
    """What the script says, of the page in a browser."""
    plain = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    done = subprocess.run(
        [*plain, *options, page.as_uri()], capture_output=True, text=True, timeout=120, check=True
    )
    return json.loads(html.unescape(re.search(r'data-said="(.*?)"', done.stdout)[1]))


@pytest.mark.skipif(BROWSER is None, reason="there is no chromium")
def test_the_page_in_a_browser(tmp_path):
    page = tmp_path / "page.html"
    text = _html.page(CONTENT)
    page.write_text(with_script(text, CLICKS), encoding="utf-8")
    said = browse(page, "--window-size=500,800", "--blink-settings=preferredColorScheme=0")
    ten, nine, sgd, none = "adamw 10", "adamw 9", "sgd </script><b>", "adamw 1G"
    assert said["row ascending"] == [none, nine, ten, sgd]  # numbers as numbers
    assert said["row descending"] == [sgd, ten, nine, none]
    assert said["time descending"] == [nine, ten, sgd, none]  # what has no number comes last
    assert said["time ascending"] == [sgd, ten, nine, none]
    assert said["ratio descending"][:2] == [nine, ten]
    assert said["limit descending"][:2] == [nine, ten]
    assert said["sorted"] == 1
    assert math.isclose(said["bar"], 0.9, abs_tol=0.02)  # 90 % of the limit
    assert said["wide"] <= 0  # a narrow window: tables scroll, the page does not
    assert said["dark"] == "rgb(20, 24, 28)"
