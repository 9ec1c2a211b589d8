"""The note on the canvas of every example."""

from __future__ import annotations

from audiox_ext.checkpoints.catalog import DEFAULT_MODEL

from .parts import Workflow

_NOTE = """{purpose}

**1. The model.** This workflow uses **{model}**. Choose it in *AudioX Model Loader*: it is fetched on the
first run, or fetch the files yourself from
[huggingface.co/HKUSTAudio/{model}](https://huggingface.co/HKUSTAudio/{model}) and put them into

`ComfyUI/models/audiox/{model}/`

The text encoder, T5, is fetched on its own, or put the files of
[huggingface.co/google-t5/t5-base](https://huggingface.co/google-t5/t5-base) (config.json,
model.safetensors, tokenizer.json) into

`ComfyUI/models/text_encoders/t5-base/`

**2. The licence.** The weights are CC-BY-NC 4.0: no commercial use. If that suits you, switch
**accept_cc_by_nc** on in the loader; until then nothing is fetched or loaded.

{how}

**Another sound.** The *seed* is *fixed*, so that the same settings give the same sound. For another one
set another *seed*, or *control after generate* to *randomize*."""


_BUNDLED_NOTE = """{purpose}

**1. The model.** This workflow uses **{model}**, which is part of this pack: nothing is fetched, and its
licence is MIT, so leave *accept_cc_by_nc* off.

**2. What it knows.** It is small and was trained on synthesised sounds alone: tones, beeps, bells, chords,
melodies, drums, clicks, knocks, clocks, footsteps, birds, wind, rain, surf, noise, engines and sirens. Say
high or low, loud or quiet, fast or slow, rising or falling, left or right, once to four times. For
anything else take a published model.

{how}

**Another sound.** The *seed* is *fixed*, so that the same settings give the same sound. For another one
set another *seed*, or *control after generate* to *randomize*."""


def note_of(workflow: Workflow) -> str:
    """Purpose, model, licence, and what to set; Markdown."""
    note = _BUNDLED_NOTE if workflow.model == DEFAULT_MODEL else _NOTE
    text = note.format(purpose=workflow.purpose, model=workflow.model, how=workflow.how)
    # A paragraph may be wrapped in the source; on the canvas it is one line, which the note wraps itself.
    return "\n\n".join(paragraph.replace("\n", " ") for paragraph in text.split("\n\n"))


def note_height(text: str, characters: int = 60) -> int:
    """Pixels for a note of the usual width: room for a larger font than the frontend's default of 10."""
    paragraphs = text.split("\n\n")
    lines = sum(-(-len(paragraph) // characters) for paragraph in paragraphs)
    return 50 + 14 * lines + 10 * len(paragraphs)
