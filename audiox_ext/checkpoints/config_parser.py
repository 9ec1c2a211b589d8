"""Reading config.json: typed, with errors that name the field.

A field that is missing or of the wrong type, and an unknown kind of component, is a `ConfigError`. Keys that
we do not know are logged once and passed over: published files hold keys that change nothing at inference.
"""

from __future__ import annotations

import json
import logging
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
    StrengthEncoderConfig,
    TextConditionerConfig,
)
from ..errors import ConfigError

log = logging.getLogger(__name__)

# Known keys that have no influence on inference: not worth a line in the user's log.
_SILENT = {
    "fusion_depth",
    "condition_mask_type",
    "mask_ratio",
    "mask_type",
    "sync_type",
    "mel_spec_type",
    "transformer_type",
    "requires_grad",
    "clip_model_name",
    "use_snake",
    "model_type",
    "license",
    "enable_bn",
    "scale",
}


class _Section:
    """One JSON object on its way into a dataclass: typed reads, and a log of what nobody asked for."""

    def __init__(self, data: Any, path: str) -> None:
        if not isinstance(data, Mapping):
            raise ConfigError(f"config.json: {path} must be an object, got {type(data).__name__}.")
        self._data, self._path, self._read = data, path, set[str]()

    def __contains__(self, key: str) -> bool:
        return key in self._data

    def get(self, key: str, kind: type | tuple[type, ...], default: Any = ...) -> Any:
        self._read.add(key)
        value = self._data.get(key, default)
        kinds = kind if isinstance(kind, tuple) else (kind,)
        if value is None and default is not ... and type(None) not in kinds:
            return default  # null says as much as nothing
        if value is ...:
            raise ConfigError(f"config.json: {self._path}.{key} is missing.")
        if key in self._data:
            # bool is an int to Python, never to a configuration.
            if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
                names = " or ".join(k.__name__ for k in kinds)
                raise ConfigError(f"config.json: {self._path}.{key} must be {names}, got {value!r}.")
        return value

    def number(self, key: str, default: Any = ...) -> Any:
        return self.get(key, (int, float), default)

    def positive(self, key: str, default: Any = ...) -> int:
        value = self.get(key, int, default)
        if value <= 0:
            raise ConfigError(f"config.json: {self._path}.{key} must be above 0, got {value}.")
        return value

    def between(self, key: str, low: float, high: float, default: Any = ...) -> float:
        value = self.number(key, default)
        if not low <= value <= high:
            raise ConfigError(f"config.json: {self._path}.{key} must lie in [{low}, {high}], got {value}.")
        return value

    def names(self, key: str) -> tuple[str, ...]:
        values = self.get(key, list)
        if not all(isinstance(v, str) for v in values):
            raise ConfigError(f"config.json: {self._path}.{key} must be a list of names, got {values!r}.")
        return tuple(values)

    def integers(self, key: str) -> tuple[int, ...]:
        values = self.get(key, list)
        if not values or not all(isinstance(v, int) and not isinstance(v, bool) and v > 0 for v in values):
            raise ConfigError(f"config.json: {self._path}.{key} must be a list of whole numbers above 0.")
        return tuple(values)

    def section(self, key: str, default: Any = ...) -> _Section:
        return _Section(self.get(key, object, default), f"{self._path}.{key}".removeprefix("top."))

    def choice(self, key: str, allowed: tuple[str, ...], default: Any = ...) -> Any:
        value = self.get(key, str, default)
        if value not in allowed:
            raise ConfigError(
                f"config.json: {self._path}.{key} is {value!r}; this version knows {', '.join(allowed)}."
            )
        return value

    def done(self) -> None:
        unknown = sorted(set(self._data) - self._read - _SILENT)
        if unknown:
            log.info("config.json: %s holds keys that are not used here: %s", self._path, ", ".join(unknown))


