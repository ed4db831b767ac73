"""Views change an image or a caption, and keep what it shows."""

import colorsys
import dataclasses
import json
import math
import random
import re
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image, ImageEnhance

from duch.cli import main
from duch.errors import ConfigError
from duch_training.config import TrainConfig
from duch_training.scenes import draw_scene
from duch_training.views import IMAGE_VIEWS, CaptionViews, view_caption, view_images
from duch_training.views.captions import TEXT_VIEWS
from duch_training.views.images import blur, jitter
from duch_training.views.thesaurus import read_thesaurus
from duch_training.views.translation import read_chains

CAPTION = "several planes are parked near a terminal building"
DRAWN = [kind for kind in IMAGE_VIEWS if kind not in ("none", "center-crop")]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def noise(n=4, size=32):
    return torch.randint(0, 256, (n, size, size, 3), dtype=torch.uint8, generator=generator())


def smooth(size):
    """An image without sharp edges, so that two ways of resampling agree. Shape: (size, size, 3) uint8."""
    y, x = np.mgrid[0:size, 0:size] / size
    waves = [np.sin(7 * x + 2 * y), np.cos(5 * x - 6 * y), np.sin(9 * y) * np.cos(4 * x)]
    return (127 + 100 * np.stack(waves, 2)).round().astype(np.uint8)


def difference(ours, reference, margin=3):
    """Largest difference in levels, the border left out: Pillow does not look beyond a crop, we do."""
    inner = slice(margin, -margin)
    return np.abs(np.asarray(ours, dtype=float) - np.asarray(reference, dtype=float))[inner, inner].max()


def pillow_centre_crop(image):
    size = image.width
    first, side = size * 28 / 256, size * 200 / 256
    return image.resize((size, size), Image.Resampling.BILINEAR, box=(first, first, first + side, first + side))


# Images


def test_the_settings_offer_every_view():
    choices = {spec.name: spec.metadata["choices"] for spec in dataclasses.fields(TrainConfig)}
    assert choices["image_views"] == IMAGE_VIEWS
    assert choices["text_views"] == TEXT_VIEWS


@pytest.mark.parametrize("kind", IMAGE_VIEWS)
def test_image_views_keep_type_and_shape_and_repeat_for_a_seed(kind):
    pixels = noise()
    before = pixels.clone()
    views = view_images(pixels, generator(3), kind=kind)
    assert views.dtype == torch.uint8
    assert views.shape == pixels.shape
    assert torch.equal(pixels, before), "the originals stay"
    assert torch.equal(views, view_images(pixels, generator(3), kind=kind))


@pytest.mark.parametrize("kind", DRAWN)
def test_every_image_of_a_batch_has_draws_of_its_own(kind):
    pixels = noise(1).repeat(6, 1, 1, 1)
    views = view_images(pixels, generator(), kind=kind)
    assert len({view.numpy().tobytes() for view in views}) == 6
    assert not torch.equal(views, view_images(pixels, generator(1), kind=kind))
    assert not any(torch.equal(view, pixels[0]) for view in views)


def test_the_kind_none_changes_nothing():
    assert torch.equal(view_images(noise(), generator(), kind="none"), noise())


@pytest.mark.parametrize("kind", [kind for kind in IMAGE_VIEWS if kind not in ("jitter", "one-of")])
def test_a_plain_colour_stays_plain_under_all_but_jitter(kind):
    pixels = torch.full((8, 32, 32, 3), 120, dtype=torch.uint8)
    views = view_images(pixels, generator(), kind=kind).float()
    assert views.std(dim=(1, 2)).max() < 1, "nothing from outside the image may enter a view"


@pytest.mark.parametrize("kind", IMAGE_VIEWS)
def test_autocast_does_not_blunt_a_view(kind):
    pixels = noise(2, 128)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        views = view_images(pixels, generator(), kind=kind)
    assert torch.equal(views, view_images(pixels, generator(), kind=kind))


def test_an_unknown_kind_of_image_views_is_named():
    with pytest.raises(ConfigError, match=r"'crop'; wanted one of basic, center-crop"):
        view_images(noise(), generator(), kind="crop")


