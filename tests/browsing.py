"""A real browser for tests, Debian's Chromium, and what they do on the page."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Response, expect, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking", "--disable-component-update"]


@contextmanager
def chromium() -> Iterator[Browser]:
    """Started for as long as it lasts; without one the test is skipped, but not in CI."""
    if CHROMIUM is None:
        assert not os.environ.get("CI"), "CI must have Chromium (apt-get install chromium)"
        pytest.skip("Chromium is not installed (apt-get install chromium)")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield started
        started.close()


def opened(page: Page, path: Path) -> None:
    page.set_input_files("#file", path)
    expect(page.locator("#work")).to_be_visible()
    expect(page.locator("#busy")).to_be_hidden(timeout=20_000)
    expect(page.locator("#hint")).not_to_be_empty()


def answers_a_click(answer: Response) -> bool:
    """Not a hover's question."""
    return answer.url.endswith(("/segment", "/prompt")) and "preview" not in str(answer.request.post_data)


class Picture:
    """Places on the picture as places on the screen."""

    def __init__(self, page: Page, width: int, height: int) -> None:
        self.page = page
        room = page.locator("#over").bounding_box()
        assert room is not None
        self.scale = min((room["width"] - 24) / width, (room["height"] - 136) / height)
        self.x = room["x"] + (room["width"] - width * self.scale) / 2
        self.y = room["y"] + 72 + (room["height"] - 136 - height * self.scale) / 2

    def at(self, x: float, y: float) -> tuple[float, float]:
        return self.x + (x + 0.5) * self.scale, self.y + (y + 0.5) * self.scale

    def move(self, x: float, y: float) -> None:
        self.page.mouse.move(*self.at(x, y), steps=3)

    def click(self, x: float, y: float, **options: object) -> None:
        with self.page.expect_response(answers_a_click):
            self.page.mouse.click(*self.at(x, y), **options)  # type: ignore[arg-type]


def score(page: Page) -> str:
    return page.locator("#objects .score").last.inner_text()


def lit(page: Page) -> int:
    """Coloured pixels of the upper canvas."""
    return page.evaluate(
        """() => { const c = document.getElementById("over"), d = c.getContext("2d").getImageData(0, 0, c.width, c.height).data;
        let n = 0; for (let i = 3; i < d.length; i += 4) n += d[i] > 60; return n; }"""
    )


def taken(page: Page, button: str, folder: Path) -> Path:
    with page.expect_download() as download:
        page.click(button)
    path = folder / download.value.suggested_filename
    download.value.save_as(path)
    return path
