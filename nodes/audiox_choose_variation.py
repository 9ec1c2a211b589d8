"""The AudioX Choose Variation node."""

from __future__ import annotations

from comfy_api.latest import io

from ..audiox_ext.errors import InputError, is_whole, quote_value
from .shared.audio_input import read_audio
from .shared.sockets import Audio


class AudioXChooseVariation(io.ComfyNode):
    """Select one sound of a batch."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Declare the node's inputs and outputs."""
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
    def execute(cls, audio: Audio, index: int) -> io.NodeOutput:
        """Return the sound at `index`, and the other entries of the AUDIO unchanged.

        Args:
            audio: a batch of sounds.
            index: position in the batch; negative numbers count from the end.
        """
        waveform, rate = read_audio(audio, "audio")
        count = len(waveform)
        if not (is_whole(index) and -count <= index < count):
            contents = "1 variation" if count == 1 else f"{count} variations"
            raise InputError(
                f"index is {quote_value(index)}, but audio holds {contents}. Choose a number from 0 to "
                f"{count - 1}, or from -1 to -{count} to count from the end."
            )
        # A copy: a view would keep the whole batch in memory.
        sound = waveform[index % count][None].clone()
        return io.NodeOutput({**audio, "waveform": sound, "sample_rate": rate})
