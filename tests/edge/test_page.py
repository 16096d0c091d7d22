"""The status page in a real browser."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from ..browser import CHROMIUM, browser
from .test_slots import fog, slot  # noqa: F401 (a fixture)


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_charts_move_and_a_swap_appears(listening, fog, tmp_path: Path) -> None:  # noqa: F811
    images, _ = fog
    daemon, address = listening(retrains=True, slot_s=60.0)
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
        daemon.loop.control("pause")
        page.wait('document.getElementById("state").textContent.includes("paused")')
        for width in (1280, 400):
            page.resize(width)
            assert page.value("document.documentElement.scrollWidth <= innerWidth"), f"nothing is cut at {width}"
            page.picture(tmp_path / f"page-{width}.png")
            if "ORRIC_PICTURES" in os.environ:
                shutil.copy(tmp_path / f"page-{width}.png", os.environ["ORRIC_PICTURES"])
        assert page.errors == []
