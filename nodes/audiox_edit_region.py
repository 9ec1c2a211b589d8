"""The AudioX Edit Region node."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from comfy_api.latest import io

from ..audiox_ext.errors import InputError
from .shared.audio_input import sounds_of
from .shared.sockets import AudioXEditSocket, require_edit

if TYPE_CHECKING:
    from ..audiox_ext.pipeline.editing import AudioEdit


class AudioXEditRegion(io.ComfyNode):
    """Says which part of a track the sampler makes anew."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """The inputs and outputs, as ComfyUI shows them."""
        return io.Schema(
            node_id="AudioXEditRegion",
            display_name="AudioX Edit Region",
            category="audio/AudioX",
            description=(
                "Marks a part of a track to be made anew by the AudioX Sampler. The rest comes back bit for "
                "bit, at its own sample rate. For several parts chain these nodes by their edit inputs."
            ),
            inputs=[
                io.Float.Input(
                    "start",
                    default=0.0,
                    min=0.0,
                    max=86400.0,
                    step=0.01,
                    tooltip="Where the region begins, in seconds of the track.",
                ),
                io.Float.Input(
                    "end",
                    default=1.0,
                    min=0.0,
                    max=86400.0,
                    step=0.01,
                    tooltip="Where the region ends, in seconds of the track.",
                ),
                io.Float.Input(
                    "feather",
                    default=0.05,
                    min=0.0,
                    max=10.0,
                    step=0.01,
                    tooltip=(
                        "Seconds of crossfade at either end, inside the region; at most half of it. Nothing "
                        "outside the region is ever touched."
                    ),
                ),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=0.01,
                    max=1.0,
                    step=0.01,
                    display_mode=io.NumberDisplay.slider,
                    tooltip=(
                        "How far the sound is changed: 1 makes it from nothing, less keeps more of what is "
                        "there."
                    ),
                ),
                io.Audio.Input(
                    "audio",
                    optional=True,
                    tooltip="The track, mono or stereo, any rate and length; every item of a batch.",
                ),
                AudioXEditSocket.Input(
                    "edit",
                    optional=True,
                    tooltip="Another Edit Region of the same track, in place of audio: for several regions.",
                ),
            ],
            outputs=[
                AudioXEditSocket.Output(
                    display_name="regions", tooltip="For the sampler's edit, or the next Edit Region."
                )
            ],
        )

    @classmethod
    def execute(
        cls,
        start: float,
        end: float,
        feather: float,
        strength: float,
        audio: dict[str, Any] | None = None,
        edit: AudioEdit | None = None,
    ) -> io.NodeOutput:
        """The track with one more region. What it raises is a sentence for the user."""
        from ..audiox_ext.pipeline.editing import AudioEdit, Region

        if (audio is None) == (edit is None):
            which = "Neither audio nor edit is" if audio is None else "Both audio and edit are"
            raise InputError(
                f"{which} connected. Connect the track to the audio of the first Edit Region, and each "
                "further one's edit to the one before."
            )
        if edit is None:
            waveform, rate = sounds_of(audio, "audio")
            earlier = AudioEdit(waveform=waveform.float().cpu(), rate=rate)
        else:
            earlier = require_edit(edit)
        region = Region(start=start, end=end, feather=feather, strength=strength)
        return io.NodeOutput(earlier.with_region(region))
