"""SAM 2.1 tiny of `transformers` in the runtimes that it is often shipped in, OpenVINO and ONNX Runtime: what `speed.py` times
beside Pointcut where they are installed (`pip install onnx onnxscript openvino onnxruntime`).

A model is converted to ONNX once, as people do before they ship it, one file for images and one for clicks; loading is that of
the files.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

Run = Callable[[Sequence[np.ndarray]], list[np.ndarray]]
"""A converted network: arrays in, arrays out, in order."""

ENGINES = ("openvino", "onnxruntime")

CONVERTERS = ("onnx", "onnxscript")
"""What PyTorch needs to write ONNX."""

SIDE = 1024


def installed() -> list[str]:
    if not all(map(find_spec, CONVERTERS)):
        return []
    return [engine for engine in ENGINES if find_spec(engine)]


class Images(nn.Module):
    """(1, 3, S, S) -> the three maps that clicks need."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.model.get_image_embeddings(pixels))


class Clicks(nn.Module):
    """The maps, one click (1, 1, 1, 2) and its label (1, 1, 1) -> low-resolution logits (1, 1, 3, h, w)."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, fine: Tensor, middle: Tensor, coarse: Tensor, points: Tensor, labels: Tensor) -> Tensor:
        answer = self.model(
            image_embeddings=[fine, middle, coarse], input_points=points, input_labels=labels, multimask_output=True
        )
        return answer.pred_masks


def convert(model: nn.Module, folder: Path) -> None:
    """Writes what `networks` reads. OpenVINO reads ONNX, too: from PyTorch itself it converts this network to other results."""
    with torch.no_grad():
        maps = Images(model)(pixels := torch.zeros(1, 3, SIDE, SIDE))
        click = torch.full((1, 1, 1, 2), SIDE / 2), torch.ones(1, 1, 1, dtype=torch.int32)
        for name, network, example in (("images", Images(model), (pixels,)), ("clicks", Clicks(model), (*maps, *click))):
            torch.onnx.export(network, example, folder / f"{name}.onnx", dynamo=True, verbose=False)


def networks(engine: str, folder: Path, precision: str, threads: int) -> tuple[Run, Run]:
    """The converted networks for images and for clicks. precision: f32 or, in OpenVINO, bf16."""
    images, clicks = (_load(engine, folder / f"{name}.onnx", precision, threads) for name in ("images", "clicks"))
    return images, clicks


def _load(engine: str, path: Path, precision: str, threads: int) -> Run:
    if engine == "openvino":
        import openvino

        options = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
        core = openvino.Core()
        core.set_property({"CACHE_DIR": str(path.parent / "openvino")})  # it compiles for a minute, at the first load only
        compiled = core.compile_model(path, "CPU", options)
        return lambda arrays: list(compiled(list(arrays)).values())
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [put.name for put in session.get_inputs()]
    return lambda arrays: session.run(None, dict(zip(names, arrays, strict=True)))
