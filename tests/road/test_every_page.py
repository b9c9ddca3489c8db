"""Every kind of page in a real browser: found by walking the links from the home pages, one page for each route.

Zero axe violations in light and dark, no script error, no request to another host, nothing wider than a phone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import resources
from typing import Any

import pytest
from django.urls import Resolver404, resolve
from playwright.sync_api import Browser, Page, ViewportSize

from tests.road.browser import sign_in
from tests.road.product import Product

pytestmark = [pytest.mark.browser, pytest.mark.process]
STARTS = ["operate/home/", "build/home/", "release/home/", "me/", "search/?q=sandbox"]
FRAME = [["#side"], [".gh-top"]]
"""What stands around every page: looked at on the starts, one of each area, and wherever nothing else of the organisation is shown."""
DESK: ViewportSize = {"width": 1440, "height": 900}
PHONE: ViewportSize = {"width": 390, "height": 844}
AXE = resources.files("axe_playwright_python").joinpath("axe.min.js").read_text()
NOT_PAGES = re.compile(r"\.(csv|md|json|ya?ml)(\?|$)|/(csv|export|download|errors|file|rejected)/")


def links(page: Page) -> list[str]:
    found: list[str] = page.evaluate(
        "[...document.querySelectorAll('a[href^=\"/o/acme/\"]')].map(link => link.getAttribute('href').split('#')[0])"
    )
    return found


def pages_by_links(page: Page) -> Iterator[str]:
    """Opens one page of each route that can be reached by links, and yields its route while it is open."""
    seen: set[str] = set()
    waiting = [f"/o/acme/{start}" for start in STARTS]
    while waiting:
        url = waiting.pop(0)
        try:
            route = resolve("/" + url.split("?")[0].removeprefix("/o/acme/"), urlconf="governance.urls").route
        except Resolver404:
            pytest.fail(f"a link leads nowhere: {url}")
        if route in seen or NOT_PAGES.search(url):
            continue
        answer = page.goto(url)
        assert answer is not None
        if answer.status == 405 or answer.request.redirected_from is not None:  # an act, or a page that only leads on
            continue
        assert answer.status == 200, f"{url}: {answer.status}"
        seen.add(route)
        waiting += links(page)
        yield route


def only_rows_of_their_kind(page: Page) -> None:
    """Of the rows of a table that differ in their texts alone, leave two: a rule that one breaks the others break alike."""
    page.evaluate(
        """() => {
          const kind = row => [row, ...row.querySelectorAll('*')]
            .map(part => [part.tagName, part.getAttribute('class'), part.getAttribute('style'), part.getAttribute('role'), ...part.getAttributeNames()])
            .join(' ');
          for (const body of document.querySelectorAll('tbody')) {
            const seen = {};
            for (const row of [...body.rows]) {
              const name = kind(row);
              seen[name] = (seen[name] || 0) + 1;
              if (seen[name] > 2) row.remove();
            }
          }
        }"""
    )


def violations(page: Page, *, frame: bool = True) -> list[str]:
    """All rules in light; in dark the one that a theme can break. Without `frame`, not of what stands around every page."""
    context = {"exclude": [] if frame else FRAME}
    found = []
    for theme, options in (("light", {}), ("dark", {"runOnly": ["color-contrast"]})):
        page.evaluate("theme => { document.documentElement.dataset.bsTheme = theme; }", theme)
        broken = page.evaluate(
            "async ([context, options]) => (await axe.run(context, options)).violations",
            [context, {"resultTypes": ["violations"], **options}],
        )
        found += [f"{page.url} {theme}: {rule['id']} {[node['target'] for node in rule['nodes']][:3]}" for rule in broken]
    return found


def test_every_page_is_accessible_quiet_and_fits_a_phone(product: Product, demo: dict[str, Any], browser: Browser) -> None:
    page = sign_in(browser, demo, "alice", viewport=DESK)
    page.add_init_script(AXE)
    found: list[str] = []
    routes = 0
    for _ in pages_by_links(page):
        routes += 1
        page.set_viewport_size(PHONE)
        width = page.evaluate("document.documentElement.scrollWidth")
        if width > PHONE["width"]:
            found.append(f"{page.url}: {width} px wide on a phone")
        page.set_viewport_size(DESK)
        only_rows_of_their_kind(page)
        found += violations(page, frame=routes <= len(STARTS))
    assert routes > 80, routes
    for url, status in (("/", 200), ("/login/", 200), ("/o/acme/nothing/here/", 404), ("/o/acme/operate/incidents/99999/", 404)):
        answer = page.goto(url)
        assert answer is not None
        assert answer.status == status, f"{url}: {answer.status}"
        found += violations(page)

    assert found + page.problems == []  # type: ignore[attr-defined]


def test_operators_pages_are_accessible(product: Product, demo: dict[str, Any], browser: Browser) -> None:
    page = sign_in(browser, demo, "olga")
    page.add_init_script(AXE)
    found: list[str] = []
    for url in ("/platform/tenants/", "/platform/tenants/new/", "/platform/audit/"):
        page.goto(url)
        found += violations(page)

    assert found + page.problems == []  # type: ignore[attr-defined]
