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
FRAME = [["#side"], [".gh-top > :not(.gh-crumbs)"]]
"""What stands around every page: looked at on the starts, one of each area, and wherever nothing else of the organisation is shown.
Breadcrumbs are each page's own."""
DESK: ViewportSize = {"width": 1440, "height": 900}
PHONE: ViewportSize = {"width": 390, "height": 844}
AXE = resources.files("axe_playwright_python").joinpath("axe.min.js").read_text()
NOT_PAGES = re.compile(r"\.(csv|md|json|ya?ml)(\?|$)|/(csv|parquet|export|download|errors|file|rejected)/")


def links(page: Page) -> list[str]:
    found: list[str] = page.evaluate(
        "[...document.querySelectorAll('a[href^=\"/o/acme/\"]')].map(link => link.getAttribute('href').split('#')[0])"
    )
    return found


def pages_by_links(page: Page) -> Iterator[str]:
    """Opens one page of each route that can be reached by links, and yields its route while it is open."""
    seen: set[str] = set()
    """Routes, and addresses that are no page."""
    waiting = [f"/o/acme/{start}" for start in STARTS]
    while waiting:
        url = waiting.pop(0)
        try:
            route = resolve("/" + url.split("?")[0].removeprefix("/o/acme/"), urlconf="governance.urls").route
        except Resolver404:
            pytest.fail(f"a link leads nowhere: {url}")
        if route in seen or url in seen or NOT_PAGES.search(url):
            continue
        answer = page.goto(url)
        assert answer is not None
        if answer.status == 405 or answer.request.redirected_from is not None:  # an act, or a page that only leads on
            seen.add(url)  # such as the link to the home page that stands on every page
            continue
        assert answer.status == 200, f"{url}: {answer.status}"
        seen.add(route)
        waiting += links(page)
        yield route


