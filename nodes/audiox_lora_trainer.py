"""The AudioX LoRA Trainer node."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from comfy_api.latest import io, ui

from ..audiox_ext.errors import InputError
from ..audiox_ext.utf8 import get_logger
from .comfy.paths import (
    LoraOutput,
    check_readable,
    get_model_folders,
    prepare_lora_output,
    resolve_input_folder,
)
from .comfy.placement import outside_inference_mode
from .comfy.progress import TrainingProgress
from .comfy.training import choose_training_device, unload_all_models
from .shared.choices import check_text
from .shared.fingerprints import Fingerprint, fingerprint_folder
from .shared.sockets import AudioXModelHandle, AudioXModelSocket, WidgetValue, require_model

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ..audiox_ext.training.finetune import TrainingRequest

log = get_logger(__name__)


class AudioXTrainLora(io.ComfyNode):
    """Train a LoRA on a user's own sounds."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Declare the node's inputs and outputs."""
        return io.Schema(
            node_id="AudioXTrainLora",
            display_name="AudioX LoRA Trainer",
            category="audio/AudioX",
            description=(
                "Trains a LoRA, a small file beside the model's weights, on a folder of your own sounds or "
                "videos with captions, and writes it to models/loras. Needs lightning, tensorboard and peft "
                "(pip install lightning tensorboard peft). The model itself stays as it is."
            ),
            inputs=[
                AudioXModelSocket.Input(
                    "model",
                    tooltip=(
                        "The model to train for; any but a few-step student such as AudioX-Turbo. Trained is "
                        "a copy, read from its files."
                    ),
                ),
                *_declare_dataset(),
                *_declare_training(),
                *_declare_options(),
            ],
            outputs=[
                io.String.Output(display_name="lora_name", tooltip="The LoRA's name in models/loras."),
                io.Image.Output(
                    display_name="losses", tooltip="The loss of every step, and of the validations."
                ),
                io.Audio.Output(
                    display_name="sound", tooltip="What the model with the LoRA makes of sound_prompt."
                ),
                io.String.Output(
                    display_name="report", tooltip="What was trained on, what was left out, how it went."
                ),
            ],
            is_output_node=True,
        )

    @classmethod
    def fingerprint_inputs(
        cls, dataset_folder: str = "", keep_folder: str = "", **settings: WidgetValue
    ) -> tuple[Fingerprint, ...]:
        """Fingerprint the files in both folders.

        Args:
            dataset_folder: the sounds to train on.
            keep_folder: the sounds to preserve.
            settings: the other inputs.
        """
        return tuple(fingerprint_folder(text) for text in (dataset_folder, keep_folder))

    @classmethod
    def execute(
        cls,
        model: AudioXModelHandle,
        dataset_folder: str,
        name: str,
        steps: int,
        rank: int,
        learning_rate: float,
        batch_size: int,
        seed: int,
        resume: bool = True,
        caption: str = "",
        keep_folder: str = "",
        patience: int = 5,
        sound_prompt: str = "",
        save_memory: bool = False,
    ) -> io.NodeOutput:
        """Train, or resume training that was cancelled.

        The arguments are the inputs; see their tooltips.
        """
        import torch

        from ..audiox_ext.plotting.sound_image import stack_images
        from ..audiox_ext.training.finetune import train_lora
        from ..audiox_ext.training.settings import LoraSettings
        from ..audiox_ext.training.trainer import choose_precision

        check_text("caption", caption)
        check_text("sound_prompt", sound_prompt)
        output = prepare_lora_output(name)
        handle = require_model(model)
        request = replace(_build_request(handle, dataset_folder, keep_folder, caption, output), resume=resume)
        settings = LoraSettings(
            steps=steps,
            rank=rank,
            learning_rate=learning_rate,
            batch_size=batch_size,
            seed=seed,
            patience=patience,
            preview_prompt=sound_prompt,
            gradient_checkpointing=save_memory,
            precision=choose_precision(request.device),
        )
        lines: list[str] = []
        unload_all_models()
        with outside_inference_mode(), torch.enable_grad():
            result = train_lora(
                request,
                settings,
                path=output.path,
                report=_make_reporter(lines),
                on_step=TrainingProgress(),
            )
        picture = stack_images([result.curve])
        sound = {"waveform": result.sound[None].float().contiguous(), "sample_rate": result.rate}
        report = "\n".join(lines)
        return io.NodeOutput(output.name, picture, sound, report, ui=ui.PreviewImage(picture, cls=cls))


def _make_reporter(lines: list[str]) -> Callable[[str], None]:
    """Return a function that logs a line and appends it to a list."""

    def report(line: str) -> None:
        log.info("AudioX: %s", line)
        lines.append(line)

    return report


def _build_request(
    handle: AudioXModelHandle, dataset: str, keep: str, caption: str, output: LoraOutput
) -> TrainingRequest:
    """Build the engine's request, or raise `InputError` if the model cannot be trained."""
    from ..audiox_ext.training.finetune import TrainingRequest

    if handle.folder is None:
        raise InputError(
            f"{handle.name} was loaded by the research package from an unknown folder, so it cannot be "
            "trained. Choose engine native in the AudioX Model Loader."
        )
    if handle.base_handle is not None:
        raise InputError(
            "The model already has a LoRA, which training would ignore. Connect the AudioX Model Loader "
            "itself; you can use both LoRAs together afterwards."
        )
    return TrainingRequest(
        model=handle.folder,
        dataset=resolve_input_folder(dataset, "dataset_folder"),
        output=output.state,
        preservation_dataset=_resolve_optional_folder(keep),
        default_caption=caption,
        accept_cc_by_nc=handle.accepted,
        folders=get_model_folders(),
        device=choose_training_device(),
        check_readable=check_readable,
    )


