"""Runs a training with Lightning, or resumes it from its last checkpoint.

Batches have numbers, and batch n is the same whenever it is made. So a resumed training sees the batches that
an unbroken one would have seen.
"""

from __future__ import annotations

import importlib.util
import logging
import pickle
import signal
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler

from ..checkpoints.pretrained import multiplies_bf16
from ..errors import InputError, TrainingError
from ..random_numbers import keyed_generator
from ..utf8 import get_logger
from .results import TrainingSpace
from .settings import RunSettings

if TYPE_CHECKING:
    from lightning.pytorch import Callback, LightningModule, Trainer
    from lightning.pytorch.loggers import Logger

log = get_logger(__name__)

Report = Callable[[str], None]
"""Receives one line of text for the user."""

_ORDER_KEY = 202  # keeps these random numbers apart from others


@dataclass(frozen=True)
class Batch:
    """Base of all batches.

    Attributes:
        step: number of the batch, from 0.
        numbers: numbers of its items.
    """

    step: int
    numbers: tuple[int, ...]

    def to(self, device: torch.device) -> Batch:
        """Return the batch with its tensors on a device."""
        raise NotImplementedError


class BatchSource(Protocol):
    """Makes batches by their number, without an end."""

    def __getitem__(self, step: int) -> Any:
        """Make batch number `step`: a `Batch`, or another class with `step`, `numbers` and `to`."""


