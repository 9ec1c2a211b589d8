"""The examples that begin with a prompt or a video; from_sound.py has those that begin with a sound."""

from __future__ import annotations

from .parts import (
    FOLLOWS_VIDEO,
    Node,
    Stage,
    Workflow,
    extractor,
    load_video,
    loader,
    loudness,
    put_on_video,
    sampler,
    save_audio,
    view,
)

_QUEUE = "**3. Queue.** 0 and *default* in the sampler mean the model's own settings."
_STEPS = "AudioX-Turbo needs 4 steps and is the quickest; AudioX-MAF takes 250."
_STRIP = """*AudioX View* does not know the extractor's *start*: its pictures begin with those of the
video's beginning."""
_VIDEO = f"""**3. Your video.** Choose it in *Load Video*, then queue. *AudioX Put Sound on Video* copies
the pictures as they are, so that nothing is lost, and its *mix* keeps the video's own sound beside the
new one. The sound alone is saved as well.

For a part of the video set *start* and *duration* in the extractor, and the same *start* in *Put Sound on
Video*. {_STRIP} Videos of more than 10 s are made through overlapping windows, up to 10 minutes."""


def _scored_video(name: str, purpose: str, how: str, prompt: str, wish: str, sound: str) -> Workflow:
    """Add sound to a video. In the thumbnail, `wish` is a further input and `sound` the output."""
    saved = {"save": save_audio(name), "film": put_on_video(name)}
    return Workflow(
        name=name,
        model="AudioX-MAF",
        purpose=purpose,
        how=f"{_VIDEO}\n\n{how}",
        columns=(
            (loader("AudioX-MAF"), load_video()),
            (extractor(),),
            (sampler(prompt, f"4 {sound.capitalize()}", FOLLOWS_VIDEO),),
            (Stage(title="5 Save and see", nodes=saved, beside={"view": view(video="video")}),),
        ),
        thumbnail=(("video", wish) if wish else ("video",), ("video", sound)),
    )


_TEXT_TO_AUDIO = Workflow(
    name="text_to_audio",
    model="AudioX-Turbo",
    purpose="Makes a sound from a line of text.",
    how=f"{_QUEUE} {_STEPS}",
    columns=(
        (Stage(nodes=loader("AudioX-Turbo").nodes),),
        (Stage(nodes=sampler("Rain on a tin roof, distant thunder", "").nodes),),
        (
            Stage(
                nodes={
                    "save": Node(
                        kind="SaveAudio",
                        values={"filename_prefix": "audio/AudioX"},
                        links={"audio": "sampler"},
                    )
                }
            ),
        ),
    ),
    thumbnail=(("text",), ("sound",)),
)

_TEXT_TO_MUSIC = Workflow(
    name="text_to_music",
    model="AudioX-Turbo",
    purpose="Makes music from a line of text, brings it to a loudness, and draws it.",
    how=f"""{_QUEUE} {_STEPS}

Say style, instruments, mood and tempo in the prompt. For more than 11 s set *duration*.

*AudioX Loudness* brings it to -16 LUFS, as is usual online; its peak stays below -1 dBFS.""",
    columns=(
        (loader("AudioX-Turbo"),),
        (
            sampler(
                "Mellow lo-fi hip hop with electric piano, soft drums and a round bass, 80 bpm", "2 Music"
            ),
        ),
        (
            Stage(
                title="3 Level, save and see",
                nodes={"level": loudness()},
                beside={"save": save_audio("text_to_music", "level"), "view": view("level")},
            ),
        ),
    ),
    thumbnail=(("text",), ("music",)),
)