def test_quarter_turns_and_mirrors_reach_all_eight_orientations():
    pixels = torch.zeros(256, 32, 32, 3, dtype=torch.uint8)
    pixels[:, :16, :16] = 255  # bright upper left
    quadrants = view_images(pixels, generator()).float().unfold(1, 16, 16).unfold(2, 16, 16).mean(dim=(3, 4, 5))
    brightest = quadrants.flatten(1).argmax(1)
    assert set(brightest.tolist()) == {0, 1, 2, 3}


@pytest.mark.parametrize("size", [256, 96])
def test_the_centre_crop_is_that_of_pillow(size):
    image = smooth(size)
    view = view_images(torch.from_numpy(image)[None], generator(), kind="center-crop")[0]
    assert difference(view, pillow_centre_crop(Image.fromarray(image))) <= 2


def test_the_turn_is_clockwise_by_5_to_10_degrees():
    image = smooth(128)
    views = view_images(torch.from_numpy(image).repeat(8, 1, 1, 1), generator(), kind="rotation").numpy()
    angles = np.arange(-15, 15.01, 0.25)  # Pillow's are counter-clockwise
    turned = [
        pillow_centre_crop(Image.fromarray(image).rotate(angle, resample=Image.Resampling.BILINEAR)) for angle in angles
    ]
    for view in views:
        apart = [difference(view, reference) for reference in turned]
        assert -10.25 <= angles[np.argmin(apart)] <= -4.75
        assert min(apart) <= 4


# Of a turned tile the crop's centre turns along: by 10 degrees, sin + cos is 1.16.
@pytest.mark.parametrize(("kind", "farther"), [("random-crop", 1.0), ("aug-random", 1.16)])
def test_a_random_crop_shows_a_part_of_that_share_anywhere(kind, farther):
    size = 64
    ramp = torch.arange(size).float() * 2 + 60  # two levels a pixel
    across = ramp.view(1, 1, size, 1).expand(200, size, size, 3).to(torch.uint8)
    views = view_images(across, generator(), kind=kind).float()[..., 0]
    inner = views[:, 8:-8, 8:-8]
    slope = (inner[..., -1] - inner[..., 0]).mean(1) / (inner.shape[-1] - 1) / 2  # pixels of the tile a pixel of a view
    if kind == "random-crop":
        assert (slope - 200 / 256).abs().max() < 0.02
    centre = (inner.mean((1, 2)) - ramp.mean()) / 2 / size  # shares of the side
    reach = (1 - 200 / 256) / 2
    assert centre.abs().max() < farther * reach + 0.01
    assert centre.min() < -0.8 * reach
    assert centre.max() > 0.8 * reach


def test_a_blur_is_a_gaussian_of_3_by_3_pixels():
    image = noise(1, 12)[0].numpy().astype(float)
    sigma = 1.2
    weights = np.array([[math.exp(-(dx * dx + dy * dy) / (2 * sigma**2)) for dx in (-1, 0, 1)] for dy in (-1, 0, 1)])
    weights /= weights.sum()
    padded = np.pad(image, ((1, 1), (1, 1), (0, 0)), mode="reflect")
    wanted = np.empty_like(image)
    for row in range(12):
        for column in range(12):
            window = padded[row : row + 3, column : column + 3]
            wanted[row, column] = sum(weights[i, j] * window[i, j] for i in range(3) for j in range(3))
    ours = blur(torch.from_numpy(image).permute(2, 0, 1)[None], torch.tensor([sigma], dtype=torch.float64))
    np.testing.assert_allclose(ours[0].permute(1, 2, 0).numpy(), wanted, atol=1e-9)


def test_each_image_is_blurred_by_its_own_sigma():
    images = noise(2).permute(0, 3, 1, 2).float()
    both = blur(images, torch.tensor([1.1, 1.3]))
    torch.testing.assert_close(both[1:], blur(images[1:], torch.tensor([1.3])))


