"""How fast a model is on this machine, and what `fast` costs: what `pointcut bench` measures.

Each way of running a model has a process of its own, in turn, several rounds, so that they share the machine's moods and peak
memory is theirs alone.
"""

from __future__ import annotations

import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from .images import open_image
from .masks import iou
from .weights.specs import Precision

if TYPE_CHECKING:
    from .segment.session import EncodedImage

GRID = 4
"""Clicks along each side of a picture with which two precisions are compared."""


class Way(NamedTuple):
    """How a model is run."""

    model: str
    precision: Precision
    compiled: bool = False

    @property
    def numbers(self) -> str:
        """Without the model's name."""
        return f"{self.precision}, compiled" if self.compiled else self.precision

    def __str__(self) -> str:
        return f"{self.model}, {self.numbers}"


@dataclass(frozen=True)
class Timings:
    """Seconds, and megabytes; medians where several were taken."""

    load: float
    first: float
    """The first picture: memory is still strange to the process."""
    encode: float
    click: float
    """One click: three masks of the picture's size."""
    preview: float
    peak_mb: float
    """Of the process, PyTorch included."""


@dataclass(frozen=True)
class Cost:
    """What `fast` changes, over clicks on a grid: IoU of each candidate with its counterpart in `exact`."""

    mean_iou: float
    worst_iou: float
    changed: float
    """The share of clicks whose best candidate is another."""
    arithmetic: str
    """In which `fast` encodes here, as PyTorch names it; float32 where nothing narrower pays."""


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
    """Of this process; 0 on Windows, which is not asked. Linux' `ru_maxrss` begins with what the parent held when it forked;
    the kernel's own line does not."""
    if sys.platform == "linux":
        return _kernel_says("VmHWM")
    if sys.platform == "win32":
        return 0.0
    import resource  # which Windows lacks

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024 * 1024)


def resident_megabytes() -> float:
    """What this process holds now (Linux)."""
    return _kernel_says("VmRSS")


def _kernel_says(name: str) -> float:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) / 1024


def time_here(way: Way, device: str, image: np.ndarray) -> Timings:
    """Measures in this process, which should have loaded nothing before."""
    from .segment.devices import wait_for  # PyTorch's own import is not counted
    from .segment.segmenter import load

    started = time.perf_counter()
    segmenter = load(way.model, device=device, precision=way.precision, compiled=way.compiled)
    loaded = time.perf_counter()

    def encode() -> EncodedImage:
        photo = segmenter.encode(image)
        wait_for(segmenter.device)  # a GPU gives back the handle and works on
        return photo

    photo = encode()
    first = time.perf_counter() - loaded
    height, width = image.shape[:2]
    middle = [(width / 2, height / 2)]
    return Timings(
        load=loaded - started,
        first=first,
        encode=seconds(encode, 9 if first < 0.3 else 3),
        click=seconds(lambda: photo.segment(points=middle), 9),
        preview=seconds(lambda: photo.preview(points=middle), 9),
        peak_mb=peak_megabytes(),
    )


def time_apart(way: Way, device: str, threads: int | None, picture: Path) -> Timings:
    """The same in a process of its own."""
    call = json.dumps({"way": way, "device": device, "threads": threads, "picture": str(picture)})
    run = subprocess.run([sys.executable, "-m", "pointcut.bench", call], capture_output=True, text=True, check=False)
    if run.returncode:
        raise RuntimeError(run.stderr.strip().splitlines()[-1])
    return Timings(**json.loads(run.stdout.splitlines()[-1]))


def median_of(rounds: list[Timings]) -> Timings:
    """Each figure's own median."""
    return Timings(*(statistics.median(column) for column in zip(*(asdict(r).values() for r in rounds), strict=True)))


def cold_start(model: str, device: str, picture: Path) -> float:
    """Seconds from typing `pointcut segment` to written files, in a new process."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pointcut", "segment", str(picture), "--point", "5,5", "--model", model]
        started = time.perf_counter()
        subprocess.run([*command, "--device", device, "--out", folder], capture_output=True, check=True)
        return time.perf_counter() - started


def cost_of_fast(model: str, device: str, pictures: list[Path]) -> Cost:
    """Compares `fast` with `exact`."""
    from .segment.segmenter import load

    exact, fast = (load(model, device=device, precision=precision) for precision in ("exact", "fast"))
    overlaps: list[float] = []
    changed = []
    for picture in pictures:
        image = open_image(picture)
        photos = exact.encode(image), fast.encode(image)
        height, width = image.shape[:2]
        for row in range(1, GRID + 1):
            for column in range(1, GRID + 1):
                click = [(width * column / (GRID + 1), height * row / (GRID + 1))]
                a, b = (photo.segment(points=click) for photo in photos)
                overlaps += [iou(one, other) for one, other in zip(a.masks, b.masks, strict=True)]
                changed.append(int(a.scores.argmax()) != int(b.scores.argmax()))
    return Cost(statistics.mean(overlaps), min(overlaps), statistics.mean(changed), fast.arithmetic)


def machine(device: str = "cpu") -> str:
    """The name of the processor, or of the GPU that `device` stands for, as far as the system tells."""
    if device != "cpu":
        from .segment.devices import choose_device, gpu_name

        gpu = gpu_name(choose_device(device))
        if gpu is not None:
            return gpu
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _apart(call: str) -> None:
    import torch

    wanted = json.loads(call)
    if wanted["threads"]:
        torch.set_num_threads(wanted["threads"])
    image = open_image(wanted["picture"])
    sys.stdout.write(json.dumps(asdict(time_here(Way(*wanted["way"]), wanted["device"], image))))


if __name__ == "__main__":
    _apart(sys.argv[1])