def read_config(path: Path) -> dict[str, Any]:
    """The JSON object in a config.json. Raises `ConfigError` when it is missing or not JSON."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(
            f"{path} is missing: every model folder needs its config.json beside the weights. Put it there."
        ) from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error}).") from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not JSON ({error}). Fetch it again.") from None
    if not isinstance(data, dict):
        raise ConfigError(f"{path} holds {type(data).__name__}, not an object. Fetch it again.")
    return data


def parse_config(data: Mapping[str, Any]) -> ModelConfig:
    """The typed form of a config.json. Raises `ConfigError`, which names the field."""
    top = _Section(data, "top")
    top.choice("model_type", ("diffusion_cond",), "diffusion_cond")
    model = top.section("model")
    diffusion = model.section("diffusion")
    conditioning = model.section("conditioning")
    seconds = top.between("conditioning_seconds", 1, 600, 10)
    video_fps = top.between("video_fps", 0.1, 240, 5)
    for name in ("global_cond_ids", "input_concat_ids", "prepend_cond_ids"):
        if diffusion.get(name, list, []):
            raise ConfigError(
                f"config.json: model.diffusion.{name} is not empty; no published model uses it."
            )
    model.get("io_channels", int, 0)
    config = ModelConfig(
        sample_rate=top.positive("sample_rate"),
        sample_size=top.positive("sample_size"),
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
        section.done()
    return config


def parse_network_config(data: Mapping[str, Any]) -> NetworkConfig:
    """The typed form of a `diffusion` section: {"type": ..., "config": {...}}."""
    return _network(_Section(data, "diffusion"))


def parse_autoencoder_config(data: Any, where: str) -> AutoencoderConfig:
    """The typed form of an autoencoder as `pretransform` describes it. where: its name in errors."""
    return _autoencoder(_Section(data, where))


def _few_steps(top: _Section) -> int | None:
    count = top.section("training", {}).get("dmd_sample_steps", (int, type(None)), None)
    if count is not None and count < 1:
        raise ConfigError(f"config.json: training.dmd_sample_steps must be at least 1, got {count}.")
    return count


def _sampling(section: _Section) -> SamplingDefaults:
    """An optional section of this pack's own, for models that want other settings than the published ones."""
    plain = SamplingDefaults
    sampling = SamplingDefaults(
        steps=section.positive("steps", plain.steps),
        cfg_scale=section.between("cfg_scale", 1, 100, plain.cfg_scale),
        sampler_type=section.choice("sampler_type", SAMPLER_NAMES, plain.sampler_type),
        sigma_min=section.between("sigma_min", 1e-3, 1e3, plain.sigma_min),
        sigma_max=section.between("sigma_max", 1e-2, 1e5, plain.sigma_max),
    )
    section.done()
    return sampling


def _network(diffusion: _Section) -> NetworkConfig:
    kind = diffusion.choice("type", ("dit", "mmdit"))
    section = diffusion.section("config")
    section.number("video_fps", 5)
    network = NetworkConfig(
        type=kind,
        io_channels=section.positive("io_channels"),
        embed_dim=section.positive("embed_dim"),
        depth=section.positive("depth"),
        num_heads=section.positive("num_heads"),
        cond_token_dim=section.positive("cond_token_dim"),
        global_cond_dim=section.get("global_cond_dim", int, 0),
        project_cond_tokens=section.get("project_cond_tokens", bool, True),
        latent_seq_len=section.positive("_latent_seq_len", NetworkConfig.latent_seq_len),
    )
    section.done()
    return network


def _fusion(diffusion: _Section) -> FusionConfig | None:
    gated = diffusion.get("gate", bool, False)
    kind = diffusion.get("gate_type", (str, type(None)), None)
    section = diffusion.section("gate_type_config", {})
    if not gated:
        return None
    if kind != "MAF":
        raise ConfigError(f"config.json: model.diffusion.gate_type is {kind!r}; this version knows MAF.")
    fusion = FusionConfig(
        num_experts_per_modality=section.positive("num_experts_per_modality"),
        num_heads=section.positive("num_heads"),
        num_fusion_layers=section.positive("num_fusion_layers"),
        dim=section.positive("dim", FusionConfig.dim),
    )
    section.done()
    return fusion


def _autoencoder(section: _Section) -> AutoencoderConfig:
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
            channels=decoder_sizes.positive("channels"),
            c_mults=decoder_sizes.integers("c_mults"),
            strides=decoder_sizes.integers("strides"),
            latent_dim=decoder_sizes.positive("latent_dim"),
            final_tanh=decoder_sizes.get("final_tanh", bool, True),
        ),
        latent_dim=config.positive("latent_dim"),
        downsampling_ratio=config.positive("downsampling_ratio"),
        io_channels=config.positive("io_channels"),
        iterate_batch=section.get("iterate_batch", bool, False),
    )
    for part in (decoder_sizes, encoder, decoder, bottleneck, config, section):
        part.done()
    return result


def _encoder(section: _Section) -> OobleckEncoderConfig | StrengthEncoderConfig:
    sizes = section.section("config")
    result: OobleckEncoderConfig | StrengthEncoderConfig
    if section.choice("type", ("oobleck", "strengths")) == "strengths":
        result = StrengthEncoderConfig(
            in_channels=sizes.positive("in_channels"), sample_rate=sizes.positive("sample_rate")
        )
    else:
        result = OobleckEncoderConfig(
            in_channels=sizes.positive("in_channels"),
            channels=sizes.positive("channels"),
            c_mults=sizes.integers("c_mults"),
            strides=sizes.integers("strides"),
            latent_dim=sizes.positive("latent_dim"),
        )
    sizes.done()
    return result


