"""Execute every command and code block of README and docs, and hold the pages to what they quote.

How a block is treated, by its language:

=========  ==========================================================================================
python     executed, all blocks of a page in order in one namespace; what it prints must stand in a
           `text` block right below it
console    every line that starts with `$ ` is run by the shell; what it prints must be what follows, up to
           `...`, which stands for anything; the exit status is 0 unless `# exit status N` follows
toml       read, and validated as the scenario, profile or piece of one that it is
csv        loaded as a trace
text       shown only
=========  ==========================================================================================

Figures change when a profile or a scenario does. `ORRIC_UPDATE_DOCS=1 pytest tests/docs` writes the new numbers
into blocks whose words have stayed the same; figures in running text are for people to mend.

There is no other language, so that nothing escapes. `make` is not called: `make test` would call these tests
again, and `make run` would install. Their recipes are checked by `make -n`, and the command with which
`make run` ends is executed in its place.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import orric
from orric.allocators.base import StreamTask
from orric.allocators.orric import slot_weights, staircase
from orric.edge.config import EdgeConfig
from orric.objective import feasible
from orric.sweep import Sweep

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    ROOT / "traces" / "README.md",
    ROOT / "simulations" / "README.md",
]
NAMES = [page.relative_to(ROOT).as_posix() for page in PAGES]
LANGUAGES = {"python", "console", "toml", "csv", "text"}
FENCE = re.compile(r"^```(?P<language>\S*)[^\n]*\n(?P<text>.*?)^```\s*$", re.MULTILINE | re.DOTALL)
every_page = pytest.mark.parametrize("name", NAMES)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page.

    Attributes:
        language: What stands behind the opening fence.
        text: What stands inside.
        line: The line of its first character in the page.
        adjoining: Nothing but blank lines separate it from the block before.
    """

    language: str
    text: str
    line: int
    adjoining: bool


def blocks_of(name: str) -> list[Block]:
    """Return the fenced blocks of a page."""
    text = (ROOT / name).read_text(encoding="utf-8")
    found, end = [], 0
    for match in FENCE.finditer(text):
        line = text.count("\n", 0, match.start("text")) + 1
        adjoining = bool(found) and not text[end : match.start()].strip()
        found.append(Block(match["language"], match["text"], line, adjoining))
        end = match.end()
    return found


@dataclass(frozen=True)
class Command:
    """A command of a console block, what the page says it prints, and its exit status."""

    text: str
    expected: str
    status: int


def commands_of(block: Block) -> list[Command]:
    """Return the commands of a console block."""
    commands: list[Command] = []
    for piece in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        lines = piece.splitlines()
        command = [lines.pop(0)]
        while command[-1].endswith("\\"):
            command.append(lines.pop(0))
        status = 0
        if lines and (stated := re.fullmatch(r"# exit status (\d+)", lines[-1].strip())):
            status = int(stated[1])
            lines.pop()
        commands.append(Command("\n".join(command), "\n".join(lines), status))
    return commands


# Training gives slightly other weights on processors with other instructions: what its results may differ by, in
# percentage points of accuracy and in AUC.
TRAINED = {"make ": 3.0, "orric value ": 0.06}
NUMBER = r"\d+(?:,\d{3})*(?:\.\d+)?"


def agrees(expected: str, printed: str, tolerance: float = 0.0) -> bool:
    """Say whether text printed is what was expected, up to `...`, the amount of blank space, and the tolerance.

    Args:
        expected: What the page says.
        printed: What was printed.
        tolerance: How far numbers may be apart.
    """
    numbers = numbers_in_place(expected, printed)
    if numbers is None:
        return False
    if not tolerance:
        pieces = [re.escape(" ".join(piece.split())) for piece in expected.split("...")]
        return re.fullmatch(r"\s*.*?\s*".join(pieces), " ".join(printed.split()), re.DOTALL) is not None
    stated = re.findall(NUMBER, expected)
    return all(abs(_number(new) - _number(old)) <= tolerance for new, old in zip(numbers, stated, strict=True))


def numbers_in_place(expected: str, printed: str) -> list[str] | None:
    """Return the numbers printed where the page has numbers, or None when the words differ."""
    patterns = [
        f"({NUMBER})".join(map(re.escape, re.split(NUMBER, " ".join(piece.split())))) for piece in expected.split("...")
    ]
    found = re.fullmatch(r"\s*.*?\s*".join(patterns), " ".join(printed.split()), re.DOTALL)
    return list(found.groups()) if found else None


def _number(text: str) -> float:
    return float(text.replace(",", ""))


