"""Measure the time from the latents to the waveform.

python -m benchmarks.decode --plain
"""

from __future__ import annotations

from typing import Any

import torch

from audiox_ext.devices import DevicePlacement
from audiox_ext.pipeline.synthesis import decode_latents

from .measuring import add_seconds_option, common_parser, parse_options, print_report, time_runs
from .models import random_model
from .plain import plain_decode, plain_model


@torch.no_grad()
def main(arguments: list[str] | None = None) -> None:
    """Run the command.

    Args:
        arguments: Command-line arguments, by default those of the process.
    """
    parser = common_parser(__doc__)
    add_seconds_option(parser)
    options = parse_options(parser, arguments)

    model = random_model(options.model, options.precision, options.device)
    placement = DevicePlacement(options.device)
    count = model.config.latent_count
    if options.seconds:
        ratio = model.config.autoencoder.downsampling_ratio
        count = max(1, round(options.seconds * model.sample_rate / ratio))
    shape = (1, model.config.autoencoder.latent_dim, count)
    latents = torch.randn(shape, generator=torch.Generator().manual_seed(2)).to(options.device)

    results: dict[str, Any] = {
        "latents": count,
        "decode": time_runs(lambda: decode_latents(model, latents, placement), options),
    }
    if options.plain:
        published = plain_model(model)
        results["plain_decode"] = time_runs(lambda: plain_decode(published, latents), options)
        medians = [results[name]["median_seconds"] for name in ("decode", "plain_decode")]
        results["ratio"] = medians[0] / medians[1]
        expected = plain_decode(published, latents).cpu()
        waveform = decode_latents(model, latents, placement)
        results["relative_error"] = float((waveform - expected).norm() / expected.norm())
    print_report("decode", options, results)


if __name__ == "__main__":
    main()
