"""A model's usage: requests, tokens, cost, latency, errors and cache hits by project, agent, key or provider."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse, HttpResponseBase, QueryDict
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.utils import timezone

from catalog import model_tabs
from catalog import selectors as catalog_selectors
from catalog.models import Model
from costs import charts, periods, selectors
from costs import model_usage as usage
from governance import csvs
from governance.access import Permission, requires
from governance.pages import render_page
from governance.requests import MemberRequest

CSV_HEADER = ("{bucket}", "{group}", "calls", "refused", "failed", "unpriced_calls", "input_tokens", "output_tokens", "cost_usd", "left")


@requires(Permission.VIEW)
def model_usage(request: MemberRequest, slug: str) -> HttpResponse:
    """Of the organisation for who may see its costs; of one's own keys for everybody else."""
    model, keys = _find(request, slug), _keys(request)
    span, group, chosen = _asked(request)
    measure = request.GET.get("measure", "")
    found = usage.model_usage(slug, span, group, chosen, measure=measure if measure in usage.MEASURES else "calls", keys=keys)
    choices = usage.filter_choices(slug, keys=keys)
    return render_page(
        request,
        "costs/model_usage.html",
        partial="model-usage",
        context={
            "model": model,
            "tab": "usage",
            "tabs": model_tabs.tabs_for(request.membership, model),
            "usage": found,
            "chosen": chosen,
            "filters": [
                (name, label, _with_chosen(choices[name], name, chosen), chosen.get(name, "")) for name, label in usage.GROUPS.items()
            ],
            "outcomes": {"": "all", **usage.OUTCOMES},
            "spans": periods.SPANS,
            "groups": usage.GROUPS,
            "group_label": usage.GROUPS[group],
            "measures": usage.MEASURES,
            "measure_label": usage.MEASURES[found.measure],
            "is_own": keys is not None,
            "has_keys": bool(keys),
            "url": reverse("model-usage", args=[slug]),
            "csv_url": reverse("model-usage-csv", args=[slug]),
            "query": request.GET.urlencode(),
            "lines": [(line, _requests_query(found, {**chosen, group: line.value})) for line in found.lines],
            "errors": [
                (error, _requests_query(found, {**chosen, "outcome": ""}, status=error.status, code=error.code)) for error in found.errors
            ],
            "requests_url": reverse("requests" if keys is not None else "costs-requests"),
            "requests_query": _requests_query(found, chosen),
            **_chart(request, found),
        },
    )


@requires(Permission.VIEW)
def model_usage_csv(request: MemberRequest, slug: str) -> HttpResponseBase:
    """The present filter by hour or day and group."""
    _find(request, slug)
    span, group, chosen = _asked(request)
    header = [title.format(group=group, bucket="hour_utc" if span.is_by_hour else "day_utc") for title in CSV_HEADER]
    rows = usage.usage_by_bucket(slug, span, group, chosen, keys=_keys(request))
    return csvs.response(request, f"{slug.replace('/', '-')}-{span.days.first}-{span.days.last}-by-{group}.csv", header, rows)


def _find(request: MemberRequest, slug: str) -> Model:
    return get_object_or_404(catalog_selectors.models_visible_to(request.membership), slug=slug)


def _keys(request: MemberRequest) -> list[str] | None:
    return None if selectors.sees_all_calls(request.membership) else selectors.own_keys(request.user)


def _asked(request: MemberRequest) -> tuple[periods.Span, str, dict[str, str]]:
    group = request.GET.get("group", "")
    chosen = {name: request.GET[name] for name in usage.GROUPS if request.GET.get(name)}
    if request.GET.get("outcome", "") in usage.OUTCOMES:
        chosen["outcome"] = request.GET["outcome"]
    return periods.span_from_query(request.GET, timezone.now()), group if group in usage.GROUPS else "project", chosen


def _with_chosen(choices: dict[str, str], name: str, chosen: dict[str, str]) -> dict[str, str]:
    """A filter that a link brought stays, also when the last 90 days have no call of it."""
    value = chosen.get(name)
    return {"": "all", **choices, **({value: value} if value and value not in choices else {})}


STATUS_OF = {"ok": "ok", "refused": "refused", "error": "errors"}
"""Of the list of requests, by outcome."""


def _requests_query(found: usage.ModelUsage, chosen: dict[str, str], *, status: str = "", code: str = "") -> str:
    """The same calls in the list of requests, which knows whole days."""
    query = QueryDict(mutable=True)
    days = found.span.days
    query.update({"model": found.model, "from": days.first.isoformat(), "to": days.last.isoformat()})
    query.update({name: value for name, value in chosen.items() if value and name != "outcome"})
    for name, value in (("status", status or STATUS_OF.get(chosen.get("outcome", ""), "")), ("code", code)):
        if value:
            query[name] = value
    return query.urlencode()


def _chart(request: MemberRequest, found: usage.ModelUsage) -> dict[str, Any]:
    """The figure, or with `view=table` its rows."""
    lines = sorted(found.lines, key=lambda line: -usage.measured(line.figures, found.measure))
    shown = [(line.value, line.label) for line in lines if usage.measured(line.figures, found.measure)]
    series = charts.top_series(found.span.buckets, shown, found.by_bucket)
    if request.GET.get("view") == "table":
        rows = [
            (bucket, [one.values[index] for one in series], sum(value for one in series if (value := one.values[index]) is not None))
            for index, bucket in reversed(list(enumerate(found.span.buckets)))
            if bucket in found.by_bucket
        ]
        return {"series": series, "as_table": True, "bucket_rows": rows}
    now = timezone.now()
    current = max((bucket for bucket in found.span.buckets if bucket <= now), default=found.span.start)
    is_current = found.span.end > now
    label = f"{usage.MEASURES[found.measure]} by {usage.GROUPS[found.group].lower()}, {found.span.label}"
    return {
        "series": series,
        "figure": charts.stacked_bars(
            found.span.buckets,
            series,
            current if is_current else found.span.end,
            is_money=found.measure == "cost",
            is_by_hour=found.span.is_by_hour,
        ),
        "figure_label": f"{label}, in US dollars" if found.measure == "cost" else label,
    }
