"""The server under load from this second process: clicks alone and beside encodings, encodings one by one and together, memory
over many pictures, and how soon the page lights up what lies under the pointer.

    python benchmarks/serving.py [--seconds 20] [--pictures 10000] [--model nano] [--page]
"""

from __future__ import annotations

import argparse
import io
import itertools
import re
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import psutil
from PIL import Image

PHOTO = Path(__file__).parents[1] / "examples" / "photos" / "astronaut.jpg"

SERVER = """
import sys, pointcut
from pointcut.server.app import serve
from pointcut.server.config import Limits, ServerConfig
model, together, cache = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
config = ServerConfig(port=0, limits=Limits(together=together, cache=cache))
serve(config, [pointcut.load(model, precision="auto")], lambda address: print(address, flush=True))
"""


@contextmanager
def served(model: str, together: int = 4, cache: int = 1 << 30) -> Iterator[tuple[str, psutil.Process]]:
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER, model, str(together), str(cache)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip(), psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait()


def picture(number: int, base: np.ndarray) -> bytes:
    """A picture that nobody has seen: the same photograph with a number in a corner."""
    pixels = base.copy()
    pixels[0, :8] = np.frombuffer(number.to_bytes(24, "little"), np.uint8).reshape(8, 3)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "BMP")
    return file.getvalue()


def clicks(address: str, seconds: float, body: dict) -> list[float]:
    """Milliseconds that one person's clicks took, one after another."""
    took = []
    with httpx.Client(base_url=address, timeout=60, trust_env=False) as http:
        handle = http.post("/v1/images", content=PHOTO.read_bytes()).json()["id"]
        path, end = f"/v1/images/{handle}/segment", time.perf_counter() + seconds
        for i in itertools.count():
            if time.perf_counter() > end:
                return took
            began = time.perf_counter()
            http.post(path, json={"points": [[100 + i % 300, 110]], **body}).raise_for_status()
            took.append(1000 * (time.perf_counter() - began))
            time.sleep(0.02)
    return took


@contextmanager
def encoding(address: str, people: int, numbers: Iterator[int]) -> Iterator[Callable[[], int]]:
    """People who upload new pictures as fast as they are taken; gives how many were encoded so far."""
    base, stop, done = np.asarray(Image.open(PHOTO)), threading.Event(), itertools.count()
    counted = [0]

    def upload() -> None:
        with httpx.Client(base_url=address, timeout=60, trust_env=False) as http:
            while not stop.is_set():
                if http.post("/v1/images", content=picture(next(numbers), base)).status_code == 201:
                    counted[0] = next(done) + 1

    threads = [threading.Thread(target=upload) for _ in range(people)]
    for thread in threads:
        thread.start()
    try:
        yield lambda: counted[0]
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def told(name: str, took: list[float]) -> None:
    p50, p99 = np.percentile(took, [50, 99])
    print(f"| {name} | {p50:.0f} | {p99:.0f} | {len(took)} |")


def latency(model: str, seconds: float) -> None:
    print("| | p50 (ms) | p99 (ms) | requests |\n|---|---|---|---|")
    with served(model) as (address, _):
        clicks(address, 2, {})
        for what, body in (("click, three masks", {}), ("hover preview", {"output": ["preview"]})):
            told(f"{what}, nothing else going on", clicks(address, seconds, body))
            with encoding(address, 4, itertools.count(1_000_000)):
                told(f"{what}, while four people upload without pause", clicks(address, seconds, body))


def throughput(model: str, seconds: float, rounds: int) -> None:
    rates: dict[int, list[float]] = {1: [], 4: []}
    for _, (together, found) in itertools.product(range(rounds), rates.items()):
        with served(model, together) as (address, _), encoding(address, 8, itertools.count()) as count:
            time.sleep(3)
            before = count()
            time.sleep(seconds)
            found.append((count() - before) / seconds)
    one, four = (statistics.median(found) for found in rates.values())
    print(
        f"\nEight people upload: {one:.1f} pictures a second one by one, {four:.1f} up to four together: {four / one:.2f} times"
    )


def memory(model: str, pictures: int) -> None:
    base = np.asarray(Image.open(PHOTO).resize((64, 64)))
    print(f"\nMemory of the server over {pictures} pictures, with 256 MB for encoded ones:")
    with (
        served(model, cache=256_000_000) as (address, process),
        httpx.Client(base_url=address, timeout=60, trust_env=False) as http,
    ):
        for number in range(1, pictures + 1):
            http.post("/v1/images", content=picture(number, base)).raise_for_status()
            if number in {100, 300, 1000} or number % 2500 == 0:
                kept = re.search(r"^pointcut_cache_entries (\S+)", http.get("/metrics").text, re.MULTILINE)
                assert kept is not None
                print(f"after {number}: {process.memory_info().rss / 1e6:.0f} MB, {float(kept[1]):.0f} kept", flush=True)


HOVER = """async () => {
  const over = document.getElementById("over"), room = over.getBoundingClientRect(), took = [];
  const paint = CanvasRenderingContext2D.prototype.drawImage;
  for (let i = 0; i < 60; i++) {
    const shown = new Promise((resolve) => {
      CanvasRenderingContext2D.prototype.drawImage = function (...rest) {
        paint.apply(this, rest);
        if (this.canvas === over) { CanvasRenderingContext2D.prototype.drawImage = paint; resolve(); }
      };
    });
    const began = performance.now();
    over.dispatchEvent(new PointerEvent("pointermove", { clientX: room.x + room.width * (0.35 + 0.3 * (i / 60)),
      clientY: room.y + room.height * 0.5, pointerType: "mouse", bubbles: true }));
    await shown;
    took.push(performance.now() - began);
    await new Promise((resolve) => setTimeout(resolve, 60));
  }
  return took;
}"""


def page(model: str) -> None:
    from playwright.sync_api import sync_playwright

    with served(model) as (address, _), sync_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=flags)
        tab = browser.new_page(viewport={"width": 1280, "height": 800})
        tab.goto(address)
        tab.set_input_files("#file", PHOTO)
        tab.wait_for_selector("#objects", state="attached")
        tab.wait_for_timeout(2000)
        took = tab.evaluate(HOVER)[5:]
        p50, p99 = np.percentile(took, [50, 99])
        print(
            f"\nThe page, from the pointer's move to the painted mask: p50 {p50:.0f} ms, p99 {p99:.0f} ms ({len(took)} moves)"
        )
        browser.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pictures", type=int, default=0, help="how many for the memory (0: not measured)")
    parser.add_argument("--page", action="store_true", help="time the page in Chromium too")
    asked = parser.parse_args()
    latency(asked.model, asked.seconds)
    throughput(asked.model, asked.seconds, asked.rounds)
    if asked.page:
        page(asked.model)
    if asked.pictures:
        memory(asked.model, asked.pictures)


if __name__ == "__main__":
    main()
