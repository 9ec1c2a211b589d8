"""The AudioX Model Loader node."""

from __future__ import annotations

from comfy_api.latest import io

from .comfy.consent import read_consent
from .comfy.precision import PRECISIONS, Precision
from .shared.fingerprints import Fingerprint
from .shared.model_store import LoaderSettings, list_model_names
from .shared.sockets import ENGINES, AudioXModelSocket, Engine, WidgetValue
from .shared.state import FINGERPRINTS, MODELS


class AudioXLoadModel(io.ComfyNode):
    """Load a model from models/audiox or from the pack, or download a published one."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Declare the node's inputs and outputs; the list of models is read from disk each time."""
        return io.Schema(
            node_id="AudioXLoadModel",
            display_name="AudioX Model Loader",
            category="audio/AudioX",
            description=(
                "Loads an AudioX model. Models lie in models/audiox/<name>/; a published one that is not "
                "there is fetched from the Hugging Face hub on the first run. Loaders with the same "
                "settings share one model."
            ),
            inputs=[*_declare_model(), *_declare_switches()],
            outputs=[
                AudioXModelSocket.Output(
                    display_name="model", tooltip="For the AudioX Sampler and the AudioX Feature Extractor."
                )
            ],
        )

    @classmethod
    def fingerprint_inputs(
        cls, model: str, **settings: WidgetValue
    ) -> tuple[str | tuple[str, WidgetValue] | Fingerprint, ...]:
        """Fingerprint the model's files, so that a replaced checkpoint is read again.

        Args:
            model: the chosen model.
            settings: the other inputs.
        """
        return (model, *sorted(settings.items()), FINGERPRINTS.fingerprint_model(model))

    @classmethod
    def execute(
        cls,
        model: str,
        precision: Precision,
        engine: Engine,
        accept_cc_by_nc: bool,
        compile: bool = False,
    ) -> io.NodeOutput:
        """Return the model that a loader with equal inputs already holds, or load it.

        Args:
            model: the model's name.
            precision: number format of the network.
            engine: the code that runs the model.
            accept_cc_by_nc: whether the user accepts the non-commercial licence; only True does.
            compile: whether to compile the network.
        """
        return io.NodeOutput(
            MODELS.load(LoaderSettings(model, precision, engine, read_consent(accept_cc_by_nc), compile))
        )


def _declare_model() -> list[io.Input]:
    """Declare the model, its number format and its engine."""
    return [
        io.Combo.Input(
            "model",
            options=list_model_names(),
            tooltip=(
                "First the folders found in models/audiox, then audiox-pocket, a small model that "
                "is part of this pack and works at once, then the published models, which are "
                "fetched when first used (several GB). AudioX-Turbo is the fast one: 4 steps. "
                "AudioX-MAF follows videos."
            ),
        ),
        io.Combo.Input(
            "precision",
            options=list(PRECISIONS),
            default="auto",
            tooltip=(
                "Number format of the network. auto: what suits your card, bf16 or fp32. fp32: most "
                "exact, most memory. bf16, fp16: half of that for the network; the sound decoder "
                "and the prompt encoders are always fp32. fp8: half of bf16's memory, least exact."
            ),
        ),
        io.Combo.Input(
            "engine",
            options=list(ENGINES),
            default="native",
            tooltip=(
                "native: the engine of this pack, needs nothing else. audiox: the research package, "
                "if you have installed it from its repository; slower to start and not managed by "
                "ComfyUI's memory."
            ),
        ),
    ]


def _declare_switches() -> list[io.Input]:
    """Declare the switches for the licence and for compilation."""
    return [
        io.Boolean.Input(
            "accept_cc_by_nc",
            default=False,
            label_on="accepted",
            label_off="not accepted",
            tooltip=(
                "The published weights are under CC-BY-NC 4.0: no commercial use, and credit to the "
                "authors. Switch on to accept; without it they are neither loaded nor fetched. For "
                "commercial work use SelVA (MIT). See LICENSE-NOTICE.md."
            ),
        ),
        io.Boolean.Input(
            "compile",
            default=False,
            optional=True,
            tooltip=(
                "Compile the network with torch.compile: the first run takes a minute or so longer, "
                "later ones less time. For GPUs; on a processor it is slower."
            ),
        ),
    ]
