"""Times encoding and clicks: `python benchmarks/speed.py [--size WxH] [--threads N] [--rounds N]`.

Contenders, each in a process of its own, in turn, several rounds: the built-in model; SAM 2.1 tiny here; the same weights in
`transformers` (`Sam2Model`, eager). The weights are random but the same for both, so that the masks can be compared: the share
of pixels in which they differ stands beside the time. Peak memory is that of the process, PyTorch included.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

PHOTO = Path(__file__).parents[1] / "examples" / "photos" / "coffee.jpg"
CONTENDERS = {"nano": "Pointcut, nano", "tiny": "Pointcut, SAM 2.1 tiny", "transformers": "transformers, SAM 2.1 tiny"}


def photograph(size: tuple[int, int]) -> np.ndarray:
    from PIL import Image

    return np.asarray(Image.open(PHOTO).convert("RGB").resize(size, Image.Resampling.BICUBIC))


def seconds(step: Callable[[], object], repeats: int) -> float:
    """The median of some runs after one that warms up."""
    step()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        step()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def peak_megabytes() -> float:
    """Of this process. Linux' `ru_maxrss` begins with what the parent held when it forked; the kernel's own line does not."""
    if sys.platform == "linux":
        line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024 * 1024)


def ours(weights: Path | None, size: tuple[int, int]) -> dict[str, object]:
    """Pointcut: picture in memory to `EncodedImage`; click to three masks of the picture's size."""
    from pointcut.segment.segmenter import load  # PyTorch's own import is not counted

    started = time.perf_counter()
    model = load(weights or "nano", device="cpu")
    loaded = time.perf_counter() - started
    image = photograph(size)
    photo = model.encode(image)
    encode = seconds(lambda: model.encode(image), 3 if weights else 9)
    click = seconds(lambda: photo.segment(points=[(size[0] / 2, size[1] / 2)]), 9)
    cut = photo.segment(points=[(size[0] / 2, size[1] / 2)])
    return row(loaded, encode, click, cut.masks)


def row(load: float, encode: float, click: float, masks: np.ndarray) -> dict[str, object]:
    packed = np.packbits(masks).tobytes().hex()
    return {"load": load, "encode": encode, "click": click, "peak_mb": peak_megabytes(), "masks": packed}


def theirs(folder: Path, size: tuple[int, int]) -> dict[str, object]:
    """transformers: the same picture prepared in the same way, then its own network, then masks of the picture's size."""
    import torch
    import torch.nn.functional as F
    from transformers import Sam2Model

    from pointcut.images import Frame
    from pointcut.pixels import to_square

    started = time.perf_counter()
    model = Sam2Model.from_pretrained(folder).eval()
    loaded = time.perf_counter() - started
    image = photograph(size)
    frame = Frame(image.shape[0], image.shape[1], 1024, "squash")
    points = torch.from_numpy(frame.points_to_model(np.array([[(size[0] / 2, size[1] / 2)]])))[None]
    labels = torch.ones(1, 1, 1, dtype=torch.int)

    @torch.inference_mode()
    def encode() -> list[torch.Tensor]:
        return model.get_image_embeddings(to_square(image, frame, torch.device("cpu")))

    embeddings = encode()

    @torch.inference_mode()
    def click() -> np.ndarray:
        answer = model(image_embeddings=embeddings, input_points=points, input_labels=labels, multimask_output=True)
        return (F.interpolate(answer.pred_masks[0], image.shape[:2], mode="bilinear") > 0).numpy()[0]

    return row(loaded, seconds(encode, 3), seconds(click, 9), click())


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


def measure(contender: str, folder: Path, threads: int, size: str) -> dict[str, object]:
    options = {"--one": contender, "--weights": str(folder), "--threads": str(threads), "--size": size}
    command = [sys.executable, __file__, *(part for option in options.items() for part in option)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="1800x1200", help="of the photograph, width x height")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--one", choices=CONTENDERS, help=argparse.SUPPRESS)
    parser.add_argument("--weights", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        import torch

        torch.set_num_threads(args.threads)
        width, height = (int(n) for n in args.size.split("x"))
        size = width, height
        if args.one == "transformers":
            result = theirs(args.weights, size)
        else:
            result = ours(args.weights if args.one == "tiny" else None, size)
        print(json.dumps(result))
        return

    rounds: dict[str, list[dict[str, object]]] = {name: [] for name in CONTENDERS}
    with tempfile.TemporaryDirectory() as folder:
        random_weights(Path(folder))
        for i in range(args.rounds):
            for name, title in CONTENDERS.items():
                print(f"round {i + 1} of {args.rounds}: {title}", file=sys.stderr)
                rounds[name].append(measure(name, Path(folder), args.threads, args.size))
    tiny, reference = (np.frombuffer(bytes.fromhex(rounds[n][0]["masks"]), np.uint8) for n in ("tiny", "transformers"))
    differing = float(np.unpackbits(tiny ^ reference).mean())
    table = {
        name: {key: statistics.median(r[key] for r in runs) for key in ("load", "encode", "click", "peak_mb")}
        for name, runs in rounds.items()
    }
    if args.json:
        print(json.dumps({"contenders": table, "differing_pixels": differing}, indent=1))
        return
    print(f"{processor()}, {args.threads} threads, {args.size}, float32, {time.strftime('%Y-%m-%d')}")
    print(f"median of {args.rounds} rounds; masks of the two SAM 2.1 tiny differ in {100 * differing:.4f} % of the pixels\n")
    print("| | load (ms) | encode (ms) | click, three full-size masks (ms) | peak memory (MB) |\n|---|---|---|---|---|")
    for name, values in table.items():
        times = " | ".join(f"{1000 * values[key]:.0f}" for key in ("load", "encode", "click"))
        print(f"| {CONTENDERS[name]} | {times} | {values['peak_mb']:.0f} |")


def processor() -> str:
    """The processor's name, as far as the system tells."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
