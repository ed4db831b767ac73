"""STAC on disk, as pystac writes it and as it should not be: scenes, times, sensors, and nothing from a network."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pystac = pytest.importorskip("pystac")

from duch.errors import ConfigError, InputError  # noqa: E402
from duch.geo.stac import is_stac, item_beside, scenes_of  # noqa: E402
from duch.geo.stac_item import Item  # noqa: E402

COG = "image/tiff; application=geotiff; profile=cloud-optimized"
TIME = datetime(2024, 6, 1, 10, 20, 30, 123456, tzinfo=UTC)
TIME_US = 1_717_237_230_123_456
KNOWN = Item(id="a", time_us=TIME_US, attributes={"sensor": "sentinel-2a", "cloud_cover": 12.5})


def item(
    item_id: str = "a",
    *,
    assets: dict[str, Any] | None = None,
    version: str = "1.0.0",
    **more: Any,
) -> dict[str, Any]:
    """The JSON of an item whose scene is scene.tif; `more` are properties, None for none."""
    properties = {"datetime": "2024-06-01T10:20:30.123456Z", "platform": "sentinel-2a", "eo:cloud_cover": 12.5, **more}
    return {
        **{"type": "Feature", "stac_version": version, "id": item_id, "geometry": None, "links": []},
        "properties": {name: value for name, value in properties.items() if value is not None},
        "assets": {"image": {"href": "./scene.tif", "type": COG}} if assets is None else assets,
    }


def write(path: Path, document: Any) -> Path:
    """JSON, and a scene.tif beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    (path.parent / "scene.tif").write_bytes(b"II*\0")
    return path


def catalog(folder: Path, *hrefs: Any, name: str = "catalog.json", rel: str = "item") -> Path:
    links = [{"rel": rel, "href": href} for href in hrefs]
    return write(
        folder / name,
        {"type": "Catalog", "stac_version": "1.0.0", "id": name, "description": "d", "links": links},
    )


def reasons(path: Path, **more: Any) -> list[str]:
    found = scenes_of(path, **more)
    return [reason for _, reason in found.skipped]


