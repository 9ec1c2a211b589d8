"""The parts of a workflow, and nodes that several examples share.

Sizes and positions are in the editor's units: pixels at a zoom of 100 %.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

SeedControl = Literal["fixed", "increment", "decrement", "randomize"]

SIZES = {
    # What the node's widgets need in the frontend, and room for prompts, previews and players: without it a
    # node grows when it has run, over what lies below it.
    "AudioMerge": (300, 80),
    "AudioXChooseVariation": (340, 60),
    "AudioXEditRegion": (340, 150),
    "AudioXExtend": (340, 90),
    "AudioXExtractFeatures": (360, 310),
    "AudioXLoadModel": (360, 160),
    "AudioXLoudness": (340, 130),
    "AudioXSample": (440, 1040),
    "AudioXVideoSound": (400, 450),
    "AudioXView": (560, 550),
    "CreateVideo": (300, 80),
    "GetVideoComponents": (300, 70),
    "ImageBatch": (240, 50),
    "LoadAudio": (360, 140),
    "LoadImage": (340, 340),
    "LoadImageMask": (360, 340),
    "LoadVideo": (360, 370),
    "PreviewAudio": (400, 90),
    "SaveAudio": (400, 115),
    "SelvaFeatureExtractor": (400, 330),
    "SelvaModelLoader": (360, 110),
    "SelvaSampler": (400, 320),
}


@dataclass(frozen=True, kw_only=True)
class Node:
    """A node of one kind (its id in ComfyUI).

    values: values of the widgets that are not left at their defaults.
    links: input -> the node it comes from, by its name in the workflow, or `name.output`.
    seed_control: the editor's change to a seed after each run; not in the API form.
    size: its size, where that differs from `SIZES`.
    """

    kind: str
    values: Mapping[str, object] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    title: str = ""
    seed_control: SeedControl = "fixed"
    size: tuple[int, int] | None = None


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Nodes one below the other, in a group of this title; without a title there is no group.

    beside: nodes to the right of these, in the same group.
    """

    nodes: Mapping[str, Node]
    beside: Mapping[str, Node] = field(default_factory=dict)
    title: str = ""


@dataclass(frozen=True, kw_only=True)
class Workflow:
    """An example. columns: from left to right, each with stages one below the other.

    purpose: a sentence. how: settings to choose or change; Markdown. thumbnail: labels of input and output.
    """

    name: str
    model: str
    purpose: str
    how: str
    columns: tuple[tuple[Stage, ...], ...]
    thumbnail: tuple[tuple[str, ...], tuple[str, ...]]

    @property
    def nodes(self) -> dict[str, Node]:
        """All nodes by name, in the order of their numbers, from 1."""
        stages = (stage for column in self.columns for stage in column)
        parts = (part for stage in stages for part in (stage.nodes, stage.beside))
        return {name: node for part in parts for name, node in part.items()}


def loader(model: str) -> Stage:
    """The model loader, with which every workflow begins."""
    return Stage(title="1 Model", nodes={"model": Node(kind="AudioXLoadModel", values={"model": model})})


def load_video(file: str = "video.mp4", title: str = "2 Your video") -> Stage:
    """A video from ComfyUI's input folder."""
    return Stage(title=title, nodes={"video": Node(kind="LoadVideo", values={"file": file})})


def load_audio(file: str, title: str) -> Stage:
    """A sound from ComfyUI's input folder."""
    return Stage(title=title, nodes={"sound": Node(kind="LoadAudio", values={"audio": file})})


def extractor(title: str = "3 What the model sees", **links: str) -> Stage:
    """The feature extractor for the video, or for the sources in `links`."""
    links = {"video": "video"} | links if "images" not in links else links
    node = Node(kind="AudioXExtractFeatures", links={**links, "model": "model"})
    return Stage(title=title, nodes={"features": node})


def sampler(prompt: str, title: str, links: Mapping[str, str] | None = None, **values: object) -> Stage:
    """The sampler, which runs the model."""
    node = Node(
        kind="AudioXSample",
        values={"prompt": prompt, "seed": 42, **values},
        links={"model": "model", **(links or {})},
    )
    return Stage(title=title, nodes={"sampler": node})


FOLLOWS_VIDEO = {"features": "features", "duration": "features.duration"}


def save_audio(prefix: str, sound: str = "sampler") -> Node:
    """A sound file in the output folder."""
    return Node(
        kind="SaveAudio", values={"filename_prefix": f"audio/AudioX_{prefix}"}, links={"audio": sound}
    )


def put_on_video(prefix: str, sound: str = "sampler", video: str = "video") -> Node:
    """Save the video with its new sound in the output folder; the frames stay unchanged."""
    return Node(
        kind="AudioXVideoSound",
        values={"filename_prefix": f"video/AudioX_{prefix}"},
        links={"video": video, "audio": sound},
    )


def view(sound: str = "sampler", **links: str) -> Node:
    """A picture of a sound, with frames of a video if `links` has one."""
    return Node(kind="AudioXView", links={"audio": sound, **links})


def loudness(sound: str = "sampler", target: float = -16.0, title: str = "") -> Node:
    """Bring a sound to a loudness in LUFS."""
    return Node(kind="AudioXLoudness", values={"target": target}, links={"audio": sound}, title=title)
