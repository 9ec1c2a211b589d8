"""Checks of edit regions, extensions and variations through the nodes."""

from __future__ import annotations

from typing import Any

from in_comfyui import SAMPLER, load, message, run, sample, sound  # isort: split

import torch


def region(start: float, end: float, **changes: Any) -> Any:
    """Run the Edit Region node."""
    settings = {"start": start, "end": end, "feather": 0.05, "strength": 1.0}
    return run("AudioXEditRegion", **settings | changes)[0]


def check_edited_regions_come_back_in_the_tracks_own_rate() -> None:
    track = sound(1, 14 * 22050, 22050)
    edit = region(8.0, 9.0, edit=region(2.0, 3.0, audio=track))
    result = run("AudioXSample", model=load("tiny-turbo"), edit=edit, **_sampler(steps=1))[0]
    assert result["sample_rate"] == 22050
    before, after = track["waveform"], result["waveform"]
    assert after.shape == before.shape
    changed = (before != after).any(dim=1)[0].nonzero()[:, 0] / 22050
    assert bool((((changed >= 2) & (changed < 3)) | ((changed >= 8) & (changed < 9))).all())
    assert len(changed) > 1.9 * 22050


def check_a_batch_of_tracks_is_edited_item_by_item() -> None:
    track = sound(2, 3 * 16000, 16000)
    track["waveform"] = torch.cat([track["waveform"], track["waveform"] * 0.5])
    edit = region(1.0, 2.0, audio=track)
    result = run("AudioXSample", model=load("tiny-turbo"), edit=edit, **_sampler(steps=1, batch=2))[0]
    assert result["waveform"].shape == (4, 2, 48000)
    assert torch.equal(result["waveform"][2, :, :16000], track["waveform"][1, :, :16000])


def check_extensions_add_their_seconds() -> None:
    track = sound(2, 4 * 16000, 16000)
    for side in ("after", "before"):
        edit = run("AudioXExtend", audio=track, seconds=2.0, side=side)[0]
        result = run("AudioXSample", model=load("tiny-turbo"), edit=edit, **_sampler(steps=1))[0]["waveform"]
        assert result.shape == (1, 2, 6 * 16000)
        unchanged = result[..., : 3 * 16000] if side == "after" else result[..., -3 * 16000 :]
        original = track["waveform"]
        assert torch.equal(
            unchanged, original[..., : 3 * 16000] if side == "after" else original[..., -3 * 16000 :]
        )


def check_bad_edits_are_explained() -> None:
    track = sound(2, 4 * 16000, 16000)
    first = region(1.0, 2.0, audio=track)
    model = load("tiny-turbo")
    cases = {
        "Neither audio nor edit is connected": lambda: region(1, 2),
        "Both audio and edit are connected": lambda: region(2.5, 3, audio=track, edit=first),
        "overlap": lambda: region(1.5, 3, edit=first),
        "not inside the audio": lambda: region(3, 9, edit=first),
        "reversed": lambda: region(3, 2, edit=first),
        "zero length": lambda: region(3, 3, edit=first),
        "The edit input holds str": lambda: region(1, 2, edit="nothing"),
        "audio is not an AUDIO": lambda: region(1, 2, audio="nothing"),
        "adds nothing": lambda: run("AudioXExtend", audio=track, seconds=0.0, side="after"),
        "choose after or before": lambda: run("AudioXExtend", audio=track, seconds=1.0, side="up"),
        "short_sounds is 'long'": lambda: sample(model, short_sounds="long"),
        "audio_prompt_masking is 'no'": lambda: sample(model, audio_prompt_masking="no"),
        "init_strength is 0": lambda: sample(model, init_audio=track, init_strength=0.0),
        "line 2": lambda: sample(model, prompt="0-1 rain\n1- wind"),
    }
    for words, call in cases.items():
        error = message(call)
        assert words in error, f"{words!r} is not in {error!r}"


def check_a_variation_is_as_long_as_its_sound() -> None:
    track = sound(1, 3 * 22050, 22050)
    result = sample(load("tiny-maf"), init_audio=track, init_strength=0.3, duration=0.0)
    assert result.shape == (1, 2, 3 * 16000)


def check_each_sound_of_a_batch_is_its_seeds_own() -> None:
    model = load("tiny-turbo")
    batch = sample(model, batch=3, seed=7)
    alone = sample(model, seed=8)
    assert float((batch[1:2] - alone).abs().max()) < 1e-4
    audio = {"waveform": batch, "sample_rate": 16000}
    chosen = run("AudioXChooseVariation", audio=audio, index=1)[0]
    assert torch.equal(chosen["waveform"], batch[1:2])


def check_a_timeline_gives_the_length() -> None:
    prompt = "0-1.5 rain on a roof\n1.5-4 thunder, close"
    assert sample(load("tiny-maf"), prompt=prompt, duration=0.0).shape == (1, 2, 4 * 16000)


def check_short_sounds_can_be_made_no_longer_than_asked() -> None:
    model, seen = load("tiny-maf"), []
    network = model.model.network
    forward = network.forward
    network.forward = lambda x, *rest: (seen.append(x.shape[-1]), forward(x, *rest))[1]
    try:
        native = sample(model, duration=2.0, short_sounds="native length, trimmed")
        short = sample(model, duration=2.0, short_sounds="only this length")
    finally:
        network.forward = forward
    assert native.shape == short.shape == (1, 2, 32000)
    assert sorted(set(seen)) == [63, 320]


def _sampler(**changes: Any) -> dict[str, Any]:
    return SAMPLER | {"duration": 0.0} | changes
