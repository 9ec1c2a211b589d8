"""How many threads a command computes with on the processor.

Every small operation waits for the slowest thread. With a small model, more threads gain little on an idle
machine, and beside another program each wait can cost a time slice of the system.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from ..errors import AudioXError, InputError
from .common import model_folders


def add_threads(command: argparse.ArgumentParser) -> None:
    """Add --threads."""
    command.add_argument(
        "--threads",
        type=int,
        default=0,
        metavar="N",
        help="threads of the processor (default: OMP_NUM_THREADS, or as many as the model can use)",
    )


def let_threads_sleep() -> None:
    """Make waiting threads sleep, unless the environment says otherwise. Works before torch is imported.

    By default they keep their core busy while they wait, which slows down the thread they are waiting for as
    soon as another program needs a core.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")


@contextmanager
def limited_threads(options: argparse.Namespace, batch: int) -> Iterator[None]:
    """Compute with --threads inside the block, or with as many threads as pay for the model.

    A GPU, OMP_NUM_THREADS and MKL_NUM_THREADS leave the number as it is.

    Args:
        options: threads, model, device and models.
        batch: items in a pass of the network.

    Raises:
        InputError: --threads is negative.
    """
    import torch

    before = torch.get_num_threads()
    count = _choose(options, batch, before)
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _choose(options: argparse.Namespace, batch: int, available: int) -> int:
    """Return the number of threads. `available` is torch's own choice, one per core."""
    from ..checkpoints.pretrained import find_stored_model
    from ..devices import choose_thread_count, resolve_device

    if options.threads < 0:
        raise InputError(f"--threads is {options.threads}. Give 1 or more, or 0 for the default.")
    if options.threads:
        return int(options.threads)
    is_explicit = any(os.environ.get(name) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"))
    if is_explicit or resolve_device(options.device).type != "cpu":
        return available
    with suppress(AudioXError):  # a model that is not on disk yet is one of the large ones
        config = find_stored_model(options.model, model_folders(options)).config
        return choose_thread_count(config.network.embed_dim, config.latent_count * batch, available)
    return available
