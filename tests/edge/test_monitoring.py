"""The dashboard and the alerts: they ask for what the daemon tells, and each alert fires when it should."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from ..builders import ROOT
from .test_http import ask

promql_parser = pytest.importorskip("promql_parser")

EXAMPLES = ROOT / "docs/examples/edge"
DASHBOARD = json.loads((EXAMPLES / "grafana.json").read_text())
RULES = [rule for group in yaml.safe_load((EXAMPLES / "alerts.yml").read_text())["groups"] for rule in group["rules"]]
# Grafana's own variables, as a query has them once it is asked.
VARIABLES = {"$__rate_interval": "5m", "$job": "orric", "$instance": ".+", "$model": ".+"}
# What Prometheus adds to what it scrapes, and what it tells of its own.
SCRAPED, OWN = {"job", "instance"}, {"up": set[str]()}
# Labels of what nothing has been counted of yet.
LATER = {
    "orric_refusals_total": {"reason"}, "orric_connections_closed_total": {"reason"},
    "orric_samples_total": {"model", "outcome"}, "orric_failures_total": {"model", "of"},
}  # fmt: skip


def panels() -> list[dict[str, Any]]:
    """Return the dashboard's panels but for its rows, which hold none while they are open."""
    assert not any(one.get("panels") for one in DASHBOARD["panels"])
    return [one for one in DASHBOARD["panels"] if one["type"] != "row"]


def queries() -> Iterator[tuple[str, str]]:
    """Yield where a query stands, and the query."""
    for panel in panels():
        for target in panel["targets"]:
            query = target["expr"]
            for name, value in VARIABLES.items():
                query = query.replace(name, value)
            yield f"panel {panel['title']!r}", query
    for rule in RULES:
        yield f"alert {rule['alert']}", rule["expr"]


def asked(query: str) -> dict[str, set[str]]:
    """Return the series that a query asks for, with the labels that they are selected by."""
    found: dict[str, set[str]] = {}

    def visit(node: Any) -> bool:
        if isinstance(node, promql_parser.VectorSelector):
            found.setdefault(node.name, set()).update(one.name for one in node.matchers.matchers)
        return True

    promql_parser.walk(promql_parser.parse(query), visit)
    return found


def grouped(query: str) -> set[str]:
    """Return the labels that a query groups or joins by."""
    found: set[str] = set()

    def visit(node: Any) -> bool:
        if isinstance(node, promql_parser.AggregateExpr) and node.modifier is not None:
            found.update(node.modifier.labels)
        return True

    promql_parser.walk(promql_parser.parse(query), visit)
    return found


@pytest.fixture
def told(listening: Callable[..., tuple[Any, str]]) -> str:
    """Return what a daemon tells Prometheus."""
    _, address = listening()
    status, _, text = ask(address, "GET", "/metrics")
    assert status == 200
    return text if isinstance(text, str) else text.decode()