def _resolve_optional_folder(keep: str) -> Path | None:
    """Resolve keep_folder; None if it is blank."""
    is_blank = isinstance(keep, str) and not keep.strip()
    return None if is_blank else resolve_input_folder(keep, "keep_folder")


def _declare_dataset() -> list[io.Input]:
    """Declare the inputs for the sounds and the LoRA's name."""
    return [
        io.String.Input(
            "dataset_folder",
            default="",
            tooltip=(
                "Folder of sounds or videos in ComfyUI's input folder. Captions lie beside them (rain.wav, "
                "rain.txt) or in captions.csv (file,caption); without one, the words of the file's name are "
                "taken."
            ),
        ),
        io.String.Input(
            "name",
            default="my_sound",
            tooltip=(
                "Of the LoRA: it becomes models/loras/<name>.safetensors. Checkpoints, sounds on the way and "
                "the curve lie in output/audiox_lora/<name>."
            ),
        ),
    ]


def _declare_training() -> list[io.Input]:
    """Declare the required settings."""
    return [
        io.Int.Input(
            "steps",
            default=1000,
            min=1,
            max=1000000,
            tooltip="Of training. It may end earlier, see patience.",
        ),
        io.Int.Input(
            "rank",
            default=16,
            min=1,
            max=1024,
            tooltip="Size of the LoRA's matrices. More can hold more, and learns by heart sooner.",
        ),
        io.Float.Input(
            "learning_rate",
            default=0.0005,
            min=0.0000001,
            max=1.0,
            step=0.00001,
            round=False,
            tooltip="Lower it if the losses jump or rise, for example to 0.0001 with large models.",
        ),
        io.Int.Input(
            "batch_size", default=4, min=1, max=256, tooltip="Sounds in a step. Fewer need less memory."
        ),
        io.Int.Input(
            "seed",
            default=0,
            min=0,
            max=2**31 - 1,
            control_after_generate=False,
            tooltip="Equal seeds, settings and sounds give the same LoRA.",
        ),
    ]


def _declare_options() -> list[io.Input]:
    """Declare the optional settings."""
    return [
        io.Boolean.Input(
            "resume",
            default=True,
            optional=True,
            tooltip=(
                "Go on with a training of this name that was cancelled, or has more steps to do now. Off: "
                "begin anew."
            ),
        ),
        io.String.Input(
            "caption", default="", optional=True, tooltip="Caption of every sound that has none of its own."
        ),
        io.String.Input(
            "keep_folder",
            default="",
            optional=True,
            tooltip=(
                "Folder of captioned sounds that the model is to go on making as it does: a quarter of every "
                "batch. Empty: none."
            ),
        ),
        io.Int.Input(
            "patience",
            default=5,
            min=0,
            max=1000,
            optional=True,
            tooltip=(
                "Validations (one every 100 steps) without a better loss after which training ends; the best "
                "LoRA is kept. 0: train all steps and keep the last."
            ),
        ),
        io.String.Input(
            "sound_prompt",
            default="",
            optional=True,
            tooltip="What to make on the way and at the end, to listen to. Empty: the first caption.",
        ),
        io.Boolean.Input(
            "save_memory",
            default=False,
            optional=True,
            tooltip="Much less memory for a third more time (gradient checkpointing).",
        ),
    ]
