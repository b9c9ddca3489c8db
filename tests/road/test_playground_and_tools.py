"""What only a browser can show: answers that stream in, runs that are stopped, refusals in words, a key that is seen being used."""

from __future__ import annotations

import re
from typing import Any

import httpx2
import pytest
from playwright.sync_api import Browser, Page, Request, expect

from tests.road.browser import sign_in
from tests.road.product import Product

pytestmark = [pytest.mark.browser, pytest.mark.process]
PLAYGROUND = "/o/acme/build/playground/?model=sandbox-large&model=sandbox-small"


def _quiet(page: Page) -> None:
    assert page.problems == []  # type: ignore[attr-defined]


def test_playground_streams_two_models_and_tells_what_they_cost(product: Product, demo: dict[str, Any], browser: Browser) -> None:
    page = sign_in(browser, demo, "bob", permissions=["clipboard-read", "clipboard-write"])
    page.goto(PLAYGROUND)

    page.get_by_label("Prompt", exact=True).fill("Where is parcel 4471?")
    page.keyboard.press("Control+Enter")

    expect(page.locator("#pg-state")).to_have_text("Done.")
    for column in page.locator(".pg-col").all():
        expect(column.locator("[data-out]")).to_contain_text("parcel 4471")
        expect(column.locator("[data-ttft]")).to_have_text(re.compile(r"^\d+(\.\d+)? m?s$"))
        expect(column.locator("[data-tokens]")).to_have_text(re.compile(r"^\d+ / \d+$"))
        expect(column.locator("[data-cost]")).to_have_text(re.compile(r"^\$0\.0*[1-9]"))
        expect(column.locator("[data-meta]")).to_contain_text("request ")
        expect(column.locator("[data-record]")).to_contain_text("answered by sandbox", timeout=15_000)
    expect(page.locator(".best")).not_to_have_count(0)
    page.get_by_role("button", name="curl, Python, JS").click()
    expect(page.locator("#pg-code-python")).to_contain_text('model="sandbox-large"')
    page.get_by_label("Model", exact=True).select_option("sandbox-small")
    expect(page.locator("#pg-code-python")).to_contain_text('model="sandbox-small"')
    page.keyboard.press("Escape")
    page.get_by_label("Prompt", exact=True).fill("Try the key sk-0123456789abcdef0123")
    page.get_by_role("button", name="Copy link").click()
    expect(page.locator("#pg-state")).to_contain_text("1 secret was left out")
    link = page.evaluate("navigator.clipboard.readText()")
    page.get_by_role("link", name="Remove sandbox-large").click()
    expect(page.locator(".pg-col")).to_have_count(1)
    expect(page.get_by_label("Prompt", exact=True)).to_have_value("Try the key sk-0123456789abcdef0123")
    page.goto(link)
    expect(page.get_by_label("Prompt", exact=True)).to_have_value("Try the key [secret removed]")
    _quiet(page)


def test_playground_says_a_refusal_in_words_and_can_be_stopped(product: Product, demo: dict[str, Any], browser: Browser) -> None:
    page = sign_in(browser, demo, "bob")
    page.route(
        "**/v1/chat/completions",
        lambda route: route.fulfill(
            status=429,
            content_type="application/json",
            headers={"x-request-id": "req-1"},
            body='{"error": {"message": "The budget of checkout is used up.", "code": "budget_exceeded", "request_id": "req-1"}}',
        ),
    )
    page.goto(PLAYGROUND)

    page.get_by_label("Prompt", exact=True).fill("Hello")
    page.keyboard.press("Control+Enter")

    expect(page.locator("#pg-out-1")).to_contain_text("The budget of checkout is used up. budget_exceeded · request req-1")
    page.unroute("**/v1/chat/completions")
    page.route("**/v1/chat/completions", lambda _: None)  # never answered
    page.keyboard.press("Control+Enter")
    expect(page.get_by_role("button", name="Stop").first).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#pg-out-1")).to_contain_text("Stopped before the first word.")
    expect(page.locator("#pg-state")).to_have_text("Done.")
    _quiet(page)


def test_playground_sends_of_parameters_only_what_was_changed(product: Product, demo: dict[str, Any], browser: Browser) -> None:
    page = sign_in(browser, demo, "bob")
    page.goto(PLAYGROUND)
    page.evaluate(
        "document.querySelector('#pg-temperature').dataset.start = document.querySelector('#pg-temperature').value = '0.2'"
    )  # as of a default
    page.locator("summary", has_text="parameters").click()

    page.get_by_label("Top p").fill("0.5")
    page.get_by_label("Most output tokens").fill("")
    page.get_by_label("Prompt", exact=True).fill("Hello")
    with page.expect_request("**/v1/chat/completions") as asked:
        page.keyboard.press("Control+Enter")

    sent: dict[str, Any] = asked.value.post_data_json or {}
    assert {name: sent[name] for name in sent.keys() & {"temperature", "top_p", "max_tokens", "presence_penalty"}} == {"top_p": 0.5}
    expect(page.locator("#pg-values")).to_have_text("Temperature 0.2, Top p 0.5")
    expect(page.locator("#pg-max_tokens-from")).to_have_text("not set")
    expect(page.locator("#pg-state")).to_have_text("Done.")
    _quiet(page)


