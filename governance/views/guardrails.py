"""Guardrails: what they look for, what they found, and a box to try them in."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse

from gateway.contract import presidio
from governance import control_selectors as selectors
from governance.access import Permission, or_404, requires
from governance.control_forms import USUAL_SCORE, GuardrailForm, TryForm
from governance.models import Guardrail
from governance.pages import keyset_page, render_page, try_service
from governance.requests import MemberRequest
from governance.services import guardrails

ABOUT = {
    Guardrail.Kind.PII: "E-mail addresses, cards, bank accounts, telephone numbers and the like, held to their checksums.",
    Guardrail.Kind.SECRETS: "API keys, tokens and private keys of the usual providers.",
    Guardrail.Kind.INJECTION: "Phrases that try to talk a model out of its instructions.",
    Guardrail.Kind.TOPICS: "Words and phrases of your own.",
    Guardrail.Kind.SIZE: "Requests or answers that are too long.",
}


@requires(Permission.VIEW_OPERATE)
def guardrail_list(request: MemberRequest) -> HttpResponse:
    query, figures = request.GET.get("q", "").strip(), selectors.guardrail_figures()
    page = keyset_page(selectors.guardrails(query), order=["name", "pk"], cursor=request.GET.get("cursor", ""))
    context = {
        "page": page,
        "rows": [(guardrail, figures.get(guardrail.name, selectors.GuardrailFigures())) for guardrail in page.rows],
        "query": query,
        "may_change": _may_change(request),
    }
    return render_page(request, "governance/guardrails.html", partial="guardrail-table", context=context)


@requires(Permission.MANAGE_POLICIES)
def guardrail_kinds(request: MemberRequest) -> HttpResponse:
    """The first step of a new one."""
    kinds = [(kind, kind.label, ABOUT[kind]) for kind in Guardrail.Kind]
    return render_page(request, "governance/guardrail_kinds.html", context={"kinds": kinds})


@requires(Permission.MANAGE_POLICIES, "GET", "POST")
def new_guardrail(request: MemberRequest, kind: str) -> HttpResponse:
    if kind not in Guardrail.Kind.values:
        raise Http404
    initial = {
        "mode": Guardrail.Mode.MONITOR,
        "action": Guardrail.Action.REDACT,
        "threshold": USUAL_SCORE if kind == Guardrail.Kind.PII else 0.5,
    }
    form, status = GuardrailForm(kind, request.POST or None, initial=initial), 200
    if request.method == "POST":
        status = 422
        fields = {"kind": kind, **form.cleaned_data} if form.is_valid() else None
        made = try_service(form, lambda: guardrails.create_guardrail(actor=request.user, **(fields or {}))) if fields else None
        if made is not None:
            messages.success(request, f"{made} is ready. Try it on a text.")
            return redirect(reverse("guardrail-detail", args=[made.pk]))
    context = {"form": form, "guardrail": None, "kind": Guardrail.Kind(kind), "about": ABOUT[Guardrail.Kind(kind)]}
    return render_page(request, "governance/guardrail_form.html", partial="guardrail-form", context=context, status=status)


@requires(Permission.VIEW_OPERATE)
def guardrail_detail(request: MemberRequest, pk: int) -> HttpResponse:
    guardrail = _guardrail(pk)
    context = {
        "guardrail": guardrail,
        "about": ABOUT[Guardrail.Kind(guardrail.kind)],
        "figures": selectors.guardrail_figures().get(guardrail.name, selectors.GuardrailFigures()),
        "looks_for": guardrails.looked_for(guardrail),
        "is_missing": guardrail.engine == Guardrail.Engine.PRESIDIO and not presidio.is_installed(),
        "form": TryForm(),
        "tried": None,
        "may_change": _may_change(request),
    }
    return render_page(request, "governance/guardrail_detail.html", context=context)


@requires(Permission.MANAGE_POLICIES, "GET", "POST")
def edit_guardrail(request: MemberRequest, pk: int) -> HttpResponse:
    guardrail = _guardrail(pk)
    initial: dict[str, Any] = {name: getattr(guardrail, name) for name in guardrails.FIELDS}
    initial["terms"] = "\n".join(guardrail.terms)
    form, status = GuardrailForm(guardrail.kind, request.POST or None, initial=initial), 200
    if request.method == "POST":
        status = 422
        changed = (
            try_service(form, lambda: guardrails.change_guardrail(guardrail=guardrail, actor=request.user, **form.cleaned_data))
            if form.is_valid()
            else None
        )
        if changed is not None:
            messages.success(request, f"{changed} is changed. The gateway has it within seconds.")
            return redirect(reverse("guardrail-detail", args=[guardrail.pk]))
    kind = Guardrail.Kind(guardrail.kind)
    context = {"form": form, "guardrail": guardrail, "kind": kind, "about": ABOUT[kind]}
    return render_page(request, "governance/guardrail_form.html", partial="guardrail-form", context=context, status=status)


@requires(Permission.MANAGE_POLICIES, "POST")
def try_guardrail(request: MemberRequest, pk: int) -> HttpResponse:
    """What it makes of a text; the text is kept nowhere."""
    guardrail = _guardrail(pk)
    form, tried = TryForm(request.POST), None
    if form.is_valid():
        tried = try_service(form, lambda: guardrails.try_guardrail(guardrail=guardrail, text=form.cleaned_data["text"]))
    context = {"guardrail": guardrail, "form": form, "tried": tried}
    return render_page(request, "governance/guardrail_tried.html", partial="tried", context=context, status=200 if tried else 422)


@requires(Permission.MANAGE_POLICIES, "POST")
def delete_guardrail(request: MemberRequest, pk: int) -> HttpResponse:
    guardrail = _guardrail(pk)
    guardrails.delete_guardrail(guardrail=guardrail, actor=request.user)
    messages.success(request, f"{guardrail.name} is removed.")
    return redirect(reverse("guardrails"))


def _guardrail(pk: int) -> Guardrail:
    return or_404(selectors.guardrails().filter(pk=pk).first())


def _may_change(request: MemberRequest) -> bool:
    return request.membership.can(Permission.MANAGE_POLICIES)
