"""The split of an excess by its causes."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from costs import drivers
from costs.drivers import Figures

money = st.decimals(min_value="0.000001", max_value="1000000", places=6)
positive = st.floats(min_value=0.001, max_value=1e9)


@settings(max_examples=80, deadline=None)
@given(money, money, positive, positive, positive, positive, st.floats(min_value=0.1, max_value=10))
def test_parts_sum_exactly(expected: Decimal, actual: Decimal, calls: float, tokens: float, now: float, used: float, price: float) -> None:
    parts = drivers.split(
        expected=expected, actual=actual, before=Figures(10, calls, tokens), after=Figures(float(actual), now, used), price_ratio=price
    )

    assert sum(amount for _, amount in parts) == actual - expected
    assert [name for name, _ in parts] == list(drivers.NAMES)


def test_each_cause_alone_takes_all_of_it() -> None:
    before = Figures(cost=280, calls=2800, tokens=2_800_000)  # 28 days of 10 USD
    thrice_the_calls = drivers.split(expected=Decimal(10), actual=Decimal(30), before=before, after=Figures(30, 300, 300_000))
    longer_prompts = drivers.split(expected=Decimal(10), actual=Decimal(30), before=before, after=Figures(30, 100, 300_000))
    dearer_model = drivers.split(expected=Decimal(10), actual=Decimal(30), before=before, after=Figures(30, 100, 100_000))
    new_price = drivers.split(expected=Decimal(10), actual=Decimal(30), before=before, after=Figures(30, 100, 100_000), price_ratio=3)

    found = [dict(parts) for parts in (thrice_the_calls, longer_prompts, dearer_model, new_price)]
    assert [max(parts, key=lambda name: parts[name]) for parts in found] == list(drivers.NAMES)
    assert all(max(parts.values()) == 20 for parts in found)


def test_what_has_no_ratio_is_calls() -> None:
    begun = drivers.split(expected=Decimal(0), actual=Decimal(7), before=Figures(0, 0, 0), after=Figures(7, 3, 900))
    gone = drivers.split(expected=Decimal(7), actual=Decimal(0), before=Figures(70, 30, 9000), after=Figures(0, 0, 0))

    assert dict(begun)["calls"] == 7
    assert dict(gone)["calls"] == -7