def promtool(*arguments: str | Path, given: str | None = None) -> str:
    """Run promtool, and return all that it says; it must find nothing wrong."""
    if shutil.which("promtool") is None:
        pytest.skip("needs promtool")
    done = subprocess.run(
        ["promtool", *arguments], input=given, capture_output=True, text=True, check=False, timeout=120
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_dashboard_and_alerts_ask_for_what_the_daemon_tells(told: str) -> None:
    there: dict[str, set[str]] = {name: set(labels) for name, labels in OWN.items()}
    for family in text_string_to_metric_families(told):
        plain = f"{family.name}_total" if family.type == "counter" else family.name
        there.setdefault(plain, LATER.get(plain, set()))
        for sample in family.samples:
            there.setdefault(sample.name, set()).update(sample.labels)
    for where, query in queries():
        found = asked(query)
        assert found, where
        for name, labels in found.items():
            assert name in there, f"{where} asks for {name}"
            assert labels <= there[name] | SCRAPED, f"{where} selects {name} by {labels - there[name] - SCRAPED}"
        of_all = set.union(*(there[name] for name in found))
        assert grouped(query) <= of_all | SCRAPED, f"{where} groups by {grouped(query) - of_all - SCRAPED}"


def test_what_the_daemon_tells_is_as_it_should_be(told: str) -> None:
    assert promtool("check", "metrics", given=told) == ""


def test_the_dashboard_is_whole() -> None:
    everything = DASHBOARD["panels"]
    assert len({one["id"] for one in everything}) == len(everything)
    assert all(one["title"] for one in everything)
    assert {one["name"] for one in DASHBOARD["templating"]["list"]} == {"datasource", "job", "instance", "model"}
    for panel in panels():
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["description"], panel["title"]
        assert panel["datasource"]["uid"] == "${datasource}", panel["title"]
        names = [target["refId"] for target in panel["targets"]]
        assert len(set(names)) == len(names), panel["title"]
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24, panel["title"]
    assert DASHBOARD["id"] is None
    assert "__inputs" not in DASHBOARD, "it is provisioned as it is"


def test_the_alerts_say_what_happened_and_what_to_do() -> None:
    for rule in RULES:
        assert set(rule["annotations"]) == {"summary", "description", "runbook"}, rule["alert"]
        assert rule["labels"]["severity"] in {"warning", "critical"}, rule["alert"]
        assert 'job="orric"' in rule["expr"], rule["alert"]
    guide = (ROOT / "docs/guides/edge.md").read_text()
    assert all(rule["alert"] in guide for rule in RULES), "the guide says what to do"


def test_promtool_takes_the_alerts_and_the_queries(tmp_path: Path) -> None:
    assert f"{len(RULES)} rules found" in promtool("check", "rules", EXAMPLES / "alerts.yml")
    # As rules, the dashboard's queries are parsed by Prometheus itself, too.
    rules = [{"record": f"query:{number}", "expr": query} for number, (_, query) in enumerate(queries())]
    (tmp_path / "queries.yml").write_text(json.dumps({"groups": [{"name": "queries", "rules": rules}]}))
    promtool("check", "rules", tmp_path / "queries.yml")


BOX = '{job="orric",instance="box:8000"'
MODEL = BOX + ',model="digits"'
# A daemon that is well, minute by minute, {n} minutes long.
WELL = {
    f"up{BOX}}}": "1x{n}",
    f"process_start_time_seconds{BOX}}}": "0x{n}",
    f"process_resident_memory_bytes{BOX}}}": "5e8x{n}",
    f"process_open_fds{BOX}}}": "60x{n}",
    f"process_max_fds{BOX}}}": "65536x{n}",
    f'orric_refusals_total{BOX},reason="token"}}': "0+1x{n}",
    f"orric_slot{MODEL}}}": "1+1x{n}",
    f'orric_requests_total{MODEL},status="200"}}': "0+600x{n}",
    f'orric_requests_total{MODEL},status="503"}}': "0+1x{n}",
    f"orric_images_total{MODEL}}}": "0+6000x{n}",
    f"orric_shed_images_total{MODEL}}}": "0+10x{n}",
    f"orric_late_images_total{MODEL}}}": "0+6x{n}",
    f'orric_request_duration_seconds_bucket{MODEL},le="0.1"}}': "0+599x{n}",
    f'orric_request_duration_seconds_bucket{MODEL},le="1.0"}}': "0+600x{n}",
    f'orric_request_duration_seconds_bucket{MODEL},le="+Inf"}}': "0+600x{n}",
    f"orric_swaps_total{MODEL}}}": "0+1x{n}",
    f"orric_rollbacks_total{MODEL}}}": "0x{n}",
    f"orric_slots_missed_total{MODEL}}}": "0x{n}",
    **{
        f'orric_failures_total{MODEL},of="{of}"}}': "0x{n}"
        for of in ("decision", "retraining", "validation", "probe", "journal")
    },
    f'orric_samples_total{MODEL},outcome="learnt"}}': "0+100x{n}",
    f'orric_samples_total{MODEL},outcome="outlier"}}': "0+5x{n}",
    # Unknown in the first slots.
    f"orric_accuracy_estimate{MODEL}}}": "NaN NaN NaN 0.95x{n}",
    f"orric_in_time_accuracy_estimate{MODEL}}}": "NaN NaN NaN 0.94x{n}",
    f"orric_anchor_accuracy{MODEL}}}": "NaN NaN NaN 0.97x{n}",
}


def series(name: str, **labels: str) -> str:
    """Return a series as `WELL` names it."""
    more = "".join(f',{key}="{value}"' for key, value in labels.items())
    return f"{name}{BOX if name.startswith(('up', 'process_', 'orric_refusals')) else MODEL}{more}}}"


def failing(of: str) -> dict[str, str]:
    """Return a failure a minute from the thirtieth on."""
    return {series("orric_failures_total", of=of): "0x30 0+1x30"}


# What is otherwise than in `WELL`, after how many minutes, and what fires then.
CASES: dict[str, tuple[dict[str, str], int, list[str]]] = {
    "all is well": ({}, 120, []),
    "nobody answers": ({series("up"): "1x5 0x60"}, 60, ["OrricDown"]),
    "it starts again and again": (
        {series("process_start_time_seconds"): "0x35 2100x5 2400x5 2700x30"}, 60, ["OrricRestartsAgainAndAgain"],
    ),
    "the slots stand still": ({series("orric_slot"): "1+1x30 31x30"}, 60, ["OrricSlotLoopStandsStill"]),
    "it has just started": (
        {series("orric_slot"): "_x50 1x10", series("process_start_time_seconds"): "_x50 3000x10"}, 60, [],
    ),
    "requests take long": (
        {series("orric_request_duration_seconds_bucket", le="0.1"): "0+500x60"}, 60, ["OrricSlow"],
    ),
    "answers come late": ({series("orric_late_images_total"): "0+120x60"}, 60, ["OrricLate"]),
    "images are turned away": ({series("orric_shed_images_total"): "0+600x60"}, 60, ["OrricSheds"]),
    "come again, says many an answer": (
        {series("orric_requests_total", status="503"): "0+60x60"}, 60, ["OrricAnswersErrors"],
    ),
    "one request fails": ({series("orric_requests_total", status="500"): "0x50 1x10"}, 60, ["OrricFails"]),
    "somebody tries tokens": ({series("orric_refusals_total", reason="token"): "0+60x60"}, 60, ["OrricRefuses"]),
    "a version is taken back": ({series("orric_rollbacks_total"): "0x50 1x10"}, 60, ["OrricRolledBack"]),
    "retraining fails": (failing("retraining"), 60, ["OrricRetrainingFails"]),
    "slots are missed": ({series("orric_slots_missed_total"): "0x30 0+1x30"}, 60, ["OrricMissesSlots"]),
    "some candidates are refused": (failing("validation"), 60, []),
    "every candidate is refused": (
        {**failing("validation"), series("orric_swaps_total"): "5x60"}, 60, ["OrricRefusesEveryCandidate"],
    ),
    "the allocator fails": (failing("decision"), 60, ["OrricDecidesNothing"]),
    "the probe fails": (failing("probe"), 60, ["OrricDecidesNothing"]),
    "the disk is full": (failing("journal"), 60, ["OrricCannotWrite"]),
    "agreement falls": ({series("orric_accuracy_estimate"): "NaN NaN NaN 0.95x300 0.8x60"}, 350, ["OrricAgreesLess"]),
    "fewer are right and in time": (
        {series("orric_in_time_accuracy_estimate"): "NaN NaN NaN 0.94x300 0.8x60"}, 350, ["OrricLessRightInTime"],
    ),
    "it forgets": ({series("orric_anchor_accuracy"): "NaN NaN NaN 0.97x300 0.9x60"}, 350, ["OrricForgets"]),
    "strange images come": (
        {series("orric_samples_total", outcome="outlier"): "0+500x90"}, 90, ["OrricSetsSamplesAside"],
    ),
    "memory grows": ({series("process_resident_memory_bytes"): "5e8+1e8x60"}, 60, ["OrricMemory"]),
    "files run out": ({series("process_open_fds"): "60000x60"}, 60, ["OrricFiles"]),
}  # fmt: skip


def test_every_alert_has_its_case() -> None:
    assert {name for _, _, fires in CASES.values() for name in fires} == {rule["alert"] for rule in RULES}


@pytest.mark.parametrize("case", CASES)
def test_alerts_fire_when_they_should(case: str, tmp_path: Path) -> None:
    changes, minutes, fires = CASES[case]
    given = {**WELL, **changes}
    firing = {
        "expr": 'count by (alertname) (ALERTS{alertstate="firing"})',
        "eval_time": f"{minutes}m",
        "exp_samples": [{"labels": f'{{alertname="{name}"}}', "value": 1} for name in fires],
    }
    test = {
        "interval": "1m",
        "input_series": [
            {"series": name, "values": values.replace("{n}", str(minutes))} for name, values in given.items()
        ],
        "promql_expr_test": [firing],
    }
    path = tmp_path / "test.yml"
    rules = str(EXAMPLES / "alerts.yml")
    path.write_text(json.dumps({"rule_files": [rules], "evaluation_interval": "1m", "tests": [test]}))
    assert "SUCCESS" in promtool("test", "rules", path)


def test_what_an_alert_says(tmp_path: Path) -> None:
    labels = {"job": "orric", "instance": "box:8000", "model": "digits", "severity": "warning"}
    said = "box:8000 turns away 10% of the images for digits"
    rule = next(rule for rule in RULES if rule["alert"] == "OrricSheds")
    expected = {"exp_labels": labels, "exp_annotations": {**rule["annotations"], "summary": said}}
    given = {series("orric_images_total"): "0+540x60", series("orric_shed_images_total"): "0+60x60"}
    test = {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in given.items()],
        "alert_rule_test": [{"eval_time": "60m", "alertname": "OrricSheds", "exp_alerts": [expected]}],
    }
    rules = str(EXAMPLES / "alerts.yml")
    (tmp_path / "test.yml").write_text(
        json.dumps({"rule_files": [rules], "evaluation_interval": "1m", "tests": [test]})
    )
    promtool("test", "rules", tmp_path / "test.yml")


def test_units_of_figures_fit_their_names() -> None:
    """A panel of seconds shows seconds, one of bytes bytes, one of parts per cent."""
    for panel in panels():
        unit = panel["fieldConfig"]["defaults"]["unit"]
        for target in panel["targets"]:
            if re.search(r"_seconds_bucket", target["expr"]):
                assert unit == "s", panel["title"]
            if "_bytes" in target["expr"]:
                assert unit == "bytes", panel["title"]
            if re.search(r"_accuracy|_estimate|_part|_ratio", target["expr"]):
                assert unit == "percentunit", panel["title"]
