"""ComfyUI's progress bar, live preview and cancel button."""

from __future__ import annotations

from typing import TYPE_CHECKING

import comfy.model_management as mm
import comfy.utils
from comfy.cli_args import args

from ...audiox_ext.utf8 import get_logger

if TYPE_CHECKING:
    from PIL.Image import Image

    from ...audiox_ext.sampling.denoiser import StepInfo

log = get_logger(__name__)


def check_cancelled() -> None:
    """Stop the run if the user cancelled it.

    Raises:
        InterruptProcessingException: the user cancelled the run. Never catch it: ComfyUI does.
    """
    mm.throw_exception_if_processing_interrupted()


class StepProgress:
    """A sampling callback that moves the progress bar and stops the run when the user cancels it."""

    def __init__(self, live_preview: bool = True) -> None:
        """Prepare a callback for one run.

        Args:
            live_preview: show the current estimate of the first sound in each step.
        """
        self._bar: comfy.utils.ProgressBar | None = None
        self._live_preview = live_preview

    def __call__(self, info: StepInfo) -> None:
        """Report a step.

        Args:
            info: the step that has just finished.
        """
        check_cancelled()
        if self._bar is None:
            # Created late, because only the engine knows how many steps the model takes.
            self._bar = comfy.utils.ProgressBar(info.steps)
        preview = _draw_preview(info) if self._live_preview else None
        self._bar.update_absolute(info.step, info.steps, preview)


def _draw_preview(info: StepInfo) -> tuple[str, Image, int] | None:
    """Draw the current estimate in the form that ComfyUI's progress bar accepts.

    --preview-method does not apply here: it is off by default, because image previews are slow.
    """
    from ...audiox_ext.plotting.sound_image import draw_latents

    try:
        return "JPEG", draw_latents(info.denoised[0]), args.preview_size
    except Exception as error:  # a failed preview must not end the run
        log.warning("AudioX: no preview of this step: %s", error)
        return None


class TrainingProgress:
    """A training callback that moves the progress bar and stops training when the user cancels it."""

    def __init__(self) -> None:
        """Prepare a callback for one training run."""
        self._bar: comfy.utils.ProgressBar | None = None

    def __call__(self, step: int, steps: int) -> None:
        """Report progress; called after each step and sometimes in between.

        Args:
            step: number of finished steps.
            steps: number of steps in total.
        """
        check_cancelled()
        if self._bar is None:
            self._bar = comfy.utils.ProgressBar(steps)
        self._bar.update_absolute(step, steps)
