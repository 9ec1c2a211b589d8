"""How a model that exists is trained further on a user's sounds: as a LoRA, or all of its network."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from ..errors import ConfigError

pass


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """What every training has.

    steps: of the optimiser. warmup_steps: over which the learning rate rises; then it falls along a cosine to
    a tenth. gradient_clip: largest norm of all gradients together. ema_decay: of the averaged weights, which
    are what is kept in the end. precision: "32" or "bf16", of the arithmetic under autocast;
    a processor without units for bf16, which would take a hundred times longer, computes in 32. workers:
    processes that make items. checkpoint_every, validate_every, report_every: in steps.
    """

    steps: int
    batch_size: int
    learning_rate: float = 1e-4
    warmup_steps: int = 200
    weight_decay: float = 1e-3
    gradient_clip: float = 1.0
    ema_decay: float = 0.999
    precision: str = "32"
    workers: int = 1
    seed: int = 0
    checkpoint_every: int = 500
    validate_every: int = 500
    validation_items: int = 32
    report_every: int = 50

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "checkpoint_every", "validate_every", "report_every"):
            at_least(self, name, 1)
        for name in ("warmup_steps", "weight_decay", "workers", "seed", "validation_items"):
            at_least(self, name, 0)
        for name in ("learning_rate", "gradient_clip"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} must be above 0, got {getattr(self, name)}.")
        if not 0 <= self.ema_decay < 1:
            raise ConfigError(f"ema_decay must lie in [0, 1), got {self.ema_decay}.")
        if self.precision not in ("32", "bf16"):
            raise ConfigError(f'precision is {self.precision!r}; choose "32" or "bf16".')


@dataclass(frozen=True, kw_only=True)
class TuningSettings(RunSettings):
    """What both have, beside what every training has. Shares are 0 to 1.

    held_out: of the files, kept for validation. patience: validations without a better loss after which
    training stops; with it the weights of the best validation are the result, with 0 those of the last step.
    keep_share: of a batch, taken from a second folder of sounds that the model is to go on making. shortest:
    seconds that a file must have. context_dropout: of items that are trained without any prompt, which
    guidance starts from; text_with_video_dropout, video_dropout: of items with a video, that are shown it
    without its caption, or the caption alone. sound_every: steps from one sound to listen to on the way to
    the next, 0 for none; sound_steps: of its sampling; sound_prompt: what it is, by default the caption of
    the first file. gradient_checkpointing: a third more work for much less memory.
    """

    steps: int = 1000
    batch_size: int = 4
    warmup_steps: int = 50
    ema_decay: float = 0.99
    workers: int = 0
    checkpoint_every: int = 100
    validate_every: int = 100
    report_every: int = 25
    held_out: float = 0.1
    patience: int = 5
    keep_share: float = 0.25
    shortest: float = 0.5
    context_dropout: float = 0.1
    text_with_video_dropout: float = 0.3
    video_dropout: float = 0.15
    sound_every: int = 250
    sound_steps: int = 50
    sound_prompt: str = ""
    gradient_checkpointing: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        for item in fields(self):
            value = getattr(self, item.name)
            share = item.name.endswith("_dropout") or item.name in ("held_out", "keep_share")
            if share and not 0 <= value < 1:
                raise ConfigError(f"{item.name} must be at least 0 and below 1, got {value}.")
        for name in ("patience", "sound_every"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} must be at least 0, got {getattr(self, name)}.")
        if self.sound_steps < 1:
            raise ConfigError(f"sound_steps must be at least 1, got {self.sound_steps}.")
        if not self.shortest > 0:
            raise ConfigError(f"shortest must be above 0 s, got {self.shortest}.")
        if self.patience and not self.validation_items:
            raise ConfigError("patience needs validations: set validation_items above 0, or patience to 0.")


# How often something is done, and to whom it is told, but not what is learnt from what.
MAY_CHANGE = frozenset(("patience", "sound_every", "sound_steps", "sound_prompt", "gradient_checkpointing"))


@dataclass(frozen=True, kw_only=True)
class LoraSettings(TuningSettings):
    """rank: of the matrices, alpha: their scale is alpha / rank; None for alpha = rank. targets: which layers
    of the network, each the end of its name or a regular expression found in it; none for all layers in the
    blocks. dropout: share of a layer's inputs that its matrices do not see in a step.
    """

    learning_rate: float = 5e-4
    weight_decay: float = 0.0
    rank: int = 16
    alpha: float | None = None
    targets: tuple[str, ...] = ()
    dropout: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rank < 1:
            raise ConfigError(f"rank must be at least 1, got {self.rank}.")
        if self.alpha is not None and not self.alpha > 0:
            raise ConfigError(f"alpha must be above 0, got {self.alpha}.")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"dropout must be at least 0 and below 1, got {self.dropout}.")

    @property
    def scale(self) -> float:
        """alpha, decided."""
        return float(self.rank) if self.alpha is None else self.alpha


@dataclass(frozen=True, kw_only=True)
class FinetuneSettings(TuningSettings):
    """All weights of the network; conditioners, fusion and autoencoder stay as they are."""

    learning_rate: float = 5e-5


def at_least(settings: Any, name: str, low: float) -> None:
    """Raises `ConfigError` where a setting is lower."""
    if getattr(settings, name) < low:
        raise ConfigError(f"{name} must be at least {low:g}, got {getattr(settings, name)}.")
