"""What narrows a list of calls: said once, and asked of the database and of archived files alike."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from django.db.models import BooleanField, F, Func, Q, QuerySet, TextField, Value
from django.db.models.fields.json import KeyTextTransform
from django.db.models.functions import Coalesce
from django.db.models.lookups import Exact

from costs import attribute_days, dimensions, selectors
from costs.models import Event
from costs.models.event import has_request_id
from costs.periods import Period
from gateway.contract import tags as contract_tags

_GROUPS_OF_STATUSES = {"failed": ("ok",), "errors": ("ok", "refused")}
"""Not these."""


@dataclass(frozen=True)
class Is:
    """A text column that has, or has not, one of some values."""

    column: str
    values: tuple[str, ...]
    is_not: bool = False


@dataclass(frozen=True)
class Lacks:
    """A required tag, as a regular expression of its name, that was missing or had a value that it may not have."""

    tag: str


@dataclass(frozen=True)
class Carries:
    """A tag of the call's own, with its value; empty: none."""

    tag: str
    value: str


Condition = Is | Lacks | Carries


def conditions(chosen: Mapping[str, str]) -> list[Condition] | None:
    """As the query string says; `status` may also be `failed`, everything that is not ok, or `errors`, that without refusals.

    None where no call can fit.
    """
    found = _of_dimensions(chosen)
    if found is None:
        return None
    status = chosen.get("status", "")
    if status in _GROUPS_OF_STATUSES:
        found.append(Is("status", _GROUPS_OF_STATUSES[status], is_not=True))
    elif status in selectors.STATUSES:
        found.append(Is("status", (status,)))
    if chosen.get("code"):
        found.append(Is("error_code", (chosen["code"],)))
    if chosen.get("pricing") == "unpriced":
        found.append(Is("pricing", ("unpriced",)))
    if chosen.get("q"):
        found.append(Is("request_id", (chosen["q"].strip(),)))
    if tag := chosen.get("tag"):
        if tag != selectors.ANY and not contract_tags.NAME.fullmatch(tag):
            return None
        found.append(Lacks("[A-Za-z0-9_.-]+" if tag == selectors.ANY else re.escape(tag)))
    return found


def _of_dimensions(chosen: Mapping[str, str]) -> list[Condition] | None:
    found: list[Condition] = []
    for name, value in chosen.items():
        if not value:
            continue
        its = "" if value == selectors.NONE else value
        if name in attribute_days.COLUMNS or name in selectors.FILTERS:
            found.append(Is(selectors.FILTERS.get(name, name), (its,)))
        elif dimensions.is_tag(name):
            found.append(Carries(name.removeprefix(attribute_days.TAG), its))
        elif name == dimensions.ENVIRONMENT:
            slugs = tuple(slug for slug, own in dimensions.environments().items() if its in ("", own))
            if its and not slugs:
                return None
            found.append(Is("project", slugs, is_not=not its))
    return found


def filter_events(events: QuerySet[Event], chosen: Mapping[str, str], period: Period | None = None) -> QuerySet[Event]:
    """Narrow calls in the database by `conditions`, and to those that began in the period."""
    asked = conditions(chosen)
    if asked is None:
        return events.none()
    for one in asked:
        if isinstance(one, Lacks):
            events = events.filter(_lacks(one))
        elif isinstance(one, Carries):
            events = events.filter(
                Exact(Coalesce(KeyTextTransform(one.tag, "tags"), Value(""), output_field=TextField()), Value(one.value))
            )
        else:
            if one.column == "request_id":
                has = has_request_id(one.values[0])
            else:
                has = Q(**{one.column: one.values[0]}) if len(one.values) == 1 else Q(**{f"{one.column}__in": one.values})
            events = events.filter(~has if one.is_not else has)
    return events if period is None else events.filter(started_at__gte=period.start, started_at__lt=period.end)


def _lacks(one: Lacks) -> Func:
    pattern = json.dumps(f"(^| ){one.tag}=(missing|not_allowed)( |$)")  # a string in a JSON path is written like one in JSON
    path = f'strict $[*] ? (@[0] == "{contract_tags.STEP}" && @[3] like_regex {pattern})'
    return Func(F("steps"), Value(path), template="jsonb_path_exists(%(expressions)s::jsonpath)", output_field=BooleanField())


def of_file(asked: list[Condition]) -> tuple[str, dict[str, object]]:
    """The same as a condition of DuckDB on an archived file, with its parameters; a text there is as `event` had it."""
    terms, parameters = ["true"], dict[str, object]()
    for index, one in enumerate(asked):
        name = f"asked_{index}"
        if isinstance(one, Lacks):
            # As PostgreSQL writes the JSON of a step. A quote within a text would have a backslash before it.
            parameters[name] = rf'\["{contract_tags.STEP}", "[^"]*", [0-9]+, "([^"]* )?{one.tag}=(missing|not_allowed)[ "]'
            terms.append(f"regexp_matches(steps, ${name})")
        elif isinstance(one, Carries):
            parameters[name], parameters[f"{name}_value"] = f'$."{one.tag}"', one.value
            terms.append(f"coalesce(json_extract_string(tags, ${name}), '') = ${name}_value")
        else:
            parameters[name] = list(one.values)
            terms.append(f"{'NOT ' if one.is_not else ''}list_contains(${name}, {one.column})")
    return " AND ".join(terms), parameters
