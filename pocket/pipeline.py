"""The trainings, one function each: from a configuration to weights in a folder.

    FOLDER/waves/         the waveform autoencoder, where the model's is built from one; files as below
    FOLDER/autoencoder/   last.ckpt, events for TensorBoard, autoencoder.safetensors
    FOLDER/sync/          last.ckpt, events for TensorBoard, synchformer.safetensors
    FOLDER/prepared/      the encoded items on which the sync encoder and the diffusion train
    FOLDER/captions/      tokenizer.json, captions.safetensors: the text encoder pretrained on captions
    FOLDER/diffusion/     last.ckpt, events for TensorBoard
    FOLDER/model/         the model in the published layout
    FOLDER/results.json   digests of the results; a result that was not made here is never replaced

A call that finds a last.ckpt resumes from it, with the result of an uninterrupted training.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from audiox_ext.errors import ConfigError, InputError, TrainingError
from audiox_ext.files import write_atomically
from audiox_ext.networks.vision.synchformer import Synchformer
from audiox_ext.training.results import TrainingResults, TrainingSpace
from audiox_ext.training.trainer import Batch, BatchSource, Report, count_steps, fit, require_lightning

from .settings import TrainingConfig
from .training.batches import CropBatches
from .training.export import export_model, write_autoencoder, write_synchformer
from .training.preparation import prepare_items
from .world.animations import FILM_KINDS
from .world.dataset import SPLITS

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from audiox_ext.config import AutoencoderConfig
    from audiox_ext.training.module import TrainingModule

    from .diffusion.training_module import DiffusionTraining
    from .training.initial_model import InitialModel

_PARTS = ("autoencoder/autoencoder.safetensors", "sync/synchformer.safetensors")
_CAPTIONS = 20_000  # that a tokenizer is made for
_MEASURED_SOUNDS = 192  # for the mean and deviation of latents, or the components of strengths


def train_autoencoder(
    config: TrainingConfig,
    folder: Path,
    *,
    device: str | torch.device,
    report: Report,
    start: Path | None = None,
) -> Path:
    """Train the autoencoder, or resume its training. Returns the file with the weights.

    Where the configuration has `waves`, that autoencoder is trained, and the model's is built from it.

    Args:
        config: The configuration.
        folder: The training's folder.
        device: Device to train on.
        report: Called with each line about the progress.
        start: Folder of a model of the same configuration. Only its decoder is trained further, so that
            whatever was trained on its latents stays valid.

    Raises:
        TrainingError: The training failed, or its files belong to another configuration.
        InputError: Lightning is missing, or `start` cannot be used.
    """
    require_lightning()
    from .training.initial_model import read_initial_model

    if config.waves is not None:
        if start is not None:
            raise InputError(
                "The autoencoder of this configuration is built from one of waves and not trained "
                "itself: leave out --initial-model."
            )
        return _build_from_waves(config, folder, device, report)
    initial = None
    if start is not None:
        model = read_initial_model(start, config).model
        initial, config = model.pretransform.state_dict(), config.inherit_licenses(model.config.license)
    return _train_waves(config, config.model.autoencoder, folder / "autoencoder", initial, device, report)


def _train_waves(
    config: TrainingConfig,
    sizes: AutoencoderConfig,
    place: Path,
    initial: Mapping[str, torch.Tensor] | None,
    device: str | torch.device,
    report: Report,
) -> Path:
    """Train an autoencoder whose latents encode waveforms."""
    from .autoencoder.latent_scale import normalise_latents
    from .autoencoder.training_module import AutoencoderTraining
    from .training.weight_norm import copy_plain

    settings, ratio = config.autoencoder, sizes.downsampling_ratio
    result, results = place / "autoencoder.safetensors", TrainingResults(place.parent)
    results.check(result)
    # A whole number of latents, at least one.
    samples = max(1, round(settings.crop_seconds * config.model.sample_rate / ratio)) * ratio
    batches, held_out = _crops(config, settings.batch_size, samples, settings.crops)
    torch.manual_seed(settings.seed)
    whole = round(config.model.conditioning_seconds * config.model.sample_rate) // ratio * ratio
    sounds = None
    if initial is None and not count_steps(place / "last.ckpt"):
        first, _ = _crops(config, settings.initial_sounds, whole, 1)
        sounds = first[0].waveforms
        report(f"Fitting the first weights to {len(sounds)} sounds.")
    module = AutoencoderTraining(sizes, settings, sounds, initial)
    _fit(module, config, batches, held_out, place, device, report)
    with module.average.apply():
        plain = copy_plain(module.autoencoder, sizes)
    if initial is None:
        scale = normalise_latents(plain, _whole_sounds(config, settings.batch_size, whole, _MEASURED_SOUNDS))
        report(f"Latents divided by {float(scale.min()):.3g} to {float(scale.max()):.3g}.")
    with results.write(result) as temporary:
        write_autoencoder(plain, temporary, config.model.license)
    return result


def _build_from_waves(
    config: TrainingConfig, folder: Path, device: str | torch.device, report: Report
) -> Path:
    """Build the model's spectral autoencoder from the waveform autoencoder."""
    from audiox_ext.networks.autoencoder.autoencoder import Autoencoder
    from audiox_ext.networks.autoencoder.spectral import LatentMap, measure_spectrum

    from .autoencoder.spectral_decoder import build_decoder

    assert config.waves is not None
    settings, sizes = config.autoencoder, config.model.autoencoder
    result, results = folder / "autoencoder" / "autoencoder.safetensors", TrainingResults(folder)
    results.check(result)
    rate, ratio = config.model.sample_rate, sizes.downsampling_ratio
    trained = folder / "waves" / "autoencoder.safetensors"
    if not trained.is_file():
        _train_waves(config, config.waves, trained.parent, None, device, report)
    inner = Autoencoder(config.waves, dtype=torch.float32).eval()
    try:
        inner.load_state_dict(_trained_before(trained, "autoencoder"), strict=True)
    except RuntimeError as error:
        raise TrainingError(
            f"{trained} does not fit the section waves of this configuration ({error})."
        ) from None
    torch.manual_seed(settings.seed)
    autoencoder = Autoencoder(sizes, dtype=torch.float32).eval()
    whole = config.model.latent_count * ratio
    batches = _whole_sounds(config, settings.batch_size, whole, _MEASURED_SOUNDS)
    spectra = torch.cat([measure_spectrum(sounds, rate, ratio) for sounds in batches])
    build_decoder(autoencoder, inner, rate, LatentMap.fit(spectra, sizes.latent_dim))
    with results.write(result) as temporary:
        write_autoencoder(autoencoder, temporary, config.inherit_licenses(files=[trained]).model.license)
    return result


