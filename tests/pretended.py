"""A device that is none: it computes on the CPU, and behaves like a GPU to whoever uses it.

PyTorch lets a program bring a device of its own (`PrivateUse1`). Each tensor of this one holds a CPU's; it refuses to mix the
two, and writes down whenever a program waits for it: when a number, a shape that depends on numbers, or a tensor is asked for,
or a tensor is brought to it otherwise than in its turn (`upload`). So what runs on a GPU only can be run, compared with the
CPU's answers, and counted, where there is none. What it cannot tell is how long things take, and how CUDA's kernels round.

    python tests/pretended.py sam2|sam1|nano

prints, as JSON, what each step of using a network waits for, and how far its answers are from the CPU's: a line for steps as
they are, and one for steps within `torch.autocast`, without the search for everything and zooming in, where a pixel decides.
It runs in a process of its own, for a device cannot be taken back.
"""

from __future__ import annotations

import json
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import _DummyBackendModule, _setup_privateuseone_for_python_backend

import pointcut
from pointcut.segment.features import pooled_features
from pointcut.segment.segmenter import Segmenter
from pointcut.segment.session import Encoder
from pointcut.segments import Segments

from films import ball
from small import small_net

NAME = "pretended"
ATEN = torch.ops.aten
COPIES = (ATEN._to_copy.default, ATEN.copy_.default)
ASKS = {ATEN._local_scalar_dense.default: "a number", ATEN.nonzero.default: "a shape", ATEN.equal.default: "a number"}

NARROWED = {torch.nn.functional.linear, torch.conv2d, torch.conv_transpose2d, torch.matmul, torch.bmm, torch.mm, torch.addmm}
NARROWED |= {torch.einsum, torch.Tensor.matmul, torch.Tensor.__matmul__, torch.nn.functional.scaled_dot_product_attention}
"""What `torch.autocast` computes in bfloat16 on CUDA, of what networks are made of."""

waits: Counter[str] = Counter()
"""What was waited for, and where in the package, since it was emptied."""


class Pretended(torch.Tensor):
    """A tensor of the device; `held` is the CPU's."""

    held: torch.Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> Pretended:
        made = torch.Tensor._make_wrapper_subclass(
            cls, held.size(), strides=held.stride(), storage_offset=held.storage_offset(), dtype=held.dtype, device=f"{NAME}:0"
        )
        made.held = held
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return computed(func, args, kwargs or {})


def note(what: str) -> None:
    frames = [frame for frame in traceback.extract_stack() if "/src/pointcut/" in frame.filename]
    file = frames[-1].filename.split("/src/pointcut/")[1] if frames else "?"
    if file != "nets/running.py" or what != "an upload":  # CUDA does those in their turn
        waits[f"{what}, {file}"] += 1


def is_ours(device: Any) -> bool:
    return device is not None and torch.device(device).type == NAME


def computed(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """One operation, on the CPU's tensors."""
    given = tree_leaves((args, kwargs))
    ours, device = any(isinstance(x, Pretended) for x in given), kwargs.get("device")
    if ours and func not in COPIES:
        strangers = [x for x in given if isinstance(x, torch.Tensor) and not isinstance(x, Pretended) and x.ndim]
        assert not strangers, f"{func} mixes devices: the CPU's is {strangers[0].shape}"
    if ours and func in ASKS:
        note(ASKS[func])
    if (
        ours
        and func in (ATEN.index.Tensor, ATEN.index_put_.default)
        and any(x is not None and x.dtype == torch.bool for x in args[1])
    ):
        note("a shape")
    if func is ATEN._to_copy.default and device is not None and is_ours(device) != ours:
        note("a download" if ours else "an upload")
    there = isinstance(args[0], Pretended) if func is ATEN.copy_.default else is_ours(device) or (ours and device is None)
    plain = {**kwargs, "device": "cpu"} if is_ours(device) else kwargs
    out = func(*tree_map(held, args), **tree_map(held, plain))
    if not there or func is ATEN._local_scalar_dense.default:
        return out
    out = tree_map(lambda x: Pretended(x) if isinstance(x, torch.Tensor) else x, out)
    return return_and_correct_aliasing(func, args, kwargs, out) if ours else out


def held(x: Any) -> Any:
    return x.held if isinstance(x, Pretended) else x


def narrowed(x: Any) -> Any:
    return x.to(torch.bfloat16) if isinstance(x, Pretended) and x.dtype == torch.float32 else x


class Operations(TorchDispatchMode):
    """What makes tensors on the device, and all else."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return computed(func, args, kwargs or {})


class Functions(TorchFunctionMode):
    """What PyTorch does below its operations, where nobody can step in."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in (torch.tensor, torch.as_tensor) and is_ours(kwargs.get("device")):
            note("an upload")
            return Pretended(func(*args, **{**kwargs, "device": "cpu"}))
        if func in NARROWED and torch.is_autocast_enabled(NAME):
            args, kwargs = tree_map(narrowed, args), tree_map(narrowed, kwargs)
        if func is torch.nn.functional.scaled_dot_product_attention and isinstance(args[0], Pretended):
            return Pretended(func(*map(held, args), **tree_map(held, kwargs)))
        return func(*args, **kwargs)


class Module(_DummyBackendModule):
    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16]

    def is_autocast_enabled(self) -> bool:
        return False


