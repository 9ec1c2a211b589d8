"""The command line: options, paths and names that cannot be used."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from bad_case import Case, Exit, Place, run_command

# In the words, {own} is the case's folder, {samples} that of good files.
MAKE = "generate --prompt rain --steps 1 --seconds 1 --device cpu --offline"
SOUND = "{samples}/good.wav"
COMMANDS: dict[str, tuple[str, str]] = {
    "no command": ("", r"usage"),
    "an unknown command": ("fly", r"fly"),
    "no output": ("generate --prompt rain", r"--output"),
    "an unknown option": (f"{MAKE} --speed 5 -o x.wav", r"--speed"),
    "steps that are a text": ("generate --steps many -o x.wav", r"--steps"),
    "seconds NaN": (f"{MAKE} --seconds nan -o x.wav", r"(?i)seconds|duration|nan"),
    "seconds 1e308": (f"{MAKE} --seconds 1e308 -o x.wav", r"1e\+308"),
    "steps below 0": (f"{MAKE} --steps -5 -o x.wav", r"steps"),
    "steps of 30 digits": (f"{MAKE} --steps {'9' * 30} -o x.wav", r"steps"),
    "steps of 400 digits": (f"{MAKE} --steps {'9' * 400} -o x.wav", r"steps"),
    "a seed of 2^64": (f"{MAKE} --seed {2**64} -o x.wav", r"seed"),
    "a batch of 10^9": (f"{MAKE} --batch 1000000000 -o x.wav", r"(?i)batch|space|memory|GB"),
    "an unknown sampler": (f"{MAKE} --sampler magic -o x.wav", r"magic"),
    "an unknown precision": (f"{MAKE} --precision fp4 -o x.wav", r"fp4"),
    "an unknown device": (f"{MAKE} --device warp -o x.wav", r"warp"),
    "another suffix": (f"{MAKE} -o x.exe", r"x\.exe"),
    "no suffix": (f"{MAKE} -o x", r"must end"),
    "no folder for the output": (f"{MAKE} -o no/such/x.wav", r"no/such"),
    "an output that is a folder": (f"{MAKE} -o {{own}}/folder.wav", r"folder\.wav"),
    "a file in place of a folder": (f"{MAKE} -o {{own}}/file/x.wav", r"file"),
    "an output of 300 letters": (f"{MAKE} -o {'x' * 300}.wav", r"(?i)shorter name|too long"),
    "an output with a NUL": (f"{MAKE} -o a\0b.wav", r"(?i)name"),
    "an output that is a device": (f"{MAKE} -o /dev/null/x.wav", r"/dev/null"),
    "an output linked to itself": (f"{MAKE} -o {{own}}/loop.wav", r"(?i)link"),
    "an output that is a pipe": (f"{MAKE} -o {{own}}/pipe.wav", r"(?i)pipe\.wav"),
    "no such model": (f"{MAKE} --model no-such-model -o x.wav", r"no-such-model"),
    "a model by a path upwards": (f"{MAKE} --model ../../etc -o x.wav", r"\.\./\.\./etc"),
    "a model with a NUL": (f"{MAKE} --model a\0b -o x.wav", r"(?i)name|model"),
    "a model of 1000 letters": (f"{MAKE} --model {'x' * 1000} -o x.wav", r"(?i)name|model"),
    "a model with a lone surrogate": (f"{MAKE} --model caf\udce9 -o x.wav", r"caf\\udce9"),
    "an empty model": (f"{MAKE} --model= -o x.wav", r"(?i)model|name"),
    "an address as a model": (f"{MAKE} --model https://127.0.0.1/x -o x.wav", r"127\.0\.0\.1"),
    "a LoRA that is missing": (f"{MAKE} --lora no.safetensors -o x.wav", r"no\.safetensors"),
    "a LoRA's strength NaN": (
        f"{MAKE} --lora {{samples}}/lora.safetensors:nan -o x.wav",
        r"(?i)strength.*nan",
    ),
    "a LoRA's strength 1e999": (
        f"{MAKE} --lora {{samples}}/lora.safetensors:1e999 -o x.wav",
        r"(?i)strength.*inf",
    ),
    "a LoRA's strength of text": (f"{MAKE} --lora {{samples}}/lora.safetensors:much -o x.wav", r"much"),
    "no such sound": (f"{MAKE} --audio-prompt no.wav -o x.wav", r"no\.wav"),
    "a sound that is text": (f"{MAKE} --audio-prompt {{own}}/text.wav -o x.wav", r"text\.wav"),
    "no such video": (f"{MAKE} --video no.mp4 -o x.wav", r"no\.mp4"),
    "a video with a lone surrogate": (f"{MAKE} --video caf\udce9.mp4 -o x.wav", r"caf\\udce9"),
    "features that are text": (f"{MAKE} --features {{own}}/text.wav -o x.wav", r"text\.wav"),
    "a film without a video": (f"{MAKE} -o x.mp4", r"(?i)video"),
    "a start after the video": (f"{MAKE} --video {{samples}}/good.mp4 --start 99 -o x.wav", r"99"),
    "a start of NaN": (f"{MAKE} --video {{samples}}/good.mp4 --start nan -o x.wav", r"nan"),
    "a duration of -1": (f"{MAKE} --video {{samples}}/good.mp4 --duration -1 -o x.wav", r"-1"),
    "pictures of NaN seconds": (
        f"{MAKE} --video {{samples}}/good.png --seconds-per-image nan -o x.wav",
        r"nan",
    ),
    "a mask of strength 2": (
        f"{MAKE} --video {{samples}}/good.mp4 --mask {{samples}}/good.png --mask-strength 2 -o x.wav",
        r"2",
    ),
    "a region without times": (f"edit {SOUND} --region x -o x.wav", r"'x'"),
    "a region of three times": (f"edit {SOUND} --region 0-1-2 -o x.wav", r"0-1-2"),
    "a region of NaN": (f"edit {SOUND} --region nan-1 -o x.wav", r"nan"),
    "a region outside": (f"edit {SOUND} --region 5-6 -o x.wav", r"inside"),
    "a region of 10^5 digits": (f"edit {SOUND} --region {'9' * 10**5} -o x.wav", r"(?i)--region|region"),
    "an extension of 0": (f"extend {SOUND} --seconds 0 -o x.wav", r"(?i)extended by 0"),
    "an extension of NaN": (f"extend {SOUND} --seconds nan -o x.wav", r"nan"),
    "an unknown side": (f"extend {SOUND} --seconds 1 --side left -o x.wav", r"left"),
    "a picture of 10^9 pixels": (f"view {SOUND} --width 1000000000 -o x.png", r"(?i)width|1000000000|pixels"),
    "a picture of 0 pixels": (f"view {SOUND} --height 0 -o x.png", r"(?i)height|0|pixels"),
    "a picture from NaN": (f"view {SOUND} --start nan -o x.png", r"nan"),
    "a picture of -1 s": (f"view {SOUND} --duration -1 -o x.png", r"-1"),
    "a loudness of NaN": (f"level {SOUND} --loudness nan -o x.wav", r"nan"),
    "a peak of 1e308": (f"level {SOUND} --peak 1e308 -o x.wav", r"1e\+308|peak"),
    "a ceiling of infinity": (f"level {SOUND} --loudness -16 --ceiling inf -o x.wav", r"(?i)inf"),
    "a peak and a loudness": (f"level {SOUND} --peak -1 --loudness -16 -o x.wav", r"not allowed"),
    "a model to inspect that is missing": ("inspect no-such-model", r"no-such-model"),
    "a picture to inspect": ("inspect {samples}/good.png", r"good\.png"),
    "a LoRA to inspect that is empty": ("inspect {own}/empty.safetensors", r"empty\.safetensors"),
    "a model converted into a file": ("convert {samples}/model -o {own}/file", r"file"),
    "a model converted onto itself": (
        "convert {samples}/model --force -o {samples}/model",
        r"(?i)itself|same|another folder",
    ),
    "features to another suffix": ("extract --video {samples}/good.mp4 -o x.pt", r"x\.pt"),
    "Synchformer that is text": (
        "extract --video {samples}/good.mp4 --synchformer {own}/text.wav -o x.safetensors",
        r"text\.wav",
    ),
    "training without sounds": (
        "train lora {samples}/model {own}/no --output {own}/out --device cpu",
        r"(?i)no folder",
    ),
    "training of 0 steps": (
        "train lora {samples}/model {own} --output {own}/out --steps 0 --device cpu",
        r"steps",
    ),
    "training at a rate of NaN": (
        "train lora {samples}/model {own} --output {own}/out --learning-rate nan --device cpu",
        r"learning.rate",
    ),
    "training of rank 0": (
        "train lora {samples}/model {own} --output {own}/out --rank 0 --device cpu",
        r"rank",
    ),
    "training into a file": (
        "train lora {samples}/model {own}/sounds --output {own}/file --device cpu",
        r"file",
    ),
    "training of targets that do not exist": (
        "train lora {samples}/model {own}/sounds --output {own}/out --targets ( --device cpu",
        r"(?i)target|\(",
    ),
}


def _prepare(place: Place, text: str) -> list[str]:
    """Make what the commands name, and split the words."""
    import os

    place.write("file", b"x")
    place.write("text.wav", b"words " * 50)
    place.write("empty.safetensors", b"")
    place.write("sounds/rain.wav", place.sample("good.wav"))
    (place.own / "folder.wav").mkdir()
    (place.own / "loop.wav").symlink_to(place.own / "loop.wav")
    os.mkfifo(place.own / "pipe.wav")
    return [word.format(own=place.own, samples=place.samples) for word in text.split(" ") if word]


def _run(words: list[str]) -> Exit:
    result = run_command(words)
    # The commands must not have left an output.
    assert result.status == 0 or not any(Path(name).is_file() for name in ("x.wav", "x.mp4", "x.png"))
    return result


def list_cases() -> list[Case]:
    """All cases of this module."""
    return [
        replace(Case(name, lambda p, text=text: _prepare(p, text), _run, pattern), kind=_kind(text))
        for name, (text, pattern) in COMMANDS.items()
    ]


def _kind(text: str) -> str:
    """The name of the group: the command."""
    command = text.split(" ")[0]
    return (
        f"command {command}"
        if command not in ("", "fly", "convert", "extract", "inspect")
        else "other commands"
    )
