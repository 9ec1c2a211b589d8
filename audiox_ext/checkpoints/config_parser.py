"""Reads config.json into a typed `ModelConfig`.

A missing field, a wrong type or an unknown kind of component raises `ConfigError`. Unknown keys are logged
once and ignored: published files contain keys without influence on inference.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..config import (
    SAMPLER_NAMES,
    AudioAutoencoderConditionerConfig,
    AutoencoderConfig,
    ClipConditionerConfig,
    ClipVisionConfig,
    ConditionerConfig,
    FusionConfig,
    MelConditionerConfig,
    ModelConfig,
    NetworkConfig,
    OobleckDecoderConfig,
    OobleckEncoderConfig,
    SamplingDefaults,
    SpectralEncoderConfig,
    TextConditionerConfig,
)
from ..errors import ConfigError
from .catalog import CheckpointFiles
from .model_parts import list_weights
from .untrusted.config_section import ConfigSection
from .untrusted.headers import add_header_licenses
from .untrusted.json_files import read_config
from .untrusted.sizes import MAX_LAYERS, MAX_WIDTH

_MAX_RATE = 768_000  # hertz
_MAX_SAMPLES = 600 * _MAX_RATE
_MAX_TOKENS = 8192  # per prompt
_MAX_STEPS = 10_000
_MAX_FFT, _MAX_BANDS = 16_384, 1024
_CLIP_LIMITS = {"num_hidden_layers": MAX_LAYERS, "image_size": 4096, "patch_size": 4096}


def read_model_config(files: CheckpointFiles) -> dict[str, Any]:
    """Read the config.json of a checkpoint; for AudioX-Turbo, published without one, this package's own.

    Its licence becomes the strictest of those in config.json and in the headers of the weights, and of the
    encoders in the model's folder.

    Raises:
        ConfigError: the file is missing, unreadable or not JSON.
    """
    own = files.config is None and files.is_student
    data = read_config(
        Path(__file__).parents[1] / "config" / "AudioX-Turbo.json" if own else files.folder / "config.json"
    )
    name = data.get("license")
    if name is None or isinstance(name, str):
        license_name = add_header_licenses(name, list_weights(files, data))
        if license_name is not None and license_name != name:
            return {"license": license_name} | data | {"license": license_name}
    return data


def parse_config(data: Mapping[str, Any]) -> ModelConfig:
    """Convert a config.json to its typed form.

    Raises:
        ConfigError: a field is missing or wrong; the message names it.
    """
    top = ConfigSection(data, "top")
    top.choice("model_type", ("diffusion_cond",), "diffusion_cond")
    model = top.section("model")
    diffusion = model.section("diffusion")
    conditioning = model.section("conditioning")
    seconds = top.between("conditioning_seconds", 1, 600, 10)
    video_fps = top.between("video_fps", 0.1, 240, 5)
    for name in ("global_cond_ids", "input_concat_ids", "prepend_cond_ids"):
        if ids := diffusion.get(name, list, []):
            raise ConfigError(
                f"config.json: model.diffusion.{name} is {ids}, but it must be empty: this kind of "
                "conditioning is not supported."
            )
    model.get("io_channels", int, 0)
    config = ModelConfig(
        sample_rate=top.positive("sample_rate", high=_MAX_RATE),
        sample_size=top.positive("sample_size", high=_MAX_SAMPLES),
        video_fps=video_fps,
        audio_channels=top.positive("audio_channels", 2),
        conditioning_seconds=seconds,
        autoencoder=_autoencoder(model.section("pretransform")),
        conditioners=_conditioners(conditioning, seconds, video_fps),
        cond_dim=conditioning.positive("cond_dim"),
        cross_attention_ids=diffusion.names("cross_attention_cond_ids"),
        network=_network(diffusion),
        objective=diffusion.choice("diffusion_objective", ("v", "rectified_flow"), "v"),
        fusion=_fusion(diffusion),
        few_step_count=_few_steps(top),
        license=top.get("license", (str, type(None)), None),
        sampling=_sampling(top.section("sampling", {})),
    )
    for section in (conditioning, diffusion, model, top):
        section.log_unknown_keys()
    return config


def parse_network_config(data: Mapping[str, Any]) -> NetworkConfig:
    """Convert a `diffusion` section, {"type": ..., "config": {...}}, to its typed form."""
    return _network(ConfigSection(data, "diffusion"))


def parse_autoencoder_config(data: Any, where: str) -> AutoencoderConfig:
    """Convert an autoencoder's `pretransform` section to its typed form. `where` is its name in errors."""
    return _autoencoder(ConfigSection(data, where))


def _few_steps(top: ConfigSection) -> int | None:
    """Return the number of steps that a few-step student was trained for."""
    section = top.section("training", {})
    if section.get("dmd_sample_steps", (int, type(None)), None) is None:
        return None
    return section.positive("dmd_sample_steps", high=_MAX_STEPS)


