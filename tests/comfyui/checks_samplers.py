"""Checks of ComfyUI's own samplers and noise levels on the sampler node."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from in_comfyui import load, message, pack, run, sample, sound  # isort: split

import comfy.k_diffusion.sampling
import comfy.samplers
import torch
from comfy.model_management import InterruptProcessingException, interrupt_current_processing

# Algorithms that both have, by the names here and there.
OURS = {"heun": "k-heun", "dpm_2": "k-dpm-2", "dpmpp_2m": "dpmpp-2m"}


def karras(steps: int = 6) -> torch.Tensor:
    """SIGMAS over the model's range of noise levels."""
    return comfy.k_diffusion.sampling.get_sigmas_karras(steps, 0.3, 500.0, 7.0)


def comfy_sampler(name: str) -> Any:
    """The output of KSamplerSelect."""
    return comfy.samplers.sampler_object(name)


def close(first: torch.Tensor, second: torch.Tensor, limit: float) -> bool:
    """Whether the relative L2 difference is within the limit."""
    return float((first - second).norm() / second.norm()) <= limit


def check_names_of_schedules_and_presets_are_the_engines() -> None:
    sample(load("tiny-turbo"), steps=1)
    inputs = pack("nodes.shared.sampler_inputs")
    assert inputs.SCHEDULES == pack("audiox_ext.sampling.schedules").SCHEDULE_NAMES
    assert inputs.PRESETS == tuple(pack("audiox_ext.pipeline.settings").PRESETS)


def check_the_same_algorithms_give_the_same_sound() -> None:
    handle = load("tiny-maf", "fp32")
    for name, own in OURS.items():
        theirs = sample(handle, custom_sampler=comfy_sampler(name), custom_sigmas=karras())
        ours = sample(handle, sampler=own, schedule="karras", steps=6)
        assert close(theirs, ours, 1e-4), name


def check_euler_is_euler() -> None:
    """Two steps of it by hand, through the engine's own door for samplers."""
    handle = load("tiny-maf", "fp32")
    theirs = sample(handle, custom_sampler=comfy_sampler("euler"), custom_sigmas=karras(5))

    def euler(denoise: Any, x: torch.Tensor, sigmas: torch.Tensor, extra: Any) -> torch.Tensor:
        for sigma, sigma_next in pairwise(sigmas):
            denoised = denoise(x, sigma)
            extra.report(float(sigma), denoised)
            x = x + (x - denoised) / sigma * (sigma_next - sigma)
        return x

    settings = pack("audiox_ext.pipeline.settings").GenerationSettings(
        duration=1.0, cfg=2.0, seed=5, custom_sigmas=karras(5), custom_sampler=euler
    )
    request = pack("audiox_ext.pipeline.request").AudioRequest(prompt="rain", settings=settings)
    with torch.inference_mode():
        ours = pack("audiox_ext.pipeline.make_audio").make_audio(handle.model, request)
    assert close(theirs, ours, 1e-4)


def check_every_sampler_of_comfyui_works_or_says_why_not() -> None:
    handle = load("tiny-maf", "fp32")
    for name in [*comfy.samplers.KSAMPLER_NAMES, "ddim", "uni_pc", "uni_pc_bh2"]:
        settings = {"custom_sampler": comfy_sampler(name), "custom_sigmas": karras(4)}
        if "cfg_pp" in name:
            assert "brings its own" in message(lambda settings=settings: sample(handle, **settings)), name
            continue
        waveform = sample(handle, **settings)
        assert bool(torch.isfinite(waveform).all()), name
        assert torch.equal(waveform, sample(handle, **settings)), f"{name}: the seed decides"


def check_samplers_that_draw_follow_the_seed() -> None:
    handle = load("tiny-maf", "fp32")
    settings = {"custom_sampler": comfy_sampler("euler_ancestral"), "custom_sigmas": karras()}
    before = torch.random.get_rng_state()
    first = sample(handle, **settings)
    assert torch.equal(before, torch.random.get_rng_state())
    assert not close(sample(handle, seed=6, **settings), first, 0.01)


