"""The same sweep on a Ray cluster of two nodes, one of which is lost on the way."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

import orric
from orric.sweep import Sweep, conduct, on_cluster, on_cores, run_sweep

from .test_conduct import fingerprint

ray = pytest.importorskip("ray", reason="needs orric[cluster]")


@pytest.fixture
def cluster():
    """Return a cluster of two nodes on this machine."""
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    yield made
    ray.shutdown()
    made.shutdown()


@pytest.mark.filterwarnings("ignore")
def test_a_node_that_is_lost_costs_nothing(write, cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conduct, "TASK_S", 0.03)
    sweep = Sweep.load(write(engine="simulator", seeds=40))
    run_sweep(sweep, tmp_path / "here", on_cores(1))
    second = cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    engine, lost = on_cluster(cluster.address), []

    def lose(state: conduct.Progress) -> None:
        if state.done > state.total / 4 and not lost:
            lost.append(state.done)
            cluster.remove_node(second, allow_graceful=False)

    outcome = run_sweep(sweep, tmp_path / "there", engine, lose)
    assert lost
    assert lost[0] < outcome.runs == outcome.computed
    assert fingerprint(tmp_path / "here") == fingerprint(tmp_path / "there")


def test_an_address_where_nothing_answers_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    with pytest.raises(orric.ScenarioError, match=rf"nothing answers at 127.0.0.1:{port} .*ray start --head") as caught:
        on_cluster(f"127.0.0.1:{port}")
    assert "\n" not in str(caught.value)
    for wrong in ("nowhere", "host:port", "ray://"):
        with pytest.raises(orric.ScenarioError, match="is no address"):
            on_cluster(wrong)
    # One that swallows packets is given up on in good time.
    waited: list[float] = []

    def silent(address: tuple[str, int], timeout: float) -> None:
        waited.append(timeout)
        raise TimeoutError

    monkeypatch.setattr(socket, "create_connection", silent)
    with pytest.raises(orric.ScenarioError, match=r"nothing answers at ray://10\.0\.0\.1:10001"):
        on_cluster("ray://10.0.0.1:10001")
    assert max(waited) < 10
