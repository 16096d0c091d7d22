"""The daemon over HTTP: real clients, limits, tokens, and a fuzzer that reads the daemon's own document."""

from __future__ import annotations

import http.client
import json
from typing import Any

import numpy as np
import psutil
import pytest

from orric.edge.app import application
from orric.vision.datasets import to_input

from ..builders import PROFILES
from .conftest import DIGITS, TOKEN
from .lines import INFER, counted, eventually

HEADERS = {"Authorization": f"Bearer {TOKEN}"}


def ask(address: str, method: str, path: str, body: Any = None, headers: Any = None) -> tuple[int, dict, Any]:
    """Ask; return status, headers and what the body says."""
    host, port = address.split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=30)
    content = body if isinstance(body, (bytes, type(None))) else json.dumps(body).encode()
    kind = {"Content-Type": "application/json"} if content is not None else {}
    try:
        connection.request(method, path, content, {**kind, **(headers or {})})
        answer = connection.getresponse()
        read = answer.read()
    finally:
        connection.close()
    told = json.loads(read) if answer.getheader("content-type", "").startswith("application/json") else read
    return answer.status, dict(answer.getheaders()), told


def request_of(images: np.ndarray, **more: Any) -> dict[str, Any]:
    """Return a request of inference in JSON."""
    tensor = {"name": "images", "datatype": "UINT8", "shape": list(images.shape), "data": images.ravel().tolist()}
    return {"inputs": [tensor], **more}


def test_tritons_own_client_gets_onnx_runtimes_own_answers(listening, images: np.ndarray) -> None:
    client_of = pytest.importorskip("tritonclient.http", reason="needs tritonclient[http]")
    daemon, address = listening()
    with client_of.InferenceServerClient(address) as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("digits")
        assert client.is_model_ready("digits", "1")
        assert not client.is_model_ready("digits", "2")
        assert not client.is_model_ready("other")
        assert client.get_server_metadata()["name"] == "orric"
        about = client.get_model_metadata("digits")
        assert about["inputs"] == [{"name": "images", "datatype": "UINT8", "shape": [-1, 32, 32, 3]}]
        assert about["outputs"] == [{"name": "logits", "datatype": "FP32", "shape": [-1, 10]}]
        model = daemon.versions.model
        expected = model.session.run(None, {model.name: to_input(images[:5], 32)})[0]
        for binary_in in (True, False):
            given = client_of.InferInput("images", [5, 32, 32, 3], "UINT8")
            given.set_data_from_numpy(images[:5], binary_data=binary_in)
            for wanted in (None, True, False):
                outputs = None if wanted is None else [client_of.InferRequestedOutput("logits", binary_data=wanted)]
                for compression in (None, "gzip", "deflate"):
                    answer = client.infer(
                        "digits", [given], outputs=outputs, request_id="7", request_compression_algorithm=compression
                    )
                    assert answer.as_numpy("logits") == pytest.approx(expected, abs=1e-5)
                    assert answer.get_response()["id"] == "7"
        answer = client.infer("digits", [given], model_version="1")
        assert answer.as_numpy("logits") == pytest.approx(expected, abs=1e-5)
        with pytest.raises(Exception, match="this version does not serve"):
            client.infer("digits", [given], model_version="2")
        classes = client.infer(
            "digits", [given], outputs=[client_of.InferRequestedOutput("logits", class_count=1)]
        ).as_numpy("logits")  # fmt: skip
        assert [int(one[0].split(b":")[1]) for one in classes] == expected.argmax(axis=1).tolist()


def test_it_serves_at_the_slots_resolution(listening, images: np.ndarray) -> None:
    daemon, address = listening()
    daemon.batcher.resolution_px = 24
    status, _, told = ask(address, "POST", "/v2/models/digits/infer", request_of(images[:3]))
    model = daemon.versions.model
    expected = model.session.run(None, {model.name: to_input(images[:3], 24)})[0]
    assert status == 200
    assert np.array(told["outputs"][0]["data"]).reshape(3, 10) == pytest.approx(expected, abs=1e-5)


def test_a_full_queue_is_told_with_when_to_come_again(listening, images: np.ndarray) -> None:
    daemon, address = listening(server__queue_images=2)
    status, headers, told = ask(address, "POST", "/v2/models/digits/infer", request_of(images[:3]))
    assert (status, headers["retry-after"], told) == (503, "1", {"error": "too many images wait; come again"})
    assert daemon.uploads.shed == 3
    daemon.ready = False
    assert ask(address, "POST", "/v2/models/digits/infer", request_of(images[:1]))[0] == 503
    assert ask(address, "GET", "/readyz")[0] == 503
    assert ask(address, "GET", "/v2/health/ready")[0] == 503
    assert ask(address, "GET", "/v2/health/live")[0] == 200


