"""Requests: settings, prompts, timelines, regions, sounds and features that cannot be used."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from bad_case import Case

NAN, INFINITE, HUGE = float("nan"), float("inf"), 10**30
SETTINGS: dict[str, tuple[Any, ...]] = {
    "duration": (-1.0, NAN, 0.001, 1e308, "10", True),
    "steps": (0, -1, 1.5, 10**12, HUGE, "50"),
    "cfg": (-1.0, NAN, INFINITE, "7"),
    "sampler": ("euler_x", "", 5, "dpmpp-2m\0"),
    "schedule": ("karras2", 1.0),
    "preset": ("best", "\ud800"),
    "sigma_min": (0.0, -1.0, NAN, "1"),
    "sigma_max": (0.0, INFINITE),
    "rho": (0.0, NAN),
    "seed": (-1, 2**64, 1.5, "0"),
    "batch": (0, -1, 10**12, 1.5),
    "init_strength": (0.0, 2.0, NAN),
    "window_overlap": (-1.0, NAN, INFINITE),
    "window_batch": (0, 1.5),
    "guidance_start": (-0.1, 1.0, NAN),
    "guidance_end": (0.0, 1.1),
    "guidance_rescale": (-0.1, 1.1),
    "reuse_threshold": (2.0, NAN),
}
REGIONS: dict[str, tuple[dict[str, Any], str]] = {
    "starts before 0": ({"start": -1.0, "end": 1.0}, r"-1"),
    "is reversed": ({"start": 2.0, "end": 1.0}, r"reversed|after"),
    "has no length": ({"start": 1.0, "end": 1.0}, r"zero length|after"),
    "is too short": ({"start": 1.0, "end": 1.001}, r"short"),
    "starts at NaN": ({"start": NAN, "end": 1.0}, r"(?i)start.*nan"),
    "ends at infinity": ({"start": 0.0, "end": INFINITE}, r"(?i)end.*inf"),
    "ends far after the track": ({"start": 0.0, "end": 1e308}, r"(?i)inside|long|1e\+308"),
    "starts after the track": ({"start": 50.0, "end": 60.0}, r"inside|60"),
    "has a negative feather": ({"start": 0.0, "end": 1.0, "feather": -0.1}, r"feather"),
    "has a feather of NaN": ({"start": 0.0, "end": 1.0, "feather": NAN}, r"feather"),
    "has a feather of 1e308": ({"start": 0.0, "end": 1.0, "feather": 1e308}, r"feather"),
    "has strength 0": ({"start": 0.0, "end": 1.0, "strength": 0.0}, r"strength"),
    "has strength 2": ({"start": 0.0, "end": 1.0, "strength": 2.0}, r"strength"),
    "has strength NaN": ({"start": 0.0, "end": 1.0, "strength": NAN}, r"strength"),
    "has a start of text": ({"start": "0", "end": 1.0}, r"start"),
    "has no end": ({"start": 0.0, "end": None}, r"end"),
}
TIMELINES: dict[str, tuple[str, str]] = {
    "overlapping lines": ("0-4 rain\n3-6 wind", r"line 2"),
    "a gap": ("0-4 rain\n5-8 wind", r"line 2"),
    "reversed": ("0-4 rain\n8-4 wind", r"line 2"),
    "unsorted": ("4-8 rain\n0-4 wind", r"line"),
    "no prompt": ("0-4\n4-8 wind", r"line 1"),
    "no time": ("0-4 rain\nwind\n4-8 hail", r"line 2"),
    "an end in the middle": ("0-end rain\n4-8 wind", r"line"),
    "an hour of 61 minutes": ("0-1:61 rain\n1:61-3:00 wind", r"1:61|59"),
    "a day and more": ("0-99999999 rain\n99999999-end wind", r"99999999|86400"),
    "a number of 1000 digits": ("0-" + "9" * 1000 + " rain\n4-8 wind", r"(?i)line 1|latest"),
    "spans of a millisecond": ("0-0.001 rain\n0.001-0.002 wind", r"0\.1|long"),
    "1000 lines": ("\n".join(f"{i}-{i + 1} rain" for i in range(1000)), r"(?i)1000|200|lines"),
    "longer than the sound": ("0-4 rain\n4-50 wind", r"(?i)duration|past|line 2"),
    "shorter than the sound": ("0-1 rain\n1-2 wind", r"(?i)duration|line 2"),
    "a lone surrogate": ("0-4 rain\n3-6 wind \ud800", r"line 2"),
    "control characters": ("0-4 rain\x00\x07\n3-6 wind", r"line 2"),
    "a line of 1 MB": ("0-4 rain\n3-6 " + "a" * 10**6, r"line 2"),
    "1 MB of blanks in a line": ("0-4 rain\n3-6" + " " * 10**6 + "x", r"line 2"),
    "decimal commas": ("0-4,5 rain\n4,5-8 wind", r"line 1|4,5"),
    "infinity": ("0-4 rain\n4-infinity wind", r"line 2"),
}


def _run(**changes: Any) -> Any:
    """Make a sound of one step with the bundled model."""
    from good_files import load_pocket

    from audiox_ext import AudioRequest, GenerationSettings, make_audio

    names = set(GenerationSettings.__dataclass_fields__)
    settings = {"duration": 4.0, "steps": 1, **{k: v for k, v in changes.items() if k in names}}
    request = {"prompt": "rain", **{k: v for k, v in changes.items() if k not in names}}
    return make_audio(
        load_pocket(), AudioRequest(**request, settings=GenerationSettings(**settings)), device="cpu"
    )


def _settings() -> list[Case]:
    """Every setting with bad values."""
    return [
        Case(
            f"{name} = {value!r:.20}",
            lambda p, name=name, value=value: {name: value},
            lambda changes: _run(**changes),
            rf"(?i){name}",
        )
        for name, values in SETTINGS.items()
        for value in values
    ]


def _track(**changes: Any) -> Any:
    """Edit a track of 10 s."""
    import torch

    from audiox_ext import AudioEdit

    return AudioEdit(**{"waveform": torch.zeros(1, 2, 160_000), "rate": 16000, **changes})


def _edit(region: dict[str, Any]) -> Any:
    from audiox_ext import Region

    return _run(duration=None, edit=_track(regions=(Region(**region),)))


def _zeros(*shape: int, fill: float = 0.0, dtype: str = "float32") -> Any:
    import torch

    return torch.full(shape, fill, dtype=getattr(torch, dtype))


TRACKS: dict[str, tuple[Callable[[], dict[str, Any]], str]] = {
    "three channels": (lambda: {"waveform": _zeros(1, 3, 16000), "after": 1.0}, r"3 channels"),
    "no batch": (lambda: {"waveform": _zeros(2, 16000), "after": 1.0}, r"\(2, 16000\)"),
    "an empty batch": (lambda: {"waveform": _zeros(0, 2, 16000), "after": 1.0}, r"\(0, 2, 16000\)"),
    "no samples": (lambda: {"waveform": _zeros(1, 2, 0), "after": 1.0}, r"(?i)empty"),
    "not a tensor": (lambda: {"waveform": [0.0], "after": 1.0}, r"list"),
    "None": (lambda: {"waveform": None, "after": 1.0}, r"None"),
    "NaN": (lambda: {"waveform": _zeros(1, 2, 16000, fill=NAN), "after": 1.0}, r"NaN"),
    "integers": (lambda: {"waveform": _zeros(1, 2, 16000, dtype="int16"), "after": 1.0}, r"int16"),
    "complex": (lambda: {"waveform": _zeros(1, 2, 16000, dtype="complex64"), "after": 1.0}, r"complex"),
    "0 Hz": (lambda: {"rate": 0, "after": 1.0}, r"0 Hz"),
    "NaN Hz": (lambda: {"rate": NAN, "after": 1.0}, r"nan Hz"),
    "a rate of text": (lambda: {"rate": "16000", "after": 1.0}, r"(?i)rate"),
    "no rate": (lambda: {"rate": None, "after": 1.0}, r"(?i)rate"),
    "6144001 Hz": (lambda: {"rate": 6_144_001, "after": 1.0}, r"6144001 Hz.*6144000"),
    "10^30 Hz": (lambda: {"rate": HUGE, "after": 1.0}, r"(?i)rate|Hz"),
    "a negative extension": (lambda: {"after": -1.0}, r"after"),
    "an extension of NaN": (lambda: {"before": NAN}, r"before"),
    "an extension of 1e308": (lambda: {"after": 1e308}, r"(?i)1e\+308|600"),
    "an extension of text": (lambda: {"after": "1"}, r"after"),
    "nothing to do": (lambda: {}, r"(?i)nothing"),
}
OTHERS: dict[str, tuple[Callable[[], dict[str, Any]], str]] = {
    "no prompt at all": (lambda: {"prompt": ""}, r"(?i)empty"),
    "a prompt of blanks": (lambda: {"prompt": " \n\t" * 1000}, r"(?i)empty"),
    "a prompt that is a number": (lambda: {"prompt": 5}, r"(?i)prompt.*(int|text|5)"),
    "a prompt that is None": (lambda: {"prompt": None}, r"(?i)prompt"),
    "a prompt in bytes": (lambda: {"prompt": b"rain"}, r"(?i)prompt"),
    "a prompt in a list": (lambda: {"prompt": ["rain"]}, r"(?i)prompt"),
    "a negative prompt that is a timeline": (
        lambda: {"negative_prompt": "0-4 rain\n4-8 wind"},
        r"(?i)negative prompt",
    ),
    "a negative prompt that is None": (lambda: {"negative_prompt": None}, r"(?i)negative"),
    "reference audio of NaN": (
        lambda: {"audio_prompt": (_zeros(2, 16000, fill=NAN), 16000)},
        r"audio_prompt.*NaN",
    ),
    "reference audio of 9 channels": (
        lambda: {"audio_prompt": (_zeros(9, 16000), 16000)},
        r"audio_prompt.*9 channels",
    ),
    "reference audio of 0 Hz": (lambda: {"audio_prompt": (_zeros(2, 16000), 0)}, r"audio_prompt.*0 Hz"),
    "reference audio of 6144001 Hz": (
        lambda: {"audio_prompt": (_zeros(2, 16000), 6_144_001)},
        r"audio_prompt.*6144001 Hz",
    ),
    "reference audio without a rate": (lambda: {"audio_prompt": _zeros(2, 16000)}, r"(?i)audio_prompt"),
    "reference audio that is a text": (lambda: {"audio_prompt": "rain.wav"}, r"(?i)audio_prompt"),
    "a variation of nothing": (lambda: {"init_audio": (_zeros(2, 0), 16000)}, r"init_audio.*(?i:empty)"),
    "a variation of five axes": (
        lambda: {"init_audio": (_zeros(1, 1, 1, 2, 9), 16000)},
        r"init_audio.*\(1, 1, 1, 2, 9\)",
    ),
    "features that are a tensor": (lambda: {"features": _zeros(1, 4)}, r"(?i)features"),
    "features of NaN seconds": (lambda: {"features": _features(duration=NAN)}, r"(?i)features|duration|nan"),
    "features of other pictures": (
        lambda: {"features": _features(frames=_zeros(50, 3, 10, 10, dtype="uint8"))},
        r"(?i)features|frames|shape",
    ),
    "features with NaN for times": (
        lambda: {"features": _features(sync=_zeros(1, 240, 768, fill=NAN))},
        r"(?i)features|sync|nan|finite",
    ),
    "features of no frame": (
        lambda: {"features": _features(frames=_zeros(0, 3, 224, 224, dtype="uint8"))},
        r"(?i)features|frames|shape",
    ),
    "noise levels of NaN": (lambda: {"custom_sigmas": _zeros(5, fill=NAN)}, r"(?i)sigmas|noise level"),
    "noise levels that rise": (lambda: {"custom_sigmas": _zeros(5).cumsum(0) + 1}, r"(?i)sigmas|noise level"),
    "one noise level": (lambda: {"custom_sigmas": _zeros(1)}, r"(?i)sigmas|noise level"),
    "a variation and an edit": (
        lambda: {"init_audio": (_zeros(2, 16000), 16000), "edit": _track(after=1.0)},
        r"(?i)both",
    ),
    "an edit that is a text": (lambda: {"edit": "0-1"}, r"(?i)edit"),
    "guidance from its end to its start": (
        lambda: {"guidance_start": 0.8, "guidance_end": 0.2},
        r"guidance_start",
    ),
    "sigma_min above sigma_max": (lambda: {"sigma_min": 5.0, "sigma_max": 1.0}, r"sigma_min"),
    "windows that overlap by 1e308 s": (
        lambda: {"duration": 20.0, "window_overlap": 1e308},
        r"window_overlap",
    ),
    "an unknown device": (lambda: {"device": "tpu9"}, r"(?i)tpu9|device"),
}
# No rate in use has a ratio to another like these: they are converted nearly, by a filter of bounded size.
ODD_RATES: dict[str, Callable[[], dict[str, Any]]] = {
    "reference audio of 3000017 Hz": lambda: {"audio_prompt": (_zeros(2, 16000), 3_000_017)},
    "a variation of 999983 Hz": lambda: {"init_audio": (_zeros(2, 16000), 999_983)},
    "a track of 999983 Hz": lambda: {"duration": None, "edit": _track(rate=999_983, after=1.0)},
}


def _features(**changes: Any) -> Any:
    """Features of 10 s."""
    from audiox_ext import VideoFeatures

    good = {
        "frames": _zeros(50, 3, 224, 224, dtype="uint8"),
        "sync": _zeros(1, 240, 768),
        "duration": 10.0,
        "fps": 24.0,
    }
    return VideoFeatures(**{**good, **changes})


def _run_other(changes: dict[str, Any]) -> Any:
    if "device" not in changes:
        return _run(**changes)
    from audiox_ext.devices import resolve_device

    return resolve_device(changes["device"])


def list_cases() -> list[Case]:
    """All cases of this module."""
    groups = {
        "setting": _settings(),
        "timeline": [
            Case(name, lambda p, text=text: {"prompt": text}, lambda changes: _run(**changes), pattern)
            for name, (text, pattern) in TIMELINES.items()
        ],
        "region": [
            Case(name, lambda p, r=region: r, _edit, pattern) for name, (region, pattern) in REGIONS.items()
        ],
        "track": [
            Case(
                name,
                lambda p, make=make: make,
                lambda make: _run(duration=None, edit=_track(**make())),
                pattern,
            )
            for name, (make, pattern) in TRACKS.items()
        ],
        "request": [
            Case(name, lambda p, make=make: make, lambda make: _run_other(make()), pattern)
            for name, (make, pattern) in OTHERS.items()
        ],
        "odd rate": [
            Case(name, lambda p, make=make: make, lambda make: _run(**make()), r"Hz", may_work=True)
            for name, make in ODD_RATES.items()
        ],
    }
    return [replace(case, kind=kind) for kind, cases in groups.items() for case in cases]
