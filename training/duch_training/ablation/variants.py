"""What is compared, and which of the papers' questions each comparison answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from duch_training.config import TrainConfig
from duch_training.presets import METHODS

QUESTIONS = {
    "methods": "Is it competitive without labels?",
    "contrastive": "What do the inter- and intra-modal terms do?",
    "adversarial": "What does the adversarial term do?",
    "binarization": "What do the binarization terms do?",
    "views": "What do the augmentations do?",
    "choices": "What do our own choices do?",
}


@dataclass(frozen=True)
class Variant:
    """One row of the tables: the run's settings with some of them changed, or a baseline in its place.

    Attributes:
        question: key of `QUESTIONS`.
        changes: settings of `TrainConfig`.
        baseline: name in `duch_training.baselines`, instead of DUCH.
    """

    question: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    baseline: str | None = None

    def config(self, base: TrainConfig, *, n_bits: int, seed: int) -> TrainConfig:
        """The settings of one run."""
        return base.replace(**self.changes, n_bits=n_bits, seed=seed)


# `default` is the run's own settings.
VARIANTS: Mapping[str, Variant] = MappingProxyType(
    {
        "default": Variant("methods"),
        "paper": Variant("methods", METHODS["paper"]),
        "official-code": Variant("methods", METHODS["official-code"]),
        "itq": Variant("methods", baseline="itq"),
        "hyperplanes": Variant("methods", baseline="hyperplanes"),
        "djsrh": Variant("methods", baseline="djsrh"),
        "jdsh": Variant("methods", baseline="jdsh"),
        "no-inter": Variant("contrastive", {"inter_weight": 0.0}),
        "no-intra-image": Variant("contrastive", {"image_weight": 0.0}),
        "no-intra-text": Variant("contrastive", {"text_weight": 0.0}),
        "no-intra": Variant("contrastive", {"image_weight": 0.0, "text_weight": 0.0}),
        "cross-modal-negatives": Variant("contrastive", {"contrastive_form": "cross-modal"}),
        "no-adversary": Variant("adversarial", {"adversarial_weight": 0.0}),
        "strong-adversary": Variant("adversarial", {"adversarial_weight": 0.1}),
        "text-only-adversary": Variant("adversarial", {"adversary": "text"}),
        "no-gradient-penalty": Variant("adversarial", {"gradient_penalty": 0.0}),
        "no-quantization": Variant("binarization", {"quantization_weight": 0.0}),
        "no-balance": Variant("binarization", {"balance_weight": 0.0}),
        "no-binarization": Variant("binarization", {"quantization_weight": 0.0, "balance_weight": 0.0}),
        "code-balance": Variant("binarization", {"balance": "code"}),
        "strong-quantization": Variant("binarization", {"quantization_weight": 2.0}),
        "decorrelation": Variant("binarization", {"decorrelation_weight": 0.01}),
        "no-image-views": Variant("views", {"image_views": "none"}),
        "center-crop-views": Variant("views", {"image_views": "center-crop"}),
        "aug-center-views": Variant("views", {"image_views": "aug-center"}),
        "aug-random-views": Variant("views", {"image_views": "aug-random"}),
        "random-crop-views": Variant("views", {"image_views": "random-crop"}),
        "one-of-views": Variant("views", {"image_views": "one-of"}),
        "no-text-views": Variant("views", {"text_views": "none"}),
        "words-views": Variant("views", {"text_views": "words"}),
        "rules-views": Variant("views", {"text_views": "rules"}),
        "sibling-views": Variant("views", {"text_views": "sibling"}),
        "back-translation-views": Variant("views", {"text_views": "back-translation"}),
        "one-caption": Variant("choices", {"captions": "one", "text_views": "words"}),
        "twins-as-negatives": Variant("choices", {"skip_twins": False}),
        "temperature-0.5": Variant("choices", {"temperature": 0.5}),
        "temperature-2": Variant("choices", {"temperature": 2.0}),
        "learnt-temperature": Variant("choices", {"learn_temperature": True}),
        **{f"width-{width}": Variant("choices", {"width": width}) for width in (256, 512, 1024, 2048, 4096)},
    }
)
