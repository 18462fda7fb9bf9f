"""Small networks of each family with random weights, for tests that ask how and not what."""

from __future__ import annotations

from dataclasses import replace

import torch

from pointcut.nets import sam1, sam2
from pointcut.nets.hiera import HieraConfig
from pointcut.nets.promptable import Promptable
from pointcut.nets.tinyvit import TinyViTConfig
from pointcut.nets.vit import ViTConfig

SMALL = {
    "sam2": replace(sam2.TINY_2_1, trunk=HieraConfig(width=16, background=(7, 7)), input_size=256),
    "sam1": replace(sam1.VIT_B, encoder=ViTConfig(64, 2, 2, (1,)), input_size=256),
    "mobile": replace(sam1.MOBILE, encoder=TinyViTConfig((16, 32, 40, 48), (1, 1, 2, 1), (2, 4, 4)), input_size=256),
}


def small_net(name: str) -> Promptable:
    """Baked, not settled."""
    torch.manual_seed(0)
    net: Promptable = SMALL[name].build()
    for value in net.parameters():
        if value.ndim > 1:
            torch.nn.init.normal_(value, std=(1 / value[0].numel()) ** 0.5)
    net.bake()
    return net
