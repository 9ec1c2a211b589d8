"""The AudioX View node."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from comfy_api.latest import Input, io, ui

from .comfy import host
from .shared.audio_input import sounds_of

if TYPE_CHECKING:
    from torch import Tensor

    from ..audiox_ext.plotting.film_strip import TimedFrame


class AudioXView(io.ComfyNode):
    """Draws a sound: waveform, spectrogram, and a video's pictures along the same time line."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """The inputs and outputs, as ComfyUI shows them."""
        return io.Schema(
            node_id="AudioXView",
            display_name="AudioX View",
            category="audio/AudioX",
            description=(
                "Shows a sound: its waveform above its spectrogram, with levels in dBFS, and, if a video is "
                "connected, its pictures along the same time line. The sound goes through unchanged."
            ),
            inputs=[io.Audio.Input("audio", tooltip="The sound; of a batch each is drawn."), *_widgets()],
            outputs=[
                io.Image.Output(display_name="image", tooltip="The pictures, one for each sound of a batch."),
                io.Audio.Output(display_name="sound", tooltip="The audio that came in, unchanged."),
            ],
            is_output_node=True,
        )

    @classmethod
    def execute(
        cls,
        audio: dict[str, Any],
        width: int,
        height: int,
        start: float,
        duration: float,
        fps: float,
        video: Input.Video | None = None,
        images: Tensor | None = None,
    ) -> io.NodeOutput:
        """A picture of every sound of the batch, which the node shows as well."""
        from ..audiox_ext.media.waveforms import check_waveform
        from ..audiox_ext.plotting.sound_image import draw_sound, stack_images, visible_seconds

        waveforms, rate = sounds_of(audio, "audio")
        sounds = [check_waveform(waveform, rate) for waveform in waveforms]
        size, length = (width, height), duration or None
        frames: list[TimedFrame] = []
        if video is not None or images is not None:
            shown = visible_seconds(sounds[0], rate, start, length)
            frames = _frames(video, images, fps=fps, start=start, seconds=shown, size=size)
        pictures = []
        for sound in sounds:
            host.check_cancelled()
            pictures.append(draw_sound(sound, rate, size=size, start=start, duration=length, frames=frames))
        batch = stack_images(pictures)
        return io.NodeOutput(batch, audio, ui=ui.PreviewImage(batch, cls=cls))


def _frames(
    video: Input.Video | None,
    images: Tensor | None,
    *,
    fps: float,
    start: float,
    seconds: float,
    size: tuple[int, int],
) -> list[TimedFrame]:
    """As many pictures as the strip holds; none if the video ends before `start`."""
    from ..audiox_ext.media.frames import TimeRange
    from ..audiox_ext.plotting.sound_image import fill_film_strip
    from .shared.video_input import clip_of

    window = TimeRange(start=start, duration=seconds)
    clip = clip_of(video, images, fps=fps, video_info=None, window=window, seconds=seconds)
    return fill_film_strip(
        clip.source,
        size=size,
        time_range=clip.window,
        trim=clip.trim,
        seconds=seconds,
        check_cancelled=host.check_cancelled,
    )


def _widgets() -> list[io.Input]:
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
