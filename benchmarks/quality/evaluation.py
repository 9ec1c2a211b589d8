"""Measure a model's sounds, or the data themselves, on held-out items."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from audiox_ext.model import AudioXModel
from pocket.metrics.classifier import train_classifier
from pocket.training.batches import pad_or_trim

from .items import QualityItem, data_sounds
from .report import QualityReport, Reference, report_on
from .sounds import Prompts, Sampling, make_sounds


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
    """Make a sound for each item and measure them.

    items: of `held_out_items`, with their videos' features (`Prompts`) where the same are made several times.
    reference: likewise, `Reference.for_items`. varied: of `varied_items`, for the diversity. seed: another
    one gives other sounds of the same items.
    """
    prompts = items if isinstance(items, Prompts) else Prompts.of(model, items)
    reference = reference or reference_of(model, prompts.items)
    made = make_sounds(model, prompts, sampling, seed=seed, batch=batch)
    takes = [
        make_sounds(model, Prompts.of(model, those), sampling, seed=seed, batch=batch).sounds
        for those in varied
    ]
    return report_on(
        prompts.items,
        made.sounds,
        reference,
        varied=takes,
        seconds=made.seconds,
        evaluations=made.evaluations,
    )


def evaluate_data(
    model: AudioXModel,
    items: Sequence[QualityItem],
    *,
    reference: Reference | None = None,
    varied: Sequence[Sequence[QualityItem]] = (),
    through_codec: bool = False,
) -> QualityReport:
    """The items' own sounds, measured like the model's. through_codec: after its autoencoder has been at
    them, which no sound of the model gets past.
    """
    reference = reference or reference_of(model, items)

    def sounds(those: Sequence[QualityItem]) -> list[np.ndarray]:
        plain = data_sounds(those, model.sample_rate, model.sample_size)
        return [coded(model, sound) for sound in plain] if through_codec else plain

    return report_on(items, sounds(items), reference, varied=[sounds(those) for those in varied])


def reference_of(model: AudioXModel, items: Sequence[QualityItem]) -> Reference:
    """What the model's sounds for these items are held against."""
    rate = model.sample_rate
    classifier = train_classifier(rate, codec=lambda sound: coded(model, sound))
    return Reference.for_items(items, rate, model.sample_size, classifier)


@torch.no_grad()
def coded(model: AudioXModel, sound: np.ndarray) -> np.ndarray:
    """(2, S) -> (2, S): after the model's autoencoder has been at it."""
    device = next(model.pretransform.parameters()).device
    samples, ratio = sound.shape[-1], model.config.autoencoder.downsampling_ratio
    whole = torch.from_numpy(pad_or_trim(sound, samples + -samples % ratio))
    latents = model.pretransform.posterior(whole[None].to(device))[0]
    return pad_or_trim(
        model.pretransform.decode(latents, latents.shape[-1])[0].float().cpu().numpy(), samples
    )
