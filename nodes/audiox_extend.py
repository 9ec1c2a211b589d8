"""The AudioX Extend node."""

from __future__ import annotations

from comfy_api.latest import io

from .shared.audio_input import read_audio
from .shared.sockets import Audio, AudioXEditSocket

SIDES = ("after", "before")


class AudioXExtend(io.ComfyNode):
    """Choose how much sound the sampler adds to the beginning or end of a track."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Declare the node's inputs and outputs."""
        return io.Schema(
            node_id="AudioXExtend",
            display_name="AudioX Extend",
            category="audio/AudioX",
            description=(
                "Lets the AudioX Sampler carry a track on, or make what leads up to it. The track itself "
                "stays as it is, at its own sample rate, but for a crossfade of 0.1 s at the joint."
            ),
            inputs=[
                io.Audio.Input(
                    "audio",
                    tooltip="The track, mono or stereo, any rate and length; every item of a batch.",
                ),
                io.Float.Input(
                    "seconds",
                    default=5.0,
                    min=0.0,
                    max=600.0,
                    step=0.1,
                    tooltip="How much is added, up to 600 s.",
                ),
                io.Combo.Input(
                    "side",
                    options=list(SIDES),
                    default="after",
                    tooltip="after: carries the track on. before: makes what leads up to it.",
                ),
            ],
            outputs=[
                AudioXEditSocket.Output(display_name="extension", tooltip="For the sampler's edit input.")
            ],
        )

    @classmethod
    def execute(cls, audio: Audio, seconds: float, side: str) -> io.NodeOutput:
        """Describe the extension.

        Args:
            audio: the track.
            seconds: length of the new sound.
            side: "after" or "before" the track.
        """
        from ..audiox_ext.pipeline.editing import extension

        waveform, rate = read_audio(audio, "audio")
        return io.NodeOutput(extension(waveform, rate, seconds, side))
