"""Trains a LoRA, or a whole existing network, on a user's sounds.

    FOLDER/clips.pt      the encoded sounds; FOLDER/preservation_clips.pt those of the preservation dataset
    FOLDER/last.ckpt     the last checkpoint; FOLDER/events for TensorBoard
    FOLDER/sounds/       preview sounds; FOLDER/losses.png a plot of the loss
    FOLDER/<name>.safetensors or FOLDER/model/   the result; FOLDER/results.json its digest

If last.ckpt exists, training resumes from it, with the same result as without the interruption.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..checkpoints.catalog import ModelFolders, find_files
from ..checkpoints.config_parser import read_model_config
from ..checkpoints.conversion import add_license, write_changed_model
from ..checkpoints.pretrained import Precision, get_pretrained_model
from ..devices import DevicePlacement
from ..errors import AudioXError, InputError
from ..files import check_file_writable, check_folder_writable, check_space, write_atomically
from ..model import AudioXModel
from ..utf8 import escape_surrogates, get_logger
from .audio_folder import AudioFolder, read_audio_folder
from .clip_dataset import (
    ClipBatches,
    count_preserved,
    hash_content,
    load_encoded_clips,
    make_validation_batches,
    split_clips,
)
from .clip_encoder import EncodedClip
from .results import TrainingResults, TrainingSpace
from .settings import FinetuneSettings, LoraSettings, TuningSettings
from .trainer import Report, fit, read_checkpoint, require_lightning

if TYPE_CHECKING:
    from PIL.Image import Image

    from .callbacks import OnStep
    from .objective import BaseModel, NetworkTraining

log = get_logger(__name__)

_CAPTIONS_IN_LORA = 10


@dataclass(frozen=True, kw_only=True)
class TrainingRequest:
    """A training to run: the model, the sounds and the folders.

    Attributes:
        model: name or folder, as `get_pretrained_model` takes it, in the published layout.
        dataset: folder of sounds, see `read_audio_folder`.
        output: folder for everything that is written.
        resume: whether to resume the training in that folder; False starts it over.
        preservation_dataset: folder of sounds that the model should still make as before.
        default_caption: for sounds without a caption.
        accept_cc_by_nc: opt-in to non-commercial weights.
        folders: folders to search for models; None searches the default ones.
        device: device to train on.
        check_readable: raises `InputError` for a file or folder that must not be read, links among them.
    """

    model: str | Path
    dataset: Path
    output: Path
    resume: bool = True
    preservation_dataset: Path | None = None
    default_caption: str = ""
    accept_cc_by_nc: bool = False
    folders: ModelFolders | None = None
    device: torch.device
    check_readable: Callable[[Path], None] = lambda path: None


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainingResult:
    """The result of a training.

    Attributes:
        path: the LoRA's file, or the model's folder.
        curve: plot of the losses.
        sound: made with the result from the first caption, (C, S) float32.
        rate: sample rate of the sound in hertz.
    """

    path: Path
    curve: Image
    sound: Tensor
    rate: int


def train_lora(
    request: TrainingRequest,
    settings: LoraSettings,
    *,
    path: Path,
    report: Report,
    on_step: OnStep = lambda step, steps: None,
) -> TrainingResult:
    """Train a LoRA, or resume its training, and write it.

    Args:
        request: model, sounds and folders.
        settings: settings of the training.
        path: path of the LoRA's file. A file there must come from a training in the same output folder.
        report: receives lines of progress.
        on_step: called after every step; may raise to end the training.

    Raises:
        InputError: the request cannot be carried out.
        TrainingError: the training diverges, or does not fit its checkpoint.
        LicenseError: the model's licence was not accepted.
    """
    require_lightning()
    from .lora_layers import add_adapters, disable_adapters, extract_adapters, require_peft

    require_peft()
    check_file_writable(path)
    results = TrainingResults(request.output)
    results.check(path)
    from ..checkpoints.lora_file import LoraInfo, fingerprint, kind_of, target_shapes, write_lora

    # The network's own weights are frozen, so they may be bf16 beside matrices in float32.
    precision: Precision = "bf16" if settings.precision == "bf16" else "fp32"
    session = _Session(request, settings, report, on_step, precision)
    model = session.model
    shapes = fingerprint(target_shapes(model.network))
    with session.use_seed():
        add_adapters(model.network, settings)
        check_space(path.parent, session.trained_bytes)
        training = session.train(disable_adapters)
    info = LoraInfo(
        name=path.stem,
        kind=kind_of(model.config),
        base=session.base_name,
        fingerprint=shapes,
        license=session.license,
        captions=tuple(dict.fromkeys(clip.caption for clip in session.clips))[:_CAPTIONS_IN_LORA],
        steps=training.result_step,
        dataset=session.sentences[0],
    )
    with training.apply_result():
        with results.write(path) as temporary:
            write_lora(temporary, extract_adapters(model.network, settings.scale), info)
        session.report(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
        return session.make_result(path, training)


def finetune(
    request: TrainingRequest,
    settings: FinetuneSettings,
    *,
    dtype: torch.dtype | None = None,
    report: Report,
    on_step: OnStep = lambda step, steps: None,
) -> TrainingResult:
    """Train the whole network, or resume its training, and write the model into the output folder.

    Args:
        request: model, sounds and folders.
        settings: settings of the training.
        dtype: type of the network's weights in the new file; None keeps the original type.
        report: receives lines of progress.
        on_step: called after every step; may raise to end the training.

    Raises:
        InputError: the request cannot be carried out.
        TrainingError: the training diverges, or does not fit its checkpoint.
        LicenseError: the model's licence was not accepted.
    """
    require_lightning()
    folder, results = request.output / "model", TrainingResults(request.output)
    if folder.is_file():
        raise InputError(f"{folder} is a file. Delete it, or choose another output folder.")
    results.check(folder)
    session = _Session(request, settings, report, on_step, "fp32")
    model = session.model
    for parameter in model.network.parameters():
        # Weights may be memory-mapped; training needs memory that it can change.
        parameter.data = parameter.data.clone()
    # The network has learned to read these random features, so they stay.
    model.network.requires_grad_(True).timestep_features.requires_grad_(False)
    with session.use_seed():
        training = session.train(result_bytes=session.files.weights.stat().st_size)
    with training.apply_result():
        state = {f"model.model.{key}": value.cpu() for key, value in model.network.state_dict().items()}
        with results.write(folder) as temporary:
            write_changed_model(session.files, temporary, state, dtype)
        size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        session.report(f"{folder}: {size / 1e6:.1f} MB")
        return session.make_result(folder, training)


class _Session:
    """One training, from its files to its result."""

    def __init__(
        self,
        request: TrainingRequest,
        settings: TuningSettings,
        report: Report,
        on_step: OnStep,
        precision: Precision,
    ) -> None:
        """Read the folders, and load the model in a precision."""
        self.request, self.settings, self.on_step = request, settings, on_step
        self.report: Report = lambda line: report(escape_surrogates(line))
        check_folder_writable(request.output)
        folder = read_audio_folder(request.dataset, request.default_caption, request.check_readable)
        second = request.preservation_dataset
        preservation_folder = (
            None if second is None else read_audio_folder(second, "", request.check_readable)
        )
        self.model = self._load_model(precision)
        assert self.model.folder is not None
        self.files = find_files(self.model.folder)
        self.base_name = self.model.folder.name
        self.license: str | None = add_license(read_model_config(self.files), self.files).get("license")
        size = self.files.weights.stat().st_size
        self.identity = {"model": f"{self.base_name} ({size} bytes)", "set of sounds": hash_content(folder)}
        if preservation_folder is not None:
            self.identity["set of sounds to preserve"] = hash_content(preservation_folder)
        self._folders = (folder, preservation_folder)
        self.clips: list[EncodedClip] = []
        self.preservation_clips: list[EncodedClip] = []
        self.sentences: list[str] = []

    def _load_model(self, precision: Precision) -> AudioXModel:
        from .objective import check_trainable

        request = self.request
        model, _ = get_pretrained_model(
            request.model,
            accept_cc_by_nc=request.accept_cc_by_nc,
            folders=request.folders or ModelFolders.default(),
            precision=precision,
            device=request.device,
            offload=request.device.type != "cpu",  # the network alone stays on the GPU
        )
        if model.placement is None:
            model.placement = DevicePlacement(request.device)
        check_trainable(model.config)
        return model

    @property
    def trained_bytes(self) -> int:
        """Size of the parameters that are trained."""
        trained = [value for value in self.model.network.parameters() if value.requires_grad]
        return sum(value.numel() * value.element_size() for value in trained)

    @contextmanager
    def use_seed(self) -> Iterator[None]:
        """Seed torch's global generators, and restore them afterwards."""
        device = self.request.device
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(self.settings.seed)
            yield

    def train(self, base_model: BaseModel | None = None, result_bytes: int = 0) -> NetworkTraining:
        """Encode the sounds and run the training.

        Args:
            base_model: see `NetworkTraining`.
            result_bytes: size of the result, 0 if it lies on another disk.
        """
        from .callbacks import TuningCallback
        from .objective import NetworkTraining

        settings, request = self.settings, self.request
        objective = self.model.config.objective
        module = NetworkTraining(self.model.network, objective, settings, self.identity, base_model)
        space = TrainingSpace(request.output, module.checkpoint_bytes, result_bytes)
        if not request.resume:
            space.checkpoint.unlink(missing_ok=True)
        # Encoding takes long, so what would prevent the training is checked before it.
        space.check()
        self._keep_early_stop(module, space.checkpoint)
        request.output.mkdir(parents=True, exist_ok=True)
        self._encode_folders()
        clips, held_out = split_clips(self.clips, settings.held_out_fraction, settings.seed)
        files = len({clip.file for clip in held_out})
        self.report(
            f"{files} files are held out for validation."
            if held_out
            else "No file is held out, so validation uses the training sounds."
        )
        fraction = settings.preservation_fraction if self.preservation_clips else 0.0
        preserved_count = count_preserved(settings.batch_size, fraction)
        batches = ClipBatches(
            clips, settings.batch_size, settings.seed, self.preservation_clips, preserved_count
        )
        validation = make_validation_batches(
            held_out or clips, settings.batch_size, settings.validation_items
        )
        callback = TuningCallback(
            space,
            lambda: validation,
            self.report,
            validation_name="held-out sounds" if held_out else "the training sounds",
            make_preview=lambda step: self._make_preview(module, step),
            on_step=self.on_step,
        )
        fit(module, module.settings, batches, callback, space, request.device)
        return module

    def make_result(self, path: Path, training: NetworkTraining) -> TrainingResult:
        """Make the result's sound and curve. Call it while the result's weights are applied."""
        sound = self._make_sound("result", len(training.step_losses))
        return TrainingResult(
            path=path, curve=self._plot_losses(training), sound=sound, rate=self.model.sample_rate
        )

    def _encode_folders(self) -> None:
        """Encode the sounds of both folders, and report what was left out."""
        folder, preservation_folder = self._folders
        self.clips, self.sentences = self._encode(folder, "clips.pt")
        if preservation_folder is not None:
            self.preservation_clips, more = self._encode(preservation_folder, "preservation_clips.pt")
            self.sentences += [f"To preserve: {more[0]}", *more[1:]]
        for sentence in self.sentences:
            self.report(sentence)

    def _encode(self, folder: AudioFolder, name: str) -> tuple[list[EncodedClip], list[str]]:
        def on_clip(done: int, count: int) -> None:
            if done % 10 == 0:
                self.report(f"{done} of {count} sounds encoded")
            self.on_step(0, self.settings.steps)

        return load_encoded_clips(
            self.model,
            folder,
            self.request.output / name,
            min_seconds=self.settings.min_seconds,
            folders=self.request.folders or ModelFolders.default(),
            on_clip=on_clip,
        )

    def _keep_early_stop(self, module: NetworkTraining, last: Path) -> None:
        """Do not continue a training that stopped early, unless its patience is raised."""
        checkpoint = read_checkpoint(last)
        if checkpoint is not None and module.keep_early_stop(checkpoint):
            steps = module.settings.steps
            self.report(f"Training stopped early after {steps} steps. To continue it, raise patience.")

    def _make_preview(self, module: NetworkTraining, step: int) -> None:
        self._make_sound(f"step-{step:06d}", step)
        self._plot_losses(module)

    def _make_sound(self, name: str, step: int) -> Tensor:
        """Return a sound (C, S), and write it. A failed write is logged and does no harm."""
        from ..media.audio_video import write_audio
        from ..pipeline.generate import generate_diffusion_cond

        prompt = self.settings.preview_prompt or self.clips[0].caption
        [sound] = generate_diffusion_cond(
            self.model,
            steps=self.settings.preview_steps,
            conditioning={"text_prompt": prompt},
            seed=self.settings.seed,
            callback=lambda info: self.on_step(step, self.settings.steps),
        )
        sound = sound / max(1.0, float(sound.abs().max()))
        path = self.request.output / "sounds" / f"{name}.wav"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_audio(path, sound, self.model.sample_rate)
            self.report(f'{path}: "{prompt}"')
        except (AudioXError, OSError) as error:
            log.warning("%s could not be written (%s). Training continues.", path, error)
        return sound

    def _plot_losses(self, module: NetworkTraining) -> Image:
        from ..plotting.loss_plot import draw_losses

        title = f"{self.base_name}, {self.sentences[0]}"
        image = draw_losses(module.step_losses, module.validations, title=title)
        try:
            with write_atomically(self.request.output / "losses.png") as temporary:
                image.save(temporary)
        except AudioXError as error:
            log.warning("The plot of the losses could not be written (%s). Training continues.", error)
        return image
