"""Make code blocks of the doctests, tables and drawings in docstrings, which Markdown would run together."""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension, Object

DOCTEST = re.compile(r"^>>> .*(?:\n(?!\s*$).*)*", re.MULTILINE)
TABLE = re.compile(r"^=+(?: +=+)+\n(?:.*\n)*?=+(?: +=+)+\n(?:.*\n)*?=+(?: +=+)+$", re.MULTILINE)


def fenced(text: str) -> str:
    """Return a docstring with its blocks fenced."""
    text = re.sub(r"^::\n$", "", text, flags=re.MULTILINE)
    text = TABLE.sub(lambda table: f"```text\n{table[0]}\n```", text)
    return DOCTEST.sub(lambda doctest: f"```python\n{doctest[0]}\n```", text)


class Fenced(Extension):
    """Apply `fenced` to every docstring before it is rendered."""

    def on_object(self, *, obj: Object, **unused: Any) -> None:
        """Change the docstring of a module, class or function that has one."""
        if obj.docstring:
            obj.docstring.value = fenced(obj.docstring.value)
