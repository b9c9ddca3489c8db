"""A large bill goes up in a real browser: it says how far it is, is cancelled while it is sent and while it is read, and the form keeps everything."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from costs import generator
from tests.road.browser import quiet, sign_in

pytestmark = [pytest.mark.browser, pytest.mark.process]
LIST = "/o/acme/operate/costs/reconciliation/"
ROW = dict.fromkeys(generator.COLUMNS, "") | {
    "BilledCost": "2.5",
    "EffectiveCost": "2.5",
    "BillingCurrency": "USD",
    "BillingAccountId": "prod",
    "BillingPeriodStart": "2026-10-01T00:00:00Z",
    "BillingPeriodEnd": "2026-11-01T00:00:00Z",
    "ChargePeriodStart": "2026-10-05T00:00:00Z",
    "ChargePeriodEnd": "2026-10-06T00:00:00Z",
    "ChargeCategory": "Usage",
    "ServiceProviderName": "Elsewhere",
    "ServiceName": "Their API",
}


def test_a_large_upload_says_how_far_it_is_and_is_cancelled_at_each_step(demo: dict[str, Any], browser: Browser, tmp_path: Path) -> None:
    large, small = tmp_path / "large.csv", tmp_path / "small.csv"
    large.write_bytes(generator.to_csv({**ROW, "ChargeDescription": f"charge {n:0200}"} for n in range(60_000)))
    small.write_bytes(generator.to_csv([ROW]))
    page = sign_in(browser, demo, "fay")
    network = page.context.new_cdp_session(page)
    network.send("Network.enable")
    limits = {"offline": False, "latency": 0, "downloadThroughput": -1}
    page.goto(LIST)
    card, bar = page.locator("#upload"), page.get_by_role("progressbar", name="Upload")
    send = card.get_by_role("button", name="Upload and compare")

    def chosen() -> int:
        return int(page.evaluate("document.querySelector('[name=file]').files.length"))

    network.send("Network.emulateNetworkConditions", {**limits, "uploadThroughput": 2_000_000})
    card.locator("[name=file]").set_input_files([large, small])
    card.locator("[name=style]").select_option("append")
    send.click()
    expect(card).to_contain_text(re.compile(r"[1-9][\d.]* of \d\d\.\d MB sent"))
    expect(bar).to_have_attribute("value", re.compile(r"\d+"))
    card.get_by_role("button", name="Cancel").press("Enter")
    expect(card.get_by_role("alert")).to_contain_text("nothing of it was taken over")
    expect(bar).to_be_hidden()
    assert chosen() == 2

    network.send("Network.emulateNetworkConditions", {**limits, "uploadThroughput": -1})
    send.click()
    expect(card).to_contain_text(re.compile(r"[\d,]+ rows are read"))
    other = sign_in(browser, demo, "adam")
    other.goto(LIST)
    expect(other.locator("#bill-imports")).to_contain_text("A bill is taken over for Fay")
    card.get_by_role("button", name="Cancel").press("Enter")
    expect(card.get_by_role("alert")).to_contain_text("nothing of it was taken over")
    expect(other.locator("#bill-imports")).not_to_contain_text("A bill is taken over")
    assert chosen() == 2
    assert card.locator("[name=style]").input_value() == "append"

    card.locator("[name=file]").set_input_files(small)
    send.click()
    expect(page.locator("h1")).to_contain_text("small.csv")
    expect(page.locator("#toasts .gh-toast")).to_have_count(1)
    quiet(page)
    quiet(other)


def test_the_end_of_one_import_disturbs_no_other_persons_upload(demo: dict[str, Any], browser: Browser, tmp_path: Path) -> None:
    large, middle = tmp_path / "first.csv", tmp_path / "second.csv"
    large.write_bytes(generator.to_csv({**ROW, "ChargeDescription": f"first {n:0200}"} for n in range(60_000)))
    middle.write_bytes(generator.to_csv({**ROW, "ChargeDescription": f"second {n:0200}"} for n in range(4_000)))
    fay, adam = sign_in(browser, demo, "fay"), sign_in(browser, demo, "adam")
    fay.goto(LIST)
    fay.locator("#upload [name=file]").set_input_files(large)
    fay.locator("#upload [name=style]").select_option("append")
    fay.get_by_role("button", name="Upload and compare").click()
    expect(fay.locator("#upload")).to_contain_text(re.compile(r"[\d,]+ rows are read"))

    adam.goto(LIST)
    expect(adam.locator("#bill-imports")).to_contain_text("A bill is taken over for Fay")
    network = adam.context.new_cdp_session(adam)
    network.send("Network.enable")
    network.send("Network.emulateNetworkConditions", {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": 60_000})
    adam.locator("#upload [name=file]").set_input_files(middle)
    adam.locator("#upload [name=style]").select_option("append")
    adam.get_by_role("button", name="Upload and compare").click()
    expect(adam.locator("#bill-imports")).not_to_contain_text("A bill is taken over", timeout=60_000)
    expect(adam.locator("#bill-files")).to_contain_text("first.csv")

    expect(adam.locator("#upload")).to_contain_text(re.compile(r"[\d.]+ of \d+\.\d MB sent"))
    network.send("Network.emulateNetworkConditions", {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1})
    expect(adam.locator("h1")).to_contain_text("second.csv", timeout=60_000)
    quiet(fay)
    quiet(adam)


def test_a_refused_file_is_told_to_who_listens(demo: dict[str, Any], browser: Browser, tmp_path: Path) -> None:
    wrong, right = tmp_path / "wrong.csv", tmp_path / "right.csv"
    wrong.write_text("name;age\n1;2")
    right.write_bytes(generator.to_csv([{**ROW, "ChargeDescription": "told"}]))
    page = sign_in(browser, demo, "fay")
    page.goto(LIST)
    field = page.locator("#upload [type=file]")

    field.set_input_files(wrong)
    page.get_by_role("button", name="Upload and compare").click()
    expect(page.locator("#id_file_error")).to_contain_text("separated by semicolons")
    expect(field).to_have_attribute("aria-invalid", "true")
    expect(field).to_have_attribute("aria-describedby", "id_file_helptext id_file_error")
    expect(field).to_be_focused()

    field.set_input_files(right)
    page.route("**/upload/", lambda route: route.fulfill(status=413))
    page.get_by_role("button", name="Upload and compare").click()
    expect(page.locator("[data-upload-failed]")).to_contain_text("larger than the server's front takes")
    page.unroute("**/upload/")
    page.get_by_role("button", name="Upload and compare").click()
    expect(page.locator("h1")).to_contain_text("right.csv")
    quiet(page)
