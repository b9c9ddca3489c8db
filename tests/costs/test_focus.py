"""Reading FOCUS files: lenient in form, strict in figures."""

from __future__ import annotations

import io
from dataclasses import replace
from decimal import Decimal

import pytest

from costs import focus
from costs.errors import BillFormatError

HEADER = "BilledCost,BillingCurrency,BillingAccountId,BillingPeriodStart,BillingPeriodEnd,ChargeCategory,ChargePeriodStart,ChargePeriodEnd,SkuMeter,ConsumedQuantity,ConsumedUnit"
GOOD = "1.50,USD,acct,2026-10-01,2026-11-01,Usage,2026-10-05T00:00:00Z,2026-10-06T00:00:00Z,Input Tokens,1000,Tokens"


def read(text: str | bytes) -> list[focus.Row | focus.Rejected]:
    return list(focus.Reader(io.BytesIO(text if isinstance(text, bytes) else text.encode())))


def one(line: str) -> focus.Row | focus.Rejected:
    (row,) = read(f"{HEADER}\n{line}\n")
    return row


def test_row_is_read() -> None:
    row = one(GOOD)

    assert isinstance(row, focus.Row)
    assert (row.billed_cost, row.tokens, row.token_class, str(row.day), str(row.month)) == (
        Decimal("1.50"),
        Decimal(1000),
        "input",
        "2026-10-05",
        "2026-10-01",
    )


@pytest.mark.parametrize(
    "text",
    [
        b"\xef\xbb\xbf" + f"{HEADER}\r\n{GOOD}\r\n".encode(),
        ('"' + HEADER.replace(",", '","') + '"\n"' + GOOD.replace(",", '","') + '"').encode(),
    ],
)
def test_byte_order_mark_quotes_and_line_ends_do_not_matter(text: bytes) -> None:
    (row,) = read(text)

    assert isinstance(row, focus.Row)


@pytest.mark.parametrize("word", ["NULL", "null", "", "  "])
def test_the_word_null_is_nothing(word: str) -> None:
    row = one(GOOD.replace("Input Tokens,1000,Tokens", f"{word},{word},{word}"))

    assert isinstance(row, focus.Row)
    assert row.tokens is None
    assert not row.is_ai


@pytest.mark.parametrize(
    ("cost", "message"),
    [
        ("1e309", "out of range"),
        ("NaN", "not a decimal"),
        ("Infinity", "not a decimal"),
        ("1,5", "columns"),
        ("", "empty"),
        ("=1+1", "not a decimal"),
        ("1_000", "not a decimal"),
        ("١", "not a decimal"),
        ("0." + "0" * 20 + "1", "decimals"),
        ("$5", "not a decimal"),
        ("1\x00", "not text"),
    ],
)
def test_cost_that_is_no_plain_decimal_rejects_its_row(cost: str, message: str) -> None:
    row = one(GOOD.replace("1.50", cost, 1))

    assert isinstance(row, focus.Rejected)
    assert message in row.message


@pytest.mark.parametrize(
    ("old", "new", "column"),
    [
        ("Usage", "Gift", "ChargeCategory"),
        ("2026-10-06T00:00:00Z", "2026-10-04", "ChargePeriodEnd"),
        ("2026-10-05T00:00:00Z", "yesterday", "ChargePeriodStart"),
        ("USD", "dollars", "BillingCurrency"),
        ("acct", "", "BillingAccountId"),
        ("2026-10-05T00:00:00Z", "0001-01-01", "ChargePeriodStart"),
    ],
)
def test_rejection_names_the_column(old: str, new: str, column: str) -> None:
    row = one(GOOD.replace(old, new))

    assert isinstance(row, focus.Rejected)
    assert row.column == column
    assert row.billed_cost == Decimal("1.50")


