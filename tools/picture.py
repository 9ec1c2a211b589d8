"""A picture of a sound: its waveform above its spectrogram. `python -m tools.picture sound.mp4 picture.png`.

C channels, S samples, F frequencies, T times.
"""

import argparse
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.floating[Any]]
FLOOR = -100.0  # dBFS; what is quieter is drawn as this
LOWEST = 20.0  # hertz; the lower end of the frequency axis


def spectrogram(
    mono: Floats, rate: int, *, size: int = 2048, columns: int = 1500
) -> tuple[Floats, Floats, Floats]:
    """Levels over time and frequency: Hann windows of `size` samples, at most about `columns` of them.

    mono: (S,). Returns levels (F, T) in dBFS, a full-scale sine reading about 0, at least FLOOR; times (T,)
    in seconds; frequencies (F,) in hertz.
    """
    mono = np.pad(mono, size // 2)
    hop = max(size // 8, -(-len(mono) // columns))
    frames = np.lib.stride_tricks.sliding_window_view(mono, size)[::hop]
    window = np.hanning(size)
    amplitudes = np.abs(np.fft.rfft(frames * window, axis=1)).T * 2 / window.sum()
    levels = 20 * np.log10(np.maximum(amplitudes, 10 ** (FLOOR / 20)))
    return levels, np.arange(len(frames)) * hop / rate, np.fft.rfftfreq(size, 1 / rate)


def draw(samples: Floats, rate: int, file: Path, *, title: str) -> None:
    """Write the picture of `samples` as a PNG; they are (C, S) in [-1, 1]. Raises ValueError if S is 0."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter

    channels, length = samples.shape
    if length == 0:
        raise ValueError(f"{title}: there is no sound to draw (0 samples).")
    figure = Figure(figsize=(11, 6.5), layout="constrained")
    FigureCanvasAgg(figure)
    wave, spectrum = figure.subplots(2, 1, sharex=True, height_ratios=(1, 2))

    times = np.arange(length) / rate
    names = ("left", "right") if channels == 2 else tuple(f"channel {index + 1}" for index in range(channels))
    for name, channel in zip(names, samples, strict=True):
        wave.plot(times, channel, linewidth=0.4, alpha=0.7, label=name)
    wave.set(ylabel="amplitude (1 = full scale)", ylim=(-1.05, 1.05), title=title)
    legend = wave.legend(loc="upper right", fontsize="small")
    for line in legend.get_lines():
        line.set_linewidth(2)

    levels, columns, rows = spectrogram(samples.mean(axis=0), rate)
    shown = rows >= LOWEST
    mesh = spectrum.pcolormesh(columns, rows[shown], levels[shown], vmin=FLOOR, vmax=0, cmap="magma")
    spectrum.set(yscale="log", ylim=(LOWEST, rate / 2), xlim=(0, length / rate))
    spectrum.set(xlabel="time (seconds)", ylabel="frequency (Hz, logarithmic)")
    spectrum.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    figure.colorbar(mesh, ax=spectrum, label="level of the mean of the channels (dBFS)")
    figure.savefig(file, dpi=110)


def main() -> None:
    """Draw the sound of a file."""
    from audiox_ext.media import read_audio

    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("sound", type=Path, help="an audio or video file")
    parser.add_argument("picture", type=Path, help="the .png to write")
    arguments = parser.parse_args()
    waveform, rate = read_audio(arguments.sound)
    draw(waveform.double().numpy(), rate, arguments.picture, title=arguments.sound.name)


if __name__ == "__main__":
    main()
