"""ComfyUI's samplers and noise levels (SAMPLER and SIGMAS inputs) for the engine.

A sampler of ComfyUI expects a model object with more attributes than a denoiser has. `_Model` provides
those that the samplers of ComfyUI 0.3.64 and newer read.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import comfy.model_sampling
from torch import Tensor

from ...audiox_ext.errors import InputError

if TYPE_CHECKING:
    from ...audiox_ext.sampling.external import ExternalSampler, SamplerExtra
    from ...audiox_ext.sampling.sampler_run import Denoise
    from ..shared.sockets import ComfySampler


def adapt_sampler(sampler: ComfySampler) -> ExternalSampler:
    """Wrap a SAMPLER of ComfyUI for the engine.

    Raises:
        InputError: the sampler is not built like ComfyUI's own, or applies guidance itself.
    """
    function = getattr(sampler, "sampler_function", None)
    if not callable(function):
        raise InputError(
            f"The custom_sampler input holds {type(sampler).__name__}, not a sampler of the form that "
            "KSamplerSelect gives. Connect KSamplerSelect, or disconnect the input."
        )
    name = getattr(function, "__name__", "").removeprefix("sample_")
    if "cfg_pp" in name:
        raise InputError(
            f"The sampler {name} depends on ComfyUI's guidance, but AudioX brings its own. Choose a sampler "
            "without cfg_pp in its name."
        )
    options = dict(getattr(sampler, "extra_options", None) or {})

    def solve(denoise: Denoise, x: Tensor, sigmas: Tensor, extra: SamplerExtra) -> Tensor:
        def report(state: dict[str, Any]) -> None:
            # Some samplers pass only the step number.
            sigma = state.get("sigma", sigmas[min(int(state["i"]), len(sigmas) - 1)])
            extra.report(float(sigma), state["denoised"])

        arguments = {"seed": extra.seed, "model_options": {}, "denoise_mask": None}
        model = _Model(denoise, extra)
        return function(model, x, sigmas, extra_args=arguments, callback=report, disable=True, **options)

    return solve


class _Model:
    """A denoiser with the model attributes in which ComfyUI's samplers look up the noise schedule."""

    def __init__(self, denoise: Denoise, extra: SamplerExtra) -> None:
        self._denoise = denoise
        schedule = _VSchedule()
        schedule.set_parameters(extra.sigma_min, extra.sigma_max, 1.0)
        patcher = SimpleNamespace(get_model_object=lambda name: {"model_sampling": schedule}[name])
        self.inner_model = SimpleNamespace(
            model_patcher=patcher,
            inner_model=SimpleNamespace(model_sampling=schedule),
            model_sampling=schedule,
        )

    def __call__(self, x: Tensor, sigma: Tensor, **extra_args: Any) -> Tensor:
        return self._denoise(x, sigma)


class _VSchedule(comfy.model_sampling.ModelSamplingContinuousV, comfy.model_sampling.V_PREDICTION):
    """ComfyUI's name for the v objective over continuous noise levels."""


def check_sigmas(sigmas: Tensor) -> Tensor:
    """Return the value of a SIGMAS input if it is usable.

    Raises:
        InputError: the value is not a one-dimensional tensor of at least two noise levels.
    """
    if not isinstance(sigmas, Tensor) or sigmas.dim() != 1 or len(sigmas) < 2:
        value = f"{sigmas.numel()} numbers" if isinstance(sigmas, Tensor) else type(sigmas).__name__
        raise InputError(
            f"The custom_sigmas input holds {value}, but at least two noise levels are needed. Connect a "
            "node that makes sigmas, such as KarrasScheduler, and give it at least one step."
        )
    return sigmas
