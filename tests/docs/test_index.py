"""The first page leads to all others, and nobody is told to install what no index has."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from .test_docs import NAMES, PAGES, ROOT

BELOW = [name.removeprefix("docs/") for name in NAMES if re.fullmatch(r"docs/\w+/.+", name)]


@pytest.mark.parametrize("name", BELOW)
def test_every_page_is_linked_from_the_index_and_in_the_navigation(name: str) -> None:
    assert f"]({name})" in (ROOT / "docs/index.md").read_text(encoding="utf-8")
    assert f": {name}\n" in (ROOT / "mkdocs.yml").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", [*PAGES, *sorted((ROOT / "orric").rglob("*.py"))], ids=str)
def test_nobody_is_told_to_install_orric_by_its_name(page: Path) -> None:
    assert not re.search(
        r"(?:pip|uv|pipx) (?:add|install) (?:-\S+ )*['\"`]?orric\b(?!-\d)", page.read_text(encoding="utf-8")
    )


def test_the_readme_leads_from_files_to_a_report() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    section = text[text.index("## Your own cameras") :]
    section = section[: section.index("\n## ", 3)]
    commands = re.findall(r"^\$ (.*)$", section, flags=re.MULTILINE)
    assert [command.split()[:3] for command in commands[:2]] == [
        ["orric", "trace", "import-cameras"],
        ["orric", "run", "my-cameras/scenario.toml"],
    ]
