"""The frame of every report: one HTML document that needs nothing else, no network and no other file."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from orric.report.plots import as_svg

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def document(
    title: str,
    verdict: str,
    warnings: Sequence[str],
    sentences: Sequence[str],
    sections: Sequence[tuple[str, str]],
    provenance: Mapping[str, Any],
) -> str:
    """Return a report as one HTML document; tables in it sort by a click on a heading.

    Args:
        title: Of the page.
        verdict: The conclusion in a sentence.
        warnings: What the reader must know of it.
        sentences: What else there is to say.
        sections: Headings and their content, HTML already.
        provenance: Where it comes from, in the order to print.
    """
    return _DOCUMENT.format(
        title=html.escape(title),
        style=_STYLE,
        script=_SCRIPT,
        verdict=html.escape(verdict),
        failed="\n".join(f'<p class="failed">{html.escape(one)}</p>' for one in warnings),
        sentences="\n".join(f"<li>{html.escape(sentence)}</li>" for sentence in sentences),
        sections="\n".join(
            f"<section>\n<h2>{html.escape(heading)}</h2>\n{content}\n</section>" for heading, content in sections
        ),
        provenance="\n".join(
            f"<dt>{html.escape(key)}</dt><dd>{html.escape(_plain(value))}</dd>" for key, value in provenance.items()
        ),
    )


def figure_element(stem: str, figure: Figure, caption: str) -> str:
    """Return a figure as an HTML element with its picture inside."""
    data = base64.b64encode(as_svg(figure)).decode("ascii")
    message = html.escape(" ".join(figure.get_suptitle().split()) or stem)
    return (
        f'<figure id="{html.escape(stem)}"><img alt="{message}" src="data:image/svg+xml;base64,{data}">\n'
        f"<figcaption>{html.escape(caption)}</figcaption></figure>"
    )


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_plain(one)}" for key, one in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_plain(one) for one in value)
    return str(value)


_STYLE = """
:root { color-scheme: light dark; --ink: #1d2126; --soft: #59626c; --paper: #fbfbfa; --line: #d9dde1; --mark: #e6f0f8;
  --accent: #005a91; --fault: #b3261e; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e8ea; --soft: #a5adb5; --paper: #16191c; --line: #363c42; --mark: #1b2f3e; --accent: #7cc4f2;
    --fault: #f2827c; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem 1.25rem 4rem; max-width: 64rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; }
h1 { font-size: 1rem; font-weight: 600; color: var(--soft); margin: 0 0 .75rem; }
h2 { font-size: 1.2rem; margin: 2.75rem 0 .75rem; }
.verdict { font-size: 1.45rem; line-height: 1.35; font-weight: 600; margin: 0 0 1rem; }
.failed { margin: 0 0 1rem; padding: .5rem .8rem; border-left: 4px solid var(--fault); background: var(--mark); }
.sentences { margin: 0; padding-left: 1.2rem; max-width: 50rem; }
.sentences li { margin: .3rem 0; }
.scroll { overflow-x: auto; margin: 0 0 1.75rem; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding: 0 0 .4rem; }
th, td { padding: .35rem .6rem; border-bottom: 1px solid var(--line); text-align: right; vertical-align: bottom; }
th:first-child { text-align: left; white-space: nowrap; }
thead th { border-bottom: 2px solid var(--soft); }
thead button { all: unset; cursor: pointer; font-weight: 600; color: var(--soft); }
thead button:hover, thead button:focus-visible { color: var(--accent); text-decoration: underline; }
th[aria-sort=ascending] button::after { content: " \\2191"; }
th[aria-sort=descending] button::after { content: " \\2193"; }
tbody th { font-weight: 500; }
td { white-space: nowrap; }
tr.best { background: var(--mark); }
tr.best th, tr.best td:nth-child(2) { font-weight: 700; }
small { color: var(--soft); font-weight: 400; }
.filters { display: flex; flex-wrap: wrap; gap: .5rem 1rem; align-items: baseline; margin: 0 0 .75rem;
  font-size: .9rem; }
.filters label { color: var(--soft); }
select { font: inherit; color: var(--ink); background: var(--paper); border: 1px solid var(--line); border-radius: 4px;
  padding: .15rem .3rem; max-width: 14rem; }
a { color: var(--accent); }
figure { margin: 0 0 2rem; padding: 1rem; background: #fff; color: #333; border: 1px solid var(--line);
  border-radius: 6px; break-inside: avoid; overflow-x: auto; }
figure img { display: block; width: 100%; min-width: 40rem; height: auto; color: #333; }
figcaption { margin-top: .6rem; font-size: .9rem; color: #4a5159; max-width: 50rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .25rem 1.25rem; margin: 0; font-size: .9rem; }
dt { color: var(--soft); }
dd { margin: 0; overflow-wrap: anywhere; }
@media print {
  :root { --ink: #000; --soft: #444; --paper: #fff; --line: #bbb; --mark: #eee; --accent: #000; color-scheme: light; }
  body { max-width: none; padding: 0; font-size: 10pt; }
  .scroll { overflow: visible; }
  table { font-size: 8pt; break-inside: avoid; }
  figure { border: 0; padding: 0; overflow: visible; }
  figure img { min-width: 0; }
  h2 { break-after: avoid; } }
"""

_SCRIPT = """
for (const table of document.querySelectorAll("table")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, index) => head.addEventListener("click", () => {
    const rising = head.getAttribute("aria-sort") === "descending" || (index === 0 && !head.hasAttribute("aria-sort"));
    heads.forEach(other => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", rising ? "ascending" : "descending");
    const rows = [...table.tBodies[0].rows], value = row => row.cells[index].dataset.value;
    const words = index === 0 || rows.some(row => !Number.isFinite(+value(row)));
    const compare = words ? (a, b) => value(a).localeCompare(value(b)) : (a, b) => value(a) - value(b);
    rows.sort((a, b) => value(a) === "" ? 1 : value(b) === "" ? -1 : rising ? compare(a, b) : compare(b, a));
    table.tBodies[0].append(...rows);
  }));
}
for (const form of document.querySelectorAll("form.filters")) {
  const rows = [...document.getElementById(form.dataset.for).querySelectorAll("tbody tr")];
  const wanted = [...form.querySelectorAll("select")], told = form.querySelector("output");
  const filter = () => {
    const shown = rows.filter(row => {
      row.hidden = !wanted.every(one => one.value === "" || row.cells[one.dataset.column].textContent === one.value);
      return !row.hidden;
    });
    told.textContent = `${shown.length} of ${rows.length} rows`;
  };
  form.addEventListener("change", filter);
  form.addEventListener("submit", event => event.preventDefault());
  filter();
}
addEventListener("load", () => {
  document.body.dataset.ready = [...document.images].every(image => image.complete && image.naturalWidth > 0);
});
"""

_DOCUMENT = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<main>
<h1>{title}</h1>
<section aria-label="Conclusion">
<p class="verdict">{verdict}</p>
{failed}
<ul class="sentences">
{sentences}
</ul>
</section>
{sections}
<section>
<h2>Where this comes from</h2>
<dl>
{provenance}
</dl>
</section>
</main>
<script>{script}</script>
</body>
</html>
"""
