"""The AudioX Put Sound on Video node."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import TYPE_CHECKING

from comfy_api.latest import Input, InputImpl, Types, io, ui

from ..audiox_ext.errors import InputError
from .comfy.paths import build_workflow_metadata, save_output_file, temporary_file
from .comfy.progress import check_cancelled
from .shared.audio_input import read_first_sound
from .shared.choices import check_choice
from .shared.sockets import Audio
from .shared.video_input import find_video_file, is_edited, require_video

if TYPE_CHECKING:
    from torch import Tensor

    from ..audiox_ext.media.containers import MediaSource

MODES = ("replace", "mix")
LENGTHS = ("video", "shortest")


class AudioXVideoSound(io.ComfyNode):
    """Save a video with a sound as its audio track."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Declare the node's inputs and outputs."""
        return io.Schema(
            node_id="AudioXVideoSound",
            display_name="AudioX Put Sound on Video",
            category="audio/AudioX",
            description=(
                "Saves a video with a sound on it in the output folder. The pictures of a video file are "
                "copied as they are: it takes seconds, little memory, and no quality is lost."
            ),
            inputs=[*_declare_sockets(), *_declare_settings()],
            outputs=[io.Video.Output(display_name="video", tooltip="The video that was saved.")],
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo],
            is_output_node=True,
        )

    @classmethod
    def execute(
        cls,
        video: Input.Video,
        audio: Audio,
        mode: str,
        start: float,
        gain: float,
        original_gain: float,
        length: str,
        filename_prefix: str,
    ) -> io.NodeOutput:
        """Write the file, show it in the node and return it.

        The arguments are the inputs; see their tooltips.
        """
        from ..audiox_ext.media.muxing import choose_video_suffix
        from ..audiox_ext.media.pictures import check_film
        from ..audiox_ext.media.probing import probe_video
        from ..audiox_ext.media.soundtrack import Mix, add_sound_to_video

        check_choice("mode", mode, MODES)
        check_choice("length", length, LENGTHS)
        sound = read_first_sound(audio, "audio")
        mix = Mix(
            start=start,
            gain=gain,
            original_gain=original_gain if mode == "mix" else None,
            shortest=length == "shortest",
        )
        with _as_file(require_video(video), with_sound=mode == "mix") as clip:
            check_film(clip.source)
            info = probe_video(clip.source)
            # Frames that must be encoded again become H.264 in .mp4.
            suffix = ".mp4" if any(clip.trim) or mix.shortest else choose_video_suffix(clip.source)
            write = partial(
                add_sound_to_video,
                clip.source,
                sound,
                mix=mix,
                trim=clip.trim,
                original=clip.sound,
                metadata=build_workflow_metadata(cls.hidden.prompt, cls.hidden.extra_pnginfo),
                check_cancelled=check_cancelled,
            )
            output = save_output_file(filename_prefix, suffix, write, info.width, info.height)
        preview = ui.SavedResult(output.path.name, output.subfolder, io.FolderType.output)
        return io.NodeOutput(InputImpl.VideoFromFile(str(output.path)), ui=ui.PreviewVideo([preview]))


@dataclass(frozen=True, kw_only=True, eq=False)
class _FileClip:
    """A video as a file.

    Attributes:
        source: the file.
        trim: the part to use: (start, length) in seconds; length 0: to the end of the file.
        sound: waveform (C, S) and rate of the video's own sound if the file does not contain it.
    """

    source: MediaSource
    trim: tuple[float, float] = (0.0, 0.0)
    sound: tuple[Tensor, int] | None = None


@contextmanager
def _as_file(video: Input.Video, *, with_sound: bool) -> Iterator[_FileClip]:
    """Provide the file behind a VIDEO, or a temporary one if it has none or has edits.

    with_sound: whether the video's own sound is needed; it may be in a file that is read only then.
    """
    file = find_video_file(video)
    if file is not None:
        yield _FileClip(source=file.source, trim=file.trim)
        return
    sound = None
    if isinstance(video, InputImpl.VideoFromComponents) and not is_edited(video):
        video, sound = _split_sound(video, with_sound=with_sound)
    with temporary_file(".mp4") as path:
        video.save_to(str(path))
        check_cancelled()
        yield _FileClip(source=path, sound=sound)


def _split_sound(video: Input.Video, *, with_sound: bool) -> tuple[Input.Video, tuple[Tensor, int] | None]:
    """Separate a video's frames from its sound, which would otherwise be encoded twice.

    H.264 needs an even size, so a row or column at the edge may be cut off. It holds neither grey alone nor
    transparency.
    """
    from ..audiox_ext.media.pictures import ImageSequence, lay_over_black

    parts = video.get_components()
    ImageSequence(parts.images, float(parts.frame_rate)).check()
    images = parts.images[:, : parts.images.shape[1] // 2 * 2, : parts.images.shape[2] // 2 * 2]
    if images.numel() == 0:
        raise InputError(
            f"video has images of shape {tuple(parts.images.shape)}. Connect images of at least 2 x 2 pixels."
        )
    images, frame_rate = lay_over_black(images), Fraction(parts.frame_rate)
    components = Types.VideoComponents(images=images, frame_rate=frame_rate, audio=None)
    sound = None
    if with_sound and parts.audio is not None:
        sound = read_first_sound(parts.audio, "The sound of video")
    return InputImpl.VideoFromComponents(components), sound


def _declare_sockets() -> list[io.Input]:
    """Declare the video and the sound."""
    return [
        io.Video.Input("video", tooltip="The video, for example from Load Video."),
        io.Audio.Input("audio", tooltip="The sound, of any rate; the first one of a batch."),
    ]


def _declare_settings() -> list[io.Input]:
    """Declare the widgets."""
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
