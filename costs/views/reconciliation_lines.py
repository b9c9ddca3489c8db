"""A revision down to its lines, a line down to its charges, and what a revision changed."""

from __future__ import annotations

from datetime import date
from typing import Any

from django.http import Http404, HttpResponse, HttpResponseBase

from costs import bill_selectors, bridge, reconciliation_selectors
from costs.models import TokenClass
from costs.views.reconciliation import LINE_FILTERS, asked
from governance import csvs
from governance.access import Permission, requires
from governance.pages import keyset_page, render_page
from governance.requests import MemberRequest


@requires(Permission.VIEW_COSTS)
def lines(request: MemberRequest, provider: str, account: str, month: date) -> HttpResponse:
    """Every compared line: matched, only on one side, or how it differs."""
    series, revision = asked(request, provider, account, month)
    chosen = {name: value for name in LINE_FILTERS if (value := request.GET.get(name, ""))}
    sort = request.GET.get("sort", "")
    order = reconciliation_selectors.SORTS.get(sort, reconciliation_selectors.SORTS["difference"])
    context: dict[str, Any] = {
        "series": series,
        "revision": revision,
        "is_latest": revision.pk == series.latest_id,
        "page": keyset_page(reconciliation_selectors.lines(revision, chosen), order=order, cursor=request.GET.get("cursor", "")),
        "standings": reconciliation_selectors.standings(revision, chosen),
        "labels": reconciliation_selectors.STANDINGS,
        "chosen": chosen,
        "sort": sort if sort in reconciliation_selectors.SORTS else "difference",
        "sorts": {"difference": "largest difference", "key": "model and day"},
        "causes": {"": "any cause", **{name: bridge.CAUSES[name] for cause in revision.causes for name in [cause["cause"]]}},
        "models": {"": "all", **{name: name or "No model" for name in reconciliation_selectors.models_of(revision)}},
        "classes": {"": "all", **dict(TokenClass.choices)},
        "provider_name": bill_selectors.provider_choices().get(provider, provider),
        "query": request.GET.urlencode(),
    }
    return render_page(request, "costs/reconciliation_lines.html", partial="lines", context=context)


@requires(Permission.VIEW_COSTS)
def line(request: MemberRequest, provider: str, account: str, month: date, pk: int) -> HttpResponse:
    """One line: the arithmetic, the charges of the bill, our days, and the prices."""
    series = bill_selectors.reconciliation(provider, account, month)
    found = reconciliation_selectors.line(series, pk) if series else None
    if series is None or found is None:
        raise Http404
    rows = reconciliation_selectors.bill_rows(found)
    context: dict[str, Any] = {
        "series": series,
        "revision": found.revision,
        "line": found,
        "standing": reconciliation_selectors.STANDINGS[found.standing],  # type: ignore[attr-defined]  # annotated
        "causes": reconciliation_selectors.causes_of(found),
        "period": reconciliation_selectors.period_of(found),
        "page": keyset_page(rows, order=["-billed_cost", "pk"], cursor=request.GET.get("cursor", "")),
        "rows_now": rows.count(),
        "days": reconciliation_selectors.our_days(found),
        "prices": reconciliation_selectors.prices_of(found),
        "provider_name": bill_selectors.provider_choices().get(provider, provider),
    }
    return render_page(request, "costs/reconciliation_line.html", partial="charges", context=context)


@requires(Permission.VIEW_COSTS)
def changes(request: MemberRequest, provider: str, account: str, month: date) -> HttpResponse:
    """What a revision says otherwise than an earlier one (`?against=`, default the one before)."""
    series, found = _restatement(request, provider, account, month)
    context: dict[str, Any] = {
        "series": series,
        "found": found,
        "shown": found.lines[:SHOWN] if found else [],
        "revisions": list(series.revisions.order_by("-number").values_list("number", flat=True)[:100]),
        "provider_name": bill_selectors.provider_choices().get(provider, provider),
        "query": request.GET.urlencode(),
    }
    return render_page(request, "costs/reconciliation_changes.html", partial="changes", context=context)


@requires(Permission.VIEW_COSTS)
def changes_csv(request: MemberRequest, provider: str, account: str, month: date) -> HttpResponseBase:
    """Every key that changed, exact."""
    _, found = _restatement(request, provider, account, month)
    if found is None:
        raise Http404
    header = (
        "model",
        "token_class",
        "day_utc",
        *(
            f"{what}{'' if 'tokens' in what else f'_{side.currency.lower()}'}_rev{side.number}"
            for what in ("bill", "telemetry", "bill_tokens", "telemetry_tokens")
            for side in (found.before, found.after)
        ),
        f"late_{found.currency.lower()}",
    )
    rows = (
        (
            one.model,
            one.token_class,
            one.day,
            *(
                None if side is None else getattr(side, column)
                for column in ("bill", "telemetry", "bill_tokens", "telemetry_tokens")
                for side in (one.before, one.after)
            ),
            one.late,
        )
        for one in found.lines
    )
    name = f"changes-{provider}-{month:%Y-%m}-rev{found.before.number}-to-{found.after.number}.csv"
    return csvs.response(request, name, header, rows)


SHOWN = 200
"""Changes on the page; all of them are in the CSV."""


def _restatement(
    request: MemberRequest, provider: str, account: str, month: date
) -> tuple[Any, reconciliation_selectors.Restatement | None]:
    """None when there is nothing earlier to compare with."""
    series, after = asked(request, provider, account, month)
    wanted = request.GET.get("against", "")
    before = reconciliation_selectors.revision(series, wanted) if wanted else reconciliation_selectors.revision_before(after)
    if before is None:
        if wanted:
            raise Http404
        return series, None
    if before.number > after.number:
        before, after = after, before
    return series, reconciliation_selectors.restatement(series, before, after)
