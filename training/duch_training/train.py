"""The training loop of DUCH, plain and whole.

Each step first teaches the discriminator to tell image codes from text codes, then moves the hash heads (and the
encoders that are trained) down the objective. The shared codes B of all training pairs are made anew once an epoch.

Source: arXiv 2201.08125. Shapes: n training images, r rows of a batch, b bits.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from duch.errors import ConfigError, DuchError, one_line
from duch.preprocess import Tokenizer

from .checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from .config import TrainConfig
from .data import CaptionedImage, load_pixels, read_dataset
from .encoders import build_image_encoder, build_text_encoder
from .losses import DiscriminatorLoss, DuchLoss, RelaxedBatch, signs
from .model import CrossModalHasher, Discriminator
from .pairs import FrozenImages, FrozenTexts, LiveImages, LiveTexts, Progress
from .run import (
    Row,
    RunState,
    Snapshot,
    check_folder,
    check_same,
    data_sha256,
    is_finished,
    plot_losses,
    start_run,
)
from .splits import draw_captions, make_split

_SAVE_EVERY_S = 15  # state of a large head takes a second to write; a kill loses at most this much
_WARM_UP = 0.05  # share of the steps
_SHOWN_SKIPS = 20
_SAMPLES = 128  # images and captions kept for calibration, and as many held out for the parity report


def train(
    dataset_path: Path,
    out: Path,
    config: TrainConfig,
    *,
    skip_bad: bool = False,
    resume: bool = False,
    overwrite: bool = False,
) -> Checkpoint:
    """Train on a captioned-image dataset and write a checkpoint. Labels are never looked at.

    Args:
        dataset_path: a dataset file or the folder that holds it.
        out: folder of the checkpoint.
        config: all settings.
        skip_bad: leave out bad records instead of failing.
        resume: go on with an unfinished run in `out`; the result is that of a run that was never stopped.
        overwrite: replace a checkpoint or an unfinished run in `out`.

    Raises:
        DuchError: a bad dataset, an encoder that cannot be loaded, a folder in use, a loss that is no number.
    """
    device = choose_device(config.device)
    check_folder(out, resume=resume, overwrite=overwrite)
    dataset = read_dataset(dataset_path, skip_bad=skip_bad)
    torch.manual_seed(config.seed)
    image_encoder, image = build_image_encoder(config)
    with bar(len(dataset.images), "reading images", "image") as progress:
        dataset, pixels = load_pixels(dataset, image, skip_bad=skip_bad, on_progress=progress)
    for skipped in dataset.skipped[:_SHOWN_SKIPS]:
        print(f"skipped: {skipped}", file=sys.stderr)
    if len(dataset.skipped) > _SHOWN_SKIPS:
        print(f"skipped: {len(dataset.skipped) - _SHOWN_SKIPS} more", file=sys.stderr)
    split = make_split(dataset, rule=config.split_rule, seed=config.seed)
    data_hash = data_sha256(dataset, pixels, split)
    if resume:
        check_same(out, config, data_hash)
        if is_finished(out):
            return load_checkpoint(out)
    training = dataset.subset(split.train)
    rows = {item.id: row for row, item in enumerate(dataset.images)}
    pixels = pixels[[rows[item.id] for item in training]]  # (n, size, size, 3)
    text_encoder, tokenizer_json, text = build_text_encoder(config, [c for item in training for c in item.captions])
    hasher = CrossModalHasher(image_encoder, text_encoder, n_bits=config.n_bits, width=config.width).to(device)
    trainer = Trainer(hasher, Tokenizer(tokenizer_json, text), training, pixels, config)
    if not resume:  # nothing of an older checkpoint is touched before everything is known to fit
        start_run(out, config, data_hash)
    history = trainer.fit(out, resume=resume)
    calibration, heldout = _samples(training, pixels, config.seed)
    checkpoint = Checkpoint(
        hasher=hasher.cpu().float().eval(),
        config=config,
        tokenizer_json=tokenizer_json,
        image=image,
        text=text,
        split=split,
        calibration_pixels=calibration[0],
        calibration_captions=calibration[1],
        heldout_pixels=heldout[0],
        heldout_captions=heldout[1],
        facts={
            "dataset": dataset.name,
            "images": {part: len(getattr(split, part)) for part in ("train", "query", "gallery")},
            "skipped": len(dataset.skipped),
            "device": str(device),
            "last_epoch": history[-1],
        },
    )
    plot_losses(out / "losses.png", history)
    save_checkpoint(out, checkpoint)
    (out / "state.safetensors").unlink(missing_ok=True)
    return checkpoint


class Trainer:
    """Moves a hasher down the DUCH objective on the training pairs."""

    def __init__(
        self,
        hasher: CrossModalHasher,
        tokenizer: Tokenizer,
        training: list[CaptionedImage],
        pixels: NDArray[np.uint8],
        config: TrainConfig,
    ) -> None:
        self.hasher, self.config, self.n = hasher, config, len(training)
        self.device = next(hasher.parameters()).device
        self.frozen = [
            encoder
            for encoder, trained in (
                (hasher.image_encoder, config.train_image_encoder),
                (hasher.text_encoder, config.train_text_encoder),
            )
            if not trained
        ]
        for encoder in self.frozen:
            encoder.requires_grad_(False)
        captions = (
            [[caption] for caption in draw_captions(training, seed=config.seed)]
            if config.captions == "one"
            else [list(item.captions) for item in training]
        )
        self.autocast, self.scaler = _mixed_precision(self.device, config.precision)
        with self.autocast():
            self.images = (
                LiveImages(hasher, pixels, config)
                if config.train_image_encoder
                else self._frozen(FrozenImages, pixels, len(pixels), "image features")
            )
            self.texts = (
                LiveTexts(hasher, captions, tokenizer, config)
                if config.train_text_encoder
                else self._frozen(FrozenTexts, captions, 2 * sum(map(len, captions)), "text features", tokenizer)
            )
        self.discriminator = Discriminator(config.n_bits).to(self.device)
        self.loss = DuchLoss(config)
        self.discriminator_loss = DiscriminatorLoss(self.discriminator, gradient_penalty=config.gradient_penalty)
        encoders = [
            parameter
            for encoder in (hasher.image_encoder, hasher.text_encoder)
            for parameter in encoder.parameters()
            if parameter.requires_grad
        ]
        heads = [*hasher.image_head.parameters(), *hasher.text_head.parameters()]
        self.optimiser = torch.optim.Adam(
            [
                {"params": heads, "lr": config.learning_rate},
                {"params": encoders, "lr": config.encoder_learning_rate},
            ],
            weight_decay=config.weight_decay,
        )
        self.base_rates = [group["lr"] for group in self.optimiser.param_groups]
        # Betas of the public code: little momentum, since what the discriminator chases moves.
        self.discriminator_optimiser = torch.optim.Adam(
            self.discriminator.parameters(),
            lr=config.discriminator_learning_rate,
            betas=(0.5, 0.9),
            weight_decay=1e-4,
        )

    def _frozen(self, side: type, data: object, total: int, title: str, *more: object):  # type: ignore[no-untyped-def]
        with bar(total, title, "item") as progress:
            return side(self.hasher, data, *more, self.config, progress)

    def fit(self, out: Path, *, resume: bool) -> list[Row]:
        """Train to the last epoch, saving the state in `out` from time to time.

        Returns:
            The mean of every unweighted term of the objective, one row an epoch.
        """
        hasher = self.hasher
        trained = {"image_head": hasher.image_head, "text_head": hasher.text_head, "discriminator": self.discriminator}
        scalers = {"image_scaler": hasher.image_scaler, "text_scaler": hasher.text_scaler}
        encoders = {"image_encoder": hasher.image_encoder, "text_encoder": hasher.text_encoder}
        trained |= {name: module for name, module in encoders.items() if module not in self.frozen} | scalers
        state = RunState(
            modules=trained,
            optimisers={"optimiser": self.optimiser, "discriminator_optimiser": self.discriminator_optimiser},
            scaler=self.scaler,
            shared=None,
            history=[],
        )
        if resume:
            state.load(out)
            state.shared = None if state.shared is None else state.shared.to(self.device)
            print(f"resuming after {len(state.history)} of {self.config.epochs} epochs", file=sys.stderr)
        saved_at = time.monotonic()
        done = len(state.history)
        last: Snapshot | None = None
        with tqdm(total=self.config.epochs, initial=done, desc="training", unit="epoch", file=sys.stderr) as progress:
            for epoch in range(done, self.config.epochs):
                try:
                    row, state.shared = self._epoch(epoch, state.shared)
                except KeyboardInterrupt:
                    if last is not None:
                        last.write(out)
                    raise
                state.history.append(row)
                if not math.isfinite(row["loss"]):
                    raise DuchError(
                        f"the loss is {row['loss']} after epoch {epoch + 1}; lower --learning-rate (now "
                        f"{self.config.learning_rate:g}) or try --precision fp32"
                    )
                progress.set_postfix_str(f"loss {row['loss']:.3f}")
                progress.update()
                last = state.snapshot()
                if time.monotonic() - saved_at > _SAVE_EVERY_S or epoch == self.config.epochs - 1:
                    last.write(out)
                    saved_at = time.monotonic()
        return state.history

    def _epoch(self, epoch: int, shared: Tensor | None) -> tuple[Row, Tensor | None]:
        """One pass over the training images; returns mean losses and the new shared codes B, (n, b)."""
        started = time.monotonic()
        # Seeds of its own for every epoch: a resumed run draws what an unbroken one would have drawn.
        seed = self.config.seed * 1_000_003 + epoch
        torch.manual_seed(seed)
        self.images.start_epoch(seed)
        self.texts.start_epoch(seed)
        self.hasher.train()
        for encoder in self.frozen:
            encoder.eval()
        order = torch.randperm(self.n)
        batches = list(order.split(self.config.batch_size))
        if len(batches) > 1 and len(batches[-1]) == 1:  # BatchNorm needs two
            batches[-2:] = [torch.cat(batches[-2:])]
        consensus = torch.zeros(self.n, self.config.n_bits, device=self.device)
        sums: dict[str, Tensor] = {}
        for step, rows in enumerate(batches):
            self._set_learning_rate(epoch + step / len(batches))
            batch, losses = self._step(rows, shared)
            consensus[rows.to(self.device)] = batch.consensus()
            for name, value in losses.items():
                sums[name] = sums.get(name, torch.zeros((), device=self.device)) + value
        row: Row = {"epoch": epoch + 1, "seconds": time.monotonic() - started}
        row["learning_rate"] = self.optimiser.param_groups[0]["lr"]
        row |= {name: float(value) / len(batches) for name, value in sums.items()}
        return row, (signs(consensus) if self.config.codes_update == "epoch" else None)

    def _step(self, rows: Tensor, shared: Tensor | None) -> tuple[RelaxedBatch, dict[str, Tensor]]:
        with self.autocast():
            image, image_view = self.images.relax(rows)
            text, text_view = self.texts.relax(rows)
        batch = RelaxedBatch(image, image_view, text, text_view)
        fixed = RelaxedBatch(*(codes.detach() for codes in batch.all()))

        self.discriminator.requires_grad_(True)
        self.discriminator_optimiser.zero_grad(set_to_none=True)
        told_apart = self.discriminator_loss(fixed.image, fixed.text)
        told_apart = (told_apart + self.discriminator_loss(fixed.image_view, fixed.text_view)) / 2
        told_apart.backward()
        self.discriminator_optimiser.step()
        self.discriminator.requires_grad_(False)

        # Before the first epoch's end there is no B yet: each batch pulls to the signs of its own consensus.
        target = signs(fixed.consensus()) if shared is None else shared[rows.to(self.device)]
        meaning = None
        if self.config.skip_twins:
            captions, views = self.texts.meanings(rows)
            meaning = captions.to(self.device), views.to(self.device)
        total, terms = self.loss(batch, shared=target, meaning=meaning, discriminator=self.discriminator)
        self.optimiser.zero_grad(set_to_none=True)
        self.scaler.scale(total).backward()
        self.scaler.step(self.optimiser)
        self.scaler.update()
        terms |= {"discriminator": told_apart}
        return fixed, {"loss": total.detach()} | {name: term.detach() for name, term in terms.items()}

    def _set_learning_rate(self, epoch: float) -> None:
        """Learning rates at a fractional epoch."""
        share = epoch / self.config.epochs
        factor = 1.0
        if self.config.schedule == "cosine":
            factor = min(1.0, (share + 1e-3) / _WARM_UP) * (1 + math.cos(math.pi * share)) / 2
        elif self.config.schedule == "step":
            factor = 0.8 ** int(epoch // 50)
        for group, base in zip(self.optimiser.param_groups, self.base_rates, strict=True):
            group["lr"] = base * factor


def choose_device(name: str) -> torch.device:
    """The device of a name; auto is the GPU where there is one.

    Raises:
        ConfigError: no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        if device.type not in ("cpu", "cuda"):
            raise RuntimeError("no kind of device that training knows")
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = one_line(error)[:120]
        raise ConfigError(f"device {name!r} is not usable here ({reason}); wanted auto, cpu or cuda") from error
    return device