def only_rows_of_their_kind(page: Page) -> None:
    """Of the rows of a table that differ in their words alone, leave two.

    Of one kind are rows of the same elements with the same attributes, of which the same ones are empty, lead to nothing or share an id with
    another element. Values count where rules read them: not those of names, addresses and data.
    """
    page.evaluate(
        """() => {
          const VALUES = /^(class|style|role|type|scope|tabindex|lang|dir|colspan|rowspan|aria-(?!label|description|describedby|controls|owns|details).*)$/;
          const IDS = /^(for|headers|aria-(labelledby|describedby|controls|owns|details|errormessage|activedescendant))$/;
          const ids = {};
          for (const part of document.querySelectorAll('[id]')) ids[part.id] = (ids[part.id] || 0) + 1;
          const value = ({name, value}) => {
            if (name === 'id') return ids[value] > 1 ? value : 'unique';
            if (IDS.test(name)) return value.split(/\\s+/).map(id => Math.min(ids[id] || 0, 2));
            return VALUES.test(name) ? value : value.trim() !== '';
          };
          const kind = row => JSON.stringify([row, ...row.querySelectorAll('*')]
            .map(part => [part.tagName, part.textContent.trim() !== '', ...[...part.attributes].map(each => [each.name, value(each)])]));
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


def violations(page: Page, judged: set[str], *, frame: bool = True) -> list[str]:
    """All rules in light, and in dark the one that a theme can break: contrast. Without `frame`, not of what stands around every page.

    Contrast takes most of the time, and has one answer for one kind of text: of the same colours and size upon the same backgrounds. Of each
    kind, the two longest texts of a page (axe judges none of one character) are looked at until it has judged one: `judged` holds those
    kinds, and grows. Where something may lie upon something else by its position, its classes are a part of the kind.
    """
    context = {"exclude": [] if frame else FRAME}
    broken = page.evaluate(
        """async context => {
          document.documentElement.dataset.bsTheme = 'light';
          const options = {resultTypes: ['violations'], rules: {'color-contrast': {enabled: false}}};
          return (await axe.run(context, options)).violations.map(rule => [rule.id, rule.nodes.map(node => node.target)]);
        }""",
        context,
    )
    found = [f"{page.url}: {rule} {targets[:3]}" for rule, targets in broken]
    for theme in ("light", "dark"):
        seen = page.evaluate(
            """async ([context, theme, judged]) => {
              document.documentElement.dataset.bsTheme = theme;
              const grounds = new Map([[null, '']]);
              const ground = element => {
                if (!grounds.has(element)) {
                  const of = getComputedStyle(element);
                  const moved = /absolute|fixed|sticky/.test(of.position) || of.transform !== 'none' || of.float !== 'none' || /-/.test(of.margin);
                  const own = [of.backgroundColor, of.backgroundImage, of.opacity, of.filter, of.mixBlendMode, moved && element.className].join();
                  const changes = own !== 'rgba(0, 0, 0, 0),none,1,none,normal,false';
                  grounds.set(element, (changes ? own + '/' : '') + ground(element.parentElement));
                }
                return grounds.get(element);
              };
              const kind = element => {
                const {color, fontSize, fontWeight, textShadow} = getComputedStyle(element);
                return [theme, color, fontSize, fontWeight, textShadow, ground(element)].join();
              };
              const isField = element => element.matches('input, select, textarea');
              const text = element => (isField(element)
                ? element.value : [...element.childNodes].map(part => part.nodeType === Node.TEXT_NODE ? part.data : '').join('')).trim();
              const isText = element => isField(element) || text(element);
              const isRead = element => element.checkVisibility({visibilityProperty: true})
                && !element.closest(':disabled, [aria-disabled=true]');
              const counts = Object.fromEntries(judged.map(name => [name, 2]));
              const texts = [...document.body.querySelectorAll('*')].filter(element => isText(element) && isRead(element));
              const lengths = new Map(texts.map(element => [element, text(element).length]));
              const include = texts.sort((one, other) => lengths.get(other) - lengths.get(one)).filter(element => {
                const name = kind(element);
                return (counts[name] = (counts[name] || 0) + 1) <= 2;
              });
              if (!include.length) return {broken: [], judged: []};
              const {violations, passes, incomplete} = await axe.run({...context, include}, {runOnly: ['color-contrast'], elementRef: true});
              const nodes = rules => rules.flatMap(rule => rule.nodes);
              const onImage = nodes(incomplete).filter(node => node.any.some(check => check.data?.messageKey === 'bgImage'));  // never judged
              return {
                broken: nodes(violations).map(node => node.target),
                judged: [...nodes(violations), ...nodes(passes), ...onImage].map(node => kind(node.element)),
              };
            }""",
            [context, theme, sorted(judged)],
        )
        judged.update(seen["judged"])
        found += [f"{page.url} {theme}: color-contrast {seen['broken'][:3]}"] if seen["broken"] else []
    return found


def test_every_page_is_accessible_quiet_and_fits_a_phone(product: Product, demo: dict[str, Any], browser: Browser) -> None:
    page = sign_in(browser, demo, "alice", viewport=DESK)
    page.add_init_script(AXE)
    found: list[str] = []
    judged: set[str] = set()
    routes = 0
    for _ in pages_by_links(page):
        routes += 1
        page.set_viewport_size(PHONE)
        width = page.evaluate("document.documentElement.scrollWidth")
        if width > PHONE["width"]:
            found.append(f"{page.url}: {width} px wide on a phone")
        page.set_viewport_size(DESK)
        only_rows_of_their_kind(page)
        found += violations(page, judged, frame=routes <= len(STARTS))
    assert routes > 80, routes
    for url, status in (("/", 200), ("/login/", 200), ("/o/acme/nothing/here/", 404), ("/o/acme/operate/incidents/99999/", 404)):
        answer = page.goto(url)
        assert answer is not None
        assert answer.status == status, f"{url}: {answer.status}"
        found += violations(page, judged)

    assert found + page.problems == []  # type: ignore[attr-defined]


def test_what_is_not_looked_at_breaks_nothing_else(browser: Browser) -> None:
    """Rows that are like others are left out, and the frame; not what an empty name, a lost label or an id twice make different."""
    page = browser.new_page()
    page.add_init_script(AXE)
    page.goto("about:blank")
    row = '<tr><td><a href="/a">{}</a></td><td><input aria-labelledby="{}"></td><td><b id="{}" role="img" aria-label="{}"></b></td></tr>'
    rows = [("Words", "total", f"row-{number}", "Good") for number in range(9)]
    rows[4:8] = [
        ("", "total", "row-4", "Good"),
        ("Words", "lost", "row-5", "Good"),
        ("Words", "total", "row-6", ""),
        ("Words", "total", "row-0", "Good"),
    ]
    page.set_content(
        f"""<html lang="en"><title>Page</title><div id="side"><a href="/b"></a></div>
        <header class="gh-top"><nav class="gh-crumbs"><a id="crumb" href="/c"></a></nav><a href="/d"></a></header>
        <main><h1>Page</h1><h2 id="total">Total</h2><table><thead><tr><th>A<th>B<th>C</thead><tbody>{"".join(row.format(*each) for each in rows)}</tbody></table>"""
    )

    only_rows_of_their_kind(page)

    found = " ".join(violations(page, set(), frame=False))
    assert page.locator("tbody tr").count() == 7
    assert [page.locator(f"#row-{number}").count() for number in range(9)] == [2, 1, 1, 0, 1, 1, 1, 0, 0]
    assert [rule in found for rule in ("link-name", "label", "role-img-alt")] == [True] * 3
    assert "#crumb" in found
    assert "#side" not in found


def test_contrast_is_judged_once_for_each_kind_of_text_and_again_for_every_other(browser: Browser) -> None:
    page = browser.new_page()
    page.add_init_script(AXE)
    page.goto("about:blank")
    judged: set[str] = set()

    def broken(*texts: str) -> list[str]:
        """Of the texts on one page, the ids of those of which axe says that they can't be read, with the theme."""
        style = "[data-bs-theme=dark] {background: #000; color: #fff} [data-bs-theme=dark] .faint {color: #333} .grey {background: #777}"
        page.set_content(f"<html lang=en><title>Page</title><style>{style}</style><main><h1>Page</h1>{''.join(texts)}</main>")
        return [" ".join(re.findall(r"light|dark|(?<=#)[a-z]+", line)) for line in violations(page, judged) if "color-contrast" in line]

    assert broken('<p id="plain">Words</p>') == []
    known = len(judged)
    assert broken('<p id="same">Other words</p>') == []
    assert len(judged) == known
    assert broken('<p id="faint" class="faint">Words</p>') == ["dark faint"]
    assert broken('<p id="again" class="faint">Words</p>') == []  # said once
    assert broken('<div class="grey"><p id="upon">Words</p></div>') == ["dark upon"]
    assert broken('<p id="size" style="font-size: 9px" class="faint">Words</p>') == ["dark size"]
    assert broken('<p id="off" aria-disabled="true" style="color: #ccc">Words</p>', '<p id="on" style="color: #ccc">Words</p>') == [
        "light on"
    ]
    assert broken('<p style="color: #ddd">i</p>' * 2) == []  # too short to be judged
    assert broken('<p id="long" style="color: #ddd">Words</p>') == ["light long"]


def test_operators_pages_are_accessible(product: Product, demo: dict[str, Any], browser: Browser) -> None:
    page = sign_in(browser, demo, "olga")
    page.add_init_script(AXE)
    found: list[str] = []
    judged: set[str] = set()
    for url in ("/platform/tenants/", "/platform/tenants/new/", "/platform/audit/"):
        page.goto(url)
        found += violations(page, judged)

    assert found + page.problems == []  # type: ignore[attr-defined]
