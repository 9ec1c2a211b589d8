"""STAND-INS for the SelVA pack's nodes, under other ids: same inputs and outputs, a tone in place of a model.

The tests copy this file into custom_nodes. With it an example that uses SelVA runs to its end where SelVA's
weights are not: what is tested is the graph and what our nodes make of such a sound, not SelVA.
"""

from __future__ import annotations

import math
from typing import Any

import torch

RATE = 44100  # of the variants that end in 44k


class StandInSelvaModelLoader:
    RETURN_TYPES, RETURN_NAMES = ("SELVA_MODEL",), ("model",)
    FUNCTION, CATEGORY = "run", "test"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802 - ComfyUI's name
        variants = ["small_16k", "small_44k", "medium_44k", "large_44k"]
        strategies = ["auto", "keep_in_vram", "offload_to_cpu"]
        choices = {"variant": variants, "precision": ["bf16", "fp16", "fp32"], "offload_strategy": strategies}
        return {"required": {name: (values,) for name, values in choices.items()}}

    def run(self, variant: str, precision: str, offload_strategy: str) -> tuple[str]:
        return (variant,)


class StandInSelvaFeatureExtractor:
    RETURN_TYPES, RETURN_NAMES = ("SELVA_FEATURES", "FLOAT", "STRING"), ("features", "fps", "prompt")
    FUNCTION, CATEGORY = "run", "test"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802
        required = {"model": ("SELVA_MODEL",), "video": ("IMAGE",), "prompt": ("STRING", {"multiline": True})}
        optional = {
            "video_info": ("VHS_VIDEOINFO",),
            "fps": ("FLOAT", {"default": 30.0, "min": 1.0, "max": 120.0}),
            "duration": ("FLOAT", {"default": 0.0, "min": 0.0, "max": 30.0}),
            "cache_dir": ("STRING", {"default": ""}),
            "mask": ("MASK",),
            "mask_strength": ("FLOAT", {"default": 1.0, "min": 0.0, "max": 1.0}),
            "mask_clip": ("BOOLEAN", {"default": True}),
            "mask_sync": ("BOOLEAN", {"default": True}),
        }
        return {"required": required, "optional": optional}

    def run(
        self, model: str, video: torch.Tensor, prompt: str, fps: float, **settings: Any
    ) -> tuple[Any, ...]:
        return {"seconds": len(video) / fps}, fps, prompt


class StandInSelvaSampler:
    RETURN_TYPES, RETURN_NAMES = ("AUDIO",), ("audio",)
    FUNCTION, CATEGORY = "run", "test"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802
        required = {
            "model": ("SELVA_MODEL",),
            "features": ("SELVA_FEATURES",),
            "prompt": ("STRING", {"multiline": True}),
            "negative_prompt": ("STRING", {"default": ""}),
            "duration": ("FLOAT", {"default": 0.0, "min": 0.0, "max": 30.0}),
            "steps": ("INT", {"default": 25, "min": 1, "max": 200}),
            "cfg_strength": ("FLOAT", {"default": 4.5, "min": 1.0, "max": 20.0}),
            "seed": ("INT", {"default": 0, "min": 0, "max": 0xFFFFFFFF}),
        }
        return {"required": required, "optional": {"normalize": ("BOOLEAN", {"default": True})}}

    def run(self, features: dict[str, float], prompt: str, **settings: Any) -> tuple[dict[str, Any]]:
        """Mono and as loud as can be, as the real one's sounds are."""
        assert prompt, "the extractor hands on the prompt"
        time = torch.arange(round(features["seconds"] * RATE)) / RATE
        return ({"waveform": torch.sin(2 * math.pi * 1000 * time)[None, None], "sample_rate": RATE},)


NODE_CLASS_MAPPINGS = {
    node.__name__: node
    for node in (StandInSelvaModelLoader, StandInSelvaFeatureExtractor, StandInSelvaSampler)
}
