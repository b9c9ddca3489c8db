"""Pages that are made to be printed, as a browser saves them."""

from __future__ import annotations

import re
from typing import Any

import httpx2
import pytest
from playwright.sync_api import Browser, Page

from tests.road.browser import open_until, quiet, sign_in
from tests.road.product import Product

pytestmark = [pytest.mark.browser, pytest.mark.process]
AGENTS = 24
"""Lines of one cost centre: more than fit on a sheet below the title, fewer than two sheets hold."""


def sheets(page: Page) -> int:
    """How many sheets of A4 the page takes."""
    return len(re.findall(rb"/Type\s*/Page\b", page.pdf(format="A4")))


def test_showback_longer_than_a_sheet_leaves_none_empty_and_charts_fit(product: Product, demo: dict[str, Any], browser: Browser) -> None:
    for number in range(AGENTS):
        headers = {"Authorization": f"Bearer {demo['virtual_key']}", "x-gatehouse-agent": f"paper-{number}"}
        call = {"model": demo["model"], "messages": [{"role": "user", "content": "Hello"}]}
        httpx2.post(f"{product.base_url}/v1/chat/completions", json=call, headers=headers, timeout=60).raise_for_status()
    page = sign_in(browser, demo, "fay", viewport={"width": 1680, "height": 900})
    query = page.evaluate("'?month=' + new Date().toISOString().slice(0, 7)")
    open_until(
        page, f"/o/acme/operate/costs/showback/{query}", lambda: page.locator(".sb-3", has_text="paper-").count() == AGENTS, within_s=10
    )

    assert sheets(page) == 2

    page.goto("/o/acme/operate/costs/")
    chart = page.locator(".js-plotly-plot .main-svg").first
    chart.wait_for()
    width = "chart => chart.getBoundingClientRect().width"
    on_screen = chart.evaluate(width)
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert chart.evaluate(width) <= 680 < on_screen
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert chart.evaluate(width) == on_screen
    quiet(page)
