"""Times tracking: `python benchmarks/video.py [--frames N] [--threads N] [--rounds N] [--device cuda]`, and `--flat N`.

SAM 2.1 tiny with random weights, one object pointed at once, here (exact and fast; on a GPU also compiled) and in
`transformers` (`Sam2VideoModel`), each in a process of its own, in turn. Ours goes from a film (H.264) to run lengths, theirs
from pictures in memory to low-resolution masks. What counts are the frames with a full memory (seven memories; on a GPU also
sixteen pointers, after which nothing is compiled any more): their median. The masks are compared. `--flat` follows an object
with the built-in model through that many drawn frames, and prints the process's memory on the way.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from pointcut.bench import machine, resident_megabytes
from speed import photograph, randomise

FULL = {"cpu": 8, "cuda": 17}
"""The first frame from which on nothing grows."""
CONTENDERS = {
    "exact": "Pointcut",
    "fast": "Pointcut, fast",
    "compiled": "Pointcut, compiled",
    "fast-compiled": "Pointcut, fast, compiled",
    "transformers": "transformers",
}
CLICK = (500, 300)


def clip(frames: int, size: tuple[int, int] = (960, 640)) -> Iterator[np.ndarray]:
    """A view that wanders over the photograph."""
    whole = photograph((size[0] + 200, size[1] + 200))
    for i in range(frames):
        x, y = 100 + int(90 * np.sin(i / 7)), 100 + int(90 * np.cos(i / 11))
        yield whole[y : y + size[1], x : x + size[0]]


def write_film(path: Path, frames: int) -> None:
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 960, 640, "yuv420p"
        for picture in clip(frames):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def ours(weights: Path, film: Path, way: str, device: str) -> dict[str, object]:
    from pointcut.segment.segmenter import load

    precision = "fast" if way.startswith("fast") else "exact"
    tracker = load(weights, device=device, precision=precision, compiled=way.endswith("compiled")).track(film)
    times, logits = [], []
    tracker.prompt(0, 1, points=[CLICK])
    started = time.perf_counter()
    for frame in tracker.run():
        frame.segments.rle()
        times.append(time.perf_counter() - started)
        logits.append(frame.segments.logits)
        started = time.perf_counter()
    return {"times": times, "masks": packed(np.concatenate(logits) > 0)}


def theirs(weights: Path, film: Path, device: str) -> dict[str, object]:
    import torch
    from transformers import Sam2VideoModel

    from pointcut.video.frames import open_frames

    model = Sam2VideoModel.from_pretrained(weights).eval().to(device)
    times, masks = [], []
    frames = open_frames(film)
    for seconds, logits in reference_steps(model, [frames[i] for i in range(frames.announced())]):
        times.append(seconds)
        masks.append(torch.nn.functional.interpolate(logits.cpu(), (256, 256))[0].numpy() > 0)
    return {"times": times, "masks": packed(np.concatenate(masks))}


def reference_steps(model, pictures: list[np.ndarray]):  # transformers' own types
    """Runs `Sam2VideoModel` with one click on the first frame: (seconds, low-resolution logits (1, 1, h, w)) of each frame."""
    import torch
    from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoInferenceSession

    from pointcut.images import Frame
    from pointcut.pixels import frame_to_square

    height, width = pictures[0].shape[:2]
    device = model.device
    session = Sam2VideoInferenceSession(video_height=height, video_width=width, inference_device=device, dtype=torch.float32)
    session.processed_frames = {}
    point = torch.from_numpy(Frame(height, width, 1024, "squash").points_to_model(np.array([CLICK], np.float32)))
    with torch.inference_mode():
        for index, picture in enumerate(pictures):
            started = time.perf_counter()
            session.add_new_frame(frame_to_square(picture, 1024, device), index)
            if index == 0:
                inputs = {"point_coords": point[None, None], "point_labels": torch.ones(1, 1, 1, dtype=torch.int)}
                session.add_point_inputs(session.obj_id_to_idx(1), 0, inputs)
                session.obj_with_new_inputs = [1]
            answer = model(inference_session=session, frame_idx=index)
            logits = answer.pred_masks
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            yield time.perf_counter() - started, logits


def packed(masks: np.ndarray) -> str:
    return np.packbits(masks).tobytes().hex()


def video_weights(folder: Path) -> None:
    """A `Sam2VideoModel` with seeded weights that sees the object on every frame."""
    from transformers import Sam2VideoConfig, Sam2VideoModel

    model = randomise(Sam2VideoModel(Sam2VideoConfig()))
    model.mask_decoder.pred_obj_score_head.proj_out.bias.data.fill_(5.0)
    model.save_pretrained(folder)


def flat(frames: int) -> None:
    """The process's memory while the built-in model follows an object."""
    from pointcut.segment.segmenter import load

    tracker = load("nano", device="cpu").track(clip(frames, (480, 320)))
    tracker.prompt(0, 1, points=[(240, 160)])
    print(f"{machine()}, nano, {frames} frames of 480x320, one object, {time.strftime('%Y-%m-%d')}\n")
    print("| frame | resident (MB) |\n|---|---|")
    for frame in tracker.run():
        if frame.index in (10, frames // 10, frames // 4, frames // 2, frames - 1):
            print(f"| {frame.index} | {resident_megabytes():.0f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, help="default: three more than until all is full; on a GPU 200")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--device", choices=FULL, default="cpu")
    parser.add_argument("--flat", type=int, metavar="FRAMES")
    parser.add_argument("--one", choices=CONTENDERS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.flat:
        flat(args.flat)
        return
    frames = args.frames or FULL[args.device] + (3 if args.device == "cpu" else 200)
    if args.one:
        import torch

        torch.set_num_threads(args.threads)
        given = args.folder, args.folder / "film.mp4"
        result = theirs(*given, args.device) if args.one == "transformers" else ours(*given, args.one, args.device)
        print(json.dumps(result))
        return
    contenders = {name: title for name, title in CONTENDERS.items() if args.device != "cpu" or "compiled" not in name}
    runs: dict[str, list[dict[str, list[float]]]] = {name: [] for name in contenders}
    with tempfile.TemporaryDirectory() as folder:
        video_weights(Path(folder))
        write_film(Path(folder) / "film.mp4", frames)
        for i in range(args.rounds):
            for name, title in contenders.items():
                print(f"round {i + 1} of {args.rounds}: {title}", file=sys.stderr)
                options = ["--one", name, "--folder", folder, "--threads", str(args.threads), "--device", args.device]
                run = subprocess.run([sys.executable, __file__, *options], capture_output=True, text=True, check=True)
                runs[name].append(json.loads(run.stdout.splitlines()[-1]))
    first = FULL[args.device]
    print(f"{machine(args.device)}, {args.threads} threads, SAM 2.1 tiny, 960x640, one object, {time.strftime('%Y-%m-%d')};")
    print(f"{args.rounds} rounds in turn, frames {first} to {frames - 1}: median (least to most).\n")
    print("| | seconds a frame, full memory | frames a second | times as fast | pixels of the masks that differ |")
    print("|---|---|---|---|---|")
    reference, base = masks_of(runs["transformers"][0]), times_of(runs["transformers"], first)
    for name, title in contenders.items():
        times = times_of(runs[name], first)
        median = statistics.median(times)
        differing = 100 * float((masks_of(runs[name][0]) ^ reference).mean())
        shown = f"{median:.3g} ({min(times):.3g} to {max(times):.3g})"
        print(f"| {title} | {shown} | {1 / median:.2g} | {statistics.median(base) / median:.1f} | {differing:.4f} % |")


def times_of(runs: list[dict[str, list[float]]], first: int) -> list[float]:
    return [seconds for run in runs for seconds in run["times"][first:]]


def masks_of(run: dict[str, list[float]]) -> np.ndarray:
    return np.unpackbits(np.frombuffer(bytes.fromhex(str(run["masks"])), np.uint8))


if __name__ == "__main__":
    main()
