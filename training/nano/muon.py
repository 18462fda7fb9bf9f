"""Muon for the matrices of a network, AdamW for all else, behind one optimiser's face.

Source: Jordan et al., "Muon: An optimizer for hidden layers in neural networks" (2024). A convolution counts as a matrix with
a row for each output channel; embeddings, depthwise convolutions, biases, norms and very narrow layers stay with AdamW.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

NARROWEST = 16
"""Matrices with fewer rows or columns are not worth being made orthogonal."""


class MuonAndAdamW:
    """Muon's updates are scaled to the size of AdamW's, so that one learning rate serves both."""

    def __init__(self, net: nn.Module, lr: float, weight_decay: float) -> None:
        self.matrices: list[tuple[nn.Parameter, nn.Parameter]] = []
        """Each parameter and the same storage seen as a matrix."""
        rest: list[nn.Parameter] = []
        for parameter in net.parameters():
            if is_matrix(parameter):
                parameter.data = parameter.data.contiguous(memory_format=layout(parameter))
                self.matrices.append((parameter, nn.Parameter(as_matrix(parameter.data))))
            else:
                rest.append(parameter)
        groups = [
            {"params": [p for p in rest if p.ndim > 1], "weight_decay": weight_decay},
            {"params": [p for p in rest if p.ndim <= 1], "weight_decay": 0.0},
        ]
        self.adamw = torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.98), fused=True)
        matrices = [matrix for _, matrix in self.matrices]
        self.muon = torch.optim.Muon(matrices, lr=lr, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        return self.adamw.param_groups + self.muon.param_groups

    def zero_grad(self, set_to_none: bool = True) -> None:
        self.adamw.zero_grad(set_to_none)
        for parameter, matrix in self.matrices:
            parameter.grad = matrix.grad = None

    def step(self) -> None:
        for parameter, matrix in self.matrices:
            matrix.grad = None if parameter.grad is None else as_matrix(parameter.grad)
        self.adamw.step()
        self.muon.step()

    def state_dict(self) -> dict[str, Any]:
        return {"adamw": self.adamw.state_dict(), "muon": self.muon.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.adamw.load_state_dict(state["adamw"])
        self.muon.load_state_dict(state["muon"])


def is_matrix(parameter: Tensor) -> bool:
    return parameter.ndim in (2, 4) and min(parameter.flatten(1).shape) >= NARROWEST and not is_depthwise(parameter)


def is_depthwise(parameter: Tensor) -> bool:
    return parameter.ndim == 4 and parameter.shape[1] == 1


def layout(parameter: Tensor) -> torch.memory_format:
    return torch.channels_last if parameter.ndim == 4 else torch.contiguous_format


def as_matrix(values: Tensor) -> Tensor:
    """(out, in, h, w) -> (out, h * w * in); without a copy where the values lie channels last."""
    return values.permute(0, 2, 3, 1).flatten(1) if values.ndim == 4 else values
