"""AudioXModel: the network, conditioners, autoencoder and fusion of a checkpoint, under its published keys.

B batch, N context tokens, D their width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from .conditioning.conditioners import MultiConditioner
from .conditioning.prompt_cache import PromptCache, cache_key
from .conditioning.prompts import parse_prompts
from .config import AudioAutoencoderConditionerConfig, ModelConfig
from .devices import Placement, provide_compiler_cache
from .model_info import ModelFacts
from .networks.autoencoder.autoencoder import Autoencoder, estimate_encoding_bytes
from .networks.dit import DiffusionTransformer
from .networks.keys import Shapes, published_key, published_shapes
from .networks.layers import DeviceLike, Operations
from .networks.maf import MultimodalAdaptiveFusion
from .networks.mmdit import MultimodalDiffusionTransformer
from .random_numbers import RandomNumbers
from .utf8 import get_logger

log = get_logger(__name__)

Network = DiffusionTransformer | MultimodalDiffusionTransformer


class MergedLora(Protocol):
    """The part of a LoRA that the model uses: `checkpoints.lora_file.Lora` is one."""

    @property
    def rank(self) -> int:
        """The largest rank of its layers."""
        ...


@dataclass(eq=False)
class MergedLoras:
    """The LoRAs that are merged into a model's network; `checkpoints.lora.set_loras` changes them.

    Attributes:
        loras: Each LoRA with its strength.
        originals: The weights as they were loaded, on the CPU, by name of the network's parameter.
    """

    loras: tuple[tuple[MergedLora, float], ...] = ()
    originals: dict[str, Tensor] = field(default_factory=dict)


class AudioXModel(nn.Module, ModelFacts):
    """A model. `get_pretrained_model` loads one, `generate_diffusion_cond` uses it.

    Attributes:
        config: Its config.json.
        folder: The folder that it was loaded from, or None.
        placement: Decides where parts run, such as ComfyUI's memory management, or None.
        prompt_cache: Encoded prompts of earlier runs.
        merged_loras: The LoRAs in the network's weights.
    """

    def __init__(
        self,
        config: ModelConfig,
        operations: Operations = nn,
        dtype: torch.dtype | None = None,
        compute_dtype: torch.dtype | None = None,
        device: DeviceLike = None,
        rest_operations: Operations = None,
    ) -> None:
        """Build the model without weights of a checkpoint.

        Args:
            config: The content of config.json.
            operations: Layer classes of the network.
            dtype: Type of the network's weights.
            compute_dtype: Type of the network's arithmetic, where its layers can cast.
            device: Device of the weights.
            rest_operations: Layer classes of the other parts, which are float32; by default `operations`.
        """
        super().__init__()
        provide_compiler_cache()
        self.config = config
        self.folder: Path | None = None
        self.placement: Placement | None = None
        self.prompt_cache = PromptCache()
        self.merged_loras = MergedLoras()
        rest: dict[str, Any] = {"dtype": torch.float32, "device": device}
        self.model = AudioXNetwork(build_network(config, operations, dtype, device, compute_dtype))
        layers = rest_operations or operations
        self.conditioner = MultiConditioner(config.conditioners, config.cond_dim, layers, **rest)
        self.pretransform = Autoencoder(config.autoencoder, layers, **rest)
        if config.fusion is not None:
            self.maf_block = MultimodalAdaptiveFusion(config.fusion, layers, **rest)

    @property
    def network(self) -> Network:
        """The denoising network."""
        return self.model.model

    def with_placement(self, placement: Placement) -> AudioXModel:
        """Return the same model under another placement. Parts and caches are shared."""
        other = copy(self)
        other.placement = placement
        return other

    def parts(self) -> dict[str, nn.Module]:
        """Return the parts that are used one after the other, by name. Each can be on a device of its own."""
        parts: dict[str, nn.Module] = {"network": self.model, "autoencoder": self.pretransform}
        for name, module in self.conditioner.conditioners.items():
            parts[f"conditioner.{name}"] = module
        if self.config.fusion is not None:
            parts["maf_block"] = self.maf_block
        return parts

    def published_shapes(self) -> Shapes:
        """Return every key of a published checkpoint of this configuration, with its shape."""
        shapes = published_shapes(self)
        outside = tuple(
            f"{name}." for name, m in self.named_modules() if getattr(m, "not_in_checkpoint", False)
        )
        return {
            published_key(key): shape
            for key, shape in shapes.items()
            if not (outside and key.startswith(outside))
        }

    def encode_conditioning(
        self,
        conditioning: Sequence[Mapping[str, Any]],
        placement: Placement,
        random: RandomNumbers | torch.Generator,
    ) -> dict[str, Tensor]:
        """Encode a batch of prompts to tokens (B, N, D) of each conditioner.

        Draws random numbers as the published code does.
        """
        random = RandomNumbers(random) if isinstance(random, torch.Generator) else random
        return self.encode_windows([conditioning], placement, random)[0]

    def encode_windows(
        self,
        windows: Sequence[Sequence[Mapping[str, Any]]],
        placement: Placement,
        random: RandomNumbers,
        *,
        groups: Sequence[int] | None = None,
        audio_prompt_masking: bool = True,
    ) -> list[dict[str, Tensor]]:
        """Encode the prompts of several windows, as `encode_conditioning` does for one.

        Conditioners run one after the other, so that each moves to its device once. Equal prompts are
        encoded once, and results of earlier runs come from `prompt_cache`. The random numbers equal those of
        windows encoded one by one if a single conditioner draws any, as in all published models.

        Args:
            windows: A batch of prompts per window.
            placement: Decides where conditioners run.
            random: Source of the random numbers.
            groups: A number per window. Windows of equal numbers share a conditioner's random numbers;
                by default none do.
            audio_prompt_masking: False leaves audio prompts whole where a conditioner would hide a random
                part of them. The random numbers are drawn all the same.

        Returns:
            The tokens (B, N, D) of each conditioner, per window.
        """
        numbers = range(len(windows)) if groups is None else groups
        tokens: list[dict[str, Tensor]] = [{} for _ in windows]
        for name, module in self.conditioner.conditioners.items():
            encoded: dict[Any, Tensor] = {}
            for window_tokens, items, group in zip(tokens, windows, numbers, strict=True):
                prompts = tuple(_identity(item.get(name)) for item in items)
                key = (prompts, group if module.draws_random_numbers else None)
                if key not in encoded:
                    encoded[key] = self._encode(name, module, items, placement, random, audio_prompt_masking)
                window_tokens[name] = encoded[key]
        return tokens

    def _encode(
        self,
        name: str,
        module: nn.Module,
        items: Sequence[Mapping[str, Any]],
        placement: Placement,
        random: RandomNumbers,
        masks: bool,
    ) -> Tensor:
        prompts = parse_prompts(name, self.config, items)
        once = all(item is items[0] for item in items) and not module.draws_random_numbers
        inputs = prompts[:1] if once else prompts
        key = cache_key(name, module, inputs, getattr(placement, "device", None))
        tokens = None if key is None else self.prompt_cache.get(key)
        if tokens is None:
            device = placement.use(f"conditioner.{name}", module, self._conditioner_bytes(name, len(prompts)))
            # Back to the CPU, because the next part may run on another device.
            tokens = module(inputs, device, random, masks).cpu()
            if key is not None:
                self.prompt_cache.put(key, tokens)
        return tokens.expand(len(prompts), -1, -1)

    def _conditioner_bytes(self, name: str, batch_size: int) -> int:
        """Estimate the memory that a conditioner needs besides its weights."""
        kind = self.config.conditioners[name]
        if isinstance(kind, AudioAutoencoderConditionerConfig):
            samples = round(self.conditioning_seconds * self.sample_rate)
            return estimate_encoding_bytes(kind.autoencoder, samples) * (
                1 if kind.autoencoder.iterate_batch else batch_size
            )
        return _CONDITIONER_BYTES

    def assemble_context(self, tokens: Mapping[str, Tensor], placement: Placement) -> Tensor:
        """Join the tokens of the conditioners to the network's context (B, N, D)."""
        if self.config.fusion is None:
            return torch.cat([tokens[name] for name in self.config.cross_attention_ids], dim=1)
        device = placement.use("maf_block", self.maf_block, _CONDITIONER_BYTES)
        # (as published) The slots are named video, text, audio, and are given text, video, audio.
        slots = (tokens[name].to(device) for name in ("text_prompt", "video_prompt", "audio_prompt"))
        return torch.cat(self.maf_block(*slots), dim=1)


