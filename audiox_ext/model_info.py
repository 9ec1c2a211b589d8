"""What follows from a model's configuration, whichever engine runs it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .config import ClipConditionerConfig, ModelConfig, SamplingDefaults


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
    def sync_width(self) -> int | None:
        """Of the Synchformer features of a video prompt, None where it comes without them."""
        clip = self._clip_config()
        return clip.sync_dim if clip is not None and clip.with_sync else None

    @property
    def defaults(self) -> SamplingDefaults:
        """The model's own way of sampling."""
        if self.config.few_step_count is not None:
            return SamplingDefaults(steps=self.config.few_step_count, cfg_scale=1.0)
        return self.config.sampling

    def _clip_config(self) -> ClipConditionerConfig | None:
        found = (c for c in self.config.conditioners.values() if isinstance(c, ClipConditionerConfig))
        return next(found, None)


@dataclass(frozen=True)
class StoredModel(ModelFacts):
    """What is known of a model on disk without reading its weights. folder: where its files are."""

    config: ModelConfig
    folder: Path
