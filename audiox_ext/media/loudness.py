"""Measures loudness (LUFS) and peak (dBFS), and normalises sounds to either.

C channels, S samples, B batch items. All channels get the same gain, so the stereo image stays.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ..errors import InputError, is_number, quote_value
from ..utf8 import get_logger
from .waveforms import check_waveform

log = get_logger(__name__)

Mode = Literal["peak", "loudness"]
MODES: tuple[Mode, ...] = ("peak", "loudness")

_SILENCE = 2.0**-24  # half a step of 24-bit audio: a lower peak counts as silence
_BLOCK, _HOP = 0.4, 0.1  # seconds: length and spacing of the gating blocks of BS.1770
_LOWEST_RATE = 8000  # hertz: below, the filter of the measurement does not fit under half the rate
_TOLERANCE, _MEASUREMENTS = 0.02, 5  # decibels from the target, and how many attempts to reach it
# BS.1770 weights left, right, centre, left and right surround, and leaves out the LFE channel. Their indices,
# by the number of channels in WAVE order; None is a missing channel.
_MEASURED: dict[int, tuple[int | None, ...]] = {
    1: (0,),
    2: (0, 1),
    3: (0, 1, 2),
    4: (0, 1, None, 2, 3),
    5: (0, 1, 2, 3, 4),
    6: (0, 1, 2, 4, 5),
}


@dataclass(frozen=True, kw_only=True)
class SoundMeasurement:
    """Peak and loudness of a sound.

    Attributes:
        peak: dBFS of the largest sample; -inf for silence.
        loudness: LUFS, -inf for silence; None if it could not be measured.
    """

    peak: float
    loudness: float | None

    def __str__(self) -> str:
        """Both values with their units."""
        loudness = "loudness not measured" if self.loudness is None else f"loudness {self.loudness:.1f} LUFS"
        return f"peak {self.peak:.1f} dBFS, {loudness}"


def measure_peak(waveform: Tensor) -> float:
    """Measure the peak of (C, S) in dBFS: 0 is a largest sample of 1, -inf is silence."""
    peak = float(waveform.abs().max())
    return 20 * math.log10(peak) if peak >= _SILENCE else -math.inf


def measure_loudness(waveform: Tensor, rate: int) -> float:
    """Measure the integrated loudness.

    A sound shorter than 0.4 s is padded with silence to a block of 0.4 s, as a meter shows it when it is
    played alone. An incomplete last block does not count.

    Args:
        waveform: (C, S), 1 to 6 channels in WAVE order; the LFE channel (4th of 6) does not count.
        rate: Sample rate in hertz, 8000 or more.

    Returns:
        LUFS; -inf for silence and for anything below the gate of -70 LUFS.

    Raises:
        InputError: There are too many channels, the rate is too low, or pyloudnorm is not installed.

    Source: ITU-R BS.1770-4, annex 1.
    """
    waveform = check_waveform(waveform, rate)
    channels, rate = _MEASURED.get(len(waveform)), int(rate)
    if channels is None:
        raise InputError(
            f"The sound has {len(waveform)} channels, but loudness is defined for 1 to 6. Mix it down, or "
            "use peak."
        )
    if rate < _LOWEST_RATE:
        raise InputError(
            f"The sample rate is {rate} Hz, but loudness needs {_LOWEST_RATE} Hz or more. Use peak."
        )
    try:
        import pyloudnorm
    except ImportError:
        raise InputError(
            "Loudness needs the package pyloudnorm, which is not installed. Install it with "
            "`python -m pip install pyloudnorm` in the Python that runs this, or use peak."
        ) from None
    blocks = max(0, math.floor((waveform.shape[1] / rate - _BLOCK) / _HOP + 1e-6))
    samples = math.ceil(rate * (_BLOCK + blocks * _HOP))
    measured = waveform.new_zeros(samples, len(channels))
    for position, channel in enumerate(channels):
        if channel is not None:
            audible = waveform[channel, :samples]
            measured[: len(audible), position] = audible
    # The default filters differ from the standard's by 0.04 dB at 1 kHz; these do not.
    return float(pyloudnorm.Meter(rate, filter_class="DeMan").integrated_loudness(measured.numpy()))


def measure_sound(waveform: Tensor, rate: int) -> SoundMeasurement:
    """Measure the peak of (C, S), and its loudness if that is possible.

    Raises:
        InputError: The waveform is invalid.
    """
    waveform = check_waveform(waveform, rate)
    try:
        loudness = measure_loudness(waveform, rate)
    except InputError as error:
        log.debug("Loudness not measured: %s", error)
        loudness = None
    return SoundMeasurement(peak=measure_peak(waveform), loudness=loudness)


def normalise(
    waveform: Tensor, rate: int, *, mode: Mode = "loudness", target: float = -16.0, ceiling: float = -1.0
) -> Tensor:
    """Apply a gain that brings a sound to a peak or a loudness. Silence stays silence.

    Args:
        waveform: (C, S), or (B, C, S), where every item gets its own gain.
        rate: Sample rate in hertz.
        mode: "peak" or "loudness".
        target: dBFS for peak, LUFS for loudness; 0 or less.
        ceiling: dBFS, 0 or less; in mode loudness the gain stops where the peak reaches it, and the log
            states the loudness that was reached. Unused in mode peak.

    Returns:
        The same shape, float32 on the CPU.

    Raises:
        InputError: The waveform or a setting is invalid, or its loudness cannot be measured.
    """
    if mode not in MODES:
        raise InputError(f"mode is {quote_value(mode)}. Choose one of {', '.join(MODES)}.")
    for name, value in (("target", target), ("ceiling", ceiling)):
        if not (is_number(value) and -200 <= value <= 0):
            raise InputError(f"{name} is {quote_value(value)} dB. Choose -200 to 0; full scale is 0.")
    if waveform.ndim != 3:
        return _normalise_item(check_waveform(waveform, rate), rate, mode, target, ceiling)
    if len(waveform) == 0:
        raise InputError("The audio batch is empty. Connect a batch with at least one sound.")
    items = [check_waveform(item, rate) for item in waveform]
    return torch.stack([_normalise_item(item, rate, mode, target, ceiling) for item in items])


def _normalise_item(waveform: Tensor, rate: int, mode: Mode, target: float, ceiling: float) -> Tensor:
    """Normalise one item (C, S)."""
    peak = measure_peak(waveform)
    if math.isinf(peak):
        log.warning("The sound is silent and stays as it is.")
        return waveform.clone()
    if mode == "peak":
        return waveform * 10 ** ((target - peak) / 20)
    # First measure at full scale, where the absolute gate drops nothing of a quiet sound; then with the
    # resulting gain, where the gate may drop more.
    limit, gain, reached = ceiling - peak, -peak, -math.inf
    for _ in range(_MEASUREMENTS):
        loudness = measure_loudness(waveform * 10 ** (gain / 20), rate)
        if math.isinf(loudness):
            break
        reached = loudness
        if abs(target - reached) < _TOLERANCE or (gain == limit and reached < target):
            break
        gain = min(gain + target - reached, limit)
    if math.isinf(reached):
        log.warning("The sound is too quiet to have a loudness and stays as it is.")
        return waveform.clone()
    if gain == limit and reached < target - _TOLERANCE:
        log.warning(
            "The loudness reached is %.1f LUFS instead of %g LUFS: more gain would take the peak above %g "
            "dBFS. Choose a lower target or a higher ceiling.",
            reached,
            target,
            ceiling,
        )
    return waveform * 10 ** (gain / 20)


def describe_gains(before: Tensor, after: Tensor, rate: int) -> str:
    """Describe the gain between two batches (B, C, S), and the peak and loudness of the second.

    Returns:
        One line per item.
    """
    lines = []
    for number, (old, new) in enumerate(zip(before, after, strict=True)):
        peak, measurement = measure_peak(old), measure_sound(new, rate)
        gain = 0.0 if math.isinf(peak) else measurement.peak - peak
        lines.append(f"{number}: gain {gain:+.1f} dB, {measurement}")
    return "\n".join(lines)
