"""Exchange rates: reading files of them, and which one holds for a day. Pure.

A rate says how many units of a currency one US dollar is worth (`per_usd`), because the price book and all of our money are in USD.
"""

from __future__ import annotations

import csv
import io
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import ROUND_HALF_EVEN, Context, Decimal, InvalidOperation

from costs.errors import ExchangeRateError

BOOK = "USD"
"""The currency of the price book, of calls and of every page of spend."""
CURRENCIES = frozenset(
    """AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BGN BHD BIF BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF CLP CNY COP CRC CUP CVE
    CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GNF GTQ GYD HKD HNL HTG HUF IDR ILS INR IQD IRR ISK JMD JOD JPY KES
    KGS KHR KMF KPW KRW KWD KYD KZT LAK LBP LKR LRD LSL LYD MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR
    NZD OMR PAB PEN PGK PHP PKR PLN PYG QAR RON RSD RUB RWF SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TND
    TOP TRY TTD TWD TZS UAH UGX USD UYU UZS VED VES VND VUV WST XAF XCD XCG XOF XPF YER ZAR ZMW ZWG""".split()  # noqa: SIM905  # a line for each says no more
)
"""ISO 4217, money of states."""
REACH = timedelta(days=7)
"""Markets close on weekends and holidays: a day without a rate has that of the last one this long before. What is older says nothing."""
COLUMNS = ("day", "currency", "per_usd")
MOST_ROWS = 20_000
LARGEST_FILE = 2 * 1024 * 1024
HIGHEST = Decimal(10) ** 8
DECIMALS = 6
"""With the 14 of what calls cost, an amount in another currency has just the 20 that the database keeps: it stays exact."""
FINEST = Decimal(1).scaleb(-DECIMALS)
MOST_ERRORS = 10
EARLIEST = date(2015, 1, 1)
_EXACT = Context(prec=60)


@dataclass(frozen=True, order=True)
class Rate:
    """What a dollar is worth on a day."""

    currency: str
    day: date
    per_usd: Decimal


def check(rate: Rate, today: date) -> None:
    """ExchangeRateError when it cannot be one."""
    if rate.currency == BOOK:
        raise ExchangeRateError("A dollar is always a dollar: USD needs no rate.", field="currency")
    if rate.currency not in CURRENCIES:
        raise ExchangeRateError(f"{rate.currency[:12] or 'Nothing'} is no currency of ISO 4217.", field="currency")
    if not EARLIEST <= rate.day <= today:
        raise ExchangeRateError(f"A rate is of a day from {EARLIEST:%Y} to today.", field="day")
    if not rate.per_usd.is_finite() or not 0 < rate.per_usd < HIGHEST or rate.per_usd != round(rate.per_usd, DECIMALS):
        raise ExchangeRateError(f"A rate is more than 0 and has {DECIMALS} decimals at most.", field="per_usd")


def read(content: bytes, today: date) -> list[Rate]:
    """The rows of a CSV whose first line names COLUMNS. ExchangeRateError names the first lines that are wrong; then none is taken."""
    if len(content) > LARGEST_FILE:
        raise ExchangeRateError(f"A file of rates may have {LARGEST_FILE // 1024**2} MB.", field="file")
    try:
        reader = csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True)
        missing = [name for name in COLUMNS if name not in (reader.fieldnames or [])]
        if missing:
            raise ExchangeRateError(f"The first line does not name {', '.join(missing)}.", field="file")
        rows = list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise ExchangeRateError(f"This is not a CSV in UTF-8: {error}.", field="file") from error
    if not rows:
        raise ExchangeRateError("The file has no row.", field="file")
    if len(rows) > MOST_ROWS:
        raise ExchangeRateError(f"A file may have {MOST_ROWS:,} rows.", field="file")
    found: dict[tuple[str, date], Rate] = {}
    wrong = []
    for line, row in enumerate(rows, 2):
        try:
            rate = _rate({name: str(row.get(name) or "").strip() for name in COLUMNS})
            check(rate, today)
            if (rate.currency, rate.day) in found:
                raise ExchangeRateError("stands twice")
            found[rate.currency, rate.day] = rate
        except ExchangeRateError as error:
            wrong.append(f"line {line}: {error.message.rstrip('.')}")
    if wrong:
        more = f" And {len(wrong) - MOST_ERRORS} more." if len(wrong) > MOST_ERRORS else ""
        raise ExchangeRateError(f"Nothing was taken. {'; '.join(wrong[:MOST_ERRORS])}.{more}", field="file")
    return list(found.values())


