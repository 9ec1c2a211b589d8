"""The AudioX Loudness node."""

from __future__ import annotations

from typing import TYPE_CHECKING

from comfy_api.latest import io

from ..audiox_ext.utf8 import get_logger
from .shared.audio_input import read_audio
from .shared.sockets import Audio

if TYPE_CHECKING:
    from ..audiox_ext.media.loudness import Mode

# The same as media.loudness.MODES, as a test checks; repeated so that the schema need not import the engine.
MODES = ("loudness", "peak")

# dBFS. A lower peak is probably a mistake for a loudness in LUFS, such as the default.
_QUIET_PEAK = -12.0

log = get_logger(__name__)


class AudioXLoudness(io.ComfyNode):
    """Set the loudness or peak of sounds."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Declare the node's inputs and outputs."""
        return io.Schema(
            node_id="AudioXLoudness",
            display_name="AudioX Loudness",
            category="audio/AudioX",
            description=(
                "Brings a sound to a loudness (LUFS, ITU-R BS.1770) or to a peak level (dBFS), by a gain "
                "alone: nothing is compressed or clipped. Every sound of a batch gets a gain of its own."
            ),
            inputs=[
                io.Audio.Input("audio", tooltip="The sound, or a batch of sounds."),
                *_declare_widgets(),
            ],
            outputs=[
                io.Audio.Output(display_name="audio", tooltip="The same sound at the new level."),
                io.String.Output(
                    display_name="report",
                    tooltip="Gain, peak (dBFS) and loudness (LUFS) of the result, a line for each sound.",
                ),
            ],
        )

    @classmethod
    def execute(cls, audio: Audio, mode: Mode, target: float, ceiling: float) -> io.NodeOutput:
        """Apply the gain and report it.

        Args:
            audio: the sounds.
            mode: the quantity that `target` sets: loudness (LUFS) or peak (dBFS).
            target: the new loudness or peak.
            ceiling: highest peak (dBFS) in mode loudness.
        """
        from ..audiox_ext.media.loudness import describe_gains, normalise

        waveform, rate = read_audio(audio, "audio")
        louder = normalise(waveform, rate, mode=mode, target=target, ceiling=ceiling)
        if mode == "peak" and target < _QUIET_PEAK:
            log.warning(
                "AudioX: target is %g dBFS, which is quiet for a peak. Set it to -1 for mode peak; -16 is "
                "usual for mode loudness.",
                target,
            )
        output = {**audio, "waveform": louder, "sample_rate": rate}
        return io.NodeOutput(output, describe_gains(waveform, louder, rate))


def _declare_widgets() -> list[io.Input]:
    """Declare the widgets."""
    return [
        io.Combo.Input(
            "mode",
            options=list(MODES),
            default="loudness",
            tooltip=(
                "loudness: how loud it sounds on the whole, as streaming services and broadcasters measure "
                "it. peak: its largest sample."
            ),
        ),
        io.Float.Input(
            "target",
            default=-16.0,
            min=-60.0,
            max=0.0,
            step=0.1,
            tooltip=(
                "With loudness in LUFS: -14 to -16 is usual online, -23 in European television. "
                "With peak in dBFS: set it to -1 for peak, as loud as can be with some room left for MP3 and "
                "AAC; the default is meant for loudness."
            ),
        ),
        io.Float.Input(
            "ceiling",
            default=-1.0,
            min=-60.0,
            max=0.0,
            step=0.1,
            tooltip=(
                "With loudness: the peak (dBFS) that is never exceeded. A gain that would do so is held "
                "there; the report says what loudness was reached. Not used with peak."
            ),
        ),
    ]