def test_truncated_last_line_is_rejected_and_the_rest_read() -> None:
    rows = read(f"{HEADER}\n{GOOD}\n{GOOD[:40]}")

    assert [type(row) for row in rows] == [focus.Row, focus.Rejected]


def test_bytes_that_are_no_text_reject_their_row_only() -> None:
    rows = read(HEADER.encode() + b"\n" + GOOD.encode().replace(b"acct", b"ac\xff\xfe") + b"\n" + GOOD.encode())

    assert [type(row) for row in rows] == [focus.Rejected, focus.Row]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a;b;c\n1;2;3", "semicolons"),
        (HEADER.replace(",", "\t"), "tabs"),
        ("name,age\nx,1", "not a FOCUS file"),
        (HEADER.replace("BilledCost,", "") + "\n", "lacks columns"),
        (b"\xff\xfeB\x00", "UTF-16"),
        (b"PK\x03\x04", "compressed"),
        (HEADER + ",BilledCost\n", "stands twice"),
        ("\n\n", "not a FOCUS file"),
    ],
)
def test_file_that_is_no_focus_csv_says_why(text: str | bytes, message: str) -> None:
    with pytest.raises(BillFormatError, match=message):
        read(text)


@pytest.mark.parametrize(
    ("columns", "version"),
    [
        (["ProviderName"], "1.0"),
        (["ProviderName", "SkuMeter"], "1.1"),
        (["ProviderName", "InvoiceId"], "1.2"),
        (["ProviderName", "ServiceProviderName"], "1.3"),
        (["ServiceProviderName"], "1.4"),
        (["ServiceProviderName", "CredentialId"], "1.5 draft"),
    ],
)
def test_version_is_recognised_by_columns(columns: list[str], version: str) -> None:
    assert focus.version(columns) == version


@pytest.mark.parametrize(
    ("details", "text", "expected"),
    [
        ({"TokenDirection": "Input", "TokenCacheAction": "Read"}, "", "cached_input"),
        ({"TokenDirection": "Input", "TokenCacheAction": "Uncached"}, "", "input"),
        ({"TokenDirection": "Output"}, "", "output"),
        ({}, "gpt 4o 0513 Input global Tokens", "input"),
        ({}, "gpt-4o-cached-Inp-glbl Tokens", "cached_input"),
        ({}, "USE1-Claude-cache-write-input-token-count", "cache_write"),
        ({}, "Cache Read Input Tokens", "cached_input"),
        ({}, "Output Tokens", "output"),
        ({}, "Load balancer hours", ""),
        ({"TokenDirection": "Output"}, "gpt-4o-audio Audio Output Tokens", "audio_output"),
        ({"TokenDirection": "Input", "TokenCacheAction": "Write 1h"}, "", "cache_write_1h"),
        ({"x_TokenClass": "file_search"}, "", "file_search"),
        ({}, "Gemini Image Input Tokens", "image_input"),
        ({}, "Claude Web Search requests", "web_search"),
        ({}, "text-embedding-3-large Tokens embedding", "input"),
    ],
)
def test_token_class(details: dict[str, object], text: str, expected: str) -> None:
    assert focus.classify(details, (text,), False) == expected


@pytest.mark.parametrize(
    ("values", "tokens"),
    [
        ({"ConsumedQuantity": "500000.0", "ConsumedUnit": "Tokens"}, "500000"),
        ({"PricingQuantity": "0.5", "PricingUnit": "1000000 Tokens"}, "500000"),
        ({"PricingQuantity": "2", "PricingUnit": "1K Tokens"}, "2000"),
        ({"PricingQuantity": "2", "PricingUnit": "1M tokens"}, "2000000"),
        ({"ConsumedQuantity": "7", "ConsumedUnit": "Requests"}, None),
        ({"ConsumedQuantity": "7", "ConsumedUnit": "Token-Hours"}, None),
    ],
)
def test_tokens_from_units(values: dict[str, str], tokens: str | None) -> None:
    assert focus.quantity(values)[0] == (None if tokens is None else Decimal(tokens))


