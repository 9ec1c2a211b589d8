"""Captions as people have them: tables and text files from other systems and programs."""

from __future__ import annotations

import json
import os
import unicodedata
from pathlib import Path

import pytest

from audiox_ext.errors import InputError
from audiox_ext.training.audio_folder import AudioFolder, read_audio_folder


def make_folder(
    top: Path, files: dict[str, str | bytes], sounds: tuple[str, ...] = ("rain.wav",)
) -> AudioFolder:
    """Write sounds (which are not decoded here) and other files into top/sounds, and read the folder."""
    folder = top / "sounds"
    for name in sounds:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"a sound")
    for name, content in files.items():
        data = content if isinstance(content, bytes) else content.replace("@", str(folder)).encode()
        (folder / name).write_bytes(data)
    return read_audio_folder(folder)


def caption(top: Path, **files: str | bytes) -> str:
    folder = make_folder(top, {name.replace("__", "."): content for name, content in files.items()})
    [file] = folder.files
    assert not file.other_captions
    return file.caption


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('file,caption\nrain.wav,"rain on a roof\nand thunder"\n', "rain on a roof and thunder"),
        ('file,caption\r\nrain.wav,"rain on a roof\r\nand thunder"\r\n', "rain on a roof and thunder"),
        ("file,caption\rrain.wav,rain\r", "rain"),
        ('file,caption\nrain.wav,"rain\u2028thunder"\n', "rain thunder"),
        ("file,caption\nrain.wav,rain\u2028thunder\n", "rain thunder"),
        ("file,caption\nrain.wav,rain\x0bthunder\x85wind\n", "rain thunder wind"),
        ('file, caption\nrain.wav, "heavy, cold rain"\n', "heavy, cold rain"),
        ('file,caption\nrain.wav,"a ""heavy"" rain"\n', 'a "heavy" rain'),
        ("\ufefffile,caption\nrain.wav,rain\n", "rain"),
        ("File_Name,TEXT\nrain.wav,rain\n", "rain"),
        ("File Name;Caption\nrain.wav;rain, wind, thunder\n", "rain, wind, thunder"),
        ("caption\tpath\nrain, wind\train.wav\n", "rain, wind"),
        ("rain.wav;rain, wind, thunder\n", "rain, wind, thunder"),
        ('rain|"rain" he said|rain\n', '"rain" he said'),
        (".\\rain.wav,rain\n", "rain"),
        ("file,caption\n@/rain.wav,rain\n", "rain"),
        ("file,caption\n../sounds/rain.wav,rain\n", "rain"),
        ("file,caption\nC:\\data\\sounds\\rain.wav,rain\n", "rain"),
        ("file,caption\n/home/other/sounds/rain.wav,rain\n", "rain"),
        ("file,caption\nRAIN.WAV,rain\n", "rain"),
        ("file,caption\nrain,rain\n", "rain"),
        ("\n\nfile,caption\n\n  ,\nrain.wav,rain\n", "rain"),
        ("file,caption\nrain.wav,rain\n".encode("utf-16"), "rain"),
    ],
)
def test_a_csv_of_any_origin_is_read(content: str | bytes, expected: str, tmp_path: Path) -> None:
    assert caption(tmp_path, captions__csv=content) == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ({"file_name": "rain.wav", "text": "rain\u2028thunder\u2029wind"}, "rain thunder wind"),
        ({"file": "rain.wav", "caption": "rain\non a roof"}, "rain on a roof"),
        ({"FILE_NAME": "rain.wav", "Caption": "rain"}, "rain"),
        ({"audio_filepath": "@/rain.wav", "duration": 3.0, "text": "rain"}, "rain"),
        ({"audio": {"path": "rain.wav", "bytes": None}, "text": "rain"}, "rain"),
        ({"file": "rain.wav", "caption": ["rain"]}, "rain"),
        ({"file": "rain.wav", "caption": "rain \ud83d"}, "rain \ufffd"),
        ({"file": "rain.wav", "caption": None}, "rain"),  # the words of the name
    ],
)
def test_json_lines_of_any_origin_are_read(line: dict[str, object], expected: str, tmp_path: Path) -> None:
    text = json.dumps(line, ensure_ascii=line.get("caption") == "rain \ud83d")
    assert caption(tmp_path, metadata__jsonl=f"\ufeff{text}\r\n\r\n") == expected


@pytest.mark.parametrize(
    "content",
    [
        [{"file": "rain.wav", "caption": "heavy rain"}],
        {"rain.wav": "heavy rain"},
        {"rain": {"caption": "heavy rain"}},
        {"0": {"file": "rain.wav", "caption": "heavy rain"}},
    ],
)
def test_one_json_value_is_a_table_too(content: object, tmp_path: Path) -> None:
    assert caption(tmp_path, captions__json=json.dumps(content)) == "heavy rain"


