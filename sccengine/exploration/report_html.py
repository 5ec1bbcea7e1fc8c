"""Pieces of HTML that report.html is made of."""

from __future__ import annotations

import re
from html import escape


def unbroken(command):
    """A command line whose lines break before options only, not behind their hyphens."""
    return re.sub(r"--\S+( (?!--)\S{1,40}(?!\S))?", lambda option: f"<span>{option[0]}</span>", command)


def facts(rows):
    """A list of (name, text)."""
    items = (f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in rows)
    return f'<dl class="facts">{"".join(items)}</dl>'


def table(heads, rows, *, figures=(), words=(), names=(), bars=()):
    """A table of cells that are HTML already, which a narrow screen scrolls sideways.

    Columns by number: `figures` of numbers, `words` of text that may wrap, `names` of text that may not, `bars`.
    """
    columns = {"figure": figures, "words": words, "name": names, "bar": bars}
    kinds = {i: kind for kind, several in columns.items() for i in several}

    def attribute(i):
        return f' class="{kinds[i]}"' if i in kinds else ""

    head = "".join(f'<th scope="col"{attribute(i)}>{text}</th>' for i, text in enumerate(heads))
    body = "\n".join(
        f"<tr>{''.join(f'<td{attribute(i)}>{cell}</td>' for i, cell in enumerate(row))}</tr>" for row in rows
    )
    return f'<div class="wide"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>'


def duration(seconds):
    """A time in a unit that suits it: 38 s, 12 min, 3.4 h."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
