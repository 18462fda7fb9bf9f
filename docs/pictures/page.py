"""Draws the pictures of the page for the docs: a photograph in the light, a film in the dark.

python docs/pictures/page.py http://127.0.0.1:7788
"""

import shutil
import sys
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

HERE = Path(__file__).parent


def clicked(page: Page, x: float, y: float) -> None:
    room = page.locator("#over").bounding_box()
    assert room is not None
    page.mouse.click(room["x"] + x * room["width"], room["y"] + y * room["height"])
    page.wait_for_timeout(1500)


with sync_playwright() as playwright:
    flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=flags)
    for name, theme, sample in (("page", "light", "A portrait of an astronaut"), ("page-film", "dark", "A film")):
        page = browser.new_page(viewport={"width": 1200, "height": 760}, color_scheme=theme)  # type: ignore[arg-type]
        page.goto(sys.argv[1])
        page.click(f"[aria-label='Try: {sample}']")
        page.wait_for_timeout(2500)
        if name == "page":
            clicked(page, 0.45, 0.3)
        else:
            room = page.locator("#over").bounding_box()
            assert room is not None
            page.mouse.move(room["x"] + 0.36 * room["width"], room["y"] + 0.12 * room["height"])
            page.mouse.down()
            page.mouse.move(room["x"] + 0.66 * room["width"], room["y"] + 0.62 * room["height"], steps=5)
            page.mouse.up()
            page.wait_for_timeout(1500)
            page.click("#track")
            page.wait_for_selector("#live:has-text('Tracked')", state="attached", timeout=60_000)
            page.locator("#frame").fill("20")
            page.wait_for_timeout(800)
        page.screenshot(path=HERE / f"{name}.jpg", type="jpeg", quality=85)
    browser.close()
