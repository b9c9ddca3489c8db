"""Verdicts, rules and figures in words, the same on pages, in the log and in the API."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from governance.templatetags.gatehouse import duration, money_text
from rollouts import signing
from rollouts.rules import BADNESS, Verdict

WORDS = {"pass": "pass", "waived": "waived", "inconclusive": "inconclusive", "no_data": "no data", "error": "error", "fail": "fail"}
OPERATORS = {"<": "<", "<=": "≤", ">": ">", ">=": "≥", "=": "="}


def short(digest: str) -> str:
    """`a91e…07d4`"""
    return f"{digest[:4]}…{digest[-4:]}" if len(digest) > 8 else digest


def figure(value: float | None, unit: str) -> str:
    """A value with its unit: `53.8 ms`, `91.4%`, `12,400`, `6 min 40 s`."""
    if value is None:
        return "—"
    if unit == "ms":
        return f"{value:.1f} ms" if 10 <= value < 1000 and value % 1 else str(duration(value))
    if unit == "s":
        return (
            str(duration(value * 1000))
            if value < 60 or value % 60
            else (f"{value / 60:.0f} min" if value < 3600 or value % 3600 else f"{value / 3600:.0f} h")
        )
    if unit == "USD":
        return money_text(Decimal(str(value)))
    number = f"{value:,.2f}".rstrip("0").rstrip(".").replace("-", "−")
    return {"%": f"{number}%", "pp": f"{number} pp", "h": f"{number} h", "days": f"{number} days"}.get(unit, number)


def interval(reading: Mapping[str, Any] | None, unit: str) -> str:
    """`51.9 to 55.6`, or nothing for an exact figure."""
    if not reading or reading["low"] is None or reading["high"] is None or reading["low"] == reading["high"]:
        return ""
    low, high = reading["low"], reading["high"]
    if unit in ("USD", "s") or max(abs(low), abs(high)) >= 10_000:  # the unit stands with the value, unless it differs along the way
        return f"{figure(low, unit)} to {figure(high, unit)}"
    return f"{low:,.4g} to {high:,.4g}".replace("-", "−")


def rule(operator: str, threshold: float | None, unit: str) -> str:
    """`< 50 ms`"""
    return f"{OPERATORS[operator]} {figure(threshold, unit)}"


def over(given: Mapping[str, Any] | None, statistics: Mapping[str, Any] | None = None) -> str:
    """`median of the organisations`, `share of the 5 organisations with < 3%`: how a cohort's figures are taken together."""
    if given is None:
        return ""
    many = f"the {statistics['organisations']} organisations" if statistics else "the organisations"
    if given["aggregate"] in ("median", "sum"):
        return f"{given['aggregate']} of {many}"
    what = "share" if given["aggregate"] == "share" else "number"
    return f"{what} of {many} with {given['metric']} {OPERATORS[given['operator']]} {given['threshold']:g}"


def window(hours: int | None) -> str:
    """`7 days`, `36 hours`"""
    if hours is None:
        return ""
    if hours % 24:
        return f"{hours} hours"
    days = hours // 24
    return f"{days} day{'s' if days != 1 else ''}"


def sample(reading: Mapping[str, Any] | None, minimum: int) -> str:
    """`138 of 200` while too few, else `4,100,000 seen`."""
    count = reading["sample"] if reading else 0
    return f"{count:,} of {minimum:,}" if count < minimum else f"{count:,} seen"


def tally(records: Iterable[Mapping[str, Any]]) -> str:
    """`7 pass, 1 fail`, best first."""
    counts = Counter(record["verdict"] for record in records)
    return ", ".join(f"{counts[verdict]} {WORDS[verdict]}" for verdict in Verdict if counts[verdict])


