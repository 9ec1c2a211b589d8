"""What the demo prints of the sounds it made, and their pictures: what was asked, and what is measured."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from audiox_ext.media.audio_video import read_audio
from audiox_ext.plotting.sound_image import decibels
from pocket.metrics.listening import onsets
from pocket.metrics.measures import ONSET_TOLERANCE, Finding, judge
from pocket.world.scenes import Asked, Part, Scene
from tools.film import film_scene
from tools.picture import draw

WORDS = "a high beep twice"
_ASKED = Asked(register="high", count=2)


def report_words(sound: Path) -> None:
    """Of the sound that was made of `WORDS`."""
    waveform, rate = read_audio(sound)
    draw(waveform, rate, sound.with_suffix(".png"), title=WORDS)
    _print_files(sound, waveform, rate)
    part = Part(kind="beep", asked=_ASKED, events=(), level=0.0, seed=0)
    scene = Scene(seconds=waveform.shape[1] / rate, parts=(part,))
    for finding in judge(scene, waveform.numpy(), rate):
        verdict = "right" if finding.right else "WRONG"
        _print(f"  {finding.measure:9} asked {finding.asked:5} heard {finding.heard:8} {verdict}")


def report_film(video: Path, *, knows_events: bool) -> None:
    """Of a video that got its sound. knows_events: it is `tools.film`, so that what happens when is known."""
    waveform, rate = read_audio(video)
    waveform = waveform[:, : round(sound_seconds(video) * rate)]  # AAC pads its last block
    scene = film_scene(waveform.shape[1] / rate)
    events = scene.parts[0].onsets if knows_events else ()
    draw(waveform, rate, video.with_suffix(".png"), title=video.name, video=video, marks=events)
    _print_files(video, waveform, rate)
    if knows_events:
        _print_onsets(judge(scene, waveform.numpy(), rate))
    else:
        times = ", ".join(f"{time:.2f}" for time in onsets(waveform.numpy(), rate).times)
        _print(f"  onsets    {times or 'none'} (s)")


def _print_onsets(findings: Sequence[Finding]) -> None:
    """Events on screen, in order, each with the sound that belongs to it."""
    _print(f"  {'on screen':>11} {'heard':>9} {'apart':>9}")
    for finding in findings:
        apart = "" if finding.error is None else f"{1000 * finding.error:+.0f} ms"
        asked, heard = (_seconds(text) for text in (finding.asked, finding.heard))
        _print(f"  {asked:>11} {heard:>9} {apart:>9}")
    events = [finding for finding in findings if finding.asked != "nothing"]
    right = sum(finding.right for finding in events)
    _print(f"  {right} of {len(events)} are heard within {1000 * ONSET_TOLERANCE:.0f} ms.")


def _seconds(text: str) -> str:
    return text if text == "nothing" else f"{float(text):.2f} s"


def _print_files(file: Path, waveform: Tensor, rate: int) -> None:
    samples = waveform.double().numpy()
    channels, length = samples.shape
    loudness, peak = math.sqrt(np.mean(samples**2)), float(np.abs(samples).max())
    _print(f"\n{file}\n{file.with_suffix('.png')}")
    _print(f"  sound     {length / rate:.2f} s, {rate} Hz, {channels} channels")
    _print(f"  level     RMS {decibels(loudness)}, peak {decibels(peak)}")


def sound_seconds(video: Path) -> float:
    """How long the file says that its sound is."""
    import av

    with av.open(str(video)) as container:
        stream = container.streams.audio[0]
        return float((stream.duration or 0) * (stream.time_base or 1))


def _print(text: str) -> None:
    """At once, in order with what the commands print."""
    print(text, flush=True)
