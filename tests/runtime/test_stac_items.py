"""STAC items of hits, as pystac reads them."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urljoin

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duch.ids import path_to_id
from duch.stac_items import item_collection, item_id
from duch.tile import Hit

from .some_hits import SCENE, SQUARE, some_chip, some_hit

FINGERPRINT = "ab" * 32
HITS = [
    some_chip(1),
    some_chip(2, attributes={"geometry": SQUARE, "item": "S2A_L2A"}),
    some_hit(3, footprint=(179.9, -1, -179.9, 1)),
    some_hit(4),
    some_hit(5, modality="text", uri=None, text="two ships"),
]


def items(*hits: Hit) -> list[dict[str, Any]]:
    collection = item_collection(hits, fingerprint=FINGERPRINT, n_bits=64)
    assert json.loads(json.dumps(collection, allow_nan=False)) == collection
    features: list[dict[str, Any]] = collection["features"]
    return features


def test_a_chip_is_an_item_with_all_that_is_known() -> None:
    assert items(some_chip(1)) == [
        {
            "type": "Feature",
            "stac_version": "1.1.0",
            "stac_extensions": [
                "https://stac-extensions.github.io/eo/v1.1.0/schema.json",
                "https://stac-extensions.github.io/projection/v2.0.0/schema.json",
            ],
            "id": "pass_S2A_20240501.tif_0_0_224_224-5fd5409b",
            "geometry": {
                "type": "Polygon",
                "coordinates": [[[8.53, 47.0], [8.56, 47.0], [8.56, 47.02], [8.53, 47.02], [8.53, 47.0]]],
            },
            "bbox": [8.53, 47.0, 8.56, 47.02],
            "properties": {
                "datetime": "2024-05-01T12:00:00.000001Z",
                "gsd": 10.0,
                "platform": "S2A",
                "eo:cloud_cover": 12.5,
                "proj:code": "EPSG:32632",
                "emb:runtime_parameters": {
                    "bands": [4, 3, 2],
                    "range": [[0, 3000]],
                    "chip_size": 224,
                    "settings": "0a1b2c3d",
                    "window": [0, 0, 224, 224],
                },
                "emb:quantization": {"method": "sign", "original_dtype": "float32", "quantized_dtype": "other"},
                "duch:id": f"{SCENE}#0,0,224,224",
                "duch:rank": 1,
                "duch:distance": 2,
                "duch:n_bits": 64,
                "duch:fingerprint": FINGERPRINT,
                "duch:nodata": 0.0,
            },
            "links": [{"rel": "emb:source-data", "href": SCENE, "type": "image/tiff; application=geotiff"}],
            "assets": {"data": {"href": SCENE, "type": "image/tiff; application=geotiff", "roles": ["data"]}},
        }
    ]


def test_a_tile_without_a_time_or_a_place_is_still_an_item() -> None:
    (item,) = items(some_hit(uri="a/b.xyz", id="a/b.xyz"))
    assert item["geometry"] is None
    assert "bbox" not in item
    assert {name: item["properties"][name] for name in ("datetime", "start_datetime", "end_datetime")} == {
        "datetime": None,
        "start_datetime": "0001-01-01T00:00:00Z",
        "end_datetime": "9999-12-31T23:59:59Z",
    }
    assert item["assets"] == {"data": {"href": "a/b.xyz", "roles": ["data"]}}
    assert item["links"] == []
    assert item["stac_extensions"] == []


def test_a_box_off_the_map_is_no_place() -> None:
    (item,) = items(some_hit(footprint=(0.0, -1e308, 1.0, 1e308)))
    assert item["geometry"] is None
    assert "bbox" not in item


@pytest.mark.parametrize("name", ["a b#1?.tif", "100%.tif", "javascript:alert(1)", "ü\n\x1b.tif"])
def test_a_link_leads_to_the_file(name: str, tmp_path: Path) -> None:
    file = tmp_path / "scenes" / name
    (tmp_path / "out").mkdir()

    def link(folder: Path | None, **known: Any) -> str:
        hit = some_hit(uri=path_to_id(name), **known)
        (item,) = item_collection([hit], fingerprint=FINGERPRINT, n_bits=64, folder=folder)["features"]
        href: str = item["assets"]["data"]["href"]
        assert re.fullmatch(r"[A-Za-z0-9._~%/:-]+", href)
        return href

    written = (tmp_path / "out" / "hits.json").as_uri()
    for folder in (tmp_path / "out", None):
        assert unquote(urljoin(written, link(folder, path=file))) == unquote(file.as_uri())
    assert unquote(urljoin(file.as_uri(), link(tmp_path))) == unquote(file.as_uri())  # missing: as from the root


def test_a_sentence_is_an_item_without_a_file() -> None:
    (item,) = items(some_hit(modality="text", uri=None, text="two ships"))
    assert item["assets"] == {}
    assert item["properties"]["description"] == "two ships"


@pytest.mark.parametrize(
    ("attributes", "found"),
    [
        ({"cloud_cover": 101}, {"duch:cloud_cover": 101}),
        ({"cloud_cover": True}, {"duch:cloud_cover": True}),
        ({"gsd": "10 m"}, {"duch:gsd": "10 m"}),
        ({"gsd": -1}, {"duch:gsd": -1}),
        ({"sensor": 2}, {"duch:sensor": 2}),
        ({"crs": "WGS 84 / UTM"}, {"duch:crs": "WGS 84 / UTM"}),
        ({"datetime": "x", "platform": 5}, {"duch:datetime": "x", "duch:platform": 5}),
        ({"rank": "captain", "id": 1}, {"duch:rank": 1, "duch:attribute_rank": "captain", "duch:attribute_id": 1}),
    ],
)
def test_attributes_that_are_not_what_stac_means_are_ours(attributes: dict[str, Any], found: dict[str, Any]) -> None:
    (item,) = items(some_hit(attributes=attributes))
    properties = item["properties"]
    assert properties | found == properties
    assert item["stac_extensions"] == []
    assert not {"gsd", "platform", "eo:cloud_cover", "proj:code"} & set(properties)


def test_pystac_reads_the_items() -> None:
    pystac = pytest.importorskip("pystac")
    collection = item_collection(HITS, fingerprint=FINGERPRINT, n_bits=64)
    read = pystac.ItemCollection.from_dict(collection)
    assert [item.properties["duch:rank"] for item in read] == [1, 2, 3, 4, 5]
    first, second, third, fourth, fifth = read
    assert first.datetime == datetime(2024, 5, 1, 12, 0, 0, 1, tzinfo=UTC)
    assert first.common_metadata.gsd == 10
    assert first.common_metadata.platform == "S2A"
    assert first.ext.eo.cloud_cover == 12.5
    assert first.ext.proj.code == "EPSG:32632"
    assert first.assets["data"].href == SCENE
    assert second.geometry == SQUARE
    assert third.geometry["type"] == "MultiPolygon"
    assert third.bbox == [179.9, -1, -179.9, 1]
    assert fourth.datetime is None
    assert fourth.geometry is None
    assert fifth.assets == {}


def test_items_pass_the_schema_of_stac() -> None:
    pystac = pytest.importorskip("pystac")
    pytest.importorskip("jsonschema")
    from pystac.validation import RegisteredValidator

    for item in items(*HITS):
        # The schemas of the extensions are not on this machine.
        RegisteredValidator.get_validator().validate_core(item, pystac.STACObjectType.ITEM, "1.1.0")


@given(st.text(min_size=1))
def test_ids_can_stand_in_a_url_and_name_a_file(tile_id: str) -> None:
    found = item_id(tile_id)
    assert re.fullmatch("[A-Za-z0-9._-]{1,130}", found)
    assert found not in (".", "..")


def test_ids_that_differ_stay_different() -> None:
    ids = [
        "a",
        "a/b.tif#0,0,8,8",
        "a/b.tif#0,08,8",
        "a_b.tif_0_0_8_8",
        "a/b",
        "a#b",
        "a_b",
        ".a",
        "a.",
        "é",
        "è",
        "x" * 999,
    ]
    assert len({item_id(each) for each in ids}) == len(ids)
    assert item_id("S2A_tile.png") == "S2A_tile.png"
