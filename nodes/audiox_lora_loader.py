"""The AudioX LoRA Loader node."""

from __future__ import annotations

from comfy_api.latest import io

from ..audiox_ext.errors import InputError
from .comfy import host
from .shared import fingerprints as file_stamps
from .shared.sockets import AudioXModelHandle, AudioXModelSocket, require_model

NOTHING = "(no LoRA in models/loras)"


class AudioXLoadLora(io.ComfyNode):
    """Adds a LoRA to a model."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """The inputs and outputs, as ComfyUI shows them; the list of files is read from disk each time."""
        return io.Schema(
            node_id="AudioXLoadLora",
            display_name="AudioX LoRA Loader",
            category="audio/AudioX",
            description=(
                "Adds a LoRA to an AudioX model: a small file that teaches the model a sound or a style. "
                "Chain several of these nodes for several LoRAs. The model that goes in stays as it is."
            ),
            inputs=[
                AudioXModelSocket.Input(
                    "model", tooltip="From the AudioX Model Loader, or another AudioX LoRA Loader."
                ),
                io.Combo.Input(
                    "lora_name",
                    options=host.lora_names() or [NOTHING],
                    tooltip=(
                        "A .safetensors file in models/loras. It must have been trained on the same kind of "
                        "AudioX model; what is for another model is refused."
                    ),
                ),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=-4.0,
                    max=4.0,
                    step=0.05,
                    tooltip=(
                        "How much of it: 1 as it was trained, 0 the model without it, below 0 the opposite "
                        "direction. Any strength takes the same time."
                    ),
                ),
            ],
            outputs=[
                AudioXModelSocket.Output(
                    display_name="model", tooltip="The model with the LoRA, for the AudioX Sampler."
                )
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, lora_name: str | None, **settings: object) -> tuple[object, ...]:
        """Changes when the file changes, so that a LoRA that was trained on is read again."""
        return (lora_name, settings.get("strength"), file_stamps.lora_fingerprint(lora_name))

    @classmethod
    def execute(cls, model: AudioXModelHandle, lora_name: str, strength: float) -> io.NodeOutput:
        """The model with the LoRA. What it raises is a sentence for the user."""
        from .comfy.loras import with_lora

        handle = require_model(model)
        path = host.lora_path(lora_name) if lora_name != NOTHING else None
        if path is None:
            raise InputError(
                f"lora_name is {lora_name!r}, and there is no such file in models/loras. Put one there, "
                "press R to have it listed, and choose it."
            )
        return io.NodeOutput(with_lora(handle, path, strength))
