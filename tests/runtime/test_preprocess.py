"""Images to pixels and sentences to ids, with the input that the field sends."""

from __future__ import annotations

import io
import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from duch.bundle import read_bundle
from duch.errors import ImageError, TextError
from duch.preprocess import (
    ImagePreprocessing,
    TextPreprocessing,
    Tokenizer,
    display_path,
    image_to_pixels,
    load_image,
)

TINY = Path(__file__).parents[1] / "tiny_bundle"
SIZE32 = ImagePreprocessing(size=32)
RGB = np.random.default_rng(1).integers(0, 256, size=(40, 56, 3), dtype=np.uint8)


def tokenizer(max_tokens: int = 16) -> Tokenizer:
    return Tokenizer(read_bundle(TINY).tokenizer_json(), TextPreprocessing(max_tokens))


def test_png_is_read_exactly(tmp_path: Path) -> None:
    Image.fromarray(RGB).save(tmp_path / "a.png")
    assert np.array_equal(np.asarray(load_image(tmp_path / "a.png")), RGB)
    assert np.array_equal(image_to_pixels(str(tmp_path / "a.png"), SIZE32), image_to_pixels(RGB, SIZE32))


def test_image_of_the_right_size_passes_untouched() -> None:
    square = RGB[:32, :32]
    assert np.array_equal(image_to_pixels(square, SIZE32), square)


def resample_by_the_document(image: np.ndarray, size: int) -> np.ndarray:
    """Crop and resize as BUNDLE.md writes it down, for hosts without Pillow. (h, w, 3) -> (size, size, 3)."""

    def bicubic(x: float) -> float:
        x = abs(x)
        if x < 1:
            return (1.5 * x - 2.5) * x * x + 1
        return ((-0.5 * x + 2.5) * x - 4) * x + 2 if x < 2 else 0.0

    height, width = image.shape[:2]
    side = min(height, width)
    left, top = (width - side) // 2, (height - side) // 2
    image = image[top : top + side, left : left + side]
    scale = side / size
    stretch = max(scale, 1.0)
    for axis in (1, 0):  # along the rows first
        lines = []
        for i in range(size):
            centre = (i + 0.5) * scale
            first = max(int(centre - 2 * stretch + 0.5), 0)
            last = min(int(centre + 2 * stretch + 0.5), side)
            weights = np.array([bicubic((x - centre + 0.5) / stretch) for x in range(first, last)])
            weights /= weights.sum()
            fixed = np.trunc(weights * 2**22 + np.copysign(0.5, weights)).astype(np.int64)
            taps = np.moveaxis(image, axis, 0)[first:last].astype(np.int64)
            lines.append(np.clip((np.tensordot(fixed, taps, 1) + 2**21) >> 22, 0, 255))
        image = np.moveaxis(np.stack(lines), 0, axis).astype(np.uint8)
    return image


@pytest.mark.parametrize(
    "shape",
    [
        (40, 56),
        (56, 40),
        (35, 56),
        (33, 32),
        (32, 50),
        (20, 28),
        (5, 300),
        (300, 5),
        (1, 9),
        (300, 200),
        (200, 90),
        (64, 64),
    ],
)
@pytest.mark.parametrize("size", [32, 23])
def test_cropping_and_resizing_follow_the_document_bit_by_bit(shape: tuple[int, int], size: int) -> None:
    """Tall images too: one call of Pillow's resize takes their columns first, and rounds by up to 10 levels apart."""
    image = np.random.default_rng(2).integers(0, 256, size=(*shape, 3), dtype=np.uint8)
    assert np.array_equal(image_to_pixels(image, ImagePreprocessing(size)), resample_by_the_document(image, size))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr"])
def test_every_8_bit_mode_becomes_rgb(mode: str) -> None:
    pixels = image_to_pixels(Image.fromarray(RGB).convert(mode), SIZE32)
    assert pixels.shape == (32, 32, 3)
    assert pixels.dtype == np.uint8