def test_most_output_goes_to_models_without_their_own_and_under_one_name(product: Product, demo: dict[str, Any], browser: Browser) -> None:
    page = sign_in(browser, demo, "bob")
    page.goto(PLAYGROUND)
    page.evaluate(
        """Object.assign(document.querySelector('#pg-max_tokens').dataset,
            { start: document.querySelector('#pg-max_tokens').value = '', field: 'max_completion_tokens', sentTo: 'sandbox-small' })"""
    )  # as where the other model has a default
    asked: list[Request] = []
    page.on("request", lambda one: asked.append(one))  # noqa: PLW0108 - a built-in method can't be a handler
    page.locator("summary", has_text="parameters").click()
    page.get_by_label("Prompt", exact=True).fill("Hello")

    page.keyboard.press("Control+Enter")
    expect(page.locator("#pg-state")).to_have_text("Done.")
    page.get_by_label("Most output tokens").fill("50")
    with page.expect_request(lambda one: one.url.endswith("/v1/chat/completions") and "sandbox-small" in (one.post_data or "")):
        page.keyboard.press("Control+Enter")

    sent: list[dict[str, Any]] = [each.post_data_json or {} for each in asked if each.url.endswith("/v1/chat/completions")]
    said = [(each["model"], {name: each[name] for name in each if name.startswith("max_")}) for each in sent]
    assert sorted(said[:2], key=str) == [("sandbox-large", {}), ("sandbox-small", {"max_completion_tokens": 800})]
    assert [most for _, most in said[2:]] == [{"max_completion_tokens": 50}] * 2
    _quiet(page)


def test_acts_on_many_keys_wait_for_a_tick(product: Product, demo: dict[str, Any], browser: Browser) -> None:
    page = sign_in(browser, demo, "alice")
    page.goto("/o/acme/operate/keys/")
    rotate, revoke = (page.get_by_role("button", name=name) for name in ("Rotate…", "Revoke…"))

    rotate.click(force=True)
    expect(page).to_have_url(re.compile("/operate/keys/$"))
    expect(rotate).to_have_attribute("aria-disabled", "true")
    expect(revoke).to_have_accessible_description("Tick a key first")
    page.get_by_role("checkbox", name="Choose").first.check()
    expect(revoke).not_to_have_attribute("aria-disabled", "true")
    page.get_by_label("Filter by name").fill("a")  # the list comes anew, with nothing ticked
    expect(revoke).to_have_attribute("aria-disabled", "true")
    page.get_by_label("All that match").check()
    rotate.click()

    expect(page).to_have_url(re.compile("/keys/bulk/"))
    _quiet(page)


def test_tool_runs_from_its_page_through_the_gateway(product: Product, demo: dict[str, Any], browser: Browser) -> None:
    page = sign_in(browser, demo, "bob")
    page.goto("/o/acme/tools/handbook/convert_units/")

    page.get_by_label("value").fill("1")
    page.get_by_label("source").select_option(label="km")
    page.get_by_label("target").select_option(label="m")
    page.get_by_role("button", name="Run").click()

    result = page.get_by_role("status", name="Result")
    expect(result).to_contain_text("Answered in")
    expect(result).to_contain_text("1000")
    page.get_by_label("target").select_option(label="kg")  # a length is not a mass
    page.get_by_role("button", name="Run").click()
    expect(result).to_contain_text("tool_error")
    _quiet(page)


def test_first_call_page_sees_the_call_arrive(product: Product, demo: dict[str, Any], browser: Browser) -> None:
    page = sign_in(browser, demo, "bob")
    page.goto("/o/acme/build/first-call/")
    page.get_by_role("button", name="Get a key and the command").click()
    key = page.locator("#new-key").inner_text()
    expect(page.locator("#key-tick")).to_contain_text("Waiting")

    answer = httpx2.post(
        f"{demo['base_url']}/v1/chat/completions",
        headers={"Authorization": f"Bearer {key}"},
        trust_env=False,
        json={"model": "sandbox-large", "messages": [{"role": "user", "content": "Hello"}]},
    )

    assert answer.status_code == 200
    expect(page.locator("#key-tick")).to_contain_text("The first call has arrived: 1 call", timeout=10_000)
    _quiet(page)


def test_proposed_prices_are_put_in_force_together_by_somebody_else(product: Product, demo: dict[str, Any], browser: Browser) -> None:
    fay, alice = sign_in(browser, demo, "fay"), sign_in(browser, demo, "alice")
    fay.goto("/o/acme/operate/costs/price-book/proposals/")
    discount = fay.locator("#discount")
    discount.get_by_label("Discount, percent").fill("5")
    discount.get_by_label("In force from, UTC").fill("2030-01-01T00:00")
    discount.get_by_label("Note").fill("Contract of 2030")
    discount.get_by_role("button", name="Propose").click()
    expect(fay.get_by_text("prices are proposed. Somebody else decides.")).to_be_visible()

    alice.goto("/o/acme/operate/costs/price-book/proposals/")
    rows, together = alice.locator("[name=proposal]"), alice.get_by_label("All on this page")
    count = rows.count()
    expect(alice.get_by_role("button", name="Put chosen in force")).to_have_attribute("aria-disabled", "true")
    together.check()
    rows.first.uncheck()
    expect(together).not_to_be_checked()
    rows.first.check()
    expect(together).to_be_checked()
    alice.get_by_role("button", name="Put chosen in force").click()

    expect(alice.get_by_text(f"{count} in force.")).to_be_visible()
    alice.goto("/o/acme/operate/costs/price-book/")
    expect(alice.get_by_text("Jan 1, 2030 00:00, not yet")).to_have_count(count)
    for page in (fay, alice):
        _quiet(page)
