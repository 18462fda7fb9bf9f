"""Linear layers prepared for one processor: weights rearranged once, bias and activation in the same pass.

oneDNN's packed layers are what PyTorch's own compiler emits for Intel and AMD processors; here they stand in for `nn.Linear`
without a compiler. Where they are missing nothing changes but the speed.
Source: https://github.com/pytorch/pytorch/blob/main/torch/_inductor/mkldnn_ir.py (LinearUnary)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import MLP, ConvNeXtBlock
from .processor import has_onednn

ROWS_EXPECTED = 2048
"""For how many rows at a time weights are arranged; others work too."""


class PackedLinear(nn.Module):
    """A linear layer with an optional GELU behind it, for inference. Where it is moved, its weights are arranged anew."""

    def __init__(self, linear: nn.Linear, gelu: bool) -> None:
        super().__init__()
        self.gelu = gelu
        self.bias = linear.bias.detach()
        self._arrange(linear.weight.detach())

    def _arrange(self, weight: Tensor) -> None:
        self.packed = packs(weight)
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight, ROWS_EXPECTED) if self.packed else weight

    def _dense(self) -> Tensor:
        return self.weight.to_dense() if self.packed else self.weight

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> PackedLinear:
        super()._apply(fn, recurse)
        self.bias = fn(self.bias)
        self._arrange(fn(self._dense()))
        return self

    def __getstate__(self) -> dict[str, Any]:
        """What is copied, or travels to another process: the weights as they were. They are arranged there."""
        return self.__dict__ | {"weight": self._dense()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._arrange(self.weight)

    def _save_to_state_dict(self, destination: dict[str, Tensor], prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination[prefix + "weight"], destination[prefix + "bias"] = self._dense(), self.bias

    def forward(self, x: Tensor) -> Tensor:
        if self.packed:
            activation, algorithm = ("gelu", "none") if self.gelu else ("none", "")
            return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, activation, [], algorithm)
        x = F.linear(x, self.weight, self.bias)
        return F.gelu(x) if self.gelu else x


def keep(weight: Tensor) -> None:
    """What is done with a weight that was packed, if nothing else is asked for."""


def pack(
    module: nn.Module,
    release: Callable[[Tensor], None] = keep,
    packed: Callable[[nn.Linear, bool], PackedLinear] = PackedLinear,
) -> None:
    """Packs every linear layer inside, in place, if this build of PyTorch can; the weights must be final.

    `release` is called with each weight that was packed. `packed` makes a layer's stand-in, with a GELU behind it or without.
    """

    def stand_in(linear: nn.Linear, gelu: bool) -> PackedLinear:
        layer = packed(linear, gelu)
        release(linear.weight)
        return layer

    if not packs(next(module.parameters())):
        return
    for parent in list(module.modules()):
        if isinstance(parent, MLP) and len(parent.layers) == 2:
            linears = [layer for layer in parent.layers if type(layer) is nn.Linear]
            activated = isinstance(parent.act, nn.GELU)
            parent.layers = nn.ModuleList(stand_in(layer, activated and i == 0) for i, layer in enumerate(linears))
            if activated:
                parent.act = nn.Identity()
            continue
        activated = isinstance(parent, ConvNeXtBlock)
        for name, child in parent.named_children():
            if type(child) is nn.Linear and not isinstance(parent, nn.ModuleList):
                setattr(parent, name, stand_in(child, activated and name == "pwconv1"))
        if activated:
            parent.act = nn.Identity()


def narrow(module: nn.Module, dtype: torch.dtype, release: Callable[[Tensor], None] = keep) -> None:
    """Converts a module's numbers, one part after another, so that never more than one part is there twice."""
    for part in module.modules():
        own = (*part.parameters(recurse=False), *part.buffers(recurse=False))
        wide = [x.detach() for x in own if x.dtype != dtype]  # `to` puts the new numbers into the very same parameters
        if wide and not any(True for _ in part.children()):
            part.to(dtype)
            for x in wide:
                release(x)
    module.to(dtype)  # what parts with parts of their own hold themselves


def packs(weight: Tensor) -> bool:
    """Whether weights of that kind can be packed here."""
    if weight.device.type != "cpu" or not has_onednn("_reorder_linear_weight", "_linear_pointwise"):
        return False
    if weight.dtype == torch.bfloat16:
        return torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return weight.dtype == torch.float32