@pytest.mark.parametrize(
    "name", ["rain.txt", "rain.TXT", "rain.wav.txt", "RAIN.txt", "rain.caption", "rain.wav.caption"]
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_caption_files_have_many_names(name: str, encoding: str, tmp_path: Path) -> None:
    folder = make_folder(tmp_path, {name: "heavy rain\r\non a roof\r\n".encode(encoding)})
    assert folder.files[0].caption == "heavy rain on a roof"
    assert folder.notes == ()


@pytest.mark.parametrize(("on_disk", "in_table"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_accents_match_in_both_unicode_forms(on_disk: str, in_table: str, tmp_path: Path) -> None:
    sound, other = (unicodedata.normalize(on_disk, name) for name in ("église/cloche.wav", "été.wav"))
    text = unicodedata.normalize(in_table, "file,caption\néglise/cloche.wav,a bell\n")
    folder = make_folder(
        tmp_path,
        {"captions.csv": text, unicodedata.normalize(in_table, "été.txt"): "summer"},
        (sound, other),
    )
    assert {unicodedata.normalize("NFC", f.name): f.caption for f in folder.files} == {
        "église/cloche.wav": "a bell",
        "été.wav": "summer",
    }
    assert folder.notes == ()


def test_words_of_a_name_keep_their_decomposed_accents(tmp_path: Path) -> None:
    folder = make_folder(tmp_path, {}, (unicodedata.normalize("NFD", "Große Öfen.wav"),))
    assert folder.files[0].caption == "große öfen"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("metadata.jsonl", '{"file": "rain.wav", "caption": ["rain", "a shower", " ", null, "rain"]}\n'),
        ("captions.csv", "file,caption_1,caption_2,caption_3\nrain.wav,rain,a shower,\n"),
        ("captions.csv", "file,caption\nrain.wav,rain\nrain.wav,a shower\n"),
        ("captions.json", '{"rain.wav": ["rain", "a shower"]}'),
    ],
)
def test_several_captions_of_a_sound_are_all_used(name: str, content: str, tmp_path: Path) -> None:
    folder = make_folder(tmp_path, {name: content})
    assert folder.files[0].captions == ("rain", "a shower")
    assert folder.notes == ("1 files have several captions, of which each use draws one: rain.wav (2).",)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "captions.csv",
            'file,caption\nrain.wav,"rain\nwind.wav,wind\n',
            r"line 3 cannot be read .*Close every",
        ),
        ("captions.csv", "file,caption\nrain.wav,rain, wind\n", r"line 2 has 3 cells, but the heading has 2"),
        ("captions.csv", "file,caption\n,rain\n", r"line 2 names no file"),
        ("captions.csv", "file,caption\n/elsewhere/rain.wav,x\n", r"line 2 names /elsewhere.* lies outside"),
        (
            "captions.csv",
            b"file,caption\nrain.wav,caf\xe9\n",
            r"cannot be read as UTF-8 text.*Save it as UTF-8",
        ),
        ("rain.txt", "rain".encode("utf-16-le"), r"contains zero bytes.*Save it as UTF-8"),
        ("metadata.jsonl", '{"file": "rain.wav", "caption": {"a": 1}}', r"line 1 has a caption of type dict"),
        ("metadata.jsonl", "[" * 100_000, r"line 1 is not valid JSON"),
        ("captions.json", '"rain"', r"captions\.json holds no list"),
    ],
)
def test_what_would_be_read_wrongly_is_refused(
    name: str, content: str | bytes, message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        make_folder(tmp_path, {name: content})


def test_what_is_not_used_is_named_with_the_reason(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {f"lost {number}.txt": "words" for number in range(8)}
    files |= {
        "captions.csv": "file,caption\nrain.wav,rain\nrain.wav,rain\nnowhere.wav,x\n",
        "metadata.jsonl": "",
        "rain.txt": "not this",
        "wind.wav.txt": "wind",
        "wind.txt": "not this",
        "cover.png": b"",
        ".hidden": b"",
        "desktop.ini": b"",
    }
    folder = make_folder(tmp_path, files, ("rain.wav", "wind.wav", "more/bird.wav", "empty/notes.md"))
    assert [file.caption for file in folder.files] == ["rain", "wind"]
    assert folder.notes == (
        "Captions are read from captions.csv, not from metadata.jsonl.",
        "The table names 1 files that do not exist: nowhere.wav.",
        "1 rows of captions.csv repeat others: rain.wav (line 3).",
        "Not read, because captions.csv has captions for their sounds: rain.txt.",
        "Not read, because their sounds have another caption file: wind.txt.",
        "Not read, because no sound has their name: "
        "lost 0.txt, lost 1.txt, lost 2.txt, lost 3.txt, lost 4.txt and 3 more.",
        "Not used, because they are neither sounds nor videos nor captions: cover.png.",
        "Not used, because no table names the sounds in these subfolders: more.",
    )


@pytest.mark.skipif(os.name == "nt", reason="NO FILE NAMES outside UTF-8 on Windows")
def test_names_that_are_not_utf8_are_escaped_in_notes(tmp_path: Path) -> None:
    folder = make_folder(tmp_path, {}, ("caf\udce9.wav",))
    assert folder.files[0].caption == "caf"
    [note] = folder.notes
    assert "caf\\udce9.wav" in note
