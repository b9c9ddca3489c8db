"""Required tags: who may require what, what a preview says, what is counted to the last cent, pages and API."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.utils import timezone

from catalog.models import Project, VirtualKey
from catalog.services import default_tags
from costs import tag_selectors, tagging
from costs.errors import RequiredTagError, RequiredTagStateError
from costs.models import RequiredTag
from costs.periods import Period
from costs.services import prices, required_tags
from costs.services.required_tags import Rule
from gateway.contract import tags as contract
from gateway.publish.publisher import compile_snapshot
from governance import metrics
from governance.models import AuditEntry, Notice, Tenant, User
from tests.conftest import ClientFor
from tests.factories import costs as make

LIST = "/o/acme/operate/costs/tags/"


def steps(detail: str, verdict: str = "pass", *, completed: str = "") -> list[list[Any]]:
    more = [["tags:completed", "pass", 0, completed]] if completed else []
    return [["identify", "pass", 4, ""], *more, ["tags:required", verdict, 0, detail], ["tags", "pass", 1, ""]]


def today() -> Period:
    day = timezone.now().date()
    return Period(day - timedelta(days=1), day)


@pytest.fixture
def project(acme: Tenant, alice: User) -> Project:
    found, _ = Project.objects.get_or_create(slug="checkout", defaults={"name": "Checkout", "owner": alice})
    return found


@pytest.fixture
def centre(project: Project, fay: User) -> RequiredTag:
    rule = Rule(values=["CC-*"], projects=["checkout"], fact="")
    return required_tags.create_required_tag(name="costCenter", rule=rule, actor=fay, description="Who pays")


@pytest.fixture
def calls(acme: Tenant, alice: User) -> None:
    make.prices(alice)  # a call of 1,000 and 200 tokens costs 0.0018 USD
    make.record(
        acme,
        make.call(acme, tags={"costCenter": "CC-1"}, steps=steps("costCenter=ok owner=ok")),
        make.call(acme, tags={"costCenter": "CC-1"}, steps=steps("costCenter=ok owner=missing", "would_refuse")),
        make.call(acme, tags={"costCenter": "old"}, agent="", steps=steps("costCenter=not_allowed owner=ok", "would_refuse")),
        make.call(
            acme, tags={"costCenter": "CC-9"}, project="search", steps=steps("costCenter=missing", "would_refuse", completed="costCenter")
        ),
        make.call(acme, **{**make.REFUSED, "error_code": "tag_required", "steps": steps("costCenter=missing", "refused")}),
        make.call(acme, model="no-price", steps=steps("costCenter=missing", "would_refuse")),
        make.call(acme, steps=[["identify", "pass", 4, ""]]),
    )


@pytest.mark.parametrize(
    ("field", "name", "rule"),
    [
        ("name", "2nd", Rule()),
        ("name", "prompt", Rule()),
        ("name", "new", Rule()),
        ("name", "costCenter", Rule()),
        ("values", "team", Rule(values=["a,b"])),
        ("values", "team", Rule(values=["x" * 128])),
        ("projects", "team", Rule(projects=["nowhere"])),
        ("fact", "team", Rule(fact="weather")),
    ],
)
def test_what_cannot_be_sent_cannot_be_required(centre: RequiredTag, fay: User, field: str, name: str, rule: Rule) -> None:
    with pytest.raises(RequiredTagError) as refused:
        required_tags.create_required_tag(name=name, rule=rule, actor=fay)
    assert refused.value.field == field


def test_enforcing_takes_a_preview_a_second_person_and_a_day_that_is_not_over(
    centre: RequiredTag, calls: None, alice: User, fay: User
) -> None:
    version = tag_selectors.newest_version(centre)
    with pytest.raises(RequiredTagStateError, match="Preview"):
        required_tags.set_mode(required=centre, mode="enforce", actor=alice)
    outcome = required_tags.preview_version(version=version, actor=fay)
    with pytest.raises(RequiredTagStateError, match="Somebody else"):
        required_tags.set_mode(required=centre, mode="enforce", actor=fay)
    with pytest.raises(RequiredTagStateError, match="first day"):
        required_tags.set_mode(required=centre, mode="enforce", actor=alice, enforce_on=date(2020, 1, 1))
    later = timezone.now().date() + timedelta(days=14)
    required_tags.set_mode(required=centre, mode="enforce", actor=alice, enforce_on=later)
    with pytest.raises(RequiredTagStateError, match="why"):
        required_tags.set_mode(required=centre, mode="monitor", actor=alice)
    required_tags.set_mode(required=centre, mode="enforce", actor=alice)
    with pytest.raises(RequiredTagStateError, match="why"):
        required_tags.set_mode(required=centre, mode="enforce", actor=alice, enforce_on=later)
    required_tags.set_mode(required=centre, mode="enforce", actor=alice, enforce_on=later, reason="Too early")

    # Of six calls of the project two have a good value and one another; of the three without, one was refused for it.
    assert (outcome.calls, outcome.covered, outcome.missing, outcome.not_allowed) == (7, 6, 3, 1)
    assert outcome.groups[0]["found"] == "missing"
    centre.refresh_from_db()
    assert (centre.mode, centre.enforce_on, centre.active_id) == ("enforce", later, version.pk)
    assert Notice.objects.filter(topic="required_tag.enforced").earliest("pk").data["enforce_on"] == str(later)
    put_off = Notice.objects.get(topic="required_tag.taken_back")
    assert (put_off.severity, put_off.text) == ("warning", "Too early")
    assert put_off.title.startswith(f"Tag costCenter is no longer enforced until {later}, by ")
    acts = AuditEntry.objects.filter(event__startswith="required_tag.").order_by("pk").values_list("event", flat=True)
    assert list(acts) == ["required_tag.created", "required_tag.previewed", *["required_tag.enforce"] * 3]


def test_preview_does_not_count_what_a_default_of_then_had_completed(
    acme: Tenant, calls: None, project: Project, alice: User, fay: User
) -> None:
    required = required_tags.create_required_tag(name="costCenter", rule=Rule(), actor=fay)
    version = tag_selectors.newest_version(required)

    before = required_tags.preview_version(version=version, actor=fay)
    default_tags.set_project_tags(project=project, tags={"costCenter": "CC-5"}, actor=alice)
    after = required_tags.preview_version(version=version, actor=fay)

    assert (before.calls, before.missing) == (7, 4)  # that of the project search was completed then, and would be missing now
    assert after.missing == 1


def test_money_and_calls_are_counted_by_tag_and_follow_corrections(acme: Tenant, calls: None, alice: User) -> None:
    whole = tag_selectors.coverage_by_tag(today())
    one, owner, every = whole["costCenter"], whole["owner"], whole[tag_selectors.ALL]

    assert (one.calls, one.tagged, one.denied, one.unpriced) == (5, 2, 1, 1)
    assert (one.cost, one.tagged_cost) == (Decimal("0.0072"), Decimal("0.0036"))
    assert (owner.calls, owner.tagged) == (3, 2)
    assert (every.calls, every.tagged, every.lacking_cost) == (5, 1, Decimal("0.0054"))
    make.price(alice, "input", "10", model="no-price")
    make.price(alice, "output", "0", model="no-price")
    prices.price_unpriced(provider="openai", model="no-price")
    priced = tag_selectors.coverage(today(), "costCenter")
    assert (priced.cost, priced.tagged_cost, priced.unpriced) == (Decimal("0.0172"), Decimal("0.0036"), 0)


def test_report_is_worst_first_and_names_what_was_not_asked(acme: Tenant, calls: None, django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(3):
        found = tag_selectors.report("costCenter", today(), "project")
    owners = tag_selectors.report("costCenter", today(), "owner")

    assert [(line.value, line.figures.lacking, line.figures.calls) for line in found.lines] == [("checkout", 2, 4), ("search", 1, 1)]
    assert (found.unasked_calls, found.unasked_cost) == (1, Decimal("0.0018"))
    assert [(line.label, line.figures.calls) for line in owners.lines] == [("No owner", 5)]
    reading = metrics.get("costs.required_tag_coverage").read(metrics.Window(timezone.now() - timedelta(hours=1), timezone.now()))
    assert (reading.value, reading.statistics) == (20.0, {"tagged": 1, "all": 5})


def test_snapshot_carries_tags_in_force_with_their_first_moment(acme: Tenant, centre: RequiredTag, alice: User, fay: User) -> None:
    project = Project.objects.get(slug="checkout")
    default_tags.set_project_tags(project=project, tags={"team": "blue"}, actor=alice)
    assert compile_snapshot(acme, 1).required_tags == ()

    required_tags.preview_version(version=tag_selectors.newest_version(centre), actor=fay)
    required_tags.set_mode(required=centre, mode="enforce", actor=alice, enforce_on=tag_selectors.today(timezone.now()))
    snapshot = compile_snapshot(acme, 1)

    [served] = snapshot.required_tags
    assert (served.name, served.values, served.projects) == ("costCenter", ("CC-*",), ("checkout",))
    assert served.enforce_from is not None
    assert 0 <= timezone.now().timestamp() - served.enforce_from < 86_400
    assert snapshot.projects["checkout"].tags == {"team": "blue"}


def test_preview_says_that_it_counts_what_the_gateway_could_refuse(
    acme: Tenant, client_for: ClientFor, centre: RequiredTag, fay: User
) -> None:
    make.record(
        acme,
        make.call(acme),
        make.call(acme, steps=[["otlp", "pass", 0, ""]]),
        make.call(acme, **make.REFUSED),
    )
    by_fay = client_for(fay)
    by_fay.post(f"{LIST}costCenter/preview/")

    page = " ".join(by_fay.get(f"{LIST}costCenter/").content.decode().split())

    assert 'Calls through the gateway in 7 days</dt><dd class="gh-tab">1 <span' in page
    assert "none reported by OpenTelemetry" in page


def test_pages_lead_from_requiring_to_the_calls_that_lack_it(
    client_for: ClientFor, calls: None, project: Project, fay: User, bob: User
) -> None:
    by_fay, by_bob = client_for(fay), client_for(bob)

    empty = by_fay.get(LIST)
    made = by_fay.post(f"{LIST}new/", {"name": "costCenter", "values": "CC-*\n", "projects": ["checkout"], "environments": "", "fact": ""})
    bad = by_fay.post(f"{LIST}new/", {"name": "2nd"})
    by_fay.post(f"{LIST}costCenter/preview/")
    counted = by_fay.post(f"{LIST}costCenter/mode/", {"mode": "monitor", "version": 1})
    own = by_fay.post(f"{LIST}costCenter/mode/", {"mode": "enforce", "version": 1})
    changed = by_fay.post(f"{LIST}costCenter/edit/", {"values": "CC-1\nCC-2", "note": "fewer"})
    page = by_fay.get(f"{LIST}costCenter/?group=agent").content.decode()
    lacking = by_fay.get("/o/acme/operate/costs/requests/?tag=costCenter").content.decode()
    csv = b"".join(by_fay.get(f"/o/acme/operate/costs/tags.csv?tag=costCenter&group=project&from={today().first}&to={today().last}"))

    assert "No tag is required yet" in empty.content.decode()
    assert (made.status_code, bad.status_code, counted.status_code, own.status_code, changed.status_code) == (302, 422, 302, 422, 302)
    assert "Somebody else enforces what you wrote." in own.content.decode()
    assert "Version 2" in page
    assert "tag=costCenter&amp;agent=(none)" in page
    assert lacking.count('class="gh-nowrap" data-l="Status"') == 4
    assert csv.splitlines()[1].startswith(b"checkout,Checkout,4,2,")
    assert by_fay.get("/o/acme/operate/costs/requests/?tag=(any)").status_code == 200
    assert by_fay.get("/o/acme/operate/costs/requests/?tag=%25").status_code == 200
    assert by_fay.post(f"{LIST}costCenter/delete/").status_code == 302
    assert RequiredTag.objects.filter(name="costCenter").exists()  # it is counted: off first
    assert by_bob.get(LIST).status_code == 403


def test_api_says_the_same(api_for: ClientFor, calls: None, project: Project, fay: User, adam: User) -> None:
    by_fay, by_adam = api_for(fay), api_for(adam)
    base = "/api/v1/required-tags/"

    made = by_fay.post(base, {"name": "owner", "values": []}, content_type="application/json")
    previewed = by_fay.post(f"{base}owner/preview/", {}, content_type="application/json").json()
    refused = by_fay.post(f"{base}owner/mode/", {"mode": "enforce"}, content_type="application/json")
    enforced = by_adam.post(f"{base}owner/mode/", {"mode": "enforce"}, content_type="application/json").json()
    report = by_fay.get(f"{base}report/?tag=costCenter&group=key").json()
    lacking = by_fay.get("/api/v1/requests/?tag=owner").json()

    assert (made.status_code, made.json()["versions"][0]["number"]) == (201, 1)
    assert (previewed["preview"]["calls"], previewed["preview"]["missing"]) == (7, 7)
    assert (refused.status_code, refused.json()["code"]) == (409, "required_tag_state")
    assert (enforced["mode"], enforced["active_version"]) == ("enforce", 1)
    assert (report["total"]["calls"], report["total"]["tagged_cost_usd"], report["lines"][0]["value"]) == (5, "0.0036", "k2345678")
    assert len(lacking["results"]) == 1
    assert by_adam.delete(f"{base}owner/").status_code == 409


def test_tags_of_keys_and_projects_are_set_by_who_may(
    client_for: ClientFor, api_for: ClientFor, project: Project, adam: User, bob: User
) -> None:
    key = VirtualKey.objects.create(name="own", project=project, owner=bob, digest="d", expires_at=timezone.now() + timedelta(days=1))

    own = client_for(bob).post(f"/o/acme/keys/{key.public_id}/tags/", {"tags": "team=blue\n service = cart "})
    bad = client_for(bob).post(f"/o/acme/keys/{key.public_id}/tags/", {"tags": "team"})
    worse = api_for(bob).put(f"/api/v1/keys/{key.public_id}/tags/", {"tags": {"prompt": "x"}}, content_type="application/json")
    not_his = client_for(bob).post(f"/o/acme/projects/{project.slug}/tags/", {"tags": "a=b"})
    whole = api_for(adam).put(f"/api/v1/projects/{project.slug}/tags/", {"tags": {"costCenter": "CC-1"}}, content_type="application/json")

    key.refresh_from_db()
    assert key.tags == {"service": "cart", "team": "blue"}
    assert (own.status_code, bad.status_code, worse.status_code, not_his.status_code) == (302, 422, 422, 403)
    assert whole.json()["tags"] == {"costCenter": "CC-1"}
    assert "costCenter" in client_for(bob).get(f"/o/acme/projects/{project.slug}/").content.decode()
    assert set(AuditEntry.objects.filter(event__endswith=".tagged").values_list("event", flat=True)) == {
        "project.tagged",
        "virtual_key.tagged",
    }


def test_preview_of_a_tag_with_another_value_in_each_call_stays_small(acme: Tenant, project: Project, fay: User) -> None:
    make.record(acme, *(make.call(acme, tags={"trace": f"t{n}", "other": f"o{n}"}, steps=steps("x=ok")) for n in range(15)))
    make.record(acme, make.call(acme, tags={"other": "o"}, steps=steps("x=ok")))
    since, until = timezone.now() - timedelta(days=1), timezone.now() + timedelta(minutes=1)
    any_value, one_value = contract.RequiredTag(name="trace", version=1), contract.RequiredTag(name="trace", version=1, values=("t7", "u*"))

    rows = [(one.sent, one.calls) for one in tag_selectors.past_tags(any_value, since, until)]
    found = tagging.preview(one_value, tag_selectors.past_tags(one_value, since, until), days=1)
    many = tagging.preview(one_value, (_sent(n) for n in range(tagging.MOST_KEPT + 500)), days=1)

    assert rows == [({"trace": "*"}, 15), ({}, 1)]
    assert (found.covered, found.not_allowed, found.missing, len(found.groups)) == (16, 14, 1, tagging.MOST_GROUPS)
    assert (many.not_allowed, len(many.groups)) == (tagging.MOST_KEPT + 500, tagging.MOST_GROUPS)


def _sent(number: int) -> tagging.PastTags:
    return tagging.PastTags({"trace": f"v{number}"}, (), {"key": "k", "project": "p", "agent": ""}, 1, Decimal(), "r")
