"""All bad inputs, by kind. Each module lists those of one subject."""

from __future__ import annotations

from bad_case import Case


def list_cases() -> list[Case]:
    """The cases that need the engine alone."""
    from . import commands, configs, datasets, headers, loras, pickles, pictures, requests, sounds, videos

    modules = (pickles, headers, configs, loras, sounds, videos, pictures, requests, datasets, commands)
    return [case for module in modules for case in module.list_cases()]


def list_node_cases() -> list[Case]:
    """The cases that need ComfyUI."""
    from . import node_inputs

    return node_inputs.list_cases()
