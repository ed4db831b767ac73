"""The page of hits: well-formed, harmless whatever the gallery holds, and small."""

from __future__ import annotations

import base64
import hashlib
import io
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFilter

from duch.errors import ConfigError, ImageError
from duch.html_page import html_page

from .some_hits import some_chip, some_hit

VOID = {"meta", "img", "wbr"}
HOSTILE = [
    "</title></style></script><script>hacked()</script>",
    '" onload="hacked()" x="',
    "' onload='hacked()' x='",
    "<img src=http://example.com/x.png>",
    "&lt;b&gt; &amp; %3Cb%3E",
    "a\u202eb\u2066c\u2028d\u0000e\x1b[31mf",
    "\ud800 lone",
    "javascript:hacked()",
    "{{7*7}} ${7*7} `x` \\",
]


class Page(HTMLParser):
    """The elements of a page, with their attributes and texts; refuses what is not nested well."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
            self.texts.setdefault(tag, []).append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        for tag in set(self.open):
            self.texts[tag][-1] += data

    def attributes(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def images(self) -> list[Image.Image]:
        found = [(each["src"] or "").removeprefix("data:image/jpeg;base64,") for each in self.attributes("img")]
        return [Image.open(io.BytesIO(base64.b64decode(each, validate=True))) for each in found]


@pytest.fixture
def red(tmp_path: Path) -> Path:
    file = tmp_path / "red & <blue>.png"
    Image.new("RGB", (30, 60), (200, 10, 10)).save(file)
    return file


def is_red(image: Image.Image) -> bool:
    return bool((np.abs(np.asarray(image, dtype=int) - (200, 10, 10)) < 6).all())


def test_each_kind_of_hit_has_its_own_card(red: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_text("no image")
    hits = [
        some_hit(1, path=red),
        some_hit(2),
        some_hit(3, path=broken),
        some_hit(4, modality="text", uri=None, text="two ships"),
        some_hit(5, path=red, footprint=(8.5, 47, 8.6, 47.1), time_us=0, attributes={"sensor": "S2A", "n": [1, None]}),
    ]
    page = Page(html_page("ships", hits))
    assert [each["id"] for each in page.attributes("li")] == [f"hit-{rank}" for rank in range(1, 6)]
    assert [(image.size, is_red(image)) for image in page.images] == [((200, 200), True)] * 2
    assert [each["alt"] for each in page.attributes("img")] == ["Hit 1", "Hit 5"]
    for card, words in zip(page.texts["li"], ["", "missing", "unreadable", "two ships", "S2A"], strict=True):
        assert words in card
    last = page.texts["li"][-1]
    assert all(
        words in last for words in ("10 bits", "tile-5.png", "47.05 N 8.55 E", "1970-01-01 00:00 UTC", "[1, null]")
    )
    assert page.attributes("time") == [{"datetime": "1970-01-01T00:00:00Z"}]
    assert "4 of the hits have none" in page.texts["figcaption"][0]


def test_places_link_to_footprints_and_back(red: Path) -> None:
    page = Page(html_page("ships", [some_chip(1), some_hit(2), some_chip(3)]))
    ids = {each["id"] for _, each in page.elements if "id" in each}
    assert len(ids) == sum("id" in each for _, each in page.elements)
    links = [each["href"] for each in page.attributes("a")]
    assert sorted(map(str, links)) == ["#hit-1", "#hit-3", "#map-1", "#map-3"]
    assert {str(link).removeprefix("#") for link in links} <= ids


def test_the_query_stands_above(red: Path) -> None:
    page = Page(html_page("ships <in> the harbour", [some_hit()]))
    assert page.texts["h1"] == ["ships <in> the harbour"]
    assert page.texts["title"] == ["ships <in> the harbour · duch"]
    page = Page(html_page(red, [some_hit()]))
    assert page.texts["h1"] == ["red & <blue>.png"]
    assert [is_red(image) for image in page.images] == [True]
    for query in (Image.open(red), np.asarray(Image.open(red))):
        assert is_red(Page(html_page(query, [])).images[0])
    assert Page(html_page(str(red), [])).images == []  # a string is a sentence
    with pytest.raises(ImageError, match="does not exist"):
        html_page(red.with_name("none.png"), [])


def test_more_hits_than_a_browser_can_show_are_refused() -> None:
    with pytest.raises(ConfigError, match="a page of 10,001 hits; wanted at most 10,000"):
        html_page("planes", [some_hit()] * 10_001)


def test_hits_at_one_distance_have_one() -> None:
    assert (
        Page(html_page("a", [some_hit(distance=1), some_hit(2, distance=1)])).texts["p"][1] == "2 hits, each 1 bit away"
    )


def test_texts_without_an_end_are_cut() -> None:
    sentence = some_hit(modality="text", uri=None, text="y" * 50_000, id="x" * 50_000)
    page = html_page("planes", [sentence, some_hit(2, attributes={"a": ["z" * 50_000]})])
    assert len(page) < 25_000
    assert "y…" in page
    assert "x…" in page


@pytest.mark.parametrize(("n", "words"), [(0, "No hits."), (1, "1 hit, 2 bits away"), (3, "3 hits, 2 to 6 bits away")])
def test_how_many_hits_is_said(n: int, words: str) -> None:
    assert words in Page(html_page("ships", [some_hit(rank) for rank in range(1, n + 1)])).texts["header"][0]


def test_the_policy_allows_the_page_and_nothing_else(red: Path) -> None:
    page = Page(html_page("ships", [some_chip(1, path=red)]))
    (policy,) = (each["content"] for each in page.attributes("meta") if "http-equiv" in each)
    hashes = [
        base64.b64encode(hashlib.sha256(page.texts[tag][0].encode()).digest()).decode() for tag in ("style", "script")
    ]
    assert policy == (
        f"default-src 'none'; img-src data:; style-src 'sha256-{hashes[0]}'; script-src 'sha256-{hashes[1]}'; "
        "base-uri 'none'; form-action 'none'"
    )


def harmless(page: Page) -> None:
    assert len(page.attributes("script")) == len(page.attributes("style")) == 1
    for tag, attributes in page.elements:
        assert tag not in ("link", "iframe", "object", "embed", "base", "form")
        assert not any(name.startswith("on") or name == "style" for name in attributes)
        for name in ("src", "href"):
            assert (attributes.get(name) or "#").startswith(("#", "data:image/jpeg;base64,"))
    assert "url(" not in page.texts["style"][0]
    assert "@import" not in page.texts["style"][0]


@pytest.mark.parametrize("text", HOSTILE)
def test_what_a_gallery_holds_stays_text(text: str) -> None:
    everywhere = {text: text, "deep": {text: [text]}, "geometry": text}
    hits = [
        some_chip(1, id=text, uri=text, attributes=everywhere),
        some_hit(2, modality="text", uri=None, text=text, id="text:2"),
    ]
    source = html_page(text, hits)
    page = Page(source)
    harmless(page)
    assert source.encode()
    assert not set(source) & set("\u202e\u2066\u2028\u0000\x1b")
    shown = re.sub(r"\\\\?(u[0-9a-f]{4}|x[0-9a-f]{2})", "", page.texts["blockquote"][0])
    assert shown == "".join(char for char in text if char.isprintable() or char == "\n")


@given(st.text(), st.text(), st.dictionaries(st.text(), st.none() | st.text() | st.floats() | st.lists(st.text())))
def test_any_text_makes_a_well_formed_page(query: str, tile_id: str, attributes: dict[str, Any]) -> None:
    harmless(Page(html_page(query, [some_chip(1, id=tile_id or "x", attributes=attributes)])))


def test_a_long_attribute_is_cut() -> None:
    source = html_page("ships", [some_hit(attributes={"note": "x" * 100_000})])
    assert "x" * 300 + "…" in source
    assert len(source) < 20_000


def test_fifty_hits_are_less_than_a_megabyte(tmp_path: Path) -> None:
    generator = np.random.default_rng(7)
    hits = []
    for rank in range(1, 51):
        file = tmp_path / f"{rank}.png"
        grain = Image.fromarray(generator.integers(0, 256, (224, 224, 3), dtype=np.uint8))
        grain.filter(ImageFilter.GaussianBlur(1.5)).save(file)
        hits.append(some_chip(rank, id=f"{rank}.png", uri=f"{rank}.png", path=file))
    page = html_page("ships", hits)
    assert len(Page(page).images) == 50
    assert len(page.encode()) < 1_000_000
