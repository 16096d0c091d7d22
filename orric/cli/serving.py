"""The command of the edge box."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orric.cli.frame import app

if TYPE_CHECKING:
    from orric.edge.config import EdgeConfig


@app.command()
def serve(
    file: Annotated[Path, typer.Argument(metavar="CONFIG", help="Configuration of the daemon (TOML).")],
    check: Annotated[bool, typer.Option("--check", help="Check the configuration, and start nothing.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the address as one JSON object on standard output.")
    ] = False,
) -> None:
    """Serve a student, decide slot by slot, retrain it and swap it, until SIGTERM or Ctrl-C.

    The log goes to standard error, one JSON object a line. SIGHUP reads the configuration again.
    """
    from orric.edge.checks import refuse
    from orric.edge.config import EdgeConfig

    config = EdgeConfig.load(file)
    token = config.token()
    refuse(config)
    if check:
        from orric.edge.store import recognise

        recognise(config.store_folder)
        _print_check(file, config, token)
        return
    from orric.edge.daemon import Daemon
    from orric.edge.http import listen
    from orric.edge.log import log_to_stderr

    log_to_stderr()
    # Before anything is loaded or written: an address in use is the commonest mistake.
    listening = listen(config.server)

    def opened(host: str, port: int, health_port: int | None) -> None:
        name = f"[{host}]" if ":" in host else host
        url = f"http://{name}:{port}/"
        health = None if health_port is None else f"http://{name}:{health_port}/healthz"
        found = {"url": url, "model": config.stream[0].name, "health": health}
        print(json.dumps(found) if as_json else f"Status page: {url}", flush=True)

    with listening:
        Daemon(config, file, token).run(listening, opened)


def _print_check(file: Path, config: EdgeConfig, token: str | None) -> None:
    from orric.edge.checks import checked

    doubts = checked(config, token)
    server, budget = config.server, config.budget
    count = f"{len(doubts)} warning{'s' if len(doubts) > 1 else ''}, see below" if doubts else "fine"
    part = f"{budget.fraction:.3g} of " if budget.probe == "fixed" else ""
    whose = "as configured" if budget.macs_per_s is not None else "as the profile measured it"
    lines = [
        f"{file}: {count}",
        f"mode:      {config.mode}, {config.allocator}, {config.horizon_slots} slots of {config.slot_s:g} s an episode",
        f"streams:   {', '.join(one.name for one in config.stream)}",
        f"address:   {server.host}:{server.port}",
        f"budget:    {budget.probe}, {part}{config.macs_per_s:.3g} MACs/s, {whose}",
        f"token:     {'given' if token else 'none: nothing can be changed over HTTP'}",
    ]
    if config.mode != "decisions":
        whose = "everybody's images" if config.learns_from_everybody else "images that come with the token"
        learns = f"from {whose}, {'with' if config.anchors else 'without'} anchors"
        lines.append(f"learning:  {learns if config.retraining.enabled else 'off'}")
    print("\n".join(lines))
    for line in doubts:
        print(f"orric: warning: {line}", file=sys.stderr)
