"""The status page, and pages of others, in a real browser."""

from __future__ import annotations

import functools
import http.server
import json
import os
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest

from ..browser import CHROMIUM, browser
from .lines import counted
from .test_http import request_of
from .test_slots import slot


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_charts_move_and_a_swap_appears(listening, fog, tmp_path: Path) -> None:
    images, _ = fog
    daemon, address = listening(retrains=True, slot_s=60.0, server__deadline_s=0.1)
    slot(daemon, images)
    slot(daemon, images)
    with browser(tmp_path) as page:
        page.open(f"http://{address}/")
        page.wait("document.body.dataset.slot === '2'")
        shown = 'document.querySelector("#{} {}")'
        first = page.value(shown.format("accuracy", "path[data-series]") + ".getAttribute('d')")
        swaps = page.value('document.querySelectorAll("#versions .mark").length')
        slot(daemon, images)
        slot(daemon, images)
        page.wait("document.body.dataset.slot === '4'")
        assert page.value(shown.format("accuracy", "path[data-series]") + ".getAttribute('d')") != first
        assert page.value('document.querySelectorAll("#versions .mark").length') > swaps
        assert page.value('document.getElementById("decisions").rows.length') == 4
        assert "inference-greedy" in page.value('document.getElementById("heads").innerText')
        assert "% of the budget" in page.value('document.getElementById("decisions").innerText')
        told = f"{100 * daemon.figures()['in_time_accuracy_estimate']:.0f} %"
        page.wait(f'document.querySelector("#tiles b").textContent === "{told}"')
        assert "right and in time" in page.value('document.querySelector("#tiles span").textContent')
        daemon.loop.control("pause")
        page.wait('document.getElementById("state").textContent.includes("paused")')
        for width in (1280, 400):
            page.resize(width)
            assert page.value("document.documentElement.scrollWidth <= innerWidth"), f"nothing is cut at {width}"
            page.picture(tmp_path / f"page-{width}.png")
            if "ORRIC_PICTURES" in os.environ:
                shutil.copy(tmp_path / f"page-{width}.png", os.environ["ORRIC_PICTURES"])
        assert page.errors == []


# Every way in which a page may send without asking first, and some in which it must ask.
HOSTILE = """<!doctype html><title>elsewhere</title><script>
const target = "http://TARGET/v2/models/digits/infer", body = JSON.stringify(REQUEST);
const ways = [
  {body}, {body: new Blob([body])}, {body: new Blob([body], {type: "text/plain"})},
  {body: new Blob([body], {type: "application/json"})}, {body: new TextEncoder().encode(body)},
  {body: new URLSearchParams({x: body})}, {body, headers: {"Content-Type": "text/plain"}},
  {body, headers: {"Content-Type": "application/json"}}, {body, referrerPolicy: "no-referrer"},
  {body: new Blob([body]), referrerPolicy: "no-referrer", keepalive: true},
];
const asked = [];
for (const way of ways) for (const mode of ["no-cors", "cors"])
  asked.push(fetch(target, {method: "POST", mode, ...way}).then(() => 1, () => 0));
asked.push(new Promise(done => {
  const ask = new XMLHttpRequest();
  ask.onloadend = () => done(1);
  ask.open("POST", target);
  ask.send(body);
}));
navigator.sendBeacon(target, new Blob([body]));
navigator.sendBeacon(target, body);
Promise.all(asked).then(() => {
  const form = document.createElement("form"), field = document.createElement("input");
  Object.assign(form, {method: "POST", action: target, enctype: "text/plain", target: "frame"});
  // A form of plain text writes name=value: the rest of the JSON stands where the equals sign does no harm.
  Object.assign(field, {name: body.slice(0, -1) + ',"id":"', value: '"}'});
  const frame = document.createElement("iframe");
  frame.name = "frame";
  document.body.append(frame, form);
  frame.onload = () => { document.title = "done"; };
  form.append(field);
  form.submit();
});
</script><body></body>"""


class Silent(http.server.SimpleHTTPRequestHandler):
    """Serves files without a word."""

    def log_message(self, *given: object) -> None:
        pass


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
def test_a_page_of_another_origin_makes_no_image_count(
    listening, images: np.ndarray, tmp_path: Path, name: str
) -> None:
    daemon, address = listening()
    (tmp_path / "pages").mkdir()
    asked = json.dumps(request_of(images[:1]))
    (tmp_path / "pages/index.html").write_text(HOSTILE.replace("TARGET", address).replace("REQUEST", asked))
    serve = functools.partial(Silent, directory=tmp_path / "pages")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), serve) as elsewhere:
        threading.Thread(target=elsewhere.serve_forever, daemon=True).start()
        try:
            with browser(tmp_path) as page:
                page.open(f"http://{name}:{elsewhere.server_port}/")
                page.wait("document.title === 'done'")
                assert daemon.uploads.arrived == 0
                assert counted(daemon, "orric_images_total", model="digits") == 0
                assert counted(daemon, "orric_refusals_total", reason="origin") >= 12, "they did come"
                # The same from a page of the daemon's own counts.
                page.open(f"http://{address}/")
                page.value(
                    "fetch('/v2/models/digits/infer', {method: 'POST', headers: {'Content-Type': 'application/json'}, "
                    f"body: {json.dumps(asked)}}}).then(() => {{ document.title = 'answered'; }})"
                )
                page.wait("document.title === 'answered'")
                assert daemon.uploads.arrived == 1
        finally:
            elsewhere.shutdown()


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_a_name_that_was_made_to_point_here_is_not_answered(listening, images: np.ndarray, tmp_path: Path) -> None:
    daemon, address = listening()
    port = address.rpartition(":")[2]
    with browser(tmp_path, "--host-resolver-rules=MAP rebound.example 127.0.0.1") as page:
        page.open(f"http://rebound.example:{port}/")
        assert "is no host of this server" in page.value("document.body.innerText")
        asked = json.dumps(request_of(images[:1]))
        page.value(
            "fetch('/v2/models/digits/infer', {method: 'POST', headers: {'Content-Type': 'application/json'}, "
            f"body: {json.dumps(asked)}}}).then(answer => {{ document.title = answer.status; }})"
        )
        page.wait("document.title === '421'")
        assert daemon.uploads.arrived == 0
        assert counted(daemon, "orric_refusals_total", reason="host") >= 2
