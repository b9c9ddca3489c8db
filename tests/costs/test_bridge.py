"""Causes sum to the difference, whatever the figures."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal, localcontext
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from costs import bridge
from costs.bridge import Apart, BillSide, OtherPrices, OurSide
from governance import money

MONEY = st.decimals(-(10**9), 10**9, places=14, allow_nan=False)
TOKENS = st.integers(0, 10**12)
BILLS = st.builds(
    BillSide,
    amount=MONEY,
    tokens=st.none() | st.decimals(0, 10**12, places=4),
    listed=st.none() | MONEY,
    rows=st.integers(1, 10**5),
    commitment=st.just(Decimal()) | MONEY,
    negotiated=st.just(Decimal()) | MONEY,
    fx=st.just(Decimal()) | MONEY,
)
OURS = TOKENS.flatmap(lambda tokens: st.builds(OurSide, amount=MONEY, tokens=st.just(tokens), unpriced_tokens=st.integers(0, tokens)))
PRICES = st.none() | st.decimals(0, 1000, places=14)
OTHERS = st.none() | st.builds(
    OtherPrices, bands=st.sampled_from([(), (Decimal(1),)]), times=st.sampled_from([(), (Decimal(2),)]), has_changed=st.booleans()
)
LINES = st.lists(
    st.tuples(st.none() | BILLS, st.none() | OURS, PRICES).filter(lambda line: line[0] is not None or line[1] is not None), max_size=8
)


@given(LINES, OTHERS)
def test_sum_of_causes_is_the_difference(
    lines: list[tuple[BillSide | None, OurSide | None, Decimal | None]], others: OtherPrices | None
) -> None:
    with localcontext(bridge._EXACT):
        difference = sum(
            ((bill.amount if bill else Decimal()) - (ours.amount if ours else Decimal()) for bill, ours, _ in lines), Decimal()
        )
        explained = [bridge.explain(*line, others=others) for line in lines]

        causes = bridge.total(explained, sum(bill.rows for bill, _, _ in lines if bill))

        assert sum(causes.values(), Decimal()) == difference
        assert set(causes) <= set(bridge.CAUSES)


@given(st.lists(MONEY, max_size=9), st.integers(-1, 1), st.sampled_from(["USD", "JPY", "KWD"]))
def test_cents_sum_to_the_printed_difference(amounts: list[Decimal], off: int, currency: str) -> None:
    unit = money.subunit(currency)
    whole = bridge.cents(sum(amounts, Decimal()), unit) + off * unit

    shown = bridge.to_cents(amounts, whole, unit)

    assert not amounts or sum(shown, Decimal()) == whole
    assert all(abs(cent - amount) <= 3 * unit for cent, amount in zip(shown, amounts, strict=True))
    assert all(cent == cent.quantize(unit) for cent in shown)


def test_each_fault_alone_has_its_own_name() -> None:
    price = Decimal("0.000002")
    same = OurSide(Decimal("2"), 1_000_000)

    def bill(amount: str, tokens: int = 1_000_000, listed: str | None = "", **fields: Decimal) -> BillSide:
        return BillSide(Decimal(amount), Decimal(tokens), None if listed is None else Decimal(listed or amount), **fields)  # type: ignore[arg-type]  # test shorthand

    assert bridge.explain(bill("2"), same, price) == {}
    assert bridge.explain(bill("3", 1_500_000), same, price) == {"missing_calls": Decimal(1)}
    assert bridge.explain(bill("1", 500_000), same, price) == {"extra_calls": Decimal(-1)}
    assert bridge.explain(bill("2.4"), same, price) == {"price": Decimal("0.4")}
    at_another_rate = bill("2.4").billed(Decimal("2.5"))
    assert bridge.explain(at_another_rate, same, price) == {"price": Decimal("0.4"), "fx": Decimal("0.1")}
    assert bridge.explain(at_another_rate, None, price) == {"bill_only": Decimal("2.4"), "fx": Decimal("0.1")}
    assert bridge.explain(bill("2.004", listed="2"), same, price) == {"rounding": Decimal("0.004")}
    assert bridge.explain(bill("2.3", listed="2"), same, price) == {"unexplained": Decimal("0.3")}
    assert bridge.explain(bill("1.6", listed="2", commitment=Decimal("-0.4")), same, price) == {"commitment": Decimal("-0.4")}
    assert bridge.explain(bill("2"), None, price) == {"bill_only": Decimal(2)}
    assert bridge.explain(None, same, price) == {"telemetry_only": Decimal(-2)}
    assert bridge.explain(None, same, price, is_late=True) == {"late": Decimal(-2)}
    assert bridge.explain(bill("2"), OurSide(Decimal(0), 1_000_000, 1_000_000), None) == {"unpriced": Decimal(2)}
    assert bridge.explain(bill("2"), OurSide(Decimal("1.5"), 1_000_000, 250_000), price) == {"unpriced": Decimal("0.5")}
    assert bridge.explain(BillSide(Decimal(2), None, None), OurSide(Decimal(1), 1), price) == {"unexplained": Decimal(1)}


PARTS = st.lists(
    st.tuples(st.decimals(-(10**12), 10**12, places=4), st.none() | st.sampled_from(bridge.QUANTITY), MONEY, MONEY).map(
        lambda part: Apart({name: amount for name, amount in ((part[1], part[2]), ("price", part[3])) if name and amount}, part[0])
    ),
    max_size=6,
)


@given(PARTS, st.randoms(use_true_random=False))
def test_mix_changes_no_sum_and_follows_no_order(lines: list[Apart], random: Random) -> None:
    shuffled = random.sample(range(len(lines)), len(lines))

    split = bridge.split_mix(lines)

    with localcontext(bridge._EXACT):
        assert [sum(causes.values()) for causes in split] == [sum(line.causes.values()) for line in lines]
        net = sum(line.more for line in lines)
        less = [causes for line, causes in zip(lines, split, strict=True) if line.more * net <= 0 and line.more]
    assert bridge.split_mix([lines[n] for n in shuffled]) == [split[n] for n in shuffled]
    assert net == 0 or not any(name in causes for causes in less for name in bridge.QUANTITY)
    assert len({line.more > 0 for line in lines if line.more}) == 2 or split == [line.causes for line in lines]


@given(st.lists(st.tuples(st.integers(-(10**9), 10**9), PRICES), min_size=1, max_size=6))
def test_volume_is_the_net_tokens_at_the_mean_price_of_the_side_that_has_more(parts: list[tuple[int, Decimal | None]]) -> None:
    priced = [(more, price or Decimal()) for more, price in parts]
    split = bridge.split_mix(
        [
            Apart({"missing_calls" if more > 0 else "extra_calls": more * price} if more * price else {}, Decimal(more))
            for more, price in priced
        ]
    )

    with localcontext(bridge._EXACT):
        net = sum(more for more, _ in priced)
        side = [(more, price) for more, price in priced if more * net > 0]
        mean = sum((more * price for more, price in side), Decimal()) / (sum(more for more, _ in side) or 1)
        volume = sum((amount for causes in split for name, amount in causes.items() if name != "mix"), Decimal())
        assert abs(volume - mean * net) < Decimal("1E-19")


def test_difference_of_prices_is_named_as_far_as_row_and_book_tell_it() -> None:
    price, million = Decimal("0.000002"), 1_000_000
    usual, halved = OurSide(Decimal(2), million), OurSide(Decimal(1), million)
    book = {
        "one": OtherPrices(),
        "band": OtherPrices(bands=(Decimal("0.000001"),)),
        "drift": OtherPrices(times=(Decimal("0.000001"),), has_changed=True),
        "both": OtherPrices(bands=(Decimal("0.000001"),), times=(Decimal("0.000003"),), has_changed=True),
    }

    def found(listed: str, ours: OurSide, others: str, negotiated: str = "0") -> dict[str, Decimal]:
        bill = BillSide(Decimal(listed), Decimal(million), Decimal(listed), negotiated=Decimal(negotiated))
        return bridge.explain(bill, ours, price, others=book[others])

    # The discount of a row is told as far as our book does not have it; what is left is something else.
    assert found("1.5", usual, "one", "-0.5") == {"negotiated": Decimal("-0.5")}
    assert found("1.5", usual, "one", "-0.2") == {"negotiated": Decimal("-0.2"), "price": Decimal("-0.3")}
    assert found("1.5", usual, "one", "-0.9") == {"negotiated": Decimal("-0.5")}
    assert found("2", usual, "one", "-0.5") == {}
    assert found("2.5", usual, "one", "-0.5") == {"price": Decimal("0.5")}
    # The bill has the price of a band, or of another time.
    assert found("1", usual, "band") == {"price_band": Decimal(-1)}
    assert found("1", usual, "drift") == {"book_drift": Decimal(-1)}
    assert found("1.5", usual, "both") == {"price": Decimal("-0.5")}
    # Our calls have it; which of both, nothing tells.
    assert [found("2", halved, others) for others in book] == [
        {name: Decimal(1)} for name in ("price", "price_band", "book_drift", "price")
    ]
    # Both have it.
    assert found("1", halved, "band") == {}


@pytest.mark.parametrize(("through", "is_whole"), [("10-20T00:00", False), ("10-20T23:59:59", True), ("10-21T00:00", True)])
def test_bill_reaches_a_day_once_it_has_all_of_it(through: str, is_whole: bool) -> None:
    assert bridge.reaches(datetime.fromisoformat(f"2026-{through}+00:00"), date(2026, 10, 20)) == is_whole
    assert not bridge.reaches(None, date(2026, 10, 20))


def test_rounding_beyond_the_tolerance_of_focus_is_unexplained() -> None:
    lines = [{"rounding": Decimal("0.005")}] * 400

    assert bridge.total(lines, 400) == {"unexplained": Decimal(2)}
    assert bridge.total(lines[:200], 200) == {"rounding": Decimal(1)}


def test_bars_start_where_the_one_above_ended() -> None:
    shapes, ticks = bridge.bars([Decimal("412.60"), Decimal("268.44"), Decimal("-41.37")])

    assert [round(bar.ends) for bar in shapes[:-1]] == [round(bar.starts) for bar in shapes[1:]]
    assert [bar.adds for bar in shapes] == [True, True, False]
    assert [amount for _, amount in ticks] == [0, 200, 400, 600]


def test_bridge_of_nothing() -> None:
    assert bridge.bars([]) == ([], [(0.0, Decimal(0))])