@pytest.mark.parametrize("factors", [(0.6, 1, 1), (1.4, 1, 1), (1, 0.6, 1), (1, 1.4, 1), (1, 1, 0.6), (1.2, 0.8, 1.4)])
def test_brightness_contrast_and_saturation_are_those_of_pillow(factors):
    wanted = Image.fromarray(noise(1)[0].numpy())
    brightness, contrast, saturation = factors
    wanted = ImageEnhance.Brightness(wanted).enhance(brightness)
    wanted = ImageEnhance.Contrast(wanted).enhance(contrast)
    wanted = ImageEnhance.Color(wanted).enhance(saturation)
    images = noise(1).permute(0, 3, 1, 2).float()
    ours = jitter(images, *(torch.tensor([float(factor)]) for factor in factors), hue=torch.zeros(1))
    # Pillow rounds after every step.
    assert np.abs(ours[0].permute(1, 2, 0).numpy() - np.asarray(wanted, dtype=float)).max() <= 3


@pytest.mark.parametrize("turn", [-0.1, -0.03, 0.07, 0.1])
def test_a_turn_of_the_hue_is_that_of_colorsys(turn):
    colours = [*noise(1, 8)[0].view(-1, 3).tolist(), [0, 0, 0], [255, 255, 255], [90, 90, 90], [255, 0, 0], [7, 7, 9]]
    ones = torch.ones(len(colours))
    ours = jitter(torch.tensor(colours).float().view(-1, 3, 1, 1), ones, ones, ones, hue=turn * ones).flatten(1)
    for colour, view in zip(colours, ours, strict=True):
        hue, saturation, value = colorsys.rgb_to_hsv(*(channel / 255 for channel in colour))
        wanted = colorsys.hsv_to_rgb((hue + turn) % 1, saturation, value)
        assert view.tolist() == pytest.approx([255 * channel for channel in wanted], abs=0.05)


def test_jitter_shows_the_centre_crop_in_other_colours():
    pixels = torch.from_numpy(smooth(64)).repeat(16, 1, 1, 1)
    views = view_images(pixels, generator(), kind="jitter").float()
    shape = view_images(pixels, generator(), kind="center-crop").float()
    greys = torch.stack([views.mean(3).flatten(1), shape.mean(3).flatten(1)], 1)  # (16, 2, pixels)
    assert all(torch.corrcoef(pair)[0, 1] > 0.9 for pair in greys)
    assert views.mean((1, 2)).std(0).min() > 5


def test_one_of_three_changes_is_drawn_for_each_image():
    halves = torch.full((60, 32, 32, 3), 90, dtype=torch.uint8)
    halves[:, :, 16:] = 150
    views = view_images(halves, generator(), kind="one-of").float()
    recoloured = (views[:, 0, 0] - 90).abs().amax(1) > 0.5
    turned = (views[:, 4] - views[:, -4]).abs().amax((1, 2)) > 0.5
    sharp = view_images(halves[:1], generator(), kind="center-crop").float()
    blurred = ((views - sharp).abs().amax((1, 2, 3)) > 0.5) & ~recoloured & ~turned
    assert (recoloured.int() + turned.int() + blurred.int() == 1).all(), "exactly one change an image"
    assert min(int(change.sum()) for change in (recoloured, turned, blurred)) > 8


# Captions


def test_caption_views_only_drop_and_swap_words():
    rng = random.Random(0)
    views = [view_caption(CAPTION, rng) for _ in range(200)]
    assert all(set(view.split()) <= set(CAPTION.split()) for view in views)
    assert all(len(view.split()) >= 2 for view in views)
    assert len(set(views)) > 20


def test_a_short_caption_is_never_emptied():
    rng = random.Random(0)
    assert {view_caption("river", rng) for _ in range(50)} == {"river"}


@pytest.mark.parametrize("kind", ["none", "words", "sibling", "rules"])
def test_caption_views_by_name_repeat_for_a_seed_and_tell_how_many_are_done(kind):
    views, done = CaptionViews(kind), []
    texts = [CAPTION] * 20
    first = views(texts, random.Random(1), done.append)
    assert first == views(texts, random.Random(1))
    assert sum(done) == len(first) == 20
    assert not views.slow
    assert (first == texts) == (kind == "none")
    assert kind == "none" or len(set(first)) > 5