_LONG_VIDEO = Workflow(
    name="long_video",
    model="AudioX-Turbo",
    purpose="Makes sound for a long video, up to 10 minutes in one run.",
    how=f"""**3. Your video.** Choose it in *Load Video*, then queue. Only the frames that the model needs
are decoded, and *AudioX Put Sound on Video* copies the pictures as they are: a long video needs hardly
more memory than a short one, about 5 MB a second.

The sound is made through windows of 11 s that overlap and are denoised together, so that there are no
seams. A larger *window_overlap* in the sampler: smoother and slower. When memory runs out, the sampler
goes on with fewer windows at once; *window_batch* 1 begins so.

Several lines in the prompt such as `0-20 a quiet street` and `20-60 a busy market` change what is heard
with time; the last has to reach the end of the video, or be written as `20-end`.

{_STRIP}""",
    columns=(
        (loader("AudioX-Turbo"), load_video("long_video.mp4")),
        (extractor(),),
        (sampler("Generate general audio for the video", "4 Sound", FOLLOWS_VIDEO),),
        (
            Stage(
                title="5 Level",
                nodes={"level": loudness()},
            ),
        ),
        (
            Stage(
                title="6 Save and see",
                nodes={"film": put_on_video("long_video", "level")},
                beside={"view": view("level", video="video")},
            ),
        ),
    ),
    thumbnail=(("video", "video", "video"), ("video", "sound")),
)

_OBJECT_MASK = Workflow(
    name="object_mask",
    model="AudioX-MAF",
    purpose="Makes the sound of one object in a video: a mask shows the model where it is.",
    how=f"""**3. Your video and the mask.** Choose the video in *Load Video* and in *Load Image (as Mask)*
a picture of the same proportions, white where the object is and black elsewhere; the channel *red* reads
it. What is black turns grey before the model sees it.

One picture serves the whole video. For an object that moves, connect a segmentation node in its place,
with as many masks as the video has frames. Or use *Load Image* with a frame of the video: open it in the
mask editor and paint over the object.

**4. How much.** *mask_strength* below 1 lets the surroundings through. With *mask_clip* off the model
sees the whole scene, and only the timing follows the object; with *mask_sync* off it is the other way
round.

{_STRIP}""",
    columns=(
        (
            loader("AudioX-MAF"),
            Stage(
                title="2 Your video and the mask",
                nodes={
                    "video": Node(kind="LoadVideo", values={"file": "video.mp4"}),
                    "mask": Node(kind="LoadImageMask", values={"image": "mask.png", "channel": "red"}),
                },
            ),
        ),
        (extractor("3 What the model sees", mask="mask"),),
        (sampler("Generate general audio for the video", "4 Sound of the object", FOLLOWS_VIDEO),),
        (
            Stage(
                title="5 Save and see",
                nodes={"save": save_audio("object_mask"), "film": put_on_video("object_mask")},
                beside={"view": view(video="video")},
            ),
        ),
    ),
    thumbnail=(("video", "mask"), ("video", "sound")),
)

_PICTURES = {
    f"picture{number}": Node(kind="LoadImage", values={"image": f"picture_{number}.png"})
    for number in (1, 2, 3)
}
_SLIDESHOW = Workflow(
    name="slideshow",
    model="AudioX-MAF",
    purpose="Makes music for pictures, and a video of them with that music.",
    how="""**3. Your pictures.** Choose them in the three *Load Image* nodes. For more add *Load Image*
and *Batch Images*; pictures take the size of the first. **seconds_per_image** in the extractor says how
long each is shown.

The extractor gives the length of the music to the sampler, and the frame rate of the slideshow to *Create
Video*. *AudioX Put Sound on Video* writes the file.""",
    columns=(
        (loader("AudioX-MAF"),),
        (
            Stage(
                title="2 Your pictures",
                nodes=_PICTURES,
                beside={
                    "two": Node(kind="ImageBatch", links={"image1": "picture1", "image2": "picture2"}),
                },
            ),
        ),
        (
            Stage(
                title="3 Slideshow",
                nodes={
                    "three": Node(kind="ImageBatch", links={"image1": "two", "image2": "picture3"}),
                },
                beside={
                    "features": Node(
                        kind="AudioXExtractFeatures",
                        values={"seconds_per_image": 5.0},
                        links={"images": "three", "model": "model"},
                    ),
                },
            ),
        ),
        (sampler("Generate music for the video", "4 Music", FOLLOWS_VIDEO),),
        (
            Stage(
                title="5 Level and save",
                nodes={
                    "level": loudness(),
                    "slides": Node(kind="CreateVideo", links={"images": "three", "fps": "features.fps"}),
                },
                beside={"film": put_on_video("slideshow", "level", "slides")},
            ),
        ),
    ),
    thumbnail=(("picture", "picture", "picture"), ("video", "music")),
)

