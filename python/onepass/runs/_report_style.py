"""How a report looks, and what a pointer or the arrow keys show in its curves."""

from onepass._svg import BOTTOM, TOP, WIDTH

STYLE = """
:root { --bright: 55%; } @media (prefers-color-scheme: dark) { :root { --bright: 74%; } }
.badge { font-size: .8rem; font-weight: 600; padding: .15rem .6rem; border-radius: 1rem;
  border: 1px solid currentColor; vertical-align: middle; white-space: nowrap; color: var(--soft); }
.badge.finished { color: var(--good); } .badge.failed { color: var(--bad); }
.badge.in-progress { color: var(--ahead); }
.badge.interrupted, .badge.cut-off { color: var(--behind); }
.verdict { font-weight: 600; max-width: 50rem; }
.cards { display: flex; flex-wrap: wrap; gap: .6rem; margin: .8rem 0 .2rem; }
.cards div { border: 1px solid var(--line); border-radius: 6px; padding: .4rem .9rem; }
.cards dt { color: var(--soft); font-size: .8rem; } .cards dd { margin: 0; font-size: 1.25rem;
  font-variant-numeric: tabular-nums; } .cards + p { margin: 0; font-size: .8rem; }
.grid { display: grid; gap: 1rem 1.5rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 23rem), 1fr)); }
figure { margin: .4rem 0; } figcaption { font-size: .86rem; margin-bottom: .2rem; }
svg { display: block; width: 100%; height: auto; } svg text { fill: var(--soft); font-size: 13px; }
svg .title { fill: var(--ink); } svg .base { font-size: 12px; }
svg .frame { fill: none; stroke: var(--soft); }
svg .grid { stroke: var(--line); } svg .tick { stroke: var(--soft); }
svg polyline { fill: none; stroke-width: 1.8; stroke-linejoin: round; }
svg polyline.training { stroke: var(--ahead); } svg circle.training { fill: var(--ahead); }
svg polyline.validation { stroke: var(--behind); stroke-dasharray: 5 2.5; }
svg circle.validation { fill: var(--behind); }
svg polyline.fold { stroke: var(--colour); } svg circle.fold { fill: var(--colour); }
svg polyline.dash1 { stroke-dasharray: 7 3; } svg polyline.dash2 { stroke-dasharray: 2 3; }
svg .best { stroke: var(--good); stroke-dasharray: 2 3; stroke-width: 1.4; }
svg .resumed { stroke: var(--soft); stroke-dasharray: 1 4; }
svg .guide { stroke: var(--soft); stroke-dasharray: 5 4; }
svg text.lost { fill: var(--bad); font-size: 14px; font-weight: 700; }
svg .point { fill: var(--ahead); fill-opacity: .55; } svg .cell { fill: var(--ahead); }
svg .cursor { stroke: var(--ink); stroke-width: .8; } svg circle.at { fill: var(--ink); }
output { display: block; min-height: 1.3em; font-size: .8rem; color: var(--soft);
  font-variant-numeric: tabular-nums; }
a { color: var(--ahead); }
.key { color: var(--soft); white-space: nowrap; margin-left: .5rem; } .key::before { content: "";
  display: inline-block; width: 1.5rem; margin-right: .3rem; vertical-align: middle;
  border-top: 2px solid var(--ahead); }
.key.best::before { border-top: 2px dotted var(--good); }
.key.validation::before { border-top: 2px dashed var(--behind); }
.key.fold::before { border-top: 2px solid var(--colour); }
.key.dash1::before { border-top-style: dashed; } .key.dash2::before { border-top-style: dotted; }
.fold { --colour: oklch(var(--bright) .15 var(--hue)); }
.colour0 { --hue: 250; } .colour1 { --hue: 40; } .colour2 { --hue: 145; } .colour3 { --hue: 330; }
.colour4 { --hue: 85; } .colour5 { --hue: 195; } .colour6 { --hue: 295; } .colour7 { --hue: 15; }
.numbers td, .numbers th, .words td, .words th { padding: .25rem 1rem .25rem 0; text-align: right;
  border-bottom: 1px solid var(--line); vertical-align: top; white-space: nowrap; }
.numbers tbody th, .numbers tfoot th, .numbers th:first-child, .numbers .word, .words td,
.words th { text-align: left; font-weight: 400; }
.numbers thead th:nth-child(n), .words thead th { font-weight: 600; }
.numbers.words td:last-child:not(.word), .numbers.words th:last-child {
  text-align: right; } .words .word { white-space: normal; min-width: 8rem; }
.numbers tbody th { max-width: 22rem; white-space: normal; }
tfoot td, tfoot th { color: var(--soft); }
.matrix { font-size: .82rem; }
.matrix td { text-align: right; padding: .2rem .45rem; min-width: 1.9rem;
  border: 1px solid var(--paper); }
.matrix th { font-weight: 400; padding: .2rem .5rem; text-align: right; white-space: nowrap; }
.matrix thead th { vertical-align: bottom; }
.matrix.tall thead th + th span { writing-mode: vertical-rl;
  text-orientation: sideways; transform: rotate(180deg); }
.matrix tbody th { position: sticky; left: 0; background: var(--paper); }
.matrix td { --of: var(--ahead); background: color-mix(in srgb,
  var(--of) calc(6% + var(--s, 0) * 40%), var(--paper)); }
.matrix td.miss { --of: var(--behind); font-weight: 600; } .matrix td.zero { background: none;
  color: var(--soft); }
.pairs { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1rem;
  font-size: .9rem; margin: .4rem 0; } .pairs dt { color: var(--soft); } .pairs dd { margin: 0; }
.facts { display: flex; flex-wrap: wrap; gap: .2rem 1.6rem; font-size: .9rem; margin: .4rem 0; }
.facts div { display: flex; gap: .5rem; } .facts dt { color: var(--soft); } .facts dd { margin: 0; }
pre { background: var(--stripe); border: 1px solid var(--line); border-radius: 6px;
  padding: .6rem .8rem; overflow-x: auto; white-space: pre-wrap; font-size: .85rem; }
img { max-width: 100%; height: auto; background: white; border-radius: 4px; }
footer { margin-top: 2.5rem; font-size: .8rem; }
@media (max-width: 40rem) { .pairs { grid-template-columns: 1fr; } .pairs dd { margin: 0 0 .4rem; }
  .matrix tbody th { max-width: 8rem; overflow: hidden; text-overflow: ellipsis; } }
@media print { :root { --bright: 48%; }
  .grid { grid-template-columns: 1fr 1fr; } .matrix { font-size: .75rem; }
  .matrix td { padding: .1rem .2rem; min-width: 0; }
  section > p { break-after: avoid; } .matrix, dl div, pre { break-inside: avoid; }
  output { display: none; } tfoot { display: table-row-group; }
  .matrix td, .badge { print-color-adjust: exact; -webkit-print-color-adjust: exact; } }
"""

