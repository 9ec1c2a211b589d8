"""Facts about a model that follow from its configuration, whichever engine runs it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .config import ClipConditionerConfig, ModelConfig, SamplingDefaults


class ModelFacts:
    """Base of the classes that have a model's `config`."""

    config: ModelConfig

    @property
    def sample_rate(self) -> int:
        """Sample rate in hertz."""
        return self.config.sample_rate

    @property
    def sample_size(self) -> int:
        """Number of samples in the sounds that the model was trained on."""
        return self.config.sample_size

    @property
    def native_seconds(self) -> float:
        """Length in seconds of the sounds that the model was trained on."""
        return self.config.sample_size / self.config.sample_rate

    @property
    def video_fps(self) -> float:
        """Frames per second of a video prompt."""
        clip = self._clip_config()
        return clip.video_fps if clip else self.config.video_fps

    @property
    def conditioning_seconds(self) -> float:
        """Length in seconds of video and audio prompts."""
        return self.config.conditioning_seconds

    @property
    def needs_sync(self) -> bool:
        """Whether a video prompt must come with Synchformer features."""
        clip = self._clip_config()
        return clip is not None and clip.with_sync

    @property
    def sync_width(self) -> int | None:
        """Width of the Synchformer features of a video prompt, or None if the model takes none."""
        clip = self._clip_config()
        return clip.sync_dim if clip is not None and clip.with_sync else None

    @property
    def defaults(self) -> SamplingDefaults:
        """The sampling settings that the model was made for."""
        if self.config.few_step_count is not None:
            return SamplingDefaults(steps=self.config.few_step_count, cfg_scale=1.0)
        return self.config.sampling

    def _clip_config(self) -> ClipConditionerConfig | None:
        """The configuration of the video conditioner, if there is one."""
        conditioners = self.config.conditioners.values()
        return next((c for c in conditioners if isinstance(c, ClipConditionerConfig)), None)


@dataclass(frozen=True)
class StoredModel(ModelFacts):
    """A model on disk whose weights have not been read.

    Attributes:
        config: Its config.json.
        folder: Folder of its files.
    """

    config: ModelConfig
    folder: Path
