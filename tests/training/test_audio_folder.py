"""A user's folder: which of its files are trained on, with which captions, and what is said of the others."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from user_sounds import tone, write_sounds
from videos import frame_times, write_sound, write_video

from audiox_ext.errors import InputError
from audiox_ext.media.audio_video import write_audio
from audiox_ext.training.audio_clips import Clip, ClipShape, ClipSummary, cut_clips
from audiox_ext.training.audio_folder import extract_words, read_audio_folder

SHAPE = ClipShape(rate=16000, channels=2, samples=32000)  # 2 s


def clips(folder: Path, shape: ClipShape = SHAPE) -> tuple[list[Clip], list[str]]:
    summary = ClipSummary(read_audio_folder(folder), shape)
    pieces = list(cut_clips(summary.folder, shape, summary))
    for clip in pieces:
        summary.add(clip)
    summary.check()
    return pieces, summary.describe()


def captions(folder: Path, default: str = "") -> dict[str, str]:
    return {file.name: file.caption for file in read_audio_folder(folder, default).files}


@pytest.mark.parametrize(
    ("stem", "words"),
    [
        ("dog_bark-02", "dog bark"),
        ("DogBark", "dog bark"),
        ("00012", ""),
        ("Große Glocke", "große glocke"),
        ("it's raining (take 3)", "it's raining take"),
    ],
)
def test_words_come_out_of_a_file_name(stem: str, words: str) -> None:
    assert extract_words(stem) == words


def test_a_caption_comes_from_the_table_then_from_beside_then_from_the_name(tmp_path: Path) -> None:
    for name in ("a dog.wav", "cat.wav", "bird-1.wav"):
        write_audio(tmp_path / name, tone(300, 1), 16000)
    (tmp_path / "a dog.txt").write_text("not this\n")
    (tmp_path / "cat.txt").write_text("\ufeffa cat\n meows\n", encoding="utf-8")
    (tmp_path / "captions.csv").write_text('file,caption\na dog.wav,"a dog, barking"\nlost.wav,nothing\n')
    folder = read_audio_folder(tmp_path)
    assert captions(tmp_path) == {
        "a dog.wav": "a dog, barking",
        "cat.wav": "a cat meows",
        "bird-1.wav": "bird",
    }
    assert any("do not exist: lost.wav" in note for note in folder.notes)
    assert any(
        "1 of 3 files have no caption; the words" in note and '"bird"' in note for note in folder.notes
    )
    assert captions(tmp_path, "an animal")["bird-1.wav"] == "an animal"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("captions.csv", "inside/x.wav;one; two\n"),  # no heading; further columns are not read
        ("metadata.csv", "number\tfile_name\ttext\n7\tinside/x.wav\tone\n"),
        ("metadata.jsonl", '{"file_name": "inside/x.wav", "text": "one"}\n\n'),
    ],
)
def test_tables_may_have_the_usual_forms_and_name_files_in_subfolders(
    tmp_path: Path, name: str, text: str
) -> None:
    write_sounds(tmp_path / "inside", 1)
    (tmp_path / "inside" / "tone-0.wav").rename(tmp_path / "inside" / "x.wav")
    (tmp_path / name).write_text(text)
    assert captions(tmp_path) == {"inside/x.wav": "one"}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "captions.csv",
            "file,words\ntone-0.wav,one\n",
            r"captions\.csv, line 2 has the columns file, words\. .* columns file and caption",
        ),
        ("captions.csv", "file,caption\n../x.wav,one\n", r"line 2 names \.\./x\.wav, which lies outside"),
        ("metadata.jsonl", '{"file": "tone-0.wav"\n', r"metadata\.jsonl, line 1 is not valid JSON"),
        ("metadata.jsonl", "[1]\n", r"line 1 has the columns none\. .* columns file and caption"),
    ],
)
def test_a_table_that_says_nothing_is_an_error_with_its_line(
    tmp_path: Path, name: str, text: str, message: str
) -> None:
    write_sounds(tmp_path, 1)
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=message):
        read_audio_folder(tmp_path)


def test_folders_without_sounds_and_sounds_without_words_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="There is no folder"):
        read_audio_folder(tmp_path / "nowhere")
    (tmp_path / "notes.txt").write_text("no sound")
    with pytest.raises(InputError, match="holds no sound and no video"):
        read_audio_folder(tmp_path)
    write_audio(tmp_path / "0001.wav", tone(300, 1), 16000)
    with pytest.raises(InputError, match=r"no words in their names: 0001\.wav\. Describe .* in 0001\.txt"):
        read_audio_folder(tmp_path)
    assert captions(tmp_path, "a  tone") == {"0001.wav": "a tone"}


def test_sounds_become_clips_and_the_rest_is_named(tmp_path: Path) -> None:
    write_audio(tmp_path / "mono 48k.flac", tone(440, 1.5, 48000, channels=1), 48000)
    write_audio(tmp_path / "long.wav", tone(300, 7.0), 16000)
    write_audio(tmp_path / "rest.wav", tone(300, 2.3), 16000)
    write_audio(tmp_path / "short.wav", tone(300, 0.2), 16000)
    write_audio(tmp_path / "silent.wav", torch.zeros(2, 16000), 16000)
    half = tone(300, 6.0).clone()
    half[:, 32000:64000] = 0
    write_audio(tmp_path / "gap.wav", half, 16000)
    (tmp_path / "broken.mp3").write_bytes(b"no sound at all")
    (tmp_path / ".hidden.wav").write_bytes(b"")
    pieces, lines = clips(tmp_path)
    lengths = {clip.name: round(clip.seconds, 3) for clip in pieces}
    assert lengths == {
        "gap.wav": 2.0,
        "gap.wav from 4.0 s": 2.0,
        "long.wav": 2.0,
        "long.wav from 2.0 s": 2.0,
        "long.wav from 4.0 s": 2.0,
        "long.wav from 6.0 s": 1.0,
        "mono 48k.flac": 1.5,
        "rest.wav": 2.0,  # what is left of it is not worth a clip
    }
    assert all(clip.waveform.shape == (2, 32000) for clip in pieces)
    mono = next(clip.waveform for clip in pieces if clip.name.startswith("mono"))
    assert torch.equal(mono[0], mono[1])
    # Resampled, not only relabelled: 440 Hz are still 440 Hz.
    assert int(torch.fft.rfft(mono[0, :24000]).abs().argmax()) == 660
    assert float(mono[:, 24000:].abs().max()) == 0
    log = "\n".join(lines)
    assert "8 clips of 2 s, 14 s of sound, from 7 files" in log
    assert "Sounds at 48000 Hz are resampled to the model's 16000 Hz" in log
    assert "1 files are mono" in log
    assert "cut: gap.wav into 2, long.wav into 4" in log
    assert "1 silent parts of long files are skipped" in log
    assert "3 files are skipped: broken.mp3 (" in log
    assert "short.wav (only 0.20 s long), silent.wav (silent)" in log


def test_nothing_to_hear_is_an_error_that_says_why(tmp_path: Path) -> None:
    write_audio(tmp_path / "silent.wav", torch.zeros(2, 16000), 16000)
    with pytest.raises(InputError, match=r"No file in .* can be used for training: silent\.wav \(silent\)"):
        clips(tmp_path)


def test_videos_give_their_sound_from_the_first_picture_on(tmp_path: Path) -> None:
    write_video(tmp_path / "film.mp4", frame_times(25, 25), audio_seconds=3.0)
    write_video(tmp_path / "mute.mp4", frame_times(25, 25))
    write_sound(tmp_path / "only sound.mp4", seconds=1.0)
    pieces, lines = clips(tmp_path)
    pictures = {clip.name: clip.has_pictures for clip in pieces}
    # One second of pictures: the second clip of the film has none.
    assert pictures == {"film.mp4": True, "film.mp4 from 2.0 s": False, "only sound.mp4": False}
    assert "3 clips of 2 s, 1 of them with pictures" in lines[0]
    assert "mute.mp4 (a video without sound)" in lines[-1]