def _rate(row: dict[str, str]) -> Rate:
    try:
        day = date.fromisoformat(row["day"])
    except ValueError as error:
        raise ExchangeRateError(f"{row['day'][:20] or 'nothing'} is no day") from error
    try:
        return Rate(row["currency"].upper(), day, Decimal(row["per_usd"]))
    except InvalidOperation as error:
        raise ExchangeRateError(f"{row['per_usd'][:20] or 'nothing'} is no rate") from error


def read_reference(content: bytes) -> list[Rate]:
    """Rates per dollar from the reference rates of the European Central Bank, which are per euro. ExchangeRateError.

    Shape: `eurofxref-daily.xml` and `eurofxref-hist-90d.xml`, elements `Cube` with `time` around elements `Cube` with `currency` and `rate`.
    A day without a dollar rate is left out: nothing could be told from it.
    """
    if b"<!DOCTYPE" in content or b"<!ENTITY" in content:
        raise ExchangeRateError("The answer declares entities: reference rates do not.")
    try:
        root = ET.fromstring(content)  # noqa: S314  # no entities, see above; the client limits its size
        found = []
        for cube in root.iter():
            if (day := cube.get("time")) is not None:
                per_euro = {str(one.get("currency")): Decimal(str(one.get("rate"))) for one in cube}
                found += _per_dollar(date.fromisoformat(day), per_euro)
    except (ET.ParseError, ValueError, InvalidOperation) as error:
        raise ExchangeRateError(f"The answer is not the reference rates of the ECB: {error}.") from error
    if not found:
        raise ExchangeRateError("The answer has no rate of the dollar.")
    return found


def _per_dollar(day: date, per_euro: dict[str, Decimal]) -> list[Rate]:
    dollars = per_euro.pop(BOOK, None)
    if dollars is None or not dollars > 0:
        return []
    per_euro["EUR"] = Decimal(1)
    return [
        Rate(currency, day, _EXACT.divide(units, dollars).quantize(FINEST, ROUND_HALF_EVEN, context=_EXACT))
        for currency, units in sorted(per_euro.items())
        if currency in CURRENCIES and units > 0
    ]


@dataclass(frozen=True)
class Missing:
    """Days of a currency that no rate is known for."""

    currency: str
    first: date
    last: date


class Rates:
    """Rates that hold, by currency and day."""

    def __init__(self, rates: Iterable[Rate]) -> None:
        self._found: dict[str, dict[date, Decimal]] = {}
        for rate in rates:
            self._found.setdefault(rate.currency, {})[rate.day] = rate.per_usd

    def of(self, currency: str, day: date) -> Rate | None:
        """The rate of the day, or of the last day with one within REACH before it; None is unknown, and never 1."""
        if currency == BOOK:
            return Rate(BOOK, day, Decimal(1))
        days = self._found.get(currency, {})
        for back in range(REACH.days + 1):
            at = day - timedelta(days=back)
            if at in days:
                return Rate(currency, at, days[at])
        return None


def spans(missing: Iterable[tuple[str, date]]) -> list[Missing]:
    """Days without a rate, those one after the other together."""
    found: list[Missing] = []
    for currency, day in sorted(set(missing)):
        if found and found[-1].currency == currency and found[-1].last + timedelta(days=1) == day:
            found[-1] = Missing(currency, found[-1].first, day)
        else:
            found.append(Missing(currency, day, day))
    return found


def told(missing: Sequence[Missing]) -> str:
    """For people: `EUR for 2026-10-01 to 2026-10-09; EUR for 2026-10-20`."""
    parts = []
    for one in missing[:5]:
        days = f"{one.first:%Y-%m-%d}" if one.first == one.last else f"{one.first:%Y-%m-%d} to {one.last:%Y-%m-%d}"
        parts.append(f"{one.currency} for {days}")
    more = f" and {len(missing) - 5} more spans" if len(missing) > 5 else ""
    return "; ".join(parts) + more
