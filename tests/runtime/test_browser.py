"""The page of hits in a real browser: its pictures show, its footprints sit where they should, nothing is fetched."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import math
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from duch.html_page import html_page
from duch.tile import Hit

from .some_hits import some_hit

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no browser is installed")

# Runs in a copy of the page, from its head on, and leaves what it saw in the page.
MEASURE = """
const violations = [];
document.addEventListener("securitypolicyviolation", (event) => violations.push(event.effectiveDirective));
addEventListener("load", () => {
  const box = (element) => { const { left, top, right, bottom } = element.getBoundingClientRect();
    return [left + scrollX, top + scrollY, right + scrollX, bottom + scrollY]; };
  const each = (selector, pick) => [...document.querySelectorAll(selector)].map(pick);
  const seen = {
    images: each("img", (image) => [image.naturalWidth, image.naturalHeight, ...box(image)]),
    footprints: Object.fromEntries(each(".footprint", (mark) => [mark.dataset.rank, box(mark.querySelector("path"))])),
    cards: each(".cards li", box),
    map: each(".map svg", box)[0],
    width: [document.documentElement.clientWidth, document.documentElement.scrollWidth],
    fetched: performance.getEntriesByType("resource").map((entry) => entry.name).filter((name) => !/^data:/.test(name)),
    style: getComputedStyle(document.querySelector(".cards")).display,
    violations: [...violations],
  };
  const lit = () => each(".on", (element) => element.id);
  document.querySelector("#hit-2").dispatchEvent(new Event("pointerover", { bubbles: true }));
  seen.pointed = lit();
  document.querySelector("#hit-2").dispatchEvent(new Event("pointerout", { bubbles: true }));
  seen.left = lit();
  document.querySelector("#map-1").focus();
  seen.focused = lit();
  // That the policy holds shows in what it refuses.
  document.body.append(Object.assign(new Image(), { src: "http://192.0.2.1/x.png" }));
  const script = document.createElement("script");
  script.textContent = "window.hacked = true";
  document.body.append(script);
  setTimeout(() => {
    seen.refused = violations.slice(seen.violations.length);
    seen.hacked = window.hacked === true;
    document.body.innerHTML = "<pre id=seen></pre>";
    document.querySelector("#seen").textContent = JSON.stringify(seen);
  }, 100);
});
"""


def seen_in_browser(page: str, folder: Path, *, width: int = 1200) -> dict[str, Any]:
    """What the script saw of a page."""
    digest = base64.b64encode(hashlib.sha256(MEASURE.encode()).digest()).decode()
    copy = page.replace("script-src '", f"script-src 'sha256-{digest}' '", 1)
    copy = copy.replace("<title>", f"<script>{MEASURE}</script><title>", 1)
    file = folder / "page.html"
    file.write_text(copy, encoding="utf-8")
    command = [
        *(str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"),
        *("--disable-background-networking", "--virtual-time-budget=2000", f"--user-data-dir={folder / 'profile'}"),
        *(f"--window-size={width},900", "--dump-dom", file.as_uri()),
    ]
    environment = {**os.environ, "HOME": str(folder)}
    done = subprocess.run(command, capture_output=True, check=True, timeout=60, env=environment)
    found = re.search(r'<pre id="seen">(.*?)</pre>', done.stdout.decode(), re.DOTALL)
    assert found is not None, done.stdout.decode()[-2000:]
    seen: dict[str, Any] = json.loads(html.unescape(found[1]))
    return seen


def hits_at(places: list[tuple[float, float]], folder: Path) -> list[Hit]:
    """Hits with pictures, and squares of 0.2 degrees around these places."""
    hits = []
    for rank, (longitude, latitude) in enumerate(places, 1):
        file = folder / f"{rank}.png"
        Image.new("RGB", (64, 64), (20 * rank, 90, 160)).save(file)
        west, east = (math.remainder(longitude + step, 360) for step in (-0.1, 0.1))
        hits.append(
            some_hit(
                rank,
                id="</li><script>window.hacked = true</script>" if rank == 3 else f"a/{rank}.png",
                footprint=(west, latitude - 0.1, east, latitude + 0.1),
                time_us=0,
                attributes={"note": "<img src=http://192.0.2.1/y.png onerror=window.hacked=true>"},
                path=file,
            )
        )
    return hits


@pytest.mark.parametrize(
    ("places", "width"),
    [
        ([(8.5, 47.4), (9.5, 46.2), (7.4, 46.9), (6.1, 46.2), (8.9, 46.0)], 1200),
        ([(179.6, -17.0), (180.0, -16.2), (-179.2, -17.9), (178.5, -18.1)], 390),
    ],
    ids=["desktop", "phone, across the antimeridian"],
)
def test_a_browser_shows_the_page(places: list[tuple[float, float]], width: int, tmp_path: Path) -> None:
    hits = hits_at(places, tmp_path)
    seen = seen_in_browser(html_page(tmp_path / "1.png", hits), tmp_path, width=width)
    assert seen["style"] == "grid"  # the style counts
    assert len(seen["images"]) == 1 + len(hits)
    for natural_width, natural_height, left, top, right, bottom in seen["images"]:
        assert (natural_width, natural_height) == (200, 200)
        assert right - left == pytest.approx(bottom - top, abs=1)
        assert right - left > 100
    assert seen["width"][1] <= seen["width"][0]  # nothing sticks out sideways
    assert (seen["fetched"], seen["violations"]) == ([], [])
    assert sorted(seen["refused"]) == ["img-src", "script-src-elem"]
    assert not seen["hacked"]
    assert sorted(seen["pointed"]) == ["hit-2", "map-2"]
    assert seen["left"] == []
    assert sorted(seen["focused"]) == ["hit-1", "map-1"]

    left, top, right, bottom = seen["map"]
    boxes = np.array([seen["footprints"][str(hit.rank)] for hit in hits])  # (n, 4)
    assert (boxes[:, :2] > (left, top)).all()
    assert (boxes[:, 2:] < (right, bottom)).all()
    middles = (boxes[:, :2] + boxes[:, 2:]) / 2
    # Degrees from the first place, the short way round; one scale for all, narrower across by the cosine.
    degrees = np.array([(math.remainder(x - places[0][0], 360), y - places[0][1]) for x, y in places])
    latitudes = [latitude for _, latitude in places]
    narrow = math.cos(math.radians((min(latitudes) + max(latitudes)) / 2))
    scale = (middles[1:, 0] - middles[0, 0]) / degrees[1:, 0]
    assert scale.min() > 0
    assert middles - middles[0] == pytest.approx(degrees * (scale[0], -scale[0] / narrow), abs=1.5)
