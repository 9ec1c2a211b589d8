"""The film of the examples and of the demo: a hammer that strikes at known times.

`python -m tools.film examples/pocket_film.mp4` writes it, without sound. It is drawn by code, so it is free
of third-party rights. It belongs to the held-out part of the data set: no model was trained on it.
"""

from __future__ import annotations

import argparse
from dataclasses import fields, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from pocket.world.animations import render_film
from pocket.world.dataset import SPLITS
from pocket.world.random_scenes import draw_scene
from pocket.world.scenes import Description, Scene

FILM = Path(__file__).parents[1] / "examples" / "pocket_film.mp4"
PROMPT = "the sound of a hammer hitting metal"
FPS = 25
SIZE = (224, 224)  # pixels, the models' frame size
_SECONDS = 9.96  # whole frames, and not longer than one window of audiox-pocket
_SCENE = 10_113  # one in which a hammer strikes four times, with the first blow late


def film_scene(seconds: float = _SECONDS) -> Scene:
    """Return the events of the film, without properties to check other than their times.

    Args:
        seconds: leave out later events.
    """
    scene = draw_scene(SPLITS["held out"].start + _SCENE, seconds=_SECONDS, kinds=["hammer"], film=True)
    part = scene.parts[0]
    events = tuple(event for event in part.events if event.onset < seconds)
    scene = replace(scene, parts=(replace(part, events=events),))
    return scene.with_description(**{field.name: None for field in fields(Description)})


def write_film(path: Path) -> None:
    """Write the film as an .mp4.

    Args:
        path: the file.

    Raises:
        MediaError: the file cannot be written.
    """
    import av

    from audiox_ext.media.encoding import open_output

    with open_output(path, "mp4", {"movflags": "+faststart"}) as output:
        options = {"crf": "20", "preset": "slow"}
        stream: Any = output.add_stream("libx264", rate=Fraction(FPS), options=options)
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        for number, picture in enumerate(render_film(film_scene(), size=SIZE, fps=FPS)):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.film", description="Write the film of the examples."
    )
    parser.add_argument(
        "file", type=Path, nargs="?", default=FILM, help="the .mp4 (default: the one in examples)"
    )
    write_film(parser.parse_args().file)


if __name__ == "__main__":
    main()
