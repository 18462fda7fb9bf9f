"""Draws the pictures of the page for the docs: a photograph in the light, a film and a library in the dark.

python docs/_tools/page.py http://127.0.0.1:7788 FOLDER
"""

import shutil
import sys
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

FOLDER = Path(sys.argv[2])


def dragged(page: Page, x0: float, y0: float, x1: float, y1: float) -> None:
    room = page.locator("#over").bounding_box()
    assert room is not None
    page.mouse.move(room["x"] + x0 * room["width"], room["y"] + y0 * room["height"])
    page.mouse.down()
    page.mouse.move(room["x"] + x1 * room["width"], room["y"] + y1 * room["height"], steps=5)
    page.mouse.up()
    page.wait_for_timeout(1500)


def clicked(page: Page, x: float, y: float) -> None:
    room = page.locator("#over").bounding_box()
    assert room is not None
    page.mouse.click(room["x"] + x * room["width"], room["y"] + y * room["height"])
    page.wait_for_timeout(1500)


with sync_playwright() as playwright:
    flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=flags)
    shots = (
        ("page", "light", "A portrait of an astronaut", (1200, 760)),
        ("page-film", "dark", "A film", (1200, 760)),
        ("page-library", "dark", "A cup of coffee", (1200, 860)),
    )
    for name, theme, sample, (width, height) in shots:
        page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=theme)  # type: ignore[arg-type]
        page.goto(sys.argv[1])
        page.click(f"[aria-label='Try: {sample}']")
        page.wait_for_timeout(2500)
        if name == "page":
            clicked(page, 0.45, 0.3)
        elif name == "page-library":
            dragged(page, 0.27, 0.2, 0.7, 0.69)
            page.click("#similar")
            page.wait_for_selector("#hits img")
            page.locator("#hits").scroll_into_view_if_needed()
            page.wait_for_timeout(800)
        else:
            dragged(page, 0.36, 0.12, 0.66, 0.62)
            page.click("#track")
            page.wait_for_selector("#live:has-text('Tracked')", state="attached", timeout=60_000)
            page.locator("#frame").fill("20")
            page.wait_for_timeout(800)
        page.screenshot(path=FOLDER / f"{name}.jpg", type="jpeg", quality=85)
    browser.close()
