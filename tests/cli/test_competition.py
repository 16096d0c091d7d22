"""optimum, verify, ratio and adversary: what people read, what is refused before any work, and what is left behind."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

import orric as package

from ..builders import build_profile, random_trace

TOP = ("theorem2", "theorem3", "theorem4", "corollary1_slots", "crossing_slots")
QUICK = ("--slots", 3, "--restarts", 2, "--evaluations", 60, "--jobs", 1)


def listed(folder="."):
    return sorted(path.name for path in Path(folder).iterdir())


class Raising(package.InferenceOnly):
    """Raises in the second slot."""

    name = "raising"

    def choose(self, slots, requests, budgets_macs):
        if (slots == 2).any():
            raise RuntimeError("out of order")
        return super().choose(slots, requests, budgets_macs)


class Lavish(package.Allocator):
    """Always takes the dearest pair."""

    name = "lavish"

    def decide(self, slot):
        stream = self.task.streams[0]
        return package.Allocation((package.StreamAllocation(stream.retraining[-1].name, stream.inference[-1].name),))


@pytest.fixture
def faulty(monkeypatch):
    for one in (Raising, Lavish):
        monkeypatch.setitem(package.ALLOCATORS, one.name, one)


def test_optimum_tells_people_the_interval_and_the_pairs(orric, files):
    status, out, err = orric("optimum", *files, "--gap", "1e-6", "--certificate", "c.certificate")
    assert (status, err) == (0, "")
    assert re.search(r"offline optimum: [\d,.]+ to [\d,.]+ correct requests of [\d,]+, mean accuracy", out)
    assert re.search(r"relative gap \d\.\de-\d+, 6 slots", out)
    counts = [int(line.strip("│ ").split("│")[-1]) for line in out.splitlines() if line.startswith("│")]
    assert sum(counts) == 6
    assert "orric verify c.certificate" in out
    assert "was not met" not in out
    status, out, err = orric("verify", "c.certificate", *files)
    assert (status, err) == (0, "")
    assert "6 slots" in out


def test_optimum_by_any_means_answers_with_the_documented_keys(orric, files):
    for means in (("--exact",), ("--gap", "1e-3"), ("--gap", "0.5")):
        status, out, _ = orric("optimum", *files, *means, "--json")
        answer = json.loads(out)
        assert status == 0
        assert set(answer) == {"lower", "upper", "gap", "allocations", "seconds", "reason"}
        assert [one["slot"] for one in answer["allocations"]] == [1, 2, 3, 4, 5, 6]


def test_a_gap_that_is_not_met_is_said(orric, files):
    memory = package.LearningExtent(kind="window", slots=2)
    build_profile(memory=memory).save("profile.toml")
    random_trace(5, 30).save("trace.csv")
    status, out, _ = orric("optimum", *files, "--gap", "0", "--json")
    assert status == 0
    assert json.loads(out)["reason"]
    for command in ("optimum", "ratio"):
        status, out, _ = orric(command, *files, "--gap", "0")
        assert status == 0
        assert "the gap of 0 was not met: " in out


def test_configurations_are_named_as_the_profile_has_them(orric, files):
    profile = build_profile()
    named = [one.model_copy(update={"name": f"[bold]{one.name}[/]"}) for one in profile.inference]
    profile.model_copy(update={"inference": tuple(named)}).save("profile.toml")
    assert "[bold]i" in orric("optimum", *files)[1]


def test_ratio_tells_people_the_interval_beside_the_bounds(orric, files):
    status, out, err = orric("ratio", *files, "--allocator", "orric", "--allocator", "inference-only")
    assert (status, err) == (0, "")
    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in out.splitlines() if line[:1] == "│"]
    answers = json.loads(orric("ratio", *files, "--allocator", "orric", "--allocator", "inference-only", "--json")[1])
    for row, answer in zip(rows, answers["results"], strict=True):
        low, high = answer["ratio"]["low"], answer["ratio"]["high"]
        assert row[:4] == [answer["allocator"], f"{low:.6f}", f"{high:.6f}", f"{answer['regret']['high']:,.1f}"]
        worst = int(row[4].split()[0]) if row[4] != "none" else None
        assert worst in (None, int(np.argmax(answer["losses"])) + 1)
    for words in ("proved: ORRIC at least", "(Theorem 2)", "(Theorem 3)", "(Corollary 1", "from:   alpha", "D_min"):
        assert (words in out) == (words != "D_min")


def test_ratio_answers_with_the_documented_keys(orric, files):
    for more in ((), ("--ensemble", 3, "--jobs", 1)):
        status, out, _ = orric("ratio", *files, *more, "--json")
        answer = json.loads(out)
        assert status == 0
        assert set(answer["bounds"]) >= set(TOP)
        if not more:
            assert set(answer) >= {"allocator", "value", "ratio", "bounds"}
            assert set(answer["ratio"]) == {"low", "high"}
            value = package.evaluate(build_profile(), package.Trace.load("trace.csv"), package.Orric()).value
            assert answer["value"] == value


def test_ensembles_and_horizons_take_the_gap_and_the_allocators_asked_for(orric, files):
    package.Trace(requests=[100, 400] * 3, budget_macs=[4e8, 5.6e9] * 3).save("trace.csv")
    widths = []
    for gap in ("0.05", "1e-9"):
        answer = json.loads(orric("ratio", *files, "--ensemble", 20, "--gap", gap, "--jobs", 1, "--json")[1])
        mean = answer["ratios"]["orric"]["mean"]
        widths.append(mean["high"] - mean["low"])
    assert widths[1] < 1e-8 < widths[0]
    asked = ("ratio", *files, "--horizons", "2:4", "--evaluations", 20, "--jobs", 1)
    rows = json.loads(orric(*asked, "--json")[1])["horizons"]
    assert all(set(row["worst"]) == {"orric", "inference-only"} for row in rows)
    rows = json.loads(orric(*asked, "--allocator", "focus-shift", "--json")[1])["horizons"]
    assert all(set(row["worst"]) == {"focus-shift"} for row in rows)
    assert "focus-shift worst" in orric(*asked, "--allocator", "focus-shift")[1]


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_narrow_terminal_never_cuts_a_figure(orric, files, monkeypatch, width):
    for module in ("competition", "ratios", "worst_case"):
        monkeypatch.setattr(f"orric.cli.{module}.console_of_output", lambda: Console(width=width))
    package.Trace(requests=[100_000, 400_000] * 20, budget_macs=[4e11, 5.6e12] * 20).save("trace.csv")
    names = [option for name in sorted(package.ALLOCATORS) for option in ("--allocator", name)]
    commands = [
        ("optimum", *files),
        ("ratio", *files, *names),
        ("ratio", *files, *names, "--ensemble", 3, "--jobs", 1),
        ("ratio", *files, "--horizons", "2:10", "--evaluations", 5, "--jobs", 1),
        ("adversary", *files[:2], *QUICK),
    ]
    for command in commands:
        status, out, err = orric(*command)
        assert (status, err) == (0, "")
        assert "…" not in out
        for line in out.splitlines():
            assert len(line) <= width or line.startswith("Replay: ")
    figures = re.findall(r"\d\.\d{6}", orric(*commands[1])[1])
    answers = json.loads(orric(*commands[1], "--json")[1])["results"]
    for answer in answers:
        assert {f"{answer['ratio'][end]:.6f}" for end in ("low", "high")} <= set(figures)


@pytest.mark.usefixtures("faulty")
def test_every_faulty_allocator_is_named_with_its_slot_and_the_others_go_on(orric, files):
    package.Trace(requests=[100, 100, 100], budget_macs=[1.4e9, 1.4e9, 4e8]).save("trace.csv")
    names = ("--allocator", "raising", "--allocator", "lavish")
    status, out, err = orric("ratio", *files, *names, "--allocator", "orric", "--json")
    assert status == 1
    assert [one["allocator"] for one in json.loads(out)["results"]] == ["orric"]
    told = err.splitlines()
    assert len(told) == 2
    assert "'raising', slot 2: raised RuntimeError: out of order" in told[0]
    assert "'lavish'" in told[1]
    assert "slot 3" in told[1]
    package.Trace(requests=[100, 150, 150], budget_macs=[1.4e9, 1.4e9, 1.4e9]).save("trace.csv")
    status, out, err = orric(
        "ratio", *files, *names[:2], "--allocator", "orric", "--ensemble", 5, "--jobs", 1, "--json"
    )
    assert status == 1
    assert list(json.loads(out)["ratios"]) == ["orric"]
    assert err.splitlines() == told[:1]
    # Where nobody is left, there is no result, and still everybody is told of.
    package.Trace(requests=[100, 100, 100], budget_macs=[1.4e9, 1.4e9, 4e8]).save("trace.csv")
    status, out, err = orric("ratio", *files, *names)
    assert (status, out) == (2, "")
    assert err.splitlines() == told


@pytest.mark.usefixtures("faulty")
def test_a_search_against_a_faulty_allocator_names_it(orric, files):
    for number in (1, 2):
        status, out, err = orric(
            "adversary", *files[:2], "--allocator", "raising", *QUICK[:2], "--restarts", number, "--jobs", 1
        )
        assert (status, out) == (2, "")
        assert err.startswith("orric: allocator 'raising', slot 2: raised RuntimeError: out of order")
        assert err.count("\n") == 1


def test_the_replay_command_gives_the_very_ratio(orric, files):
    folder = Path("a folder [of mine]")
    options = ("--output", folder / "worst case.csv", "--seed", 5)
    for more in ((), ("--curves",), ("--from-proofs",), ("--levels", 3)):
        status, out, err = orric("adversary", *files[:2], *QUICK, *options, *more, "--json")
        assert (status, err) == (0, "")
        answer = json.loads(out)
        assert json.loads((folder / "worst case.json").read_text()) == answer
        command = shlex.split(answer["replay"])
        assert command.pop(0) == "orric"
        replayed = json.loads(orric(*command, "--json")[1])
        assert (replayed["value"], replayed["ratio"]) == (answer["value"], answer["ratio"])
        assert answer["ratio"]["high"] <= answer["ratio_before_shrinking"] * (1 + 1e-3) * (1 + 1e-6)
        assert set(answer["bounds"]) >= set(TOP)
        assert answer["evaluations"] == 120
        trace = package.Trace.load(answer["trace"])
        assert (trace.slots, (trace.requests >= 100).all(), (trace.requests <= 1000).all()) == (
            answer["slots"],
            True,
            True,
        )
    assert listed(folder) == ["worst case.csv", "worst case.json", "worst case.search", "worst case.toml"]


def test_adversary_tells_people_what_it_found(orric, files):
    status, out, err = orric("adversary", *files[:2], *QUICK, "--output", "[w].csv")
    assert (status, err) == (0, "")
    assert re.match(r"orric: ratio 0\.\d{6} to 0\.\d{6} on \d slots \(0\.\d{6} on 3 before shrinking; 120 traces", out)
    assert "proved: ORRIC at least" in out
    assert out.splitlines()[-2:] == [
        "Trace: [w].csv",
        "Replay: orric ratio --profile profile.toml --trace '[w].csv' --allocator orric --seed 0",
    ]
    assert listed("[w].search") == ["restart-0.jsonl", "restart-1.jsonl"]
    assert "at random" not in out


def test_adversary_tells_by_how_many_runs_it_judges_a_randomised_allocator(orric, files):
    draws = ("adversary", *files[:2], *QUICK, "--allocator", "random", "--output", "w.csv")
    status, out, err = orric(*draws)
    assert (status, err) == (0, "")
    assert "these are means of 16 runs; the mean of 100 others is 0." in out
    answer = json.loads(orric(*draws, "--seeds", 3, "--json")[1])
    others = answer["ratio_on_other_seeds"]
    assert answer["seeds"] == 3
    assert others["low"] < others["mean"] < others["high"]
    assert json.loads(orric(*draws[:-4], "--json")[1])["ratio_on_other_seeds"] is None


def test_ranges_may_come_from_a_trace(orric, files):
    package.Trace(requests=[200, 300], budget_macs=[6e8, 4.2e9]).save("trace.csv")
    status, out, err = orric("adversary", *files, *QUICK[2:], "--json")
    assert (status, err) == (0, "")
    found = package.Trace.load(json.loads(out)["trace"])
    assert package.TraceRange(2, (200, 300), (6e8, 4.2e9)).contains(found)


def test_an_earlier_search_is_replaced_and_anything_else_is_kept(orric, files):
    command = ("adversary", *files[:2], *QUICK[:2], *QUICK[4:], "--output", "w.csv")
    assert orric(*command, "--restarts", 3)[0] == 0
    assert orric(*command, "--restarts", 2)[0] == 0
    assert listed("w.search") == ["restart-0.jsonl", "restart-1.jsonl"]
    before = {path.name: path.read_bytes() for path in Path().iterdir() if path.is_file()}
    Path("w.search/notes.txt").write_text("mine")
    status, out, err = orric(*command)
    assert (status, out) == (2, "")
    assert "w.search: holds something else (notes.txt)" in err
    assert Path("w.search/notes.txt").read_text() == "mine"
    assert len(listed("w.search")) == 3
    assert {path.name: path.read_bytes() for path in Path().iterdir() if path.is_file()} == before


def test_a_searched_curve_is_never_written_over_the_profile(orric, files):
    before = Path("profile.toml").read_bytes()
    status, out, err = orric("adversary", *files[:2], *QUICK, "--curves", "--output", "profile.csv")
    assert (status, out) == (2, "")
    assert "would be written over the profile profile.toml" in err
    assert Path("profile.toml").read_bytes() == before
    assert listed() == ["profile.toml", "trace.csv"]
    assert orric("adversary", *files[:2], *QUICK, "--output", "profile.csv")[0] == 0
    assert Path("profile.toml").read_bytes() == before


def interrupted_after(monkeypatch, measurements):
    """Press Ctrl-C when so many ratios have been measured."""
    measured, left = package.Search.ratio, iter(range(measurements))

    def ratio(self, profile, trace):
        if next(left, None) is None:
            monkeypatch.setattr(package.Search, "ratio", measured)
            raise KeyboardInterrupt
        return measured(self, profile, trace)

    monkeypatch.setattr(package.Search, "ratio", ratio)


# The 120 evaluations of the searches come before those of shrinking; repeated ones are not measured again.
@pytest.mark.parametrize(("measurements", "curves"), [(1, False), (30, True), (90, False), (125, False)])
def test_ctrl_c_leaves_the_worst_trace_so_far_and_it_replays(orric, files, monkeypatch, measurements, curves):
    interrupted_after(monkeypatch, measurements)
    status, out, err = orric("adversary", *files[:2], *QUICK, *["--curves"] * curves, "--output", "w.csv", "--json")
    assert status == 130
    assert err == "orric: interrupted; the worst trace so far is in w.csv\n"
    answer = json.loads(out)
    assert answer["interrupted"]
    lines = [json.loads(line) for path in Path("w.search").iterdir() for line in path.read_text().splitlines()]
    assert answer["ratio_before_shrinking"] == min(line["ratio"] for line in lines)
    replayed = json.loads(orric(*shlex.split(answer["replay"])[1:], "--json")[1])
    assert (replayed["value"], replayed["ratio"]) == (answer["value"], answer["ratio"])
    assert answer["ratio"]["high"] == pytest.approx(answer["ratio_before_shrinking"], rel=1e-5)


def test_ctrl_c_before_any_trace_leaves_nothing_but_the_earlier_result(orric, files, monkeypatch):
    assert orric("adversary", *files[:2], *QUICK, "--output", "w.csv")[0] == 0
    before = {path: path.read_bytes() for path in Path().glob("w.*") if path.is_file()}
    interrupted_after(monkeypatch, 0)
    told = "orric: interrupted; no trace had been measured yet\n"
    assert orric("adversary", *files[:2], *QUICK, "--output", "w.csv") == (130, "", told)
    assert {path: path.read_bytes() for path in Path().glob("w.*")} == before


@pytest.mark.parametrize(
    ("command", "remains"),
    [
        (("--ensemble", 5), "; nothing was measured to the end"),
        (("--horizons", "2:4"), "; nothing was measured to the end"),
        ((), ""),
    ],
)
def test_an_interrupted_measurement_ends_in_one_line(orric, files, monkeypatch, command, remains):
    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("orric.competitive.optimum.OfflineProblem.of", interrupt)
    status, out, err = (
        orric("ratio", *files, *command, "--jobs", 1, "--output", *["f.png"])[:3]
        if not command
        else orric("ratio", *files, *command, "--jobs", 1)
    )
    assert (status, out, err) == (130, "", f"orric: interrupted{remains}\n")
    assert listed() == ["profile.toml", "trace.csv"]


@pytest.mark.parametrize("damage", ["cut", "flipped", "text", "number", "folder"])
def test_a_damaged_certificate_is_refused_in_one_line(orric, files, damage):
    assert orric("optimum", *files, "--certificate", "c")[0] == 0
    path = Path("c")
    raw = path.read_bytes()
    if damage == "cut":
        path.write_bytes(raw[: len(raw) // 2])
    elif damage == "flipped":
        path.write_bytes(raw[: len(raw) // 3] + bytes([raw[len(raw) // 3] ^ 255]) + raw[len(raw) // 3 + 1 :])
    elif damage == "text":
        path.write_text("lower,upper\n")
    elif damage == "folder":
        path.unlink()
        path.mkdir()
    else:
        certificate = package.Certificate.load(path)
        certificate.claim["upper"] *= 1 - 1e-3
        # Its digest is made anew, so that only the proof can find it out.
        certificate.save(path)
    status, out, err = orric("verify", path)
    assert (status, out) == (2, "")
    assert err.count("\n") == 1
    assert err.startswith("orric: upper: " if damage == "number" else "orric: c: ")


@pytest.mark.parametrize("kind", ["profile", "trace"])
def test_a_certificate_about_another_profile_or_trace_is_refused(orric, files, kind):
    assert orric("optimum", *files, "--certificate", "c")[0] == 0
    build_profile(best_accuracy=0.91).save("other.toml")
    random_trace(2, 6).save("other.csv")
    other = "other.toml" if kind == "profile" else "other.csv"
    status, out, err = orric("verify", "c", f"--{kind}", other)
    assert (status, out) == (2, "")
    assert f"is about another {kind} than {other}" in err
    # Were it without any, it would be no better.
    certificate = package.Certificate.load("c")
    del certificate.claim[kind]
    certificate.save("c")
    for options in ((), (f"--{kind}", files[1] if kind == "profile" else files[3])):
        status, out, err = orric("verify", "c", *options)
        assert (status, out) == (2, "")
        assert err.count("\n") == 1


PAIR = ("--profile", "profile.toml", "--trace", "trace.csv")
SUBJECT = PAIR[:2]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("optimum", "--profile", "none.toml", "--trace", "trace.csv"), "none.toml: no such file"),
        (("optimum", *SUBJECT), "Missing option '--trace'"),
        (("optimum", *PAIR, "--gap", "nan"), "gap: found nan"),
        (("optimum", *PAIR, "--gap", -1), "give a relative width"),
        (("optimum", *PAIR, "--exact", "--certificate", "c"), "--exact and --certificate together"),
        (("optimum", *PAIR, "--gap", "1"), "gap: found 1"),
        (("optimum", *PAIR, "--gap", "narrow"), "--gap"),
        (("optimum", *PAIR, "--certificate", "."), "--certificate .: is a folder"),
        (("optimum", *PAIR, "--certificate", "none/c"), "--certificate none/c: its folder cannot be written"),
        (("optimum", *PAIR, "--certificate", "/proc/c"), "its folder cannot be written"),
        (("optimum", *PAIR, "--certificate", "trace.csv"), "is what is read from trace.csv"),
        (("verify", "none", *PAIR), "none: there is no such file"),
        (("verify", "trace.csv"), "is not a certificate"),
        (("ratio", *PAIR, "--allocator", "orric", "--allocator", "teacher-only"), "reference line"),
        (("ratio", *PAIR, "--ensemble", 0), "--ensemble"),
        (("ratio", *PAIR, "--ensemble", 5, "--horizons", "2:4"), "--ensemble and --horizons together"),
        (("ratio", *PAIR, "--ensemble", 5, "--output", "f.png"), "is named as a picture"),
        (("ratio", *PAIR, "--ensemble", 5, "--gap", 2), "gap: found 2"),
        (("ratio", *PAIR, "--horizons", "2:4", "--gap", "nan"), "gap: found nan"),
        (("ratio", *PAIR, "--horizons", "0:4"), "--horizons: found 0:4"),
        (("ratio", *PAIR, "--horizons", "4:2"), "--horizons: found 4:2"),
        (("ratio", *PAIR, "--horizons", "2:4:8"), "give LOW:HIGH"),
        (("ratio", *PAIR, "--horizons", "2.5:4"), "give LOW:HIGH"),
        (("ratio", *PAIR, "--horizons", "2:99999999999999999999"), "HIGH <= 1000000"),
        (("ratio", *PAIR, "--output", "profile.toml"), "give a name that ends in .png"),
        (("ratio", *PAIR, "--output", "none/f.png"), "--output none/f.png: its folder cannot be written"),
        (("ratio", *PAIR, "--horizons", "2:4", "--output", "none/f.png"), "its folder cannot be written"),
        (("ratio", *PAIR, "--seed", -1), "--seed"),
        (("adversary", *SUBJECT, "--requests", "10"), "--requests: found '10'"),
        (("adversary", *SUBJECT, "--requests", "1.2.3:4"), "--requests: found '1.2.3:4'"),
        (("adversary", *SUBJECT, "--requests", "10.5:20"), "give whole numbers"),
        (("adversary", *SUBJECT, "--requests", "20:10"), "requests: found 20 to 10"),
        (("adversary", *SUBJECT, "--requests", "0:5"), "D_min is above 0"),
        (("adversary", *SUBJECT, "--budget-macs", "1e999:1e999"), "budget_macs: found inf to inf"),
        (("adversary", *SUBJECT, "--budget-macs", "1e6:1e12"), "no slot is overloaded"),
        (("adversary", *SUBJECT, "--slots", 0), "--slots"),
        (("adversary", *SUBJECT, "--slots", 10**12), "--slots"),
        (("adversary", *SUBJECT, "--levels", 1), "--levels"),
        (("adversary", *SUBJECT, "--restarts", 0), "--restarts"),
        (("adversary", *SUBJECT, "--evaluations", 0), "--evaluations"),
        (("adversary", *SUBJECT, "--tolerance", -1), "--tolerance"),
        (("adversary", *SUBJECT, "--tolerance", 5), "--tolerance"),
        (("adversary", *PAIR, "--output", "trace.csv"), "is what is read from trace.csv"),
        (("adversary", *SUBJECT, "--allocator", "oric"), "did you mean 'orric'"),
        (("adversary", *PAIR, "--requests", "1:2"), "--trace and ranges together"),
        (("adversary", *SUBJECT, "--output", "trace.txt"), "give a name that ends in .csv"),
        (("adversary", *SUBJECT, "--output", "worst"), "give a name that ends in .csv"),
        (("adversary", *SUBJECT, "--output", "trace.csv/w.csv"), "cannot be written"),
        (("adversary", *SUBJECT, "--output", "/proc/w.csv"), "cannot be written"),
    ],
)
def test_unusable_input_gets_one_line_and_status_2_and_leaves_nothing(orric, files, arguments, told):
    status, out, err = orric(*arguments)
    assert (status, out) == (2, "")
    assert told in err
    assert err.count("\n") == 1
    assert listed() == ["profile.toml", "trace.csv"]


@pytest.mark.usefixtures("files")
def test_infeasible_slots_and_outsize_instances_get_one_line_and_status_2(orric):
    package.Trace(requests=[100, 100], budget_macs=[1e9, 1e6]).save("trace.csv")
    for command in (("optimum",), ("optimum", "--exact"), ("ratio",)):
        status, out, err = orric(*command, *PAIR)
        assert (status, out) == (2, "")
        assert "slot 2: the budget of 1e+06 MACs is below" in err
        assert orric(*command, *PAIR, "--overload", "shed")[0] == 0
    for command in (("ratio", "--ensemble", 3), ("ratio", "--horizons", "2:3"), ("adversary",)):
        status, out, err = orric(*command, *PAIR)
        assert (status, out) == (2, "")
        assert "no slot is overloaded" in err


def test_a_folder_is_made_for_the_worst_trace_but_a_folder_is_no_trace(orric, files):
    assert orric("adversary", *files[:2], *QUICK, "--output", "deep/down/w.csv")[0] == 0
    assert listed("deep/down") == ["w.csv", "w.json", "w.search"]
    Path("folder.csv").mkdir()
    status, out, err = orric("adversary", *files[:2], *QUICK, "--output", "folder.csv")
    assert (status, out) == (2, "")
    assert "folder.csv: is a folder" in err
    assert not Path("folder.search").exists()
