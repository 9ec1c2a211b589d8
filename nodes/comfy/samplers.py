"""ComfyUI's samplers and noise levels (SAMPLER, SIGMAS) for the engine.

Beside comfy_host.py the only module that touches `comfy`. A SAMPLER of ComfyUI is a function around a model
with more to it than a denoiser: what is asked of that in ComfyUI 0.3.64 and newer is stood in for here.
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


def adapt_sampler(sampler: object) -> ExternalSampler:
    """The engine's view of a SAMPLER. Raises `InputError` for one that is made in another way than ComfyUI's
    own, or that wants to do the guidance itself.
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
            f"The sampler {name} works with ComfyUI's own guidance, and AudioX brings its own. Choose one "
            "without cfg_pp in its name."
        )
    options = dict(getattr(sampler, "extra_options", None) or {})

    def solve(denoise: Denoise, x: Tensor, sigmas: Tensor, extra: SamplerExtra) -> Tensor:
        def told(state: dict[str, Any]) -> None:
            # Some tell only the number of the step.
            sigma = state.get("sigma", sigmas[min(int(state["i"]), len(sigmas) - 1)])
            extra.report(float(sigma), state["denoised"])

        arguments = {"seed": extra.seed, "model_options": {}, "denoise_mask": None}
        model = _Model(denoise, extra)
        return function(model, x, sigmas, extra_args=arguments, callback=told, disable=True, **options)

    return solve


class _Model:
    """What a sampler function of ComfyUI calls its model: a denoiser, behind which it looks for the kind of
    noise levels.
    """

    def __init__(self, denoise: Denoise, extra: SamplerExtra) -> None:
        self._denoise = denoise
        levels = _Levels()
        levels.set_parameters(extra.sigma_min, extra.sigma_max, 1.0)
        patcher = SimpleNamespace(get_model_object=lambda name: {"model_sampling": levels}[name])
        inside = SimpleNamespace(model_sampling=levels)
        self.inner_model = SimpleNamespace(model_patcher=patcher, inner_model=inside, model_sampling=levels)

    def __call__(self, x: Tensor, sigma: Tensor, **extra_args: Any) -> Tensor:
        return self._denoise(x, sigma)


class _Levels(comfy.model_sampling.ModelSamplingContinuousV, comfy.model_sampling.V_PREDICTION):
    """The v objective, as ComfyUI says it."""


def levels_of(sigmas: object) -> Tensor:
    """SIGMAS, checked. Raises `InputError` for what is none, or is empty."""
    if not isinstance(sigmas, Tensor) or sigmas.dim() != 1 or len(sigmas) < 2:
        got = f"{sigmas.numel()} numbers" if isinstance(sigmas, Tensor) else type(sigmas).__name__
        raise InputError(
            f"The custom_sigmas input holds {got}, and at least two noise levels are needed. Connect a node "
            "that makes sigmas, such as KarrasScheduler, and give it at least one step."
        )
    return sigmas
