"""The page of `onepass report` in a browser, and runs whose texts would be elements of it."""

import csv
import json
import re
import shutil

import pytest
from onepass._svg import RIGHT, WIDTH
from onepass.runs import write_report
from report_pages import Page, history_in, lines_of, place, two_runs
from test_bench_html import BROWSER, browse, with_script


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return two_runs(tmp_path_factory.mktemp("runs"))


LOOKS = (
    f"const EDGE = {RIGHT / WIDTH};"
    + """
const said = {};
const rgb = text => {
  const p = text.match(/[\\d.]+/g).map(Number);
  return text.startsWith("color(") ? p.slice(0, 3).map(v => 255 * v).concat(p[3] ?? 1)
    : p.slice(0, 3).concat(p[3] ?? 1);
};
const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
  .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
  .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
const behind = e => {
  for (; e; e = e.parentElement) {
    const colour = rgb(getComputedStyle(e).backgroundColor);
    if (colour[3] > 0) return colour;
  }
  return [255, 255, 255, 1];
};
const pale = [];
for (const e of document.querySelectorAll("body *")) {
  const own = [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
  if (!own || ["SCRIPT", "STYLE"].includes(e.tagName) || !e.getClientRects().length) continue;
  const style = getComputedStyle(e);
  const [a, b] = [light(rgb(e.closest("svg") ? style.fill : style.color)), light(behind(e))];
  const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  if (ratio < 4.5) pale.push(`${e.tagName} ${e.className.baseVal ?? e.className} ${ratio}`);
}
said.pale = [...new Set(pale)];
said.wide = document.documentElement.scrollWidth - window.innerWidth;
said.paper = getComputedStyle(document.body).backgroundColor;
const svg = document.querySelector("svg[data-names]"), box = svg.getBoundingClientRect();
const out = svg.closest("figure").querySelector("output");
svg.dispatchEvent(new PointerEvent("pointermove",
  {clientX: box.left + box.width * EDGE, clientY: box.top + 5}));
said.last = out.textContent;
for (const key of ["Home", "ArrowRight"]) svg.dispatchEvent(new KeyboardEvent("keydown", {key}));
said.second = out.textContent;
const dot = svg.querySelector("circle.at");
said.dot = [dot.getAttribute("cx"), dot.getAttribute("cy")].map(Number);
svg.dispatchEvent(new PointerEvent("pointerleave"));
said.after = out.textContent;
said.unnamed = [...document.querySelectorAll("svg, img")].filter(
  e => !(e.getAttribute("aria-label") || e.getAttribute("alt"))).length;
said.headless = [...document.querySelectorAll("table")].filter(
  t => !t.querySelector("th[scope]")).length;
said.small = Math.min(...[...document.querySelectorAll("svg text")].map(
  t => t.getBoundingClientRect().height).filter(h => h));
said.outside = [...document.querySelectorAll("svg text")].filter(t => {
  const own = t.getBoundingClientRect(), all = t.closest("svg").getBoundingClientRect();
  return own.left < all.left - 1 || own.right > all.right + 1 || own.top < all.top - 1 ||
    own.bottom > all.bottom + 1;
}).map(t => t.textContent);
said.errors = window.errors;
document.body.dataset.said = JSON.stringify(said);
"""
)


WATCH = """window.errors = [];
addEventListener("error", e => errors.push(String(e.message)));
addEventListener("securitypolicyviolation", e => errors.push(e.blockedURI));"""


def watched(text, script):
    """The page with two scripts more: the first looks for errors from the beginning."""
    text = with_script(with_script(text, script), WATCH)
    first = f"<script>{WATCH}</script>"
    return text.replace(first, "", 1).replace("<title>", first + "<title>", 1)


@pytest.mark.skipif(BROWSER is None, reason="there is no chromium")
@pytest.mark.parametrize(("name", "size", "scheme"), [("words", "360,800", 0),
                                                      ("numbers", "1400,900", 1)])  # fmt: skip
def test_the_page_in_a_browser(home, tmp_path, name, size, scheme):
    text = (home / name / "report.html").read_text(encoding="utf-8")
    path = tmp_path / "page.html"
    path.write_text(watched(text, LOOKS), encoding="utf-8")
    said = browse(path, f"--window-size={size}", f"--blink-settings=preferredColorScheme={scheme}")
    lines = lines_of(home / name)
    for key, line in (("last", lines[-1]), ("second", lines[1])):
        kinds = f"training {line['loss']}, validation {line['val_loss']}"
        assert said[key] == f"epoch {line['epoch']}: {kinds}"
    svg = Page(text).all("svg", data_names=True)[0][0]
    axes = [list(map(float, svg[f"data-{axis}"].split(","))) for axis in "xy"]
    assert said["dot"] == pytest.approx(
        [place(axes[0], 2), place(axes[1], float(lines[1]["loss"]))], abs=0.01
    )
    assert said["after"] == ""
    assert said["paper"] == ("rgb(20, 24, 28)" if scheme == 0 else "rgb(255, 255, 255)")
    assert said["wide"] <= 0
    assert (said["pale"], said["errors"], said["outside"]) == ([], [], [])
    assert (said["unnamed"], said["headless"]) == (0, 0)
    assert said["small"] >= 9


