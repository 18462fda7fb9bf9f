"""Times encoding and clicks: `python benchmarks/speed.py [--size WxH] [--threads N] [--rounds N]`.

Contenders, each in a process of its own, in turn, several rounds: the built-in model and SAM 2.1 tiny here, exact and fast; the
same weights in `transformers` (`Sam2Model`, eager), and converted from there for OpenVINO and ONNX Runtime where these are
installed (engines.py). The weights are random but the same for all, so that the masks can be compared: the share of pixels in
which they differ stands below the times. Peak memory is that of the process, PyTorch included.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import engines
from pointcut.bench import Way, machine, peak_megabytes, seconds, time_here
from pointcut.plotting import draw_bars

if TYPE_CHECKING:
    import torch

    from pointcut.weights.specs import Precision

COLUMNS = ("load", "first", "encode", "click", "preview", "peak_mb")
PHOTO = Path(__file__).parents[1] / "examples" / "photos" / "coffee.jpg"
CONTENDERS = {
    "nano": "Pointcut, nano",
    "nano-fast": "Pointcut, nano, fast",
    "tiny": "Pointcut, SAM 2.1 tiny",
    "tiny-fast": "Pointcut, SAM 2.1 tiny, fast",
    "transformers": "transformers, SAM 2.1 tiny",
    "openvino": "OpenVINO, SAM 2.1 tiny",
    "openvino-bf16": "OpenVINO, SAM 2.1 tiny, bfloat16",
    "onnxruntime": "ONNX Runtime, SAM 2.1 tiny",
}


def photograph(size: tuple[int, int]) -> np.ndarray:
    from PIL import Image

    return np.asarray(Image.open(PHOTO).convert("RGB").resize(size, Image.Resampling.BICUBIC))


def ours(weights: Path | None, size: tuple[int, int], precision: Precision) -> dict[str, object]:
    """Pointcut: picture in memory to `EncodedImage`; click to three masks of the picture's size, and to a preview."""
    model = str(weights or "nano")
    image = photograph(size)
    timings = time_here(Way(model, precision), "cpu", image)
    from pointcut.segment.segmenter import load

    cut = load(model, device="cpu", precision=precision).encode(image).segment(points=[(size[0] / 2, size[1] / 2)])
    return {**asdict(timings), "masks": packed(cut.masks)}


def packed(masks: np.ndarray) -> str:
    return np.packbits(masks).tobytes().hex()


def theirs(engine: str, precision: str, folder: Path, size: tuple[int, int], threads: int) -> dict[str, object]:
    """The others: the same picture prepared in the same way, then their own network, then masks of the picture's size."""
    import torch
    import torch.nn.functional as F

    from pointcut.images import Frame
    from pointcut.pixels import to_square

    import_module("transformers.models.sam2.modeling_sam2" if engine == "transformers" else engine)  # is not counted
    started = time.perf_counter()
    images, clicks = eager(folder) if engine == "transformers" else engines.networks(engine, folder, precision, threads)
    loaded = time.perf_counter() - started
    image = photograph(size)
    frame = Frame(image.shape[0], image.shape[1], engines.SIDE, "squash")
    point = frame.points_to_model(np.array([[(size[0] / 2, size[1] / 2)]])).astype(np.float32)[None]
    label = np.ones((1, 1, 1), np.int32)

    def encode() -> list[np.ndarray]:
        return images([to_square(image, frame, torch.device("cpu")).numpy()])

    maps = encode()

    def click() -> np.ndarray:
        logits = torch.from_numpy(clicks([*maps, point, label])[0])[0]
        return (F.interpolate(logits, image.shape[:2], mode="bilinear") > 0).numpy()[0]

    times = {"load": loaded, "encode": seconds(encode, 3), "click": seconds(click, 9)}
    return {**times, "peak_mb": peak_megabytes(), "masks": packed(click())}


