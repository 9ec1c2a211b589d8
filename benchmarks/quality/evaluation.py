"""Measure a model's sounds, or the data themselves, on held-out items."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from audiox_ext.model import AudioXModel
from pocket.metrics.classifier import train_classifier
from pocket.training.batches import pad_or_trim

from .items import QualityItem, render_items
from .report import QualityReport, Reference, measure_sounds
from .sounds import Prompts, Sampling, generate_sounds


def evaluate(
    model: AudioXModel,
    items: Sequence[QualityItem] | Prompts,
    sampling: Sampling,
    *,
    reference: Reference | None = None,
    varied: Sequence[Sequence[QualityItem]] = (),
    seed: int = 0,
    batch: int = 8,
) -> QualityReport:
    """Generate one sound per item and measure the sounds.

    Args:
        model: Model to measure.
        items: Items from `held_out_items`, or `Prompts`, to encode videos only once for several calls.
        sampling: Sampling settings.
        reference: Reference to compare with, by default one for these items.
        varied: Items from `varied_items`, to measure the diversity.
        seed: Seed of the sounds; the items stay the same.
        batch: Sounds per batch.

    Returns:
        The measurements.
    """
    prompts = items if isinstance(items, Prompts) else Prompts.of(model, items)
    reference = reference or reference_of(model, prompts.items)
    generated = generate_sounds(model, prompts, sampling, seed=seed, batch=batch)
    takes = [
        generate_sounds(model, Prompts.of(model, group), sampling, seed=seed, batch=batch).sounds
        for group in varied
    ]
    return measure_sounds(
        prompts.items,
        generated.sounds,
        reference,
        varied=takes,
        seconds=generated.seconds,
        evaluations=generated.evaluations,
    )


def evaluate_data(
    model: AudioXModel,
    items: Sequence[QualityItem],
    *,
    reference: Reference | None = None,
    varied: Sequence[Sequence[QualityItem]] = (),
    through_codec: bool = False,
) -> QualityReport:
    """Measure the rendered sounds of the items themselves, the best that a model can reach.

    Args:
        model: Model whose sample rate, length and autoencoder apply.
        items: Items from `held_out_items`.
        reference: Reference to compare with, by default one for these items.
        varied: Items from `varied_items`, to measure the diversity.
        through_codec: Whether to pass the sounds through the autoencoder first.

    Returns:
        The measurements.
    """
    reference = reference or reference_of(model, items)

    def render(group: Sequence[QualityItem]) -> list[np.ndarray]:
        sounds = render_items(group, model.sample_rate, model.sample_size)
        return [through_autoencoder(model, sound) for sound in sounds] if through_codec else sounds

    return measure_sounds(items, render(items), reference, varied=[render(group) for group in varied])


def reference_of(model: AudioXModel, items: Sequence[QualityItem]) -> Reference:
    """Build the reference for the sounds of a model.

    Args:
        model: Model whose sample rate, length and autoencoder apply.
        items: Items that will be measured.

    Returns:
        The reference.
    """
    rate = model.sample_rate
    classifier = train_classifier(rate, codec=lambda sound: through_autoencoder(model, sound))
    return Reference.for_items(items, rate, model.sample_size, classifier)


@torch.no_grad()
def through_autoencoder(model: AudioXModel, sound: np.ndarray) -> np.ndarray:
    """Encode and decode a sound.

    Args:
        model: Model whose autoencoder to use.
        sound: Sound (2, S) at the sample rate of the model.

    Returns:
        The decoded sound (2, S).
    """
    device = next(model.pretransform.parameters()).device
    samples, ratio = sound.shape[-1], model.config.autoencoder.downsampling_ratio
    whole = torch.from_numpy(pad_or_trim(sound, samples + -samples % ratio))
    latents = model.pretransform.posterior(whole[None].to(device))[0]
    return pad_or_trim(
        model.pretransform.decode(latents, latents.shape[-1])[0].float().cpu().numpy(), samples
    )
