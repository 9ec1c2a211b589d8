"""Parsers of what users type and files hold: any text gives a result or an AudioXError, within a second.

AUDIOX_FUZZ_EXAMPLES sets the number of examples per parser; with it they differ each time.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from audiox_ext import AudioEdit, AudioRequest, GenerationSettings, Region
from audiox_ext.checkpoints.adapters.names import split_name
from audiox_ext.checkpoints.adapters.parsing import build_changes, parse_peft_settings
from audiox_ext.checkpoints.config_parser import parse_config, read_config
from audiox_ext.checkpoints.lora_file import read_lora
from audiox_ext.checkpoints.state_dict import read_tensors
from audiox_ext.cli.common import _split_strength
from audiox_ext.cli.generate import _region
from audiox_ext.conditioning.feature_cache import read_features
from audiox_ext.errors import AudioXError
from audiox_ext.license import is_non_commercial
from audiox_ext.pipeline.timeline import Timeline, parse_timeline
from audiox_ext.training.audio_folder import read_audio_folder
from audiox_ext.training.settings import LoraSettings
from audiox_ext.utf8 import escape_surrogates, is_valid, replace_surrogates
from tools.random_checkpoint import build_tiny_config

EXAMPLES = os.environ.get("AUDIOX_FUZZ_EXAMPLES")
SECONDS = 1.0

fuzz = settings(
    max_examples=int(EXAMPLES or 60),
    derandomize=EXAMPLES is None,
    deadline=None,  # the processor's time counts, see `use`
    database=None,
    suppress_health_check=list(HealthCheck),
)

# Any text, lone surrogates included, and texts of the characters that parsers look for.
characters = st.characters(codec=None, exclude_categories=())
texts = st.one_of(
    st.text(characters, max_size=200),
    st.text(st.sampled_from("0123456789.:- \n\te\u2013#"), max_size=200),
    st.tuples(st.text(characters, max_size=3), st.integers(0, 20_000)).map(lambda pair: pair[0] * pair[1]),
)
numbers = st.one_of(
    st.integers(-(10**30), 10**30),
    st.floats(),
    st.sampled_from((0, 1, -1, 2**31, 2**63, 2**64, 1e308, 1e-308, math.nan, math.inf)),
)
values = st.one_of(st.none(), st.booleans(), numbers, texts)
json_values = st.recursive(
    values,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(texts, inner, max_size=4)),
    max_leaves=8,
)


def use(call: Callable[[], Any]) -> Any:
    """Call a parser: it returns, or raises an AudioXError with a valid message, within the time."""
    started = time.process_time()
    result, message = None, "none"
    try:
        result = call()
    except AudioXError as error:
        message = str(error)
    assert message
    assert is_valid(message)
    assert time.process_time() - started < SECONDS
    return result


@given(texts)
@fuzz
def test_texts(text: str) -> None:
    assert is_valid(escape_surrogates(text))
    assert is_valid(replace_surrogates(text))


@given(texts, texts)
@fuzz
def test_prompts(prompt: str, negative_prompt: str) -> None:
    use(lambda: AudioRequest(prompt=prompt))
    use(lambda: AudioRequest(negative_prompt=negative_prompt))


line = st.tuples(
    st.one_of(st.floats(-1, 1e6), st.integers(0, 10**20)).map(str),
    st.sampled_from(("-", " - ", "\u2013", "-" + " " * 500, ":", "")),
    st.one_of(st.floats(0, 1e6).map(str), st.sampled_from(("end", "1:30", "99:99:99", "1e9", "inf"))),
    st.sampled_from((" ", ": ", "", "s ", " \u00a0")),
    st.text(characters, max_size=30),
).map("".join)


@given(st.lists(line, max_size=30))
@fuzz
def test_timelines(lines: list[str]) -> None:
    text = "\n".join(lines)
    timeline = use(lambda: parse_timeline(text))
    if timeline is not None:
        use(lambda: timeline.check(10.0))


@given(st.lists(st.integers(1, 500), min_size=2, max_size=60))
@fuzz
def test_a_right_timeline_is_read_as_it_was_written(tenths: list[int]) -> None:
    ends = [sum(tenths[: index + 1]) / 10 for index in range(len(tenths))]
    starts = [0.0, *ends[:-1]]
    pairs = list(zip(starts, ends, strict=True))
    text = "\n".join(f"{start:.1f}-{end:.1f} sound {index}" for index, (start, end) in enumerate(pairs))
    timeline = parse_timeline(text)
    assert isinstance(timeline, Timeline)
    assert [span.prompt for span in timeline.spans] == [f"sound {index}" for index in range(len(pairs))]
    assert [span.start for span in timeline.spans] == pytest.approx(starts)


@given(texts, numbers, numbers)
@fuzz
def test_regions(text: str, feather: float, strength: float) -> None:
    use(lambda: _region(text, argparse.Namespace(feather=feather, strength=strength)))
    use(lambda: _split_strength(text))


@given(numbers, numbers, numbers, numbers, numbers)
@fuzz
def test_edits(start: float, end: float, feather: float, rate: float, after: float) -> None:
    use(lambda: Region(start=start, end=end, feather=feather))
    use(lambda: AudioEdit(waveform=torch.zeros(1, 2, 100), rate=rate, after=after))


@given(st.sampled_from(sorted(GenerationSettings.__dataclass_fields__)), values)
@fuzz
def test_settings(name: str, value: Any) -> None:
    if name not in ("custom_sampler", "custom_sigmas"):
        use(lambda: GenerationSettings(**{name: value}))


@given(st.sampled_from(sorted(LoraSettings.__dataclass_fields__)), numbers)
@fuzz
def test_settings_of_a_training(name: str, value: float) -> None:
    if name not in ("precision", "targets", "preview_prompt"):
        use(lambda: LoraSettings(**{name: value}))


CONFIGS = [build_tiny_config(kind) for kind in ("base", "maf", "mmdit", "turbo")]


@given(st.data())
@fuzz
def test_values_of_a_config(data: st.DataObject) -> None:
    config = copy.deepcopy(data.draw(st.sampled_from(CONFIGS)))
    for _ in range(data.draw(st.integers(1, 3))):
        section: Any = config
        while True:
            keys = sorted(section) if isinstance(section, dict) else list(range(len(section)))
            if not keys:
                break
            key = data.draw(st.sampled_from(keys))
            if isinstance(section[key], (dict, list)) and data.draw(st.booleans()):
                section = section[key]
                continue
            if data.draw(st.booleans()):
                section[key] = data.draw(json_values)
            else:
                del section[key]
            break
    use(lambda: parse_config(config))


@given(st.one_of(st.binary(max_size=300), json_values.map(lambda value: json.dumps(value).encode())))
@fuzz
def test_text_of_a_config(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = folder_of(tmp_path_factory) / "config.json"
    path.write_bytes(content)
    data = use(lambda: read_config(path))
    if data is not None:
        use(lambda: parse_config(data))


@given(texts)
@fuzz
def test_licences(text: str) -> None:
    assert isinstance(use(lambda: is_non_commercial(text)), bool)
    assert is_non_commercial(f"{text} CC-BY-NC-4.0")


parts = st.sampled_from(
    (
        "lora_A.weight",
        "lora_B.weight",
        "alpha",
        "lora_mid.weight",
        "lokr_w1",
        "lokr_w2_a",
        "hada_w1_a",
        "oft_blocks",
        "dora_scale",
        "diff",
        "a1.weight",
        "w_norm",
        "reshape_weight",
    )
)
tensors = st.tuples(
    st.lists(st.integers(0, 4), max_size=4),
    st.sampled_from((torch.float32, torch.bfloat16, torch.float64, torch.int8, torch.bool, torch.int64)),
).map(lambda pair: torch.ones(pair[0], dtype=pair[1]))


@given(st.dictionaries(parts, tensors, max_size=5))
@fuzz
def test_tensors_of_a_lora(layer: dict[str, torch.Tensor]) -> None:
    names = {split_name(f"x.{name}")[1]: tensor for name, tensor in layer.items()}  # type: ignore[index]
    changes = use(lambda: build_changes("file", "x", names, parse_peft_settings({})))
    for change in (changes or {}).values():
        for shape in ((4, 4), (3, 2, 1), (4,)):
            assert isinstance(change.describe_misfit(shape), str)


@given(texts)
@fuzz
def test_names_of_a_lora(name: str) -> None:
    use(lambda: split_name(name))
    use(lambda: split_name(f"{name}.lora_A.weight"))


@given(
    st.dictionaries(
        st.sampled_from(("audiox_lora", "captions", "steps", "license", "kind", "lora_adapter_metadata")),
        st.one_of(texts, json_values.map(json.dumps), numbers.map(lambda n: json.dumps({"lora_alpha": n}))),
        max_size=4,
    )
)
@fuzz
def test_metadata_of_a_lora(tmp_path_factory: pytest.TempPathFactory, metadata: dict[str, str]) -> None:
    entries = {
        "x.lora_A.weight": {"dtype": "F32", "shape": [1, 1], "data_offsets": [0, 4]},
        "x.lora_B.weight": {"dtype": "F32", "shape": [1, 1], "data_offsets": [4, 8]},
    }
    path = folder_of(tmp_path_factory) / "lora.safetensors"
    write_header(path, {"__metadata__": metadata, **entries}, bytes(8))
    use(lambda: read_lora(path))


entries = st.fixed_dictionaries(
    {},
    optional={
        "dtype": st.one_of(st.sampled_from(("F32", "BF16", "I8", "BOOL", "F8_E4M3", "C64", "F4")), values),
        "shape": st.one_of(st.lists(st.integers(0, 4), max_size=3), st.lists(numbers, max_size=3), values),
        "data_offsets": st.one_of(st.tuples(st.just(0), st.integers(0, 64)), st.lists(numbers, max_size=3)),
    },
)


@given(
    st.dictionaries(st.one_of(texts, parts.map("x.{}".format), st.just("frames")), entries, max_size=4),
    st.binary(max_size=64),
    st.one_of(st.none(), st.integers(0, 2**64 - 1)),
)
@fuzz
def test_headers(
    tmp_path_factory: pytest.TempPathFactory, header: dict[str, Any], content: bytes, length: int | None
) -> None:
    path = folder_of(tmp_path_factory) / "file.safetensors"
    write_header(path, header, content, length)
    for read in (read_tensors, read_lora, read_features):
        use(lambda read=read: read(path))


@given(st.one_of(st.binary(max_size=200), texts.map(lambda text: text.encode("utf-8", "replace"))))
@fuzz
def test_tables_of_captions(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    folder = folder_of(tmp_path_factory)
    (folder / "rain.wav").write_bytes(b"a sound")
    for name in ("captions.csv", "metadata.jsonl", "captions.json", "captions.tsv", "rain.txt"):
        (folder / name).write_bytes(content)
        use(lambda: read_audio_folder(folder))
        (folder / name).unlink()


@given(
    st.one_of(
        json_values, st.lists(st.fixed_dictionaries({"file": texts, "caption": json_values}), max_size=3)
    )
)
@fuzz
def test_captions_in_json(tmp_path_factory: pytest.TempPathFactory, value: Any) -> None:
    folder = folder_of(tmp_path_factory)
    (folder / "rain.wav").write_bytes(b"a sound")
    (folder / "captions.json").write_text(json.dumps(value))
    use(lambda: read_audio_folder(folder))


def folder_of(factory: pytest.TempPathFactory) -> Path:
    """One folder for all examples: making a new one for each takes longer than the example."""
    folder = factory.getbasetemp() / "examples"
    folder.mkdir(exist_ok=True)
    for file in folder.iterdir():
        file.unlink()
    return folder


def write_header(path: Path, header: Any, content: bytes, length: int | None = None) -> None:
    """Write a .safetensors file with any header."""
    text = json.dumps(header).encode()
    path.write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text + content)