def require_lightning() -> None:
    """Raise `InputError` if the packages that training needs are not installed."""
    missing = [name for name in ("lightning", "tensorboard") if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(
            f"Training needs {' and '.join(missing)}, which is not installed. "
            'Run: pip install "audiox-ext[train]", or in this pack\'s folder: pip install .[train]'
        )


def choose_precision(device: torch.device) -> str:
    """Return the fastest `RunSettings.precision` that is safe on a device."""
    has_bf16 = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return "bf16" if has_bf16 else "32"


def fit(
    module: LightningModule,
    settings: RunSettings,
    batches: BatchSource,
    callback: Callback,
    space: TrainingSpace,
    device: str | torch.device,
) -> None:
    """Run all steps of a training, or those that its last checkpoint lacks.

    Args:
        module: the training to run.
        settings: length and precision of the training.
        batches: source of the batches.
        callback: called at every step; it writes checkpoints.
        space: folder for the checkpoint and TensorBoard's events; created if it does not exist.
        device: device to train on.

    Raises:
        InputError: the checkpoints and the result do not fit on the disk.
        TrainingError: the checkpoint cannot be read or belongs to another training, or the training diverges.
        KeyboardInterrupt: the user interrupted it.
    """
    space.folder.mkdir(parents=True, exist_ok=True)
    first = count_steps(space.checkpoint)
    space.check()
    on_interrupt = signal.getsignal(signal.SIGINT)
    with _silence_lightning(), _flush_denormals(), space.hold():
        trainer = _make_trainer(settings, callback, space.folder, device)
        try:
            trainer.fit(
                module,
                make_loader(batches, first, settings.steps, settings.workers),
                ckpt_path=str(space.checkpoint) if first else None,
                weights_only=True if first else None,
            )
        except SystemExit:  # Lightning raises this when interrupted, and ignores interrupts from then on
            signal.signal(signal.SIGINT, on_interrupt)
            raise KeyboardInterrupt from None
    if trainer.global_step < settings.steps and not trainer.should_stop:
        raise TrainingError(
            f"Training ended after {trainer.global_step} of {settings.steps} steps. Run it again to resume."
        )


def count_steps(path: Path) -> int:
    """Return the number of finished steps in a checkpoint; 0 if there is no file.

    Raises:
        TrainingError: the file cannot be read.
    """
    checkpoint = read_checkpoint(path)
    return 0 if checkpoint is None else int(checkpoint["global_step"])


def read_checkpoint(path: Path) -> dict[str, Any] | None:
    """Read a checkpoint, memory-mapped; None if there is no file.

    Raises:
        TrainingError: the file cannot be read.
    """
    if not path.is_file():
        return None
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        int(checkpoint["global_step"])
    except Exception as error:  # a damaged file can make the reader raise anything
        reason = str(error) or type(error).__name__
        if isinstance(error, pickle.UnpicklingError):  # its message advises to run the code in the file
            reason = "it holds more than tensors and plain data"
        raise TrainingError(
            f"{path} cannot be read ({reason}). Delete it to start over, or restore a copy of it."
        ) from None
    return dict(checkpoint)


def make_loader(batches: BatchSource, first: int, end: int, workers: int) -> DataLoader[Any]:
    """Return a loader of the batches from `first` up to, but not including, `end`, in order.

    Args:
        batches: source of the batches.
        first: number of the first batch.
        end: number after the last batch.
        workers: processes that make batches; 0 makes them in this process.
    """
    return DataLoader(
        batches,  # type: ignore[arg-type]  # only __getitem__ is used of torch's Dataset
        batch_size=None,
        sampler=_StepSampler(range(first, end)),
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        persistent_workers=False,
        multiprocessing_context="spawn" if workers else None,
    )


def pick_item(place: int, count: int, shuffled: bool) -> int:
    """Return the item at a place in an endless series of passes over all items.

    Args:
        place: position in the series, from 0.
        count: number of items, which is also the length of a pass.
        shuffled: give each pass an order of its own.
    """
    number, position = divmod(place, count)
    return int(_shuffle(count, number)[position]) if shuffled else position


@lru_cache(maxsize=4)
def _shuffle(count: int, number: int) -> np.ndarray:
    """Return the shuffled order of the items in one pass over them."""
    return keyed_generator(_ORDER_KEY, number).permutation(count)


class _StepSampler(Sampler[int]):
    """Gives a loader the numbers of the batches that are left."""

    def __init__(self, steps: range) -> None:
        self._steps = steps

    def __iter__(self) -> Iterator[int]:
        return iter(self._steps)

    def __len__(self) -> int:
        """Count the batches before the first one, too.

        Lightning adds the finished steps of a resumed training to those that it fetches, and starts over
        when the sum reaches this length.
        """
        return self._steps.stop


def _make_trainer(
    settings: RunSettings, callback: Callback, folder: Path, device: str | torch.device
) -> Trainer:
    from lightning.pytorch import Trainer

    kind = torch.device(device).type
    uses_bf16 = settings.precision == "bf16" and (kind != "cpu" or multiplies_bf16())
    return Trainer(
        accelerator=kind,
        devices=1,
        max_steps=settings.steps,
        precision="bf16-mixed" if uses_bf16 else "32-true",
        logger=_make_event_log(folder),
        callbacks=[callback],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        log_every_n_steps=1,
    )


def _make_event_log(folder: Path) -> Logger:
    """Return a logger for TensorBoard. If it cannot write, as on a full disk, the training continues."""
    from lightning.pytorch.loggers import TensorBoardLogger

    class EventLog(TensorBoardLogger):
        has_failed = False

        def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
            self._try(lambda: super(EventLog, self).log_metrics(metrics, step))

        def save(self) -> None:
            self._try(super().save)

        def finalize(self, status: str) -> None:
            self._try(lambda: super(EventLog, self).finalize(status))

        def _try(self, write: Callable[[], None]) -> None:
            if self.has_failed:
                return
            try:
                write()
            except (OSError, ValueError) as error:
                problem = error.__cause__ or error  # Lightning wraps every error
                if not isinstance(problem, OSError):
                    raise
                self.has_failed = True
                log.warning("TensorBoard's events cannot be written (%s). Training continues.", problem)

    return EventLog(str(folder), name="", version="events")


@contextmanager
def _silence_lightning() -> Iterator[None]:
    """Hide Lightning's hints; the callback reports what matters."""
    names = ("lightning.pytorch", "lightning.fabric")
    levels = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning")
            # Our loader begins after the checkpoint's step, so it needs no state of its own.
            warnings.filterwarnings("ignore", message=".*your dataloader is not resumable.*")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


@contextmanager
def _flush_denormals() -> Iterator[None]:
    """Round denormal numbers to zero; silence is full of them, and processors compute them slowly."""
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)