PRINTED = """
const table = document.querySelector("details:not([open]) table");
const said = {folded: table.checkVisibility()};
for (const rule of [...document.styleSheets].flatMap(sheet => [...sheet.cssRules]))
  if (rule.media?.mediaText === "print") rule.media.mediaText = "all";
said.printed = table.checkVisibility();
said.height = table.getBoundingClientRect().height;
document.body.dataset.said = JSON.stringify(said);
"""


@pytest.mark.skipif(BROWSER is None, reason="there is no chromium")
def test_on_paper_nothing_is_folded(home, tmp_path):
    path = tmp_path / "page.html"
    text = (home / "words" / "report.html").read_text(encoding="utf-8")
    path.write_text(watched(text, PRINTED), encoding="utf-8")
    said = browse(path, "--window-size=800,800")
    assert (said["folded"], said["printed"]) == (False, True)
    assert said["height"] > 10 * len(lines_of(home / "words"))


def test_the_page_needs_no_network(home):
    for name in ("words", "numbers"):
        text = (home / name / "report.html").read_text(encoding="utf-8")
        assert not re.search(r"https?:|src=(?!\"data:)|@import|url\(|<link", text)
        assert "default-src 'none'" in text
        assert "<b>bold" not in text


EVIL = "<img src=x onerror=alert(1)>"


HOSTILE_RECORD = {
    "options": {"data": EVIL, "cv": 3, "epochs": 4, "hidden": [EVIL], "target": EVIL, EVIL: EVIL,
                "device": EVIL},
    "data": {"rows": 5, "training": 3, "target": EVIL, "inputs": [EVIL], "notes": [EVIL]},
    "classes": None, "result": None, "contents": EVIL, "directory": EVIL, "verdict": EVIL,
    "ended": {"how": "failed", "why": EVIL, "when": EVIL, "where": EVIL}, "finished": EVIL,
    "folds": [{"accuracy": 0.5, "loss": 1.0, EVIL: EVIL}],
    "sessions": [{"began": EVIL, "epoch": 1, "environment": {EVIL: EVIL}}],
}  # fmt: skip


EVIL_SCRIPT = """
document.body.dataset.said = JSON.stringify({errors, ran: window.ran ?? 0,
  images: document.querySelectorAll("img").length,
  handlers: [...document.querySelectorAll("*")].filter(
    e => [...e.attributes].some(a => a.name.startsWith("on"))).length});
"""


def hostile_run(home, folder):
    """Texts that would be elements, wherever a run has texts; returns the folder."""
    shutil.copytree(home / "words", folder)
    known = json.loads((folder / "run.json").read_text())
    own = HOSTILE_RECORD | {"classes": [EVIL, "a", "b", "c"], "result": known["result"]}
    (folder / "run.json").write_text(json.dumps(own))
    rows = [{"loss": 1.0, "val_loss": 2.0, EVIL: 0.5}] * 3
    history_in(folder, rows)
    with open(folder / "held_out.csv", "w", newline="") as file:
        csv.writer(file).writerows([["row", "true", "predicted"], [1, EVIL, "a"], [2, "b", EVIL]])
    (folder / "folds" / EVIL.replace("/", "")).mkdir(parents=True)
    shutil.copy(folder / "history.csv", folder / "folds" / EVIL)
    return folder


@pytest.mark.parametrize("kind", ["record", "cv", "log"])
def test_no_text_of_a_run_is_an_element(home, tmp_path, kind):
    folder = hostile_run(home, tmp_path / EVIL.replace("/", ""))
    if kind == "log":
        (folder / "run.json").unlink()
    if kind == "cv":  # a text where a number is
        known = json.loads((folder / "run.json").read_text())
        known["options"]["cv"] = EVIL
        (folder / "run.json").write_text(json.dumps(known))
        with pytest.raises(ValueError, match="'options' has 'cv', which is '<img"):
            write_report(folder)
        return
    path = write_report(folder, tmp_path / "page.html")
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert not page.all("img")
    assert not [a for _, a, _ in page.found if any(name.startswith("on") for name in a)]
    assert EVIL not in text
    assert text.count("onerror=alert(1)") > 5
    if BROWSER is not None:
        path.write_text(watched(text, EVIL_SCRIPT), encoding="utf-8")
        said = browse(path)
        assert said == {"errors": [], "ran": 0, "images": 0, "handlers": 0}


@pytest.mark.skipif(BROWSER is None, reason="there is no chromium")
def test_the_policy_lets_no_other_script_run(home, tmp_path):
    """Should a text come into a page as an element after all."""
    text = (home / "words" / "report.html").read_text(encoding="utf-8")
    there = "<main><script>window.ran = 1</script><img src=x onerror='window.ran = 2'>"
    path = tmp_path / "page.html"
    path.write_text(watched(text.replace("<main>", there, 1), EVIL_SCRIPT), encoding="utf-8")
    said = browse(path, "--virtual-time-budget=2000")
    assert said["ran"] == 0
    assert (said["images"], said["handlers"]) == (1, 1)
    assert "inline" in said["errors"]
