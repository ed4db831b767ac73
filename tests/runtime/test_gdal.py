"""What GDAL is kept from: the network, waiting for pipes, odd names, words on stderr, files of its own."""

from __future__ import annotations

import html
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from duch.errors import SceneError

from .some_scenes import rasterio, write_scene

from duch.geo.gdal import open_raster  # isort: skip


class Listener:
    """Somebody who waits on this machine for connections, and counts them."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self.connections = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.connections += 1
            connection.close()

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def listener() -> Iterator[Listener]:
    heard = Listener()
    yield heard
    heard.close()


def vrt(source: str) -> str:
    return (
        '<VRTDataset rasterXSize="20" rasterYSize="20"><VRTRasterBand dataType="Byte" band="1"><SimpleSource>'
        f"<SourceFilename>{html.escape(source)}</SourceFilename><SourceBand>1</SourceBand>"
        '<SrcRect xOff="0" yOff="0" xSize="20" ySize="20"/><DstRect xOff="0" yOff="0" xSize="20" ySize="20"/>'
        "</SimpleSource></VRTRasterBand></VRTDataset>"
    )


def tiles_of(port: int) -> str:
    return (
        f'<GDAL_WMS><Service name="TMS"><ServerUrl>http://127.0.0.1:{port}/${{z}}/${{x}}/${{y}}.png</ServerUrl>'
        "</Service><DataWindow><UpperLeftX>0</UpperLeftX><UpperLeftY>0</UpperLeftY><LowerRightX>1</LowerRightX>"
        "<LowerRightY>1</LowerRightY><TileLevel>0</TileLevel><TileCountX>1</TileCountX><TileCountY>1</TileCountY>"
        "</DataWindow><BandsCount>1</BandsCount></GDAL_WMS>"
    )


SOURCES: dict[str, Callable[[int], str]] = {
    "http": lambda port: f"http://127.0.0.1:{port}/a.tif",
    "vsicurl": lambda port: f"/vsicurl/http://127.0.0.1:{port}/a.tif",
    "zip": lambda port: f"/vsizip//vsicurl/http://127.0.0.1:{port}/a.zip/a.tif",
    "streaming": lambda port: f"/vsicurl_streaming/http://127.0.0.1:{port}/a.tif",
    "s3": lambda port: "/vsis3/bucket/a.tif",
    "swift": lambda port: "/vsiswift/bucket/a.tif",
    "tiles": tiles_of,
    "a vrt in it": lambda port: vrt(f"http://127.0.0.1:{port}/a.tif"),
    "netcdf": lambda port: f'NETCDF:"http://127.0.0.1:{port}/a.nc":a',
    "zarr": lambda port: f'ZARR:"/vsicurl/http://127.0.0.1:{port}/a.zarr"',
    "wcs": lambda port: f"WCS:http://127.0.0.1:{port}/a",
    "stac": lambda port: f'STACIT:"http://127.0.0.1:{port}/a.json"',
}


@pytest.mark.parametrize("source", SOURCES)
def test_no_source_of_a_vrt_is_fetched(
    tmp_path: Path, listener: Listener, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_S3_ENDPOINT", f"127.0.0.1:{listener.port}")
    monkeypatch.setenv("AWS_NO_SIGN_REQUEST", "YES")
    monkeypatch.setenv("SWIFT_STORAGE_URL", f"http://127.0.0.1:{listener.port}/s")
    monkeypatch.setenv("SWIFT_AUTH_TOKEN", "none")
    file = tmp_path / "a.tif"
    file.write_text(vrt(SOURCES[source](listener.port)))
    with pytest.raises((SceneError, rasterio.errors.RasterioError)), open_raster(file) as dataset:
        dataset.read(1)
    assert listener.connections == 0


def test_tiles_of_the_web_are_no_raster(tmp_path: Path, listener: Listener) -> None:
    file = tmp_path / "a.tif"
    file.write_text(tiles_of(listener.port))
    with pytest.raises(SceneError, match=r"a\.tif cannot be read as a raster: not recognized"), open_raster(file):
        pass
    assert listener.connections == 0


@pytest.mark.parametrize("source", ["http", "vsicurl", "netcdf"])
@pytest.mark.parametrize("beside", [True, False])
def test_no_overviews_are_fetched(tmp_path: Path, listener: Listener, source: str, beside: bool) -> None:
    file, place = tmp_path / "a.tif", SOURCES[source](listener.port)
    write_scene(file, (1, 64, 64))
    if beside:
        text = f'<MDI key="OVERVIEW_FILE">{html.escape(place)}</MDI>'
        (tmp_path / "a.tif.aux.xml").write_text(
            f'<PAMDataset><Metadata domain="OVERVIEWS">{text}</Metadata></PAMDataset>'
        )
    else:
        with rasterio.open(file, "r+") as dataset:
            dataset.update_tags(ns="OVERVIEWS", OVERVIEW_FILE=place)
        assert b"OVERVIEW_FILE" in file.read_bytes()
    with open_raster(file) as dataset:
        dataset.read(1, out_shape=(8, 8))
        dataset.overviews(1)
    assert listener.connections == 0


def test_a_vrt_of_local_files_is_read(tmp_path: Path) -> None:
    write_scene(tmp_path / "source.tif", (1, 20, 20), dtype="uint8")
    (tmp_path / "a.vrt").write_text(vrt("source.tif").replace("<SourceFilename>", '<SourceFilename relativeToVRT="1">'))
    with open_raster(tmp_path / "a.vrt") as dataset, rasterio.open(tmp_path / "source.tif") as source:
        np.testing.assert_array_equal(dataset.read(), source.read())


def test_where_others_were_first_no_vrt_is_read(tmp_path: Path, listener: Listener) -> None:
    (tmp_path / "a.vrt").write_text(vrt(f"http://127.0.0.1:{listener.port}/a.tif"))
    program = (
        "import sys, rasterio\n"
        "with rasterio.Env(): pass\n"
        "from pathlib import Path\n"
        "from duch.errors import SceneError\n"
        "from duch.geo.gdal import open_raster\n"
        "try:\n"
        "    with open_raster(Path(sys.argv[1])) as dataset: dataset.read(1)\n"
        "except SceneError as error: print(error)\n"
    )
    told = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "a.vrt")], capture_output=True, text=True, check=True
    )
    assert "not recognized" in told.stdout
    assert told.stderr == ""
    assert listener.connections == 0


@pytest.mark.parametrize(
    "name",
    [
        b"new\nline.tif",
        b"caf\xe9.tif",
        b"zip+file:__a!b?c#d.tif",
        b"GTIFF_DIR:2:a.tif",
        "衛星.tif".encode(),
        b"-rf %s {} $HOME.tif",
        b"\xff",
    ],
)
@pytest.mark.parametrize("folder", [b"here", b"bl\xe9"])
def test_any_name_and_what_lies_beside_it(tmp_path: Path, folder: bytes, name: bytes) -> None:
    (Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + folder))).mkdir()
    plain = write_scene(tmp_path / "plain.tif", (1, 20, 30), imagery={"SATELLITEID": "S2A"})
    place = os.fsdecode(os.path.join(os.fsencode(tmp_path), folder, name))
    os.rename(plain, place)
    os.rename(tmp_path / "plain.tif.aux.xml", place + ".aux.xml")
    with open_raster(Path(place)) as dataset:
        assert dataset.shape == (20, 30)
        assert dataset.tags(ns="IMAGERY") == {"SATELLITEID": "S2A"}


@pytest.mark.parametrize("content", [b"", b"II\x2a\0", b"II\x2a\0\xff\xff\xff\x7f", b"hello\n", b"\x89PNG\r\n\x1a\n"])
def test_broken_files_are_one_line_and_silent(
    tmp_path: Path, content: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "new\nline.tif"
    file.write_bytes(content)
    with pytest.raises(SceneError) as caught, open_raster(file):
        pass
    assert str(caught.value).startswith(f"{tmp_path}/new\\nline.tif cannot be read as a raster: ")
    assert "\n" not in str(caught.value)
    assert str(caught.value).count("line.tif") == 1
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("make", "reason"), [("nothing", "No such file"), ("folder", "no regular"), ("pipe", "no reg")]
)
def test_what_is_no_file(tmp_path: Path, make: str, reason: str) -> None:
    path = tmp_path / "a.tif"
    if make == "folder":
        path.mkdir()
    elif make == "pipe":
        os.mkfifo(path)
    with pytest.raises(SceneError, match=rf"a\.tif .*{reason}"), open_raster(path):
        pass


def test_nothing_is_written_beside_a_scene(tmp_path: Path) -> None:
    file = write_scene(tmp_path / "a.tif", (3, 300, 300), nodata=0)
    with open_raster(file) as dataset:
        dataset.read(out_shape=(3, 20, 20))
        dataset.read_masks()
    assert os.listdir(tmp_path) == ["a.tif"]


@pytest.mark.parametrize("where", ["tags", "source"])
def test_messages_of_gdal_that_are_no_text(tmp_path: Path, where: str) -> None:
    if where == "tags":
        file = write_scene(tmp_path / "a.tif", (1, 20, 20), tags={"name": "value"})
        raw = file.read_bytes()
        assert raw.count(b'name="name"') == 1
        file.write_bytes(raw.replace(b'name="name"', b'name\xff"name"'))
    else:
        file = tmp_path / "a.vrt"
        file.write_bytes(vrt("source.tif").encode().replace(b"source", b"s\xffurce"))
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from duch.errors import SceneError\n"
        "from duch.geo.bands import read_window\n"
        "from duch.geo.gdal import open_raster\n"
        "from duch.ids import Window\n"
        "try:\n"
        "    with open_raster(Path(sys.argv[1])) as dataset: read_window(dataset, (1,), Window(0, 0, 20, 20), 'a')\n"
        "except SceneError as error: print(error)\n"
        "else: print('read')\n"
        "b'\\xff'.decode()\n"
    )
    told = subprocess.run([sys.executable, "-c", program, str(file)], capture_output=True, text=True, check=False)
    assert told.stdout.startswith("read" if where == "tags" else "a is damaged or cut off: ")
    # Of the program's own errors nothing is held back.
    assert told.stderr.startswith("Traceback")
    assert told.stderr.count("UnicodeDecodeError") == 1


def test_errors_of_the_block_stay_what_they_are(tmp_path: Path) -> None:
    file = write_scene(tmp_path / "a.tif", (1, 20, 20))
    with pytest.raises(KeyError), open_raster(file):
        raise KeyError("a bug")
