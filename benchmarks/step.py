"""Time of one guided step of the network (of a few-step student: one unguided).

python -m benchmarks.step --plain
python -m benchmarks.step --prompts all --plain
python -m benchmarks.step --model AudioX-Turbo --precision bf16 --device cuda --compile
"""

from __future__ import annotations

from typing import Any

import torch

from audiox_ext.devices import DevicePlacement
from audiox_ext.model import compile_network
from audiox_ext.random_numbers import RandomNumbers
from audiox_ext.sampling.guidance import GuidedVelocity

from .measuring import matrix_peak, memory_peak, operations, parse, parser, report, seconds
from .models import DTYPES, prompts, random_model
from .plain import plain_model, plain_velocity


@torch.no_grad()
def main(arguments: list[str] | None = None) -> None:
    """The command."""
    command = parser(__doc__)
    command.add_argument("--prompts", default="text", choices=("text", "all"))
    command.add_argument("--batch", type=int, default=1)
    command.add_argument("--compile", action="store_true", help="with torch.compile")
    options = parse(command, arguments)

    model = random_model(options.model, options.precision, options.device)
    placement = DevicePlacement(options.device)
    items = [prompts(model, options.prompts)] * options.batch
    tokens = model.encode_conditioning(items, placement, RandomNumbers.from_seed(0))
    context = model.assemble_context(tokens, placement).to(options.device)
    generator = torch.Generator().manual_seed(2)
    shape = (options.batch, model.config.autoencoder.latent_dim, model.config.latent_count)
    x = torch.randn(shape, generator=generator).to(options.device)
    t = torch.full((options.batch,), 0.5, device=options.device)
    cfg_scale = 1.0 if model.config.few_step_count else 7.0

    prepare = seconds(lambda: GuidedVelocity(model.network, context, cfg_scale=cfg_scale), options)
    velocity = GuidedVelocity(model.network, context, cfg_scale=cfg_scale)
    count = operations(lambda: velocity(x, t))
    if options.compile:
        compile_network(model, options.device)
    step = seconds(lambda: velocity(x, t), options)
    median = step["median_seconds"]
    weights = sum(p.numel() * p.element_size() for p in model.network.parameters())
    peaks = matrix_peak(options.device, DTYPES[options.precision]), memory_peak(options.device)
    results: dict[str, Any] = {
        "step": {
            **step,
            "operations": count,
            "operations_per_second": count / median,
            "share_of_matrix_peak": count / median / peaks[0],
            # Every weight is read at least once a step; activations come on top.
            "bytes_of_weights": weights,
            "bytes_of_weights_per_second": weights / median,
            "share_of_memory_peak": weights / median / peaks[1],
        },
        "preparation": prepare,
        "matrix_peak_operations_per_second": peaks[0],
        "memory_peak_bytes_per_second": peaks[1],
        # What the roofline allows: the slower of computing and of reading the weights.
        "least_seconds": max(count / peaks[0], weights / peaks[1]),
    }
    if options.plain:
        network = plain_model(model).network
        plain = seconds(lambda: plain_velocity(network, x, t, context, cfg_scale), options)
        results["plain_step"] = plain
        results["ratio"] = step["median_seconds"] / plain["median_seconds"]
        expected = plain_velocity(network, x, t, context, cfg_scale)
        results["relative_error"] = float((velocity(x, t) - expected).norm() / expected.norm())
    report("step", options, results)


if __name__ == "__main__":
    main()