def steps(
    model: Segmenter, image: np.ndarray, film: list[np.ndarray], *, by_pixels: bool
) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Ways to use a network, one after another. by_pixels: those, too, in which a pixel decides what is asked next."""
    kept: dict[str, Any] = {}

    def keep(name: str, value: Any) -> Any:
        kept[name] = value
        return value

    yield "encode", lambda: keep("photo", model.encode(image))
    photo = kept["photo"]
    yield "encode again", lambda: model.encode(image)
    yield "click", lambda: keep("click", photo.segment(points=[(60, 50)]))
    yield "boxes", lambda: photo.segment(boxes=[(30, 0, 90, 80), (10, 10, 100, 60)])
    yield "refine", lambda: photo.segment(points=[(60, 50), (20, 20)], labels=[1, 0], previous=kept["click"])
    yield "rough", lambda: photo.segment(mask=np.ones(photo.size, bool))
    yield "preview", lambda: photo.preview(points=[(60, 50)])
    yield "batch", lambda: model.encode_batch([image, image[:50]])[1].segment(points=[(60, 30)])
    yield "features", lambda: pooled_features(photo, kept["click"])
    loose = pointcut.AutomaticConfig(6, points_per_batch=18, pred_iou_thresh=0.0, stability_score_thresh=0.0)
    if by_pixels:
        yield "everything", lambda: photo.segment_everything(loose)
        yield "everything again", lambda: photo.segment_everything(loose)
        yield "closer", lambda: photo.zoom_in(photo.segment(boxes=[(50, 40, 70, 60), (10, 10, 100, 60)]))
    if getattr(model.encoder.net, "memory", None) is None:
        return
    tracker = model.track(film)
    yield "prompt", lambda: tracker.prompt(0, 1, boxes=(10, 20, 60, 70))
    yield "another", lambda: tracker.prompt(0, 2, points=[(20, 20)])
    run = tracker.run(end=5)
    for index in range(5):
        yield f"frame {index}", lambda: next(run).segments
    yield "correction", lambda: tracker.prompt(3, 1, points=[(50, 50)])
    mask = np.zeros(film[0].shape[:2], bool)
    mask[20:60, 30:70] = True
    yield "mask", lambda: tracker.prompt(2, 3, mask=mask)
    again = tracker.run(2, 5)
    for index in range(2, 5):
        yield f"again {index}", lambda: next(again).segments


def main(name: str) -> None:
    image = np.random.default_rng(0).integers(0, 255, (300, 400, 3), dtype=np.uint8)
    film = [ball(i) for i in range(8)]
    expected = {step: call() for step, call in steps(model_of(name), image, film, by_pixels=True)}
    _setup_privateuseone_for_python_backend(NAME, backend_module=Module())
    autocasting = torch.library.Library("_", "IMPL", "AutocastPrivateUse1")
    autocasting.fallback(torch.library.fallthrough_kernel)  # `Functions` does it
    torch.inference_mode = lambda _=True: torch.no_grad()  # its tensors cannot be held
    with Functions(), Operations():
        model = model_of(name, NAME)
        assert model.device.type == NAME
        for autocast in (False, True):
            told: dict[str, Any] = {}
            for step, call in steps(model, image, film, by_pixels=not autocast):
                waits.clear()
                with torch.autocast(NAME, dtype=torch.bfloat16, enabled=autocast):
                    got = call()
                told[step] = {"waits": dict(waits)} | compared(expected[step], got)
            print(json.dumps(told))


def compared(want: Any, got: Any) -> dict[str, Any]:
    """How far a step's answer is from the CPU's, if it has masks."""
    if not isinstance(want, Segments):
        return {}
    masks = {"masks": [len(want), len(got)]}
    if len(want) != len(got):
        return masks
    return masks | {
        "pixels": int((want.masks != got.masks).sum()),
        "logits": float(np.abs(want.logits - got.logits).max(initial=0) / max(1e-6, want.logits.std())),
        "16 bits": float(np.spacing(np.float16(np.abs(want.logits).max(initial=0))) / max(1e-6, want.logits.std())),
        "scores": float(np.abs(want.scores - got.scores).max(initial=0)),
    }


def model_of(name: str, device: str = "cpu") -> Segmenter:
    if name == "nano":
        return pointcut.load(name, device=torch.device(device))
    net = small_net(name).to(device)
    net.settle(torch.float32)
    return Segmenter(Encoder(net, name))


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    main(sys.argv[1])