def test_words_and_sibling_are_the_plain_function():
    rng = random.Random(2)
    wanted = [view_caption(CAPTION, rng) for _ in range(5)]
    for kind in ("words", "sibling"):
        assert CaptionViews(kind)([CAPTION] * 5, random.Random(2)) == wanted


def test_an_unknown_kind_of_text_views_is_named():
    with pytest.raises(ConfigError, match="'synonyms'; wanted one of words, sibling, rules"):
        CaptionViews("synonyms")


@pytest.fixture
def rewrites(tmp_path):
    """All rewrites of a caption by the groups of a TOML text."""

    def rewrite(toml, caption, probability=1.0):
        file = tmp_path / "words.toml"
        file.write_text(toml)
        thesaurus = read_thesaurus(str(file))
        return {thesaurus.rewrite(caption, random.Random(seed), probability=probability) for seed in range(60)}

    return rewrite


PLANES = '[nouns]\nplane = ["plane", "aircraft"]\nplanes = ["planes", "aircraft"]\ntown = ["town", "urban area"]\n'


@pytest.mark.parametrize(
    ("caption", "wanted"),
    [
        ("a plane on grass.", "an aircraft on grass."),
        ("A plane, and an urban area!", "An aircraft, and a town!"),
        ("Planes near trees", "Aircraft near trees"),
        ("one plane and two planes.", "one aircraft and two aircraft."),
        ("a  plane", "an  aircraft"),
        ("an  Urban\tarea", "a  Town"),
        ("a big plane", "a big aircraft"),
        ("(a plane)", "(an aircraft)"),
        ("extra plane", "extra aircraft"),
        ("plane-like and the plane's, planet, a plane", "plane-like and the plane's, planet, an aircraft"),
    ],
)
def test_a_replaced_word_keeps_case_punctuation_and_the_right_article(rewrites, caption, wanted):
    assert rewrites(PLANES, caption) == {wanted}


@pytest.mark.parametrize(
    ("words", "caption", "wanted"),
    [
        ('["hut", "unit"]', "a hut", "a unit"),
        ('["hut", "unimproved hut"]', "a hut", "an unimproved hut"),
        ('["hut", "unused hut"]', "a hut", "an unused hut"),
        ('["hut", "one-room hut"]', "a hut", "a one-room hut"),
        ('["inn", "university"]', "an inn", "a university"),
        ('["clock", "hourglass"]', "a clock", "an hourglass"),
    ],
)
def test_articles_follow_the_sound_and_not_the_letter(rewrites, words, caption, wanted):
    assert rewrites(f"[nouns]\ngroup = {words}", caption) == {wanted}


def test_the_longest_phrase_counts_and_a_group_of_one_protects_it(rewrites):
    toml = '[nouns]\nhome = ["home", "house"]\nlot = ["mobile home"]\npark = ["home park", "yard"]\n'
    assert rewrites(toml, "a mobile home and a home") == {"a mobile home and a house"}
    assert rewrites(toml, "a home park") == {"a yard"}
    assert rewrites(toml, "a mobile home") == {None}


def test_a_word_of_two_groups_is_left_alone(rewrites):
    assert rewrites(PLANES, "many aircraft") == {None}


def test_nouns_and_verbs_are_replaced_one_by_one_and_at_least_one(rewrites):
    toml = '[nouns]\ncars = ["cars", "vehicles"]\n[verbs]\nparked = ["parked", "stopped"]\n'
    changed = {"cars stopped", "vehicles parked", "vehicles stopped"}
    assert rewrites(toml, "cars parked", probability=0.5) == changed
    assert rewrites(toml, "cars parked", probability=0.0) == {"cars stopped", "vehicles parked"}


def test_a_caption_without_a_known_word_is_dropped_and_swapped(tmp_path):
    file = tmp_path / "words.toml"
    file.write_text(PLANES)
    caption = "a wide green lake seen from above"
    views = CaptionViews("rules", thesaurus=str(file))([caption] * 20, random.Random(0))
    assert all(set(view.split()) <= set(caption.split()) for view in views)
    assert len(set(views)) > 3


