"""TrainConfig: every setting of a training run, with its unit, checked where it is made.

`presets` has the named collections of settings, and says which wins where two of them set the same field.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from duch.codes import check_n_bits
from duch.errors import ConfigError

from .settings import check_settings, setting, settings_from

_SMALLEST_IMAGE = 16  # a ResNet halves it four times
TINY = "tiny"  # an encoder built from config and trained from nothing
FEATURES = "features"  # no encoder: features were read from files


@dataclass(frozen=True)
class TrainConfig:
    """All settings of one run. The objective's defaults are the method `default`; the sizes are the preset `tiny`."""

    # Data
    split_rule: str = setting("public", "how images are split 50/10/40", choices=("public", "stratified", "own"))
    captions: str = setting(
        "all",
        "captions of an image that are trained on: all, another one in every epoch, or one that is drawn for good",
        choices=("all", "one"),
    )
    split_seed: int = setting(42, "seed of the split and of the captions drawn", low=0, high=2**31)
    seed: int = setting(42, "seed of initial weights, order and views", low=0, high=2**31)

    # Encoders
    image_encoder: str = setting(
        TINY, "Hugging Face model, local folder of one or of a checkpoint of ours, or 'tiny' (small ResNet from config)"
    )
    text_encoder: str = setting(
        TINY, "Hugging Face model, local folder of one or of a checkpoint of ours, or 'tiny' (small BERT from config)"
    )
    train_image_encoder: bool = setting(True, "train the image encoder too, instead of keeping it frozen")
    train_text_encoder: bool = setting(True, "train the text encoder too, instead of keeping it frozen")
    image_size: int = setting(
        64, "side of the square that images are resized to, in pixels; 0: the encoder's own", low=0
    )
    max_tokens: int = setting(64, "longest caption read, in tokens; the rest is cut while training", low=3)
    text_pooling: str = setting(
        "mean",
        "how token vectors become one feature: mean over the tokens, the first token, the mean of the sum of the last "
        "four layers, or the same over 64 positions with padding, as the public code has it",
        choices=("mean", "cls", "last4-sum-mean", "last4-sum-padded"),
    )
    image_normalisation: str = setting(
        "own",
        "pixel statistics of the image encoder: its own, ImageNet's, or none (0 to 1, as the public code has it)",
        choices=("own", "imagenet", "none"),
    )
    feature_scaling: str = setting(
        "scalar",
        "scaling of frozen features: one mean and standard deviation over the training features; over all features, "
        "queries too, and for views their own (the public code); or none",
        choices=("scalar", "whole-file", "none"),
    )

    # Hash heads
    n_bits: int = setting(64, "code length, in bits; a multiple of 8", low=8, high=4096)
    width: int = setting(512, "hidden units of a hash head", low=1, high=65536)

    # Objective (method: arXiv 2201.08125)
    temperature: float = setting(1.0, "temperature of NT-Xent, on cosines", low=1e-3)
    learn_temperature: bool = setting(False, "learn the temperature, from this start")
    contrastive_form: str = setting(
        "simclr",
        "negatives of an anchor: all other rows of both sets, or those of the other set alone",
        choices=("simclr", "cross-modal"),
    )
    inter_weight: float = setting(1.0, "weight of the image-text contrastive term", low=0)
    image_weight: float = setting(1.0, "weight of the image-view contrastive term (lambda 1)", low=0)
    text_weight: float = setting(1.0, "weight of the text-view contrastive term (lambda 2)", low=0)
    skip_twins: bool = setting(True, "identical captions in a batch are not negatives of each other")
    adversarial_weight: float = setting(0.01, "weight of the adversarial term (alpha)", low=0)
    adversary: str = setting(
        "both",
        "who plays against the discriminator: both heads, or the text head alone and along with it (the public code)",
        choices=("both", "text"),
    )
    discriminator: str = setting(
        "plain",
        "plain, or with BatchNorm and a penalty mixed bit by bit (the public code)",
        choices=("plain", "public"),
    )
    gradient_penalty: float = setting(10.0, "weight of the discriminator's gradient penalty", low=0)
    quantization_weight: float = setting(0.5, "weight of the pull to the shared codes B (beta)", low=0)
    codes_update: str = setting(
        "epoch",
        "when the shared codes B are made anew: once an epoch, or from each batch",
        choices=("epoch", "batch"),
    )
    first_codes: str = setting(
        "batch",
        "what the first epoch is pulled to: the signs of its own codes, batch by batch, or random (the public code)",
        choices=("batch", "random"),
    )
    balance_weight: float = setting(0.5, "weight of the balance term (gamma)", low=0)
    balance: str = setting(
        "bit",
        "what is balanced: each bit over the batch, or the bits of each code (the public code)",
        choices=("bit", "code"),
    )
    decorrelation_weight: float = setting(0.0, "weight of the term against correlated bits", low=0)
    reduction: str = setting(
        "mean",
        "every term is a mean over pairs, anchors and bits, or a sum over them (the public code)",
        choices=("mean", "sum"),
    )

    # Views (`duch views` shows them)
    image_views: str = setting(
        "basic",
        "augmented copies of images: our own set basic, one of the papers' public sets, or none",
        choices=(
            "basic",
            "center-crop",
            "aug-center",
            "aug-random",
            "random-crop",
            "rotation",
            "blur",
            "jitter",
            "one-of",
            "none",
        ),
    )
    text_views: str = setting(
        "sibling",
        "augmented copies of captions: words dropped and swapped, the same on another caption of the image, words "
        "replaced by rules, back-translation, or none",
        choices=("words", "sibling", "rules", "back-translation", "none"),
    )
    thesaurus: str = setting("", "TOML file of interchangeable words for the text views 'rules'; empty: built-in")
    translators: str = setting(
        "Helsinki-NLP/opus-mt-en-es,Helsinki-NLP/opus-mt-es-en;Helsinki-NLP/opus-mt-en-de,Helsinki-NLP/opus-mt-de-en",
        "models of the text views 'back-translation', hub names or folders: commas between those of a chain, "
        "semicolons between chains, of which each caption draws one",
    )

    fresh_views: bool = setting(
        True, "new views in every epoch, instead of one for good; behind a frozen encoder it runs again for them"
    )

    # Optimiser
    epochs: int = setting(40, "passes over the training images", low=1)
    batch_size: int = setting(128, "pairs a step", low=2)
    learning_rate: float = setting(1e-3, "Adam step size of the hash heads", low=0)
    encoder_learning_rate: float = setting(2e-3, "Adam step size of encoders that are trained", low=0)
    discriminator_learning_rate: float = setting(1e-4, "Adam step size of the discriminator", low=0)
    weight_decay: float = setting(5e-4, "L2 penalty of heads and encoders", low=0)
    schedule: str = setting(
        "cosine",
        "learning rate: cosine to zero after a short warm-up, x0.8 every 50 epochs, the same but from the end of the "
        "first epoch (the public code), or constant",
        choices=("cosine", "step", "public-step", "constant"),
    )

    # Machine
    device: str = setting("auto", "auto, cpu, cuda, cuda:1 ...")
    precision: str = setting(
        "auto",
        "autocast on a GPU; auto is bf16 where the GPU has it",
        choices=("auto", "fp32", "bf16", "fp16"),
    )
    compile: bool = setting(False, "compile heads and losses with torch.compile: a minute more at the start")

    def __post_init__(self) -> None:
        check_settings(self)
        check_n_bits(self.n_bits)
        if 0 < self.image_size < _SMALLEST_IMAGE:
            raise ConfigError(f"image_size is {self.image_size}; wanted 0 or at least {_SMALLEST_IMAGE} pixels")
        weights = [name for name in TrainConfig.__dataclass_fields__ if name.endswith("_weight")]
        if not any(getattr(self, name) > 0 for name in weights):
            raise ConfigError(f"{', '.join(weights)} are all 0; wanted at least one above")
        for modality in ("image", "text"):
            encoder, trained = getattr(self, f"{modality}_encoder"), getattr(self, f"train_{modality}_encoder")
            if encoder == TINY and not trained:
                raise ConfigError(
                    f"{modality}_encoder is 'tiny', which starts from random weights and must be trained; "
                    f"wanted train_{modality}_encoder true, or a pretrained encoder"
                )
            if encoder == FEATURES and trained:
                raise ConfigError(
                    f"{modality}_encoder is 'features', which is no network to train; wanted train_{modality}_encoder "
                    "false"
                )

    def replace(self, **changes: Any) -> TrainConfig:
        """A copy with some fields changed.

        Raises:
            ConfigError: an unknown field, or a value of the wrong type or out of range.
        """
        return from_mapping({**self.to_dict(), **changes})

    def to_dict(self) -> dict[str, Any]:
        """The settings as plain JSON values; `from_mapping` takes them back."""
        return dataclasses.asdict(self)


def from_mapping(values: Mapping[str, Any]) -> TrainConfig:
    """A config from plain values, such as parsed JSON or TOML.

    Raises:
        ConfigError: an unknown field, or a value of the wrong type or out of range.
    """
    return settings_from(TrainConfig, values)
