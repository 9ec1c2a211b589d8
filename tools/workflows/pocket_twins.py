"""The examples for the model that is part of the pack: twins of other examples that run on a fresh machine.

A twin has the nodes of its original. Its prompts use words that the model knows, and its video is the film
beside the examples. Where the original begins with a user's sound, the twin generates a sound first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from audiox_ext.checkpoints.catalog import DEFAULT_MODEL

from .. import film
from .from_sound import FROM_SOUND
from .from_text_and_video import FROM_TEXT_AND_VIDEO
from .parts import Node, Stage, Workflow

_ORIGINALS = {workflow.name: workflow for workflow in (*FROM_TEXT_AND_VIDEO, *FROM_SOUND)}
_SQUARE_VIDEO = (360, 450)  # a Load Video whose preview is square
_FIRST_SEED = 7  # seed of the initial sound, which differs from that of the result


def _twin(original: str, prompt: str, how: str, sound: str = "", seed: int = 42) -> Workflow:
    """Make a twin. sound: prompt of the sound that replaces the user's."""
    workflow = _ORIGINALS[original]
    return replace(
        workflow,
        name=f"pocket_{original}",
        model=DEFAULT_MODEL,
        how=f"{how}\n\nFor a published model, and more about how to use it, see the example *{original}*.",
        columns=tuple(
            tuple(_stage(stage, prompt, sound, seed) for stage in part)
            for column in workflow.columns
            for part in _apart(column)
        ),
    )


def _apart(column: tuple[Stage, ...]) -> list[tuple[Stage, ...]]:
    """A sampler is too tall to stand below the loader."""
    first = [stage for stage in column if not _begins(stage)]
    return [part for part in (tuple(first), tuple(filter(_begins, column))) if part]


def _begins(stage: Stage) -> bool:
    return any(node.kind == "LoadAudio" for node in stage.nodes.values())


def _stage(stage: Stage, prompt: str, sound: str, seed: int) -> Stage:
    title = "2 A sound to begin with" if _begins(stage) else stage.title
    parts = (stage.nodes, stage.beside)
    nodes, beside = (
        {name: _node(node, prompt, sound, seed) for name, node in part.items()} for part in parts
    )
    return Stage(nodes=nodes, beside=beside, title=title)


def _node(node: Node, prompt: str, sound: str, seed: int) -> Node:
    changes: Mapping[str, Mapping[str, object]] = {
        "AudioXLoadModel": {"model": DEFAULT_MODEL},
        "AudioXSample": {"prompt": prompt, "seed": seed},
        "LoadVideo": {"file": film.FILM.name},
    }
    if node.kind == "LoadAudio":
        return Node(
            kind="AudioXSample", values={"prompt": sound, "seed": _FIRST_SEED}, links={"model": "model"}
        )
    size = _SQUARE_VIDEO if node.kind == "LoadVideo" else node.size
    return replace(node, values={**node.values, **changes.get(node.kind, {})}, size=size)


_QUEUE = "**3. Queue.** 0 and *default* in the sampler mean the model's own settings."
_BEGIN = "**3. Queue.** The first sampler makes a sound; connect *Load Audio* in its place for your own."

TWINS = (
    _twin("text_to_audio", "a high beep twice", _QUEUE, seed=48),
    _twin(
        "text_to_music",
        "a C major chord played by an organ",
        f"{_QUEUE} *AudioX Loudness* sets the level.",
    ),
    _twin(
        "timeline",
        "0-10 rain pouring\n10-20 a siren wailing slowly",
        """**3. Queue.** One line of the prompt for each span of time, in seconds. They are blended over half
a second.""",
    ),
    _twin(
        "video_to_audio",
        film.PROMPT,
        f"""**3. The film.** Choose *{film.FILM.name}* in *Load Video*: upload it from this pack's folder
*examples*. Then queue: the blows of the hammer are heard when they are seen. The model knows films such as
this one, of hammers, balls, lamps and wheels that are drawn, and no others.""",
        seed=0,
    ),
    _twin(
        "audio_prompt",
        "a bell ringing three times",
        f"{_BEGIN} The second sampler hears it as an example.",
        sound="a high bell ringing three times",
    ),
    _twin(
        "variation",
        "a bell ringing three times",
        f"""{_BEGIN} The second one makes four variations; **init_strength** says how far they go. Listen, and
set the *index* of the one to save.""",
        sound="a low bell ringing three times",
    ),
    _twin(
        "inpainting",
        "a loud high tone",
        f"""{_BEGIN} Two regions of it are made anew, after the second prompt; the rest of it comes back as it
was.""",
        sound="soft rain pouring",
    ),
    _twin(
        "continuation",
        "a drum kit playing at 120 bpm",
        f"{_BEGIN} The second one carries it on for the *seconds* of *AudioX Extend*.",
        sound="a drum kit playing at 120 bpm",
    ),
)
