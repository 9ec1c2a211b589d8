"""Measure one guided step of the network, or one unguided step of a few-step model.

python -m benchmarks.step --plain
python -m benchmarks.step --prompts all --plain
python -m benchmarks.step --model AudioX-Turbo --precision bf16 --device cuda --compile
"""

from __future__ import annotations

import argparse
from typing import Any

import torch

from audiox_ext.devices import DevicePlacement
from audiox_ext.model import compile_network
from audiox_ext.random_numbers import RandomNumbers
from audiox_ext.sampling.guidance import Guidance, GuidedVelocity

from .measuring import (
    PROMPT_KINDS,
    common_parser,
    count_operations,
    matrix_peak,
    memory_peak,
    parse_options,
    print_report,
    time_runs,
)
from .models import DTYPES, random_model, random_prompt
from .plain import plain_model, plain_velocity


@torch.no_grad()
def main(arguments: list[str] | None = None) -> None:
    """Run the command.

    Args:
        arguments: Command-line arguments, by default those of the process.
    """
    parser = common_parser(__doc__)
    parser.add_argument("--prompts", default="text", choices=PROMPT_KINDS, help="text alone, or all kinds")
    parser.add_argument("--batch", type=int, default=1, help="sounds per batch (default 1)")
    parser.add_argument("--compile", action="store_true", help="compile the network with torch.compile")
    options = parse_options(parser, arguments)

    model = random_model(options.model, options.precision, options.device)
    placement = DevicePlacement(options.device)
    items = [random_prompt(model, options.prompts)] * options.batch
    tokens = model.encode_conditioning(items, placement, RandomNumbers.from_seed(0))
    context = model.assemble_context(tokens, placement).to(options.device)
    generator = torch.Generator().manual_seed(2)
    shape = (options.batch, model.config.autoencoder.latent_dim, model.config.latent_count)
    x = torch.randn(shape, generator=generator).to(options.device)
    t = torch.full((options.batch,), 0.5, device=options.device)
    cfg_scale = 1.0 if model.config.few_step_count else 7.0

    guidance = Guidance(scale=cfg_scale)
    preparation = time_runs(lambda: GuidedVelocity(model.network, context, guidance=guidance), options)
    velocity = GuidedVelocity(model.network, context, guidance=guidance)
    operations = count_operations(lambda: velocity(x, t))
    if options.compile:
        compile_network(model, options.device)
    step = time_runs(lambda: velocity(x, t), options)
    weight_bytes = sum(p.numel() * p.element_size() for p in model.network.parameters())
    results = {
        **_against_peaks(step, operations, weight_bytes, options),
        "preparation": preparation,
    }
    if options.plain:
        network = plain_model(model).network
        plain = time_runs(lambda: plain_velocity(network, x, t, context, cfg_scale), options)
        results["plain_step"] = plain
        results["ratio"] = step["median_seconds"] / plain["median_seconds"]
        expected = plain_velocity(network, x, t, context, cfg_scale)
        results["relative_error"] = float((velocity(x, t) - expected).norm() / expected.norm())
    print_report("step", options, results)


def _against_peaks(
    step: dict[str, Any], operations: int, weight_bytes: int, options: argparse.Namespace
) -> dict[str, Any]:
    """Compare a step with the peak rates of the device."""
    median = step["median_seconds"]
    matrix = matrix_peak(options.device, DTYPES[options.precision])
    memory = memory_peak(options.device)
    return {
        "step": {
            **step,
            "operations": operations,
            "operations_per_second": operations / median,
            "fraction_of_matrix_peak": operations / median / matrix,
            # A step reads every weight at least once, and the activations besides.
            "bytes_of_weights": weight_bytes,
            "bytes_of_weights_per_second": weight_bytes / median,
            "fraction_of_memory_peak": weight_bytes / median / memory,
        },
        "matrix_peak_operations_per_second": matrix,
        "memory_peak_bytes_per_second": memory,
        # The roofline: the slower of computing and of reading the weights.
        "least_seconds": max(operations / matrix, weight_bytes / memory),
    }


if __name__ == "__main__":
    main()
