"""Settings of a training, checked when they are created."""

from __future__ import annotations

from dataclasses import dataclass, fields

from ..errors import ConfigError, is_number, is_whole, quote_value

_LARGEST = {"batch_size": 4096, "rank": 4096, "preview_steps": 10_000, "workers": 256, "seed": 2**64 - 1}
_LARGEST_COUNT = 10_000_000  # of every other whole number


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """Settings that every training has.

    Attributes:
        steps: optimizer steps, at least 1.
        batch_size: items per step, at least 1.
        learning_rate: its highest value, above 0. It rises over `warmup_steps` and then falls along a cosine
            to a tenth.
        warmup_steps: steps over which the learning rate rises.
        weight_decay: weight decay of matrices; vectors do not decay.
        gradient_clip: largest norm of all gradients together, above 0.
        ema_decay: decay per step of the averaged weights, in [0, 1). The averaged weights are the result.
        precision: "32" or "bf16", for arithmetic under autocast. A processor without bf16 units computes in
            32 bits, because bf16 would take a hundred times longer there.
        workers: processes that prepare items; 0 prepares them in this process.
        seed: seed of every random number in the training.
        checkpoint_every: steps between checkpoints.
        validate_every: steps between validations.
        validation_items: items per validation; 0 turns validation off.
        report_every: steps between progress reports.
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
        """Check every value. Raises `ConfigError`, which names it."""
        self._check_numbers()
        for name in ("steps", "batch_size", "checkpoint_every", "validate_every", "report_every"):
            check_minimum(self, name, 1)
        for name in ("warmup_steps", "weight_decay", "workers", "seed", "validation_items"):
            check_minimum(self, name, 0)
        for name in ("learning_rate", "gradient_clip"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} must be above 0, got {getattr(self, name)}.")
        if not 0 <= self.ema_decay < 1:
            raise ConfigError(f"ema_decay must be at least 0 and below 1, got {self.ema_decay}.")
        if self.precision not in ("32", "bf16"):
            raise ConfigError(f'precision is {quote_value(self.precision)}; choose "32" or "bf16".')

    def _check_numbers(self) -> None:
        """Raise `ConfigError` for a number that is not one, is not finite, or is too large to be meant."""
        for item in fields(self):
            name, value = item.name, getattr(self, item.name)
            if item.type == "int":
                largest = _LARGEST.get(name, _LARGEST_COUNT)
                if not is_whole(value) or value > largest:
                    raise ConfigError(
                        f"{name} must be a whole number of at most {largest}, got {quote_value(value)}."
                    )
            elif str(item.type).startswith("float") and not (
                is_number(value) or value is item.default is None
            ):
                raise ConfigError(f"{name} must be a finite number, got {quote_value(value)}.")


@dataclass(frozen=True, kw_only=True)
class TuningSettings(RunSettings):
    """Settings for training an existing model on a user's sounds.

    Fractions and dropouts are at least 0 and below 1.

    Attributes:
        held_out_fraction: fraction of the files that validation uses and training never sees.
        patience: validations without a lower loss before training stops; the weights of the best validation
            are then the result. 0 never stops early and keeps the weights of the last step.
        preservation_fraction: fraction of each batch that comes from the preservation dataset.
        min_seconds: shortest file that is used, above 0.
        context_dropout: fraction of items that are trained without any prompt, which guidance needs.
        text_with_video_dropout: fraction of video items that are shown without their caption.
        video_dropout: fraction of video items that are shown with their caption alone.
        preview_every: steps between preview sounds; 0 makes none.
        preview_steps: sampling steps of a preview sound.
        preview_prompt: prompt of the preview sounds; "" takes the caption of the first file.
        gradient_checkpointing: saves much memory for a third more work.
    """

    steps: int = 1000
    batch_size: int = 4
    warmup_steps: int = 50
    ema_decay: float = 0.99
    workers: int = 0
    checkpoint_every: int = 100
    validate_every: int = 100
    report_every: int = 25
    held_out_fraction: float = 0.1
    patience: int = 5
    preservation_fraction: float = 0.25
    min_seconds: float = 0.5
    context_dropout: float = 0.1
    text_with_video_dropout: float = 0.3
    video_dropout: float = 0.15
    preview_every: int = 250
    preview_steps: int = 50
    preview_prompt: str = ""
    gradient_checkpointing: bool = False

    def __post_init__(self) -> None:
        """Check every value. Raises `ConfigError`, which names it."""
        super().__post_init__()
        for item in fields(self):
            value = getattr(self, item.name)
            if item.name.endswith(("_dropout", "_fraction")) and not 0 <= value < 1:
                raise ConfigError(f"{item.name} must be at least 0 and below 1, got {value}.")
        check_minimum(self, "patience", 0)
        check_minimum(self, "preview_every", 0)
        check_minimum(self, "preview_steps", 1)
        if not self.min_seconds > 0:
            raise ConfigError(f"min_seconds must be above 0, got {self.min_seconds}.")
        if self.patience and not self.validation_items:
            raise ConfigError("patience needs validations: set validation_items above 0, or patience to 0.")


CHANGEABLE = frozenset(
    ("patience", "preview_every", "preview_steps", "preview_prompt", "gradient_checkpointing")
)
"""Settings that a resumed training may change: they do not alter what is learned."""


@dataclass(frozen=True, kw_only=True)
class LoraSettings(TuningSettings):
    """Settings for training a LoRA.

    Attributes:
        rank: rank of the matrices, at least 1.
        alpha: the matrices are scaled by alpha / rank; None means alpha = rank.
        targets: layers of the network to adapt. Each is the end of a layer's name, or a regular expression
            to search in it. Empty adapts every layer in the blocks.
        dropout: fraction of a layer's inputs that its matrices do not see, at least 0 and below 1.
    """

    learning_rate: float = 5e-4
    weight_decay: float = 0.0
    rank: int = 16
    alpha: float | None = None
    targets: tuple[str, ...] = ()
    dropout: float = 0.0

    def __post_init__(self) -> None:
        """Check every value. Raises `ConfigError`, which names it."""
        super().__post_init__()
        check_minimum(self, "rank", 1)
        if self.alpha is not None and not self.alpha > 0:
            raise ConfigError(f"alpha must be above 0, got {self.alpha}.")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"dropout must be at least 0 and below 1, got {self.dropout}.")

    @property
    def scale(self) -> float:
        """The value of alpha that is used."""
        return float(self.rank) if self.alpha is None else self.alpha


@dataclass(frozen=True, kw_only=True)
class FinetuneSettings(TuningSettings):
    """Settings for training all weights of the network; every other part stays as it is."""

    learning_rate: float = 5e-5


def check_minimum(settings: RunSettings, name: str, minimum: float) -> None:
    """Raise `ConfigError` if the setting called `name` is below `minimum`."""
    if getattr(settings, name) < minimum:
        raise ConfigError(f"{name} must be at least {minimum:g}, got {getattr(settings, name)}.")