def eager(folder: Path) -> tuple[engines.Run, engines.Run]:
    """transformers' own network, as `engines.networks` gives the converted ones."""
    import torch
    from transformers import Sam2Model

    model = Sam2Model.from_pretrained(folder).eval()

    def run(network: torch.nn.Module) -> engines.Run:
        @torch.inference_mode()
        def answer(arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
            found = network(*map(torch.from_numpy, arrays))
            return [x.numpy() for x in ([found] if isinstance(found, torch.Tensor) else found)]

        return answer

    return run(engines.Images(model)), run(engines.Clicks(model))


def randomise(model: torch.nn.Module) -> torch.nn.Module:
    """Gives a SAM of transformers seeded weights that let every part matter; its own leave many at zero."""
    import torch

    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, value in model.named_parameters():
            noise = torch.randn(value.shape, generator=generator)
            if value.ndim > 1:
                value.copy_(noise / value[0].numel() ** 0.5)
            else:
                value.copy_(0.02 * noise if name.endswith("bias") else 1 + 0.1 * noise)
        # one matrix under two names, as in every published file; transformers ties them only when it loads
        matrix = torch.randn(2, 128, generator=generator)
        model.shared_image_embedding.positional_embedding.copy_(matrix)
        model.prompt_encoder.shared_embedding.positional_embedding.copy_(matrix)
    return model.eval()


def random_weights(folder: Path, alike: bool = False) -> None:
    """A `Sam2Model` with such weights, written as transformers writes it; `alike`: it gives all masks of a prompt one score."""
    from transformers import Sam2Config, Sam2Model

    model = randomise(Sam2Model(Sam2Config()))
    if alike:
        last = model.mask_decoder.iou_prediction_head.proj_out
        for value in (last.weight.data, last.bias.data):
            value.copy_(value[:1].expand_as(value).clone())
    model.save_pretrained(folder)


def convert(folder: Path) -> None:
    """The same for the other engines."""
    from transformers import Sam2Model

    engines.convert(Sam2Model.from_pretrained(folder).eval(), folder)


def measure(contender: str, folder: Path, threads: int, size: str) -> dict[str, object]:
    options = {"--one": contender, "--weights": str(folder), "--threads": str(threads), "--size": size}
    command = [sys.executable, __file__, *(part for option in options.items() for part in option)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="1800x1200", help="of the photograph, width x height")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--picture", type=Path, help="also draw the times into this file")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--one", choices=CONTENDERS, help=argparse.SUPPRESS)
    parser.add_argument("--weights", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        import torch

        torch.set_num_threads(args.threads)
        width, height = (int(n) for n in args.size.split("x"))
        size = width, height
        name, _, precision = args.one.partition("-")
        if name in ("nano", "tiny"):
            result = ours(args.weights if name == "tiny" else None, size, "fast" if precision else "exact")
        else:
            result = theirs(name, precision or "f32", args.weights, size, args.threads)
        print(json.dumps(result))
        return

    from pointcut.nets.processor import multiplies_bfloat16

    there = {"nano", "tiny", "transformers", *engines.installed()}
    imitated = set() if multiplies_bfloat16() else {"openvino-bf16"}  # six minutes were not enough to load it
    names = [name for name in CONTENDERS if name.partition("-")[0] in there and name not in imitated]
    rounds: dict[str, list[dict[str, object]]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory() as folder:
        random_weights(Path(folder))
        if engines.installed():
            convert(Path(folder))
        for i in range(args.rounds):
            for name, runs in rounds.items():
                print(f"round {i + 1} of {args.rounds}: {CONTENDERS[name]}", file=sys.stderr)
                runs.append(measure(name, Path(folder), args.threads, args.size))
    masks = {
        name: np.unpackbits(np.frombuffer(bytes.fromhex(runs[0]["masks"]), np.uint8))
        for name, runs in rounds.items()
        if not name.startswith("nano")
    }
    reference = masks.pop("transformers")
    differing = {name: float((mask ^ reference).mean()) for name, mask in masks.items()}
    table = {
        name: {key: [statistics.median(v), min(v), max(v)] for key in COLUMNS if (v := [r[key] for r in runs if key in r])}
        for name, runs in rounds.items()
    }
    if args.picture:
        panels: dict[str, dict[str, list[float]]] = {"encode (ms)": {}, "click (ms)": {}}
        for name, runs in rounds.items():
            for key in ("encode", "click"):
                panels[f"{key} (ms)"][CONTENDERS[name]] = [1000 * run[key] for run in runs]
        draw_bars(panels, args.picture, title=f"{machine()}, {args.threads} threads, {args.size}, {time.strftime('%Y-%m-%d')}")
    if args.json:
        print(json.dumps({"contenders": table, "differing_pixels": differing}, indent=1))
        return
    lines = [
        f"{machine()}, {args.threads} threads, {args.size}, {time.strftime('%Y-%m-%d')}; PyTorch {version('torch')}, "
        f"transformers {version('transformers')}; {args.rounds} rounds in turn: median (least to most).",
        "",
        f"| | {' | '.join(f'{name} (ms)' for name in COLUMNS[:-1])} | peak memory (MB) |",
        "|---" * (1 + len(COLUMNS)) + "|",
    ]
    for name, values in table.items():
        cells = [spread(values.get(key), 1000 if key != "peak_mb" else 1) for key in COLUMNS]
        lines.append(f"| {CONTENDERS[name]} | {' | '.join(cells)} |")
    lines += ["", "SAM 2.1 tiny against transformers, and pixels of the masks that differ from its:", ""]
    for name, share in differing.items():
        ratios = ", ".join(f"{key} {table['transformers'][key][0] / table[name][key][0]:.1f}x" for key in ("encode", "click"))
        lines.append(f"- {CONTENDERS[name]}: {ratios}; {100 * share:.4f} %")
    print("\n".join(lines))


def spread(values: list[float] | None, scale: float) -> str:
    """A median with its extremes, for a table."""
    return "" if values is None else "{:.0f} ({:.0f} to {:.0f})".format(*(scale * v for v in values))


if __name__ == "__main__":
    main()
