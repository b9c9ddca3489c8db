"""Rows of the datasets that leave the house, day by day: a month of ten million calls is never in memory."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime
from decimal import Decimal, localcontext
from typing import Any

from django.db import connection
from django.db.models import QuerySet, Sum
from django.utils import timezone

from catalog.models import Project, Provider, VirtualKey
from catalog.selectors import current_tenant
from costs import archive_selectors, attribute_days, commitment_selectors, commitments, dimensions, pricing, selectors
from costs import export_schema as schema
from costs.models import AttributeDay, Commitment, CommitmentDay, TokenDay, UsageDay, UsageHour
from costs.models.rollup import known_cost
from costs.periods import Period
from costs.services import prices

_CHARGES = f"""
SELECT e.provider, e.model, e.upstream_model, e.region, e.project, e.cost_centre, e.agent, e.key_id, v.token_class, p.id, p.price,
    p.currency, coalesce(p.quoted, p.price), p.service_tier, p.context_over, count(*), sum(v.tokens)::bigint
FROM {{events}} e CROSS JOIN LATERAL {pricing.by_class(pricing.tokens_and_price_id)} v(token_class, tokens, price_id) JOIN {prices.KNOWN_PRICES} p ON p.id = v.price_id
WHERE e.started_at >= %s AND e.started_at < %s AND e.pricing = 'priced' AND v.tokens > 0 {{narrowed}}
GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
ORDER BY 1, 2, 9, 5, 6, 7, 8, 3, 4, 10
"""  # noqa: S608  # names and expressions of this module only


def names() -> schema.Names:
    tenant = current_tenant()
    return schema.Names(
        tenant.public_id,
        tenant.name,
        dict(Provider.objects.values_list("slug", "name")),
        {slug: (name, environment) for slug, name, environment in Project.objects.values_list("slug", "name", "environment")},
        dict(VirtualKey.objects.values_list("public_id", "name")),
    )


def _charges(day: date, chosen: Mapping[str, str]) -> list[schema.Charge]:
    """Priced events of the day by price, token class and all that they are tagged with; one query, of the archive if need be.

    Raises ArchiveError when its calls were deleted or their file is damaged.
    """
    columns = {
        column: "" if chosen[name] == selectors.NONE else chosen[name] for name, column in selectors.FILTERS.items() if chosen.get(name)
    }
    narrowed = "".join(f" AND e.{column} = %s" for column in columns)
    one = Period(day, day)
    while True:
        with archive_selectors.events_of(day) as events, connection.cursor() as cursor:
            cursor.execute(_CHARGES.format(events=events, narrowed=narrowed), [one.start, one.end, *columns.values()])
            charges = [schema.Charge(day, *row) for row in cursor.fetchall()]
        # Its month may have left while the statement waited for the lock of the drop, and then looks like one without calls.
        if events != "event" or not archive_selectors.has_left(day):
            return charges


def focus_rows(period: Period, chosen: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Priced use, what commitments cover of it at their part of the fee, and, of the whole organisation, their fees and what nobody used."""
    called = names()
    running = list(commitment_selectors.approved_in(period))
    for day in period.days:
        charges = _charges(day, chosen)
        of_day = [one for one in running if one.covers(day)]
        if of_day:
            yield from _with_commitments(day, charges, of_day, called, is_whole=not any(chosen.values()))
        else:
            for charge in charges:
                yield schema.focus_row(charge, called)


def _with_commitments(
    day: date, charges: list[schema.Charge], running: list[Commitment], called: schema.Names, *, is_whole: bool
) -> Iterator[dict[str, Any]]:
    """Rows of a day. Parts of a fee are rounded as they add up, so those of a model sum to what `CommitmentDay` says."""
    under = {
        one.pk: schema.Under(
            one.reference,
            one.get_kind_display(),
            one.provider,
            one.is_throughput,
            one.kind == Commitment.Kind.SPEND,
            one.currency,
            one.per_usd,
        )
        for one in running
    }
    parts = defaultdict[tuple[str, str], list[CommitmentDay]](list)
    idle = dict[int, CommitmentDay]()
    for part in CommitmentDay.objects.filter(day=day, commitment__in=running).order_by("pk"):
        if part.model:
            parts[under[part.commitment_id].provider, part.model].append(part)
        else:
            idle[part.commitment_id] = part
    values = dict[tuple[str, str], Decimal]()
    for provider, model, money in TokenDay.objects.filter(day=day).order_by().values_list("provider", "model").annotate(Sum("cost")):
        values[provider, model] = money
    seen, given = defaultdict[tuple[str, str], Decimal](Decimal), defaultdict[int, Decimal](Decimal)
    with localcontext(commitments.EXACT):
        for charge in charges:
            key, left, calls = (charge.provider, charge.model), Decimal(charge.tokens), charge.calls
            whole = values.get(key)
            seen[key] += charge.cost
            for part in parts[key] if whole else ():
                assert whole is not None
                tokens = min((charge.tokens * part.list_cost / whole).quantize(_FINEST_TOKENS), left)
                effective = (part.cost * seen[key] / whole).quantize(commitments.FINEST) - given[part.pk]
                given[part.pk] += effective
                if tokens or effective:
                    yield schema.covered_row(replace(charge, tokens=tokens, calls=calls), called, under[part.commitment_id], effective)
                    left, calls = left - tokens, 0
            if left:
                yield schema.focus_row(replace(charge, tokens=left if left != charge.tokens else charge.tokens, calls=calls), called)
    if is_whole:
        yield from _fees(day, running, [part for found in parts.values() for part in found], idle, given, under, called)


_FINEST_TOKENS = Decimal("0.0000000001")


