"""Backbones: Hugging Face models by name or folder, or small ones built from config, as plain feature extractors.

Shapes: n batch, t tokens, d features.
"""

from __future__ import annotations

import inspect
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import (
    AutoConfig,
    AutoModel,
    AutoTokenizer,
    BertConfig,
    BertModel,
    PretrainedConfig,
    PreTrainedModel,
    ResNetConfig,
    ResNetModel,
)
from transformers.image_processing_utils import BaseImageProcessor

from duch.errors import ConfigError, one_line
from duch.preprocess import ImagePreprocessing, TextPreprocessing

from .config import FEATURES, TINY, TrainConfig

if TYPE_CHECKING:
    from .checkpoint import Checkpoint

# ImageNet statistics, for a backbone that does not say its own.
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_PADDED = 64  # positions of the public code
_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


class ImageEncoder(nn.Module):
    """Normalises pixels and runs an image backbone; the feature is its pooled last hidden state.

    A feature map (n, d, h, w) is averaged over its places. Of a token sequence (n, t, d) the class token is taken where
    the backbone has one, else the mean of all tokens.

    Shape: uint8 (n, size, size, 3) -> (n, d).
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        backbone: PreTrainedModel,
        *,
        mean: Iterable[float] = _MEAN,
        std: Iterable[float] = _STD,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.register_buffer("mean", torch.tensor(tuple(mean)).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(tuple(std)).view(1, 3, 1, 1))
        config = backbone.config
        self.n_features = int(getattr(config, "hidden_size", 0) or config.hidden_sizes[-1])
        class_token = ("cls_token", "class_embedding")  # what Hugging Face's vision models call it
        self._has_class_token = any(name.endswith(class_token) for name, _ in backbone.named_parameters())

    def forward(self, pixels: Tensor) -> Tensor:  # noqa: D102
        channels_first = pixels.permute(0, 3, 1, 2).to(self.mean.dtype)  # (n, 3, size, size)
        # Of levels 0 .. 255, in two passes over the image: a division by 255 would be a third.
        normalised = (channels_first - 255 * self.mean) / (255 * self.std)
        hidden = self.backbone(pixel_values=normalised).last_hidden_state
        if hidden.ndim == 4:
            return hidden.mean(dim=(2, 3))  # (n, d)
        return hidden[:, 0] if self._has_class_token else hidden.mean(dim=1)  # (n, d)


class TextEncoder(nn.Module):
    """Runs a text backbone and pools its token vectors; padding never takes part.

    pooling: `mean` over the tokens, `cls` the first token, `last4-sum-mean` the mean over the tokens of the sum of the
    last four layers, as DUCH does. `last4-sum-padded` is that of the public code: every sentence is padded to 64
    positions, and the mean is over all of them.

    Shape: input_ids, attention_mask int64 (n, t) -> (n, d).
    """

    def __init__(self, backbone: PreTrainedModel, *, pooling: str = "mean") -> None:
        super().__init__()
        self.backbone = backbone
        self.pooling = pooling
        self.n_features = int(backbone.config.hidden_size)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:  # noqa: D102
        all_layers = self.pooling.startswith("last4-sum")
        if self.pooling == "last4-sum-padded":
            more = (0, _PADDED - input_ids.shape[1])  # negative for longer sentences: they are cut
            input_ids = F.pad(input_ids, more, value=self.backbone.config.pad_token_id or 0)
            attention_mask = F.pad(attention_mask, more)
        output = self.backbone(input_ids=input_ids, attention_mask=attention_mask, output_hidden_states=all_layers)
        if self.pooling == "cls":
            return output.last_hidden_state[:, 0]  # (n, d)
        tokens = torch.stack(output.hidden_states[-4:]).sum(0) if all_layers else output.last_hidden_state
        if self.pooling == "last4-sum-padded":
            return tokens.mean(1)  # (n, d)
        mask = attention_mask.unsqueeze(-1).to(tokens.dtype)  # (n, t, 1)
        return (tokens * mask).sum(1) / mask.sum(1).clamp_min(1)  # (n, d)


def build_image_encoder(config: TrainConfig) -> tuple[ImageEncoder, ImagePreprocessing]:
    """The image encoder of a config, and how images are prepared for it.

    Raises:
        ConfigError: it cannot be loaded.
    """
    _check_network(config, "image")
    if config.image_encoder == TINY:
        backbone: PreTrainedModel = ResNetModel(
            ResNetConfig(embedding_size=32, hidden_sizes=[32, 64, 128, 256], depths=[1, 1, 1, 1], layer_type="basic")
        )
        mean, std = _statistics(config, None, None)
        return ImageEncoder(backbone, mean=mean, std=std), ImagePreprocessing(size=config.image_size or 64)
    if _is_checkpoint(config.image_encoder):
        checkpoint = _checkpoint(config.image_encoder)
        size = config.image_size or checkpoint.image.size
        if config.image_normalisation != "own":
            raise ConfigError(
                f"image_normalisation is {config.image_normalisation!r}, but the checkpoint {config.image_encoder} has "
                "statistics of its own; wanted own"
            )
        return checkpoint.hasher.image_encoder, ImagePreprocessing(size=size)
    backbone = _load(config.image_encoder, "image")
    facts = _image_facts(config.image_encoder)
    own = facts.get("crop_size") or facts.get("size") or {}
    own_size = own if isinstance(own, int) else own.get("height") or own.get("shortest_edge")
    size = config.image_size or own_size or getattr(backbone.config, "image_size", None) or 224
    with _usable(config.image_encoder, f"image encoder for {size} px"):
        mean, std = _statistics(config, facts.get("image_mean"), facts.get("image_std"))
        encoder = ImageEncoder(backbone, mean=mean, std=std)
        encoder(torch.zeros(2, size, size, 3, dtype=torch.uint8))
    return encoder, ImagePreprocessing(size=int(size))


def _check_network(config: TrainConfig, modality: str) -> None:
    if getattr(config, f"{modality}_encoder") == FEATURES:
        raise ConfigError(
            f"{modality}_encoder is 'features', which is no network; wanted --features FOLDER, or an encoder"
        )


def _statistics(
    config: TrainConfig, mean: Sequence[float] | None, std: Sequence[float] | None
) -> tuple[Sequence[float], Sequence[float]]:
    """Mean and standard deviation of the channels, from the encoder's own."""
    if config.image_normalisation == "none":
        return (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    own = config.image_normalisation == "own"
    return mean if own and mean else _MEAN, std if own and std else _STD


def _image_facts(name: str) -> dict[str, Any]:
    try:
        return BaseImageProcessor.get_image_processor_dict(name)[0]
    except OSError:
        return {}  # a backbone without preprocessor_config.json: ImageNet's numbers


def build_text_encoder(config: TrainConfig, captions: Iterable[str]) -> tuple[TextEncoder, str, TextPreprocessing]:
    """The text encoder of a config, its tokenizer.json, and how sentences are prepared for it.

    Args:
        config: names the encoder.
        captions: the training captions, from which the tiny text encoder learns its vocabulary.

    Raises:
        ConfigError: it cannot be loaded.
    """
    _check_network(config, "text")
    if config.text_encoder == TINY:
        tokenizer = learn_wordpiece(captions)
        backbone: PreTrainedModel = BertModel(
            BertConfig(
                vocab_size=tokenizer.get_vocab_size(),
                hidden_size=128,
                num_hidden_layers=2,
                num_attention_heads=4,
                intermediate_size=256,
                max_position_embeddings=config.max_tokens,
                attn_implementation="eager",
            ),
            add_pooling_layer=False,
        )
        tokenizer_json, pad_id = tokenizer.to_str(), 0
    elif _is_checkpoint(config.text_encoder):
        checkpoint = _checkpoint(config.text_encoder)
        encoder = checkpoint.hasher.text_encoder
        if config.text_pooling != encoder.pooling:
            raise ConfigError(
                f"text_pooling is {config.text_pooling!r}, but the checkpoint {config.text_encoder} pools by "
                f"{encoder.pooling!r}; wanted the same"
            )
        return encoder, checkpoint.tokenizer_json, checkpoint.text
    else:
        backbone = _load(config.text_encoder, "text")
        try:
            fast = AutoTokenizer.from_pretrained(config.text_encoder, use_fast=True)
            tokenizer_json = fast.backend_tokenizer.to_str()
        except Exception as error:  # hub, file and conversion errors have no common base
            raise ConfigError(
                f"tokenizer of {config.text_encoder!r} cannot be loaded ({_first_sentence(error)}); "
                "wanted a tokenizer.json"
            ) from error
        pad_id = fast.pad_token_id or 0
    limit = min(config.max_tokens, getattr(backbone.config, "max_position_embeddings", config.max_tokens))
    with _usable(config.text_encoder, "text encoder"):
        encoder = TextEncoder(backbone, pooling=config.text_pooling)
        ids = torch.full((2, limit), 5)  # a plain token, so that positions run to the limit
        encoder(ids, torch.ones_like(ids))
    return encoder, tokenizer_json, TextPreprocessing(max_tokens=limit, pad_id=pad_id)


def learn_wordpiece(captions: Iterable[str], *, vocab_size: int = 4000) -> Tokenizer:
    """A lower-casing WordPiece tokenizer with BERT's special tokens, learnt from captions.

    The vocabulary is every character and the most frequent words that occur twice or more. The library's own
    WordPieceTrainer breaks ties by hash order, so that two runs of one seed would disagree.
    """
    normalizer, splitter = normalizers.BertNormalizer(lowercase=True), pre_tokenizers.BertPreTokenizer()
    counts = Counter(
        word for caption in captions for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(caption))
    )
    characters = sorted(set("".join(counts)))
    words = sorted((word for word in counts if counts[word] > 1), key=lambda word: (-counts[word], word))
    pieces = [*_SPECIAL, *characters, *(f"##{character}" for character in characters), *words]
    vocabulary = {piece: number for number, piece in enumerate(dict.fromkeys(pieces)) if number < vocab_size}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, splitter
    tokenizer.decoder = decoders.WordPiece()
    cls, sep = (vocabulary[token] for token in ("[CLS]", "[SEP]"))
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", sep), ("[CLS]", cls))
    return tokenizer


