"""Measure the time from the prompts to the network's context.

python -m benchmarks.conditioning --plain
python -m benchmarks.conditioning --prompts all --plain
"""

from __future__ import annotations

from typing import Any

import torch

from audiox_ext.devices import DevicePlacement
from audiox_ext.random_numbers import RandomNumbers

from .measuring import PROMPT_KINDS, common_parser, parse_options, print_report, time_runs
from .models import random_model, random_prompt
from .plain import plain_conditioning, plain_model


@torch.no_grad()
def main(arguments: list[str] | None = None) -> None:
    """Run the command.

    Args:
        arguments: Command-line arguments, by default those of the process.
    """
    parser = common_parser(__doc__)
    parser.add_argument("--prompts", default="text", choices=PROMPT_KINDS, help="text alone, or all kinds")
    options = parse_options(parser, arguments)

    model = random_model(options.model, options.precision, options.device)
    placement = DevicePlacement(options.device)
    items = [random_prompt(model, options.prompts)]

    def encode() -> torch.Tensor:
        model.prompt_cache.clear()
        tokens = model.encode_conditioning(items, placement, RandomNumbers.from_seed(0))
        return model.assemble_context(tokens, placement)

    results: dict[str, Any] = {"conditioning": time_runs(encode, options)}
    if options.plain:
        published = plain_model(model)

        def encode_plainly() -> torch.Tensor:
            return plain_conditioning(published, items, placement, RandomNumbers.from_seed(0))

        results["plain_conditioning"] = time_runs(encode_plainly, options)
        medians = [results[name]["median_seconds"] for name in ("conditioning", "plain_conditioning")]
        results["ratio"] = medians[0] / medians[1]
        expected = encode_plainly()
        results["relative_error"] = float((encode() - expected).norm() / expected.norm())
    print_report("conditioning", options, results)


if __name__ == "__main__":
    main()
