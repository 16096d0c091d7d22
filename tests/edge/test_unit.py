"""The unit: what systemd of every version from 249 on makes of it."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from orric.edge.config import CREDENTIAL, EdgeConfig, Server
from orric.edge.daemon import BEAT_S

from ..builders import ROOT

UNIT = ROOT / "docs/examples/edge/orric.service"
DROP_INS = sorted(UNIT.with_suffix(".service.d").glob("*.conf"))
# What `systemd-analyze security` may say at most, of 10.
EXPOSURE = 3.0
# Ubuntu 22.04 and JetPack 6 have it.
OLDEST = 249
# The version of systemd that brought a directive, by systemd.directives(7); 183 stands for that or earlier.
SINCE = {
    "Unit": {"After": 183, "Description": 183},
    "Install": {"WantedBy": 183},
    "Service": {
        "AmbientCapabilities": 229, "CPUWeight": 232, "CacheDirectory": 235, "CapabilityBoundingSet": 183,
        "Delegate": 218, "DeviceAllow": 208, "DevicePolicy": 208, "Environment": 183, "ExecReload": 183,
        "ExecStart": 183, "IOWeight": 230, "KillMode": 187, "LimitNOFILE": 183, "LoadCredential": 247,
        "LockPersonality": 235, "MemoryHigh": 231, "MemoryMax": 231, "MemorySwapMax": 232,
        "NoNewPrivileges": 187, "NotifyAccess": 183,
        "OOMPolicy": 243, "PrivateDevices": 209, "PrivateTmp": 183, "PrivateUsers": 232, "ProtectClock": 245,
        "ProtectControlGroups": 232, "ProtectHome": 214, "ProtectHostname": 242, "ProtectKernelLogs": 244,
        "ProtectKernelModules": 232, "ProtectKernelTunables": 232, "ProtectProc": 247, "ProtectSystem": 214,
        "RemoveIPC": 232, "Restart": 183, "RestartPreventExitStatus": 189, "RestartSec": 183,
        "RestrictAddressFamilies": 211, "RestrictNamespaces": 233, "RestrictRealtime": 231, "RestrictSUIDSGID": 242,
        "StateDirectory": 235, "StateDirectoryMode": 234, "SupplementaryGroups": 183, "SystemCallArchitectures": 209,
        "SystemCallErrorNumber": 209, "SystemCallFilter": 187, "TasksMax": 227, "TimeoutStartSec": 188,
        "TimeoutStopSec": 188, "Type": 183, "UMask": 183, "User": 183, "WatchdogSec": 183, "WorkingDirectory": 183,
    },
}  # fmt: skip
# Likewise of values that came later than their directive.
VALUES = {
    ("ProtectSystem", "strict"): 232,
    ("KillMode", "mixed"): 209,
    ("Delegate", "cpu"): 236,
    ("Type", "notify-reload"): 253,
}


def directives(path: Path) -> Iterator[tuple[str, str, str]]:
    """Yield section, name and value of every line."""
    section = ""
    for line in path.read_text().splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif line and not line.startswith("#"):
            name, _, value = line.partition("=")
            yield section, name, value


def service() -> dict[str, list[str]]:
    """Return the values of the unit's section."""
    found: dict[str, list[str]] = {}
    for section, name, value in directives(UNIT):
        if section == "Service":
            found.setdefault(name, []).append(value)
    return found


def analyzed(*arguments: str | Path) -> str:
    """Run systemd-analyze, and return all that it says."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze")
    done = subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, check=False, timeout=60)
    return done.stdout + done.stderr


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """Return the unit as it lies on a machine that has what it starts."""
    program = shutil.which("true")
    assert program is not None
    unit = tmp_path / UNIT.name
    unit.write_text(re.sub(r"(?<=^ExecStart=)\S+", program, UNIT.read_text(), flags=re.MULTILINE))
    return unit


@pytest.mark.parametrize("path", [UNIT, *DROP_INS], ids=lambda path: path.name)
def test_the_oldest_systemd_knows_every_directive(path: Path) -> None:
    for section, name, value in directives(path):
        since = max(SINCE[section][name], VALUES.get((name, value), 0))
        assert since <= OLDEST, f"{path.name}: {name}={value} came with systemd {since}"


@pytest.mark.parametrize("drop_in", [None, *DROP_INS], ids=lambda path: path.name if path else "alone")
def test_systemd_finds_nothing_to_say(installed: Path, drop_in: Path | None) -> None:
    if drop_in is not None:
        folder = installed.with_suffix(".service.d")
        folder.mkdir()
        shutil.copy(drop_in, folder)
    if not Path("/bin/kill").exists():
        pytest.skip("needs /bin/kill, which the unit reloads by")
    assert analyzed("verify", installed) == ""


def test_the_unit_exposes_little(installed: Path) -> None:
    told = analyzed("security", "--offline=yes", installed)
    if "unrecognized option" in told:
        pytest.skip("needs systemd-analyze 250 or newer")
    figure = re.search(r"Overall exposure level for orric\.service: ([\d.]+)", told)
    assert figure is not None, told
    print(f"systemd-analyze security: {figure[1]} of 10")
    assert float(figure[1]) <= EXPOSURE


def test_the_unit_and_the_daemon_agree(write, tmp_path: Path) -> None:
    unit = {name: values[-1] for name, values in service().items()}
    assert unit["Type"] == "notify", "notify-reload is ignored before 253"
    assert unit["ExecReload"].endswith("-HUP $MAINPID")
    assert unit["ExecStart"].split()[-2] == "serve"
    assert float(unit["WatchdogSec"]) > 2 * BEAT_S
    assert float(unit["TimeoutStopSec"]) >= Server().drain_s + 30
    assert unit["OOMPolicy"] == "continue", "the kernel may end the retraining process, and serving goes on"
    assert int(unit["LimitNOFILE"]) > 1024
    assert unit["RestartPreventExitStatus"] == "2"
    assert "EnvironmentFile" not in unit
    assert "MemoryDenyWriteExecute" not in unit, "torch fails under it"
    name, _, _ = unit["LoadCredential"].partition(":")
    assert name == CREDENTIAL
    (tmp_path / name).write_text("a-token-as-systemd-lays-it\n")
    given = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    assert EdgeConfig.load(write(), {}).token(given) == "a-token-as-systemd-lays-it"
