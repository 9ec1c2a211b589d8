"""The AudioX View node."""

from __future__ import annotations

from typing import TYPE_CHECKING

from comfy_api.latest import Input, io, ui

from .comfy.progress import check_cancelled
from .shared.audio_input import read_audio
from .shared.sockets import Audio, refuse_none

if TYPE_CHECKING:
    from torch import Tensor

    from ..audiox_ext.plotting.film_strip import TimedFrame


class AudioXView(io.ComfyNode):
    """Draw a sound's waveform and spectrogram, and a video's frames above the same time axis."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Declare the node's inputs and outputs."""
        return io.Schema(
            node_id="AudioXView",
            display_name="AudioX View",
            category="audio/AudioX",
            description=(
                "Shows a sound: its waveform above its spectrogram, with levels in dBFS, and, if a video is "
                "connected, its pictures along the same time line. The sound goes through unchanged."
            ),
            inputs=[
                io.Audio.Input("audio", tooltip="The sound; of a batch each is drawn."),
                *_declare_rest(),
            ],
            outputs=[
                io.Image.Output(display_name="image", tooltip="The pictures, one for each sound of a batch."),
                io.Audio.Output(display_name="sound", tooltip="The audio that came in, unchanged."),
            ],
            is_output_node=True,
        )

    @classmethod
    @refuse_none
    def execute(
        cls,
        audio: Audio,
        width: int,
        height: int,
        start: float,
        duration: float,
        fps: float,
        video: Input.Video | None = None,
        images: Tensor | None = None,
    ) -> io.NodeOutput:
        """Draw one image per sound of the batch, and show it in the node.

        Args:
            audio: the sounds.
            width: width of the image in pixels.
            height: height of the image in pixels.
            start: first second to draw.
            duration: seconds to draw; 0: to the end.
            fps: frame rate of `images`.
            video: shown along the time axis.
            images: shown along the time axis in place of a video.
        """
        from ..audiox_ext.media.waveforms import check_waveform
        from ..audiox_ext.plotting.sound_image import draw_sound, stack_images, visible_seconds

        waveforms, rate = read_audio(audio, "audio")
        sounds = [check_waveform(waveform, rate) for waveform in waveforms]
        size, length = (width, height), duration or None
        frames: list[TimedFrame] = []
        if video is not None or images is not None:
            seconds = visible_seconds(sounds[0], rate, start, length)
            frames = _read_frames(video, images, fps=fps, start=start, seconds=seconds, size=size)
        pictures = []
        for sound in sounds:
            check_cancelled()
            pictures.append(draw_sound(sound, rate, size=size, start=start, duration=length, frames=frames))
        batch = stack_images(pictures)
        return io.NodeOutput(batch, audio, ui=ui.PreviewImage(batch, cls=cls))


def _read_frames(
    video: Input.Video | None,
    images: Tensor | None,
    *,
    fps: float,
    start: float,
    seconds: float,
    size: tuple[int, int],
) -> list[TimedFrame]:
    """Read as many frames as fit next to each other; none if the video ends before `start`."""
    from ..audiox_ext.media.frames import TimeRange
    from ..audiox_ext.plotting.sound_image import fill_film_strip
    from .shared.video_input import read_clip

    time_range = TimeRange(start=start, duration=seconds)
    clip = read_clip(video, images, fps=fps, video_info=None, time_range=time_range, seconds=seconds)
    return fill_film_strip(
        clip.source,
        size=size,
        time_range=clip.time_range,
        trim=clip.trim,
        seconds=seconds,
        check_cancelled=check_cancelled,
    )


def _declare_rest() -> list[io.Input]:
    """Declare the inputs besides the sound."""
    return [
        io.Int.Input(
            "width", default=1100, min=512, max=4096, step=2, tooltip="Width of the picture in pixels."
        ),
        io.Int.Input(
            "height", default=650, min=512, max=4096, step=2, tooltip="Height of the picture in pixels."
        ),
        io.Float.Input(
            "start",
            default=0.0,
            min=0.0,
            max=86400.0,
            step=0.1,
            tooltip="Second of the sound at which the picture begins.",
        ),
        io.Float.Input(
            "duration",
            default=0.0,
            min=0.0,
            max=86400.0,
            step=0.1,
            tooltip="Seconds of the sound in the picture; 0 = to the end.",
        ),
        io.Float.Input(
            "fps",
            default=24.0,
            min=0.01,
            max=1000.0,
            step=0.001,
            tooltip="Frames per second of `images`. Not used for a VIDEO, which knows its own.",
        ),
        io.Video.Input(
            "video",
            optional=True,
            tooltip="A video to show along the time line; a few of its pictures are read.",
        ),
        io.Image.Input(
            "images",
            optional=True,
            tooltip="Frames in place of a video; set fps. A single image is held for the whole time.",
        ),
    ]
