"""Loaded models, shared by all loader nodes with the same files and settings."""

from __future__ import annotations

from typing import Any, NamedTuple
from weakref import WeakValueDictionary

from ...audiox_ext.checkpoints.catalog import find_model_folder, list_models
from ...audiox_ext.utf8 import get_logger
from ..comfy.paths import get_model_folders
from ..comfy.placement import ComfyPlacement, get_network_device, outside_inference_mode
from ..comfy.precision import PRECISIONS, Precision, choose_precision, pick_float32_layers
from .choices import check_choice
from .fingerprints import DownloadAwareFingerprints, Fingerprint, fingerprint_model_files
from .sockets import ENGINES, AudioXModelHandle, Engine

log = get_logger(__name__)


class LoaderSettings(NamedTuple):
    """The widgets of the model loader.

    Attributes:
        model: the model's name.
        precision: number format of the network.
        engine: the code that runs the model.
        accept_cc_by_nc: whether the user accepts the non-commercial licence. Loaders that differ in it share
            no model, so accepting the licence in one does not unlock another.
        compile: whether to compile the network.
    """

    model: str
    precision: Precision
    engine: Engine
    accept_cc_by_nc: bool
    compile: bool


class ModelStore:
    """Loads models, and returns the same object for equal settings and unchanged files.

    It holds models weakly: a model lives as long as ComfyUI keeps a node output that contains it.
    """

    def __init__(self, fingerprints: DownloadAwareFingerprints) -> None:
        """Start without models.

        Args:
            fingerprints: Record that also learns of downloads.
        """
        self._fingerprints = fingerprints
        self._handles: WeakValueDictionary[tuple[LoaderSettings, Fingerprint], AudioXModelHandle] = (
            WeakValueDictionary()
        )

    def load(self, settings: LoaderSettings) -> AudioXModelHandle:
        """Return a model that is in use with equal settings, else load it, downloading it if necessary.

        Args:
            settings: the loader's widgets.

        Raises:
            InputError: a setting is not one of its choices.
            AudioXError: the licence was not accepted, or the files are missing or unusable.
        """
        check_choice("model", settings.model, list_model_names())
        check_choice("precision", settings.precision, PRECISIONS)
        check_choice("engine", settings.engine, ENGINES)
        handle = self._handles.get((settings, fingerprint_model_files(settings.model)))
        if handle is None:
            with self._fingerprints.allow_download(settings.model), outside_inference_mode():
                handle = _load_native(settings) if settings.engine == "native" else _load_upstream(settings)
            # A new fingerprint: a model that was downloaded has its files only now.
            self._handles[settings, fingerprint_model_files(settings.model)] = handle
        return handle


def list_model_names() -> list[str]:
    """List the models in models/audiox, then the pack's own, then the published ones to download.

    Never empty; the first is the default of a new loader.
    """
    return list_models(get_model_folders())


def _load_native(settings: LoaderSettings) -> AudioXModelHandle:
    """Load a model with this pack's engine."""
    from ...audiox_ext.checkpoints.pretrained import get_pretrained_model

    precision = choose_precision(settings.precision)
    model, config = get_pretrained_model(
        settings.model,
        accept_cc_by_nc=settings.accept_cc_by_nc,
        folders=get_model_folders(),
        allow_paths=False,
        operations=precision.operations,
        rest_operations=pick_float32_layers(),
        dtype=precision.weights,
        compute_dtype=precision.compute,
        block_dtype=precision.blocks,
    )
    if settings.compile:
        from ...audiox_ext.model import compile_network

        compile_network(model, get_network_device())
    placement = ComfyPlacement(model.parts())
    model.placement = placement
    stored = precision.blocks or precision.weights
    log.info("AudioX: weights are stored as %s, the network computes in %s.", stored, precision.compute)
    return AudioXModelHandle(
        name=settings.model,
        engine="native",
        model=model,
        config=config,
        folder=model.folder,
        placement=placement,
        accepted=settings.accept_cc_by_nc,
    )


def _load_upstream(settings: LoaderSettings) -> AudioXModelHandle:
    """Load a model with the research package, which chooses precision, devices and compilation itself."""
    from ...audiox_ext.research_package import upstream_get_pretrained_model

    model: Any
    model, config = upstream_get_pretrained_model(settings.model, accept_cc_by_nc=settings.accept_cc_by_nc)
    return AudioXModelHandle(
        name=settings.model,
        engine="audiox",
        model=model,
        config=config,
        folder=find_model_folder(settings.model, get_model_folders(), allow_paths=False),
        accepted=settings.accept_cc_by_nc,
    )
