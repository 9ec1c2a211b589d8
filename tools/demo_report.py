"""Report on the demo's sounds: draw them, measure them and compare them with their prompts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from audiox_ext.media.audio_video import read_audio
from audiox_ext.media.loudness import measure_sound
from pocket.metrics.analysis import onsets
from pocket.metrics.measures import ONSET_TOLERANCE, Finding, judge
from pocket.world.scenes import Description, Part, Scene
from tools.film import film_scene
from tools.picture import draw

WORDS = "a high beep twice"
_ASKED = Description(register="high", count=2)


def report_words(file: Path) -> None:
    """Draw and measure the sound that was made from `WORDS`."""
    waveform, rate = read_audio(file)
    draw(waveform, rate, file.with_suffix(".png"), title=WORDS)
    _print_properties(file, waveform, rate)
    part = Part(kind="beep", description=_ASKED, events=(), peak_rms_dbfs=0.0, seed=0)
    scene = Scene(seconds=waveform.shape[1] / rate, parts=(part,))
    for finding in judge(scene, waveform.numpy(), rate):
        verdict = "right" if finding.right else "WRONG"
        _print(f"  {finding.measure:9} asked {finding.expected:5} heard {finding.measured:8} {verdict}")


def report_film(video: Path, *, knows_events: bool) -> None:
    """Draw and measure the sound of a video.

    Args:
        video: The video with its new sound.
        knows_events: The video shows the film of `tools.film`, whose events happen at known times.
    """
    waveform, rate = read_audio(video)
    waveform = waveform[:, : round(read_sound_seconds(video) * rate)]  # AAC pads its last block
    scene = film_scene(waveform.shape[1] / rate)
    events = scene.parts[0].onsets if knows_events else ()
    draw(waveform, rate, video.with_suffix(".png"), title=video.name, video=video, marks=events)
    _print_properties(video, waveform, rate)
    if knows_events:
        _print_onsets(judge(scene, waveform.numpy(), rate))
    else:
        times = ", ".join(f"{time:.2f}" for time in onsets(waveform.numpy(), rate).times)
        _print(f"  onsets    {times or 'none'} (s)")


def read_sound_seconds(video: Path) -> float:
    """Read how many seconds of sound a file declares."""
    import av

    with av.open(str(video)) as container:
        stream = container.streams.audio[0]
        return float((stream.duration or 0) * (stream.time_base or 1))


def _print_onsets(findings: Sequence[Finding]) -> None:
    """Print each event on screen beside the sound that belongs to it."""
    _print(f"  {'on screen':>11} {'heard':>9} {'apart':>9}")
    for finding in findings:
        apart = "" if finding.error is None else f"{1000 * finding.error:+.0f} ms"
        expected, measured = (_format_seconds(text) for text in (finding.expected, finding.measured))
        _print(f"  {expected:>11} {measured:>9} {apart:>9}")
    events = [finding for finding in findings if finding.expected != "nothing"]
    right = sum(finding.right for finding in events)
    _print(f"  {right} of {len(events)} are heard within {1000 * ONSET_TOLERANCE:.0f} ms.")


def _format_seconds(text: str) -> str:
    """Format a finding's time; "nothing" stays as it is."""
    return text if text == "nothing" else f"{float(text):.2f} s"


def _print_properties(file: Path, waveform: Tensor, rate: int) -> None:
    """Print the files of a sound, its length, peak and loudness."""
    channels, length = waveform.shape
    _print(f"\n{file}\n{file.with_suffix('.png')}")
    _print(f"  sound     {length / rate:.2f} s, {rate} Hz, {channels} channels")
    _print(f"  level     {measure_sound(waveform, rate)}")


def _print(text: str) -> None:
    """Print immediately, so that the lines stay in order with the output of the commands."""
    print(text, flush=True)
