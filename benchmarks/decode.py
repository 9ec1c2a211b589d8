"""Time from latents to the waveform.

python -m benchmarks.decode --plain
"""

from __future__ import annotations

from typing import Any

import torch

from audiox_ext.devices import DevicePlacement
from audiox_ext.pipeline.generate import decode_latents

from .measuring import parse, parser, report, seconds
from .models import random_model
from .plain import plain_decode, plain_model


@torch.no_grad()
def main(arguments: list[str] | None = None) -> None:
    """The command."""
    command = parser(__doc__)
    command.add_argument("--seconds", type=float, default=0.0, help="of sound; 0 = the model's own length")
    options = parse(command, arguments)

    model = random_model(options.model, options.precision, options.device)
    placement = DevicePlacement(options.device)
    count = model.config.latent_count
    if options.seconds:
        count = max(
            1, round(options.seconds * model.sample_rate / model.config.autoencoder.downsampling_ratio)
        )
    shape = (1, model.config.autoencoder.latent_dim, count)
    latents = torch.randn(shape, generator=torch.Generator().manual_seed(2)).to(options.device)

    results: dict[str, Any] = {
        "latents": count,
        "decode": seconds(lambda: decode_latents(model, latents, placement), options),
    }
    if options.plain:
        published = plain_model(model)
        results["plain_decode"] = seconds(lambda: plain_decode(published, latents), options)
        medians = [results[name]["median_seconds"] for name in ("decode", "plain_decode")]
        results["ratio"] = medians[0] / medians[1]
        expected = plain_decode(published, latents).cpu()
        made = decode_latents(model, latents, placement)
        results["relative_error"] = float((made - expected).norm() / expected.norm())
    report("decode", options, results)


if __name__ == "__main__":
    main()