def test_limits(listening, images: np.ndarray) -> None:
    _, address = listening(server__body_bytes=20_000, server__headers=20)
    path = "/v2/models/digits/infer"
    assert ask(address, "POST", path, b"x" * 20_001)[0] == 413
    assert ask(address, "POST", "/v1/decide", b"x" * 20_001, HEADERS)[0] == 413
    assert ask(address, "POST", path, b"{}", {f"x-{n}": "1" for n in range(30)})[0] == 431
    assert ask(address, "POST", path, b"{}", {"Content-Encoding": "br"})[0] == 415
    assert ask(address, "POST", "/v2/models/other/infer", b"{}")[0] == 404
    host, port = address.split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=30)
    connection.request("POST", path, iter([b"x" * 9000] * 5), {"Transfer-Encoding": "chunked"}, encode_chunked=True)
    assert connection.getresponse().status == 413
    connection.close()


def changing_routes(daemon: Any) -> list[str]:
    """Return every route that changes something: all but reading and inference."""
    found = [
        route.path for route in application(daemon).routes
        if {"POST", "PUT", "PATCH", "DELETE"} & set(getattr(route, "methods", ()) or ())
    ]  # fmt: skip
    return [path for path in found if not path.endswith("/infer") and not path.startswith("/v2/repository/")]


def test_whatever_changes_something_needs_the_token(listening) -> None:
    daemon, address = listening()
    routes = changing_routes(daemon)
    assert len(routes) == 7
    for route in routes:
        for headers in (
            {},
            {"Authorization": "Bearer wrong"},
            {"Authorization": f"Basic {TOKEN}"},
            {"Authorization": ""},
        ):
            status, told, _ = ask(address, "POST", route, {}, headers)
            assert status == 401, route
            assert told["www-authenticate"] == "Bearer"
    assert ask(address, "POST", "/v1/pause", None, HEADERS)[0] == 200
    assert daemon.loop.paused
    daemon.token = None
    for route in routes:
        assert ask(address, "POST", route, {}, HEADERS)[0] == 403, route


def test_inference_needs_it_where_that_is_configured(listening, images: np.ndarray) -> None:
    _, address = listening(server__inference_token=True)
    body = request_of(images[:1])
    assert ask(address, "POST", "/v2/models/digits/infer", body)[0] == 401
    assert ask(address, "POST", "/v2/models/digits/infer", body, HEADERS)[0] == 200


def test_labels_of_clients_are_counted(listening, images: np.ndarray) -> None:
    daemon, address = listening()
    _, _, told = ask(address, "POST", "/v2/models/digits/infer", request_of(images[:3], id="seven"))
    classes = np.array(told["outputs"][0]["data"]).reshape(3, 10).argmax(axis=1).tolist()
    labels = {"id": "seven", "labels": [classes[0], classes[1], (classes[2] + 1) % 10]}
    assert ask(address, "POST", "/v1/labels", labels, HEADERS)[2] == {"labels": 3, "right": 2}
    assert ask(address, "POST", "/v1/labels", labels, HEADERS)[0] == 409
    daemon.loop.begin()
    daemon.loop.finish()
    assert daemon.figures()["labelled_accuracy"] == pytest.approx(2 / 3)
    text = ask(address, "GET", "/metrics")[2].decode()
    assert 'orric_labelled_accuracy{model="digits"} 0.66' in text
    assert 'orric_request_duration_seconds_bucket{le="+Inf",model="digits"} 1.0' in text
    assert 'orric_images_total{model="digits"} 3.0' in text
    assert 'orric_failures_total{model="digits",of="probe"} 0.0' in text


def test_the_operator_over_http(listening) -> None:
    daemon, address = listening()
    assert ask(address, "POST", "/v1/pin", {"version": 9}, HEADERS)[0] == 409
    assert ask(address, "POST", "/v1/pin", {"version": 1}, HEADERS)[2] == {"done": "version 1 is pinned"}
    assert daemon.versions.current.pinned
    assert ask(address, "POST", "/v1/unpin", None, HEADERS)[0] == 200
    status, _, told = ask(address, "POST", "/v1/rollback", None, HEADERS)
    assert (status, told["error"]) == (409, "roll back: there is no earlier version")
    assert ask(address, "POST", "/v1/decide", {"streams": [{"name": "a", "requests": 1}]}, HEADERS)[0] == 409
    state = ask(address, "GET", "/v1/status")[2]
    assert state["serving"] == 1
    assert str(daemon.config.store_folder) not in json.dumps(state)


