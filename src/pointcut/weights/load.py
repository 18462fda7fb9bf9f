"""A model's name, Hub id or file to a network with its weights, ready for inference."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ..errors import InputError, WeightsMismatch
from ..nets import sam1, sam2
from ..nets.promptable import Promptable
from ..nets.running import own_arithmetic
from ..nets.vit import ViTConfig
from . import hub, specs
from .keys import to_native
from .read import read_tensors, weights_in

Config = sam1.Sam1Config | sam2.Sam2Config

CONFIGS: dict[str, Config] = {
    "nano": sam2.NANO,
    "sam2.1-tiny": sam2.TINY_2_1,
    "sam2.1-small": sam2.SMALL_2_1,
    "sam2.1-base-plus": sam2.BASE_PLUS_2_1,
    "sam2.1-large": sam2.LARGE_2_1,
    "sam2-tiny": sam2.TINY_2_0,
    "sam2-small": sam2.SMALL_2_0,
    "sam2-base-plus": sam2.BASE_PLUS_2_0,
    "sam2-large": sam2.LARGE_2_0,
    "sam-vit-b": sam1.VIT_B,
    "sam-vit-l": sam1.VIT_L,
    "sam-vit-h": sam1.VIT_H,
    "mobile-sam": sam1.MOBILE,
}
"""Every row of `specs.MODELS`, as a network."""


SIDE_STEP = 64
"""Sides of the model's square are multiples of this."""


class LoadedNetwork(NamedTuple):
    """A network in evaluation mode, and what it is called."""

    net: Promptable
    name: str


def load_network(model: str | os.PathLike[str], side: int | None = None) -> LoadedNetwork:
    """Finds, reads, recognises and builds a model, with a square of another side if asked. Raises a ModelError, InputError."""
    path, name = locate(model)
    return LoadedNetwork(*network_from(read_tensors(path), str(path), name, side=side))


def with_side(config: Config, name: str, side: int) -> Config:
    """The same network for squares of another side. Raises InputError."""
    if isinstance(config, sam1.Sam1Config) and isinstance(config.encoder, ViTConfig):
        if side != config.input_size:
            raise InputError(f"{name}: its position embeddings belong to squares of {config.input_size} pixels, got {side}")
        return config
    if side % SIDE_STEP or not SIDE_STEP <= side <= 4096:
        raise InputError(f"the side of the model's square must be a multiple of {SIDE_STEP} up to 4096, got {side}")
    return replace(config, input_size=side)


def locate(model: str | os.PathLike[str]) -> tuple[Path, str | None]:
    """The weight file of a model and, where the name tells, its row's name. Downloads what is not on this machine."""
    text = os.fspath(model)
    path = Path(text).expanduser()
    if text and path.is_dir() and specs.find(text) is None:  # a folder called as a model is named ./so
        return weights_in(path), None
    if path.is_file():
        return path, None
    wanted = hub.wanted(text)
    if wanted is None:
        return specs.BUILT_IN, specs.NANO.name
    return hub.fetch(wanted), wanted.spec.name if wanted.spec else None


def network_from(
    tensors: dict[str, Tensor],
    source: str,
    name: str | None = None,
    config: Config | None = None,
    side: int | None = None,
) -> tuple[Promptable, str]:
    """Builds the network that a table of tensors belongs to and puts them in, strictly. Raises WeightsMismatch.

    `name` says which row of the table it is, if that is known; `config` replaces the row, and `side` its square's side.
    Image-only files (transformers' `Sam2Model`) load without the memory; such a network cannot track.
    """
    native = {key: value for key, value in to_native(tensors).items() if not key.endswith("num_batches_tracked")}
    name = name or recognise(native, source)
    config = config or CONFIGS[name]
    if side is not None:
        config = with_side(config, name, side)
    if isinstance(config, sam2.Sam2Config) and not any(key.startswith("memory.") for key in native):
        config = replace(config, memory=None)
    with torch.device("meta"), Undrawn():  # no memory is filled with numbers that the file replaces
        net = config.build()
    expected = {key: value for key, value in net.state_dict().items() if not key.endswith("num_batches_tracked")}
    _compare(native, expected, source, name)
    native = {key: value if value.dtype == torch.float32 else value.float() for key, value in native.items()}
    counters = {key: torch.zeros((), dtype=torch.long) for key in net.state_dict() if key.endswith("num_batches_tracked")}
    net.load_state_dict(native | counters, strict=True, assign=True)
    with own_arithmetic(torch.device("cpu")):  # where weights are read
        net.bake()
    return net, name


class Undrawn(TorchFunctionMode):
    """Builds modules without drawing their first weights: on `meta` that would import PyTorch's compiler, for two seconds."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        if func is torch.randn:
            return torch.empty(*args, **kwargs)
        return func(*args, **kwargs)


def recognise(native: dict[str, Tensor], source: str) -> str:
    """Tells a network by its trunk's width and depth, and SAM 2.1 from 2 by the tensors that only it has."""

    def depth(prefix: str) -> int:
        return len({key.split(".")[prefix.count(".")] for key in native if key.startswith(prefix)})

    if "image_encoder.trunk.stem.conv.weight" in native:
        return "nano"
    if "image_encoder.patch_embed.seq.0.conv.weight" in native:
        return "mobile-sam"
    vit = native.get("image_encoder.patch_embed.proj.weight")
    if vit is not None and "image_encoder.pos_embed" in native:
        sizes = {768: "sam-vit-b", 1024: "sam-vit-l", 1280: "sam-vit-h"}
        if vit.shape[0] in sizes:
            return sizes[vit.shape[0]]
    hiera = native.get("image_encoder.trunk.patch_embed.proj.weight")
    if hiera is not None:
        known = {(96, 12): "tiny", (96, 16): "small", (112, 24): "base-plus", (144, 48): "large"}
        size = known.get((hiera.shape[0], depth("image_encoder.trunk.blocks.")))
        tracks = any(key.startswith("memory.") for key in native)
        version = "sam2.1" if "memory.no_obj_embed_spatial" in native or not tracks else "sam2"
        if size:
            return f"{version}-{size}"
    raise WeightsMismatch(
        f"{source}: holds no network of the SAM family that is known here; expected one of {', '.join(CONFIGS)}"
    )


def _compare(got: dict[str, Tensor], expected: dict[str, Tensor], source: str, name: str) -> None:
    missing = sorted(expected.keys() - got.keys())
    extra = sorted(got.keys() - expected.keys())
    shapes = sorted(k for k in expected.keys() & got.keys() if expected[k].shape != got[k].shape)
    if missing or extra or shapes:
        examples = [f"missing {missing[0]}"] if missing else []
        examples += [f"unexpected {extra[0]}"] if extra else []
        examples += [f"{k} is {tuple(got[k].shape)} instead of {tuple(expected[k].shape)}" for k in shapes[:1]]
        raise WeightsMismatch(
            f"{source}: does not fit {name}: {len(missing)} tensors missing, {len(extra)} unexpected, {len(shapes)} of another "
            f"shape ({'; '.join(examples)})"
        )
