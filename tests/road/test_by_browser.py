"""The whole road by hand, in one browser: from an empty organisation to a signed gate."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import openai
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.road.api import Api
from tests.road.browser import enter, open_until, quiet
from tests.road.product import Product

pytestmark = [pytest.mark.browser, pytest.mark.process]
SLUG = "hooli"
GATE = f"/o/{SLUG}/release/rollouts/cost-attribution/gates/1/"
PASSWORD = "a long enough password"
PEOPLE = {"adam": "Admin", "bob": "Developer", "rita": "Release manager", "fay": "Finance", "sam": "Security"}


def fill(page: Page, **fields: str) -> None:
    """Fill fields of the page's form by their name."""
    for name, value in fields.items():
        field = page.locator(f"#main form [name={name}]").first
        if field.evaluate("field => field.tagName") == "SELECT":
            field.select_option(value)
        else:
            field.fill(value)


@dataclass(frozen=True)
class Hooli:
    """The organisation that the road is walked in, and where."""

    browser: Browser
    base_url: str
    sandbox: str
    demo_password: str
    pages: dict[str, Page] = field(default_factory=dict)

    def as_person(self, name: str) -> Page:
        """Their page, on which they sign in once."""
        if name not in self.pages:
            self.pages[name] = enter(self.browser, self.base_url, f"{name}@hooli.example", PASSWORD)
        return self.pages[name]


def test_from_an_empty_organisation_to_a_signed_gate(product: Product, demo: dict[str, Any], browser: Browser, tmp_path: Path) -> None:
    hooli = Hooli(browser, demo["base_url"], product.local_settings()["SANDBOX_URL"], demo["users"][0]["password"])

    _organisation_with_people(hooli)
    _model_tools_and_projects(hooli)
    key = _key_tried_out(hooli)
    fay = _calls_on_the_cost_page(hooli, key)
    _bill_explained(product, fay, tmp_path)
    _consent_switched_off(hooli)
    rita, adam = _rollout_ready_for_its_gate(hooli)
    _gate_signed(rita, adam)


def _organisation_with_people(hooli: Hooli) -> None:
    """The operator makes a tenant; its owner adds people with one role each."""
    page = enter(hooli.browser, hooli.base_url, "olga@acme.example", hooli.demo_password)
    page.get_by_role("link", name="New tenant").click()
    fill(page, name="Hooli", slug=SLUG, owner_email="gavin@hooli.example", owner_password=PASSWORD)
    page.get_by_role("button", name="Make the tenant").click()
    expect(page.locator("#toasts")).to_contain_text(re.compile(r"Hooli is ready, made in [0-4]\.\d s"))
    quiet(page)
    page = hooli.as_person("gavin")
    page.goto(f"/o/{SLUG}/operate/people/")
    for name, role in PEOPLE.items():
        form = page.locator("#add form")
        form.get_by_label("E-mail").fill(f"{name}@hooli.example")
        form.get_by_label("First password").fill(PASSWORD)
        form.get_by_label(role, exact=True).check()
        form.get_by_role("button", name="Add to Hooli").click()
        expect(page.locator("#people-table")).to_contain_text(f"{name}@hooli.example")
    quiet(page)


def _model_tools_and_projects(hooli: Hooli) -> None:
    """An admin registers a provider, a model with a live check, a tool server and a project."""
    page = hooli.as_person("adam")
    page.goto(f"/o/{SLUG}/operate/providers/new/")
    fill(page, name="Local", slug="local", base_url="http://10.1.2.3/v1")
    page.get_by_role("button", name="Add the provider").click()
    expect(page.locator("#main")).to_contain_text("private address")  # the outbound guard, in words, at its field
    fill(page, base_url=f"{hooli.sandbox}/v1")
    page.get_by_role("button", name="Add the provider").click()
    expect(page.locator("h1")).to_contain_text("Local")
    page.goto(f"/o/{SLUG}/operate/models/new/")
    page.get_by_role("link", name="Use Local").click()
    fill(page, upstream_model="sandbox-large", slug="helper", name="Helper")
    page.get_by_label("Chat", exact=True).check()
    page.get_by_role("button", name="Save the draft and continue").click()
    fill(page, input_per_million="3", output_per_million="15")
    page.get_by_role("button", name=re.compile("continue")).click()
    page.get_by_role("button", name="Test it now").click()
    expect(page.locator("#main")).to_contain_text("first byte", ignore_case=True)
    page.get_by_role("button", name="Submit for approval").click()
    expect(page.locator("#main")).to_contain_text("Somebody else approves what you submitted")
    approver = hooli.as_person("gavin")
    approver.goto(f"/o/{SLUG}/models/helper/?tab=approval")
    approver.get_by_role("button", name="Approve", exact=True).click()
    expect(approver.locator("#main")).to_contain_text("A second person")
    quiet(approver)
    page.goto(f"/o/{SLUG}/operate/tools/new/")
    fill(page, name="Staff handbook", namespace="staff", url=f"{hooli.sandbox}/mcp")
    page.get_by_role("button", name="Connect and discover").click()
    expect(page.locator("#main")).to_contain_text("convert_units")
    for project in ("Checkout", "Support"):
        page.goto(f"/o/{SLUG}/operate/projects/new/")
        fill(page, name=project, slug=project.lower())
        page.get_by_role("button", name="Make the project").click()
        expect(page.locator("#main")).to_contain_text(project)
    quiet(page)


