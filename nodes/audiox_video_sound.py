"""The AudioX Put Sound on Video node."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from comfy_api.latest import Input, InputImpl, Types, io, ui

from ..audiox_ext.errors import InputError
from .comfy import host
from .shared.audio_input import sounds_of

if TYPE_CHECKING:
    from torch import Tensor

    from ..audiox_ext.media.containers import MediaSource

MODES = ("replace", "mix")
LENGTHS = ("video", "shortest")


class AudioXVideoSound(io.ComfyNode):
    """Writes a video with a sound on it."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """The inputs and outputs, as ComfyUI shows them."""
        return io.Schema(
            node_id="AudioXVideoSound",
            display_name="AudioX Put Sound on Video",
            category="audio/AudioX",
            description=(
                "Saves a video with a sound on it in the output folder. The pictures of a video file are "
                "copied as they are: it takes seconds, little memory, and no quality is lost."
            ),
            inputs=[*_sockets(), *_settings()],
            outputs=[io.Video.Output(display_name="video", tooltip="The video that was saved.")],
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo],
            is_output_node=True,
        )

    @classmethod
    def execute(
        cls,
        video: Input.Video,
        audio: dict[str, Any],
        mode: str,
        start: float,
        gain: float,
        original_gain: float,
        length: str,
        filename_prefix: str,
    ) -> io.NodeOutput:
        """The file that was written, shown in the node and handed on."""
        from ..audiox_ext.media.muxing import choose_video_suffix
        from ..audiox_ext.media.probing import probe_video
        from ..audiox_ext.media.soundtrack import Mix, add_sound_to_video

        _require_choice("mode", mode, MODES)
        _require_choice("length", length, LENGTHS)
        waveform, rate = sounds_of(audio, "audio")
        mix = Mix(
            start=start,
            gain=gain,
            original_gain=original_gain if mode == "mix" else None,
            shortest=length == "shortest",
        )
        with _as_file(video) as clip:
            info = probe_video(clip.source)
            # Pictures that are encoded anew become H.264, which belongs into .mp4.
            suffix = ".mp4" if any(clip.trim) or mix.shortest else choose_video_suffix(clip.source)
            place = host.output_place(filename_prefix, suffix, info.width, info.height)
            add_sound_to_video(
                clip.source,
                (waveform[0], rate),
                place.path,
                mix,
                trim=clip.trim,
                original=clip.sound,
                metadata=host.workflow_metadata(cls.hidden.prompt, cls.hidden.extra_pnginfo),
                check_cancelled=host.check_cancelled,
            )
        shown = ui.SavedResult(place.path.name, place.subfolder, io.FolderType.output)
        return io.NodeOutput(InputImpl.VideoFromFile(str(place.path)), ui=ui.PreviewVideo([shown]))


@dataclass(frozen=True, kw_only=True, eq=False)
class _FileClip:
    """A video as a file. trim: (start, seconds) of it that are used; 0 seconds = to the end.

    sound: (waveform (C, S), rate) of the video's own sound where the file does not hold it.
    """

    source: MediaSource
    trim: tuple[float, float] = (0.0, 0.0)
    sound: tuple[Tensor, int] | None = None


@contextmanager
def _as_file(video: Input.Video) -> Iterator[_FileClip]:
    """The file behind a VIDEO, or one made for the time being where it has none or is to be cropped."""
    # See `video_source`: the default get_stream_source() encodes to memory, and newer ComfyUI hands out the
    # whole, uncropped file of an edited video.
    own_stream = type(video).get_stream_source is not Input.Video.get_stream_source
    edited = hasattr(video, "has_pending_frame_edits") and video.has_pending_frame_edits()
    made = isinstance(video, InputImpl.VideoFromComponents)
    source = video.get_stream_source() if own_stream and not made and not edited else None
    if source is not None:
        trim = video.get_active_trim_window() if hasattr(video, "get_active_trim_window") else (0.0, 0.0)
        yield _FileClip(source=source, trim=trim)
        return
    sound = None
    if made and not edited:
        video, sound = _pictures_alone(video)
    with host.temporary_file(".mp4") as path:
        video.save_to(str(path))
        host.check_cancelled()
        yield _FileClip(source=path, sound=sound)


def _pictures_alone(video: Input.Video) -> tuple[Input.Video, tuple[Tensor, int] | None]:
    """A video of pictures without its sound, which would be encoded twice, and that sound.

    The pictures get an even size, which H.264 wants, by leaving out a row and a column at the edge.
    """
    parts = video.get_components()
    images = parts.images[:, : parts.images.shape[1] // 2 * 2, : parts.images.shape[2] // 2 * 2]
    if images.numel() == 0:
        raise InputError(
            f"video holds pictures of shape {tuple(parts.images.shape)}: at least one of 2 x 2 is needed."
        )
    components = Types.VideoComponents(images=images, frame_rate=Fraction(parts.frame_rate), audio=None)
    sound = None
    if parts.audio is not None:
        waveform, rate = sounds_of(parts.audio, "The sound of video")
        sound = waveform[0], rate
    return InputImpl.VideoFromComponents(components), sound


def _require_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise InputError(f"{name} is {value!r}, which is not one of {', '.join(choices)}.")


def _sockets() -> list[io.Input]:
    return [
        io.Video.Input("video", tooltip="The video, for example from Load Video."),
        io.Audio.Input("audio", tooltip="The sound, of any rate; the first one of a batch."),
    ]


def _settings() -> list[io.Input]:
    return [
        io.Combo.Input(
            "mode",
            options=list(MODES),
            default="replace",
            tooltip="replace: only this sound is heard. mix: this and the video's own sound are heard.",
        ),
        io.Float.Input(
            "start",
            default=0.0,
            min=-86400.0,
            max=86400.0,
            step=0.01,
            tooltip="Second of the video at which the sound begins. Below 0 its beginning is cut off.",
        ),
        io.Float.Input(
            "gain",
            default=0.0,
            min=-60.0,
            max=24.0,
            step=0.1,
            tooltip=(
                "How much louder the sound becomes, in dB; below 0 quieter. Everything is made quieter if it "
                "would clip."
            ),
        ),
        io.Float.Input(
            "original_gain",
            default=0.0,
            min=-60.0,
            max=24.0,
            step=0.1,
            tooltip="The same for the video's own sound. Used with mix only.",
        ),
        io.Combo.Input(
            "length",
            options=list(LENGTHS),
            default="video",
            tooltip=(
                "video: a longer sound is cut, a shorter one followed by silence. shortest: a video that is "
                "longer than the sound ends with it; its pictures are then encoded anew, which takes longer."
            ),
        ),
        io.String.Input(
            "filename_prefix",
            default="video/AudioX",
            tooltip=(
                "Name of the file in the output folder, a number is added. It may begin with folders and "
                "hold placeholders as in Save Video, such as %year% or %width%."
            ),
        ),
    ]
