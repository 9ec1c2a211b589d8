"""The AudioX Model Loader node."""

from __future__ import annotations

from comfy_api.latest import io

from .comfy.host import PRECISIONS
from .shared import fingerprints as file_stamps
from .shared import model_store
from .shared.sockets import AudioXModelSocket


class AudioXLoadModel(io.ComfyNode):
    """Loads a model from models/audiox or from the pack, or fetches a published one."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """The inputs and outputs, as ComfyUI shows them; the list of models is read from disk each time."""
        return io.Schema(
            node_id="AudioXLoadModel",
            display_name="AudioX Model Loader",
            category="audio/AudioX",
            description=(
                "Loads an AudioX model. Models lie in models/audiox/<name>/; a published one that is not "
                "there is fetched from the Hugging Face hub on the first run. Loaders with the same "
                "settings share one model."
            ),
            inputs=[
                io.Combo.Input(
                    "model",
                    options=model_store.model_names(),
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
                    options=["native", "audiox"],
                    default="native",
                    tooltip=(
                        "native: the engine of this pack, needs nothing else. audiox: the research package, "
                        "if you have installed it from its repository; slower to start and not managed by "
                        "ComfyUI's memory."
                    ),
                ),
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
            ],
            outputs=[
                AudioXModelSocket.Output(
                    display_name="model", tooltip="For the AudioX Sampler and the AudioX Feature Extractor."
                )
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, model: str, **settings: object) -> tuple[object, ...]:
        """Changes when the model's files change, so that a replaced checkpoint is read again."""
        return (model, *sorted(settings.items()), file_stamps.model_fingerprint(model))

    @classmethod
    def execute(
        cls,
        model: str,
        precision: str,
        engine: str,
        accept_cc_by_nc: bool,
        compile: bool = False,
    ) -> io.NodeOutput:
        """Load `model`, or hand out the one that an equal loader has in use."""
        handle = model_store.load_model(
            model, precision=precision, engine=engine, accept_cc_by_nc=accept_cc_by_nc, compile=compile
        )
        return io.NodeOutput(handle)
