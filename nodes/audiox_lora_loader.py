"""The AudioX LoRA Loader node."""

from __future__ import annotations

from comfy_api.latest import io

from ..audiox_ext.errors import InputError, quote_value
from .comfy.paths import find_lora, list_loras
from .shared.fingerprints import Fingerprint, fingerprint_lora
from .shared.sockets import AudioXModelHandle, AudioXModelSocket, WidgetValue, require_model

NO_LORA = "(no LoRA in models/loras)"


class AudioXLoadLora(io.ComfyNode):
    """Add a LoRA to a model."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Declare the node's inputs and outputs; the list of files is read from disk each time."""
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
                    options=list_loras() or [NO_LORA],
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
    def fingerprint_inputs(
        cls, lora_name: str | None, **settings: WidgetValue
    ) -> tuple[WidgetValue | Fingerprint, ...]:
        """Fingerprint the file, so that a retrained LoRA is read again.

        Args:
            lora_name: the chosen LoRA.
            settings: the other inputs.
        """
        return (lora_name, settings.get("strength"), fingerprint_lora(lora_name))

    @classmethod
    def execute(cls, model: AudioXModelHandle, lora_name: str, strength: float) -> io.NodeOutput:
        """Return the model with the LoRA.

        Args:
            model: the model.
            lora_name: a file in models/loras.
            strength: LoRA strength.
        """
        from .comfy.loras import add_lora

        handle = require_model(model)
        path = find_lora(lora_name) if lora_name != NO_LORA else None
        if path is None:
            raise InputError(
                f"lora_name is {quote_value(lora_name)}, but models/loras has no such file. Put a LoRA "
                "there, press R to update the list, and choose it."
            )
        return io.NodeOutput(add_lora(handle, path, strength))
