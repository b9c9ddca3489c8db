"""A real Chromium, signed in as one of the demo's people."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.clock import allowed

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


# Several share the cores: Playwright's 5 s are no promise of ours. Those that are, tests measure.
expect.set_options(timeout=20_000)


def chromium() -> str:
    """Path of the system's Chromium; the test is skipped where there is none. To open a page the shell without windows takes a third less."""
    for name in ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome"):
        path = shutil.which(name)
        if path:
            return path
    pytest.skip("no Chromium is installed")


@contextmanager
def open_browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
        yield browser
        browser.close()


def enter(browser: Browser, base_url: str, email: str, password: str, **context: Any) -> Page:
    """A page of its own context, signed in. It notes script errors and requests to other hosts, see `quiet`."""
    page = browser.new_context(base_url=base_url, reduced_motion="reduce", **context).new_page()
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(f"{page.url}: {error}"))
    page.on("request", lambda request: None if request.url.startswith((base_url, "data:", "blob:")) else problems.append(request.url))
    page.problems = problems  # type: ignore[attr-defined]
    page.goto("/login/")
    page.get_by_label("Email").fill(email)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(lambda url: "/login/" not in url)
    return page


def quiet(page: Page) -> None:
    """Fails on a script error or a request to another host since the page was opened."""
    assert page.problems == []  # type: ignore[attr-defined]


def sign_in(browser: Browser, demo: dict[str, Any], name: str, **context: Any) -> Page:
    """One of the demo's people."""
    return enter(browser, demo["base_url"], f"{name}@acme.example", demo["users"][0]["password"], **context)


def open_until(page: Page, url: str, shown: Callable[[], bool], *, within_s: float) -> None:
    """Opens the page, again and again until it shows what was promised; fails after the promised seconds."""
    deadline = time.monotonic() + allowed(within_s)
    page.goto(url)
    while not shown():
        assert time.monotonic() < deadline, f"{url} does not show it within {within_s} s"
        page.wait_for_timeout(300)
        page.goto(url)
