"""What providers say by their cost APIs that each UTC day cost: page by page, exact, without rows of ours.

Sources: the references of OpenAI's `GET /v1/organization/costs` and of Anthropic's `GET /v1/organizations/cost_report`. Both give daily
buckets only. OpenAI's amounts are numbers in the currency; Anthropic's are decimal text in its lowest unit (cents), without the
cost of its priority tier. Neither says how many tokens an amount is for.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation
from typing import Any, NoReturn

import httpx2

from costs import focus
from costs.periods import midnight
from gateway.contract.outbound import OutboundError

MOST_PAGES = 500
"""More than a year of days, one by one: what goes on beyond that goes in circles."""
DAYS_A_PAGE = 31
LONGEST_KEY = 200
DIGITS = 32
FINEST = Decimal(1).scaleb(-focus.MOST_DECIMALS)
"""Amounts are rounded to it, half even: the shortest text of a small floating-point number may have more decimals."""
CENT = Decimal("0.01")
OPENAI_CLASSES = {"input": ("Input", "Uncached"), "cached input": ("Input", "Read"), "output": ("Output", "")}
ANTHROPIC_CLASSES = {
    "uncached_input_tokens": ("Input", "Uncached"),
    "cache_read_input_tokens": ("Input", "Read"),
    "cache_creation.ephemeral_1h_input_tokens": ("Input", "Write 1h"),
    "cache_creation.ephemeral_5m_input_tokens": ("Input", "Write"),
    "output_tokens": ("Output", ""),
}


class CostApiFailure(RuntimeError):  # the domain's error of it is `costs.errors.CostApiError`
    """The provider did not answer as documented; the text is for people and names no secret."""


@dataclass(frozen=True)
class Line:
    """One amount of one UTC day."""

    day: date
    key: str
    """Tells it from others of the day, from reading to reading."""
    group: str
    """Project or workspace; empty for the default one."""
    text: str
    model: str
    """The provider's name; of what is not tokens, the text."""
    direction: str
    """`Input`, `Output`, or empty for what is not tokens."""
    cache: str
    amount: Decimal
    currency: str


@dataclass(frozen=True)
class Api:
    """How one provider is asked."""

    title: str
    url: str
    path: str
    headers: Callable[[str], dict[str, str]]
    query: Callable[[date, date], list[tuple[str, str]]]
    lines: Callable[[dict[str, Any]], Iterator[Line]]


def read(kind: str, *, base_url: str, key: str, first: date, last: date, client: httpx2.Client) -> list[Line]:
    """Every amount of the days from `first` to `last`, both included. CostApiFailure when one page of it is not there."""
    api, page, lines = APIS[kind], "", list[Line]()
    root = base_url.rstrip("/").removesuffix("/v1")  # as a provider's address is entered in the catalog, and is in the path already
    for _ in range(MOST_PAGES):
        query = [*api.query(first, last + timedelta(days=1)), *([("page", page)] if page else [])]
        body = _get(client, f"{root}{api.path}", api.headers(key), query)
        try:
            for bucket in body["data"]:
                lines += [line for line in api.lines(bucket) if first <= line.day <= last]
            following = body.get("next_page") if body["has_more"] else None
        except (KeyError, TypeError, ValueError, InvalidOperation, AttributeError) as error:
            raise CostApiFailure("The answer has another form than the reference says.") from error
        if body["has_more"] and (not following or following == page):
            raise CostApiFailure("There is more, but no next page.")
        if not following:
            return lines
        page = str(following)
    raise CostApiFailure(f"There are more than {MOST_PAGES} pages.")


