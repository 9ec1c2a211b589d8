"""Runs a training with Lightning, or resumes it from its last checkpoint."""

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

from ..checkpoints.pretrained import multiplies_bf16
from ..errors import InputError, TrainingError
from .batches import loader

if TYPE_CHECKING:
    from .callbacks import Supervision
    from .module import TrainingModule

Report = Callable[[str], None]


def require_lightning() -> None:
    """Raises `InputError` where what training needs is not installed."""
    missing = [name for name in ("lightning", "tensorboard") if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(
            f'Training needs {" and ".join(missing)}, not installed here: pip install "audiox-ext[train]", '
            "or in the folder of this pack pip install .[train]"
        )


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
    with _quiet_lightning(), _no_denormals():
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

    settings, kind = module.settings, torch.device(device).type
    half = settings.precision == "bf16" and (kind != "cpu" or multiplies_bf16())
    return Trainer(
        accelerator=kind,
        devices=1,
        max_steps=settings.steps,
        precision="bf16-mixed" if half else "32-true",
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


@contextmanager
def _no_denormals() -> Iterator[None]:
    """Numbers next to zero, which silence is full of, become zero: processors take many times longer for
    them.
    """
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


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