_CONDITIONER_BYTES = 512 * 2**20


def _identity(prompt: Any) -> Any:
    """Return a value that is equal for prompts with the same result."""
    return prompt if isinstance(prompt, str) else id(prompt)


class AudioXNetwork(nn.Module):
    """Gives the network its published prefix, `model.model.`."""

    def __init__(self, network: Network) -> None:
        """Wrap a network."""
        super().__init__()
        self.model = network


def build_network(
    config: ModelConfig,
    operations: Operations,
    dtype: torch.dtype | None,
    device: DeviceLike,
    compute_dtype: torch.dtype | None,
) -> Network:
    """Build the denoising network of a configuration; arguments as in `DenoisingNetwork`."""
    if config.network.type == "mmdit":
        return MultimodalDiffusionTransformer(config.network, operations, dtype, device, compute_dtype)
    return DiffusionTransformer(config.network, operations, dtype, device, compute_dtype)


def compile_network(model: AudioXModel, device: torch.device | str) -> bool:
    """Compile the transformer blocks with torch.compile; that happens when they first run.

    All blocks run the same code, so the first one is compiled and the others reuse it. Sizes are dynamic:
    another length, batch or prompt is not compiled again once a few kinds of them were seen (one sound or
    several, with equal tokens in the prompt or without). On a CPU a compiled network is slower than the
    engine's own, because matrix products take nearly all the time.

    Args:
        model: The model whose network is compiled.
        device: The device that the network will run on.

    Returns:
        False where torch.compile does not work: the network is unchanged, and the log says why.
    """
    device = torch.device(device)
    if device.type == "cpu":
        log.warning("A compiled network is slower than a plain one on a CPU.")
    problem = compiler_problem(device)
    if problem:
        log.warning("torch.compile does not work here, so the network is not compiled. %s", problem)
        return False
    for block in model.network.transformer.blocks():
        block.compile(dynamic=True)
    return True


