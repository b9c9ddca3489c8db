from __future__ import annotations

from datetime import timedelta

from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from governance import config, selectors
from governance.models import ConsentChange, Effect, Tenant, User
from governance.services import consent, effects
from tests.conftest import ClientFor

URL = "/o/acme/operate/consent/"


def decide(actor: User, feature_class: str, state: str, reason: str = "", days_ago: int = 0) -> ConsentChange:
    at = timezone.now() - timedelta(days=days_ago)
    consent.set_consent(feature_class=feature_class, state=state, reason=reason, actor=actor, at=at)
    return ConsentChange.objects.select_related("effect").order_by("pk").latest("pk")


def test_decision_is_timed_until_every_process_holds_to_it(acme: Tenant, sam: User, client_for: ClientFor) -> None:
    made = decide(sam, "assistants", "withdrawn", "A leak.")
    waiting = client_for(sam).get(URL).content.decode()
    config.publish(acme.schema_name)
    effects.measure_waiting()
    unserved = selectors.consent_effects(at=timezone.now())
    effect = made.effect
    assert effect is not None
    Effect.objects.filter(pk=effect.pk).update(planes=2, effective_at=effect.decided_at + timedelta(seconds=0.8))
    page = client_for(sam).get(URL).content.decode()

    assert (effect.what, effect.scope, effect.verdict) == ("Assistants and chat: switched off", "tenant", "waiting")
    assert "On its way" in waiting
    assert 'hx-trigger="every 1s"' in waiting
    assert (unserved.timed, unserved.slowest_s) == (0, None)  # there was no process to reach: nothing was measured
    assert "the slowest of 1 decision in 90 days took 800 ms" in page.replace("\u00a0", " ")
    assert 'hx-trigger="every 1s"' not in page


def test_promise_is_five_seconds_and_what_was_not_measured_never_keeps_it() -> None:
    now = timezone.now()
    effects = [
        Effect(decided_at=now, effective_at=now + timedelta(seconds=seconds), planes=planes)
        for seconds, planes in [(5, 1), (5.1, 1), (0, 0)]
    ]
    effects += [Effect(decided_at=now), Effect(decided_at=now, given_up=True, planes=0)]

    assert [ConsentChange(effect=effect).verdict for effect in effects] == ["pass", "fail", "no_data", "waiting", "fail"]
    assert ConsentChange().verdict == "no_data"


def test_history_is_filtered_paged_and_exported(
    acme: Tenant,
    sam: User,
    alice: User,
    charlie: User,
    client_for: ClientFor,
    api_for: ClientFor,
    django_assert_max_num_queries: DjangoAssertNumQueries,
) -> None:
    decide(sam, "tools", "withdrawn", "=1+1", days_ago=40)
    decide(alice, "tools", "granted", "Reviewed", days_ago=2)
    decide(sam, "agents", "granted", "A trial", days_ago=1)
    client, today = client_for(sam), timezone.now().date()

    by_class = client.get(f"{URL}?feature_class=tools&state=granted", headers={"HX-Request": "true"}).content.decode()
    by_day = client.get(f"{URL}history.csv?first={today - timedelta(days=3)}&last={today - timedelta(days=2)}").getvalue().decode()
    everything = client.get(f"{URL}history.csv").getvalue().decode().splitlines()
    by_name = api_for(sam).get("/api/v1/consents/history/?query=alice").json()["results"]
    nonsense = client.get(f"{URL}?first={today}&last={today - timedelta(days=1)}")

    assert "Reviewed" in by_class
    assert "A trial" not in by_class
    assert "<html" not in by_class
    assert [line.split(",")[1:3] for line in by_day.splitlines()[1:]] == [["tools", "granted"]]
    assert len(everything) == 4
    assert everything[3].split(",")[4] == "'=1+1"  # no spreadsheet runs it
    assert [(each["state"], each["actor"], each["verdict"]) for each in by_name] == [("granted", alice.email, "waiting")]
    assert nonsense.status_code == client.get(f"{URL}history.csv?first=x").status_code == 422
    assert "The last day is before the first." in nonsense.content.decode()
    assert api_for(sam).get("/api/v1/consents/history/?last=x").status_code == 400
    open_end = api_for(sam).get("/api/v1/consents/history/?first=0001-01-01&last=9999-12-31").json()["results"]
    assert len(open_end) == 3
    assert client_for(charlie).get(f"{URL}history.csv").status_code == 404
    for number in range(60):
        decide(sam, "search", "withdrawn" if number % 2 else "granted", str(number))
    with django_assert_max_num_queries(18):
        page = client.get(URL).content.decode()
    assert "Next" in page
