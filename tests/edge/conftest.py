"""A daemon on the digits, in this process, whose slots begin and end when a test says so."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w

from orric.profile import Profile

from ..builders import PROFILES
from .lines import Line

for package in ("fastapi", "httptools", "msgspec", "prometheus_client", "uvloop", "onnxruntime"):
    pytest.importorskip(package, reason="needs orric[edge]")

TOKEN = "a-token-of-some-length"
DIGITS = PROFILES / "digits.toml"
STORES = Path(__file__).with_name("stores")


@pytest.fixture(scope="session")
def onnx_student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a profile whose student is an ONNX file that only serves."""
    from orric.retraining.models import exported

    folder = tmp_path_factory.mktemp("onnx")
    profile = Profile.load(DIGITS)
    assert profile.models is not None
    (folder / "student.onnx").write_bytes(exported(profile.beside(profile.models.student), "student", 10))
    models = profile.models.model_copy(
        update={"student": "student.onnx", "teacher": str(profile.beside(profile.models.teacher).resolve())}
    )
    profile.model_copy(update={"models": models}).save(folder / "profile.toml")
    return folder / "profile.toml"


@pytest.fixture(scope="session")
def selecting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a profile whose one way to retrain is on a fifth of the samples that CHG Shapley selects of three."""
    folder = tmp_path_factory.mktemp("selecting")
    table = Profile.load(DIGITS).moved(folder).model_dump(exclude_none=True)
    table["retraining"] = [table["retraining"][0], {"name": "20% picky", "profit": 1.0, "cost_macs": 14e6}]
    table["models"] |= {"sampling_ratio": {"none": 0.0, "20% picky": 0.2}, "selector": {"20% picky": "picky"}}
    table["selector"] = {"picky": {"method": "chg-shapley", "pool": 3.0}}
    Profile(**table).save(folder / "profile.toml")
    return folder / "profile.toml"


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a daemon's configuration; keys are given as server__port=1."""

    def written(profile: Path = DIGITS, **changes: Any) -> Path:
        table: dict[str, Any] = {
            "format": 1, "slot_s": 5.0, "horizon_slots": 50,
            "stream": [{"name": "digits", "profile": str(profile), "requests": [100.0, 1000.0]}],
            "budget": {"macs_per_s": 1e9}, "store": {"folder": "state"}, "server": {"port": 0},
        }  # fmt: skip
        for key, value in changes.items():
            *path, last = key.split("__")
            owner = table
            for part in path:
                owner = owner.setdefault(part, {})
            owner[last] = value
        path = tmp_path / "edge.toml"
        path.write_text(tomli_w.dumps({name: value for name, value in table.items() if value is not None}))
        return path

    return written


@pytest.fixture
def open_daemon(write, onnx_student: Path) -> Iterator[Callable[..., Any]]:
    """Return a function that makes a daemon, one that only serves unless a test says otherwise."""
    from orric.edge.config import EdgeConfig
    from orric.edge.daemon import Daemon

    made = []

    def opened(retrains: bool = False, now: Callable[[], float] | None = None, **changes: Any) -> Any:
        if not retrains:
            changes = {"retraining__enabled": False, "profile": onnx_student, **changes}
        path = write(**changes)
        daemon = Daemon(EdgeConfig.load(path, {}), path, TOKEN, **({"now": now} if now is not None else {}))
        daemon.ready = True
        made.append(daemon)
        return daemon

    yield opened
    for daemon in made:
        daemon.stop()


@pytest.fixture
def listening(open_daemon) -> Iterator[Callable[..., tuple[Any, str]]]:
    """Return a function that makes a daemon and lets it listen; it gives the daemon and its address."""
    from orric.edge.http import start_server

    servers = []

    def opened(**given: Any) -> tuple[Any, str]:
        daemon = open_daemon(**given)
        server = start_server(daemon)
        servers.append(server)
        return daemon, "{}:{}".format(*server.address)

    yield opened
    for server in servers:
        server.stop(1.0)


@pytest.fixture
def line() -> Iterator[Callable[..., Line]]:
    """Return a function that connects."""
    with contextlib.ExitStack() as opened:

        def connected(address: str, **given: Any) -> Line:
            return opened.enter_context(contextlib.closing(Line(address, **given)))

        yield connected


@pytest.fixture
def stores(tmp_path: Path) -> Path:
    """Return a copy of the stores of earlier versions, which a daemon may write to."""
    return Path(shutil.copytree(STORES, tmp_path / "stores"))


@pytest.fixture
def open_store() -> Iterator[Callable[[Path], Any]]:
    """Return a function that opens the store beside a configuration, as a daemon does."""
    from orric.edge.config import EdgeConfig
    from orric.edge.daemon import Daemon

    made = []

    def opened(folder: Path) -> Any:
        path = folder / "edge.toml"
        made.append(Daemon(EdgeConfig.load(path, {}), path, TOKEN))
        return made[-1]

    yield opened
    for daemon in made:
        daemon.stop()


@pytest.fixture(scope="session")
def images() -> np.ndarray:
    """Return digits under fog, shape (200, 32, 32, 3)."""
    from orric.retraining.accuracy import drifted
    from orric.vision.datasets import digits

    return drifted(digits(), 1, 1, 200, "fog", 4)[0]


@pytest.fixture
def orric_command(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Return a function that runs a command as a shell would."""
    import sys
    from unittest.mock import patch

    from orric.cli import main

    def run(*arguments: Any) -> tuple[int, str, str]:
        with patch.object(sys, "argv", ["orric", *map(str, arguments)]), pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return run


@pytest.fixture(scope="module")
def fog() -> tuple[np.ndarray, np.ndarray]:
    """Return digits under fog and their true classes."""
    from orric.retraining.accuracy import drifted
    from orric.vision.datasets import digits

    return drifted(digits(), 1, 1, 300, "fog", 5)
