"""Tables of a page that is no comparison of one run: they sort by a click, and can be filtered."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass

# Words are read from the left, and broken where they would push figures out of sight.
STYLE = """
.words { text-align: left; }
tbody th:first-child { white-space: normal; overflow-wrap: anywhere; min-width: 9em; }
td.words:last-child { white-space: normal; overflow-wrap: anywhere; min-width: 16em; }
tbody th, tbody td { vertical-align: top; }
/* Three lines of a note are enough to choose by; whoever points at it reads the rest. */
.told { display: -webkit-box; -webkit-box-orient: vertical; -webkit-line-clamp: 3; overflow: hidden; min-width: 20em;
  overflow-wrap: normal; }
@media (max-width: 600px) { .told { display: none; } }
"""


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        text: What it shows.
        value: What it sorts by: a number, a text, or None to stand last; the text when left out.
        link: An address that the text leads to, "" for none.
        note: What stands below it, small; "" for nothing.
    """

    text: str
    value: float | str | None = ""
    link: str = ""
    note: str = ""

    @property
    def key(self) -> str:
        """What it sorts by, as text."""
        if self.value is None:
            return ""
        return self.text if self.value == "" else repr(self.value) if isinstance(self.value, float) else str(self.value)

    @property
    def content(self) -> str:
        """What it shows, as HTML."""
        text, note = html.escape(self.text), html.escape(self.note)
        text = f'<a href="{html.escape(self.link)}">{text}</a>' if self.link else text
        return f'{text}<small class="told" title="{note}">{note}</small>' if note else text


def listing(
    name: str, caption: str, headings: Sequence[str], rows: Sequence[Sequence[Cell]], filtered: Sequence[str] = ()
) -> str:
    """Return an HTML table, below choices that leave rows out.

    Args:
        name: Of the table within its page.
        caption: Above it.
        headings: Of the columns; the first names the row.
        rows: A cell for every heading.
        filtered: Headings of columns by whose values rows are chosen.
    """
    kinds = ["", *(_kind([row[column] for row in rows]) for column in range(1, len(headings)))]
    head = "".join(
        f'<th scope="col"{kind}><button type="button">{html.escape(one)}</button></th>'
        for kind, one in zip(kinds, headings, strict=True)
    )
    body = []
    for first, *cells in rows:
        columns = "".join(
            f'<td{kind} data-value="{html.escape(one.key)}">{one.content}</td>'
            for kind, one in zip(kinds[1:], cells, strict=True)
        )
        body.append(f'<tr><th scope="row" data-value="{html.escape(first.key)}">{first.content}</th>{columns}</tr>')
    lines = "\n".join(body)
    choices = ""
    for heading in filtered:
        column = headings.index(heading)
        values = list(dict.fromkeys(row[column].text for row in rows))
        if len(values) > 1:
            options = "".join(f"<option>{html.escape(value)}</option>" for value in values)
            choices += (
                f'<label>{html.escape(heading)} <select data-column="{column}"><option value="">all</option>'
                f"{options}</select></label>\n"
            )
    form = f'<form class="filters" data-for="{name}">\n{choices}<output></output></form>\n' if choices else ""
    return (
        f'<style>{STYLE}</style>\n{form}<div class="scroll" id="{name}"><table>'
        f"<caption>{html.escape(caption)}</caption>\n"
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{lines}\n</tbody></table></div>"
    )


def _kind(cells: Sequence[Cell]) -> str:
    """Mark a column of words."""
    return ' class="words"' if all(isinstance(cell.value, str) for cell in cells) else ""