def _get(client: httpx2.Client, url: str, headers: dict[str, str], query: list[tuple[str, str]]) -> dict[str, Any]:
    try:
        response = client.get(url, headers=headers, params=httpx2.QueryParams(tuple(query)))
    except OutboundError as error:
        raise CostApiFailure(f"The address may not be called: {error}.") from error
    except httpx2.HTTPError as error:
        raise CostApiFailure(f"No answer: {type(error).__name__}.") from error
    if response.status_code in (401, 403):
        raise CostApiFailure(f"The key was refused ({response.status_code}). It takes an admin key of the organisation.")
    if response.status_code != 200:
        raise CostApiFailure(f"The provider answered {response.status_code}.")
    try:
        # Amounts may be JSON numbers; as floats they would not be what was sent.
        body = json.loads(response.content, parse_float=Decimal, parse_constant=_no_number)
    except ValueError as error:
        raise CostApiFailure("The answer is no JSON.") from error
    if not isinstance(body, dict):
        raise CostApiFailure("The answer is no JSON object.")
    return body


def _no_number(text: str) -> NoReturn:
    raise ValueError(text)


def _key(*parts: object) -> str:
    """As it comes back from a bill's row: without blanks at the ends. One that is too long ends with a digest of the whole."""
    key = "/".join(str(part or "").strip() for part in parts)
    if len(key) <= LONGEST_KEY:
        return key
    digest = hashlib.sha256(key.encode()).hexdigest()[:DIGITS]
    return f"{key[: LONGEST_KEY - DIGITS - 1]}#{digest}"


def _amount(said: Decimal) -> Decimal:
    return said.quantize(FINEST, ROUND_HALF_EVEN, context=focus.EXACT)


def _openai_query(first: date, end: date) -> list[tuple[str, str]]:
    start, stop = (str(int(midnight(day).timestamp())) for day in (first, end))
    groups = [("group_by", "project_id"), ("group_by", "line_item")]
    return [("start_time", start), ("end_time", stop), ("bucket_width", "1d"), ("limit", str(DAYS_A_PAGE)), *groups]


def _openai_lines(bucket: dict[str, Any]) -> Iterator[Line]:
    day = datetime.fromtimestamp(bucket["start_time"], UTC).date()
    for found in bucket["results"]:
        item, project = found.get("line_item") or "", found.get("project_id") or ""
        model, _, what = item.rpartition(", ")
        direction, cache = OPENAI_CLASSES.get(what.strip().lower(), ("", ""))
        amount = _amount(focus.EXACT.create_decimal(found["amount"]["value"]))
        currency = str(found["amount"]["currency"]).upper()
        yield Line(day, _key(project, item), project, item or "All usage", model if direction else item, direction, cache, amount, currency)


def _anthropic_query(first: date, end: date) -> list[tuple[str, str]]:
    start, stop = (f"{day.isoformat()}T00:00:00Z" for day in (first, end))
    groups = [("group_by[]", "workspace_id"), ("group_by[]", "description")]
    return [("starting_at", start), ("ending_at", stop), ("bucket_width", "1d"), ("limit", str(DAYS_A_PAGE)), *groups]


def _anthropic_lines(bucket: dict[str, Any]) -> Iterator[Line]:
    day = datetime.fromisoformat(bucket["starting_at"]).astimezone(UTC).date()
    for found in bucket["results"]:
        workspace, text = found.get("workspace_id") or "", found.get("description") or found.get("cost_type") or ""
        direction, cache = ANTHROPIC_CLASSES.get(found.get("token_type") or "", ("", ""))
        key = _key(workspace, text, found.get("token_type"), found.get("service_tier"), found.get("context_window"))
        amount = _amount(focus.EXACT.multiply(focus.EXACT.create_decimal(found["amount"]), CENT))
        model = (found.get("model") or "") if direction else text
        yield Line(day, key, workspace, text or "All usage", model, direction, cache, amount, str(found["currency"]).upper())


APIS = {
    "openai": Api(
        "OpenAI",
        "https://api.openai.com",
        "/v1/organization/costs",
        lambda key: {"Authorization": f"Bearer {key}"},
        _openai_query,
        _openai_lines,
    ),
    "anthropic": Api(
        "Anthropic",
        "https://api.anthropic.com",
        "/v1/organizations/cost_report",
        lambda key: {"x-api-key": key, "anthropic-version": "2023-06-01"},
        _anthropic_query,
        _anthropic_lines,
    ),
}
