"""What a narrow screen must not hide."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from tests.road.browser import quiet, sign_in
from tests.road.product import Product

pytestmark = [pytest.mark.browser, pytest.mark.process]
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}


def test_open_tab_is_in_view_and_lists_are_sorted(product: Product, demo: dict[str, Any], browser: Browser) -> None:
    page = sign_in(browser, demo, "adam", **PHONE)
    page.goto("/o/acme/models/sandbox-large/?tab=edit")  # the last of the tabs

    expect(page.locator(".gh-tabs [aria-current]")).to_be_in_viewport(ratio=0.9)
    page.goto("/o/acme/operate/keys/")
    page.get_by_role("link", name="Expires", exact=True).tap()
    expect(page).to_have_url(re.compile("sort=expiry"))
    expect(page.get_by_role("columnheader", name="Expires")).to_have_attribute("aria-sort", "ascending")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    quiet(page)


def test_tabs_stay_where_they_were_moved_while_other_parts_of_the_page_are_swapped(
    product: Product, demo: dict[str, Any], browser: Browser
) -> None:
    page = sign_in(browser, demo, "adam", **PHONE)
    page.goto("/o/acme/models/sandbox-large/?tab=edit")
    tabs = page.locator(".gh-tabs")
    swapped = "element => element.dispatchEvent(new CustomEvent('htmx:afterSettle', {bubbles: true}))"

    tabs.evaluate("tabs => { tabs.scrollLeft = 0; }")
    page.locator("h1").first.evaluate(swapped)
    assert tabs.evaluate("tabs => tabs.scrollLeft") == 0

    tabs.evaluate(swapped)
    expect(tabs.locator("[aria-current]")).to_be_in_viewport(ratio=0.9)
    assert tabs.evaluate("tabs => tabs.scrollLeft") > 0