def _key_tried_out(hooli: Hooli) -> str:
    """A developer finds the model, gets a key, tries the model in the playground and a tool on its page."""
    page = hooli.as_person("bob")
    page.goto(f"/o/{SLUG}/build/models/")
    expect(page.get_by_role("link", name="helper")).to_be_visible()
    page.goto(f"/o/{SLUG}/build/keys/new/")
    fill(page, name="checkout")
    page.locator("#main [name=project]").select_option(label="Checkout")
    page.get_by_role("button", name="Make the key").click()
    key = re.search(r"ghk_[a-z0-9]+_[a-z0-9]+_[0-9A-Za-z]{49}", page.locator("#main").inner_text())
    assert key is not None
    page.goto(f"/o/{SLUG}/build/playground/?model=helper")
    page.get_by_label("Prompt", exact=True).fill("Where is parcel 4471?")
    page.keyboard.press("Control+Enter")
    expect(page.locator("#pg-state")).to_have_text("Done.")
    expect(page.locator("[data-out]").first).to_contain_text("parcel 4471")
    expect(page.locator("[data-cost]").first).to_have_text(re.compile(r"^\$0\.0*[1-9]"))
    page.goto(f"/o/{SLUG}/tools/staff/convert_units/")
    page.locator("[name=arg0]").fill("10")
    page.get_by_role("button", name="Run", exact=True).click()
    expect(page.locator("#main")).to_contain_text(re.compile(r"\d m?s\b"), timeout=15_000)
    quiet(page)
    return key.group()


def _calls_on_the_cost_page(hooli: Hooli, key: str) -> Page:
    """Calls with the unmodified SDK are on the cost page within 5 s, priced and attributed."""
    client = openai.OpenAI(base_url=f"{hooli.base_url}/v1", api_key=key, default_headers={"x-gatehouse-agent": "checkout-bot"})
    with ThreadPoolExecutor(8) as pool:
        list(
            pool.map(lambda _: client.chat.completions.create(model="helper", messages=[{"role": "user", "content": "Hello"}]), range(120))
        )
    page = hooli.as_person("fay")
    row = page.get_by_role("row", name=re.compile("checkout-bot"))
    open_until(page, f"/o/{SLUG}/operate/costs/?group=agent", lambda: row.count() > 0 and "120" in row.inner_text(), within_s=5)
    return page


def _bill_explained(product: Product, page: Page, folder: Path) -> None:
    """A bill is uploaded and explained to the cent."""
    options = {"tenant": SLUG, "provider": "local", "calls-per-day": "4", "missing": "2", "out": str(folder)}
    product.manage("generate_bill", *[f"--{name}={value}" for name, value in options.items()])
    page.goto(f"/o/{SLUG}/operate/costs/reconciliation/")
    page.locator("[name=file]").set_input_files(folder / "bill.csv")
    page.locator("[name=provider]").select_option("local")
    page.get_by_role("button", name="Upload and compare").click()
    expect(page.locator("#main")).to_contain_text("bill.csv")
    compared = page.get_by_role("link", name=re.compile(", Local$")).first
    # A worker compares "in a moment".
    open_until(page, f"/o/{SLUG}/operate/costs/reconciliation/", lambda: compared.count() > 0, within_s=10)
    compared.click()
    expect(page.locator("#main")).to_contain_text("Sum of causes")
    expect(page.locator("#main")).to_contain_text("To the cent")
    exported = page.request.get(page.url + "csv/").text().splitlines()
    assert exported[0].startswith("model,token_class,day_utc")
    assert len(exported) > 1
    quiet(page)


