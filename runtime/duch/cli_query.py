"""duch encode: codes of sentences and images."""

from __future__ import annotations

from pathlib import Path

import click

from .cli_common import open_bundle, print_json
from .display import display_path, printable
from .errors import InputError
from .options import PATH, expect_fingerprint_option, provider_options


@click.command()
@click.argument("bundle", type=PATH)
@click.option("--text", "texts", multiple=True, help="A sentence; may be given again.")
@click.option("--image", "images", multiple=True, type=PATH, help="An image file; may be given again.")
@click.option("--npy", type=PATH, help="Write the packed codes, uint8 (n, n_bits / 8), to this file.")
@provider_options
@expect_fingerprint_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def encode(
    bundle: Path,
    texts: tuple[str, ...],
    images: tuple[Path, ...],
    npy: Path | None,
    providers: tuple[str, ...],
    threads: int,
    expect_fingerprint: str | None,
    *,
    allow_fallback: bool,
    as_json: bool,
) -> None:
    """Print the codes of sentences and images, in hexadecimal, sentences first."""
    import numpy as np

    from .durable import replacing
    from .encoder import Encoder

    if not texts and not images:
        raise InputError("nothing to encode; wanted --text or --image")
    encoder = Encoder(
        open_bundle(bundle, expect_fingerprint=expect_fingerprint, check_all=False),
        providers=providers,
        allow_fallback=allow_fallback,
        threads=threads,
    )
    codes = np.concatenate([encoder.encode_texts(texts), encoder.encode_images(images)])
    names: list[str | Path] = [*texts, *images]
    if npy is not None:
        with replacing(npy) as file:
            np.save(file, codes, allow_pickle=False)
        click.echo(f"wrote {len(codes)} codes of {encoder.n_bits} bits to {display_path(npy)}", err=True)
    if as_json:
        rows = [{"input": name, "code": code.tobytes().hex()} for name, code in zip(names, codes, strict=True)]
        print_json({"n_bits": encoder.n_bits, "fingerprint": encoder.bundle.fingerprint, "codes": rows})
    elif npy is None:
        for name, code in zip(names, codes, strict=True):
            click.echo(f"{code.tobytes().hex()}  {printable(name) if isinstance(name, str) else display_path(name)}")
