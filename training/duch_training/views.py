"""Views: augmented copies of images and captions that mean the same.

Shapes: n batch; pixels uint8 (n, size, size, 3).
"""

from __future__ import annotations

import math
import random

import torch
from torch import Tensor
from torch.nn import functional as F

_LUMA = (0.299, 0.587, 0.114)


def view_images(pixels: Tensor, generator: torch.Generator, *, kind: str = "basic") -> Tensor:
    """An augmented copy of each image, or the images themselves for the kind `none`.

    `basic`: quarter turns and mirror images (a tile seen from above has no up), a turn of up to 10 degrees, a crop of
    60 to 100 % of the area, then brightness, contrast and saturation by up to 30 %. One draw an image.

    Shape: uint8 (n, size, size, 3) -> the same.
    """
    if kind == "none":
        return pixels
    n = len(pixels)

    def uniform(low: float, high: float) -> Tensor:  # (n,)
        return torch.empty(n).uniform_(low, high, generator=generator).to(pixels.device)

    def choice(values: int) -> Tensor:  # (n,)
        return torch.randint(values, (n,), generator=generator).to(pixels.device)

    side = uniform(0.6, 1.0).sqrt()
    angle = choice(4) * (math.pi / 2) + uniform(-10, 10) * (math.pi / 180)
    mirror = choice(2) * 2.0 - 1
    rows = torch.stack(
        [
            torch.stack([side * angle.cos() * mirror, -side * angle.sin(), (1 - side) * uniform(-1, 1)], 1),
            torch.stack([side * angle.sin() * mirror, side * angle.cos(), (1 - side) * uniform(-1, 1)], 1),
        ],
        1,
    )  # (n, 2, 3)
    images = pixels.permute(0, 3, 1, 2).float()  # (n, 3, size, size)
    grid = F.affine_grid(rows, list(images.shape), align_corners=False)
    images = F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)

    # Brightness, contrast about the mean and saturation about the grey are one affine map of RGB: one pass, not six.
    brightness, contrast, saturation = (uniform(0.7, 1.3).view(n, 1, 1) for _ in range(3))
    luma = torch.tensor(_LUMA, device=pixels.device).expand(3, 3)  # each row weighs R, G, B to grey
    colour = saturation * torch.eye(3, device=pixels.device) + (1 - saturation) * luma  # (n, 3, 3)
    flat = images.flatten(2)  # (n, 3, size * size)
    shift = (1 - contrast) * brightness * flat.mean(dim=(1, 2), keepdim=True)  # grey, which saturation leaves alone
    flat = torch.baddbmm(shift, brightness * contrast * colour, flat)
    return flat.clamp_(0, 255).round_().to(torch.uint8).view_as(images).permute(0, 2, 3, 1)


def view_caption(caption: str, generator: random.Random) -> str:
    """A caption with each word dropped with probability 0.15, at least two staying, and then, with probability 0.3, one
    pair of neighbours swapped.
    """
    words = caption.split()
    kept = [word for word in words if generator.random() >= 0.15]
    words = kept if len(kept) >= 2 else words
    if len(words) > 1 and generator.random() < 0.3:
        i = generator.randrange(len(words) - 1)
        words[i], words[i + 1] = words[i + 1], words[i]
    return " ".join(words)
