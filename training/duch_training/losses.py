"""The terms of the DUCH objective, one class a term, and `DuchLoss`, their weighted sum.

Source: arXiv 2201.08125, section III. Every term is a mean over the batch, so its gradient does not grow with the batch
size; the public code sums. Shapes: n pairs, b = n_bits; relaxed codes are in (-1, 1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .config import TrainConfig


@dataclass(frozen=True)
class RelaxedBatch:
    """Relaxed codes of one batch of pairs and of their augmented copies, each (n, b)."""

    image: Tensor
    image_view: Tensor
    text: Tensor
    text_view: Tensor

    def all(self) -> list[Tensor]:
        """The four of them."""
        return [self.image, self.image_view, self.text, self.text_view]

    def consensus(self) -> Tensor:
        """Mean of the four relaxed codes of each pair; its sign is the pair's shared code. Shape: (n, b)."""
        return torch.stack(self.all()).mean(0)


class NTXentLoss(nn.Module):
    """Normalised temperature-scaled cross entropy of two sets of paired codes (SimCLR, arXiv 2002.05709, equation 1).

    The rows [a; b] are 2n anchors. Each one's positive is its partner, its negatives are the other 2n - 2 rows of both
    sets. The self-similarity is masked out, which is right for every temperature; the public code subtracts the
    constant e, which is right only for temperature 1.

    Shape: a (n, b), b (n, b), twins bool (2n, 2n) -> scalar.
    """

    def __init__(self, temperature: float) -> None:
        super().__init__()
        self.temperature = temperature

    def forward(self, a: Tensor, b: Tensor, twins: Tensor | None = None) -> Tensor:
        """Mean loss of the 2n anchors.

        Args:
            a: codes of one set, (n, b).
            b: codes of their partners, (n, b).
            twins: True where two of the rows [a; b] are known to mean the same, such as equal captions; they are no
                negatives of each other.
        """
        n = len(a)
        z = F.normalize(torch.cat([a, b]), dim=1)  # (2n, b)
        similarity = z @ z.T / self.temperature  # (2n, 2n)
        partner = torch.arange(2 * n, device=z.device).roll(n)  # (2n,)
        ignored = torch.eye(2 * n, dtype=torch.bool, device=z.device)
        if twins is not None:
            ignored = ignored | twins
            ignored[torch.arange(2 * n, device=z.device), partner] = False
        return F.cross_entropy(similarity.masked_fill(ignored, -torch.inf), partner)


class ModalityConfusionLoss(nn.Module):
    """What the hash heads pay while the discriminator can tell their modality: each is asked to look like the other.

    Non-saturating form (Goodfellow et al., arXiv 1406.2661, section 3). Both heads play; in the public code only the
    text codes enter, pushed further to where the discriminator already puts them.

    Shape: image logits (n,), text logits (n,) -> scalar.
    """

    def forward(self, image_logits: Tensor, text_logits: Tensor) -> Tensor:  # noqa: D102
        return (F.softplus(-image_logits) + F.softplus(text_logits)).mean()


class DiscriminatorLoss(nn.Module):
    """Binary cross entropy of text (1) against image (0), with a gradient penalty between paired codes.

    The penalty (WGAN-GP, arXiv 1704.00028, equation 3) keeps the discriminator's slope near one, so that it goes on
    giving the heads a direction. One mixing weight a pair, as that paper has it.

    Shape: image codes (n, b), text codes (n, b), both detached -> scalar.
    """

    def __init__(self, discriminator: nn.Module, *, gradient_penalty: float) -> None:
        super().__init__()
        self.discriminator = discriminator
        self.gradient_penalty = gradient_penalty

    def forward(self, image: Tensor, text: Tensor) -> Tensor:  # noqa: D102
        loss = F.softplus(-self.discriminator(text)).mean() + F.softplus(self.discriminator(image)).mean()
        if self.gradient_penalty == 0:
            return loss
        mix = torch.rand(len(image), 1, device=image.device)  # (n, 1)
        between = (mix * text + (1 - mix) * image).requires_grad_(True)
        (slope,) = torch.autograd.grad(self.discriminator(between).sum(), between, create_graph=True)
        return loss + self.gradient_penalty * ((slope.norm(dim=1) - 1) ** 2).mean()


class QuantizationLoss(nn.Module):
    """Squared distance of the relaxed codes to their pair's shared code B in {-1, +1}, summed over bits and views.

    Shape: batch of four (n, b), B (n, b) -> scalar.
    """

    def forward(self, batch: RelaxedBatch, shared: Tensor) -> Tensor:  # noqa: D102
        return torch.stack([(shared - codes).square().sum(1).mean() for codes in batch.all()]).sum()


class BitBalanceLoss(nn.Module):
    """Squared mean of every bit over the batch, summed over bits and views: zero if each bit splits the batch in half.

    The public code sums the bits of one code instead, which asks each code to hold as many ones as zeros and lets a bit
    be constant.

    Shape: batch of four (n, b) -> scalar.
    """

    def forward(self, batch: RelaxedBatch) -> Tensor:  # noqa: D102
        return torch.stack([codes.mean(0).square().sum() for codes in batch.all()]).sum()


def signs(relaxed: Tensor) -> Tensor:
    """-1 or +1; zero is +1, as the bit of zero is 1 in `duch.codes`. Shape: any."""
    return torch.where(relaxed >= 0, 1.0, -1.0).to(relaxed.dtype)


def _equal(numbers: Tensor) -> Tensor:
    return numbers[:, None] == numbers[None, :]


class _Discriminator(Protocol):
    def __call__(self, codes: Tensor) -> Tensor: ...


class DuchLoss(nn.Module):
    """Weighted sum of the objective's terms for the hash heads."""

    def __init__(self, config: TrainConfig) -> None:
        super().__init__()
        self.contrastive = NTXentLoss(config.temperature)
        self.confusion = ModalityConfusionLoss()
        self.quantization = QuantizationLoss()
        self.balance = BitBalanceLoss()
        self.weights = {
            "inter": config.inter_weight,
            "image": config.image_weight,
            "text": config.text_weight,
            "adversarial": config.adversarial_weight,
            "quantization": config.quantization_weight,
            "balance": config.balance_weight,
        }

    def forward(
        self,
        batch: RelaxedBatch,
        *,
        shared: Tensor,
        discriminator: _Discriminator,
        meaning: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss and its unweighted terms by name.

        Args:
            batch: relaxed codes of the pairs.
            shared: their shared codes B in {-1, +1}, (n, b).
            discriminator: logits of codes, (n, b) -> (n,).
            meaning: numbers of the captions behind texts and text views, (n,) each; equal captions are no negatives of
                each other. None: all are.
        """
        pair_twins = text_twins = None
        if meaning is not None:
            captions, views = meaning
            pair_twins, text_twins = _equal(torch.cat([captions, captions])), _equal(torch.cat([captions, views]))
        image_logits = torch.cat([discriminator(batch.image), discriminator(batch.image_view)])
        text_logits = torch.cat([discriminator(batch.text), discriminator(batch.text_view)])
        terms = {
            "inter": self.contrastive(batch.image, batch.text, pair_twins),
            "image": self.contrastive(batch.image, batch.image_view),
            "text": self.contrastive(batch.text, batch.text_view, text_twins),
            "adversarial": self.confusion(image_logits, text_logits),
            "quantization": self.quantization(batch, shared),
            "balance": self.balance(batch),
        }
        total = torch.stack([self.weights[name] * term for name, term in terms.items()]).sum()
        return total, terms
