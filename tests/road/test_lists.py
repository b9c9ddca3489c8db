"""What the filter of a list and its tabs do together."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from tests.road.browser import quiet, sign_in
from tests.road.product import Product

pytestmark = [pytest.mark.browser, pytest.mark.process]


def test_tab_keeps_what_is_typed_in_the_filter(product: Product, demo: dict[str, Any], browser: Browser) -> None:
    page = sign_in(browser, demo, "rita")
    page.goto("/o/acme/release/flags/")
    tabs, field = page.get_by_role("navigation", name="Flags by state").get_by_role("link"), page.get_by_role("searchbox")

    field.press_sequentially("no such & flag")
    tabs.nth(1).click()

    expect(page).to_have_url(re.compile(r"[?&]q=no\+such\+%26\+flag"))
    expect(tabs.nth(1)).to_have_attribute("aria-current", "page")
    expect(field).to_have_value("no such & flag")
    expect(page.get_by_text("No flag matches")).to_be_visible()

    field.fill("")
    tabs.nth(0).click()
    expect(tabs.nth(0)).to_have_attribute("aria-current", "page")
    assert "q=" not in page.url
    quiet(page)
