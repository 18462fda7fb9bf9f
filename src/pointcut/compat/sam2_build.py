"""How the reference builds SAM 2: config names, checkpoints, and networks from both.

Source: https://github.com/facebookresearch/sam2 (build_sam.py).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import PurePath
from typing import Any

import torch

from ..errors import InputError
from ..nets.promptable import Promptable
from ..segment.devices import choose_device
from ..weights import specs
from ..weights.load import CONFIGS, load_network, locate, network_from
from ..weights.read import read_tensors

_LETTERS = {"tiny": "t", "small": "s", "base-plus": "b+", "large": "l"}


def config_name(spec: specs.ModelSpec) -> str:
    family, _, size = spec.name.partition("-")
    return f"configs/{family}/{family}_hiera_{_LETTERS[size]}.yaml"


_SAM2_SPECS = [spec for spec in specs.MODELS if spec.hub_id.startswith("facebook/sam2")]

HF_MODEL_ID_TO_FILENAMES = {spec.hub_id: (config_name(spec), spec.meta_file) for spec in _SAM2_SPECS}

_MODEL_OF_CONFIG = {PurePath(config_name(spec)).name: spec.name for spec in _SAM2_SPECS} | {
    "nano.yaml": "nano",
    "sam2.1_hiera_b+_MOSE_finetune.yaml": "sam2.1-base-plus",
}


def build_sam2(
    config_file: str,
    ckpt_path: str | os.PathLike[str] | None = None,
    device: str | torch.device = "cuda",
    mode: str = "eval",
    hydra_overrides_extra: Sequence[str] = (),
    apply_postprocessing: bool = True,
    **kwargs: object,
) -> Promptable:
    """The network that a config file of the reference names; without a checkpoint its weights are random, as there.

    The file itself is not read: its name selects a row of this project's table. `nano` (no checkpoint needed) is the built-in
    model. Raises DeviceUnavailable where there is no CUDA device: pass device="cpu".
    """
    refuse(kwargs)
    if hydra_overrides_extra:
        raise InputError(
            f"hydra overrides are not supported, got {list(hydra_overrides_extra)}; edit the config in pointcut.nets"
        )
    name = _MODEL_OF_CONFIG.get(PurePath(config_file).name, _MODEL_OF_CONFIG.get(f"{PurePath(config_file).name}.yaml"))
    if name is None:
        raise specs.unknown(config_file)
    config = CONFIGS[name]
    if not apply_postprocessing:
        config = replace(config, decoder=replace(config.decoder, stability_fallback=False))
    chosen = choose_device(device)
    if ckpt_path is None and name != "nano":
        net: Promptable = config.build()
        net.bake()
    else:
        path = locate(ckpt_path if ckpt_path is not None else "nano")[0]
        net, _ = network_from(read_tensors(path), str(path), name, config)
    net = net.to(chosen)
    if mode != "eval":
        return net.train()
    net.settle(torch.float32)
    return net


def build_sam2_hf(model_id: str, **kwargs: Any) -> Promptable:
    """The network of a Hub repository."""
    device = choose_device(kwargs.pop("device", "cuda"))
    if kwargs:
        spec = specs.find(model_id)
        if spec is None:
            raise specs.unknown(model_id)
        return build_sam2(config_name(spec), locate(model_id)[0], device=device, **kwargs)
    net = load_network(model_id).net.to(device)
    net.settle(torch.float32)
    return net


def refuse(kwargs: dict[str, object]) -> None:
    """The reference swallows unknown keywords; a typo should be heard of."""
    if kwargs:
        raise TypeError(f"unexpected keyword {next(iter(kwargs))!r}")