def _conditioners(conditioning: _Section, seconds: float, video_fps: float) -> dict[str, ConditionerConfig]:
    entries = conditioning.get("configs", list)
    result: dict[str, ConditionerConfig] = {}
    for index, entry in enumerate(entries):
        section = _Section(entry, f"model.conditioning.configs[{index}]")
        name = section.get("id", str)
        if not re.fullmatch(r"[a-z]\w*_prompt", name) or name in result:
            raise ConfigError(
                f"config.json: model.conditioning.configs[{index}].id is {name!r}; each must be one of its "
                "own and end in _prompt."
            )
        kind = section.choice("type", tuple(_CONDITIONERS))
        sizes = section.section("config")
        result[name] = _CONDITIONERS[kind](kind, sizes, seconds, video_fps)
        sizes.done()
        section.done()
    return result


def _clip(kind: str, section: _Section, seconds: float, video_fps: float) -> ClipConditionerConfig:
    tower = section.section("clip_config", {})
    default, plain = ClipVisionConfig(), ClipConditionerConfig
    tower_config = ClipVisionConfig(
        **{
            name: tower.positive(name, getattr(default, name))
            for name in ClipVisionConfig.__dataclass_fields__
            if name not in ("layer_norm_eps", "hidden_act")
        },
        layer_norm_eps=tower.number("layer_norm_eps", default.layer_norm_eps),
        hidden_act=tower.choice("hidden_act", ("quick_gelu", "gelu"), default.hidden_act),
    )
    tower.done()
    return ClipConditionerConfig(
        with_sync=kind != "clip",
        video_fps=section.between("video_fps", 0.1, 240, video_fps),
        seconds=seconds,
        out_features=section.positive("out_features", plain.out_features),
        clip=tower_config,
        temporal_dim=section.positive("temporal_dim", plain.temporal_dim),
        temporal_depth=section.positive("temporal_depth", plain.temporal_depth),
        temporal_heads=section.positive("temporal_heads", plain.temporal_heads),
        temporal_dim_head=section.positive("temporal_dim_head", plain.temporal_dim_head),
        sync_dim=section.positive("sync_dim", plain.sync_dim),
    )


def _text(kind: str, section: _Section, seconds: float, video_fps: float) -> TextConditionerConfig:
    plain = TextConditionerConfig
    return TextConditionerConfig(
        t5_model_name=section.get("t5_model_name", str, plain.t5_model_name),
        max_length=section.positive("max_length", plain.max_length),
        dim=section.positive("dim", plain.dim),
    )


def _mel(kind: str, section: _Section, seconds: float, video_fps: float) -> MelConditionerConfig:
    plain = MelConditionerConfig
    start, end = _mask_ratios(section, plain.mask_ratio_start, plain.mask_ratio_end)
    return MelConditionerConfig(
        n_fft=section.positive("n_fft"),
        hop_length=section.positive("hop_length"),
        win_length=section.positive("win_length"),
        n_mel_channels=section.positive("n_mel_channels"),
        target_sample_rate=section.positive("target_sample_rate"),
        feature_dim=section.positive("feature_dim", plain.feature_dim),
        mask_ratio_start=start,
        mask_ratio_end=end,
    )


def _audio(
    kind: str, section: _Section, seconds: float, video_fps: float
) -> AudioAutoencoderConditionerConfig:
    plain = AudioAutoencoderConditionerConfig
    pooled = kind == "audio_autoencoder_v2" or "latent_seq_len" in section
    section.get("sample_rate", int, 0)
    start, end = _mask_ratios(section, plain.mask_ratio_start, plain.mask_ratio_end)
    return AudioAutoencoderConditionerConfig(
        autoencoder=_autoencoder(section.section("pretransform_config")),
        latent_seq_len=section.positive("latent_seq_len", 215) if pooled else None,
        empty_seq_len=section.positive("empty_seq_len", plain.empty_seq_len),
        mask_ratio_start=start,
        mask_ratio_end=end,
    )


def _mask_ratios(section: _Section, start: float, end: float) -> tuple[float, float]:
    start, end = section.number("mask_ratio_start", start), section.number("mask_ratio_end", end)
    if not (0 <= start <= 1 and 0 <= end <= 1):
        raise ConfigError(f"config.json: mask ratios must lie in [0, 1], got {start} and {end}.")
    return start, end


_CONDITIONERS: dict[str, Callable[[str, _Section, float, float], ConditionerConfig]] = {
    "clip": _clip,
    "clip-with-sync-w-empty-feat": _clip,
    "t5": _text,
    "mel_spec": _mel,
    "audio_autoencoder": _audio,
    "audio_autoencoder_v2": _audio,
}
