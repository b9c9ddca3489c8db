"""Pages of budgets: what they show, what their buttons do, how many queries the list takes."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from costs import budget_selectors
from costs.models import Budget, BudgetIncident, RequiredTag
from costs.services import budgets, required_tags
from governance.models import Tenant, User
from governance.pages import keyset_page
from tests.conftest import ClientFor
from tests.costs.services.test_budgets import draft, hour
from tests.factories import costs as make

LIST = "/o/acme/operate/costs/budgets/"
FIELDS: dict[str, Any] = {
    "name": "House", "target": "tenant:", "amount": "100", "period": "month", "action": "block", "thresholds": "50, 80%,100",
    "throttle_from": "80", "environment": "production",
}  # fmt: skip


def test_empty_list_says_what_a_budget_is_for(acme: Tenant, client_for: ClientFor, fay: User, audra: User) -> None:
    assert b"New budget" in client_for(fay).get(LIST).content
    assert b"Finance and admins make them" in client_for(audra).get(LIST).content


def test_list_is_searched_and_in_tabs_by_state(acme: Tenant, client_for: ClientFor, api_for: ClientFor, fay: User) -> None:
    house, search = draft(fay, name="House", environment="production"), draft(fay, name="Search")
    budgets.simulate_budget(budget=search, actor=fay)
    client, api = client_for(fay), api_for(fay)

    def shown(query: str) -> list[str]:
        names = [state.budget.name for state in client.get(f"{LIST}?{query}").context["states"]]
        assert names == [one["name"] for one in api.get(f"/api/v1/budgets/?{query}").json()["results"]]
        return names

    assert shown("") == [house.name, search.name]
    assert shown("q=PRODUCT") == shown("state=draft") == [house.name]
    assert shown("state=simulated&q=sear") == [search.name]
    assert client.get(LIST).context["tabs"] == [("", "All", 2), ("simulated", "Simulated", 1), ("draft", "Draft", 1)]
    none = client.get(f"{LIST}?q=nothing").content.decode()
    assert "No budget matches" in none
    assert 'value="nothing"' in none
    assert client.get(f"{LIST}?state=nonsense").context["state"] == ""


def test_list_is_sorted_by_what_is_used(acme: Tenant, client_for: ClientFor, fay: User) -> None:
    hour(timezone.now(), "40")
    for name, amount in (("Alpha", "400"), ("Beta", "50"), ("Gamma", "100")):
        draft(fay, name=name, amount=Decimal(amount))
    client = client_for(fay)

    def shown(query: str) -> list[str]:
        return [state.budget.name for state in client.get(f"{LIST}?{query}").context["states"]]

    assert shown("sort=share") == ["Beta", "Gamma", "Alpha"]
    assert shown("sort=-share") == ["Alpha", "Gamma", "Beta"]
    assert shown("sort=-name") == ["Gamma", "Beta", "Alpha"]
    assert shown("sort=nonsense") == shown("sort=spent") == ["Alpha", "Beta", "Gamma"]
    page = client.get(f"{LIST}?sort=share&q=a").content.decode()
    assert '<th aria-sort="descending">' in page
    assert '<input type="hidden" name="sort" value="share">' in page
    found, order = budget_selectors.ordered_budgets(budget_selectors.budgets(), "share")
    assert " WHEN " not in str(found.query)  # not a branch for each of them, which is quadratic
    first = keyset_page(found, order=order, size=1)
    second = keyset_page(found, order=order, size=1, cursor=first.next_cursor or "")
    assert [one.name for one in (*first.rows, *second.rows)] == ["Beta", "Gamma"]


def test_what_a_budget_would_do_at_once_is_said_before_it_is_put_in_force(
    acme: Tenant, client_for: ClientFor, fay: User, audra: User
) -> None:
    hour(timezone.now(), "85")
    found = draft(fay, action="throttle", throttle_from=80, environment="production")
    page = f"{LIST}{found.pk}/"
    client = client_for(fay)

    budgets.simulate_budget(budget=found, actor=fay)
    slowed = client.get(page).content.decode()
    hour(timezone.now(), "15", project="other")
    over = client.get(page).content.decode()
    reader = client_for(audra).get(page).content.decode()
    budgets.enforce_budget(budget=found, actor=fay)
    in_force = client.get(page).content.decode()

    assert "so calls are slowed down" in slowed
    assert "What it would have done is not known" in slowed
    assert "Production</b> depends on it" in slowed
    assert "Every call is refused until" in over
    assert "Keep it simulated" not in reader
    assert "Keep it in force" in in_force
    assert "pass again within seconds" in in_force


def test_form_makes_a_draft_and_the_page_leads_on(acme: Tenant, client_for: ClientFor, fay: User) -> None:
    client = client_for(fay)

    made = client.post(f"{LIST}new/", FIELDS, follow=True)
    found = Budget.objects.get()
    simulated = client.post(f"{LIST}{found.pk}/simulate/", follow=True)
    enforced = client.post(f"{LIST}{found.pk}/enforce/", follow=True)

    assert (found.state, found.thresholds, found.environment) == ("draft", [50, 80, 100], "production")
    assert b"Not simulated since it was last changed" in made.content
    assert b"Put in force" in simulated.content
    assert b"no call of this scope" in simulated.content
    assert b"Report a false throttle" in enforced.content
    assert b"No forecast" not in enforced.content
    assert b"0 of 14 days of history" in enforced.content


@pytest.mark.parametrize(
    ("fields", "named"), [({"amount": "0"}, "amount"), ({"thresholds": "half"}, "thresholds"), ({"target": "project:none"}, "target")]
)
def test_form_says_what_is_wrong(fields: dict[str, str], named: str, acme: Tenant, client_for: ClientFor, fay: User) -> None:
    answer = client_for(fay).post(f"{LIST}new/", FIELDS | fields)

    assert answer.status_code == 422
    assert answer.context["form"].errors[named]
    assert not Budget.objects.exists()


def test_preview_shows_last_month_and_keeps_nothing(acme: Tenant, client_for: ClientFor, fay: User) -> None:
    last_month = timezone.now().replace(day=1) - timedelta(days=5)
    hour(last_month, "150", calls=30)

    shown = client_for(fay).get(f"{LIST}preview/", FIELDS, headers={"HX-Request": "true"})
    nothing = client_for(fay).get(f"{LIST}preview/", {**FIELDS, "amount": ""}, headers={"HX-Request": "true"})

    assert b"blocked from" in shown.content
    assert shown.context["outcome"].blocked_calls == 10
    assert nothing.context["outcome"] is None
    assert not Budget.objects.exists()


def test_value_of_a_tag_is_typed_and_the_preview_says_what_is_refused(acme: Tenant, client_for: ClientFor, fay: User) -> None:
    required_tags.create_required_tag(name="team", rule=required_tags.Rule(), actor=fay)
    make.record(acme, make.call(acme, started_at=timezone.now() - timedelta(hours=1), tags={"team": "search"}))
    client = client_for(fay)
    asked = FIELDS | {"target": "tag:", "tag": "team=new"}

    def said(**fields: str) -> list[str]:
        shown = client.get(f"{LIST}preview/", asked | fields, headers={"HX-Request": "true"})
        assert all(refusal in shown.content.decode() for refusal in shown.context["refusals"])
        return [refusal.split(",")[0] for refusal in shown.context["refusals"]]

    assert b'<option value="team=search">' in client.get(f"{LIST}new/").content
    assert said() == []
    assert said(period="day") == ["Tags are counted by UTC day"]
    assert said(tag="colour=red") == ["The tag colour is not declared"]
    assert client.post(f"{LIST}new/", FIELDS | {"tag": "team=new"}).context["form"].errors["tag"]
    client.post(f"{LIST}new/", asked)
    found = Budget.objects.get()
    assert (found.scope, found.ref) == ("tag", "team=new")

    # What changes nothing about whose calls it is for is not refused, though the tag is gone.
    edit = client.get(f"{LIST}{found.pk}/edit/")
    assert edit.context["form"].initial["tag"] == "team=new"
    RequiredTag.objects.all().delete()
    assert said(budget=str(found.pk)) == []
    assert said() == ["The tag team is not declared"]
    client.post(f"{LIST}{found.pk}/edit/", asked | {"amount": "7"})
    assert Budget.objects.get().amount == 7


def test_report_is_one_click_and_is_shown_until_resolved(acme: Tenant, client_for: ClientFor, fay: User) -> None:
    found = draft(fay)
    budgets.simulate_budget(budget=found, actor=fay)
    budgets.enforce_budget(budget=found, actor=fay)
    client = client_for(fay)

    page = client.post(f"{LIST}{found.pk}/report-false-throttle/", follow=True)
    listed = client.get(LIST)
    incident = BudgetIncident.objects.get()
    resolved = client.post(f"{LIST}incidents/{incident.pk}/resolve/", {"resolution": "Amount was wrong"}, follow=True)

    found.refresh_from_db()
    assert found.action == "alert"
    assert b"False throttle, open since" in page.content
    assert b"held up calls" in listed.content
    assert b"Amount was wrong" in resolved.content
    assert b"open since" not in resolved.content


def test_raise_ends_with_its_last_day_in_the_zone_of_the_organisation(acme: Tenant, client_for: ClientFor, fay: User) -> None:
    Tenant.objects.filter(pk=acme.pk).update(time_zone="Asia/Tokyo")
    found = budgets.enforce_budget(budget=draft(fay, action="alert"), actor=fay)
    last = (timezone.now() + timedelta(days=3)).date()
    client = client_for(fay)

    wrong = client.post(f"{LIST}{found.pk}/raise/", {"extra": "5", "last_day": "2020-01-01", "reason": "late"})
    client.post(f"{LIST}{found.pk}/raise/", {"extra": "5", "last_day": last.isoformat(), "reason": "launch"})

    assert wrong.status_code == 422
    [made] = found.raises.all()
    assert (made.extra, made.until.hour, made.until.date()) == (Decimal(5), 15, last)
    assert made.last_moment.astimezone(ZoneInfo("Asia/Tokyo")).date() == last  # where this organisation is


def test_raise_is_ended_from_the_page_and_stays_listed(acme: Tenant, client_for: ClientFor, fay: User, audra: User) -> None:
    found = budgets.enforce_budget(budget=draft(fay, action="alert"), actor=fay)
    until = timezone.now() + timedelta(days=3)
    made = budgets.raise_temporarily(budget=found, actor=fay, extra=Decimal(5), reason="launch", until=until)
    url = f"{LIST}{found.pk}/raises/{made.pk}/end/"

    before = client_for(fay).get(f"{LIST}{found.pk}/").content.decode()
    ended = client_for(fay).post(url, follow=True).content.decode()

    assert ("End it now" in before, "No raise is in force" in before, f"in force since {found.enforced_at:%b %-d, %Y}" in before) == (
        True,
        False,
        True,
    )
    assert ("End it now" in ended, "No raise is in force" in ended, "ended before its day: launch" in ended) == (False, True, True)
    assert "It is over already." in client_for(fay).post(url, follow=True).content.decode()
    assert client_for(audra).post(url).status_code == 403
    assert client_for(fay).post(f"{LIST}{found.pk + 1}/raises/{made.pk}/end/").status_code == 404


def test_list_takes_as_many_queries_for_eight_as_for_one(acme: Tenant, client_for: ClientFor, fay: User) -> None:
    client = client_for(fay)
    client.get(LIST)  # the first page writes the session
    counts = []
    for number in range(8):
        draft(fay, name=f"Budget {number}")
        if number in (0, 7):
            with CaptureQueriesContext(connection) as queries:
                assert client.get(LIST).status_code == 200
            counts.append(len(queries))

    assert counts[0] == counts[1]


def test_page_of_a_refused_call_names_the_budget_that_refused(acme: Tenant, client_for: ClientFor, fay: User, bob: User) -> None:
    made, key = draft(fay), make.key(bob)
    refused = {**make.REFUSED, "http_status": 402, "error_code": "budget_exceeded", "key_id": key.public_id}
    by = {name: make.call(acme, **{**refused, "steps": [["reserve", "budget_exceeded", 9, name]]}) for name in ("budget:House", "key:k2")}
    make.record(acme, *by.values())

    def advice(who: User, name: str) -> str:
        page = client_for(who).get(f"/o/acme/requests/{by[name]['event_id']}/").content.decode()
        return page.partition("gh-note is-fail")[2].partition("</div>")[0]

    assert "The budget House is used up until it resets" in advice(bob, "budget:House")
    assert "See the budget" not in advice(bob, "budget:House")
    assert f"/operate/costs/budgets/{made.pk}/" in advice(fay, "budget:House")
    assert "The budget is used up until it resets. Ask its owner to raise it.</span>" in advice(fay, "key:k2")


def test_overrun_says_by_how_much(acme: Tenant, client_for: ClientFor, fay: User) -> None:
    hour(timezone.now(), "140")

    page = client_for(fay).get(f"{LIST}{draft(fay).pk}/").content.decode()

    assert "$40.00</span> over the amount" in page
