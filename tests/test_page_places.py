"""The page where it is opened: themes, a phone, fingers, a server that asks for a token."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from browsing import answers_a_click, chromium
from serving import Served, serving


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


LOOKS = {
    "contrast": """() => {
      const light = (colour) => {
        const [r, g, b] = colour.map((v) => (v <= 10 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
      };
      const parse = (text) => (text.match(/[\\d.]+/g) ?? []).map(Number);
      const ground = (e) => {
        for (; e; e = e.parentElement) {
          const colour = parse(getComputedStyle(e).backgroundColor);
          if (colour.length === 3 || colour[3] > 0.5) return colour.slice(0, 3);
        }
        return [255, 255, 255];
      };
      return [...document.querySelectorAll("h1, h2, p, button, label, .model, .score")]
        .filter((e) => e.checkVisibility() && e.textContent.trim() && !e.disabled && !e.closest(".hint, .sr"))
        .map((e) => {
          const a = light(parse(getComputedStyle(e).color).slice(0, 3)), b = light(ground(e));
          return [e.textContent.trim().slice(0, 30), (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05)];
        })
        .filter(([, ratio]) => ratio < 4.5);
    }""",
    "names": """() => [...document.querySelectorAll("button, input, a")].filter((e) => e.checkVisibility())
      .filter((e) => !e.textContent.trim() && !e.ariaLabel && !e.labels?.length && !e.querySelector("img[alt]"))
      .map((e) => e.outerHTML)""",
}
"""What is read off the page: text that does not stand out (WCAG 2.2, 1.4.3), and controls without a name."""


@pytest.mark.parametrize(("width", "theme"), [(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")])
def test_looks(browser: Browser, served: Served, width: int, theme: str) -> None:
    """Nothing sticks out sideways, and text stands out from its ground, in both themes and on a phone."""
    context = browser.new_context(viewport={"width": width, "height": 844}, color_scheme=theme, has_touch=width < 400)  # type: ignore[arg-type]
    page = context.new_page()
    page.goto(served.address)
    for step in range(2):
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        weak = page.evaluate(LOOKS["contrast"])
        assert weak == []
        nameless = page.evaluate(LOOKS["names"])
        assert nameless == []
        if step == 0:
            page.click("[aria-label='Try: A cat']")
            expect(page.locator("#hint")).not_to_be_empty(timeout=20_000)
            page.locator("#over").click(position={"x": 180, "y": 200})
            expect(page.locator("#objects li")).to_have_count(1)
    context.close()


def test_fingers(browser: Browser, served: Served) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    page = context.new_page()
    page.goto(served.address)
    page.tap("[aria-label='Try: A cat']")
    expect(page.locator("#busy")).to_be_hidden(timeout=20_000)
    expect(page.locator("#hint")).to_contain_text("Tap")
    room = page.locator("#over").bounding_box()
    assert room is not None
    page.touchscreen.tap(room["x"] + room["width"] * 0.5, room["y"] + room["height"] * 0.5)
    expect(page.locator("#objects li")).to_have_count(1)
    page.tap('button[data-tool="exclude"]')
    with page.expect_response(answers_a_click) as answer:
        page.touchscreen.tap(room["x"] + room["width"] * 0.2, room["y"] + room["height"] * 0.4)
    assert answer.value.ok
    assert answer.value.request.post_data_json["labels"] == [1, 0]
    expect(page.locator("#objects .score")).to_have_text(f"{answer.value.json()['masks'][0]['score']:.2f}")
    view = page.evaluate("document.getElementById('base').toDataURL().length")
    drag = """(moves) => {
      const over = document.getElementById("over"), shared = { pointerType: "touch", bubbles: true };
      for (const [kind, pointerId, clientX, clientY] of moves)
        over.dispatchEvent(new PointerEvent("pointer" + kind, { ...shared, pointerId, clientX, clientY }));
    }"""
    page.evaluate("Element.prototype.setPointerCapture = () => {}")  # which only real fingers can be given
    x, y = room["x"] + room["width"] / 2, room["y"] + room["height"] / 2
    pinch = [
        ("down", 1, x - 20, y),
        ("down", 2, x + 20, y),
        ("move", 1, x - 80, y),
        ("move", 2, x + 80, y),
        ("up", 1, x, y),
        ("up", 2, x, y),
    ]
    page.evaluate(drag, [list(step) for step in pinch])
    page.wait_for_timeout(200)
    assert page.evaluate("document.getElementById('base').toDataURL().length") != view, "two fingers zoom"
    expect(page.locator("#objects li")).to_have_count(1)
    context.close()


def test_the_token_is_asked_for(browser: Browser) -> None:
    with serving("--token", "a-long-secret", env={"POINTCUT_TOKEN": ""}) as server:
        context = browser.new_context(color_scheme="dark")
        page = context.new_page()
        said: list[str] = []
        page.on("console", lambda message: said.append(message.text))
        page.goto(server.address)
        assert page.evaluate("getComputedStyle(document.querySelector('main')).borderRadius") == "20px"
        assert not [text for text in said if "Content Security Policy" in text]
        page.fill("#token", "a-long-secret")
        page.click("button")
        expect(page.locator("#choose")).to_be_visible()
        page.click("[aria-label='Try: A cat']")
        expect(page.locator("#hint")).to_contain_text("Move to see", timeout=20_000)
        context.close()
