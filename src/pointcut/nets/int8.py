"""Linear layers that multiply bytes: `fast` on CPUs that do so several times as fast as float32 (VNNI), but know no bfloat16.

A weight is rounded to eight bits once, with a scale for each output channel; an input each time, with one scale and one zero
for all of it. Products are summed in 32 bits, exactly, and scaled back to float32.
Sources: Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", 2018,
section 2.1 (scale and zero); https://github.com/pytorch/pytorch/blob/main/torch/_inductor/mkldnn_ir.py (QLinearPointwisePT2E)
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .packing import PackedLinear, packs

WIDE = 256
"""Channels that must come in and go out: narrower layers take as long to round their input as they save."""

STEPS = 254
"""Between the least and the greatest number of an input: one less than a byte has, so that rounding never leaves it."""

SMALLEST = torch.finfo(torch.float32).tiny


def multiplies_bytes(weight: Tensor) -> bool:
    """Whether this build of PyTorch can, for such weights."""
    return weight.dtype == torch.float32 and packs(weight) and hasattr(torch.ops.onednn, "qlinear_pointwise")


class Int8Linear(PackedLinear):
    """A linear layer with an optional GELU behind it. Where it is moved to what does not multiply bytes, it is a usual one."""

    def _arrange(self, weight: Tensor) -> None:
        self.packed = multiplies_bytes(weight)
        self.weight = weight
        if self.packed:
            self.scale = (weight.abs().amax(1) / 127).clamp_min(SMALLEST)  # of each output channel
            self.zero = torch.zeros(len(weight), dtype=torch.long)
            self.rounded = (weight / self.scale[:, None]).round().to(torch.int8)  # what is packed cannot be read again
            self.weight = torch.ops.onednn.qlinear_prepack(self.rounded, None)

    def _dense(self) -> Tensor:
        return self.rounded * self.scale[:, None] if self.packed else self.weight

    def forward(self, x: Tensor) -> Tensor:
        if not self.packed:
            return super().forward(x)
        rounded, scale, zero = to_bytes(x)
        activation, algorithm = ("gelu", "none") if self.gelu else ("none", "")
        weight = self.weight, self.scale, self.zero, self.bias
        return torch.ops.onednn.qlinear_pointwise(
            rounded, scale, zero, *weight, 1.0, 0, torch.float32, activation, [], algorithm
        )


def to_bytes(x: Tensor) -> tuple[Tensor, float, int]:
    """float32 of any shape -> uint8, and the scale and the zero by which x is about scale * (bytes - zero)."""
    least, greatest = (float(end) for end in x.aminmax())
    least, greatest = min(least, 0.0), max(greatest, 0.0)  # zero itself has a byte
    scale = max((greatest - least) / STEPS, SMALLEST)
    zero = round(-least / scale)
    return torch.add(torch.tensor(zero + 0.5, device="cpu"), x, alpha=1 / scale).to(torch.uint8), scale, zero


def with_bytes(linear: nn.Linear, gelu: bool) -> PackedLinear:
    """A packed layer that multiplies bytes if that pays."""
    wide = min(linear.in_features, linear.out_features) >= WIDE
    return (Int8Linear if wide else PackedLinear)(linear, gelu)