SCRIPT = (
    f"const TOP = {TOP}, BOTTOM = {BOTTOM}, WIDTH = {WIDTH};"
    + """
// The line of history.csv under the pointer, or the next one by an arrow key, with all digits.
const history_ = JSON.parse(document.getElementById("history").textContent);
const lines = history_.rows.split("\\n").filter(Boolean).map(line => line.split(","));
for (const svg of document.querySelectorAll("svg[data-names]")) {
  const columns = JSON.parse(svg.dataset.names).map(name => history_.names.indexOf(name) + 1);
  const labels = JSON.parse(svg.dataset.labels);
  const scale = text => {
    const [low, high, begin, end, log] = text.split(",").map(Number);
    const f = log ? Math.log : value => value;
    return {
      to: v => begin + (f(v) - f(low)) / (f(high) - f(low)) * (end - begin),
      from: p => low + (p - begin) / (end - begin) * (high - low),
    };
  };
  const x = scale(svg.dataset.x), y = scale(svg.dataset.y);
  const said = svg.closest("figure").querySelector("output");
  const make = (name, kind) => {
    const part = document.createElementNS(svg.namespaceURI, name);
    part.setAttribute("class", kind);
    part.style.display = "none";
    return svg.appendChild(part);
  };
  const cursor = make("line", "cursor"), dots = columns.map(() => make("circle", "at"));
  let at = -1;
  const show = i => {
    at = Math.max(0, Math.min(lines.length - 1, i));
    const line = lines[at], place = x.to(Number(line[0]));
    for (const [name, value] of [["x1", place], ["x2", place], ["y1", TOP], ["y2", BOTTOM]])
      cursor.setAttribute(name, value);
    cursor.style.display = "";
    columns.forEach((column, k) => {
      const value = y.to(Number(line[column]));
      dots[k].style.display = Number.isFinite(value) ? "" : "none";
      if (!Number.isFinite(value)) return;
      dots[k].setAttribute("cx", place);
      dots[k].setAttribute("cy", value);
      dots[k].setAttribute("r", 3);
    });
    said.textContent = `epoch ${line[0]}: ` +
      columns.map((column, k) => `${labels[k]} ${line[column]}`).join(", ");
  };
  const hide = () => {
    for (const part of [cursor, ...dots]) part.style.display = "none";
    said.textContent = "";
    at = -1;
  };
  const nearest = epoch => {
    let low = 0, high = lines.length - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((Number(lines[middle][0]) + Number(lines[middle + 1][0])) / 2 < epoch) low = middle + 1;
      else high = middle;
    }
    return low;
  };
  svg.addEventListener("pointermove", event => {
    const box = svg.getBoundingClientRect();
    show(nearest(x.from((event.clientX - box.left) / box.width * WIDTH)));
  });
  svg.addEventListener("pointerleave", hide);
  svg.addEventListener("blur", hide);
  svg.tabIndex = 0;
  svg.addEventListener("keydown", event => {
    const moves = {ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: lines.length - 1};
    if (!(event.key in moves)) return;
    show(moves[event.key]);
    event.preventDefault();
  });
}
for (const box of document.querySelectorAll(".wide"))
  if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
"""
)