def _consent_switched_off(hooli: Hooli) -> None:
    """Consent switched off: the playground is refused within 5 s, with the reason."""
    page = hooli.as_person("sam")
    page.goto(f"/o/{SLUG}/operate/consent/")
    page.get_by_role("button", name="Switch off…").first.click()
    page.locator("dialog[open] [name=reason]").fill("Audit of assistants until Monday")
    page.locator("dialog[open]").get_by_role("button", name="Switch off").click()
    expect(page.locator("#toasts")).to_contain_text("timed until every process has it")
    developer = hooli.as_person("bob")
    reason = developer.locator("#main").get_by_text("Audit of assistants until Monday").first

    def refused() -> bool:
        developer.get_by_label("Prompt", exact=True).fill("Hello")
        developer.keyboard.press("Control+Enter")
        expect(reason.or_(developer.locator("#pg-state", has_text="Done.")).first).to_be_visible()
        return reason.is_visible()

    open_until(developer, f"/o/{SLUG}/build/playground/?model=helper", refused, within_s=5)
    page.get_by_role("button", name="Allow").first.click()
    expect(page.locator("#toasts")).to_contain_text("allowed")
    quiet(page)


def _rollout_ready_for_its_gate(hooli: Hooli) -> tuple[Page, Page]:
    """A rollout: the gate blocks until everything is attested and measured. Returns the pages of who signs."""
    page = hooli.as_person("rita")
    page.goto(f"/o/{SLUG}/release/rollouts/new/")
    fill(page, plan="ai-cost-attribution", name="Cost attribution", slug="cost-attribution")
    page.get_by_role("button", name="Start the rollout").click()
    page.goto(GATE)
    page.get_by_role("button", name="Evaluate now").click()
    expect(page.locator("#main")).to_contain_text("Not ready")
    expect(page.get_by_role("button", name=re.compile("^Go, [0-9]+ blockers?"))).to_be_disabled()
    engineer = hooli.as_person("adam")
    engineer.goto(GATE)
    while engineer.get_by_role("link", name="Attest…").count():
        engineer.get_by_role("link", name="Attest…").first.click()
        engineer.get_by_label("is met", exact=True).check()
        engineer.locator("[name=note]").fill("See the minutes of Monday.")
        engineer.get_by_role("button", name="Attest", exact=True).click()
        engineer.goto(GATE)
    token = Api(hooli.base_url, "").post("tokens/", {"email": "adam@hooli.example", "password": PASSWORD, "tenant": SLUG})["token"]
    monitoring = Api(hooli.base_url, token)
    monitoring.post("figures/", {"key": "blocking_bugs", "reference": "first week", "value": 0})
    page.goto(GATE)
    page.get_by_role("button", name="Evaluate now").click()
    for young in ("Anomaly detection uptime", "Dashboard uptime"):  # neither was looked at for a day yet
        page.get_by_role("link", name=young, exact=True).click()
        page.locator("#waive [name=reason]").fill("It began today.")
        page.locator("#waive [name=until]").fill((datetime.now(UTC) + timedelta(days=7)).date().isoformat())
        criterion = page.url
        page.get_by_role("button", name="Ask for the waiver").click()
        expect(page.locator("#main")).to_contain_text("waiver asked for")
        engineer.goto(criterion)
        engineer.get_by_role("button", name="Approve the waiver").click()
        expect(engineer.locator("#main")).to_contain_text("approved by")
        page.goto(GATE)
    page.get_by_role("button", name="Evaluate now").click()
    expect(page.locator("#main")).to_contain_text("Ready", timeout=15_000)
    return page, engineer


def _gate_signed(rita: Page, adam: Page) -> None:
    """Two roles sign; the next phase begins."""
    for signer, comment in ((rita, "Teams are happy."), (adam, "Figures hold.")):
        signer.goto(GATE)
        signer.locator("[name=comment]").fill(comment)
        signer.get_by_role("button", name=re.compile("Sign go")).click()
        expect(signer.locator("#main")).to_contain_text(comment)
    rita.goto(f"/o/{SLUG}/release/rollouts/cost-attribution/log/")
    expect(rita.locator("#main")).to_contain_text("Teams are happy.")
    expect(rita.locator("#main")).to_contain_text("Private preview")
    quiet(rita)
    quiet(adam)
