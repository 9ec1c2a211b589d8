"""Named settings of the sampler: what it costs to be exact, and how little might do.

This is the one place where their values stand. `balanced` and `fast` were measured with audiox-pocket
(docs/sampler-study.md): on no measure worse than `published` by more than other seeds change.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..model_info import ModelFacts

if TYPE_CHECKING:
    from .request import AudioRequest

log = logging.getLogger(__name__)

WHOLE_RUN = (0.0, 1.0)


@dataclass(frozen=True, kw_only=True)
class Preset:
    """Values for what a request leaves open, by the names of its fields. 0 and "" leave it open, too."""

    steps: int = 0
    sampler_type: str = ""
    schedule: str = ""
    guidance_interval: tuple[float, float] = WHOLE_RUN
    guidance_rescale: float = 0.0
    reuse_threshold: float = 0.0


PRESETS: dict[str, Preset] = {
    "published": Preset(steps=250, sampler_type="dpmpp-3m-sde", schedule="polyexponential"),
    "balanced": Preset(steps=50, sampler_type="dpmpp-2m", schedule="polyexponential"),
    "fast": Preset(steps=25, sampler_type="dpmpp-2m", schedule="polyexponential"),
}


def with_preset(model: ModelFacts, request: AudioRequest) -> AudioRequest:
    """The request with what its preset fills in; what the user has set stays.

    A few-step student makes as many steps as it was trained for: a preset changes nothing there. With
    rectified flow the sampler and the schedule have no influence. Raises KeyError for an unknown preset,
    which `check_settings` refuses before.
    """
    if not request.preset:
        return request
    if model.config.few_step_count is not None:
        log.info("The preset %s changes nothing: this model makes few steps of its own.", request.preset)
        return request
    preset = PRESETS[request.preset]
    open_fields = {
        "steps": not request.steps and request.sigmas is None,
        "sampler_type": not request.sampler_type and request.custom_sampler is None,
        "schedule": not request.schedule and request.sigmas is None,
        "guidance_interval": request.guidance_interval == WHOLE_RUN,
        "guidance_rescale": not request.guidance_rescale,
        "reuse_threshold": not request.reuse_threshold,
    }
    return replace(
        request, **{name: getattr(preset, name) for name, is_open in open_fields.items() if is_open}
    )
