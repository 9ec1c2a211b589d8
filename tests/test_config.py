"""config.json: what is read, and how it fails."""

from __future__ import annotations

import copy
import json
import logging
from pathlib import Path
from typing import Any

import pytest

from audiox_ext.checkpoints.config_parser import parse_config
from audiox_ext.checkpoints.untrusted.json_files import read_config
from audiox_ext.config import AudioAutoencoderConditionerConfig, ClipConditionerConfig
from audiox_ext.errors import ConfigError
from tools.random_checkpoint import build_tiny_config


def published(name: str = "AudioX-MAF") -> dict[str, Any]:
    return json.loads((Path(__file__).parent / "configs" / f"{name}.json").read_text())


def put(config: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy with the field at `path` set, or removed when value is ... ."""
    config = copy.deepcopy(config)
    *parents, last = (int(p) if p.isdigit() else p for p in path.split("."))
    inner: Any = config
    for parent in parents:
        inner = inner[parent]
    if value is ...:
        del inner[last]
    else:
        inner[last] = value
    return config


def test_published_defaults_stand_in_the_dataclasses() -> None:
    config = parse_config(published())
    video = config.conditioners["video_prompt"]
    assert isinstance(video, ClipConditionerConfig)
    assert (video.frames, video.clip.tokens, video.sync_tokens, video.out_features) == (50, 50, 240, 128)
    assert (config.latent_count, config.conditioning_seconds, config.few_step_count) == (236, 10, None)
    assert config.network.head_dim == 64


def test_the_form_of_the_audio_conditioner_is_read_from_its_fields() -> None:
    pooled = {"AudioX": False, "AudioX-MAF-MMDiT": True, "AudioX-Turbo": True}
    for name, expected in pooled.items():
        audio = parse_config(published(name)).conditioners["audio_prompt"]
        assert isinstance(audio, AudioAutoencoderConditionerConfig)
        assert (audio.latent_seq_len is not None) == expected
    turbo = parse_config(published("AudioX-Turbo"))
    assert (turbo.objective, turbo.few_step_count) == ("rectified_flow", 4)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("sample_rate", ..., "sample_rate is missing"),
        ("sample_rate", "fast", "sample_rate must be int, got 'fast'"),
        ("sample_rate", True, "sample_rate must be int, got True"),
        ("sample_rate", 0, "sample_rate must be from 1 to 768000, got 0"),
        ("video_fps", 0, r"video_fps must lie in \[0.1, 240\], got 0"),
        ("video_fps", float("nan"), "video_fps must lie in"),
        ("model", [], "model must be an object, got list"),
        ("model_type", "lm", "model_type is 'lm'. This version supports: diffusion_cond"),
        ("model.diffusion.type", "unet", "type is 'unet'. This version supports: dit, mmdit"),
        ("model.diffusion.config.embed_dim", ..., "embed_dim is missing"),
        ("model.diffusion.config.num_heads", 7, "embed_dim 1536 is not divisible by num_heads 7"),
        ("model.diffusion.config.embed_dim", 1152, "num_heads 24 is not divisible by the 16 heads"),
        ("model.diffusion.gate_type", "MOE", "gate_type is 'MOE'"),
        ("model.diffusion.diffusion_objective", "eps", "diffusion_objective is 'eps'"),
        ("model.diffusion.global_cond_ids", ["x"], r"global_cond_ids is \['x'\], but it must be empty"),
        ("model.diffusion.cross_attention_cond_ids", ["smell"], "smell, but there is no such conditioner"),
        ("model.conditioning.configs.2.type", "clap", r"configs\[2\].type is 'clap'"),
        ("model.conditioning.configs.0.id", ..., r"configs\[0\].id is missing"),
        ("model.conditioning.configs.2.config.n_fft", "x", "n_fft must be int"),
        ("model.pretransform.config.encoder.type", "dac", "type is 'dac'. This version supports: oobleck"),
        (
            "model.pretransform.config.downsampling_ratio",
            1000,
            "multiply to 2048, but downsampling_ratio is 1000",
        ),
        ("model.pretransform.config.latent_dim", 32, "latent_dim 32 requires 64 channels in the encoder"),
        ("sample_size", 100, "shorter than one latent"),
        ("model.conditioning.cond_dim", 512, "cond_dim is 768|is 768, but cond_dim is 512"),
        ("model.diffusion.config.cond_token_dim", 512, "cond_dim is 768, but cond_token_dim is 512"),
        ("model.diffusion.config.io_channels", 32, "latent_dim is 64, but io_channels is 32"),
        (
            "model.diffusion.gate_type_config.dim",
            512,
            "gate_type_config.dim 512 is not divisible|but gate_type_config.dim is 512",
        ),
        ("model.diffusion.gate_type_config.num_heads", 7, "768 is not divisible by num_heads 7"),
        ("audio_channels", 6, "audio_channels is 6, but in_channels is 2"),
        (
            "model.conditioning.configs.0.id",
            "picture_prompt",
            "video_prompt, but there is no such conditioner",
        ),
        ("model.conditioning.configs.0.id", "text_prompt", "Each id must be unique"),
        ("model.conditioning.configs.0.id", "a.b", "Each id must be unique"),
        ("model.conditioning.configs.0.config.video_fps", -1, "video_fps must lie in"),
        ("model.conditioning.configs.2.config.win_length", 2048, "win_length 2048 is longer than n_fft 1024"),
        ("model.diffusion.cross_attention_cond_ids", [[1]], "must be a list of names"),
        ("conditioning_seconds", 1e308, "conditioning_seconds must lie in"),
    ],
)
def test_a_wrong_field_is_named(path: str, value: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_config(put(published(), path, value))


def test_mmdit_lengths_must_agree() -> None:
    with pytest.raises(ConfigError, match=r"latents \+ 1 is 22, but _latent_seq_len is 237"):
        parse_config(put(published("AudioX-Turbo"), "sample_size", 44100))


def test_unknown_keys_are_logged_and_ignored(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        parse_config(put(published(), "model.diffusion.config.colour", "blue"))
    assert [r.getMessage() for r in caplog.records if "colour" in r.getMessage()]


def test_published_configurations_log_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        for name in ("AudioX", "AudioX-MAF", "AudioX-MAF-MMDiT", "AudioX-Turbo"):
            parse_config(published(name))
    assert caplog.records == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "is missing"),
        (b"{nonsense", "is not valid JSON"),
        (b"\xff\xfe\x00", "is not valid JSON"),
        (b"[1]", "contains a list"),
    ],
)
def test_a_file_that_is_not_a_configuration(content: bytes | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        read_config(path)


@pytest.mark.parametrize("kind", ["base", "maf", "mmdit", "turbo"])
def test_tiny_configurations_are_valid(kind: Any) -> None:
    assert parse_config(build_tiny_config(kind)).license == "MIT"


def test_a_wrong_number_of_context_tokens_is_seen_before_the_weights() -> None:
    config = put(published("AudioX-Turbo"), "model.conditioning.configs.1.config.max_length", 64)
    with pytest.raises(ConfigError, match="context tokens is 320, but the token count of mmdit is 384"):
        parse_config(config)


def test_frames_of_a_spectrogram_are_tokens_of_the_context() -> None:
    config = put(build_tiny_config("maf"), "model.conditioning.configs.2.config.hop_length", 1000)
    frames = 10 * config["sample_rate"] // 1000 + 1
    assert list(parse_config(config).context_tokens().items())[-1] == ("audio_prompt", frames)


def test_null_reads_as_absent() -> None:
    config = put(put(published(), "training", None), "model.diffusion.gate_type_config", None)
    config["model"]["diffusion"]["gate"] = False
    assert parse_config(config).few_step_count is None


def test_a_folder_in_the_place_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "config.json").mkdir()
    with pytest.raises(ConfigError, match="cannot be read"):
        read_config(tmp_path / "config.json")