def test_what_an_ended_episode_was_told_does_not_reach_the_next(listening) -> None:
    """It was handed to the new allocator as of its own first slot, before it had decided any."""
    streams = [{"name": "gate", "profile": str(DIGITS), "requests": [10.0, 500.0]}]
    daemon, address = listening(
        profile=DIGITS, mode="decisions", stream=streams, allocator="orric-guided", budget__macs_per_s=1e10,
        horizon_slots=2,
    )  # fmt: skip
    observed = []
    for slot in range(5):
        seen = {"stream": "gate", "requests": 100, "served": 100, "agreement": slot / 10}
        body = {"streams": [{"name": "gate", "requests": 100}], "observed": [seen] * (slot > 0)}
        assert ask(address, "POST", "/v1/decide", body, HEADERS)[0] == 200
        told = daemon.decisions._journal.records[-1]["observed"]
        observed.append([(one["slot"], one["agreement"]) for one in told])
    assert observed == [[], [(1, 0.1)], [], [(1, 0.3)], []]


@pytest.mark.parametrize("allocator", ["orric", "orric-joint"])
def test_decisions_for_those_who_serve_otherwise(listening, allocator: str) -> None:
    streams = [
        {"name": "gate", "profile": str(DIGITS), "requests": [10.0, 500.0]},
        {"name": "hall", "profile": str(PROFILES / "cifar10c-fog.toml"), "requests": [10.0, 500.0]},
    ]
    daemon, address = listening(
        profile=DIGITS, mode="decisions", stream=streams, allocator=allocator, budget__macs_per_s=1e10
    )  # fmt: skip
    asked = {"streams": [{"name": "gate", "requests": 100}, {"name": "hall", "requests": 50}]}
    seen = {"stream": "gate", "requests": 100, "served": 100, "agreement": 0.9}
    for slot in range(1, 4):
        status, _, told = ask(address, "POST", "/v1/decide", {**asked, "observed": [seen] * (slot > 1)}, HEADERS)
        assert status == 200
        assert told["slot"] == slot
        assert [one["stream"] for one in told["streams"]] == ["gate", "hall"]
        assert sum(one["retraining_share"] + one["inference_share"] for one in told["streams"]) <= 1 + 1e-9
        assert told["reason"]
    scarce = ask(address, "POST", "/v1/decide", {**asked, "budget_macs": 1e6}, HEADERS)[2]
    assert scarce["overloaded"]
    for wrong, status in (
        ({"streams": asked["streams"][:1]}, 409), ({"streams": asked["streams"] * 2}, 409),
        ({**asked, "observed": [{**seen, "stream": "yard"}]}, 409), ({**asked, "budget_macs": -1}, 422), ({}, 422),
        ({**asked, "surprise": 1}, 422), ([], 422),
    ):  # fmt: skip
        assert ask(address, "POST", "/v1/decide", wrong, HEADERS)[0] == status, wrong
    assert ask(address, "POST", "/v1/pause", None, HEADERS)[0] == 409
    assert ask(address, "POST", "/v2/models/gate/infer", {})[0] == 404
    assert ask(address, "GET", "/v1/status")[2]["slot"] == 4
    daemon.stop()
    from orric.edge.daemon import Daemon

    again = Daemon(daemon.config, daemon._path, TOKEN)
    assert again.decisions.recovered == ["went on after slot 4 of episode 1"]
    again.stop()


def test_pages_cannot_be_framed_and_errors_name_no_files(listening) -> None:
    _, address = listening()
    status, headers, page = ask(address, "GET", "/")
    assert status == 200
    assert headers["x-frame-options"] == "DENY"
    assert b"http://" not in page.replace(b"http://www.w3.org/2000/svg", b"")
    assert b"https://" not in page
    for path, method in (("/nowhere", "GET"), ("/v1/pause", "GET"), ("/v2/models/../../etc/passwd", "GET")):
        status, _, told = ask(address, method, path)
        assert status in (404, 405)
        assert "/" not in told["error"]