def check_noise_levels_alone_serve_our_samplers() -> None:
    handle, seen = load("tiny-maf", "fp32"), []
    progress = pack("nodes.comfy.progress").StepProgress
    original = progress.__call__

    def spy(self: Any, info: Any) -> None:
        seen.append((info.step, info.steps))
        original(self, info)

    progress.__call__ = spy
    try:
        by_levels = sample(handle, sampler="dpmpp-2m", custom_sigmas=karras(4), steps=99)
    finally:
        progress.__call__ = original
    assert close(by_levels, sample(handle, sampler="dpmpp-2m", schedule="karras", steps=4), 1e-4)
    assert seen == [(i, 4) for i in range(1, 5)], "the levels are the steps"


def check_a_sampler_alone_follows_our_schedule() -> None:
    handle = load("tiny-maf", "fp32")
    theirs = sample(handle, custom_sampler=comfy_sampler("heun"), steps=5)
    assert close(theirs, sample(handle, sampler="k-heun", steps=5), 1e-4)


def check_an_edit_with_a_sampler_of_comfyuis() -> None:
    track = sound(2, 4 * 16000, 16000)
    edit = run("AudioXEditRegion", audio=track, start=1.0, end=2.0, feather=0.05, strength=0.8)[0]
    settings = {"custom_sampler": comfy_sampler("dpmpp_2m_sde"), "custom_sigmas": karras(4)}
    waveform = sample(load("tiny-maf", "fp32"), edit=edit, **settings)
    before = track["waveform"]
    assert torch.equal(waveform[..., :16000], before[..., :16000])
    assert torch.equal(waveform[..., 32000:], before[..., 32000:])
    assert not torch.equal(waveform[..., 16000:32000], before[..., 16000:32000])


def check_cancelling_ends_a_sampler_of_comfyuis() -> None:
    handle = load("tiny-maf", "fp32")
    settings = {"custom_sampler": comfy_sampler("euler"), "custom_sigmas": karras(30)}
    progress, steps = pack("nodes.comfy.progress").StepProgress, []
    original = progress.__call__

    def cancel(self: Any, info: Any) -> None:
        steps.append(info.step)
        if info.step == 2:
            interrupt_current_processing(True)
        original(self, info)

    progress.__call__ = cancel
    try:
        sample(handle, **settings)
        raise AssertionError("it should have been interrupted")
    except InterruptProcessingException:
        pass
    finally:
        progress.__call__ = original
        interrupt_current_processing(False)
    assert steps == [1, 2]


def check_what_cannot_work_is_explained() -> None:
    maf, turbo = load("tiny-maf"), load("tiny-turbo")
    cases = {
        "takes its own steps": lambda: sample(turbo, custom_sampler=comfy_sampler("euler")),
        "Disconnect them": lambda: sample(turbo, custom_sigmas=karras()),
        "not a sampler of the form": lambda: sample(maf, custom_sampler=object()),
        "holds 0 numbers": lambda: sample(maf, custom_sigmas=torch.FloatTensor([])),
        "holds str": lambda: sample(maf, custom_sigmas="5, 1, 0"),
        "decrease at every step": lambda: sample(maf, custom_sigmas=karras().flip(0)),
        "There is no schedule called 'linear'": lambda: sample(maf, schedule="linear"),
        "There is no preset called 'slow'": lambda: sample(maf, preset="slow"),
        "guidance_start is 0.8 and guidance_end 0.2": lambda: sample(
            maf, guidance_start=0.8, guidance_end=0.2
        ),
    }
    for words, call in cases.items():
        assert words in message(call), words


def check_fewer_steps_through_the_node() -> None:
    handle = load("tiny-maf", "fp32")
    plain = sample(handle, steps=16)
    for changes in (
        {"schedule": "beta"},
        {"sampler": "unipc"},
        {"sampler": "er-sde"},
        {"guidance_start": 0.5},
        {"guidance_rescale": 0.7},
        {"reuse_threshold": 1.0},
        {"preset": "fast"},
    ):
        waveform = sample(handle, steps=16, **changes)
        assert bool(torch.isfinite(waveform).all()), changes
        assert not torch.equal(waveform, plain), changes
    assert torch.equal(sample(handle, steps=16, preset="published"), plain)
