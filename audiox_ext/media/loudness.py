"""How loud a sound is, and the same sound at another level: peak in dBFS, loudness in LUFS.

C channels, S samples, B batch items. A gain is the same for all channels, so the stereo image stays.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ..errors import InputError
from .waveforms import check_waveform

log = logging.getLogger(__name__)

Mode = Literal["peak", "loudness"]
MODES: tuple[Mode, ...] = ("peak", "loudness")

_SILENCE = 2.0**-24  # half a step of 24-bit sound: what peaks lower cannot be told from silence
_BLOCK, _HOP = 0.4, 0.1  # seconds: the gating blocks of BS.1770, and how far apart they begin
_LOWEST_RATE = 8000  # hertz: below, the measure's filter does not fit under half the rate
_CLOSE, _MEASUREMENTS = 0.02, 5  # decibels from the target, and how often it is tried to come that close
# BS.1770 weighs left, right, centre, left and right surround, and leaves out the LFE channel. For each number
# of channels in WAVE order where they are; None is a channel that is not there.
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
    """peak: dBFS of the largest sample. loudness: LUFS, None where pyloudnorm or the rate does not allow it.

    Both are -inf for silence.
    """

    peak: float
    loudness: float | None

    def __str__(self) -> str:
        """Both in words."""
        loudness = "loudness not measured" if self.loudness is None else f"loudness {self.loudness:.1f} LUFS"
        return f"peak {self.peak:.1f} dBFS, {loudness}"


def measure_peak(waveform: Tensor) -> float:
    """Decibels of the largest sample of (C, S) against full scale, which is 1; -inf for silence."""
    peak = float(waveform.abs().max())
    return 20 * math.log10(peak) if peak >= _SILENCE else -math.inf


def measure_loudness(waveform: Tensor, rate: int) -> float:
    """Integrated loudness of (C, S) in LUFS; -inf for silence and for what lies below the gate of -70 LUFS.

    C is 1 to 6 in WAVE order, the LFE channel (4th of 6) does not count. A sound shorter than 0.4 s is
    measured as the block of 0.4 s that holds it and silence, as a meter shows it when it is played alone. A
    last block that is not whole does not count.
    Raises InputError for more channels, for rates below 8000 Hz, and if pyloudnorm is not installed.
    Source: ITU-R BS.1770-4, annex 1.
    """
    waveform = check_waveform(waveform, rate)
    channels, rate = _MEASURED.get(len(waveform)), int(rate)
    if channels is None:
        raise InputError(
            f"The sound has {len(waveform)} channels: loudness is defined for 1 to 6. "
            "Mix it down, or use peak."
        )
    if rate < _LOWEST_RATE:
        raise InputError(
            f"The sample rate is {rate} Hz: loudness is measured from {_LOWEST_RATE} Hz on. Use peak."
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
            piece = waveform[channel, :samples]
            measured[: len(piece), position] = piece
    # Its default filters differ from the standard's by 0.04 dB at 1 kHz; these do not.
    return float(pyloudnorm.Meter(rate, filter_class="DeMan").integrated_loudness(measured.numpy()))


def measure_sound(waveform: Tensor, rate: int) -> SoundMeasurement:
    """Peak, and loudness where it can be measured, of (C, S). Raises InputError for what is no sound."""
    waveform = check_waveform(waveform, rate)
    try:
        loudness = measure_loudness(waveform, rate)
    except InputError as error:
        log.debug("No loudness: %s", error)
        loudness = None
    return SoundMeasurement(peak=measure_peak(waveform), loudness=loudness)


def normalise(
    waveform: Tensor, rate: int, *, mode: Mode = "loudness", target: float = -16.0, ceiling: float = -1.0
) -> Tensor:
    """The same sound, float32 on the CPU, with its peak at `target` dBFS or its loudness at `target` LUFS.

    waveform: (C, S), or (B, C, S), where every item gets a gain of its own. target, ceiling: 0 or less.
    Loudness: a gain that would take the peak above `ceiling` dBFS is held there, so that nothing clips, and
    the log says what loudness was reached. Peak: `ceiling` is not used. Silence stays silence.
    Raises InputError for what is no sound, for levels that cannot be, and as `measure_loudness` does.
    """
    if mode not in MODES:
        raise InputError(f"mode is {mode!r}, which is not one of {', '.join(MODES)}.")
    for name, value in (("target", target), ("ceiling", ceiling)):
        if not (math.isfinite(value) and value <= 0):
            raise InputError(f"{name} is {value} dB: give 0 or less, full scale being 0.")
    if waveform.ndim != 3:
        return _normalised(check_waveform(waveform, rate), rate, mode, target, ceiling)
    if len(waveform) == 0:
        raise InputError("There is no sound: the batch is empty.")
    items = [check_waveform(item, rate) for item in waveform]
    return torch.stack([_normalised(item, rate, mode, target, ceiling) for item in items])


def _normalised(waveform: Tensor, rate: int, mode: Mode, target: float, ceiling: float) -> Tensor:
    """One item, (C, S)."""
    peak = measure_peak(waveform)
    if math.isinf(peak):
        log.warning("The sound is silent: its level stays as it is.")
        return waveform.clone()
    if mode == "peak":
        return waveform * 10 ** ((target - peak) / 20)
    # Measured first at full scale, where the absolute gate hides nothing of a quiet sound, and then at the
    # level it gets, where the gate may hide more.
    limit, gain, reached = ceiling - peak, -peak, -math.inf
    for _ in range(_MEASUREMENTS):
        loudness = measure_loudness(waveform * 10 ** (gain / 20), rate)
        if math.isinf(loudness):
            break
        reached = loudness
        if abs(target - reached) < _CLOSE or (gain == limit and reached < target):
            break
        gain = min(gain + target - reached, limit)
    if math.isinf(reached):
        log.warning("The sound has no loudness (nothing in it can be heard): its level stays as it is.")
        return waveform.clone()
    if gain == limit and reached < target - _CLOSE:
        log.warning(
            "The loudness reached is %.1f LUFS in place of %g: more would take the peak above %g dBFS. "
            "Choose a lower target.",
            reached,
            target,
            ceiling,
        )
    return waveform * 10 ** (gain / 20)


def describe_gains(before: Tensor, after: Tensor, rate: int) -> str:
    """A line for each item of two (B, C, S): the gain between them, and the level of the second."""
    lines = []
    for number, (old, new) in enumerate(zip(before, after, strict=True)):
        peak, level = measure_peak(old), measure_sound(new, rate)
        gain = 0.0 if math.isinf(peak) else level.peak - peak
        lines.append(f"{number}: gain {gain:+.1f} dB, {level}")
    return "\n".join(lines)
