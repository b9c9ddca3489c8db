"""What versions of a prompt cost: counted with the calls, valued anew with them, seen by whoever may see costs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from importlib import import_module

from django.db import connection
from django.utils import timezone

from catalog.hooks import cost_figures
from catalog.services import prompts
from costs.models import PromptDay
from costs.services import prices
from governance.models import Tenant, User
from tests.conftest import ClientFor
from tests.factories import costs as make

GREETING = [{"role": "user", "content": "Hello"}]


def test_calls_and_money_of_each_version_follow_what_prices_do(acme: Tenant, alice: User) -> None:
    make.prices(alice)  # a call of 1,000 and 200 tokens costs 0.0018 USD
    two, one = {"prompt": "greeting@2"}, {"prompt": "greeting@1"}
    make.record(
        acme,
        make.call(acme, tags=two),
        make.call(acme, tags=two, status="refused", usage_source="none", input_tokens=None, output_tokens=None),
        make.call(acme, tags=two, model="no-price"),
        make.call(acme, tags=two, model="no-price", started_at=timezone.now() - timedelta(days=31)),
        make.call(acme, tags=one, model="no-price"),
        make.call(acme, tags={"prompt": "not-a-version"}),
        make.call(acme, tags={"prompt": "other@2"}),
        make.call(acme, tags=two | {"shadow": "try-it", "shadow_of": "1"}),
        make.call(acme, tags=two | {"shadow_of": "1"}, model="no-price"),
        make.call(acme, tags=two | {"gatehouse.cause": "semantic_cache"}),
        make.call(acme),
    )

    second, first = cost_figures().usage_by_prompt_version("greeting")

    assert (second.version, second.calls, second.refused, second.errors, second.unpriced_calls) == (2, 3, 1, 0, 1)
    assert (second.input_tokens, second.output_tokens) == (2000, 400)
    assert (second.cost_usd, second.cost_per_call_usd) == (Decimal("0.0018"), Decimal("0.0018"))
    assert (first.cost_usd, first.cost_per_call_usd, first.unpriced_calls) == (None, None, 1)  # unknown, not free
    make.prices(alice, input="10", output="0", model="no-price")
    prices.price_unpriced(provider="openai", model="no-price")
    assert [row.cost_usd for row in cost_figures().usage_by_prompt_version("greeting")] == [Decimal("0.0118"), Decimal("0.01")]
    entry = prices.correct_price(
        provider="openai", model="small-chat", token_class="input", price=Decimal(2), valid_from=datetime(2025, 1, 1, tzinfo=UTC),
        actor=alice, source="Invoice",
    )  # fmt: skip
    prices.reprice(entry=entry)
    assert [row.cost_usd for row in cost_figures().usage_by_prompt_version("greeting")] == [Decimal("0.0128"), Decimal("0.01")]
    assert PromptDay.objects.filter(prompt="other").get().cost == Decimal("0.0028")

    kept = set(
        PromptDay.objects.values_list("day", "prompt", "version", "model", "calls", "refused", "input_tokens", "cost", "unpriced_calls")
    )
    PromptDay.objects.filter(model="small-chat").delete()  # as if these calls had come before it was kept
    with connection.cursor() as cursor:
        cursor.execute(import_module("costs.migrations.0024_prompt_days_of_before").FILL)
    assert kept == set(
        PromptDay.objects.values_list("day", "prompt", "version", "model", "calls", "refused", "input_tokens", "cost", "unpriced_calls")
    )


def test_page_and_api_show_it_to_whoever_may_see_costs(
    acme: Tenant, alice: User, bob: User, fay: User, client_for: ClientFor, api_for: ClientFor
) -> None:
    prompts.create_prompt(slug="greeting", name="Greeting", actor=alice, messages=GREETING)
    page = "/o/acme/prompts/greeting/"
    assert "No call has asked for it yet." in client_for(fay).get(page).content.decode()
    make.prices(alice)
    make.record(acme, make.call(acme, tags={"prompt": "greeting@1"}))

    shown, hidden = client_for(fay).get(page).content.decode(), client_for(bob).get(page).content.decode()
    [row] = api_for(fay).get("/api/v1/prompts/greeting/usage/").json()

    assert "Calls, last 30 days" in shown
    assert "$0.0018" in shown
    assert "Calls, last 30 days" not in hidden
    assert (row["version"], row["calls"], Decimal(row["cost_per_call_usd"])) == (1, 1, Decimal("0.0018"))
    assert api_for(bob).get("/api/v1/prompts/greeting/usage/").status_code == 403