def counts(records: Iterable[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Verdicts that occur, with their tally text: pass first, as in the header of a gate."""
    found = Counter(record["verdict"] for record in records)
    order = [Verdict.PASS, Verdict.FAIL, Verdict.ERROR, Verdict.INCONCLUSIVE, Verdict.NO_DATA, Verdict.WAIVED]
    return [(str(verdict), f"{found[verdict]} {WORDS[verdict]}") for verdict in order if found[verdict]]


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def gate_sentence(records: Iterable[Mapping[str, Any]], *, is_ready: bool) -> str:
    """`Not ready: 1 criterion fails, 2 cannot be judged yet`"""
    deciding = [record for record in records if record["severity"] != "observe"]
    found = Counter(record["verdict"] for record in deciding)
    if is_ready:
        waived = f", {found['waived']} of them waived" if found["waived"] else ""
        return f"Ready: {'the one criterion holds' if len(deciding) == 1 else f'all {len(deciding)} criteria hold'}{waived}"
    parts = []
    if found["fail"]:
        parts.append(_count(found["fail"], "criterion fails", "criteria fail"))
    if found["error"]:
        parts.append(
            _count(found["error"], "could not be read", "could not be read")
            if parts
            else _count(found["error"], "criterion could not be read", "criteria could not be read")
        )
    unknown = found["inconclusive"] + found["no_data"]
    if unknown:
        parts.append(
            f"{unknown} can't be judged yet" if parts else _count(unknown, "criterion can't be judged yet", "criteria can't be judged yet")
        )
    return f"Not ready: {', '.join(parts)}" if parts else "Not ready: no criterion decides"


def shown_value(record: Mapping[str, Any]) -> str:
    """What stands in the value column of a record."""
    if record["kind"] == "metric":
        return figure(record["reading"]["value"], record["rule"]["unit"])
    stated = record["attestation"]
    return "—" if stated is None else stated["summary"] or ("Met" if stated["met"] else "Not met")


def changes(before: Iterable[Mapping[str, Any]], after: Iterable[Mapping[str, Any]]) -> str:
    """One sentence per criterion whose verdict changed."""
    old = {record["key"]: record for record in before}
    sentences = []
    for record in after:
        earlier = old.get(record["key"])
        if earlier is None or earlier["verdict"] == record["verdict"]:
            continue
        figures = ""
        if record["kind"] == "metric":
            was, now = shown_value(earlier), shown_value(record)
            figures = (
                f" ({was} to {now}, rule {rule(record['rule']['operator'], record['rule']['threshold'], record['rule']['unit'])})"
                if was != now
                else f" ({now})"
            )
        sentences.append(f"{record['title']}: {WORDS[earlier['verdict']]} to {WORDS[record['verdict']]}{figures}.")
    return " ".join(sentences) or "The rules of the gate changed."


def worst_first(records: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Worst first; what only is observed comes last."""
    return sorted(records, key=lambda record: (record["severity"] == "observe", -BADNESS[Verdict(record["verdict"])]))


def next_step(record: Mapping[str, Any]) -> str:
    """What would turn this criterion: for “To open this gate” and the board's blocker."""
    verdict = record["verdict"]
    if record["kind"] == "attestation":
        who = signing.label(record["role"])
        return (
            f"{record['title']}: {who} attested that it is not met" if verdict == "fail" else f"{record['title']}: {who} has to attest it"
        )
    measured = record["rule"]
    limit = rule(measured["operator"], measured["threshold"], measured["unit"])
    if verdict == "fail":
        return f"Bring {record['title']} to {limit}; it is {shown_value(record)}"
    if verdict == "error":
        return f"{record['title']}: {record['reason']}"
    if verdict == "no_data":
        return (
            f"{record['title']}: {record['reason']} in {window(measured['window_hours'])}"
            if "window" not in record["reason"]
            else f"{record['title']}: nothing measured in {window(measured['window_hours'])}"
        )
    missing = measured["minimum_sample"] - record["reading"]["sample"]
    if missing > 0:
        return f"{record['title']}: {missing:,} more observations"
    return f"{record['title']}: {record['reason']}"


def blocker(record: Mapping[str, Any]) -> str:
    """Short, for the board: `Gateway overhead 53.8 ms, limit < 50 ms`."""
    if record["kind"] == "metric" and record["verdict"] in ("fail", "inconclusive"):
        return f"{record['title']} {shown_value(record)}, rule {rule(record['rule']['operator'], record['rule']['threshold'], record['rule']['unit'])}"
    return f"{record['title']}: {WORDS[record['verdict']]}"


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)