def test_palette_png_and_grey_png_keep_their_colours(tmp_path: Path) -> None:
    few = (RGB // 128 * 255).astype(np.uint8)  # 8 colours: a palette holds them exactly
    Image.fromarray(few).convert("P", palette=Image.Palette.ADAPTIVE).save(tmp_path / "p.png")
    assert np.array_equal(np.asarray(load_image(tmp_path / "p.png")), few)
    Image.fromarray(RGB[..., 0]).save(tmp_path / "l.png")
    assert np.array_equal(np.asarray(load_image(tmp_path / "l.png")), np.repeat(RGB[..., :1], 3, axis=2))


def test_alpha_is_dropped(tmp_path: Path) -> None:
    Image.fromarray(np.dstack([RGB, np.zeros(RGB.shape[:2], np.uint8)])).save(tmp_path / "a.png")
    assert np.array_equal(np.asarray(load_image(tmp_path / "a.png")), RGB)


def test_16_bit_images_are_refused_because_their_range_is_a_choice(tmp_path: Path) -> None:
    Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000).save(tmp_path / "deep.png")
    with pytest.raises(ImageError, match=r"deep\.png has mode I.*8 bits"):
        load_image(tmp_path / "deep.png")
    with pytest.raises(ImageError, match="mode F"):
        load_image(Image.new("F", (4, 4)))


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def deep_png(colour_type: int, samples: int) -> bytes:
    """4 x 4 pixels of 16 bits a sample, all 2047."""
    header = struct.pack(">IIBBBBB", 4, 4, 16, colour_type, 0, 0, 0)
    rows = (b"\0" + struct.pack(">H", 2047) * 4 * samples) * 4
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def rgb_tiff(bits: int, planar: int) -> bytes:
    """4 x 4 RGB pixels, uncompressed, in one strip."""
    data = bytes(4 * 4 * 3 * bits // 8)
    depths = 8 + len(data)
    tags = {256: 4, 257: 4, 258: depths, 259: 1, 262: 2, 273: 8, 277: 3, 278: 4, 279: len(data), 284: planar}
    entries = b"".join(struct.pack("<HHII", tag, 3, 3 if tag == 258 else 1, value) for tag, value in tags.items())
    directory = struct.pack("<H", len(tags)) + entries + bytes(4)
    return b"II*\0" + struct.pack("<I", depths + 6) + data + struct.pack("<3H", *[bits] * 3) + directory


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rgb.png", deep_png(2, 3)),
        ("rgba.png", deep_png(6, 4)),
        ("la.png", deep_png(4, 2)),
        ("rgb.tif", rgb_tiff(16, 1)),
        ("planes.tif", rgb_tiff(16, 2)),
        ("rgb.ppm", b"P6 4 4 2047\n" + bytes(4 * 4 * 6)),
    ],
)
def test_16_bit_colour_is_refused_and_not_cut_to_its_high_byte(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with Image.open(tmp_path / name) as image:
        assert image.mode in ("RGB", "RGBA"), "Pillow says nothing of the depth"
    with pytest.raises(ImageError, match=rf"{name} has mode RGB.*more than 8 bits a channel"):
        load_image(tmp_path / name)


def test_8_bit_files_of_the_same_kinds_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(rgb_tiff(8, 1))
    (tmp_path / "b.tif").write_bytes(rgb_tiff(8, 2))
    (tmp_path / "c.ppm").write_bytes(b"P6 4 4 255\n" + bytes(4 * 4 * 3))
    bitmap = struct.pack("<2sIIIIiiHHIIiiII", b"BM", 86, 0, 54, 40, 4, 4, 1, 16, 0, 32, 0, 0, 0, 0) + bytes(32)
    (tmp_path / "d.bmp").write_bytes(bitmap)  # 16 bits a pixel, 5 a channel
    for name in ("a.tif", "b.tif", "c.ppm", "d.bmp"):
        assert load_image(tmp_path / name).size == (4, 4)


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1), (20000, 33), (2, 3)])
def test_tiny_and_very_long_images_give_a_square(size: tuple[int, int]) -> None:
    pixels = image_to_pixels(Image.new("RGB", size, (10, 200, 30)), SIZE32)
    assert pixels.shape == (32, 32, 3)
    assert (pixels == (10, 200, 30)).all()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "BMP", "GIF", "WEBP"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
def test_truncated_file_is_one_line(tmp_path: Path, kind: str, share: float) -> None:
    path = tmp_path / f"cut.{kind.lower()}"
    Image.fromarray(RGB).save(path, kind)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(ImageError, match="cut") as error:
        image_to_pixels(path, SIZE32)
    assert "\n" not in str(error.value)
    with pytest.raises(ImageError, match=r"^image is"):
        image_to_pixels(path.read_bytes(), SIZE32)


@pytest.mark.parametrize(
    ("content", "told"), [(b"", "empty"), (b"planes parked\n", "no image"), (bytes(1000), "no image")]
)
def test_files_that_are_no_images_are_named(tmp_path: Path, content: bytes, told: str) -> None:
    (tmp_path / "x.png").write_bytes(content)
    with pytest.raises(ImageError, match=rf"x\.png is {told}"):
        load_image(tmp_path / "x.png")
    with pytest.raises(ImageError, match=f"^image is {told}"):
        load_image(content)


def test_an_open_image_is_decoded_when_it_is_used_and_says_then_what_is_wrong(tmp_path: Path) -> None:
    Image.fromarray(RGB).save(tmp_path / "cut.png")
    data = (tmp_path / "cut.png").read_bytes()
    assert np.array_equal(load_image(data), RGB)
    with (
        Image.open(io.BytesIO(data[:200])) as opened,
        pytest.raises(ImageError, match=r"^image is broken or truncated"),
    ):
        load_image(opened)


