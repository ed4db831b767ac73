"""duch query, answer, hits: from words to hits over packets, and one line for everything that is wrong."""

from __future__ import annotations

import json
import os
import pty
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from duch.bundle import read_bundle
from duch.cli import main
from duch.encoder import Encoder
from duch.gallery import Gallery
from duch.ingest import index_images
from duch.packet import QueryPacket

from .resigned import TINY
from .some_gallery import some_gallery


def duch(*arguments: str | Path | int, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(main, [*map(str, arguments)], input=stdin)


def works(result: Result) -> bytes:
    assert result.exit_code == 0, result.output
    return result.stdout_bytes


def fails(result: Result, *words: str) -> None:
    """It said one line on stderr with these words and nothing on stdout, and ended with 1."""
    assert result.exit_code == 1, result.output
    assert result.stdout_bytes == b""
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("duch: ")
    for word in words:
        assert word in lines[0]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with images/, gallery/ and q.bin, which asks for a river. Read-only."""
    folder = tmp_path_factory.mktemp("packets")
    (folder / "images").mkdir()
    for shade in range(24):
        Image.new("RGB", (40, 36), (10 * shade, 250 - 9 * shade, 77 * shade % 256)).save(
            folder / "images" / f"{shade}.png"
        )
    index_images(Encoder(TINY), folder / "images", folder / "gallery")
    works(duch("query", "a river", "--bundle", TINY, "-o", folder / "q.bin"))
    return folder


def test_a_query_is_a_packet_of_the_bundle(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = read_bundle(TINY)
    codes = Encoder(bundle).encode_texts(["a river"])
    expected = QueryPacket.of(codes, fingerprint=bundle.fingerprint).to_bytes()
    assert (world / "q.bin").read_bytes() == expected
    monkeypatch.setenv("DUCH_BUNDLE", str(TINY))
    result = duch("query", "a river", "--packet")
    assert works(result) == expected
    assert "20 bytes, 32 bits" in result.stderr
    assert works(duch("query", "a river", "--hex")) == expected.hex().encode() + b"\n"


def test_an_image_asks_too(world: Path) -> None:
    image = world / "images" / "7.png"
    packet = works(duch("query", "--image", image, "--bundle", TINY))
    answer = works(duch("answer", world / "gallery", "-", "-k", 1, stdin=packet))
    hits = json.loads(works(duch("hits", "-", "--json", stdin=answer)))["hits"]
    assert hits == [{"rank": 1, "distance": 0, "id": hits[0]["id"]}]


def test_a_query_of_several_parts_is_one_code(world: Path, tmp_path: Path) -> None:
    parts = ("a river", "--tile", "3.png", "--not-words", "a desert", "--image", world / "images" / "7.png")
    works(duch("query", *parts, "--gallery", world / "gallery", "--bundle", TINY, "-o", tmp_path / "q"))
    answer = works(duch("answer", world / "gallery", tmp_path / "q", "-k", 24))
    hits = json.loads(works(duch("hits", "-", "--json", stdin=answer)))["hits"]
    found = works(duch("search", world / "gallery", *parts, "--bundle", TINY, "--json", "-k", 24))
    wanted = [(hit["distance"], hit["id"]) for hit in json.loads(found)["hits"]]
    # A search leaves its own tile out; a packet names none.
    assert [(hit["distance"], hit["id"]) for hit in hits if hit["id"] != "3.png"] == wanted


def test_the_gallery_remembers_the_bundle(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DUCH_BUNDLE", raising=False)
    works(duch("index", TINY, world / "images", world / "gallery"))
    packet = works(duch("query", "a river", "--gallery", world / "gallery"))
    assert packet == (world / "q.bin").read_bytes()


def test_hits_are_written_as_those_of_a_search_are(world: Path, tmp_path: Path) -> None:
    answer = works(duch("answer", world / "gallery", world / "q.bin", "-k", 3, "--seq"))
    where = ("--query", world / "q.bin", "--gallery", world / "gallery")
    result = duch("hits", "-", *where, "--sheet", tmp_path / "s.png", "--geojson", "-", stdin=answer)
    wanted = duch("search", world / "gallery", "a river", "-k", 3, "--bundle", TINY, "--geojson", "-")
    assert works(result) == works(wanted)
    with Image.open(tmp_path / "s.png") as sheet:
        assert sheet.width > 600
    table = works(duch("hits", "-", *where, stdin=answer))
    assert table == works(duch("search", world / "gallery", "a river", "-k", 3, "--bundle", TINY))


def test_hits_that_the_copy_does_not_know_are_named(world: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(world / "gallery", copy)
    first, *others = search(world, "-k", "3")
    works(duch("gallery", "remove", copy, first["id"]))
    answer = works(duch("answer", world / "gallery", world / "q.bin", "-k", 3))
    result = duch("hits", "-", "--query", world / "q.bin", "--gallery", copy, "--json", stdin=answer)
    bare = {name: first[name] for name in ("rank", "distance", "id")}
    assert [hit["id"] for hit in json.loads(works(result))["hits"]] == [hit["id"] for hit in (first, *others)]
    assert json.loads(result.stdout)["hits"][0] == bare
    assert f"{copy} has no tile for 1 of the hits: {first['id']}\n" in result.stderr


def search(world: Path, *more: str | Path) -> list[dict[str, Any]]:
    output = works(duch("search", world / "gallery", "a river", "--bundle", TINY, "--json", *more))
    found: list[dict[str, Any]] = json.loads(output)["hits"]
    return found


@pytest.mark.parametrize(
    "options", [(), ("-k", "3"), ("-k", "99", "--max-distance", "14"), ("--id", "3.png"), ("--max-overlap", "0")]
)
def test_the_hits_are_those_of_duch_search(world: Path, tmp_path: Path, options: tuple[str, ...]) -> None:
    gallery, query, answer = world / "gallery", world / "q.bin", tmp_path / "a.bin"
    wanted = search(world, *options)
    for form in ((), ("--hex",), ("--seq",), ("--seq", "--hex")):
        result = duch("answer", gallery, query, *options, *form, "-o", answer)
        assert works(result) == b""
        assert f", {len(wanted)} hit{'s'[: len(wanted) != 1]}\n" in result.stderr
        known = json.loads(works(duch("hits", answer, "--query", query, "--gallery", gallery, "--json")))["hits"]
        assert known == wanted
        bare = json.loads(works(duch("hits", answer, "--json")))["hits"]
        key = "seq" if "--seq" in form else "id"
        assert bare == [{name: hit[name] for name in ("rank", "distance", key)} for hit in wanted]


def test_the_table_of_hits(world: Path) -> None:
    answer = works(duch("answer", world / "gallery", world / "q.bin", "-k", 2))
    first = search(world)[0]
    lines = works(duch("hits", "-", stdin=answer)).decode().splitlines()
    assert lines[0].split() == ["rank", "distance", "id"]
    assert lines[1].split() == ["1", str(first["distance"]), first["id"]]
    by_seq = works(duch("answer", world / "gallery", world / "q.bin", "-k", 2, "--seq"))
    lines = works(duch("hits", "-", stdin=by_seq)).decode().splitlines()
    assert lines[0].split() == ["rank", "distance", "seq"]
    assert lines[1].split() == ["1", str(first["distance"]), str(first["seq"])]


def test_an_answer_fits_a_frame_and_says_what_it_left_out(world: Path) -> None:
    result = duch("answer", world / "gallery", world / "q.bin", "-k", 20, "--max-bytes", 40)
    answer = works(result)
    assert len(answer) <= 40
    content = json.loads(works(duch("hits", "-", "--json", stdin=answer)))
    n = len(content["hits"])
    assert 0 < n < 20
    assert content["cut"]
    assert f"{n} hits, {20 - n} more cut" in result.stderr
    assert "there were more" in duch("hits", "-", stdin=answer).stderr
    fails(
        duch("answer", world / "gallery", world / "q.bin", "--max-bytes", 16),
        "one hit takes a packet of",
        "not 16; wanted more room",
    )


def test_answering_loads_no_model(world: Path, tmp_path: Path) -> None:
    code = (
        "import sys\nfrom duch.cli import main\n"
        f"try: main(['answer', {str(world / 'gallery')!r}, {str(world / 'q.bin')!r}, '-o', {str(tmp_path / 'a')!r}])\n"
        "except SystemExit as ended: assert not ended.code, ended.code\n"
        "print(*sys.modules, sep='\\n')"
    )
    environment = {name: value for name, value in os.environ.items() if name != "DUCH_BUNDLE"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    heavy = {"onnxruntime", "tokenizers", "PIL", "duch.encoder", "duch.bundle", "duch.retriever", "importlib.metadata"}
    assert not heavy & set(done.stdout.split())
    assert (tmp_path / "a").stat().st_size > 13


def test_raw_bytes_are_not_written_to_a_terminal(world: Path) -> None:
    main_end, terminal = pty.openpty()
    try:
        for arguments in (["query", "a river", "--bundle", TINY], ["answer", world / "gallery", world / "q.bin"]):
            command = [sys.executable, "-m", "duch", *map(str, arguments)]
            done = subprocess.run(command, stdout=terminal, stderr=subprocess.PIPE, check=False)
            assert done.returncode == 1
            assert b"stdout is a terminal" in done.stderr
            assert b"--hex, --out FILE" in done.stderr
        done = subprocess.run([*command, "--hex"], stdout=terminal, stderr=subprocess.PIPE, check=False)
        assert done.returncode == 0
        assert os.read(main_end, 1000).startswith(b"444101")  # and nothing of the ones before
        closed = subprocess.run(
            ["sh", "-c", 'exec "$@" >&-', "sh", *command], stderr=subprocess.PIPE, text=True, check=False
        )
        assert (closed.returncode, closed.stderr) == (1, "duch: stdout is closed; wanted --out FILE, or > FILE\n")
    finally:
        os.close(main_end)
        os.close(terminal)


def test_what_is_asked_wrongly(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DUCH_BUNDLE", raising=False)
    fails(duch("query", "a river"), "no bundle", "--bundle or DUCH_BUNDLE")
    fails(duch("query", "--bundle", TINY), "nothing to look for")
    fails(duch("query", "--tile", "3.png", "--bundle", TINY), "wanted a gallery that holds them")
    fails(duch("query", "--tile", "33.png", "--gallery", world / "gallery", "--bundle", TINY), "has no tile '33.png'")
    fails(duch("query", "a river", "--gallery", some_gallery(tmp_path / "g"), "--bundle", TINY), "holds 64-bit codes")
    fails(duch("query", " ", "--bundle", TINY, "-o", tmp_path / "q"))
    assert not (tmp_path / "q").exists()
    before = (world / "gallery" / "catalog.sqlite").read_bytes()
    out = ("-o", world / "gallery" / "catalog.sqlite")
    fails(duch("answer", world / "gallery", world / "q.bin", *out), "inside the gallery; wanted a file elsewhere")
    fails(duch("query", "a river", "--bundle", TINY, "--gallery", world / "gallery", *out), "inside the gallery")
    fails(duch("query", "a river", "--bundle", tmp_path / "none", "-o", tmp_path / "no" / "q"), "no does not exist")
    assert (world / "gallery" / "catalog.sqlite").read_bytes() == before
    assert duch("query", "a river", "--bundle", TINY, "-o", "/dev/null").exit_code == 0
    fails(duch("hits", tmp_path / "gone"), "No such file")
    fails(duch("hits", world / "q.bin"), "this is a query packet; wanted an answer packet")
    answer = works(duch("answer", world / "gallery", world / "q.bin"))
    fails(duch("hits", "-", "--gallery", world / "gallery", stdin=answer), "--gallery without --query")
    fails(duch("hits", "-", "--geojson", "-", stdin=answer), "no --gallery")
    fails(duch("hits", "-", "--query", "-", stdin=answer), "both ANSWER and --query read stdin")
    fails(duch("answer", world / "gallery", "-", "--ids", "-", stdin=b"3.png"), "both PACKET and a filter read stdin")
    fails(duch("answer", world / "gallery", "-", "--ids", "-", stdin=b"\xff"), "line 1 of stdin is no UTF-8")
    where = ("--query", world / "q.bin", "--gallery", world / "gallery")
    fails(duch("hits", "-", *where, "--sheet", world / "q.bin", stdin=answer), "ends in '.bin'")
    other = works(duch("query", "a harbour", "--bundle", TINY))
    (tmp_path / "other").write_bytes(other)
    fails(duch("hits", "-", "--query", tmp_path / "other", stdin=answer), "wanted the answer to it")


@pytest.mark.parametrize(
    ("packet", "words"),
    [
        (b"", "0 bytes are no packet"),
        (b"\x89PNG" + bytes(40), "begins with the bytes 89 50"),
        (b"4451 0104 fc7a 668d a16e 7b84 4bbd 97a2 4328 6f7", "39 hexadecimal digits"),
        (b"44510104fc7a668da16e7b844bbd97a243286f76", "the packet is damaged"),
        (b"44510204fc7a668da16e7b844bbd97a243286f75", "version 2"),
    ],
)
def test_a_packet_that_cannot_be_answered_is_one_line(world: Path, tmp_path: Path, packet: bytes, words: str) -> None:
    fails(duch("answer", world / "gallery", "-", "-o", tmp_path / "a", stdin=packet), words)
    assert not (tmp_path / "a").exists()


def test_a_query_of_another_bundle_is_refused(world: Path, tmp_path: Path) -> None:
    other = some_gallery(tmp_path / "g")
    fails(duch("answer", other, world / "q.bin"), "code of 32 bits", "codes of 64")
    fails(duch("answer", world / "images", world / "q.bin"), "holds no catalog.sqlite")
    with Gallery.open(world / "gallery") as gallery:
        packet = QueryPacket(code=bytes(4), bundle=bytes(8))
        assert gallery.n_bits == packet.n_bits
    fails(duch("answer", world / "gallery", "-", stdin=packet.to_bytes()), "coded with bundle 0000000000000000")
