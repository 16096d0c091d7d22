"""What a run's page says of where it comes from."""

from __future__ import annotations

import re

import orric
from orric.report import folder
from orric.report.folder import write_results
from orric.scenario import Stream


def test_a_report_says_which_folder_it_is_and_what_was_asked(small, tmp_path, monkeypatch) -> None:
    # Figures for papers are drawn elsewhere.
    monkeypatch.setattr(folder, "figures", lambda results: {})
    monkeypatch.setattr(folder, "server_figures", lambda results: {})
    one = small()
    first = one.stream[0]
    other = Stream(**{**first.model_dump(), "name": "b", "deadline_s": None, "drift": {
        "kind": "periodic", "corruptions": ["fog", "snow"], "low": 1, "high": 3, "period_slots": 6}})  # fmt: skip
    scenario = one.model_copy(update={"stream": (first, other)})
    results = [orric.simulate(one, orric.InferenceOnly(), seed=1)]

    def told(name: str) -> tuple[str, dict[str, str]]:
        (tmp_path / name).mkdir()
        write_results(tmp_path / name, tmp_path / name, scenario, results, 1, "orric run small.toml", {})
        page = (tmp_path / name / "report.html").read_text()
        found = dict(re.findall("<dt>(.*?)</dt><dd>(.*?)</dd>", page))
        return re.findall("<h1>(.*?)</h1>", page)[0], found

    title, found = told("looser")
    assert title == "orric report: small (looser)"
    assert found["speed"] == "gpu0 1e+09 MACs/s (fluid)"
    assert found["deadline"] == "camera-1: 0.2 s; b: none"
    drift = "periodic of fog, snow; low 1; high 3; period_slots 6; shape triangle"
    assert found["drift"] == f"camera-1: none; b: {drift}"
    assert told("small")[0] == "orric report: small"
