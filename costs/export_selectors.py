"""Rows of the datasets that leave the house, day by day: a month of ten million calls is never in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db import connection
from django.db.models import Sum
from django.utils import timezone

from catalog.models import Project, Provider, VirtualKey
from costs import export_schema as schema
from costs import selectors
from costs.models import UsageHour
from costs.periods import Period
from costs.services import ingest, prices
from governance.models import Tenant
from governance.schema import current_schema


def _class(name: str) -> str:
    return f"'{name}', {ingest.CLASS_TOKENS[name]}, price_ids[{ingest.TOKEN_CLASSES.index(name) + 1}]"


_CHARGES = f"""
SELECT e.provider, e.model, e.upstream_model, e.region, e.project, e.cost_centre, e.agent, e.key_id, v.token_class, p.id, p.price,
    p.service_tier, p.context_over, count(*), sum(v.tokens)::bigint
FROM event e CROSS JOIN LATERAL {ingest.by_class(_class)} v(token_class, tokens, price_id) JOIN {prices.KNOWN_PRICES} p ON p.id = v.price_id
WHERE e.started_at >= %s AND e.started_at < %s AND e.pricing = 'priced' AND v.tokens > 0 {{narrowed}}
GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13
ORDER BY 1, 2, 9, 5, 6, 7, 8, 3, 4, 10
"""  # noqa: S608  # names and expressions of this module only


def names() -> schema.Names:
    tenant = Tenant.objects.get(schema_name=current_schema())
    return schema.Names(
        tenant.public_id,
        tenant.name,
        dict(Provider.objects.values_list("slug", "name")),
        {slug: (name, environment) for slug, name, environment in Project.objects.values_list("slug", "name", "environment")},
        dict(VirtualKey.objects.values_list("public_id", "name")),
    )


def charges(period: Period, chosen: Mapping[str, str]) -> Iterator[schema.Charge]:
    """Priced events of the period by day, price, token class and all that they are tagged with; one query a day."""
    columns = {
        column: "" if chosen[name] == selectors.NONE else chosen[name] for name, column in selectors.FILTERS.items() if chosen.get(name)
    }
    statement = _CHARGES.format(narrowed="".join(f" AND e.{column} = %s" for column in columns))
    for day in period.days:
        one = Period(day, day)
        with connection.cursor() as cursor:
            cursor.execute(statement, [one.start, one.end, *columns.values()])
            found = cursor.fetchall()
        for row in found:
            yield schema.Charge(day, *row)


def focus_rows(period: Period, chosen: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    called = names()
    for charge in charges(period, chosen):
        yield schema.focus_row(charge, called)


def usage_rows(period: Period, chosen: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """The hourly rollup; one query a day."""
    columns = [column.name for column in schema.USAGE.columns]
    fields = ["cost" if name == "cost_usd" else name for name in columns]
    texts = {column.name for column in schema.USAGE.columns if column.kind == "text" and column.nullable}
    for day in period.days:
        one = Period(day, day)
        hours = selectors.only(UsageHour.objects.filter(hour__gte=one.start, hour__lt=one.end), chosen)
        for values in list(hours.order_by("hour", "pk").values_list(*fields)):
            row = dict(zip(columns, values, strict=True))
            if not row["cost_usd"] and row["calls"] == row["unpriced_calls"]:
                row["cost_usd"] = None
            yield row | {name: None for name in texts if not row[name]}


@dataclass(frozen=True)
class Preview:
    """What an export of the period would hold, from the rollup."""

    calls: int
    cost: Decimal
    unpriced_calls: int
    """In no row of `focus`."""
    complete_through: datetime


def preview(period: Period, chosen: Mapping[str, str]) -> Preview:
    hours = selectors.only(UsageHour.objects.filter(hour__gte=period.start, hour__lt=period.end), chosen)
    sums = hours.aggregate(n=Sum("calls", default=0), money=Sum("cost", default=Decimal()), without=Sum("unpriced_calls", default=0))
    return Preview(sums["n"], sums["money"], sums["without"], selectors.complete_through())


PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"
MOST_SERIES = 2_000
"""Of one metric; what comes after the largest is summed under `model="(other)"`."""
_LABELS = ("provider", "model", "project", "cost_centre")


def month_figures(at: datetime | None = None) -> str:
    """Spend, calls and tokens of the present month (UTC) in Prometheus' text format."""
    today = (at or timezone.now()).date()
    period = Period(today.replace(day=1), today)
    classes = ("uncached_input_tokens", "cached_input_tokens", "cache_write_tokens", "output_tokens")
    found = (
        UsageHour.objects.filter(hour__gte=period.start, hour__lt=period.end)
        .values_list(*_LABELS)
        .annotate(money=Sum("cost"), n=Sum("calls"), without=Sum("unpriced_calls"), **{f"n_{name}": Sum(name) for name in classes})
        .order_by("-money", *_LABELS)
    )
    rows = [(tuple(row[: len(_LABELS)]), row[len(_LABELS) :]) for row in found]
    if len(rows) > MOST_SERIES:
        rest = [sum(column) for column in zip(*(figures for _, figures in rows[MOST_SERIES:]), strict=True)]
        rows = [*rows[:MOST_SERIES], (("", "(other)", "", ""), tuple(rest))]
    lines = []
    for index, (metric, about) in enumerate(
        (("spend_usd", "USD over the priced calls"), ("calls", "Calls"), ("unpriced_calls", "Calls whose cost is not known"))
    ):
        lines += [f"# HELP gatehouse_month_{metric} {about}, present month, UTC.", f"# TYPE gatehouse_month_{metric} gauge"]
        lines += [f"gatehouse_month_{metric}{{{_labels(labels)}}} {_number(figures[index])}" for labels, figures in rows]
    lines += ["# HELP gatehouse_month_tokens Tokens by class, present month, UTC.", "# TYPE gatehouse_month_tokens gauge"]
    for labels, figures in rows:
        for name, tokens in zip(ingest.USUAL_CLASSES, figures[3:], strict=True):
            lines.append(f'gatehouse_month_tokens{{{_labels(labels)},token_class="{name}"}} {tokens}')
    lines += [
        "# HELP gatehouse_complete_through_seconds Everything that began before this is counted, Unix time.",
        "# TYPE gatehouse_complete_through_seconds gauge",
        f"gatehouse_complete_through_seconds {selectors.complete_through().timestamp():.3f}",
    ]
    return "\n".join(lines) + "\n"


def _labels(values: tuple[str, ...]) -> str:
    return ",".join(f'{name}="{_escaped(value)}"' for name, value in zip(_LABELS, values, strict=True))


def _number(value: Decimal | int) -> str:
    return f"{value.normalize():f}" if isinstance(value, Decimal) else str(value)


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