@pytest.fixture
def connections() -> Iterator[tuple[int, list[Any]]]:
    """A port of this machine, and what has connected to it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        caught: list[Any] = []

        def listen() -> None:
            try:
                while True:
                    caught.append(server.accept())
            except OSError:
                pass

        threading.Thread(target=listen, daemon=True).start()
        yield server.getsockname()[1], caught
        server.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("kind", ["SELF_CONTAINED", "ABSOLUTE_PUBLISHED", "RELATIVE_PUBLISHED"])
def test_a_catalog_as_pystac_writes_it_names_its_scenes(tmp_path: Path, kind: str) -> None:
    extent = pystac.Extent(pystac.SpatialExtent([[0, 0, 1, 1]]), pystac.TemporalExtent([[TIME, None]]))
    root = pystac.Catalog("root", "of two collections")
    for name in ("north", "south"):
        collection = pystac.Collection(name, "d", extent)
        root.add_child(collection)
        for number in range(3):
            properties = {"platform": "sentinel-2a", "eo:cloud_cover": 12.5}
            each = pystac.Item(f"{name}-{number}", None, None, TIME, properties)
            each.add_asset("scene", pystac.Asset("./scene.tif", media_type=COG, roles=["data"]))
            each.add_asset("preview", pystac.Asset("./preview.png", media_type="image/png", roles=["thumbnail"]))
            collection.add_item(each)
    root.normalize_and_save(str(tmp_path), pystac.CatalogType[kind])
    for beside in tmp_path.rglob("*-?.json"):
        (beside.parent / "scene.tif").write_bytes(b"II*\0")
    found = scenes_of(tmp_path / "catalog.json")
    assert found.skipped == []
    assert [source.path.resolve() for source in found.sources] == [
        (tmp_path / name / f"{name}-{number}" / "scene.tif").resolve()
        for name in ("north", "south")
        for number in range(3)
    ]
    assert {source.item.time_us for source in found.sources if source.item} == {TIME_US}
    assert [source.item.id for source in found.sources if source.item][::5] == ["north-0", "south-2"]
    everything = pystac.ItemCollection(list(root.get_items(recursive=True)))
    everything.save_object(str(tmp_path / "elsewhere.json"))
    assert scenes_of(tmp_path / "elsewhere.json").sources == [
        source._replace(path=source.path.resolve()) for source in found.sources
    ]


@pytest.mark.parametrize("version", ["0.8.1", "0.9.0", "1.0.0-beta.2", "1.0.0-rc.1", "1.0.0", "1.1.0"])
@pytest.mark.parametrize("in_collection", [False, True])
def test_items_of_every_version_are_read(tmp_path: Path, version: str, in_collection: bool) -> None:
    document: Any = item(version=version)
    path = write(
        tmp_path / "a.json", {"type": "FeatureCollection", "features": [document]} if in_collection else document
    )
    assert is_stac(path)
    assert scenes_of(path) == ([(tmp_path / "scene.tif", KNOWN)], [])


@pytest.mark.parametrize(
    ("properties", "known"),
    [
        (
            {"platform": None, "constellation": "landsat", "instruments": ["oli"]},
            {"sensor": "landsat", "cloud_cover": 12.5},
        ),
        ({"platform": None, "instruments": ["oli", "tirs"]}, {"sensor": "oli", "cloud_cover": 12.5}),
        ({"platform": " ", "instruments": [], "eo:cloud_cover": 200}, {}),
        ({"platform": 7, "instruments": "oli", "eo:cloud_cover": "many"}, {}),
        ({"platform": "\ud800", "eo:cloud_cover": None}, {}),
    ],
)
def test_sensor_and_clouds_are_what_the_item_names(tmp_path: Path, properties: Any, known: Any) -> None:
    [source] = scenes_of(write(tmp_path / "a.json", item(**properties))).sources
    assert source.item == Item(id="a", time_us=TIME_US, attributes=known)


def test_a_span_of_time_begins_at_its_start(tmp_path: Path) -> None:
    span = item(datetime=None, start_datetime="2024-06-01T00:00:00Z", end_datetime="2024-06-02T00:00:00Z")
    for null in ({}, {"datetime": None}):
        span["properties"] |= null
        [source] = scenes_of(write(tmp_path / "a.json", span)).sources
        assert source.item is not None
        assert source.item.time_us == 1_717_200_000_000_000
    [source] = scenes_of(write(tmp_path / "a.json", item(datetime=None))).sources
    assert source.item is not None
    assert source.item.time_us is None


TIFF, PNG, JP2 = {"type": COG}, {"type": "image/png"}, {"type": "image/jp2"}
DATA, THUMBNAIL = {"roles": ["data"]}, {"roles": ["thumbnail"]}


@pytest.mark.parametrize(
    ("assets", "named", "chosen"),
    [
        ({"a": TIFF}, None, "a"),
        ({"a": TIFF, "b": PNG | THUMBNAIL, "c": {"type": "application/xml"}}, None, "a"),
        ({"a": JP2, "b": TIFF | DATA}, None, "b"),
        ({"a": TIFF | DATA, "visual": TIFF | DATA}, None, "visual"),
        ({"a": TIFF, "visual": TIFF}, "a", "a"),
        ({"a": {"type": "text/plain"}, "b": TIFF}, "a", "a"),
        ({"a": {}}, None, "a"),
        ({"a": {"roles": "data", "type": None}}, None, "a"),
        ({"a": {"roles": ["overview", "data"]}}, None, "a"),
    ],
)
def test_the_scene_is_the_asset_that_can_be_it(tmp_path: Path, assets: Any, named: str | None, chosen: str) -> None:
    for name, asset in assets.items():
        if isinstance(asset, dict):
            asset.setdefault("href", f"{name}.tif")
        (tmp_path / f"{name}.tif").write_bytes(b"II*\0")
    found = scenes_of(write(tmp_path / "a.json", item(assets=assets)), asset=named)
    assert [source.path.name for source in found.sources] == [f"{chosen}.tif"]


def test_several_rasters_are_an_error_that_names_them(tmp_path: Path) -> None:
    assets = {name: {"href": f"{name}.tif", "type": COG} for name in ("B02", "B03", "B04")}
    with pytest.raises(
        ConfigError, match=r"a\.json has several rasters: B02, B03, B04; name one of them with --asset$"
    ):
        scenes_of(write(tmp_path / "a.json", item(assets=assets)))


def test_an_asset_that_no_item_has_is_an_error_and_one_that_some_lack_skips_those(tmp_path: Path) -> None:
    write(tmp_path / "a.json", item())
    write(tmp_path / "b.json", item("b", assets={"B04": {"href": "scene.tif"}}))
    root = catalog(tmp_path, "a.json", "b.json")
    with pytest.raises(
        ConfigError, match=r"no item has an asset 'B08': .*a\.json has image; name one of them with --asset"
    ):
        scenes_of(root, asset="B08")
    found = scenes_of(root, asset="B04")
    assert [source.item.id for source in found.sources if source.item] == ["b"]
    assert found.skipped == [(str(tmp_path / "a.json"), "has no asset 'B04'; it has image")]


@pytest.mark.parametrize(
    ("href", "name"),
    [
        ("scene.tif", "scene.tif"),
        ("./sub/../scene.tif", "scene.tif"),
        ("a%20b.tif", "a b.tif"),
        ("100%25.tif", "100%25.tif"),  # a name as it is counts before its escapes
        ("S1A:x.tif", "S1A:x.tif"),
        ("{folder}/scene.tif", "scene.tif"),
        ("file://{folder}/a%20b.tif", "a b.tif"),
        ("file://localhost{folder}/scene.tif", "scene.tif"),
        ("FILE:{folder}/scene.tif", "scene.tif"),
        ("%C3%A9.tif", "é.tif"),
        ("%FF.tif", os.fsdecode(b"\xff.tif")),
    ],
)
def test_links_lead_to_files(tmp_path: Path, href: str, name: str) -> None:
    (tmp_path / "sub").mkdir()
    for each in (name, "100%.tif"):
        (tmp_path / each).write_bytes(b"II*\0")
    assets = {"image": {"href": href.replace("{folder}", str(tmp_path)), "type": COG}}
    [source] = scenes_of(write(tmp_path / "a.json", item(assets=assets))).sources
    assert source.path.samefile(tmp_path / name)


@pytest.mark.parametrize(
    ("href", "reason"),
    [
        (
            "http://127.0.0.1:{port}/scene.tif",
            "lies at http://127.0.0.1:{port}/scene.tif, which is not on this machine; ",
        ),
        ("HTTPS://127.0.0.1:{port}/x", "lies at HTTPS://127.0.0.1:{port}/x, which is not on this machine; download it"),
        ("s3://bucket/scene.tif", "lies at s3://bucket/scene.tif, which is not on this machine; "),
        (
            "/vsicurl/http://127.0.0.1:{port}/scene.tif",
            "leads to /vsicurl/http:/127.0.0.1:{port}/scene.tif, which cannot",
        ),
        ("//127.0.0.1:{port}/scene.tif", "leads to //127.0.0.1:{port}/scene.tif, which cannot be read: No such file"),
        ("file://127.0.0.1:{port}/scene.tif", "which cannot be read: No such file or directory"),
        ("gone.tif", "gone.tif, which cannot be read: No such file or directory"),
        (".", "which is no regular file"),
        ("/dev/zero", "leads to /dev/zero, which is no regular file"),
        ("pipe", "pipe, which is no regular file"),
        ("x" * 5000, "which cannot be read: File name too long"),
        ("a\0b", "has the href 'a\\x00b'; wanted a path"),
        ("\ud800", "has the href '\\ud800'; wanted a path"),
        ("", "has the href ''; wanted a path"),
        (7, "has the href '7'; wanted a path"),
        (None, "has the href 'None'; wanted a path"),
    ],
)
@pytest.mark.parametrize("link", ["asset", "item"])
def test_what_is_no_file_here_is_skipped_with_its_reason(
    tmp_path: Path, connections: tuple[int, list[Any]], href: Any, reason: str, link: str
) -> None:
    port, caught = connections
    os.mkfifo(tmp_path / "pipe")
    href = href.replace("{port}", str(port)) if isinstance(href, str) else href
    write(tmp_path / "good.json", item("good"))
    if link == "asset":
        write(tmp_path / "bad.json", item(assets={"image": {"href": href, "type": COG}}))
    root = catalog(tmp_path, "bad.json" if link == "asset" else href, "good.json")
    found = scenes_of(root)
    assert [source.item.id for source in found.sources if source.item] == ["good"]
    [(name, told)] = found.skipped
    assert name == str(tmp_path / ("bad.json" if link == "asset" else "catalog.json"))
    assert reason.replace("{port}", str(port)) in told
    assert "\n" not in told
    assert told.startswith("has a link that ") == (link == "item")
    assert not caught


def test_nothing_is_fetched_for_old_items_whose_collection_is_elsewhere(
    tmp_path: Path, connections: tuple[int, list[Any]]
) -> None:
    port, caught = connections
    old = item(version="0.8.1") | {"stac_extensions": ["commons"], "collection": "c"}
    url = f"http://127.0.0.1:{port}/c.json"
    old["links"] = [{"rel": rel, "href": url} for rel in ("collection", "root", "parent", "self")]
    assert len(scenes_of(write(tmp_path / "a.json", old)).sources) == 1
    assert item_beside(tmp_path / "a.tif") is not None
    assert not caught


def test_catalogs_that_name_each_other_end(tmp_path: Path) -> None:
    write(tmp_path / "a.json", item())
    (tmp_path / "link.json").symlink_to("catalog.json")
    root = catalog(tmp_path, "catalog.json", "link.json", "below/catalog.json", "a.json", "./a.json", rel="child")
    catalog(tmp_path / "below", "../catalog.json", "../a.json", rel="child")
    found = scenes_of(root)
    assert [source.path.name for source in found.sources] == ["scene.tif"]
    assert found.skipped == []


def test_deep_catalogs_need_no_stack(tmp_path: Path) -> None:
    write(tmp_path / "a.json", item())
    for number in range(1100):
        catalog(tmp_path, f"{number + 1}.json", name=f"{number}.json", rel="child")
    catalog(tmp_path, "a.json", name="1100.json")
    assert len(scenes_of(tmp_path / "0.json").sources) == 1


BROKEN = [
    ("", "is no JSON: "),
    ('{"type": "Feature", "stac_version": ', "is no JSON: "),
    ('"stac_version"', "is a JSON str; wanted a STAC object"),
    ("[" * 100_000, "is no JSON: "),
    ({"type": "Feature", "geometry": None, "properties": {}}, "is no STAC object; wanted an item, item collection,"),
    ({"type": "FeatureCollection", "features": [{"type": "Feature"}]}, "is GeoJSON whose features are no STAC items"),
    (
        {"type": "FeatureCollection", "features": 7, "stac_version": "1.0.0"},
        "is GeoJSON whose features are no STAC items",
    ),
    ({"type": "Else", "stac_version": "1.0.0"}, "is no STAC object"),
    ({"type": "Feature", "stac_version": 7}, "is no STAC object"),
    ({"type": ["Feature"], "stac_version": "1.0.0"}, "is no STAC object"),
]


@pytest.mark.parametrize(("document", "reason"), BROKEN)
def test_a_file_that_is_no_stac_is_one_line(tmp_path: Path, document: Any, reason: str) -> None:
    path = write(tmp_path / "bad.json", document)
    with pytest.raises(InputError, match=f"^{path} {reason}") as caught:
        scenes_of(path)
    assert len(str(caught.value)) < 300
    write(tmp_path / "good.json", item("good"))
    root = catalog(tmp_path, "bad.json", "good.json")
    assert len(scenes_of(root).sources) == 1
    assert scenes_of(root).skipped[0][0] == str(path)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"assets": {}}, "has no raster among its assets: none"),
        ({"assets": {"a": {"href": "a.xml", "type": "text/xml"}}}, "has no raster among its assets: a"),
        ({"assets": {"a": {"href": "a.png", "roles": ["thumbnail"]}}}, "has no raster among its assets: a"),
        ({"assets": {"a": "scene.tif"}}, "is no valid item: "),
        ({"assets": None}, "is an item without assets"),
        ({"assets": [1]}, "is an item without assets"),
        ({"properties": None}, "is an item without properties"),
        (
            {"properties": {"datetime": "yesterday"}},
            "has the time 'yesterday'; wanted one such as 2024-06-01T10:20:30Z",
        ),
        ({"properties": {"datetime": 20240601}}, "has the time '20240601'; wanted"),
        ({"id": None}, "is an item without an id"),
        ({"id": "\ud800"}, "is an item without an id"),
        ({"stac_extensions": 7}, "is no valid item: "),
        ({"links": 7}, None),
        ({"links": [7, {"rel": "self"}, {"rel": "self", "href": 7}]}, None),
        ({"geometry": "nowhere", "bbox": "none"}, None),
    ],
)
@pytest.mark.parametrize("in_collection", [False, True])
def test_an_item_that_is_none_is_skipped_with_its_reason(
    tmp_path: Path, change: Any, reason: str | None, in_collection: bool
) -> None:
    bad = item() | change
    if in_collection:
        path = write(tmp_path / "all.json", {"type": "FeatureCollection", "features": [bad, item("good")]})
    else:
        write(tmp_path / "bad.json", bad)
        write(tmp_path / "good.json", item("good"))
        path = catalog(tmp_path, "bad.json", "good.json")
    found = scenes_of(path)
    assert len(found.sources) == (2 if reason is None else 1)
    assert len(found.skipped) == (0 if reason is None else 1)
    if reason is not None:
        [(name, told)] = found.skipped
        assert told.startswith(reason)
        assert name.startswith(str(tmp_path / ("all.json: " if in_collection else "bad.json")))
        assert name.isprintable()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=6,
)
PLACES = [
    *(("id",), ("type",), ("stac_version",), ("stac_extensions",), ("links",), ("properties",), ("assets",)),
    *(("properties", name) for name in ("datetime", "start_datetime", "platform", "instruments", "eo:cloud_cover")),
    *(("assets", "image", name) for name in ("href", "type", "roles")),
    ("assets", "image"),
]


@given(place=st.sampled_from(PLACES), value=JSON, in_collection=st.booleans())
@settings(deadline=None, max_examples=60)
def test_any_json_in_an_item_is_a_scene_or_a_line(
    tmp_path_factory: pytest.TempPathFactory, place: tuple[str, ...], value: Any, in_collection: bool
) -> None:
    folder = tmp_path_factory.getbasetemp() / "any"
    document = item()
    inner = document
    for name in place[:-1]:
        inner = inner[name]
    inner[place[-1]] = value
    path = write(
        folder / "scene.json", {"type": "FeatureCollection", "features": [document]} if in_collection else document
    )
    try:
        found = scenes_of(path)
        told = [reason for _, reason in found.skipped]
        known = [source.item for source in found.sources]
    except InputError as error:
        told, known = [str(error)], []
    assert len(told) + len(known) == 1
    assert all(told)
    for each in known:
        assert isinstance(each, Item)
        json.dumps([each.id, dict(each.attributes)], ensure_ascii=False, allow_nan=False).encode()
    item_beside(folder / "scene.tif")


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b'{"stac_version": "1.0.0"}', True),
        (b'\xef\xbb\xbf \n {"a": 1, "stac_version" : "1"}', True),
        (b'{"pad": "' + b"x" * (3 << 20) + b'", "stac_version": "1"}', True),
        (b'{"pad": "' + b"x" * ((1 << 20) - 15) + b'", "stac_version": "1"}', True),  # across the parts that are read
        (b'{"type": "FeatureCollection", "features": []}', False),
        (b'["stac_version"]', False),
        (b"II*\0 {stac_version}", False),
        (b"", False),
    ],
)
def test_stac_is_told_by_looking(tmp_path: Path, raw: bytes, expected: bool) -> None:
    (tmp_path / "a.tif").write_bytes(raw)
    assert is_stac(tmp_path / "a.tif") is expected


def test_what_cannot_be_looked_at_is_no_stac(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    assert not is_stac(tmp_path / "a\0b")
    for name in ("pipe", "loop", "gone", ".", "x" * 5000):
        assert not is_stac(tmp_path / name)
        with pytest.raises(InputError, match=r"is no regular file|cannot be read"):
            scenes_of(tmp_path / name)


@pytest.mark.parametrize("name", ["scene.json", "scene.stac.json", "item.json", "pass.json"])
def test_an_item_beside_a_scene_is_found(tmp_path: Path, name: str) -> None:
    write(tmp_path / "pass" / name, item())
    assert item_beside(tmp_path / "pass" / "scene.tif") == KNOWN
    (tmp_path / "pass" / "other.tif").write_bytes(b"II*\0")
    assert item_beside(tmp_path / "pass" / "other.tif") is None


@pytest.mark.parametrize(
    "document", [*(document for document, _ in BROKEN), item(datetime="yesterday"), item() | {"id": 7}]
)
def test_what_else_lies_beside_a_scene_is_passed_over(tmp_path: Path, document: Any) -> None:
    write(tmp_path / "scene.json", document)
    assert item_beside(tmp_path / "scene.tif") is None
    catalog(tmp_path, "scene.json", name="item.json")
    assert item_beside(tmp_path / "scene.tif") is None
    write(tmp_path / "scene.stac.json", item())
    assert item_beside(tmp_path / "scene.tif") == KNOWN
