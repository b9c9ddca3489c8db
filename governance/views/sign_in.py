"""Signing in and choosing an organisation."""

from __future__ import annotations

from django.contrib.auth import login as start_session
from django.contrib.auth import logout as end_session
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils.http import url_has_allowed_host_and_scheme

from governance import selectors
from governance.access import public, signed_in
from governance.errors import SignInError
from governance.forms import SignInForm
from governance.pages import render_page
from governance.requests import AppRequest
from governance.services.sign_in import check_password


@public("GET", "POST")
def login(request: AppRequest) -> HttpResponse:
    """The same text for a wrong password and an unknown address; after ten failures of an address, a pause."""
    form, status = SignInForm(request.POST or None), 200
    target = request.POST.get("next") or request.GET.get("next") or "/"
    if not url_has_allowed_host_and_scheme(target, allowed_hosts={request.get_host()}, require_https=request.is_secure()):
        target = "/"
    if request.method == "POST":
        status = 422
        if form.is_valid():
            try:
                start_session(request, check_password(**form.cleaned_data))
                return redirect(target)
            except SignInError as error:
                form.add_error(None, error.message)
                status = 422 if error.status == 401 else error.status
    return render_page(request, "governance/login.html", context={"form": form, "next": target}, status=status)


@public("POST")
def logout(request: AppRequest) -> HttpResponse:
    end_session(request)
    return redirect("/login/")


@signed_in()
def choose(request: AppRequest) -> HttpResponse:
    """Where the person belongs. With one organisation (and no platform role) there is nothing to choose."""
    memberships = list(selectors.memberships_of(request.user))
    if len(memberships) == 1 and not request.user.is_operator:
        return redirect(memberships[0].tenant.path)
    if not memberships and request.user.is_operator:
        return redirect("/platform/tenants/")
    return render_page(request, "governance/choose.html", context={"mine": memberships})
