"""The two trainings as one call each: from a configuration to weights in a folder.

    FOLDER/autoencoder/   last.ckpt, events for TensorBoard, autoencoder.safetensors
    FOLDER/diffusion/     last.ckpt, events for TensorBoard, tokenizer.json
    FOLDER/model/         the model in the published layout

A call that finds a last.ckpt goes on from it, and gives what it would have given without the break.
"""

from __future__ import annotations

import importlib.util
import logging
import signal
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..errors import InputError, TrainingError
from .batches import Batch, Batches, loader
from .checkpoints import write_whole
from .export import export_model, write_autoencoder
from .settings import TrainingConfig

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from ..networks.autoencoder import Autoencoder
    from .supervision import Supervision
    from .training_module import TrainingModule

Report = Callable[[str], None]

_CAPTIONS = 20_000  # that a tokenizer is made for
_SCALING_BATCHES = 16  # of sounds whose latents' deviation is measured


def require_lightning() -> None:
    """Raises `InputError` where what training needs is not installed."""
    missing = [name for name in ("lightning", "tensorboard") if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(
            f'Training needs {" and ".join(missing)}, not installed here: pip install "audiox-ext[train]", '
            "or in the folder of this pack pip install .[train]"
        )


def train_autoencoder(
    config: TrainingConfig, folder: Path, *, device: str | torch.device, report: Report
) -> Path:
    """Train, or go on. Returns the weights' file. Raises `TrainingError`, `InputError`."""
    require_lightning()
    from .autoencoder_training import AutoencoderTraining

    settings, place = config.autoencoder, folder / "autoencoder"
    ratio = config.model.autoencoder.downsampling_ratio
    # A whole number of latents, at least one.
    samples = max(1, round(settings.crop_seconds * config.model.sample_rate / ratio)) * ratio
    torch.manual_seed(settings.seed)
    module = AutoencoderTraining(config.model.autoencoder, settings)
    batches, held_out = (
        Batches(config.dataset(split, films=False), settings.batch_size, samples, crop=True, whole=False)
        for split in ("training", "held out")
    )
    _fit(module, batches, held_out, place, device, report)
    result = place / "autoencoder.safetensors"
    with module.average.in_place():
        plain = _plain_autoencoder(module.autoencoder, config)
    sounds = (batches[step].waveforms for step in range(_SCALING_BATCHES))
    from .latent_scale import normalise_latents

    by = normalise_latents(plain, sounds)
    report(f"Latents divided by {float(by.min()):.3g} to {float(by.max()):.3g}, their deviations.")
    write_autoencoder(plain, result)
    return result


def train_diffusion(
    config: TrainingConfig,
    folder: Path,
    *,
    device: str | torch.device,
    report: Report,
    dtype: torch.dtype = torch.float16,
) -> Path:
    """Train, or go on, with the autoencoder in the folder. Returns the model's folder, written in `dtype`.

    Raises `TrainingError` and `InputError`.
    """
    require_lightning()
    from ..state_dict import read_tensors
    from .diffusion_training import DiffusionTraining

    weights = folder / "autoencoder" / "autoencoder.safetensors"
    if not weights.is_file():
        raise InputError(f"{weights} is missing: train the autoencoder into this folder first.")
    settings, place = config.diffusion, folder / "diffusion"
    tokenizer = _tokenizer(config, place / "tokenizer.json")
    torch.manual_seed(settings.seed)
    try:
        module = DiffusionTraining(config, read_tensors(weights), tokenizer)
    except RuntimeError as error:  # of load_state_dict
        raise TrainingError(f"{weights} is not the autoencoder of this configuration ({error}).") from None
    samples = config.model.latent_count * config.model.autoencoder.downsampling_ratio
    batches, held_out = (
        Batches(config.dataset(split), settings.batch_size, samples) for split in ("training", "held out")
    )
    _fit(module, batches, held_out, place, device, report)
    size = export_model(module.to("cpu"), folder / "model", dtype)
    report(f"{folder / 'model'}: {size / 1e6:.1f} MB")
    return folder / "model"


def _fit(
    module: TrainingModule,
    batches: Batches,
    held_out: Batches,
    place: Path,
    device: str | torch.device,
    report: Report,
) -> None:
    from .supervision import Supervision

    settings = module.settings

    def validation() -> Iterator[Batch]:
        yield from (held_out[step] for step in range(-(-settings.validation_items // held_out.size)))

    supervision = Supervision(place / "last.ckpt", validation, report)
    fit_supervised(module, batches, supervision, place, device)


def fit_supervised(
    module: TrainingModule,
    batches: Any,
    supervision: Supervision,
    place: Path,
    device: str | torch.device,
) -> None:
    """All steps of a training, or those that its last.ckpt in `place` lacks. batches: by their number."""
    settings, last = module.settings, place / "last.ckpt"
    place.mkdir(parents=True, exist_ok=True)
    first = steps_done(last)
    on_interrupt = signal.getsignal(signal.SIGINT)
    with _quiet_lightning():
        trainer = _trainer(module, supervision, place, device)
        try:
            trainer.fit(
                module,
                loader(batches, first, settings.steps, settings.workers),
                ckpt_path=str(last) if first else None,
                weights_only=True if first else None,
            )
        except SystemExit:  # what Lightning makes of an interruption, after which it ignores all others
            signal.signal(signal.SIGINT, on_interrupt)
            raise KeyboardInterrupt from None


def _trainer(module: TrainingModule, supervision: Any, place: Path, device: str | torch.device) -> Any:
    from lightning.pytorch import Trainer
    from lightning.pytorch.loggers import TensorBoardLogger

    settings = module.settings
    return Trainer(
        accelerator=torch.device(device).type,
        devices=1,
        max_steps=settings.steps,
        precision="bf16-mixed" if settings.precision == "bf16" else "32-true",
        logger=TensorBoardLogger(str(place), name="", version="events"),
        callbacks=[supervision],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        log_every_n_steps=1,
    )


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Without its hints: what there is to say, `Supervision` says."""
    names = ("lightning.pytorch", "lightning.fabric")
    levels = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning")
            # Ours begins at the step after the checkpoint.
            warnings.filterwarnings("ignore", message=".*your dataloader is not resumable.*")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


def steps_done(checkpoint: Path) -> int:
    """Of a training, 0 for one that has not begun."""
    if not checkpoint.is_file():
        return 0
    try:
        return int(torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)["global_step"])
    except Exception as error:  # a damaged file can make the reader raise anything
        raise TrainingError(
            f"{checkpoint} cannot be read ({error}). Take it away to begin anew, or put a copy in its place."
        ) from None


def _tokenizer(config: TrainingConfig, path: Path) -> Tokenizer:
    """Made once a training: the same text must give the same tokens ever after."""
    from .text import make_tokenizer, read_tokenizer

    if not path.is_file():
        data = config.dataset("training")
        captions = (data.caption(index) for index in range(min(_CAPTIONS, len(data))))
        made = make_tokenizer(captions, config.text_encoder.vocabulary)
        write_whole(path, lambda begun: made.save(str(begun)))
    return read_tokenizer(path)


def _plain_autoencoder(trained: Autoencoder, config: TrainingConfig) -> Any:
    """The same with plain weights, on the CPU."""
    from ..networks.autoencoder import Autoencoder
    from .weight_norm import plain_state

    plain = Autoencoder(config.model.autoencoder, dtype=torch.float32)
    plain.load_state_dict({key: value.cpu() for key, value in plain_state(trained).items()}, strict=True)
    return plain.eval().requires_grad_(False)
