"""GeoParquet of hits, read by geopandas, and its well-known binary by shapely."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duch.errors import InputError
from duch.geojson import feature_collection, geometry_of
from duch.geoparquet import to_wkb, write_geoparquet
from duch.tile import Hit

from .some_hits import NOON_US, SQUARE, some_chip, some_hit

parquet = pytest.importorskip("pyarrow.parquet")


def columns_of(attributes: Sequence[dict[str, Any]], folder: Path) -> dict[str, Any]:
    """The columns of a file of hits with these attributes, with their types."""
    file = folder / "hits.parquet"
    write_geoparquet(file, [some_hit(rank, attributes=each) for rank, each in enumerate(attributes, 1)])
    table = parquet.read_table(file)
    return {name: (str(table.schema.field(name).type), table[name].to_pylist()) for name in table.column_names}


def test_geopandas_reads_what_the_geojson_tells(tmp_path: Path) -> None:
    geopandas = pytest.importorskip("geopandas")
    hits = [
        some_chip(1),
        some_hit(2, footprint=(179.9, -1, -179.9, 1), attributes={"sensor": "S1B"}),
        some_hit(3, modality="text", uri=None, text="two ships \u2028", id="text:3"),
        some_chip(4, attributes={"geometry": SQUARE, "sensor": "S2B", "cloud_cover": 20}),
    ]
    file = tmp_path / "hits.parquet"
    write_geoparquet(file, hits)
    frame = geopandas.read_parquet(file)
    features = feature_collection(hits)["features"]
    assert frame.crs == "OGC:CRS84"
    wanted = geopandas.GeoDataFrame.from_features(features, crs="OGC:CRS84")
    assert set(frame.columns) == set(wanted.columns)
    for name in ("rank", "distance", "id", "modality", "uri", "text", "sensor", "crs", "cloud_cover", "gsd"):
        assert list(frame[name].dropna().items()) == list(wanted[name].dropna().items()), name
    assert [None if shape is None else shape.wkt for shape in frame.geometry] == [
        None if shape is None else shape.wkt for shape in wanted.geometry
    ]
    assert frame["time"][0].value == 1000 * (NOON_US + 1)
    assert list(frame["window"][3]) == features[3]["properties"]["window"]


def test_the_metadata_are_those_of_geoparquet(tmp_path: Path) -> None:
    file = tmp_path / "hits.parquet"
    write_geoparquet(file, [some_chip(1), some_hit(2), some_hit(3, footprint=(179.9, -1, -179.9, 1))])
    schema = parquet.read_schema(file)
    assert json.loads(schema.metadata[b"geo"]) == {
        "version": "1.1.0",
        "primary_column": "geometry",
        "columns": {
            "geometry": {
                "encoding": "WKB",
                "geometry_types": ["MultiPolygon", "Polygon"],
                "orientation": "counterclockwise",
                "edges": "planar",
                "bbox": [-180.0, -1.0, 180.0, 47.02],
            }
        },
    }
    assert str(schema.field("geometry").type) == "binary"
    assert str(schema.field("time").type) == "timestamp[us, tz=UTC]"


@pytest.mark.parametrize(
    ("values", "kind", "found"),
    [
        ([True, None], "bool", [True, None]),
        ([3, None], "int64", [3, None]),
        ([3, 4.5], "double", [3.0, 4.5]),
        (["a", None], "string", ["a", None]),
        ([2**70, 1], "double", [2.0**70, 1.0]),
        ([10**400, 0.5], "string", [str(10**400), "0.5"]),
        ([True, 1], "string", ["true", "1"]),
        (["a", 1], "string", ['"a"', "1"]),
        ([[1, 2], {"b": None}], "string", ["[1, 2]", '{"b": null}']),
        ([None, None], "string", [None, None]),
        (["\ud800", "é"], "string", ["\\ud800", "é"]),
    ],
)
def test_attributes_are_columns_of_their_type(values: list[Any], kind: str, found: list[Any], tmp_path: Path) -> None:
    attributes = [{} if value is None else {"it": value} for value in values]
    columns = columns_of([*attributes, {"it": None}], tmp_path)
    assert columns["it"] == (kind, [*found, None])


def test_attributes_with_the_names_of_columns_stay_beside_them(tmp_path: Path) -> None:
    columns = columns_of([{"time": "late", "geometry": 5, "distance": 0.5}], tmp_path)
    assert columns["time"][1] == [None]
    assert columns["attribute_time"] == ("string", ["late"])
    assert columns["attribute_distance"] == ("double", [0.5])
    assert columns["geometry"] == ("binary", [None])


def test_a_name_that_is_no_utf_8_is_a_column(tmp_path: Path) -> None:
    assert columns_of([{"\ud800": 1}], tmp_path)["\\ud800"] == ("int64", [1])


def test_no_hits_are_an_empty_table(tmp_path: Path) -> None:
    geopandas = pytest.importorskip("geopandas")
    file = tmp_path / "hits.parquet"
    write_geoparquet(file, [])
    frame = geopandas.read_parquet(file)
    assert len(frame) == 0
    assert {"rank", "distance", "id", "uri", "time", "geometry"} <= set(frame.columns)


def test_a_file_that_cannot_be_written_is_one_line_and_the_old_one_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match=r"hits\.parquet cannot be written: No such file or directory"):
        write_geoparquet(tmp_path / "none" / "hits.parquet", [some_chip()])
    file = tmp_path / "hits.parquet"
    write_geoparquet(file, [some_chip()])
    before = file.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match="No space left on device; nothing was made"):
        write_geoparquet(file, [some_chip(), some_chip(2)])
    assert file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [file]


def hits() -> st.SearchStrategy[Hit]:
    edges = st.tuples(*[st.integers(-1800, 1800)] * 2, *[st.integers(-900, 900)] * 2)
    return edges.map(lambda e: some_hit(footprint=(e[0] / 10, min(e[2], e[3]) / 10, e[1] / 10, max(e[2], e[3]) / 10)))


@given(hits())
def test_wkb_is_that_of_shapely(hit: Hit) -> None:
    shapely = pytest.importorskip("shapely")
    geometry = geometry_of(hit)
    assert geometry is not None
    wanted = shapely.from_geojson(json.dumps(geometry))
    assert to_wkb(geometry) == shapely.to_wkb(wanted, byte_order=1)
