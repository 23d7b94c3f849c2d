"""The status page in headless Chromium: `make browser-test`, which installs what it needs."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from axe_playwright_python.async_playwright import Axe
from freezegun.api import FrozenDateTimeFactory
from playwright.async_api import ViewportSize, async_playwright

from dev.fake_platform.server import LoopbackServer
from limiter.api.http import http_app
from limiter.domain.job import Job
from tests.bench import Bench
from tests.conftest import MakeBench
from tests.service.test_control import ask
from tests.service.test_status import WICKED, warned

CHROMIUM = "/usr/bin/chromium"
PHONE, DESK = ViewportSize(width=390, height=844), ViewportSize(width=1280, height=900)


@asynccontextmanager
async def opened(
    bench: Bench, size: ViewportSize, colors: str = "light", *, scripts: bool = True
) -> AsyncIterator[Any]:
    """The page as somebody with such a screen sees it."""
    server = LoopbackServer(http_app(bench.replica.health), "127.0.0.1", 0)
    await server.start()
    try:
        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            page = await browser.new_page(
                viewport=size,
                color_scheme="dark" if colors == "dark" else "light",
                java_script_enabled=scripts,
            )
            dialogs: list[str] = []
            page.on("dialog", lambda dialog: dialogs.append(dialog.message))
            answer = await page.goto(f"{server.url}/")
            assert answer is not None
            assert answer.status == 200
            yield page
            assert dialogs == []
            await browser.close()
    finally:
        await server.stop()


async def busy(make_bench: MakeBench, time: FrozenDateTimeFactory) -> Bench:
    """Everything that the page can show: a warning, a pause, a dry run, a command under way, a long name."""
    bench = await warned(make_bench, time, SCALE_UP_STABILIZATION_SECONDS=0)
    bench.platform.add_model("Organisation/" + "A-Very-Long-Name-Without-A-Break" * 3)
    bench.platform.set_rate("used", 50.0)
    time.tick(60)
    await bench.run(Job.RPS_CHECK)
    await ask(bench, {"command": "pause_job", "job": "idle_enforce", "by": "eve", "reason": "a move"})
    return bench


@pytest.mark.parametrize("colors", ["light", "dark"])
@pytest.mark.parametrize("size", [PHONE, DESK], ids=["phone", "desk"])
async def test_everybody_can_read_it(
    make_bench: MakeBench, time: FrozenDateTimeFactory, size: ViewportSize, colors: str
) -> None:
    async with opened(await busy(make_bench, time), size, colors) as page:
        found = await Axe().run(page)
        assert found.response["violations"] == [], found.generate_report()
        assert await page.evaluate("document.documentElement.scrollWidth") <= size["width"]
        if place := os.environ.get("PICTURES"):
            await page.screenshot(path=f"{place}/status-{size['width']}-{colors}.png", full_page=True)


async def test_a_script_in_a_name_is_text(make_bench: MakeBench, time: FrozenDateTimeFactory) -> None:
    async with opened(await busy(make_bench, time), DESK) as page:
        assert WICKED in await page.inner_text("main")
        assert await page.evaluate("document.scripts.length") == 0


async def test_it_needs_no_script(make_bench: MakeBench, time: FrozenDateTimeFactory) -> None:
    async with opened(await busy(make_bench, time), PHONE, scripts=False) as page:
        text = await page.inner_text("main")
        assert "ann" in text
        assert "idle_enforce is paused" in text
