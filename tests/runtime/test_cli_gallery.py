"""duch gallery: what it prints, its exit codes, and one line for everything that is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from duch.cli import main
from duch.gallery import Gallery, Tile

from .some_gallery import OTHER, code, edit, flip, some_gallery, what_a_reader_sees, writer

PROGRESS = ("checking", "writing", "merging", "exporting", "importing")


def duch(*arguments: str | Path, stdin: str | bytes | None = None) -> Result:
    return CliRunner().invoke(main, ["gallery", *map(str, arguments)], input=stdin)


def fails(result: Result, *words: str) -> None:
    """It said one line on stderr with these words, and ended with 1."""
    assert result.exit_code == 1, result.output
    lines = [line for line in result.stderr.strip().splitlines() if not line.startswith(PROGRESS)]
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("duch: ")
    for word in words:
        assert word in lines[0]


def works(result: Result) -> str:
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return some_gallery(tmp_path / "g")


# --- verify ---


def test_verify_of_a_whole_gallery(folder: Path) -> None:
    assert works(duch("verify", folder)) == f"{folder} is whole: 36 tiles in 4 batches\n"
    content = json.loads(works(duch("verify", folder, "--json")))
    assert content == {"gallery": str(folder), "n_tiles": 36, "n_batches": 4, "problems": [], "leftovers": []}


def test_verify_lists_what_is_wrong_and_ends_with_1(folder: Path) -> None:
    flip(folder / "codes-1.bin", 64 + 8 * 7)
    result = duch("verify", folder)
    assert result.stdout.splitlines() == [
        "rows 0 to 13 of codes-1.bin: they differ from their checksum",
        "row 7 of codes-1.bin: its code is missing or damaged, tile 's3/0007.png'",
    ]
    fails(result, "has 2 problems", "duch gallery verify --repair")
    result = duch("verify", folder, "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["problems"][1]["tile_id"] == "s3/0007.png"


def test_verify_shows_some_of_many_problems(tmp_path: Path) -> None:
    folder = some_gallery(tmp_path / "g", 200)
    edit(folder, "UPDATE tiles SET id = id || char(27)")
    result = duch("verify", folder)
    assert result.stdout.splitlines()[-1] == "181 more; --json lists all"
    assert "\x1b" not in result.stdout
    fails(result, "has 201 problems")


def test_repair_names_what_it_took_out(folder: Path) -> None:
    flip(folder / "codes-1.bin", 64 + 8 * 7)
    (folder / "codes-9.bin").write_bytes(b"half")
    out = works(duch("verify", folder, "--repair"))
    assert "taken out: s3/0007.png\n" in out
    assert out.endswith(f"{folder}: 2 problems put right, 1 tile taken out\n")
    assert "is whole: 35 tiles in 1 batch" in works(duch("verify", folder))
    assert works(duch("verify", folder, "--repair")) == f"{folder}: nothing was wrong, 0 tiles taken out\n"


def test_repair_as_json(folder: Path) -> None:
    flip(folder / "columns-1.bin", 64)
    content = json.loads(works(duch("verify", folder, "--repair", "--json")))
    assert content["taken_out"] == []
    assert len(content["problems"]) == 2


# --- compact ---


def test_compact_tells_what_it_won(folder: Path) -> None:
    before = sum(file.stat().st_size for file in folder.iterdir())
    content = json.loads(works(duch("compact", folder, "--json")))
    won = before - sum(file.stat().st_size for file in folder.iterdir())
    assert content == {"gallery": str(folder), "dropped": 5, "bytes_won": won, "readers_hold_the_old": False}
    assert "0 removed tiles dropped" in works(duch("compact", folder))


def test_compact_beside_a_reader(folder: Path) -> None:
    with Gallery.open(folder) as reader:
        result = duch("compact", folder)
        assert "5 removed tiles dropped" in works(result)
        assert "a reader holds the older files" in result.stderr
        assert len(reader.search(code(0), 99)[0]) == 36
    assert len(what_a_reader_sees(folder)) == 36


# --- merge ---


def test_merge(tmp_path: Path, folder: Path) -> None:
    other = some_gallery(tmp_path / "h", 40, "h/")
    assert works(duch("merge", tmp_path / "out", folder, other)) == f"{tmp_path / 'out'}: 72 tiles\n"
    fails(duch("merge", tmp_path / "out", folder), "is a gallery already")
    fails(duch("merge", tmp_path / "twice", folder, folder), "is in", "--on-duplicate replace")
    content = json.loads(works(duch("merge", tmp_path / "last", folder, folder, "--on-duplicate", "replace", "--json")))
    assert (content["n_tiles"], content["replaced"], content["root"]) == (36, 36, None)
    Gallery.create(tmp_path / "b", fingerprint=OTHER, n_bits=64).close()
    fails(duch("merge", tmp_path / "no", folder, tmp_path / "b"), "wanted galleries of one bundle")
    assert not (tmp_path / "no").exists()


# --- export and import ---


def test_export_and_import(tmp_path: Path, folder: Path) -> None:
    assert works(duch("export", folder, tmp_path / "out")) == f"{tmp_path / 'out'}: 36 tiles\n"
    assert works(duch("import", tmp_path / "out", tmp_path / "back")) == f"{tmp_path / 'back'}: 36 tiles added\n"
    assert ids_of(tmp_path / "back") == ids_of(folder)
    fails(duch("export", folder, tmp_path / "out"), "is not empty")
    fails(duch("import", tmp_path / "out", tmp_path / "back"), "is in the gallery already", "--on-duplicate replace")
    again = duch("import", tmp_path / "out", tmp_path / "back", "--on-duplicate", "replace")
    assert "36 tiles added, 36 of them for a tile of the same id" in works(again)
    (tmp_path / "out" / "codes.npy").write_bytes(b"x")
    fails(duch("import", tmp_path / "out", tmp_path / "new"), "is no NPY file")
    fails(duch("import", tmp_path / "gone.parquet", tmp_path / "new"), "gone.parquet does not exist")
    assert not (tmp_path / "new").exists()


def test_export_and_import_as_json(tmp_path: Path, folder: Path) -> None:
    pytest.importorskip("pyarrow")
    out = tmp_path / "out.parquet"
    assert json.loads(works(duch("export", folder, out, "--json"))) == {"export": str(out), "n_tiles": 36}
    content = json.loads(works(duch("import", out, tmp_path / "back", "--json")))
    assert content == {"gallery": str(tmp_path / "back"), "added": 36, "replaced": 0}


# --- remove ---


def ids_of(folder: Path) -> set[str]:
    with Gallery.open(folder) as gallery:
        return {tile.id for _, tiles in gallery.batches() for tile in tiles}


def test_remove_by_ids(folder: Path) -> None:
    before = ids_of(folder)
    assert works(duch("remove", folder, "s2/0002.png", "s0/0004.png")) == f"{folder}: 2 tiles removed\n"
    assert ids_of(folder) == before - {"s2/0002.png", "s0/0004.png"}


def test_remove_by_a_file_of_ids(folder: Path, tmp_path: Path) -> None:
    with writer(folder) as out:
        out.append(code(1), [Tile(id="line\u2028 ü", modality="text", text="x")])
    (tmp_path / "ids").write_text("s2/0002.png\r\n\nline\u2028 ü\n", encoding="utf-8")
    before = ids_of(folder)
    works(duch("remove", folder, "--ids", tmp_path / "ids"))
    assert ids_of(folder) == before - {"s2/0002.png", "line\u2028 ü"}
    works(duch("remove", folder, "--ids", "-", stdin="s0/0004.png\n"))
    assert "s0/0004.png" not in ids_of(folder)
    fails(duch("remove", folder, "--ids", "-", stdin=b"\xff\n"), "no UTF-8")
    fails(duch("remove", folder, "--ids", tmp_path / "gone"), "No such file")


def test_remove_of_unknown_ids_removes_nothing_unless_it_may(folder: Path) -> None:
    before = ids_of(folder)
    wanted = ("s2/0002.png", "d", "b", "c", "a")
    fails(
        duch("remove", folder, *wanted), "has no tile 'a', 'b', 'c' and 1 more", "nothing was removed", "--missing-ok"
    )
    assert ids_of(folder) == before
    assert works(duch("remove", folder, "--missing-ok", *wanted)).endswith("1 tile removed, 4 unknown ids\n")


def test_remove_by_an_expression(folder: Path) -> None:
    before = ids_of(folder)
    content = json.loads(
        works(duch("remove", folder, "--where", "cloud > 0.1 AND sensor = 'S2A'", "--dry-run", "--json"))
    )
    assert content["dry_run"]
    assert ids_of(folder) == before
    assert (
        json.loads(works(duch("remove", folder, "--where", "cloud > 0.1", "--json")))["removed"] == content["removed"]
    )
    assert ids_of(folder) == before - set(content["removed"])
    assert "0 tiles removed" in works(duch("remove", folder, "--where", "cloud > 0.1"))


def test_a_dry_run_prints_ids_and_needs_no_lock(folder: Path) -> None:
    with writer(folder):
        assert works(duch("remove", folder, "s2/0002.png", "--dry-run")) == "s2/0002.png\n"
    assert "s2/0002.png" in ids_of(folder)


@pytest.mark.parametrize("arguments", [(), ("s2/0002.png", "--where", "cloud > 1")])
def test_remove_wants_ids_or_an_expression(folder: Path, arguments: tuple[str, ...]) -> None:
    fails(duch("remove", folder, *arguments), "wanted ids, or --where EXPRESSION")


# --- all of them ---

COMMANDS: list[Any] = [("verify",), ("verify", "--repair"), ("compact",), ("remove", "a")]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_folder_that_is_no_gallery_is_one_line(tmp_path: Path, command: tuple[str, ...]) -> None:
    fails(duch(command[0], tmp_path, *command[1:]), "holds no catalog.sqlite")
    fails(duch(command[0], tmp_path / "gone", *command[1:]), "does not exist")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", COMMANDS[1:])
def test_a_writer_at_work_is_one_line(folder: Path, command: tuple[str, ...]) -> None:
    with writer(folder):
        fails(duch(command[0], folder, *command[1:]), "another writer", "wait for it to end")


@pytest.mark.parametrize("command", [COMMANDS[2], COMMANDS[3], ("merge",)])
def test_a_damaged_gallery_is_one_line(folder: Path, command: tuple[str, ...]) -> None:
    edit(folder, "UPDATE meta SET value = 1 WHERE key = 'committed'")
    places = (folder.with_name("out"), folder) if command == ("merge",) else (folder,)
    fails(duch(command[0], *places, *command[1:]), "is damaged")