def _is_checkpoint(name: str) -> bool:
    """Whether an encoder's name is the folder of a checkpoint of ours, whose encoder is meant then."""
    try:
        content = json.loads((Path(name) / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(content, dict) and content.get("format") == "duch-checkpoint"


def _checkpoint(name: str) -> Checkpoint:
    from .checkpoint import load_checkpoint  # it builds encoders itself

    return load_checkpoint(name)


def _load(name: str, kind: str) -> PreTrainedModel:
    """A pretrained backbone, without a pooling layer and with attention that exports plainly."""
    try:
        config = AutoConfig.from_pretrained(name)
        return AutoModel.from_pretrained(name, config=config, **_model_options(config))
    except Exception as error:  # hub, file and weight errors have no common base
        raise ConfigError(
            f"{kind} encoder {name!r} cannot be loaded ({_first_sentence(error)}); wanted a Hugging Face model that "
            f"this machine can reach, or a local folder; --preset tiny needs neither"
        ) from error


@contextmanager
def _usable(name: str, role: str) -> Iterator[None]:
    """Try a backbone once before any data is read: whatever it raises means that it cannot play this role."""
    try:
        with torch.no_grad():
            yield
    except Exception as error:
        raise ConfigError(
            f"{name!r} cannot be the {role} ({_first_sentence(error)}); wanted a model of that kind"
        ) from error


def rebuild_backbone(config: dict[str, Any]) -> PreTrainedModel:
    """A backbone of the same architecture, weights not set, from `backbone_config`."""
    values = dict(config)
    rebuilt = AutoConfig.for_model(values.pop("model_type"), **values)
    return AutoModel.from_config(rebuilt, **_model_options(rebuilt))


def backbone_config(backbone: PreTrainedModel) -> dict[str, Any]:
    """The architecture of a backbone as plain JSON values."""
    config: PretrainedConfig = backbone.config
    values = config.to_diff_dict()
    values.pop("_name_or_path", None)  # a path of the training machine is nobody else's business
    return {"model_type": config.model_type, **values}


def _model_options(config: PretrainedConfig) -> dict[str, Any]:
    options: dict[str, Any] = {}
    model_class: Any = AutoModel._model_mapping[type(config)]
    if isinstance(model_class, tuple):
        model_class = model_class[0]
    if "add_pooling_layer" in inspect.signature(model_class.__init__).parameters:
        options["add_pooling_layer"] = False  # unused weights, and a third more nodes in the graph
    if getattr(config, "num_attention_heads", None):
        options["attn_implementation"] = "eager"
    return options


def _first_sentence(error: BaseException) -> str:
    return one_line(error).partition(". ")[0][:200]