def test_missing_file_and_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="does not exist"):
        load_image(tmp_path / "no.png")
    with pytest.raises(ImageError, match="is a folder"):
        load_image(tmp_path)


@pytest.mark.parametrize("side", [10_000, 20_000, 2**31 - 1])
def test_decompression_bomb_is_refused_before_it_is_decoded(tmp_path: Path, side: int) -> None:
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    idat = chunk(b"IDAT", zlib.compress(bytes(1000)))
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + idat + chunk(b"IEND", b""))
    with pytest.raises(ImageError, match=r"bomb\.png") as error:
        load_image(tmp_path / "bomb.png")
    assert "\n" not in str(error.value)
    with pytest.raises(ImageError, match=r"^image has .* pixels"):
        load_image((tmp_path / "bomb.png").read_bytes())


@pytest.mark.parametrize(
    "array",
    [
        np.full((8, 8, 3), np.nan, np.float32),
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((0, 8, 3), np.uint8),
        np.zeros((8, 8, 3), np.uint16),
    ],
)
def test_arrays_that_are_no_rgb_bytes_are_refused(array: np.ndarray) -> None:
    with pytest.raises(ImageError, match=r"wanted uint8 \(height, width, 3\)"):
        image_to_pixels(array, SIZE32)


def test_file_names_that_are_no_text_stay_on_one_line() -> None:
    assert display_path(b"tiles/\xff\n.png") == "tiles/\\xff\\n.png"
    assert display_path("a\x1b[2J\u2028") == "a\\x1b[2J\\u2028"


def test_padding_baked_into_the_file_is_ignored() -> None:
    assert '"Fixed"' in read_bundle(TINY).tokenizer_json(), "the tiny tokenizer should carry the trap"
    ids, mask = tokenizer()(["two planes"])
    assert ids.shape == (1, 4)
    assert mask.tolist() == [[1, 1, 1, 1]]


def test_batch_is_padded_to_its_own_longest_sentence() -> None:
    ids, mask = tokenizer()(["two planes", "many ships in the harbor"])
    assert ids.shape == mask.shape == (2, 7)
    assert ids[0, 4:].tolist() == [0, 0, 0]
    assert mask[0].tolist() == [1, 1, 1, 1, 0, 0, 0]
    assert ids.dtype == mask.dtype == np.int64


@pytest.mark.parametrize("text", ["", "   ", "\n\t", "\u3000"])
def test_empty_sentence_is_refused_by_its_place(text: str) -> None:
    with pytest.raises(TextError, match="sentence 2 of 2 is empty"):
        tokenizer()(["fine", text])


def test_ten_thousand_words_are_refused_or_cut() -> None:
    long = "river " * 10_000
    with pytest.raises(TextError, match=r"10,002 tokens.*at most 16"):
        tokenizer()([long])
    ids, mask = tokenizer()([long], truncate=True)
    assert ids.shape == (1, 16)
    assert mask.all()


def test_truncating_keeps_the_closing_special_token() -> None:
    whole, _ = tokenizer()(["river"])
    cut, _ = tokenizer(8)(["river " * 50], truncate=True)
    assert cut[0, 0] == whole[0, 0]
    assert cut[0, -1] == whole[0, -1]


def test_accents_and_cjk_become_ids() -> None:
    ids, _ = tokenizer()(["Forêt", "机场"])
    plain, _ = tokenizer()(["foret"])
    assert ids[0, : plain.shape[1]].tolist() == plain[0].tolist()
    assert 1 not in ids  # [UNK]


def test_unknown_words_are_told() -> None:
    assert tokenizer().unknown_words("planes near a ✈") == ["✈"]


def test_the_unknown_token_has_the_name_that_the_tokenizer_gives_it() -> None:
    for name in ("<unk>", "oov"):
        model = {"type": "WordLevel", "vocab": {"a": 0, name: 1}, "unk_token": name}
        words = {"model": model, "pre_tokenizer": {"type": "Whitespace"}, "added_tokens": []}
        assert Tokenizer(json.dumps(words), TextPreprocessing(16)).unknown_words("a whale") == ["whale"]


def test_bytes_that_are_no_utf8_are_a_line_and_not_a_type_error() -> None:
    for text in ("a \udcff", "\ud800"):
        with pytest.raises(TextError, match=r"sentence 2 of 2 holds bytes that are no UTF-8"):
            tokenizer()(["fine", text])
        with pytest.raises(TextError, match="no UTF-8"):
            tokenizer().unknown_words(text)


def test_broken_tokenizer_is_one_line() -> None:
    with pytest.raises(TextError, match=r"tokenizer\.json cannot be read") as error:
        Tokenizer("{}", TextPreprocessing(16))
    assert "\n" not in str(error.value)


def test_no_sentences_give_no_rows() -> None:
    ids, mask = tokenizer()([])
    assert len(ids) == len(mask) == 0