@pytest.mark.parametrize(
    ("toml", "words"),
    [
        ("[nouns", "no TOML"),
        ("\x00", "no TOML"),
        ('[noun]\nplane = ["a", "b"]', "'noun' at its top; wanted the sections"),
        ('nouns = ["a", "b"]', "'nouns' at its top; wanted the sections"),
        ('[nouns]\nplane = "jet"', "nouns.plane = 'jet'; wanted a list of words"),
        ("[nouns]\nplane = 3", "nouns.plane = 3; wanted a list of words"),
        ("[nouns]\nplane = []", r"nouns.plane = \[\]; wanted a list of words"),
        ('[nouns]\nplane = ["jet", 3]', "wanted a list of words"),
        ('[verbs]\nparked = ["parked", " "]', "wanted a list of words"),
        ("", "no group of two words"),
        ('[nouns]\nplane = ["plane", "Plane"]', "no group of two words"),
    ],
)
def test_a_thesaurus_that_is_none_is_one_line(tmp_path, toml, words):
    file = tmp_path / "words.toml"
    file.write_text(toml)
    with pytest.raises(ConfigError, match=words) as caught:
        CaptionViews("rules", thesaurus=str(file))
    assert "\n" not in str(caught.value)
    assert "words.toml" in str(caught.value)