_SELVA_AND_AUDIOX = Workflow(
    name="selva_and_audiox",
    model="AudioX-MAF",
    purpose="Two models score one video: SelVA makes the effects, AudioX the music.",
    how=f"""**3. SelVA.** Its nodes come from the pack *ComfyUI-Prismaudio*; without it they are red. It
fetches its weights on its own; they go into `ComfyUI/models/selva/`, and AudioX finds Synchformer there.
SelVA is MIT; the result holds music of AudioX, so it may not be used commercially.

**4. Your video.** Choose it in *Load Video*: at most 30 s, and of a moderate size, since *Get Video
Components* holds all its frames in memory for SelVA.

**5. The mix.** Say in SelVA's extractor what should be heard. The two *AudioX Loudness* nodes set the
balance: effects at -18 LUFS, music at -24 LUFS under them. Raise the one you want to hear more of.

{_STRIP}""",
    columns=(
        (
            loader("AudioX-MAF"),
            Stage(
                title="2 Your video",
                nodes={"video": Node(kind="LoadVideo", values={"file": "video.mp4"})},
                beside={"parts": Node(kind="GetVideoComponents", links={"video": "video"})},
            ),
            Stage(
                title="3 SelVA's model",
                nodes={"selva": Node(kind="SelvaModelLoader", values={"variant": "large_44k"})},
            ),
        ),
        (
            Stage(
                title="4 What the models see",
                nodes={
                    "features": Node(
                        kind="AudioXExtractFeatures", links={"video": "video", "model": "model"}
                    ),
                    "selva_features": Node(
                        kind="SelvaFeatureExtractor",
                        values={"prompt": "footsteps on gravel, wind in the trees"},
                        links={"model": "selva", "video": "parts.images", "fps": "parts.fps"},
                    ),
                },
            ),
        ),
        (
            sampler("Generate music for the video", "5 Music by AudioX", FOLLOWS_VIDEO),
            Stage(
                title="6 Effects by SelVA",
                nodes={
                    "effects": Node(
                        kind="SelvaSampler",
                        values={"negative_prompt": "music, speech", "seed": 42},
                        links={
                            "model": "selva",
                            "features": "selva_features",
                            "prompt": "selva_features.prompt",
                        },
                    )
                },
            ),
        ),
        (
            Stage(
                title="7 Mix",
                nodes={
                    "music_level": loudness("sampler", -24.0, "AudioX Loudness: music"),
                    "effects_level": loudness("effects", -18.0, "AudioX Loudness: effects"),
                },
                beside={
                    "mix": Node(
                        kind="AudioMerge",
                        values={"merge_method": "add"},
                        links={"audio1": "effects_level", "audio2": "music_level"},
                    ),
                },
            ),
        ),
        (
            Stage(
                title="8 Save and see",
                nodes={"film": put_on_video("selva_and_audiox", "mix")},
                beside={"view": view("mix", video="video")},
            ),
        ),
    ),
    thumbnail=(("video", "text"), ("video", "sound", "music")),
)

_OWN_WORDS = (
    "**4. Your words.** The prompt says what is heard, the video when: name what is seen, and what is not."
)
FROM_TEXT_AND_VIDEO = (
    _TEXT_TO_AUDIO,
    _TEXT_TO_MUSIC,
    _scored_video(
        "video_to_audio",
        "Makes the sound of a video.",
        "**4. The prompt** is the one that the model knows from training. For words of your own see "
        "text_and_video_to_audio.",
        "Generate general audio for the video",
        "",
        "sound",
    ),
    _scored_video(
        "video_to_music",
        "Makes music for a video.",
        "**4. The prompt** is the one that the model knows from training. For words of your own see "
        "text_and_video_to_music.",
        "Generate music for the video",
        "",
        "music",
    ),
    _scored_video(
        "text_and_video_to_audio",
        "Makes the sound of a video as you describe it.",
        _OWN_WORDS,
        "Footsteps on gravel, birds, a light wind",
        "text",
        "sound",
    ),
    _scored_video(
        "text_and_video_to_music",
        "Makes music for a video in the style you describe.",
        "**4. Your words.** The prompt says style, instruments and mood; the video what they are to fit.",
        "Slow, hopeful film music with piano and strings",
        "text",
        "music",
    ),
    _LONG_VIDEO,
    _OBJECT_MASK,
    _SLIDESHOW,
    _SELVA_AND_AUDIOX,
)
