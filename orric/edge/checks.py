"""A configuration against physics and against this machine: what cannot be, and what an operator should know."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from orric.durable import hold
from orric.edge.config import LOOPBACK, EdgeConfig
from orric.edge.daemon import check_hash, read_model
from orric.edge.http import listen
from orric.edge.probes import probe_of
from orric.edge.serving import Model, available
from orric.edge.store import recognise
from orric.exceptions import EdgeError
from orric.folders import result_folder_around

# By which factor a device may be faster or slower than it was measured before that is told.
FAR = 3.0


def refuse(config: EdgeConfig) -> None:
    """Refuse what can never serve a request.

    Raises:
        EdgeError: A slot's whole device is less than one request costs.
    """
    whole = config.macs_per_s * config.slot_s * (config.budget.fraction if config.budget.probe == "fixed" else 1.0)
    for keys, profile in zip(config.stream, config.profiles, strict=True):
        least = min(profile.inference, key=lambda one: one.cost_macs)
        if least.cost_macs > whole:
            found = f"a slot has {whole:.3g} MACs, and one request of {keys.name} costs {least.cost_macs:.3g} at least"
            raise EdgeError("budget.macs_per_s", found, f"give what the device does in a second{_measured(config)}")


def checked(config: EdgeConfig, token: str | None) -> list[str]:
    """Check everything that a start needs, without starting or writing anything.

    Returns:
        What an operator should know, a line each.

    Raises:
        OrricError: A start would be refused.
    """
    refuse(config)
    probe = probe_of(config.budget)
    if config.budget.probe == "command":
        probe()  # what says nothing now would leave the daemon to take the whole device for its own
    recognise(config.store_folder)
    found = [*_of_speed(config), *_of_store(config.store_folder)]
    if not _is_held(config.store_folder):
        try:
            listen(config.server).close()
        except EdgeError as error:
            found.append(f"{error}, unless it is this daemon that runs there")
    if config.mode != "decisions":
        _check_models(config)
        absent = available(config.server)[1]
        found += [absent] if absent else []
    found += config.doubts(token)
    if config.server.host not in LOOPBACK and not config.server.inference_token:
        found.append("inference is open to whoever reaches this address; see server.inference_token")
    return found


def _measured(config: EdgeConfig) -> str:
    device = config.profiles[0].device
    return f"; the profile measured {device.macs_per_s:.3g}: leave the key out to take that" if device else ""


def _of_speed(config: EdgeConfig) -> list[str]:
    """Return what is odd about the device's speed, the slots and the deadline."""
    found, speed = [], config.macs_per_s
    # What a slot has at most of the device, where that is known beforehand.
    part = config.budget.fraction if config.budget.probe == "fixed" else 1.0
    device = config.profiles[0].device
    if device is not None:
        factor = speed / device.macs_per_s
        if not 1 / FAR <= factor <= FAR:
            than = f"{factor:.3g} times" if factor > 1 else f"1/{1 / factor:.3g} of"
            found.append(
                f"budget.macs_per_s is {speed:.3g}, {than} the {device.macs_per_s:.3g} of the profile's [device]; "
                "leave the key out to take that one, give budget.fraction where less of the device is meant, or "
                "calibrate here"
            )
    for keys, profile in zip(config.stream, config.profiles, strict=True):
        costs = [one.cost_macs for one in profile.retraining if one.cost_macs > 0]
        whose = "the whole device" if part == 1 else f"{100 * part:.3g} % of the device"
        cheapest_s = min(one.cost_macs for one in profile.inference) * keys.requests[0] / (speed * part)
        if cheapest_s > config.slot_s:
            found.append(
                f"slot_s is {config.slot_s:g}, and the {keys.requests[0]:g} requests of {keys.name} take "
                f"{cheapest_s:.3g} s of {whose} at the cheapest: every slot turns some away; give more of the device, "
                "or fewer requests"
            )
        least_s = min(costs, default=0.0) * keys.requests[0] / (speed * part)
        if least_s > config.slot_s and (config.retraining.enabled or config.mode == "decisions"):
            found.append(
                f"slot_s is {config.slot_s:g}, and the smallest retraining of {keys.name} takes {least_s:.3g} s of "
                f"{whose} at {keys.requests[0]:g} requests: nothing is ever retrained; give longer slots"
            )
        fastest_s = min(
            one.cost_macs / speed if one.latency_s is None or device is None
            else one.latency_s * device.macs_per_s / speed
            for one in profile.inference
        )  # fmt: skip
        deadline_s = config.deadline_s(keys)
        if deadline_s is not None and deadline_s < fastest_s:
            where = "server" if keys.deadline_s is None else "stream"
            found.append(
                f"{where}.deadline_s is {deadline_s:g}, and the fastest answer of {keys.name} takes {fastest_s:.3g} s: "
                "every one is late; raise it, or leave it out to count every answer"
            )
    return found


def _of_store(folder: Path) -> list[str]:
    """Return where a store lies in a folder of results: one of before, as a new one is refused there."""
    around = result_folder_around(folder)
    if around is None:
        return []
    return [f"store.folder lies in {around}, a folder of results; choose a place of its own for the next"]


def _is_held(folder: Path) -> bool:
    """Say whether a daemon runs with a store."""
    if not (folder / ".lock").is_file():
        return False
    with suppress(OSError):
        held = hold(folder / ".lock")
        if held is None:
            return True
        held.close()
    return False


def _check_models(config: EdgeConfig) -> None:
    """Load student and teacher as a start would, and run the student at every resolution.

    Raises:
        OrricError: They cannot be read, or are no models of what the profile says.
    """
    profile = config.profiles[0]
    models = profile.models
    assert models is not None, "the configuration checks this"
    student, teacher = profile.beside(models.student), profile.beside(models.teacher)
    check_hash("student", student, config.student_sha256)
    check_hash("teacher", teacher, config.teacher_sha256)
    resolutions = tuple(sorted(set(models.resolution_px.values())))
    if config.retraining.enabled:
        from orric.retraining.anchors import Anchors
        from orric.retraining.models import classes_of, exported

        classes = {role: classes_of(path, role) for role, path in (("student", student), ("teacher", teacher))}
        if len(set(classes.values())) > 1:
            found = f"has {classes['student']} classes, and the teacher {classes['teacher']}"
            raise EdgeError(str(student), found, "they must tell the same classes apart")
        content = exported(student, "student", classes["student"])
        if config.anchors is not None:
            Anchors.load(config.anchors, classes["student"])
    else:
        content = read_model(student)
    try:
        Model.open(content, 0, available(config.server)[0], 1, resolutions)
    except EdgeError as error:
        raise EdgeError(str(student), *error.args[1:]) from None
