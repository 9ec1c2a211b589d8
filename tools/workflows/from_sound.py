"""The examples that begin with a sound, and the timeline."""

from __future__ import annotations

from .parts import Node, Stage, Workflow, load_audio, loader, sampler, save_audio, view


def _save(name: str, title: str) -> Stage:
    return Stage(title=title, nodes={"save": save_audio(name), "view": view()})


_TIMELINE = Workflow(
    name="timeline",
    model="AudioX-Turbo",
    purpose="Makes a sound that changes with time: one line of the prompt for each span.",
    how="""**3. The timeline.** Write one line for each span of time:

`0-6 birds in a forest, early morning`

Times are seconds, or minutes and seconds (`1:30`). The spans follow each other without gaps and are
blended over half a second. The last one may end with `end`; *duration* then says how long the sound is.
With *duration* 0 the last time is the length; up to 10 minutes.

With a video it works in the same way: connect *features* of the extractor as in video_to_audio.""",
    columns=(
        (loader("AudioX-Turbo"),),
        (
            sampler(
                "0-6 birds in a forest, early morning\n"
                "6-13 rain begins, drops on leaves\n"
                "13-20 heavy rain, thunder",
                "2 Timeline",
            ),
        ),
        (_save("timeline", "3 Save and see"),),
    ),
    thumbnail=(("timeline",), ("sound",)),
)

_AUDIO_PROMPT = Workflow(
    name="audio_prompt",
    model="AudioX-MAF",
    purpose="Makes a new sound after the example of another one, and of your words.",
    how="""**3. Your sound.** Choose it in *Load Audio*: any rate, mono to 5.1. The model hears 10 s of
it, or, when the new sound is longer, the part for each span of time.

**4. How close.** *audio_prompt_masking* in the sampler: *as trained*, the model hears a random part of
it, and another *seed* another part; *full prompt*, it hears all of it and keeps closer to it.

To change the sound itself see variation; to carry it on see continuation.""",
    columns=(
        (loader("AudioX-MAF"), load_audio("sound.wav", "2 Your sound")),
        (sampler("A calm piece for piano and strings", "3 New sound", {"audio_prompt": "sound"}),),
        (_save("audio_prompt", "4 Save and see"),),
    ),
    thumbnail=(("sound", "text"), ("music",)),
)

_VARIATIONS = 4


def _choice(index: int, title: str = "") -> Node:
    return Node(
        kind="AudioXChooseVariation", values={"index": index}, links={"audio": "sampler"}, title=title
    )


def _preview(index: int) -> Stage:
    """One variation with a player: Preview Audio plays only the first sound of a batch."""
    name = f"variation{index}"
    return Stage(
        title=f"4 Listen: index {index}",
        nodes={name: _choice(index)},
        beside={f"player{index}": Node(kind="PreviewAudio", links={"audio": name})},
    )


_VARIATION = Workflow(
    name="variation",
    model="AudioX-MAF",
    purpose="Makes four variations of a sound, to choose one of them.",
    how="""**3. Your sound.** Choose it in *Load Audio* and describe it in the prompt, with what should be
different. With *duration* 0 the variations are as long.

**4. How far.** **init_strength** in the sampler: towards 0 the sound stays as it is, 1 leaves nothing of
it.

**5. Listen.** Run it: each of the four has a player of its own, and *AudioX View* draws all of them.
*Preview Audio* alone would play the first one of the batch.

**6. Which one.** Set *index* in the last *AudioX Choose Variation* to the one you like and run again: it is
saved without making anything anew, as long as the *seed* stays. So leave *control after generate* at
*fixed*; with *randomize* the number would be that of another sound.""",
    columns=(
        (loader("AudioX-MAF"), load_audio("sound.wav", "2 Your sound")),
        (
            sampler(
                "A dog barks in a large, empty hall",
                "3 Variations",
                {"init_audio": "sound"},
                batch=_VARIATIONS,
                init_strength=0.6,
            ),
        ),
        tuple(_preview(index) for index in range(_VARIATIONS)),
        (
            Stage(
                title="5 See, choose and save",
                nodes={
                    "view": view(),
                    "choice": _choice(0, "AudioX Choose Variation: the one to save"),
                    "save": save_audio("variation", "choice"),
                },
            ),
        ),
    ),
    thumbnail=(("sound", "text"), ("sound", "sound", "sound")),
)

_INPAINTING = Workflow(
    name="inpainting",
    model="AudioX-MAF",
    purpose="Makes two parts of a track anew. The rest of it comes back bit for bit.",
    how="""**3. Your track.** Choose it in *Load Audio*: any rate and length, mono or stereo.

**4. The regions.** *start* and *end* are seconds of the track; *feather* is the crossfade at either end,
inside the region. *strength* below 1 keeps more of what is there. For more regions add further *AudioX
Edit Region* nodes, each one's *edit* connected to the one before; for a single one take the second away.

**5. The prompt** says what should be heard in the regions. The result is as long as the track, so
*duration* stays 0.""",
    columns=(
        (loader("AudioX-MAF"), load_audio("track.wav", "2 Your track")),
        (
            Stage(
                title="3 What is made anew",
                nodes={
                    "first": Node(
                        kind="AudioXEditRegion",
                        values={"start": 1.5, "end": 3.0},
                        links={"audio": "sound"},
                        title="AudioX Edit Region: first",
                    ),
                },
                beside={
                    "second": Node(
                        kind="AudioXEditRegion",
                        values={"start": 5.0, "end": 6.5},
                        links={"edit": "first"},
                        title="AudioX Edit Region: second",
                    ),
                },
            ),
        ),
        (sampler("A short drum fill", "4 New sound", {"edit": "second"}),),
        (_save("inpainting", "5 Save and see"),),
    ),
    thumbnail=(("holes", "text"), ("filled",)),
)

_CONTINUATION = Workflow(
    name="continuation",
    model="AudioX-MAF",
    purpose="Carries a track on for 10 s, or makes what leads up to it.",
    how="""**3. Your track.** Choose it in *Load Audio*: any rate and length, mono or stereo. It stays as
it is, but for a crossfade of 0.1 s at the joint.

**4. How long.** *seconds* in *AudioX Extend*, up to 600. *side* before makes what leads up to the track.

**5. The prompt** says what goes on; describe the track. The result is the track with what was added, so
*duration* stays 0.""",
    columns=(
        (loader("AudioX-MAF"), load_audio("track.wav", "2 Your track")),
        (
            Stage(
                title="3 How it goes on",
                nodes={
                    "extension": Node(kind="AudioXExtend", values={"seconds": 10.0}, links={"audio": "sound"})
                },
            ),
        ),
        (sampler("A calm piece for piano and strings", "4 New sound", {"edit": "extension"}),),
        (_save("continuation", "5 Save and see"),),
    ),
    thumbnail=(("part", "text"), ("longer",)),
)

FROM_SOUND = (_TIMELINE, _AUDIO_PROMPT, _VARIATION, _INPAINTING, _CONTINUATION)
