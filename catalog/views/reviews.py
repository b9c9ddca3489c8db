"""What waits for approval, over all models; deciding and asking again. A model's own are a tab of its page."""

from __future__ import annotations

from django import forms
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse

from catalog import review_selectors
from catalog.models import ModelReview
from catalog.services import reviews as services
from governance.access import Permission, requires
from governance.pages import keyset_page, render_page, try_act
from governance.requests import MemberRequest

STATUSES = {"waiting": "Waiting", "all": "All"}


class DecisionForm(forms.Form):
    decision = forms.ChoiceField(choices=[("approve", "Approve"), ("return", "Return")])
    comment = forms.CharField(max_length=200, required=False)


@requires(Permission.VIEW_OPERATE)
def model_reviews(request: MemberRequest) -> HttpResponse:
    """Those that wait, or with `?status=all` the decided ones too; newest first."""
    status = request.GET.get("status") if request.GET.get("status") in STATUSES else "waiting"
    rows = review_selectors.reviews() if status == "all" else review_selectors.waiting()
    context = {
        "page": keyset_page(rows, order=["-pk"], cursor=request.GET.get("cursor", "")),
        "status": status,
        "statuses": STATUSES,
    }
    return render_page(request, "catalog/model_reviews.html", partial="review-table", context=context)


@requires(Permission.APPROVE_MODELS, "POST")
def review_decide(request: MemberRequest, pk: int) -> HttpResponse:
    """Approve exactly this, or send it back with a reason; whoever asked withdraws it."""
    review, form = _find(pk), DecisionForm(request.POST)
    if not form.is_valid():
        messages.error(request, "Choose to approve or to return; a comment has at most 200 characters.")
    else:
        approves, comment = form.cleaned_data["decision"] == "approve", form.cleaned_data["comment"]
        act = services.approve if approves else services.send_back
        done = "approved. The gateway has it within about 2 s." if approves else "sent back."
        try_act(request, lambda: act(review=review, actor=request.user, comment=comment), f"{review}: {done}")
    return _back(review)


@requires(Permission.MANAGE_CATALOG, "POST")
def review_again(request: MemberRequest, pk: int) -> HttpResponse:
    """Ask for the same of the model as it is now."""
    review = _find(pk)
    try_act(request, lambda: services.ask_again(review=review, actor=request.user), f"{review}: asked for as it is now.")
    return _back(review)


def _find(pk: int) -> ModelReview:
    return get_object_or_404(review_selectors.reviews(), pk=pk)


def _back(review: ModelReview) -> HttpResponse:
    return redirect(f"{reverse('model-detail', args=[review.model.slug])}?tab=approval")