def test_model_is_found_by_its_longest_known_name() -> None:
    row = one(GOOD.replace("Input Tokens", "gpt 4o mini 0513 Input global Tokens"))
    assert isinstance(row, focus.Row)

    assert focus.find_model(row, {"gpt-4o": "big", "gpt-4o-mini": "small"}) == "small"


def test_equal_rows_have_one_fingerprint_whatever_the_order_of_columns() -> None:
    first, second = one(GOOD), one(GOOD)
    names, cells = HEADER.split(","), GOOD.split(",")
    (turned,) = read(",".join(reversed(names)) + "\n" + ",".join(reversed(cells)))

    assert isinstance(first, focus.Row)
    assert isinstance(second, focus.Row)
    assert isinstance(turned, focus.Row)
    assert first.fingerprint("a") == second.fingerprint("a") == turned.fingerprint("a") != first.fingerprint("b")


DEEP = '{"a":' * 300 + "1" + "}" * 300


def test_figures_times_and_objects_have_one_fingerprint_however_they_are_written() -> None:
    plain = {"BilledCost": "5.00", "ListCost": "-0.00", "x_CostInUsd": "8e-07", "ChargePeriodStart": "2026-10-01 00:00:00", "SkuId": "5.00"}
    plain |= {"Tags": '{"a": "1", "b": "2"}', "AllocatedMethodDetails": '[{"a": 1}, 2]', "x_Details": DEEP}
    plain |= {"x_BillingExchangeRate": "1.0", "x_BillingExchangeRateDate": "2026-11-01", "x_PricingBlockSize": "1000000.0"}
    plain |= {"x_CostCentre": "007", "x_Batch": "1E5", "x_SkuMeter": "2026-11-01"}
    first = one(GOOD)
    assert isinstance(first, focus.Row)

    def written(**other: str) -> str:
        return replace(first, values=plain | other).fingerprint("a")

    same = [
        {"BilledCost": "5", "ListCost": "0"},
        {"Tags": '{"b":"2","a":"1"}'},
        {"x_CostInUsd": "0.00000080"},
        {"ChargePeriodStart": "2026-10-01T02:00:00+02:00"},
        {"AllocatedMethodDetails": '[{"a":1},2]'},
        {"x_BillingExchangeRate": "1", "x_BillingExchangeRateDate": "2026-11-01T00:00:00Z", "x_PricingBlockSize": "1e+06"},
    ]
    others = [
        {"BilledCost": "5.01"},
        {"x_CostInUsd": "n/a"},
        {"ChargePeriodStart": "2026-10-01T02:00:00Z"},
        {"SkuId": "5"},
        {"Tags": "{}"},
        {"Tags": "{"},
        {"AllocatedMethodDetails": '[2,{"a":1}]'},
        {"x_Details": DEEP.replace("1", "2")},
        {"x_BillingExchangeRate": "1.1"},
        {"x_BillingExchangeRateDate": "2026-11-02"},
        {"x_BillingExchangeRateDate": "2026-11-31"},
        {"x_CostCentre": "7"},
        {"x_Batch": "100000"},
        {"x_SkuMeter": "2026-11-01T00:00:00Z"},
    ]
    assert {written(**other) for other in same} == {written()}
    assert len({written(), *(written(**other) for other in others)}) == 1 + len(others)


def test_long_texts_are_brought_into_one_form_and_not_kept_in_memory() -> None:
    row = one(GOOD)
    assert isinstance(row, focus.Row)
    focus._plain_object.cache_clear()

    def written(tags: str) -> str:
        return replace(row, values={"Tags": tags}).fingerprint("a")

    long = "x" * 600
    assert written(f'{{"a": "{long}", "b": "1"}}') == written(f'{{"b":"1","a":"{long}"}}')
    assert focus._plain_object.cache_info().currsize == 0
