"""What follows from a model's configuration, whichever engine runs it."""

from __future__ import annotations

from dataclasses import dataclass

from .config import ClipConditionerConfig, ModelConfig


@dataclass(frozen=True, kw_only=True)
class SamplingDefaults:
    """How a model is sampled when nobody says otherwise. cfg_scale 1 means no guidance."""

    steps: int
    cfg_scale: float
    sampler_type: str = "dpmpp-3m-sde"
    sigma_min: float = 0.3
    sigma_max: float = 500.0


class ModelFacts:
    """Base of everything that has a `config`."""

    config: ModelConfig

    @property
    def sample_rate(self) -> int:
        """Hertz."""
        return self.config.sample_rate

    @property
    def sample_size(self) -> int:
        """Samples the model was trained on."""
        return self.config.sample_size

    @property
    def native_seconds(self) -> float:
        """Length the model was trained on."""
        return self.config.sample_size / self.config.sample_rate

    @property
    def video_fps(self) -> float:
        """Frames a second of a video prompt."""
        clip = self._clip_config()
        return clip.video_fps if clip else self.config.video_fps

    @property
    def conditioning_seconds(self) -> float:
        """Length of video and audio prompts."""
        return self.config.conditioning_seconds

    @property
    def needs_sync(self) -> bool:
        """Whether a video prompt must come with Synchformer features."""
        clip = self._clip_config()
        return clip is not None and clip.with_sync

    @property
    def defaults(self) -> SamplingDefaults:
        """The model's own way of sampling."""
        if self.config.few_step_count is not None:
            return SamplingDefaults(steps=self.config.few_step_count, cfg_scale=1.0)
        return SamplingDefaults(steps=250, cfg_scale=7.0)

    def _clip_config(self) -> ClipConditionerConfig | None:
        found = (c for c in self.config.conditioners.values() if isinstance(c, ClipConditionerConfig))
        return next(found, None)
