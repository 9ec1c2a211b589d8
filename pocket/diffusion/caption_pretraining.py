"""Pretrains the text encoder and the fusion on captions alone, by predicting the attributes of their scenes.

A network that receives a meaningless text context at first learns to ignore it, and uses it much later. A
caption costs a thousandth of the time of a sound, so this stage comes first; then the network is trained
together with these parts. The classifier of attributes is discarded.

B captions, D width of the context's tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from audiox_ext.checkpoints.safetensors_writer import write_safetensors
from audiox_ext.checkpoints.state_dict import read_tensors
from audiox_ext.errors import TrainingError
from audiox_ext.training.module import TrainingModule
from audiox_ext.training.results import TrainingSpace
from audiox_ext.training.settings import RunSettings
from audiox_ext.training.trainer import Batch, fit

from ..world.dataset import Dataset
from ..world.kinds import KINDS, NOTES, TIMBRES
from ..world.scenes import ARRANGEMENTS, Scene

if TYPE_CHECKING:
    from .training_module import DiffusionTraining

_BATCH = 64
_RATE = 1.5e-3
_WARMUP = 50
_CLIP = 1.0  # largest norm of the gradients
_REPORT_EVERY = 250
_CHECKPOINT_EVERY = 250
_TEMPO = 10  # beats per minute in a class
_TEMPI = tuple(range(0, 300 // _TEMPO))

_OPTIONS: dict[str, tuple[Any, ...]] = {
    "register": ("high", "low"),
    "note": NOTES,
    "quality": ("major", "minor"),
    "loudness": ("loud", "quiet"),
    "pace": ("fast", "slow"),
    "tempo": _TEMPI,
    "motion": ("rising", "falling"),
    "side": ("left", "right"),
    "count": (1, 2, 3, 4),
    "timbre": TIMBRES,
}
_PARTS = 2  # most parts of a scene
# Classes per question: the arrangement of the parts, then for each part its kind and its attributes.
SIZES = (len(ARRANGEMENTS), *_PARTS * (len(KINDS) + 1, *(len(values) + 1 for values in _OPTIONS.values())))


def answers(scene: Scene) -> list[int]:
    """Return the class of each question for a scene.

    Args:
        scene: The scene.

    Returns:
        One number per question, below its size in `SIZES`; 0 if the description does not mention it.
    """
    numbers = [ARRANGEMENTS.index(scene.arrangement)]
    for place in range(_PARTS):
        part = scene.parts[place] if place < len(scene.parts) else None
        numbers.append(0 if part is None else 1 + list(KINDS).index(part.kind))
        for name, options in _OPTIONS.items():
            value = None if part is None else getattr(part.description, name)
            if name == "tempo" and value is not None:
                value = int(value) // _TEMPO
            numbers.append(0 if value is None else 1 + options.index(value))
    return numbers


class AttributeClassifier(nn.Module):
    """Classifies attributes from the mean of the tokens of a context."""

    def __init__(self, width: int) -> None:
        """Build the classifier.

        Args:
            width: Width of the tokens.
        """
        super().__init__()
        self.layers = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, sum(SIZES)))

    def forward(self, context: Tensor) -> tuple[Tensor, ...]:
        """Compute logits.

        Args:
            context: Context (B, N, D).

        Returns:
            Logits (B, classes) of each question.
        """
        return self.layers(context.float().mean(dim=1)).split(SIZES, dim=-1)

    def loss(self, context: Tensor, labels: Tensor) -> Tensor:
        """Compute the cross-entropy, summed over the questions.

        Args:
            context: Context (B, N, D).
            labels: Classes (B, questions).

        Returns:
            The loss.
        """
        logits = self(context)
        return torch.stack(
            [F.cross_entropy(*pair) for pair in zip(logits, labels.unbind(1), strict=True)]
        ).sum()


@dataclass(frozen=True)
class CaptionBatch(Batch):
    """A batch of captions.

    Attributes:
        captions: The captions.
        labels: Classes of their scenes (B, questions).
    """

    captions: list[str]
    labels: Tensor

    def to(self, device: torch.device) -> CaptionBatch:
        """Move the labels to a device.

        Args:
            device: The device.

        Returns:
            The batch on that device.
        """
        return CaptionBatch(self.step, self.numbers, self.captions, self.labels.to(device))


@dataclass(frozen=True)
class CaptionBatches:
    """Batches of captions of a dataset, which repeats without end.

    Attributes:
        dataset: Source of the captions.
    """

    dataset: Dataset

    def __getitem__(self, step: int) -> CaptionBatch:
        """Make the batch of a step.

        Args:
            step: Number of the batch.

        Returns:
            The batch.
        """
        numbers = tuple(n % len(self.dataset) for n in range(step * _BATCH, (step + 1) * _BATCH))
        return CaptionBatch(step, numbers, *captions_and_labels(self.dataset, numbers))


class CaptionTraining(TrainingModule):
    """Trains the text encoder and the fusion of another training's model, and a classifier."""

    def __init__(self, diffusion: DiffusionTraining) -> None:
        """Freeze everything else. Draws the initial weights of the classifier from the global generator.

        Args:
            diffusion: Training with the model. `release` restores which of its parameters are trained.
        """
        settings = RunSettings(
            steps=diffusion.settings.caption_steps,
            batch_size=_BATCH,
            learning_rate=_RATE,
            warmup_steps=_WARMUP,
            weight_decay=0.0,
            gradient_clip=_CLIP,
            ema_decay=0.0,  # the weights of the last step are the result
            workers=0,  # a batch takes longer to send than to make
            seed=diffusion.settings.seed,
            validation_items=0,
            checkpoint_every=_CHECKPOINT_EVERY,
            report_every=_REPORT_EVERY,
        )
        super().__init__(settings)
        self.strict_loading = False  # checkpoints hold the trained parameters alone
        trained = {id(value) for value in caption_parameters(diffusion).values()}
        self._frozen = [v for v in diffusion.parameters() if v.requires_grad and id(v) not in trained]
        for value in self._frozen:
            value.requires_grad_(False)
        self.diffusion = diffusion
        self.questions = AttributeClassifier(diffusion.config.model.cond_dim)
        self.start_averaging()

    def compute_losses(self, batch: Batch, random: torch.Generator, *, training: bool) -> dict[str, Tensor]:
        """Compute the cross-entropy of the answers.

        Args:
            batch: A `CaptionBatch`.
            random: Generator of the encoders.
            training: Unused.

        Returns:
            The `loss`.
        """
        assert isinstance(batch, CaptionBatch)
        context = self.diffusion.text_context(batch.captions, random)
        return {"loss": self.questions.loss(context, batch.labels)}

    def release(self) -> None:
        """Let the other parameters of the model be trained again."""
        for value in self._frozen:
            value.requires_grad_(True)