def compiler_problem(device: torch.device) -> str:
    """Check that torch can compile for a device, by compiling a small function.

    Returns:
        The error in parentheses, or an empty string when compiling works.
    """
    try:
        compiled = torch.compile(nn.GELU(), dynamic=True)
        with torch.no_grad():
            compiled(torch.zeros(2, 8, device=device))
    except Exception as error:  # compilers and drivers have errors of every kind
        return f"({type(error).__name__}: {(str(error).strip() or '?').splitlines()[0][:200]})"
    return ""


def set_block_dtype(model: AudioXModel, dtype: torch.dtype) -> None:
    """Give the matrices and filters of the transformer blocks another type, before weights are loaded.

    They are nearly all of a network. Biases, norms and everything outside the blocks keep their type.

    Args:
        model: A model on the meta device, of layers that cast their weights before they compute, as
            ComfyUI's do.
        dtype: The type, also one in which nothing can compute, such as torch.float8_e4m3fn.
    """
    for block in model.network.transformer.blocks():
        for layer in block.modules():
            weight = layer._parameters.get("weight")
            if weight is not None and weight.dim() >= 2:
                empty = torch.empty(weight.shape, dtype=dtype, device=weight.device)
                layer.register_parameter("weight", nn.Parameter(empty, requires_grad=False))