def _sampling(section: ConfigSection) -> SamplingDefaults:
    """Parse this pack's own optional section with the sampling defaults of a model."""
    defaults = SamplingDefaults
    sampling = SamplingDefaults(
        steps=section.positive("steps", defaults.steps, _MAX_STEPS),
        cfg_scale=section.between("cfg_scale", 1, 100, defaults.cfg_scale),
        sampler_type=section.choice("sampler_type", SAMPLER_NAMES, defaults.sampler_type),
        sigma_min=section.between("sigma_min", 1e-3, 1e3, defaults.sigma_min),
        sigma_max=section.between("sigma_max", 1e-2, 1e5, defaults.sigma_max),
    )
    section.log_unknown_keys()
    return sampling


def _network(diffusion: ConfigSection) -> NetworkConfig:
    """Parse the denoising network."""
    kind = diffusion.choice("type", ("dit", "mmdit"))
    section = diffusion.section("config")
    section.number("video_fps", 5)
    network = NetworkConfig(
        type=kind,
        io_channels=section.positive("io_channels"),
        embed_dim=section.positive("embed_dim"),
        depth=section.positive("depth", high=MAX_LAYERS),
        num_heads=section.positive("num_heads"),
        cond_token_dim=section.positive("cond_token_dim"),
        global_cond_dim=section.whole("global_cond_dim", 0, MAX_WIDTH, 0),
        project_cond_tokens=section.get("project_cond_tokens", bool, True),
        latent_seq_len=section.positive("_latent_seq_len", NetworkConfig.latent_seq_len),
    )
    section.log_unknown_keys()
    return network


def _fusion(diffusion: ConfigSection) -> FusionConfig | None:
    """Parse MAF, the fusion of the prompts' tokens, if the model has it."""
    gated = diffusion.get("gate", bool, False)
    kind = diffusion.get("gate_type", (str, type(None)), None)
    section = diffusion.section("gate_type_config", {})
    if not gated:
        return None
    if kind != "MAF":
        raise ConfigError(f"config.json: model.diffusion.gate_type is {kind!r}. This version supports: MAF.")
    fusion = FusionConfig(
        num_experts_per_modality=section.positive("num_experts_per_modality"),
        num_heads=section.positive("num_heads"),
        num_fusion_layers=section.positive("num_fusion_layers", high=MAX_LAYERS),
        dim=section.positive("dim", FusionConfig.dim),
    )
    section.log_unknown_keys()
    return fusion


def _autoencoder(section: ConfigSection) -> AutoencoderConfig:
    """Parse an autoencoder."""
    section.choice("type", ("autoencoder",))
    config = section.section("config")
    bottleneck = config.section("bottleneck")
    bottleneck.choice("type", ("vae",))
    encoder, decoder = config.section("encoder"), config.section("decoder")
    decoder.choice("type", ("oobleck",))
    decoder_sizes = decoder.section("config")
    result = AutoencoderConfig(
        encoder=_encoder(encoder),
        decoder=OobleckDecoderConfig(
            out_channels=decoder_sizes.positive("out_channels"),
            **_oobleck_sizes(decoder_sizes),
            final_tanh=decoder_sizes.get("final_tanh", bool, True),
        ),
        latent_dim=config.positive("latent_dim"),
        downsampling_ratio=config.positive("downsampling_ratio"),
        io_channels=config.positive("io_channels"),
        iterate_batch=section.get("iterate_batch", bool, False),
    )
    for part in (decoder_sizes, encoder, decoder, bottleneck, config, section):
        part.log_unknown_keys()
    return result


def _encoder(section: ConfigSection) -> OobleckEncoderConfig | SpectralEncoderConfig:
    """Parse the encoder of an autoencoder."""
    sizes = section.section("config")
    result: OobleckEncoderConfig | SpectralEncoderConfig
    if section.choice("type", ("oobleck", "strengths")) == "strengths":
        result = SpectralEncoderConfig(
            in_channels=sizes.positive("in_channels"),
            sample_rate=sizes.positive("sample_rate", high=_MAX_RATE),
        )
    else:
        result = OobleckEncoderConfig(
            in_channels=sizes.positive("in_channels"),
            **_oobleck_sizes(sizes),
        )
    sizes.log_unknown_keys()
    return result


def _oobleck_sizes(section: ConfigSection) -> dict[str, Any]:
    """Parse the sizes that the encoder and the decoder of an Oobleck autoencoder share."""
    return {
        "channels": section.positive("channels"),
        "c_mults": section.integers("c_mults"),
        "strides": section.integers("strides"),
        "latent_dim": section.positive("latent_dim"),
    }


def _conditioners(
    conditioning: ConfigSection, seconds: float, video_fps: float
) -> dict[str, ConditionerConfig]:
    """Parse the conditioners by id."""
    entries = conditioning.get("configs", list)
    result: dict[str, ConditionerConfig] = {}
    for index, entry in enumerate(entries):
        section = ConfigSection(entry, f"model.conditioning.configs[{index}]")
        name = section.get("id", str)
        if not re.fullmatch(r"[a-z]\w*_prompt", name) or name in result:
            raise ConfigError(
                f"config.json: model.conditioning.configs[{index}].id is {name!r}. Each id must be unique, "
                "start with a lower-case letter and end in _prompt."
            )
        kind = section.choice("type", tuple(_CONDITIONERS))
        sizes = section.section("config")
        result[name] = _CONDITIONERS[kind](kind, sizes, seconds, video_fps)
        sizes.log_unknown_keys()
        section.log_unknown_keys()
    return result