PAGE = {"User-Agent": "Mozilla/5.0"}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Host": "localhost:1"}, 200),
        ({"Host": "LOCALHOST."}, 200),
        ({"Host": "edge.localhost"}, 200),
        ({"Host": "[::1]:8000"}, 200),
        ({"Host": "192.0.2.7:8000"}, 200),
        ({"Host": "edge.example:8000"}, 200),
        ({"Host": "elsewhere.example"}, 421),
        ({"Host": "127.0.0.1.elsewhere.example"}, 421),
        ({"Host": "user@localhost"}, 421),
        ({"Host": ""}, 400),
        ({"Origin": "http://elsewhere.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://localhost:3000", "Host": "localhost:8000", "Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": "http://localhost:8000", "Host": "localhost:8000"}, 200),
        ({"Origin": "https://edge.example", "Host": "edge.example"}, 200),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
        ({"Content-Type": "text/plain, application/json"}, 415),
        ({"Content-Type": "application/json; charset=utf-8"}, 200),
        ({"Content-Type": "application/octet-stream"}, 200),
        ({"Content-Type": None}, 200),
        ({"Content-Type": None, **PAGE}, 415),
        (PAGE, 200),
    ],
)
def test_hosts_origins_and_content_types(listening, images: np.ndarray, headers: dict, status: int) -> None:
    daemon, address = listening(server__hosts=["edge.example"])
    host, port = address.split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=30)
    given = {"Content-Type": "application/json", **headers}
    connection.putrequest("POST", INFER, skip_host="Host" in given)
    body = json.dumps(request_of(images[:1])).encode()
    for name, value in {**given, "Content-Length": str(len(body))}.items():
        if value is not None:
            connection.putheader(name, value)
    connection.endheaders(body)
    answer = connection.getresponse()
    told = json.loads(answer.read())
    connection.close()
    assert answer.status == status, told
    assert ("error" in told) == (status != 200)
    assert daemon.uploads.arrived == (status == 200)


def test_any_host_where_that_is_configured(listening) -> None:
    _, address = listening(server__hosts=["*"])
    assert ask(address, "GET", "/v2", headers={"Host": "elsewhere.example"})[0] == 200


@pytest.mark.parametrize("header", [None, "X-Camera"])
def test_who_sent_images_is_told_to_those_who_learn(listening, images: np.ndarray, monkeypatch, header) -> None:
    from orric.edge.sender import Sender

    keys = {} if header is None else {"server__client_header": header}
    daemon, address = listening(server__trusted_proxies=["127.0.0.0/8"], **keys)
    seen = []
    arrive = daemon.uploads.arrive
    monkeypatch.setattr(
        daemon.uploads, "arrive", lambda images, sender, *more: (seen.append(sender), arrive(images, sender, *more))
    )  # fmt: skip
    named = {"X-Forwarded-For": "203.0.113.9", "X-Camera": "camera-1"}
    for headers in ({}, HEADERS, {**HEADERS, **named}):
        assert ask(address, "POST", INFER, request_of(images[:1]), headers)[0] == 200
    assert seen == [
        Sender("loopback"), Sender("loopback", True),
        Sender("203.0.113.9", True, None if header is None else "camera-1"),
    ]  # fmt: skip


def test_models_are_listed_and_not_loaded(listening) -> None:
    _, address = listening()
    row = {"name": "digits", "version": "1", "state": "READY", "reason": ""}
    assert ask(address, "POST", "/v2/repository/index")[2] == [row]
    assert ask(address, "POST", "/v2/repository/index", {"ready": True})[2] == [row]
    for name, status in (("digits", 400), ("other", 404)):
        for what in ("load", "unload"):
            found, _, told = ask(address, "POST", f"/v2/repository/models/{name}/{what}", {})
            assert (found, list(told)) == (status, ["error"])
    about = ask(address, "GET", "/v2/models/digits")[2]
    for version in about["versions"]:
        assert ask(address, "GET", f"/v2/models/digits/versions/{version}")[0] == 200
        assert ask(address, "GET", f"/v2/models/digits/versions/{version}/ready")[0] == 200
    assert ask(address, "GET", "/v2/models/digits/versions/7")[0] == 404


def test_classes_are_named(listening, images: np.ndarray) -> None:
    _, address = listening()
    wanted = [{"name": "logits", "parameters": {"classification": 1}}]
    told = ask(address, "POST", INFER, request_of(images[:1], outputs=wanted))[2]
    _, number, name = told["outputs"][0]["data"][0].split(":")
    assert number == name


