"""Savings against a frozen, signed baseline: the arithmetic, who may do what, and what happens when somebody tampers."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from django.utils import timezone

from costs import savings, savings_selectors
from costs.errors import BaselineError, BaselineStateError
from costs.models import Baseline, UsageDay
from costs.periods import Period
from costs.savings import Unit
from costs.services import savings as services
from governance import metrics
from governance.models import AuditEntry, Tenant, User
from tests.conftest import ClientFor

PAGE = "/o/acme/operate/costs/savings/"
SEPTEMBER = Period(date(2026, 9, 1), date(2026, 9, 30))
OCTOBER = datetime(2026, 10, 5, tzinfo=UTC)


def used(day: date, model: str, calls: int, cost: str, **fields: int) -> UsageDay:
    zeros = dict.fromkeys(("refused", "errors", "unpriced_calls", "untagged_calls", "untagged_cost", "estimated_calls"), 0)
    given = {**zeros, "tokens": 1000, **fields}
    return UsageDay.objects.create(day=day, dimension="model", value=model, calls=calls, cost=Decimal(cost), **given)


@pytest.fixture
def september(acme: Tenant) -> None:
    used(date(2026, 9, 2), "large", 800, "80")
    used(date(2026, 9, 20), "small", 210, "2", unpriced_calls=6, refused=4)
    used(date(2026, 9, 20), "crm__lookup", 500, "0", tokens=0)


def test_savings_are_split_into_unit_cost_mix_and_new_models_to_the_last_digit() -> None:
    before = {"large": Unit(800, Decimal(80)), "small": Unit(200, Decimal(2))}
    now = {"large": Unit(100, Decimal(9)), "small": Unit(300, Decimal("2.4")), "tiny": Unit(100, Decimal("0.5"))}

    found = savings.savings(before, now, Decimal(30))

    assert found is not None
    assert (found.expected, found.raw, found.adjusted) == (Decimal(41), Decimal("29.1"), Decimal("1.6"))
    assert found.new == Decimal("7.7")
    assert found.raw == found.adjusted + found.mix + found.new
    assert (found.projected, found.is_on_course, found.known_percent) == (Decimal("12.3"), True, Decimal(80))
    assert [(one.model, one.saved) for one in found.models] == [("large", Decimal(1)), ("small", Decimal("0.6")), ("tiny", None)]
    assert savings.savings(before, {}, Decimal(30)) is None
    assert savings.savings({"free": Unit(10, Decimal())}, now, Decimal(30)) is None


def test_same_prices_at_another_mix_save_raw_and_not_adjusted() -> None:
    before = {"large": Unit(50, Decimal(50)), "small": Unit(50, Decimal(5))}

    found = savings.savings(before, {"large": Unit(10, Decimal(10)), "small": Unit(90, Decimal(9))}, Decimal(0))

    assert found is not None
    assert (found.raw, found.adjusted, found.mix) == (Decimal(36), Decimal(0), Decimal(36))


def test_baseline_is_frozen_by_one_and_signed_by_another_person(september: None, fay: User, alice: User) -> None:
    found = services.freeze_baseline(name="Before", period=SEPTEMBER, projected_percent=Decimal(20), actor=fay, at=OCTOBER)
    used(date(2026, 9, 21), "large", 1000, "10")

    with pytest.raises(BaselineStateError, match="Somebody else"):
        services.sign_baseline(baseline=found, sha256=found.sha256, actor=fay)
    with pytest.raises(BaselineStateError, match="not those"):
        services.sign_baseline(baseline=found, sha256="0" * 64, actor=alice)
    assert savings_selectors.in_force() is None
    services.sign_baseline(baseline=found, sha256=found.sha256, actor=alice)
    with pytest.raises(BaselineStateError, match="already"):
        services.sign_baseline(baseline=found, sha256=found.sha256, actor=alice)

    kept = savings_selectors.in_force()
    assert kept is not None
    assert savings.restored(kept.figures) == {"large": Unit(800, Decimal(80)), "small": Unit(200, Decimal(2))}
    assert list(AuditEntry.objects.filter(event__startswith="baseline.").order_by("sequence").values_list("event", "actor_name")) == [
        ("baseline.frozen", str(fay)),
        ("baseline.signed", str(alice)),
    ]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"name": " "}, "name"),
        ({"period": Period(date(2026, 9, 30), date(2026, 9, 1))}, "last"),
        ({"period": Period(date(2026, 9, 1), date(2026, 10, 5))}, "last"),
        ({"projected_percent": Decimal(100)}, "projected_percent"),
        ({"period": Period(date(2026, 8, 1), date(2026, 8, 31))}, "first"),
    ],
)
def test_baseline_that_says_nothing_is_refused(change: dict[str, object], field: str, september: None, fay: User) -> None:
    asked = {"name": "Before", "period": SEPTEMBER, "projected_percent": Decimal(20)} | change

    with pytest.raises(BaselineError) as refusal:
        services.freeze_baseline(**asked, actor=fay, at=OCTOBER)  # type: ignore[arg-type]  # one of them is wrong on purpose

    assert refusal.value.field == field


def test_changed_baseline_is_noticed_and_counts_for_nothing(september: None, fay: User, alice: User, client_for: ClientFor) -> None:
    found = services.freeze_baseline(name="Before", period=SEPTEMBER, projected_percent=Decimal(20), actor=fay, at=OCTOBER)
    services.sign_baseline(baseline=found, sha256=found.sha256, actor=alice)
    Baseline.objects.update(figures=[{"model": "large", "calls": 800, "cost_usd": "800"}])
    kept = savings_selectors.in_force()
    assert kept is not None

    page = client_for(fay).get(PAGE)

    assert savings_selectors.savings_against(kept, SEPTEMBER) is None
    assert "changed after it was frozen" in page.content.decode()
    now = datetime(2026, 10, 1, tzinfo=UTC)
    assert metrics.get("costs.saved_percent").read(metrics.Window(now - timedelta(days=30), now)) == metrics.NO_DATA


def test_savings_on_the_page_by_api_and_as_a_metric(
    september: None, fay: User, alice: User, audra: User, client_for: ClientFor, api_for: ClientFor
) -> None:
    today = timezone.now().astimezone(UTC).date()
    used(today, "large", 100, "5")
    body = {"name": "Before", "first": "2026-09-01", "last": "2026-09-30", "projected_percent": "20"}
    empty = client_for(audra).get(PAGE)
    refused = client_for(fay).post(f"{PAGE}new/", {**body, "last": today.isoformat()})
    client_for(fay).post(f"{PAGE}new/", body)
    found = Baseline.objects.get()
    own = client_for(fay).get(PAGE + f"?baseline={found.pk}").content.decode()
    client_for(alice).post(f"{PAGE}{found.pk}/sign/", {"sha256": found.sha256})

    page = client_for(audra).get(PAGE)
    answer = api_for(audra).get("/api/v1/savings/").json()
    reading = metrics.get("costs.saved_percent").read(metrics.Window(timezone.now() - timedelta(hours=1), timezone.now()))
    adjusted = metrics.get("costs.saved_adjusted_percent").read(metrics.Window(timezone.now() - timedelta(hours=1), timezone.now()))

    assert "No baseline yet" in empty.content.decode()
    assert (refused.status_code, "not over yet" in refused.content.decode()) == (422, True)
    assert "waits for a second person" in own
    assert "In force" not in own
    assert (page.context["found"].raw, page.context["found"].adjusted) == (Decimal("3.2"), Decimal(5))
    assert (answer["raw_usd"], answer["adjusted_usd"], answer["mix_usd"], answer["baseline"]["signed_by"]) == (
        "3.2",
        "5",
        "-1.8",
        alice.email,
    )
    assert (round(reading.value or 0, 4), round(adjusted.value or 0, 4), reading.sample) == (39.0244, 50.0, 100)
    assert api_for(fay).post("/api/v1/savings/baselines/", body, content_type="application/json").json()["code"] == "invalid_baseline"
    assert api_for(alice).get("/api/v1/savings/?baseline=999").status_code == 404