def _mixed_precision(device: torch.device, precision: str):  # type: ignore[no-untyped-def]
    """A factory of autocast contexts and a gradient scaler, which does nothing unless fp16 needs it."""
    if precision == "auto":
        supported = device.type == "cuda" and torch.cuda.is_bf16_supported()
        precision = "bf16" if supported else "fp32"
    dtype = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    if dtype is not None and device.type != "cuda":
        raise ConfigError(f"precision {precision} needs a GPU, but the device is {device}; wanted auto or fp32")

    def autocast() -> AbstractContextManager[None]:
        return torch.autocast(device.type, dtype=dtype, enabled=dtype is not None)

    return autocast, torch.amp.GradScaler(device.type, enabled=dtype is torch.float16)


@contextmanager
def bar(total: int | None, title: str, unit: str) -> Iterator[Progress]:
    """A progress bar on stderr, or a count if the total is not known; yields the function that moves it."""
    with tqdm(total=total, desc=title, unit=unit, file=sys.stderr, delay=0.3) as progress:
        yield progress.update


def _samples(
    training: list[CaptionedImage], pixels: NDArray[np.uint8], seed: int
) -> tuple[tuple[NDArray[np.uint8], list[str]], tuple[NDArray[np.uint8], list[str]]]:
    """Samples for calibration, and others for the parity report: disjoint training images, one caption of each."""
    order = np.random.default_rng(seed).permutation(len(training))
    size = min(_SAMPLES, len(order) // 2)
    captions = draw_captions(training, seed=seed)
    parts = (order[:size], order[size : 2 * size])
    calibration, heldout = ((pixels[part], [captions[i] for i in part]) for part in parts)
    return calibration, heldout
