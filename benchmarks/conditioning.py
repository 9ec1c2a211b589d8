"""Time from the prompts to the network's context.

python -m benchmarks.conditioning --plain
python -m benchmarks.conditioning --prompts all --plain
"""

from __future__ import annotations

from typing import Any

import torch

from audiox_ext.devices import DevicePlacement
from audiox_ext.random_numbers import RandomNumbers

from .measuring import parse, parser, report, seconds
from .models import prompts, random_model
from .plain import plain_conditioning, plain_model


@torch.no_grad()
def main(arguments: list[str] | None = None) -> None:
    """The command."""
    command = parser(__doc__)
    command.add_argument("--prompts", default="text", choices=("text", "all"))
    options = parse(command, arguments)

    model = random_model(options.model, options.precision, options.device)
    placement = DevicePlacement(options.device)
    items = [prompts(model, options.prompts)]

    def encode() -> torch.Tensor:
        model.prompt_cache.clear()
        tokens = model.encode_conditioning(items, placement, RandomNumbers.from_seed(0))
        return model.assemble_context(tokens, placement)

    results: dict[str, Any] = {"conditioning": seconds(encode, options)}
    if options.plain:
        published = plain_model(model)

        def plainly() -> torch.Tensor:
            return plain_conditioning(published, items, placement, RandomNumbers.from_seed(0))

        results["plain_conditioning"] = seconds(plainly, options)
        medians = [results[name]["median_seconds"] for name in ("conditioning", "plain_conditioning")]
        results["ratio"] = medians[0] / medians[1]
        results["relative_error"] = float((encode() - plainly()).norm() / plainly().norm())
    report("conditioning", options, results)


if __name__ == "__main__":
    main()
