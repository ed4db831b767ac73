"""Views change an image or a caption, and keep what it shows."""

import random

import torch

from duch_training.views import view_caption, view_images

CAPTION = "several planes are parked near a terminal building"


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_image_views_keep_type_and_shape_and_differ_from_one_another():
    pixels = torch.randint(0, 256, (1, 32, 32, 3), dtype=torch.uint8, generator=generator()).repeat(6, 1, 1, 1)
    views = view_images(pixels, generator())
    assert views.dtype == torch.uint8
    assert views.shape == pixels.shape
    assert not torch.equal(views[0], views[1])
    assert not torch.equal(views[0], pixels[0])


def test_image_views_repeat_for_a_seed():
    pixels = torch.randint(0, 256, (4, 32, 32, 3), dtype=torch.uint8, generator=generator())
    assert torch.equal(view_images(pixels, generator(3)), view_images(pixels, generator(3)))
    assert not torch.equal(view_images(pixels, generator(3)), view_images(pixels, generator(4)))


def test_a_plain_colour_stays_plain_under_turning_and_cropping():
    pixels = torch.full((8, 32, 32, 3), 120, dtype=torch.uint8)
    views = view_images(pixels, generator()).float()
    assert views.std(dim=(1, 2)).max() < 1, "nothing from outside the image may enter a view"


def test_quarter_turns_and_mirrors_reach_all_eight_orientations():
    pixels = torch.zeros(256, 32, 32, 3, dtype=torch.uint8)
    pixels[:, :16, :16] = 255  # bright upper left
    quadrants = view_images(pixels, generator()).float().unfold(1, 16, 16).unfold(2, 16, 16).mean(dim=(3, 4, 5))
    brightest = quadrants.flatten(1).argmax(1)
    assert set(brightest.tolist()) == {0, 1, 2, 3}


def test_the_kind_none_changes_nothing():
    pixels = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8, generator=generator())
    assert torch.equal(view_images(pixels, generator(), kind="none"), pixels)


def test_caption_views_only_drop_and_swap_words():
    rng = random.Random(0)
    views = [view_caption(CAPTION, rng) for _ in range(200)]
    assert all(set(view.split()) <= set(CAPTION.split()) for view in views)
    assert all(len(view.split()) >= 2 for view in views)
    assert len(set(views)) > 20


def test_a_short_caption_is_never_emptied():
    rng = random.Random(0)
    assert {view_caption("river", rng) for _ in range(50)} == {"river"}