def _fees(
    day: date,
    running: list[Commitment],
    parts: list[CommitmentDay],
    idle: Mapping[int, CommitmentDay],
    given: Mapping[int, Decimal],
    under: Mapping[int, schema.Under],
    called: schema.Names,
) -> Iterator[dict[str, Any]]:
    prices = {one.pk: one.unit_price for one in running}
    of_day = defaultdict[int, Decimal](Decimal)
    for part in (*parts, *idle.values()):
        of_day[part.commitment_id] += part.quantity
    for part in parts:
        rest = part.cost - given.get(part.pk, Decimal())
        if rest:  # its calls have no price in the book, or cost nothing there
            yield schema.commitment_row(
                day, under[part.commitment_id], called, what="used", quantity=Decimal(), unit_price=prices[part.commitment_id],
                effective=rest, model=part.model,
            )  # fmt: skip
    for one in running:
        is_counted = one.counted_through is not None and day <= one.counted_through
        bought = one.quantity if is_counted and day == one.first_on else Decimal()
        if one.is_throughput:
            # Of a day that was not over when it was counted, the hours that were.
            is_whole = one.counted_through is not None and day < one.counted_through
            bought = one.quantity * commitments.HOURS if is_whole else of_day.get(one.pk, Decimal())
        if bought and one.kind != Commitment.Kind.SPEND:
            yield schema.commitment_row(
                day, under[one.pk], called, what="purchase", quantity=bought, unit_price=one.unit_price, effective=Decimal()
            )  # fmt: skip
        unused = idle.get(one.pk)
        if unused is not None:
            yield schema.commitment_row(
                day, under[one.pk], called, what="unused", quantity=unused.quantity, unit_price=one.unit_price, effective=unused.cost
            )  # fmt: skip


def usage_rows(period: Period, chosen: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """The hourly rollup; one query a day."""
    environments = dimensions.environments()
    for day in period.days:
        one = Period(day, day)
        hours = selectors.only(UsageHour.objects.filter(hour__gte=one.start, hour__lt=one.end), chosen)
        yield from _rollup_rows(schema.USAGE, hours.order_by("hour", "pk"), environments)


def attribute_rows(period: Period, chosen: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """The days of deployments, regions and the tags that are declared now; one query a day."""
    environments, attributes = dimensions.environments(), [*attribute_days.COLUMNS, *dimensions.declared_tags()]
    for day in period.days:
        days = selectors.only(AttributeDay.objects.filter(day=day, attribute__in=attributes), chosen)
        for row in _rollup_rows(schema.ATTRIBUTES, days.order_by("attribute", "value", "pk"), environments):
            yield row | {"day": Period(day, day).start}


def _rollup_rows(dataset: schema.Dataset, rows: QuerySet[Any], environments: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Rows of a rollup that has the columns of the dataset, all but the environment."""
    columns = [column.name for column in dataset.columns if column.name != "environment"]
    fields = ["cost" if name == "cost_usd" else name for name in columns]
    texts = [column.name for column in dataset.columns if column.kind == "text" and column.nullable]
    for values in list(rows.values_list(*fields)):
        row = dict(zip(columns, values, strict=True))
        row["environment"] = environments.get(row["project"])
        row["cost_usd"] = known_cost(row["cost_usd"], row["unpriced_calls"])
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


def month_figures() -> str:
    """Spend, calls and tokens of the present month (UTC) in Prometheus' text format."""
    today = timezone.now().date()
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
        for name, tokens in zip(pricing.USUAL_CLASSES, figures[3:], strict=True):
            lines.append(f'gatehouse_month_tokens{{{_labels(labels)},token_class="{name}"}} {tokens}')
    lines += _attribute_lines(period)
    lines += [
        "# HELP gatehouse_complete_through_seconds Everything that began before this is counted, Unix time.",
        "# TYPE gatehouse_complete_through_seconds gauge",
        f"gatehouse_complete_through_seconds {selectors.complete_through().timestamp():.3f}",
    ]
    return "\n".join(lines) + "\n"


def _attribute_lines(period: Period) -> list[str]:
    """Spend and calls by environment, deployment, region and declared tag, each of which has every call."""
    environments, names = dimensions.environments(), (*attribute_days.COLUMNS, *dimensions.declared_tags())
    days = UsageDay.objects.filter(dimension__in=("project", *names), day__gte=period.first, day__lte=period.last).order_by()
    sums: dict[tuple[str, str], tuple[Decimal, int]] = defaultdict(lambda: (Decimal(), 0))
    rows = days.values_list("dimension", "value").annotate(money=Sum("cost"), n=Sum("calls")).order_by("-money", "dimension", "value")
    for place, (name, value, money, calls) in enumerate(rows):
        if name == "project":
            labels = (dimensions.ENVIRONMENT, environments.get(value, ""))
        else:
            labels = (name, value if place < MOST_SERIES else attribute_days.OTHER)
        sums[labels] = (sums[labels][0] + money, sums[labels][1] + calls)
    lines = []
    for index, (name, about) in enumerate((("spend_usd", "USD over the priced calls"), ("calls", "Calls"))):
        metric = f"gatehouse_month_attribute_{name}"
        lines += [f"# HELP {metric} {about}, present month, UTC; add up one attribute only.", f"# TYPE {metric} gauge"]
        lines += [f"{metric}{{{_labels(labels, ('attribute', 'value'))}}} {_number(figures[index])}" for labels, figures in sums.items()]
    return lines


def _labels(values: tuple[str, ...], names: tuple[str, ...] = _LABELS) -> str:
    return ",".join(f'{name}="{_escaped(value)}"' for name, value in zip(names, values, strict=True))


def _number(value: Decimal | int) -> str:
    return f"{value.normalize():f}" if isinstance(value, Decimal) else str(value)


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