def pretrain_on_captions(
    module: DiffusionTraining,
    dataset: Dataset,
    folder: Path,
    device: str | torch.device,
    report: Callable[[str], None],
) -> AttributeClassifier:
    """Train the text encoder and the fusion on captions, or resume that from `folder`/last.ckpt.

    Args:
        module: Training whose model is trained.
        dataset: Source of captions, item by item.
        folder: Folder for the checkpoint and TensorBoard's events.
        device: Device to train on.
        report: Receives lines about the progress.

    Returns:
        The classifier.
    """
    from audiox_ext.training.callbacks import TrainingCallback

    training = CaptionTraining(module)
    training.identity |= module.config.identity
    space = TrainingSpace(folder, training.checkpoint_bytes)
    callback = TrainingCallback(space, lambda: (), lambda line: report(f"captions, {line}"))
    try:
        fit(training, training.settings, CaptionBatches(dataset), callback, space, device)
    finally:
        training.release()
    return training.questions


def caption_parameters(module: DiffusionTraining) -> dict[str, nn.Parameter]:
    """Return the trainable parameters of the conditioners and the fusion, by key in the model.

    Args:
        module: Training with the model.
    """
    parts = ("conditioner.", "maf_block.")
    named = module.model.named_parameters()
    return {key: value for key, value in named if key.startswith(parts) and value.requires_grad}


def captions_and_labels(dataset: Dataset, numbers: Sequence[int]) -> tuple[list[str], Tensor]:
    """Return captions and the classes of their scenes.

    Args:
        dataset: Source of the captions.
        numbers: Indices of the items.

    Returns:
        The captions, and the classes (B, questions).
    """
    scenes = [dataset.scene(number) for number in numbers]
    return [dataset.caption(number) for number in numbers], torch.tensor([answers(scene) for scene in scenes])


def ensure_captions_learnt(
    module: DiffusionTraining, path: Path, device: str | torch.device, report: Callable[[str], None]
) -> None:
    """Pretrain the text encoder and the fusion on captions, or read the result of an earlier call.

    Args:
        module: The training, changed in place.
        path: File of the result. The checkpoint lies beside it until the result is written.
        device: Device to train on.
        report: Called with each line about the progress.

    Raises:
        TrainingError: The file belongs to another configuration.
    """
    config, values = module.config, caption_parameters(module)
    if path.is_file():
        stored = read_tensors(path)
        if {key: value.shape for key, value in stored.items()} != {k: v.shape for k, v in values.items()}:
            raise TrainingError(f"{path} does not fit this configuration: delete it to train it again.")
        with torch.no_grad():
            for key, value in values.items():
                value.copy_(stored[key])
    else:
        dataset = config.dataset("training", film_fraction=config.data.film_fraction)
        pretrain_on_captions(module, dataset, path.parent, device, report)
        state = {key: value.detach().cpu().contiguous() for key, value in values.items()}
        write_safetensors(path, state, {}, {})
        (path.parent / "last.ckpt").unlink()
    module.start_averaging()
