"""One's own settings: theme and API tokens."""

from __future__ import annotations

from django.conf import settings
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.urls import reverse

from governance import selectors
from governance.access import or_404, signed_in
from governance.forms import ThemeForm, TokenForm
from governance.pages import render_page
from governance.requests import MemberRequest
from governance.services import tokens


@signed_in()
def me(request: MemberRequest) -> HttpResponse:
    return _page(request, TokenForm())


@signed_in("POST")
def theme(request: MemberRequest) -> HttpResponse:
    form = ThemeForm(request.POST)
    if form.is_valid():
        request.user.theme = form.cleaned_data["theme"]
        request.user.save(update_fields=["theme"])
    return redirect(reverse("me"))


@signed_in("POST")
def create_token(request: MemberRequest) -> HttpResponse:
    form = TokenForm(request.POST)
    if not form.is_valid():
        return _page(request, form, status=422)
    token, text = tokens.create_token(user=request.user, tenant=request.tenant, actor=request.user, **form.cleaned_data)
    response = _page(request, TokenForm(), new_token=token, new_text=text)
    response.headers["Cache-Control"] = "no-store"
    return response


@signed_in("POST")
def revoke_token(request: MemberRequest, public_id: str) -> HttpResponse:
    token = or_404(selectors.tokens_of(request.user, request.tenant).filter(public_id=public_id).first())
    tokens.revoke_token(token=token, actor=request.user)
    messages.success(request, f"{token.name} revoked. It is refused from now on.")
    return redirect(reverse("me"))


def _page(request: MemberRequest, form: TokenForm, status: int = 200, **extra: object) -> HttpResponse:
    return render_page(
        request,
        "governance/me.html",
        status=status,
        context={
            "form": form,
            "tokens": selectors.tokens_of(request.user, request.tenant),
            "base_url": settings.BASE_URL,
            **extra,
        },
    )
