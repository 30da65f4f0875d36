"""The page in a real Chromium, in front of a real TorchServe.

Pictures are kept in build/page: `make test-all`, or `pytest tests/e2e/test_page.py`.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from videopure.launcher.server import TorchServe

sync_api = pytest.importorskip(
    "playwright.sync_api", reason="needs Playwright: pip install --editable '.[browser]'"
)
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
PICTURES = Path(__file__).parents[2] / "build" / "page"
SIZES = {"laptop": (1400, 900), "phone": (390, 844)}
TOKEN = "a-token-of-the-tests"
LONG = 120_000  # milliseconds

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs a Chromium"),
]


@contextmanager
def running(server: TorchServe, *options: str, **variables: str) -> Iterator[str]:
    """The address of a page that `videopure web` serves."""
    client = server.client()
    command = [str(Path(sys.executable).with_name("videopure")), "web", "--port", "0"]
    command += ["--url", client.inference_url, "--management-url", client.management_url]
    process = subprocess.Popen(
        [*command, "--key-file", str(client.key_file), *options],
        env={**os.environ, **variables},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield re.findall(r"http://\S+", process.stdout.readline())[0]
    finally:
        process.terminate()
        process.communicate()


@pytest.fixture(scope="module")
def address(server: TorchServe, demo_archive: Path) -> Iterator[str]:
    with running(server, "--archive", str(demo_archive)) as url:
        yield url


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    arguments = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    if os.geteuid() == 0:  # Chromium's sandbox is not for root
        arguments.append("--no-sandbox")
    with sync_api.sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield launched
        launched.close()


@contextmanager
def opened(browser: Any, url: str, size: str = "laptop", scheme: str = "light") -> Iterator[Any]:
    """A tab with the page; fails for errors in it, and for requests to elsewhere."""
    width, height = SIZES[size]
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme=scheme,
        permissions=["camera", "clipboard-write"],
    )
    context.set_default_timeout(LONG)
    tab = context.new_page()
    errors: list[str] = []
    asked: set[str] = set()
    tab.on("pageerror", lambda error: errors.append(str(error)))
    tab.on("console", lambda said: errors.extend([said.text] if said.type == "error" else []))
    tab.on("request", lambda request: asked.add(request.url))
    tab.goto(url)
    tab.locator("#samples button").nth(5).wait_for()
    yield tab
    # What the browser says of the answers that the tests provoke.
    assert [text for text in errors if "status of 4" not in text] == []
    base = url.split("#")[0]
    assert {u for u in asked if not u.startswith((base, f"blob:{base}"))} == set()
    context.close()


def take(tab: Any, sample: str) -> None:
    tab.click(f'[data-name="{sample}"]')
    tab.locator(f'#clip-name:text-is("{sample}")').wait_for()


def test_an_attacked_sample_with_and_without_videopure(browser: Any, address: str) -> None:
    with opened(browser, address) as tab:
        take(tab, "moves-left-attacked")
        assert tab.inner_text("#bare-bars .first .name") == "grows"
        assert tab.inner_text("#pure-bars .first .name") == "moves left"
        assert "Alarm" in tab.inner_text("#badge")
        assert tab.locator("#votes tr").count() == 3
        said = tab.get_attribute("#gauge", "aria-label")
        assert re.match(r"Suspicion (1\.00|0\.9\d) of 1\. Above the threshold of 0\.0", said), said


def picture(tab: Any, number: int) -> str:
    drawn: str = tab.evaluate(f"document.getElementById('panel-{number}').toDataURL()")
    return drawn


def test_the_films_play_together_and_stop_at_a_frame(browser: Any, address: str) -> None:
    with opened(browser, address) as tab:
        take(tab, "grows-clean")
        tab.locator('#play[aria-label="Pause"]').wait_for()  # it plays by itself
        tab.click("#play")
        tab.focus("#seek")
        tab.keyboard.press("Home")
        tab.locator("#frame:text-is('1 of 16')").wait_for()
        first = [picture(tab, number) for number in range(3)]
        tab.keyboard.press("End")
        tab.locator("#frame:text-is('16 of 16')").wait_for()
        last = [picture(tab, number) for number in range(3)]
        assert len({*first, *last}) == 6  # each shows something of its own, and moves


def test_an_attack_on_the_spot_by_keyboard_alone(browser: Any, address: str) -> None:
    with opened(browser, address) as tab:
        tab.keyboard.press("Tab")
        assert tab.evaluate("document.activeElement.className") == "skip"
        for _ in range(40):
            if tab.evaluate("document.activeElement.dataset.name") == "turns-right-clean":
                break
            tab.keyboard.press("Tab")
        tab.keyboard.press("Enter")
        tab.locator('#clip-name:text-is("turns-right-clean")').wait_for()
        assert tab.inner_text("#bare-bars .first .name") == "turns right"
        tab.focus("#epsilon")
        tab.keyboard.press("ArrowRight")
        assert tab.inner_text("#epsilon-value") == "5/255"
        tab.focus("#attack-go")
        tab.keyboard.press("Enter")
        tab.locator('#clip-name:text-is("turns-right-clean, attacked at 5/255")').wait_for()
        assert tab.inner_text("#bare-bars .first .name") != "turns right"
        assert tab.inner_text("#pure-bars .first .name") == "turns right"
        assert "no pixel by more than 5/255" in tab.inner_text("#explanation")
        tab.click("#tabs button >> nth=0")
        assert tab.inner_text("#clip-name") == "turns-right-clean"


def test_a_recording_is_answered(browser: Any, address: str) -> None:
    with opened(browser, address) as tab:
        tab.click("#record")
        tab.locator("#camera-text:has-text('Recording')").wait_for()
        tab.locator("#clip-name:text-is('recording 1')").wait_for()
        assert tab.locator("#pure-bars .bar").count() == 5
        assert "640×480" in tab.locator("#facts").text_content()


def test_an_upload_is_told_in_words_and_its_name_is_only_text(
    browser: Any, address: str, tmp_path: Path
) -> None:
    name = "<img src=x onerror=alert(1)>.mp4"
    samples = Path(__file__).parents[2] / "demo" / "sample_clips"
    (tmp_path / name).write_bytes((samples / "grows-clean.mp4").read_bytes())
    (tmp_path / "page.mp4").write_text("<html>")
    with opened(browser, address) as tab:
        tab.set_input_files("#file", tmp_path / name)
        tab.locator("#report").wait_for()
        assert tab.inner_text("#clip-name") == name
        assert tab.locator("#report img").count() == 0
        tab.set_input_files("#file", tmp_path / "page.mp4")
        tab.locator("#error").wait_for()
        assert "HTML" in tab.inner_text("#error-text")
        assert tab.locator("#report").is_hidden()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_pictures_of_the_page(browser: Any, address: str, size: str, scheme: str) -> None:
    PICTURES.mkdir(parents=True, exist_ok=True)
    with opened(browser, address, size, scheme) as tab:
        tab.screenshot(path=PICTURES / f"{size}-{scheme}-start.png", full_page=True)
        take(tab, "moves-left-attacked")
        tab.locator("#frame:text-matches('1?[0-9] of 16')").wait_for()
        tab.click("#play")
        tab.screenshot(path=PICTURES / f"{size}-{scheme}.png", full_page=True)
        if (size, scheme) == ("laptop", "light"):  # docs/page.jpg is a copy
            tab.screenshot(path=PICTURES / "page.jpg", full_page=True, quality=85)
        # Nothing is cut off at the side, and everything can be hit with a finger.
        assert tab.evaluate("document.documentElement.scrollWidth") == SIZES[size][0]
        small = "[...document.querySelectorAll('button')].filter(b => b.offsetParent && "
        assert tab.evaluate(f"{small} b.offsetHeight < 32).map(b => b.id)") == []
        background = tab.evaluate("getComputedStyle(document.body).backgroundColor")
        bright = sum(map(int, re.findall(r"\d+", background))) > 3 * 128
        assert bright == (scheme == "light")
        tab.click("#theme")  # to light
        tab.click("#theme")  # to dark
        assert tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(13, 17, 23)"


def test_a_token_is_asked_for_and_kept(browser: Any, server: TorchServe) -> None:
    with running(server, VIDEOPURE_WEB_TOKEN=TOKEN) as url:
        assert url.endswith(f"#token={TOKEN}")
        with opened(browser, url) as tab:
            assert "#" not in tab.url
            tab.reload()
            tab.locator("#samples button").nth(5).wait_for()
        context = browser.new_context()
        tab = context.new_page()
        tab.goto(url.split("#")[0])
        tab.fill("#token", "not the token at all")
        tab.keyboard.press("Enter")
        tab.locator("#login-error:has-text('This is not the token.')").wait_for()
        tab.fill("#token", TOKEN)
        tab.keyboard.press("Enter")
        tab.locator("#samples button").nth(5).wait_for()
        assert "--archive" in tab.inner_text("#attack-why")
        context.close()
