"""The AudioX Edit Region node."""

from __future__ import annotations

from typing import TYPE_CHECKING

from comfy_api.latest import io

from ..audiox_ext.errors import InputError
from .shared.audio_input import read_audio
from .shared.sockets import Audio, AudioXEditSocket, refuse_none, require_edit

if TYPE_CHECKING:
    from ..audiox_ext.pipeline.editing import AudioEdit


class AudioXEditRegion(io.ComfyNode):
    """Mark a part of a track for the sampler to regenerate."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Declare the node's inputs and outputs."""
        return io.Schema(
            node_id="AudioXEditRegion",
            display_name="AudioX Edit Region",
            category="audio/AudioX",
            description=(
                "Marks a part of a track to be made anew by the AudioX Sampler. The rest comes back bit for "
                "bit, at its own sample rate. For several parts chain these nodes by their edit inputs."
            ),
            inputs=[*_declare_widgets(), *_declare_sockets()],
            outputs=[
                AudioXEditSocket.Output(
                    display_name="regions", tooltip="For the sampler's edit, or the next Edit Region."
                )
            ],
        )

    @classmethod
    @refuse_none
    def execute(
        cls,
        start: float,
        end: float,
        feather: float,
        strength: float,
        audio: Audio | None = None,
        edit: AudioEdit | None = None,
    ) -> io.NodeOutput:
        """Add a region to a track.

        Args:
            start: beginning of the region in seconds.
            end: end of the region in seconds.
            feather: crossfade at either end in seconds.
            strength: edit strength, 0 to 1.
            audio: the track, for its first region.
            edit: the track with earlier regions, for a further one.
        """
        from ..audiox_ext.pipeline.editing import AudioEdit, Region

        if audio is not None and edit is None:
            waveform, rate = read_audio(audio, "audio")
            earlier = AudioEdit(waveform=waveform, rate=rate)
        elif edit is not None and audio is None:
            earlier = require_edit(edit)
        else:
            inputs = "Neither audio nor edit is" if audio is None else "Both audio and edit are"
            raise InputError(
                f"{inputs} connected. Connect the track to the audio input of the first Edit Region. Connect "
                "the edit input of each further one to the Edit Region before it."
            )
        region = Region(start=start, end=end, feather=feather, strength=strength)
        return io.NodeOutput(earlier.with_region(region))


def _declare_widgets() -> list[io.Input]:
    """Declare the widgets."""
    return [
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
                "How far the sound is changed: 1 makes it from nothing, less keeps more of what is there."
            ),
        ),
    ]


def _declare_sockets() -> list[io.Input]:
    """Declare the track or its earlier regions."""
    return [
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
    ]