def test_metrics_tell_of_every_request(listening, images: np.ndarray) -> None:
    from prometheus_client.parser import text_string_to_metric_families

    daemon, address = listening(server__queue_images=3, server__deadline_s=1e-9)
    daemon.loop.begin()
    for count, status in ((1, 200), (2, 200), (9, 503)):
        assert ask(address, "POST", INFER, request_of(images[:count]))[0] == status
    assert ask(address, "POST", INFER, b"{}")[0] == 400
    assert ask(address, "POST", "/v1/pause", b"{}")[0] == 401
    eventually(lambda: counted(daemon, "orric_connections") == 0)
    found = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(ask(address, "GET", "/metrics")[2].decode())
        for sample in family.samples
    }
    model = ("model", "digits")
    expected = {
        ("orric_requests_total", model, ("status", "200")): 2, ("orric_requests_total", model, ("status", "503")): 1,
        ("orric_requests_total", model, ("status", "400")): 1, ("orric_images_total", model): 3,
        ("orric_late_images_total", model): 3, ("orric_shed_images_total", model): 9,
        ("orric_in_time_images_total", model): 0,
        ("orric_request_duration_seconds_count", model): 2, ("orric_swaps_total", model): 0,
        ("orric_rollbacks_total", model): 0, ("orric_failures_total", model, ("of", "retraining")): 0,
        ("orric_refusals_total", ("reason", "body")): 1, ("orric_refusals_total", ("reason", "overloaded")): 1,
        ("orric_refusals_total", ("reason", "token")): 1, ("orric_connections",): 1, ("orric_slot", model): 1,
        ("orric_model_version", model): 1, ("orric_waiting_images", model): 0,
    }  # fmt: skip
    assert {key: found.get(key) for key in expected} == expected
    for name in (
        "accuracy_estimate",
        "in_time_part",
        "in_time_accuracy_estimate",
        "labelled_accuracy",
        "budget_macs",
        "retraining_part",
        "inference_part",
    ):
        assert (f"orric_{name}", model) in found
    assert found["orric_request_duration_seconds_sum", model] > 0
    assert any(key[0] == "orric_info" for key in found)
    assert any(key[0] == "process_resident_memory_bytes" for key in found)
    assert any(key[0] == "python_gc_collections_total" for key in found)


def test_metrics_are_made_once_for_many_who_ask(listening, monkeypatch) -> None:
    monkeypatch.setattr("orric.edge.front.METRICS_S", 3600.0)
    daemon, address = listening()
    made = []
    text = daemon.metrics.text
    monkeypatch.setattr(daemon.metrics, "text", lambda: (made.append(1), text())[1])
    for _ in range(20):
        assert ask(address, "GET", "/metrics")[0] == 200
    assert len(made) == 1


def test_pages_that_fail_are_told_to_come_again(listening, monkeypatch, caplog) -> None:
    _, address = listening()

    def fails(daemon: object) -> None:
        raise RuntimeError("no")

    monkeypatch.setattr("orric.edge.app.status", fails)
    for _ in range(3):
        status, headers, told = ask(address, "GET", "/v1/status")
        assert (status, told) == (503, {"error": "the server failed; come again"})
        assert headers["retry-after"]
    assert [line.getMessage() for line in caplog.records].count("request") == 1, "once in a while"


def test_others_may_add_metrics(listening) -> None:
    from prometheus_client.core import CounterMetricFamily

    daemon, address = listening()
    daemon.metrics.read(lambda: [CounterMetricFamily("others", "Theirs.", value=3)])
    assert b"others_total 3.0" in ask(address, "GET", "/metrics")[2]


def test_a_fuzzer_finds_no_failure(listening) -> None:
    schemathesis = pytest.importorskip("schemathesis", reason="needs schemathesis")
    from hypothesis import HealthCheck, Phase, given, settings

    daemon, address = listening()
    document = ask(address, "GET", "/openapi.json")[2]
    schema = schemathesis.openapi.from_dict(document)
    before = psutil.Process().memory_info().rss
    tried = 0
    for result in schema.get_all_operations():
        operation = result.ok()

        @settings(
            max_examples=40, deadline=None, derandomize=True, database=None, phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        @given(case=operation.as_strategy())
        def check(case: Any) -> None:
            nonlocal tried
            tried += 1
            answer = case.call(base_url=f"http://{address}", headers=HEADERS)
            assert answer.status_code < 500 or answer.status_code == 503, answer.text
            if "application/json" in str(answer.headers.get("content-type")):
                answer.json()

        check()
    assert tried > 300
    assert daemon.ready
    assert ask(address, "GET", "/healthz")[0] == 200
    assert psutil.Process().memory_info().rss - before < 200e6