def check(page: Path, expected: str, printed: str, where: str, tolerance: float = 0.0) -> None:
    """Fail when a page says something else than was printed; or write the new numbers into it, when asked to."""
    if os.environ.get("ORRIC_UPDATE_DOCS") and (numbers := numbers_in_place(expected, printed)):
        replacements = iter(numbers)
        updated = re.sub(NUMBER, lambda old: next(replacements).rjust(len(old[0])), expected)
        page.write_text(page.read_text(encoding="utf-8").replace(expected, updated), encoding="utf-8")
    else:
        assert agrees(expected, printed, tolerance), f"{where}\n--- the page says\n{expected}\n--- printed\n{printed}"


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give a page a copy of what its commands read, so that what they write does not land in the repository."""
    for folder in ("traces", "simulations"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    registered = dict(orric.ALLOCATORS)
    yield tmp_path
    orric.ALLOCATORS.clear()
    orric.ALLOCATORS.update(registered)


def pages_with(command: Command) -> list[str]:
    """Return the pages that show a command with the same output and status."""
    return [
        name
        for name in NAMES
        for block in blocks_of(name)
        if block.language == "console" and command in commands_of(block)
    ]


def recipe(target: str) -> list[str]:
    """Return the commands that `make` would run for a target in a fresh clone."""
    # The tests may themselves run under make, whose variables would add lines of their own.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    answer = subprocess.run(
        ["make", "-n", target, "VENV=nowhere"], check=True, capture_output=True, text=True, cwd=ROOT, env=environment
    )
    return answer.stdout.splitlines()


def run_command(command: Command, page: Path, where: str) -> None:
    """Run a command in the current folder and compare what it prints with what the page says."""
    line = command.text
    tolerance = next((far for begin, far in TRAINED.items() if line.startswith(begin)), 0.0)
    if line.startswith("make "):
        line = recipe(line.removeprefix("make "))[-1].replace("nowhere/bin/", "")
        if "pytest" in line:
            return
    answer = subprocess.run(line, shell=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert answer.returncode == command.status, f"{where}: {command.text}\n{answer.stdout}"
    check(page, command.expected, answer.stdout, f"{where}: {command.text}", tolerance)


@every_page
def test_every_block_is_of_a_known_kind(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    assert text.count("```") == 2 * len(blocks_of(name)), "a fence is indented or not closed, so its block escapes"
    assert {block.language for block in blocks_of(name)} <= LANGUAGES
    for block in blocks_of(name):
        if block.language == "console":
            assert block.text.startswith("$ "), f"{name}:{block.line}: a console block begins with a command"


@pytest.mark.parametrize(
    "name", [name for name in NAMES if {block.language for block in blocks_of(name)} & {"python", "console"}]
)
def test_commands_and_code_do_what_the_page_says(name: str, workspace: Path) -> None:
    namespace: dict[str, Any] = {"__name__": "__main__"}
    blocks = blocks_of(name)
    for block, follower in zip(blocks, [*blocks[1:], None], strict=True):
        where = f"{name}:{block.line}"
        if block.language == "console":
            for command in commands_of(block):
                # Half a minute is well spent once: what stands word for word on a later page is run there.
                if "orric calibrate --slots" in command.text and pages_with(command)[-1] != name:
                    continue
                run_command(command, ROOT / name, where)
        elif block.language == "python":
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                exec(compile("\n" * (block.line - 1) + block.text, name, "exec"), namespace)
            shown = follower.text if follower and follower.adjoining and follower.language == "text" else ""
            check(ROOT / name, shown, printed.getvalue(), where)


@pytest.mark.parametrize(
    "name", [name for name in NAMES if {block.language for block in blocks_of(name)} & {"toml", "csv"}]
)
def test_files_shown_can_be_read(name: str, workspace: Path) -> None:
    for block in blocks_of(name):
        if block.language == "csv":
            (workspace / "shown.csv").write_text(block.text)
            orric.Trace.load(workspace / "shown.csv")
        elif block.language == "toml":
            _read_toml(block, workspace, f"{name}:{block.line}")


def _read_toml(block: Block, workspace: Path, where: str) -> None:
    table = tomllib.loads(block.text)
    if "project" in table:
        return
    if "scenario" in table:
        shown = workspace / "simulations/sweeps/shown.toml"
        shown.write_text(block.text)
        Sweep.load(shown)
        return
    if "store" in table:
        (workspace / "shown.toml").write_text(block.text)
        EdgeConfig.load(workspace / "shown.toml", {})
        return
    kind = "simulations" if set(table) - {"format"} <= set(orric.Scenario.model_fields) else "traces/profiles"
    loader: Any = orric.Scenario if kind == "simulations" else orric.Profile
    shown = workspace / kind / "shown.toml"
    if "format" in table:
        shown.write_text(block.text)
        loader.load(shown)
        return
    # A piece is put in the place of its like in a whole file.
    assert table.keys() <= loader.model_fields.keys(), f"{where}: neither a piece of a scenario nor of a profile"
    whole = workspace / kind / ("quickstart.toml" if kind == "simulations" else "digits.toml")
    merged = tomllib.loads(whole.read_text())
    merged.pop("format")
    for key, value in table.items():
        if key in ("gpu", "stream"):
            merged[key] = [{**merged[key][0], **value[0]}]
        else:
            merged[key] = value
    loader.model_validate(merged)


def test_make_runs_the_main_job_and_all_tests() -> None:
    assert recipe("run")[-1] == "nowhere/bin/orric run simulations/quickstart.toml"
    assert recipe("test")[-1].startswith("nowhere/bin/python -m pytest")
    consoles = [block for block in blocks_of("README.md") if block.language == "console"]
    readme = [command.text for block in consoles for command in commands_of(block)]
    assert {"make run", "make test"} <= set(readme)


@every_page
def test_links_lead_somewhere(name: str) -> None:
    page = ROOT / name
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)\s]+)", text):
        if name == "README.md":
            assert "://" not in target, "the README names no host"
        if target.startswith(("http:", "https:")):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path) if path else page
        assert linked.exists(), f"{name} links to {target}, which does not exist"
        if anchor and linked.suffix == ".md":
            assert anchor in _anchors(linked), f"{name} links to {target}, but there is no such heading"


def _anchors(page: Path) -> set[str]:
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ +(.+?) *$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\s-]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@every_page
def test_files_named_in_running_text_exist(name: str) -> None:
    text = FENCE.sub("", (ROOT / name).read_text(encoding="utf-8"))
    for path in re.findall(r"`((?:orric|tests|docs|traces|simulations)/[\w./-]+)`", text):
        assert (ROOT / path).exists(), f"{name} names {path}, which does not exist"


def rows(name: str, heading: str) -> list[list[str]]:
    """Return the rows of the table that follows a heading, cell by cell, without its head."""
    text = (ROOT / name).read_text(encoding="utf-8")
    section = text[text.index(f"\n{heading}\n") :]
    table = re.search(r"(?:^\|.*\n)+", section, flags=re.MULTILINE)
    assert table is not None
    return [[cell.strip() for cell in line.strip("|\n").split("|")] for line in table[0].splitlines()[2:]]


@pytest.mark.parametrize(
    ("slot", "heading"), [(1, "### Slot 1: a budget that is met exactly"), (2, "### Slot 2: serving outweighs it")]
)
def test_code_visits_the_pairs_worked_by_hand(slot: int, heading: str) -> None:
    stream = StreamTask.of(orric.Profile.load(ROOT / "traces/profiles/cifar10c-fog.toml"), 1000, 1000)
    budget_macs = {1: 38.615e9, 2: 16.575e9}[slot]
    weights = slot_weights(stream, 50)
    visited = []

    def fits(i: int, j: int) -> bool:
        retraining, inference = stream.retraining[i], stream.inference[j]
        cost = 1000 * (retraining.cost_macs + inference.cost_macs)
        fitting = feasible(1000, retraining.cost_macs, inference.cost_macs, budget_macs)
        score = weights[0][slot - 1] * retraining.profit + weights[1][slot - 1] * inference.profit
        shown = f"{score:.4f}" if fitting else ""
        visited.append([retraining.name, inference.name, f"{cost / 1e9:.3f}", "yes" if fitting else "no", shown])
        return bool(fitting)

    best = staircase(
        [one.profit for one in stream.retraining],
        [one.profit for one in stream.inference],
        weights[0][slot - 1],
        weights[1][slot - 1],
        fits,
    )
    on_the_page = [row[1:] for row in rows("docs/background/model.md", heading)]
    assert [[cell.replace("**", "") for cell in row] for row in on_the_page] == visited
    chosen = next(row for row in on_the_page if row[0].startswith("**"))
    assert best is not None
    assert chosen[0].strip("*") == stream.retraining[best[0]].name
    assert chosen[1].strip("*") == stream.inference[best[1]].name


def test_quoted_errors_are_those_of_the_profile() -> None:
    provenance = orric.Profile.load(ROOT / "traces/profiles/digits.toml").provenance
    mean, worst = (100 * provenance[f"validation_error_{which}"] for which in ("mean", "worst"))
    for name in ("README.md", "docs/background/limits.md"):
        text = " ".join((ROOT / name).read_text(encoding="utf-8").split())
        assert f"{mean:.2f} points on average and {worst:.2f} at worst" in text, f"{name}: {mean:.2f} and {worst:.2f}"


def test_every_key_of_the_formats_is_described() -> None:
    scenarios = (ROOT / "docs/guides/scenarios.md").read_text(encoding="utf-8")
    profiles = (ROOT / "docs/guides/profiles.md").read_text(encoding="utf-8")
    from orric.drift import KINDS, LabelShift
    from orric.profile import DriftCurve, TableEntry
    from orric.scenario import Gpu, Stream

    for section in (orric.Scenario, Gpu, Stream, *KINDS.values(), LabelShift):
        for key in section.model_fields:
            assert f"`{key}`" in scenarios, key
    measured = (DriftCurve, TableEntry)
    configurations = (orric.RetrainingConfiguration, orric.InferenceConfiguration)
    for section in (orric.Profile, *configurations, orric.LearningExtent, *measured):
        for key in section.model_fields:
            assert f"`{key}`" in profiles, key
