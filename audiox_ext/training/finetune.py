"""A model trained further on a user's sounds, as one call each: to a LoRA, or to a model of its own.

    FOLDER/clips.pt      the sounds, encoded; FOLDER/kept_clips.pt those of a second folder
    FOLDER/last.ckpt     where a training that was broken off goes on; FOLDER/events for TensorBoard
    FOLDER/sounds/       what it sounds like on the way; FOLDER/losses.png how it goes
    FOLDER/<name>.safetensors or FOLDER/model/   the result

A call that finds a last.ckpt goes on from it, and gives what it would have given without the break.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..checkpoints.catalog import ModelFolders, find_files
from ..checkpoints.conversion import with_license, write_changed_model
from ..checkpoints.pretrained import Precision, config_of, get_pretrained_model
from ..devices import DevicePlacement
from ..errors import AudioXError, InputError
from ..files import write_whole
from ..model import AudioXModel
from .audio_folder import UserFolder, read_folder
from .clip_dataset import EncodedClip
from .settings import FinetuneSettings, LoraSettings, TuningSettings
from .trainer import Report, fit_supervised, require_lightning, steps_done
from .tuning_data import ClipBatches, content_key, encoded_clips, split, validation_batches

if TYPE_CHECKING:
    from PIL.Image import Image

    from .objective import AsBefore, NetworkTraining
    from .tuning_supervision import OnStep

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class TuningRequest:
    """What is trained on what. model: as `get_pretrained_model` takes it, of the published layout. dataset: a
    folder, see `read_folder`. output: where everything is written. keep: a second folder, of sounds that the
    model is to go on making as it does. default_caption: for sounds without one.
    """

    model: str | Path
    dataset: Path
    output: Path
    keep: Path | None = None
    default_caption: str = ""
    accept_cc_by_nc: bool = False
    folders: ModelFolders | None = None
    device: torch.device


@dataclass(frozen=True, kw_only=True, eq=False)
class TuningResult:
    """path: of the LoRA's file, or the model's folder. curve: the losses as a picture. sound: what the result
    makes of the first caption, (C, S) float32, at rate hertz.
    """

    path: Path
    curve: Image
    sound: Tensor
    rate: int


def train_lora(
    request: TuningRequest,
    settings: LoraSettings,
    *,
    path: Path,
    report: Report,
    on_step: OnStep = lambda done, steps: None,
) -> TuningResult:
    """Train a LoRA, or go on, and write it to `path`. Raises `InputError`, `TrainingError` and what loading
    the model raises.
    """
    require_lightning()
    from .lora_layers import adapter_layers, add_adapters, require_peft, without_adapters

    require_peft()
    from ..checkpoints.lora_file import LoraInfo, fingerprint, kind_of, target_shapes, write_lora

    # Beside matrices in float32 the network's own weights, which nothing is added to, may be kept in bf16.
    tuning = _Tuning(request, settings, report, on_step, "bf16" if settings.precision == "bf16" else "fp32")
    model = tuning.model
    shapes = fingerprint(target_shapes(model.network))
    with tuning.seeded():
        add_adapters(model.network, settings)
        trained = tuning.run(without_adapters)
    info = LoraInfo(
        name=path.stem,
        kind=kind_of(model.config),
        base=tuning.base,
        fingerprint=shapes,
        license=tuning.license,
        captions=tuple(dict.fromkeys(clip.caption for clip in tuning.clips))[:_CAPTIONS],
        steps=trained.result_step,
        dataset=tuning.lines[0],
    )
    with trained.result_in_place():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_lora(path, adapter_layers(model.network, settings.scale), info)
        report(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
        return tuning.result(path, trained)


def finetune(
    request: TuningRequest,
    settings: FinetuneSettings,
    *,
    dtype: torch.dtype | None = None,
    report: Report,
    on_step: OnStep = lambda done, steps: None,
) -> TuningResult:
    """Train all of the network, or go on, and write the model into the output folder. Raises as `train_lora`.

    dtype: of the network's weights there; by default that which they have in the model's own file.
    """
    require_lightning()
    tuning = _Tuning(request, settings, report, on_step, "fp32")
    model = tuning.model
    for parameter in model.network.parameters():
        # Its own memory: what was loaded may be pages of the file.
        parameter.data = parameter.data.clone()
    # The random features of time stay what the rest has learnt to read.
    model.network.requires_grad_(True).timestep_features.requires_grad_(False)
    with tuning.seeded():
        trained = tuning.run()
    place = request.output / "model"
    with trained.result_in_place():
        state = {f"model.model.{key}": value.cpu() for key, value in model.network.state_dict().items()}
        write_whole(place, lambda begun: write_changed_model(tuning.files, begun, state, dtype))
        size = sum(file.stat().st_size for file in place.rglob("*") if file.is_file())
        report(f"{place}: {size / 1e6:.1f} MB")
        return tuning.result(place, trained)


def training_precision(device: torch.device) -> str:
    """The fastest of `RunSettings.precision` that loses nothing on a device."""
    fits = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return "bf16" if fits else "32"


_CAPTIONS = 10  # that a LoRA's file names


class _Tuning:
    """One training: made when files are read, the model is loaded and the sounds are encoded."""

    def __init__(
        self,
        request: TuningRequest,
        settings: TuningSettings,
        report: Report,
        on_step: OnStep,
        precision: Precision,
    ) -> None:
        """precision: of the network's weights."""
        self.request, self.settings, self.report, self.on_step = request, settings, report, on_step
        folder = read_folder(request.dataset, request.default_caption)
        kept = None if request.keep is None else read_folder(request.keep)
        folders = request.folders or ModelFolders.default()
        self.model, _ = get_pretrained_model(
            request.model,
            accept_cc_by_nc=request.accept_cc_by_nc,
            folders=folders,
            precision=precision,
            device=request.device,
            offload=request.device.type != "cpu",  # beside the network that is trained nothing stays there
        )
        if self.model.placement is None:
            self.model.placement = DevicePlacement(request.device)
        _check_trainable(self.model)
        assert self.model.folder is not None
        self.files = find_files(self.model.folder)
        self.base = self.model.folder.name
        self.license: str | None = with_license(config_of(self.files), self.files).get("license")
        try:
            request.output.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{request.output} cannot be made ({error}). Choose another folder.") from None
        self.clips, self.lines = self._encoded(folder, "clips.pt", folders)
        self.kept: list[EncodedClip] = []
        size = self.files.weights.stat().st_size
        self.about = {"model": f"{self.base} ({size} bytes)", "sounds": content_key(folder)}
        if kept is not None:
            self.kept, more = self._encoded(kept, "kept_clips.pt", folders)
            self.lines += [f"To go on making: {more[0]}", *more[1:]]
            self.about["sounds to go on making"] = content_key(kept)
        for line in self.lines:
            self.report(line)

    @contextmanager
    def seeded(self) -> Iterator[None]:
        """torch's generators begin with the seed, and afterwards are as they were."""
        device = self.request.device
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(self.settings.seed)
            yield

    def run(self, as_before: AsBefore | None = None) -> NetworkTraining:
        """The training, done. as_before: see `NetworkTraining`."""
        from .objective import NetworkTraining
        from .tuning_supervision import TuningSupervision

        settings, request = self.settings, self.request
        training, held_out = split(self.clips, settings.held_out, settings.seed)
        validated = held_out or training
        count = len({clip.file for clip in held_out})
        self.report(
            f"{count} files are held out for validation."
            if held_out
            else "No file is held out: validation is on the sounds that are trained with."
        )
        kept = round(settings.batch_size * settings.keep_share) if self.kept else 0
        if self.kept and not 0 < kept < settings.batch_size:
            raise InputError(
                f"Of a batch of {settings.batch_size}, {kept} would be sounds to go on making (keep_share "
                f"{settings.keep_share:g}). Choose a larger batch or another share."
            )
        batches = ClipBatches(training, settings.batch_size, settings.seed, self.kept, kept)
        watched = validation_batches(validated, settings.batch_size, settings.validation_items)
        objective = self.model.config.objective
        module = NetworkTraining(self.model.network, objective, settings, self.about, as_before)
        self._end_where_it_ended(module)
        supervision = TuningSupervision(
            request.output / "last.ckpt",
            lambda: watched,
            self.report,
            validated_on="held-out sounds" if held_out else "these sounds",
            hear=lambda step: self._hear_on_the_way(module, step),
            on_step=self.on_step,
        )
        fit_supervised(module, batches, supervision, request.output, request.device)
        return module

    def result(self, path: Path, trained: NetworkTraining) -> TuningResult:
        """With the result in place."""
        sound = self._hear("result", len(trained.step_losses))
        curve = self._draw(trained)
        return TuningResult(path=path, curve=curve, sound=sound, rate=self.model.sample_rate)

    def _encoded(
        self, folder: UserFolder, name: str, folders: ModelFolders
    ) -> tuple[list[EncodedClip], list[str]]:
        def on_clip(done: int, count: int) -> None:
            if done % 10 == 0:
                self.report(f"{done} of {count} sounds encoded")
            self.on_step(0, self.settings.steps)

        return encoded_clips(
            self.model,
            folder,
            self.request.output / name,
            shortest=self.settings.shortest,
            folders=folders,
            on_clip=on_clip,
        )

    def _end_where_it_ended(self, module: NetworkTraining) -> None:
        """A training that has stopped because it got no better goes on only with more patience."""
        last = self.request.output / "last.ckpt"
        if not last.is_file():
            return
        done = steps_done(last)
        checkpoint = torch.load(last, map_location="cpu", weights_only=True, mmap=True)
        module.check_about(checkpoint)
        module.validations = [(int(step), float(loss)) for step, loss in checkpoint["tuning"]["validations"]]
        stale, module.validations = module.is_stale, []
        if stale and done < self.settings.steps:
            self.report(f"It had stopped getting better after {done} steps. To go on, raise the patience.")
            module.settings = replace(module.settings, steps=done)

    def _hear_on_the_way(self, module: NetworkTraining, step: int) -> None:
        self._hear(f"step-{step:06d}", step)
        self._draw(module)

    def _hear(self, name: str, step: int) -> Tensor:
        """(C, S), also as a file. A file that cannot be written is only told."""
        from ..media.audio_video import write_audio
        from ..pipeline.generate import generate_diffusion_cond

        prompt = self.settings.sound_prompt or self.clips[0].caption
        [sound] = generate_diffusion_cond(
            self.model,
            steps=self.settings.sound_steps,
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
            log.warning("%s could not be written (%s); training goes on.", path, error)
        return sound

    def _draw(self, module: NetworkTraining) -> Image:
        from .loss_plot import draw_losses

        picture = draw_losses(module.step_losses, module.validations, title=f"{self.base}, {self.lines[0]}")
        try:
            write_whole(self.request.output / "losses.png", lambda begun: picture.save(begun))
        except OSError as error:
            log.warning("The picture of the losses could not be written (%s).", error)
        return picture


def _check_trainable(model: AudioXModel) -> None:
    if model.config.few_step_count is not None:
        raise InputError(
            "This model is a few-step student: it was distilled to jump to the end in "
            f"{model.config.few_step_count} steps, and training on sounds would make an ordinary model of it "
            "that needs many. Choose the model that it was made from, AudioX-MAF-MMDiT, or another one of "
            "many steps."
        )