def test_a_missing_thesaurus_is_one_line(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        CaptionViews("rules", thesaurus=str(tmp_path / "none.toml"))


def test_the_built_in_thesaurus_rewrites_scenes_with_right_articles():
    captions = [
        caption
        for name in ("airport", "harbour", "farmland", "dense residential", "parking lot", "forest", "river")
        for seed in range(4)
        for caption in draw_scene(name, seed=seed, size=32).captions
    ]
    thesaurus = read_thesaurus()
    rng = random.Random(0)
    views = [(caption, thesaurus.rewrite(caption, rng, probability=0.9)) for caption in captions * 5]
    known = [(caption, view) for caption, view in views if view is not None]
    assert len(known) > 0.9 * len(views)
    for caption, view in known:
        assert view != caption
        assert not re.search(r"\ba [aeio]|\ban [^aeiouh]", view), view
        assert view[-1] == caption[-1]


# Back-translation, by real models that have learnt a phrase book

SPANISH = {"a plane near a lake": "un avion cerca de un lago", "two green roads": "dos caminos verdes"}
ENGLISH = {"un avion cerca de un lago": "an aircraft by a lake", "dos caminos verdes": "two green streets"}
GERMAN = {"a plane near a lake": "ein flugzeug am see", "two green roads": "zwei gruene strassen"}
BACK = {"ein flugzeug am see": "a jet at the lake", "zwei gruene strassen": "two grassy ways"}
BRIDGE = {"un avion cerca de un lago": "ein flugzeug am see", "dos caminos verdes": "zwei gruene strassen"}


def write_translator(folder, book):
    """A small Marian model that has learnt a phrase book by heart, saved as opus-mt models are."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import MarianConfig, MarianMTModel, PreTrainedTokenizerFast

    words = sorted({word for pair in book.items() for text in pair for word in text.split()})
    tokenizer = Tokenizer(
        models.WordLevel({w: i for i, w in enumerate(["<pad>", "</s>", "<unk>", *words])}, unk_token="<unk>")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    # Marian's own tokenizer needs the package sentencepiece; any fast one serves the model as well.
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=32
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = MarianMTModel(
            MarianConfig(
                vocab_size=tokenizer.get_vocab_size(),
                d_model=32,
                encoder_layers=1,
                decoder_layers=1,
                encoder_attention_heads=2,
                decoder_attention_heads=2,
                encoder_ffn_dim=64,
                decoder_ffn_dim=64,
                max_position_embeddings=32,
                pad_token_id=0,
                eos_token_id=1,
                decoder_start_token_id=0,
                forced_eos_token_id=None,
                dropout=0.0,
                init_std=0.2,
            )
        )
        inputs = fast(list(book), padding=True, return_tensors="pt", return_token_type_ids=False)
        labels = fast(list(book.values()), padding=True, return_tensors="pt").input_ids
        labels[labels == 0] = -100
        optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
        for _ in range(60):
            optimiser.zero_grad()
            model(**inputs, labels=labels).loss.backward()
            optimiser.step()
    model.save_pretrained(folder)
    fast.save_pretrained(folder)


@pytest.fixture(scope="module")
def translators(tmp_path_factory):
    """Folders of translation models, by the direction that each has learnt."""
    root = tmp_path_factory.mktemp("translators")
    books = {"en-es": SPANISH, "es-en": ENGLISH, "en-de": GERMAN, "de-en": BACK, "es-de": BRIDGE}
    for name, book in books.items():
        write_translator(root / name, book)
    return {name: str(root / name) for name in books}


def chain(translators, *names):
    return ",".join(translators[name] for name in names)


@pytest.mark.slow
def test_captions_go_through_the_models_of_a_chain_in_order(translators):
    two = CaptionViews("back-translation", translators=chain(translators, "en-es", "es-en"))
    three = CaptionViews("back-translation", translators=f" {chain(translators, 'en-es', 'es-de', 'de-en')} ")
    assert two.slow
    assert three.slow
    texts = ["two green roads", "a plane near a lake", "two green roads"]
    done = []
    assert two(texts, random.Random(0), done.append) == [ENGLISH[SPANISH[text]] for text in texts]
    assert sum(done) == 3
    assert three(texts, random.Random(0)) == [BACK[GERMAN[text]] for text in texts]


@pytest.mark.slow
def test_each_caption_draws_one_of_several_chains(translators):
    both = f"{chain(translators, 'en-es', 'es-en')};{chain(translators, 'en-de', 'de-en')}"
    views = CaptionViews("back-translation", translators=both)
    texts = ["a plane near a lake"] * 30
    drawn = views(texts, random.Random(4))
    assert set(drawn) == {"an aircraft by a lake", "a jet at the lake"}
    assert min(drawn.count(view) for view in set(drawn)) > 5
    assert drawn == views(texts, random.Random(4))
    assert drawn != views(texts, random.Random(5))


@pytest.mark.slow
def test_more_captions_than_a_batch_keep_their_order(translators):
    texts = [("two green roads" if i % 3 else "a plane near a lake") + " lake" * (i // 2) for i in range(80)]
    views = CaptionViews("back-translation", translators=translators["en-es"])
    done = []
    together = views(texts, random.Random(0), done.append)
    assert sum(done) == 80
    assert together[:2] == views(texts[:2], random.Random(0))
    assert all(together), "no view is empty, however long its caption"


def test_the_default_translators_are_the_two_chains_of_the_paper():
    assert [len(names) for names in read_chains()] == [2, 2]
    assert read_chains()[1] == ("Helsinki-NLP/opus-mt-en-de", "Helsinki-NLP/opus-mt-de-en")


@pytest.mark.parametrize("line", [" ", "a,", "a,,b", "a,b;", ";a"])
def test_a_missing_name_of_a_translator_is_one_line(line):
    with pytest.raises(ConfigError, match="leaves out a name; wanted models with commas"):
        CaptionViews("back-translation", translators=line)


@pytest.mark.slow
def test_a_translator_that_cannot_be_loaded_is_one_line(tmp_path, translators):
    missing = CaptionViews("back-translation", translators=str(tmp_path / "none"))  # nothing is loaded yet
    with pytest.raises(ConfigError, match=r"none' cannot be loaded .* or a local folder") as caught:
        missing(["a lake"], random.Random(0))
    assert "\n" not in str(caught.value)
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(ConfigError, match="half' cannot be loaded"):
        CaptionViews("back-translation", translators=str(tmp_path / "half"))(["a lake"], random.Random(0))


@pytest.mark.skipif(find_spec("sentencepiece") is not None, reason="sentencepiece is installed")
def test_a_missing_sentencepiece_is_told_with_what_to_install(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "marian"}))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "MarianTokenizer"}))
    with pytest.raises(ConfigError, match=r"run: pip install sentencepiece$") as caught:
        CaptionViews("back-translation", translators=str(tmp_path))(["a lake"], random.Random(0))
    assert "\n" not in str(caught.value)


# The command


def duch(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.mark.slow
def test_the_command_writes_a_picture_and_a_table(dataset, translators, tmp_path):
    out = tmp_path / "out"
    assert duch("views", dataset, "--out", out, "--size", 40, "--count", 3).exit_code == 0
    with Image.open(out / "images.png") as picture:
        everything = picture.size
    kinds = ("--image-views", "blur", "--text-views", "rules", "--text-views", "back-translation")
    result = duch(
        "views", dataset, "--out", out, "--size", 40, "--count", 3, *kinds, "--translators", translators["en-es"]
    )
    assert result.exit_code == 0, result.stderr
    assert result.stdout == (out / "captions.md").read_text()
    lines = result.stdout.splitlines()
    assert lines[0] == "| caption | rules | back-translation |"
    assert len(lines) == 2 + 3
    assert all(line.count(" | ") == 2 for line in lines)
    with Image.open(out / "images.png") as picture:
        assert picture.height == everything[1]
        assert picture.width < everything[0] / 3
    assert sorted(file.name for file in out.iterdir()) == ["captions.md", "images.png"]


def test_the_same_seed_shows_the_same_and_another_something_else(dataset, tmp_path):
    def shown(seed):
        duch("views", dataset, "--out", tmp_path, "--size", 40, "--seed", seed, "--image-views", "one-of")
        return (tmp_path / "images.png").read_bytes(), (tmp_path / "captions.md").read_bytes()

    first = shown(1)
    assert shown(1) == first
    assert shown(2)[0] != first[0]
    assert shown(2)[1] != first[1]


def test_a_kinds_views_do_not_depend_on_what_else_is_shown(dataset, tmp_path):
    one = duch("views", dataset, "--out", tmp_path, "--text-views", "rules", "--count", 2).stdout
    more = duch(
        "views", dataset, "--out", tmp_path, "--text-views", "words", "--text-views", "rules", "--count", 2
    ).stdout
    assert [line.split(" | ")[1] for line in one.splitlines()] == [line.split(" | ")[2] for line in more.splitlines()]


def test_captions_with_bars_and_line_breaks_stay_in_their_cell(make_dataset, tmp_path):
    def change(content):
        for image in content["images"]:
            image["sentences"] = [{"raw": "a lake | a\npond"}]

    folder = make_dataset(tmp_path / "set", change=change)
    result = duch("views", folder, "--out", tmp_path / "out", "--text-views", "none", "--size", 40, "--count", 99)
    lines = result.stdout.splitlines()
    assert len(lines) == 2 + 24
    assert set(lines[2:]) == {r"| a lake \| a pond | a lake \| a pond |"}


def test_bad_input_of_the_command_is_one_line_and_nothing_is_written(dataset, make_dataset, tmp_path):
    def fails(*arguments):
        result = duch("views", *arguments, "--count", 99, "--size", 40)
        assert result.exit_code == 1, result.output
        assert "Traceback" not in result.stderr
        assert not out.exists()
        return result.stderr.strip().splitlines()[-1]

    out = tmp_path / "out"
    assert "does not exist" in fails(tmp_path / "none", "--out", out)
    assert "cannot be read" in fails(dataset, "--out", out, "--thesaurus", tmp_path / "none.toml")
    back = ("--text-views", "back-translation", "--translators")
    assert "cannot be loaded" in fails(dataset, "--out", out, *back, tmp_path / "none")
    broken = make_dataset(tmp_path / "broken")
    (broken / "images" / "lake_001.png").write_bytes(b"no image")
    assert "lake_001.png" in fails(broken, "--out", out)
    (tmp_path / "file").write_text("here")
    assert duch("views", dataset, "--out", tmp_path / "file").exit_code == 1
    assert (tmp_path / "file").read_text() == "here"
