"""The price book."""

from __future__ import annotations

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils import timezone

from costs import price_selectors
from costs.forms import PriceForm
from costs.models import ServiceTier
from costs.services import prices
from governance.access import Permission, requires
from governance.pages import render_page, try_service
from governance.requests import MemberRequest


@requires(Permission.VIEW_COSTS, "GET", "POST")
def price_book(request: MemberRequest) -> HttpResponse:
    """What a token cost on which day; a POST adds a price."""
    may_manage = request.membership.can(Permission.MANAGE_COSTS)
    query, status = request.GET.get("q", "").strip(), 200
    if request.method == "POST":
        if not may_manage:
            raise PermissionDenied(f"This needs the right to: {Permission.MANAGE_COSTS.label.lower()}.")
        form = PriceForm(request.POST)
        if form.is_valid() and (entry := try_service(form, lambda: prices.set_price(actor=request.user, **form.cleaned_data))):
            messages.success(
                request,
                f"{entry.token_class.replace('_', ' ').capitalize()} of {entry.model} costs {entry.price.normalize():f} USD per 1M from {entry.valid_from:%b %-d, %Y %H:%M} UTC.",
            )
            return redirect(reverse("price-book"))
        status = 422
    else:
        form = PriceForm(initial={name: request.GET[name] for name in ("provider", "model", "token_class") if name in request.GET})
    return render_page(
        request,
        "costs/price_book.html",
        partial="price-table",
        status=status,
        context={
            "book": price_selectors.price_book(query),
            "unpriced": price_selectors.unpriced(),
            "usual_tiers": [ServiceTier.STANDARD],
            "form": form,
            "may_manage": may_manage,
            "query": query,
            "now": timezone.now(),
            "waiting": price_selectors.price_proposal_counts().get("waiting", 0),
        },
    )