def _clip(kind: str, section: ConfigSection, seconds: float, video_fps: float) -> ClipConditionerConfig:
    """Parse a video conditioner."""
    tower = section.section("clip_config", {})
    tower_defaults, defaults = ClipVisionConfig(), ClipConditionerConfig
    tower_config = ClipVisionConfig(
        **{
            name: tower.positive(name, getattr(tower_defaults, name), _CLIP_LIMITS.get(name, MAX_WIDTH))
            for name in ClipVisionConfig.__dataclass_fields__
            if name not in ("layer_norm_eps", "hidden_act")
        },
        layer_norm_eps=tower.number("layer_norm_eps", tower_defaults.layer_norm_eps),
        hidden_act=tower.choice("hidden_act", ("quick_gelu", "gelu"), tower_defaults.hidden_act),
    )
    tower.log_unknown_keys()
    return ClipConditionerConfig(
        with_sync=kind != "clip",
        video_fps=section.between("video_fps", 0.1, 240, video_fps),
        seconds=seconds,
        out_features=section.positive("out_features", defaults.out_features, _MAX_TOKENS),
        clip=tower_config,
        temporal_dim=section.positive("temporal_dim", defaults.temporal_dim),
        temporal_depth=section.positive("temporal_depth", defaults.temporal_depth, MAX_LAYERS),
        temporal_heads=section.positive("temporal_heads", defaults.temporal_heads),
        temporal_dim_head=section.positive("temporal_dim_head", defaults.temporal_dim_head),
        sync_dim=section.positive("sync_dim", defaults.sync_dim),
    )


def _text(kind: str, section: ConfigSection, seconds: float, video_fps: float) -> TextConditionerConfig:
    """Parse a text conditioner."""
    defaults = TextConditionerConfig
    return TextConditionerConfig(
        t5_model_name=section.get("t5_model_name", str, defaults.t5_model_name),
        max_length=section.positive("max_length", defaults.max_length, _MAX_TOKENS),
        dim=section.positive("dim", defaults.dim),
    )


def _mel(kind: str, section: ConfigSection, seconds: float, video_fps: float) -> MelConditionerConfig:
    """Parse an audio conditioner that uses a mel spectrogram."""
    defaults = MelConditionerConfig
    start, end = _mask_ratios(section, defaults.mask_ratio_start, defaults.mask_ratio_end)
    return MelConditionerConfig(
        n_fft=section.positive("n_fft", high=_MAX_FFT),
        hop_length=section.positive("hop_length", high=_MAX_FFT),
        win_length=section.positive("win_length", high=_MAX_FFT),
        n_mel_channels=section.positive("n_mel_channels", high=_MAX_BANDS),
        target_sample_rate=section.positive("target_sample_rate", high=_MAX_RATE),
        feature_dim=section.positive("feature_dim", defaults.feature_dim),
        mask_ratio_start=start,
        mask_ratio_end=end,
    )


def _audio(
    kind: str, section: ConfigSection, seconds: float, video_fps: float
) -> AudioAutoencoderConditionerConfig:
    """Parse an audio conditioner that uses an autoencoder."""
    defaults = AudioAutoencoderConditionerConfig
    pooled = kind == "audio_autoencoder_v2" or "latent_seq_len" in section
    section.get("sample_rate", int, 0)
    start, end = _mask_ratios(section, defaults.mask_ratio_start, defaults.mask_ratio_end)
    return AudioAutoencoderConditionerConfig(
        autoencoder=_autoencoder(section.section("pretransform_config")),
        latent_seq_len=section.positive("latent_seq_len", 215) if pooled else None,
        empty_seq_len=section.positive("empty_seq_len", defaults.empty_seq_len),
        mask_ratio_start=start,
        mask_ratio_end=end,
    )


def _mask_ratios(section: ConfigSection, start: float, end: float) -> tuple[float, float]:
    """Parse the range of the fraction of an audio prompt that is masked."""
    start, end = section.number("mask_ratio_start", start), section.number("mask_ratio_end", end)
    if not (0 <= start <= 1 and 0 <= end <= 1):
        raise ConfigError(f"config.json: mask ratios must lie in [0, 1], got {start} and {end}.")
    return start, end


_CONDITIONERS: dict[str, Callable[[str, ConfigSection, float, float], ConditionerConfig]] = {
    "clip": _clip,
    "clip-with-sync-w-empty-feat": _clip,
    "t5": _text,
    "mel_spec": _mel,
    "audio_autoencoder": _audio,
    "audio_autoencoder_v2": _audio,
}
