"""The AudioX Choose Variation node."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..audiox_ext.errors import InputError
from .shared.audio_input import sounds_of


class AudioXChooseVariation(io.ComfyNode):
    """Takes one sound out of a batch."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """The inputs and outputs, as ComfyUI shows them."""
        return io.Schema(
            node_id="AudioXChooseVariation",
            display_name="AudioX Choose Variation",
            category="audio/AudioX",
            description="Takes one sound out of a batch, such as the sampler makes with batch above 1.",
            inputs=[
                io.Audio.Input("audio", tooltip="A batch of sounds, such as the sampler makes."),
                io.Int.Input(
                    "index",
                    default=0,
                    min=-4096,
                    max=4095,
                    tooltip="Which one: 0 is the first, 1 the second, -1 the last.",
                ),
            ],
            outputs=[io.Audio.Output(display_name="audio", tooltip="That one sound.")],
        )

    @classmethod
    def execute(cls, audio: dict[str, Any], index: int) -> io.NodeOutput:
        """The sound at `index`, with all else that the AUDIO holds."""
        waveform, _ = sounds_of(audio, "audio")
        count = len(waveform)
        if not -count <= index < count:
            holds = "1 variation" if count == 1 else f"{count} variations"
            raise InputError(
                f"index is {index}, but audio holds {holds}: choose one from 0 to {count - 1}, or from -1 to "
                f"-{count} to count from the end."
            )
        # Not a view, which would keep the whole batch in memory.
        chosen = waveform[index % count][None].clone()
        return io.NodeOutput({**audio, "waveform": chosen})