def _crops(config: TrainingConfig, size: int, samples: int, crops: int) -> tuple[CropBatches, CropBatches]:
    """Batches for training and for validation."""
    training, held_out = (
        CropBatches(config.balanced_dataset(split), size, samples, crops) for split in SPLITS
    )
    return training, held_out


def _whole_sounds(config: TrainingConfig, size: int, samples: int, count: int) -> Iterator[torch.Tensor]:
    """Batches with at least `count` whole training sounds."""
    wholes, _ = _crops(config, size, samples, 1)
    return (wholes[step].waveforms for step in range(-(-count // size)))


def train_sync(config: TrainingConfig, folder: Path, *, device: str | torch.device, report: Report) -> Path:
    """Train the sync encoder, or resume its training. Returns the file with the weights.

    Args:
        config: The configuration.
        folder: The training's folder.
        device: Device to train on.
        report: Called with each line about the progress.

    Raises:
        TrainingError: The training failed, or its files belong to another configuration.
        InputError: Lightning is missing.
        ConfigError: The model has no sync encoder, or the configuration has no section sync.
    """
    require_lightning()
    from .sync.segments import PatchBatches, prepare_segments
    from .sync.training_module import SyncTraining

    settings = config.sync
    if settings is None:
        raise ConfigError(
            "The configuration has no section sync. Add one with the settings of the sync encoder's training."
        )
    place = folder / "sync"
    result, results = place / "synchformer.safetensors", TrainingResults(folder)
    results.check(result)
    torch.manual_seed(settings.seed)
    module = SyncTraining(config)
    module.synchformer.to(device)
    counts = {"training": settings.segments, "held out": settings.validation_items}
    batches, held_out = (
        PatchBatches(
            prepare_segments(
                module.synchformer,
                config.dataset(split, film_fraction=1),
                counts[split],
                folder / "prepared" / split.replace(" ", "-") / "segments",
                device=torch.device(device),
                workers=settings.workers,
                report=report,
            ),
            counts[split],
            settings.batch_size,
            shuffled=split == "training",
        )
        for split in SPLITS
    )
    _fit(module, config, batches, held_out, place, device, report)
    with module.average.apply(), results.write(result) as temporary:
        write_synchformer(module.synchformer, temporary, config.model.license)
    return result


def train_diffusion(
    config: TrainingConfig,
    folder: Path,
    *,
    device: str | torch.device,
    report: Report,
    dtype: torch.dtype = torch.float16,
    start: Path | None = None,
    teacher: Path | None = None,
) -> Path:
    """Train the diffusion with the folder's autoencoder and sync encoder, or resume its training.

    Args:
        config: The configuration.
        folder: The training's folder.
        device: Device to train on.
        report: Called with each line about the progress.
        dtype: Type of the written weights.
        start: Folder of a complete model to train further; parts trained into `folder` replace its own.
        teacher: Folder of a model whose predictions are followed, see `diffusion.teacher`.

    Returns:
        The model's folder.

    Raises:
        TrainingError: The training failed, or its files belong to another configuration.
        InputError: Lightning or a trained part is missing, or `start` or `teacher` cannot be used.
    """
    require_lightning()
    from .diffusion.caption_pretraining import ensure_captions_learnt
    from .diffusion.teacher import read_teacher
    from .diffusion.training_module import DiffusionTraining
    from .training.initial_model import read_initial_model

    settings, place, words = config.diffusion, folder / "diffusion", folder / "captions"
    (results := TrainingResults(folder)).check(folder / "model")
    initial = None if start is None else read_initial_model(start, config, words / "tokenizer.json")
    followed = None if teacher is None else read_teacher(teacher, config, device)
    licenses = (source.license for source in (initial, followed) if source)
    config = config.inherit_licenses(*licenses, files=[folder / name for name in _PARTS])
    autoencoder, synchformer = _trained_parts(config, folder, initial)
    tokenizer = _tokenizer(config, words / "tokenizer.json")
    torch.manual_seed(settings.seed)
    try:
        module = DiffusionTraining(config, autoencoder, synchformer, tokenizer)
        if initial is not None:
            module.load_weights_of(initial.model)
    except RuntimeError as error:  # of load_state_dict
        source = start or folder / "autoencoder"
        raise TrainingError(f"{source} does not fit this configuration ({error}).") from None
    module.teacher = followed
    module.identify(None if initial is None else initial.model)
    batches, held_out = _prepared_batches(module, folder / "prepared", torch.device(device), report)
    if initial is None and settings.caption_steps and not count_steps(place / "last.ckpt"):
        ensure_captions_learnt(module, words / "captions.safetensors", device, report)
    _fit(module, config, batches, held_out, place, device, report)
    with results.write(folder / "model") as temporary:
        size = export_model(module.to("cpu"), temporary, dtype)
    report(f"{folder / 'model'}: {size / 1e6:.1f} MB")
    return folder / "model"


def _trained_parts(
    config: TrainingConfig, folder: Path, initial: InitialModel | None
) -> tuple[dict[str, torch.Tensor], Synchformer | None]:
    """The autoencoder and the sync encoder: those in the folder, else those of the initial model."""
    autoencoder, sync = folder / "autoencoder" / "autoencoder.safetensors", folder / "sync"
    if initial is None:
        return _trained_before(autoencoder, "autoencoder"), _trained_synchformer(config, folder)
    return (
        _trained_before(autoencoder, "autoencoder")
        if autoencoder.is_file()
        else initial.model.pretransform.state_dict(),
        _trained_synchformer(config, folder) if sync.is_dir() else initial.synchformer,
    )


def _trained_before(path: Path, what: str) -> dict[str, torch.Tensor]:
    from audiox_ext.checkpoints.state_dict import read_tensors

    if not path.is_file():
        raise InputError(f"{path} is missing: train the {what} into this folder first.")
    return read_tensors(path)


def _trained_synchformer(config: TrainingConfig, folder: Path) -> Synchformer | None:
    from audiox_ext.checkpoints.encoders import convert_synchformer_keys

    from .sync.training_module import build_synchformer, synchformer_config

    if synchformer_config(config) is None:
        return None
    path = folder / "sync" / "synchformer.safetensors"
    state = _trained_before(path, "sync encoder")
    synchformer = build_synchformer(config)
    try:
        synchformer.load_state_dict(convert_synchformer_keys(state), strict=True)
    except RuntimeError as error:
        raise TrainingError(f"{path} is not the sync encoder of this configuration ({error}).") from None
    return synchformer.eval()


def _prepared_batches(
    module: DiffusionTraining, folder: Path, device: torch.device, report: Report
) -> tuple[BatchSource, BatchSource]:
    """Batches for training and for validation, prepared where they are missing."""
    from .training.prepared_batches import PreparedBatches

    config, settings = module.config, module.settings
    has_films = module.encoders().video is not None and bool(set(config.data.kinds) & set(FILM_KINDS))
    fraction_of_films = config.data.film_fraction if has_films else 0.0
    module.model.to(device)
    if module.synchformer is not None:
        module.synchformer.to(device)
    sources: list[BatchSource] = []
    for split in SPLITS:
        counts = {"sounds": config.data.sounds, "films": config.data.films if fraction_of_films else 0}
        if split == "held out":
            films = round(settings.validation_items * fraction_of_films)
            counts = {"sounds": settings.validation_items - films, "films": films}
        parts = []
        for name, count in counts.items():
            film_fraction = float(name == "films" and fraction_of_films > 0)
            dataset = config.dataset(split, film_fraction=film_fraction, length=count)
            place = folder / split.replace(" ", "-") / name
            items = prepare_items(
                module.encoders(), dataset, place, device=device, workers=settings.workers, report=report
            )
            parts.append((dataset, items))
        training = split == "training"
        sources.append(
            PreparedBatches(parts[0], parts[1], settings.batch_size, fraction_of_films, shuffled=training)
        )
    return sources[0], sources[1]


def _fit(
    module: TrainingModule,
    config: TrainingConfig,
    batches: BatchSource,
    held_out: BatchSource,
    place: Path,
    device: str | torch.device,
    report: Report,
) -> None:
    from audiox_ext.training.callbacks import TrainingCallback

    settings = module.settings
    module.identity |= config.identity

    def validation() -> Iterator[Batch]:
        yield from (held_out[step] for step in range(-(-settings.validation_items // settings.batch_size)))

    space = TrainingSpace(place, module.checkpoint_bytes)
    fit(module, settings, batches, TrainingCallback(space, validation, report), space, device)


def _tokenizer(config: TrainingConfig, path: Path) -> Tokenizer:
    """The training's tokenizer. It is made once, since the same text must always give the same tokens."""
    from .diffusion.text_encoder import make_tokenizer, read_tokenizer

    if not path.is_file():
        data = config.dataset("training", film_fraction=config.data.film_fraction)
        captions = (data.caption(index) for index in range(min(_CAPTIONS, len(data))))
        tokenizer = make_tokenizer(captions, config.text_encoder.vocabulary)
        with write_atomically(path) as temporary:
            tokenizer.save(str(temporary))
    return read_tokenizer(path)
