"""Proposed prices: a diff against the book, decided row by row."""

from __future__ import annotations

from collections import Counter
from typing import Any

from django.contrib import messages
from django.http import HttpResponse, HttpResponseBase
from django.shortcuts import redirect
from django.urls import reverse
from django.utils import timezone

from costs import price_selectors, price_sheets
from costs.forms import DiscountForm, PriceSheetForm
from costs.models import SERIES, PriceEntry, PriceProposal
from costs.services import price_feed, price_proposals
from governance import csvs
from governance.access import Permission, requires
from governance.errors import DomainError
from governance.pages import keyset_page, render_page, try_service
from governance.requests import MemberRequest

MOST_AT_ONCE = 200
TOLD = 5
"""Refusals, each in words; of the others it is said how many they are."""


@requires(Permission.VIEW_COSTS)
def proposals(request: MemberRequest) -> HttpResponse:
    return _page(request, PriceSheetForm(), DiscountForm())


def _page(request: MemberRequest, sheet: PriceSheetForm, discount: DiscountForm, status: int = 200) -> HttpResponse:
    chosen = request.GET.get("status", PriceProposal.Status.WAITING)
    chosen = chosen if chosen in PriceProposal.Status.values else PriceProposal.Status.WAITING
    counts = price_selectors.price_proposal_counts()
    unpriced = {(row.provider, row.model): row.calls for row in price_selectors.unpriced() if row.can_have_price}
    page = keyset_page(price_selectors.price_proposals(chosen), order=["-sheet_id", "pk"], cursor=request.GET.get("cursor", ""))
    context: dict[str, Any] = {
        "page": page,
        "rows": [(row, unpriced.get((row.provider, row.model), 0), row.sheet.proposed_by_id == request.user.pk) for row in page.rows],
        "tabs": [(value, label, counts.get(value, 0)) for value, label in PriceProposal.Status.choices],
        "chosen": chosen,
        "sheet_form": sheet,
        "discount_form": discount,
        "may_manage": request.membership.can(Permission.MANAGE_COSTS),
        "feed": price_selectors.last_feed_reading(),
    }
    return render_page(request, "costs/price_proposals.html", partial="proposals", status=status, context=context)


@requires(Permission.MANAGE_COSTS, "POST")
def upload(request: MemberRequest) -> HttpResponse:
    """Propose the prices of a sheet."""
    form = PriceSheetForm(request.POST, request.FILES)
    if form.is_valid():
        file, now = form.cleaned_data["file"], timezone.now()

        def act() -> Any:
            known = price_selectors.priceable()
            offers = price_sheets.read(
                file.read(price_sheets.LARGEST_FILE + 1),
                providers=known.providers,
                models=known.models,
                now=now,
            )
            return price_proposals.propose(offers=offers, name=file.name, note=form.cleaned_data["note"], actor=request.user, at=now)

        sheet = try_service(form, act)
        if sheet is not None:
            messages.success(
                request,
                f"{sheet.proposals.count():,} prices are proposed, {sheet.unchanged:,} were in force already. Somebody else decides.",
            )
            return redirect(reverse("price-proposals"))
    return _page(request, form, DiscountForm(), status=422)


@requires(Permission.MANAGE_COSTS, "POST")
def discount(request: MemberRequest) -> HttpResponse:
    """Propose a negotiated discount on prices in force."""
    form = DiscountForm(request.POST)
    if form.is_valid() and (sheet := try_service(form, lambda: price_proposals.propose_discount(actor=request.user, **form.cleaned_data))):
        messages.success(request, f"{sheet}: {sheet.proposals.count():,} prices are proposed. Somebody else decides.")
        return redirect(reverse("price-proposals"))
    return _page(request, PriceSheetForm(), form, status=422)


@requires(Permission.MANAGE_COSTS, "POST")
def read_feed(request: MemberRequest) -> HttpResponse:
    """Propose what list prices say otherwise than the book."""
    try:
        sheet = price_feed.propose_listed(actor=request.user)
    except DomainError as error:
        messages.error(request, error.message)
    else:
        count = sheet.proposals.count()
        proposed = f"{count:,} prices are proposed, somebody else decides" if count else "nothing new is proposed"
        said = f"{proposed}; {sheet.unchanged:,} are as in the book, {len(sheet.unknown):,} deployment{'s' * (len(sheet.unknown) != 1)} without a list price."
        messages.success(request, f"{sheet.name}: {said}")
    return redirect(reverse("price-proposals"))


@requires(Permission.MANAGE_COSTS, "POST")
def decide(request: MemberRequest) -> HttpResponse:
    """Approve or reject the chosen rows; what cannot be decided is said, the others are."""
    chosen = [int(text) for text in request.POST.getlist("proposal")[:MOST_AT_ONCE] if text.isdecimal() and len(text) < 16]
    approve, refused = request.POST.get("decision") == "approve", []
    done: Counter[str] = Counter()
    for proposal in price_selectors.price_proposals().filter(pk__in=chosen):
        try:
            if approve:
                decided = price_proposals.approve(proposal=proposal, actor=request.user)
            else:
                decided = price_proposals.reject(proposal=proposal, actor=request.user, reason=request.POST.get("reason", ""))
            done["in force" if approve else decided.get_status_display().lower()] += 1
        except DomainError as error:
            refused.append(f"{proposal}: {error.message}")
    if done:
        messages.success(request, ", ".join(f"{count:,} {outcome}" for outcome, count in done.items()) + ".")
    for text in refused[:TOLD]:
        messages.error(request, text)
    if len(refused) > TOLD:
        messages.error(request, f"And {len(refused) - TOLD:,} more that can't be decided so.")
    if not chosen:
        messages.error(request, "Choose rows first.")
    return redirect(reverse("price-proposals"))


@requires(Permission.VIEW_COSTS)
def price_book_csv(request: MemberRequest) -> HttpResponseBase:
    """The prices in force as a sheet that can be changed and proposed again."""
    now = timezone.now()
    rows = (
        (
            entry.provider,
            entry.model,
            entry.token_class,
            entry.price if entry.quote is None else "",
            "",
            entry.source,
            "",
            entry.service_tier,
            entry.region,
            entry.context_over,
            entry.currency,
            entry.quoted,
        )
        for entry in PriceEntry.objects.order_by(*SERIES, "valid_from")
        if entry.covers(now)
    )
    return csvs.response(request, f"prices-{now:%Y-%m-%d}.csv", price_sheets.COLUMNS, rows)
