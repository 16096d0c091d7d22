"""The frame of every report: one HTML document that needs nothing else, no network and no other file."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import TYPE_CHECKING, Any

from orric.report.canvas import title_height_in
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
    styles: Sequence[str] = (),
    scripts: Sequence[str] = ("ready.js",),
) -> str:
    """Return a report as one HTML document; tables in it sort by a click on a heading.

    Args:
        title: Of the page.
        verdict: The conclusion in a sentence.
        warnings: What the reader must know of it.
        sentences: What else there is to say.
        sections: Headings, "" for none, and their content, HTML already.
        provenance: Where it comes from, in the order to print.
        styles: Files of `assets` that are needed beside the style of all reports.
        scripts: The same of scripts; the last one says when the page is ready.
    """
    return _DOCUMENT.format(
        title=html.escape(title),
        style="\n".join(asset(name) for name in ("document.css", *styles)),
        script="\n".join(asset(name) for name in ("tables.js", *scripts)),
        verdict=html.escape(verdict),
        failed="\n".join(f'<p class="failed">{html.escape(one)}</p>' for one in warnings),
        sentences="\n".join(f"<li>{html.escape(sentence)}</li>" for sentence in sentences),
        sections="\n".join(
            f"<section>\n{f'<h2>{html.escape(heading)}</h2>' * bool(heading)}\n{content}\n</section>"
            for heading, content in sections
        ),
        provenance="\n".join(
            f"<dt>{html.escape(key)}</dt><dd>{html.escape(_plain(value))}</dd>" for key, value in provenance.items()
        ),
    )


def asset(name: str) -> str:
    """Return a file that pages hold: a style or a script."""
    return resources.files("orric.report").joinpath("assets", name).read_text(encoding="utf-8")


def figure_element(stem: str, figure: Figure, caption: str) -> str:
    """Return a figure as an HTML element: its title as text, which fits any window, and the picture, which scrolls."""
    data = base64.b64encode(_below_title(figure)).decode("ascii")
    message = html.escape(" ".join(figure.get_suptitle().split()))
    told = f'<p class="title">{message}</p>\n' * bool(message)
    name = message or html.escape(stem)
    return (
        f'<figure id="{html.escape(stem)}">{told}<div class="scroll" tabindex="0" role="region" aria-label="{name}">'
        f'<img alt="{name}" src="data:image/svg+xml;base64,{data}"></div>\n'
        f"<figcaption>{html.escape(caption)}</figcaption></figure>"
    )


def _below_title(figure: Figure) -> bytes:
    """Return a figure as SVG, cut below its title."""
    text, cut = as_svg(figure).decode(), 72 * title_height_in(figure)
    width, height = 72 * figure.get_figwidth(), 72 * figure.get_figheight()
    size = f'height="{height - cut:g}pt" viewBox="0 {cut:g} {width:g} {height - cut:g}"'
    return _SIZE.sub(size, text, count=1).encode()


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_plain(one)}" for key, one in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_plain(one) for one in value)
    return str(value)


_SIZE = re.compile(r'height="[^"]*" viewBox="[^"]*"')
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
