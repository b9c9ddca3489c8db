"""Exchange rates: what holds, what waits for a second person, and how they come in."""

from __future__ import annotations

import re
from datetime import date
from typing import Any

from django.contrib import messages
from django.http import Http404, HttpResponse, HttpResponseBase
from django.shortcuts import redirect
from django.urls import reverse
from django.utils import timezone

from costs import exchange, exchange_selectors
from costs.converters import MonthConverter
from costs.forms import ExchangeRateForm, RateFileForm
from costs.models import RateSheet
from costs.services import exchange_rates
from governance import csvs
from governance.access import Permission, requires
from governance.pages import keyset_page, render_page, try_act, try_service
from governance.requests import MemberRequest


@requires(Permission.VIEW_COSTS)
def rate_list(request: MemberRequest) -> HttpResponse:
    return _page(request, ExchangeRateForm(initial={name: request.GET[name] for name in ("currency", "day") if name in request.GET}))


def _page(request: MemberRequest, form: ExchangeRateForm, file_form: RateFileForm | None = None, status: int = 200) -> HttpResponse:
    chosen, month = _asked(request)
    page = keyset_page(
        exchange_selectors.exchange_rates(currency=chosen["currency"], month=month),
        order=["-day", "currency", "pk"],
        cursor=request.GET.get("cursor", ""),
    )
    known = exchange_selectors.currencies()
    context: dict[str, Any] = {
        "page": page,
        "chosen": chosen,
        "is_narrowed": any(chosen.values()),
        "currencies": {"": "all", **{code: code for code in known}},
        "waiting": [(one, one.sheet.proposed_by_id == request.user.pk) for one in exchange_selectors.waiting_sheets()],
        "form": form,
        "file_form": file_form or RateFileForm(),
        "may_manage": request.membership.can(Permission.MANAGE_COSTS),
        "feed_host": exchange_rates.reference_host(),
        "reach_days": exchange.REACH.days,
    }
    return render_page(request, "costs/exchange_rates.html", partial="rates", status=status, context=context)


def _asked(request: MemberRequest) -> tuple[dict[str, str], date | None]:
    chosen = {"currency": request.GET.get("currency", "").strip().upper()[:3], "month": request.GET.get("month", "").strip()}
    month = date.fromisoformat(f"{chosen['month']}-01") if re.fullmatch(MonthConverter.regex, chosen["month"]) else None
    return chosen | {"month": f"{month:%Y-%m}" if month else ""}, month


@requires(Permission.MANAGE_COSTS, "POST")
def rate_new(request: MemberRequest) -> HttpResponse:
    """Enter one rate."""
    form = ExchangeRateForm(request.POST)
    if form.is_valid():
        given = form.cleaned_data
        rate = exchange.Rate(given["currency"], given["day"], given["per_usd"])
        sheet = try_service(form, lambda: exchange_rates.propose_rates(rates=[rate], source=given["source"], actor=request.user))
        if sheet is not None:
            return _waits(request, sheet)
    return _page(request, form, status=422)


@requires(Permission.MANAGE_COSTS, "POST")
def rate_upload(request: MemberRequest) -> HttpResponse:
    """Enter the rates of a file."""
    form = RateFileForm(request.POST, request.FILES)
    if form.is_valid():
        file, source = form.cleaned_data["file"], form.cleaned_data["source"]

        def act() -> RateSheet:
            rates = exchange.read(file.read(exchange.LARGEST_FILE + 1), timezone.now().date())
            return exchange_rates.propose_rates(rates=rates, source=source, actor=request.user, kind=RateSheet.Kind.FILE)

        sheet = try_service(form, act)
        if sheet is not None:
            return _waits(request, sheet)
    return _page(request, ExchangeRateForm(), form, status=422)


def _waits(request: MemberRequest, sheet: RateSheet) -> HttpResponse:
    same = f" {sheet.unchanged:,} hold already." if sheet.unchanged else ""
    messages.success(request, f"{sheet}: {sheet.count:,} rate{'s' * (sheet.count != 1)} to be approved by somebody else.{same}")
    return redirect(reverse("exchange-rates"))


@requires(Permission.MANAGE_COSTS, "POST")
def rate_decide(request: MemberRequest, pk: int) -> HttpResponse:
    """Approve rates, or reject them (one's own: withdraw)."""
    sheet, act = exchange_selectors.rate_sheet(pk), request.POST.get("act", "")
    if sheet is None or act not in ("approve", "reject"):
        raise Http404
    if act == "approve":
        try_act(request, lambda: exchange_rates.approve_rates(sheet=sheet, actor=request.user), f"{sheet}: the rates hold.")
    else:
        reason = request.POST.get("reason", "")
        try_act(
            request,
            lambda: exchange_rates.reject_rates(sheet=sheet, actor=request.user, reason=reason),
            f"{sheet}: the rates are taken away.",
        )
    return redirect(reverse("exchange-rates"))


@requires(Permission.VIEW_COSTS)
def rates_csv(request: MemberRequest) -> HttpResponseBase:
    """The rates that hold, narrowed like the page, in the shape of an upload."""
    chosen, month = _asked(request)
    found = exchange_selectors.exchange_rates(currency=chosen["currency"], month=month)
    rows = ((rate.day, rate.currency, rate.per_usd, rate.sheet.source) for rate in found.iterator(chunk_size=2000))
    return csvs.response(request, "exchange-rates.csv", (*exchange.COLUMNS, "source"), rows)
