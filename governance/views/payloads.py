"""What is kept of what calls say: the rules, what is there, and one call's."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.urls import reverse

from governance import payload_selectors as selectors
from governance.access import Permission, or_404, permissions_of, requires
from governance.catalog_names import project_names
from governance.control_forms import DeclineForm, EraseForm, OpenForm, PayloadRuleForm
from governance.models import PayloadMode, PayloadRequest
from governance.pages import keyset_page, render_page, try_act, try_service
from governance.requests import MemberRequest
from governance.services import payloads

SHOWN = 20
ABOUT = {
    PayloadMode.NONE: "No texts. The record of a call also leaves out what guardrails counted in them.",
    PayloadMode.METADATA: "No texts: who called what, when, tokens, cost and decisions. A semantic cache that is switched on keeps its answers all the same.",
    PayloadMode.REDACTED: "Texts, with personal data and secrets replaced. Patterns find what has a form, such as cards and keys, not names. "
    "A semantic cache keeps its answers as they are.",
    PayloadMode.FULL: "Texts as they went by, with everything that people write into them.",
}


@requires(Permission.VIEW_OPERATE)
def rules(request: MemberRequest) -> HttpResponse:
    return _rules(request)


@requires(Permission.MANAGE_PAYLOADS, "POST")
def ask_for_rule(request: MemberRequest) -> HttpResponse:
    form = PayloadRuleForm(request.POST)
    if form.is_valid():
        asked = try_service(form, lambda: payloads.ask_for_rule(actor=request.user, **form.cleaned_data))
        if asked is not None:
            applied = asked.status == PayloadRequest.Status.APPLIED
            messages.success(request, f"{asked}: {'in force within seconds' if applied else 'waits for a second person'}.")
            return redirect(reverse("payloads"))
    return _rules(request, rule_form=form, status=422)


@requires(Permission.MANAGE_PAYLOADS, "POST")
def decide(request: MemberRequest, pk: int) -> HttpResponse:
    """Of a rule that waits: put it in force, or decline it."""
    waiting = or_404(selectors.requests().filter(pk=pk).first())
    if request.POST.get("decision") == "approve":
        try_act(request, lambda: payloads.approve(request=waiting, actor=request.user), f"{waiting}: in force within seconds.")
    else:
        form = DeclineForm(request.POST)
        if not form.is_valid():
            return _rules(request, refused=waiting, decline_form=form, status=422)
        try_act(request, lambda: payloads.reject(request=waiting, actor=request.user, **form.cleaned_data), f"{waiting}: declined.")
    return redirect(reverse("payloads"))


@requires(Permission.MANAGE_PAYLOADS, "POST")
def erase(request: MemberRequest) -> HttpResponse:
    form = EraseForm(request.POST)
    if form.is_valid():
        erased = try_service(form, lambda: payloads.erase(actor=request.user, **form.cleaned_data))
        if erased is not None:
            messages.success(
                request, "1 payload or cached answer erased." if erased == 1 else f"{erased:,} payloads and cached answers erased."
            )
            return redirect(reverse("payloads"))
    return _rules(request, erase_form=form, status=422)


def _rules(
    request: MemberRequest,
    *,
    rule_form: PayloadRuleForm | None = None,
    erase_form: EraseForm | None = None,
    refused: PayloadRequest | None = None,
    decline_form: DeclineForm | None = None,
    status: int = 200,
) -> HttpResponse:
    granted = permissions_of(request.membership.roles)
    settings, decisions = selectors.settings_by_ref(), selectors.requests()
    whole = selectors.effective_rule("", settings)
    context = {
        "modes": [(mode, mode.label, ABOUT[mode], mode == whole.mode) for mode in PayloadMode],
        "mode": PayloadMode(whole.mode),
        "days": whole.days,
        "keeps": whole.mode in (PayloadMode.REDACTED, PayloadMode.FULL),
        "setting": settings.get(""),
        "projects": selectors.project_rules(),
        "waiting": decisions.filter(status=PayloadRequest.Status.WAITING),
        "history": decisions.exclude(status=PayloadRequest.Status.WAITING)[:SHOWN],
        "rule_form": rule_form or PayloadRuleForm(initial={"mode": whole.mode, "days": whole.days}),
        "erase_form": erase_form or EraseForm(auto_id="erase_%s"),
        "refused": refused,
        "decline_form": decline_form,
        "may_change": Permission.MANAGE_PAYLOADS in granted,
        "may_read": Permission.VIEW_PAYLOADS in granted,
    }
    return render_page(request, "governance/payloads.html", context=context, status=status)


@requires(Permission.VIEW_PAYLOADS)
def kept(request: MemberRequest) -> HttpResponse:
    """What is there, newest first, without the texts."""
    project = request.GET.get("project", "").strip()
    rows = selectors.kept(project=project)
    context = {
        "page": keyset_page(rows, order=["-at", "-event_id"], cursor=request.GET.get("cursor", "")),
        "project": project,
        "projects": {"": "Any project", **project_names()},
    }
    return render_page(request, "governance/payload_list.html", partial="payload-table", context=context)


@requires(Permission.VIEW_PAYLOADS)
def payload_detail(request: MemberRequest, event_id: UUID) -> HttpResponse:
    """That something is kept of a call, and the way to open it."""
    return _detail(request, event_id, OpenForm())


@requires(Permission.VIEW_PAYLOADS, "POST")
def open_payload(request: MemberRequest, event_id: UUID) -> HttpResponse:
    """What the call said. A POST, because it goes into the audit log."""
    form = OpenForm(request.POST)
    opened = None
    if form.is_valid():
        opened = try_service(form, lambda: payloads.open_payload(event_id=event_id, actor=request.user, reason=form.cleaned_data["reason"]))
    shown: list[tuple[str, str]] = []
    if opened is not None:
        shown = [("Asked", _text(opened.request)), ("Answered", _text(opened.reply) if opened.reply is not None else "")]
    response = _detail(request, event_id, form, shown=shown, is_cut=bool(opened and opened.is_cut), status=200 if opened else 422)
    response["Cache-Control"] = "no-store"
    return response


def _detail(
    request: MemberRequest,
    event_id: UUID,
    form: OpenForm,
    *,
    shown: list[tuple[str, str]] | None = None,
    is_cut: bool = False,
    status: int = 200,
) -> HttpResponse:
    row = or_404(selectors.kept_of(event_id))
    context = {"row": row, "form": form, "shown": shown, "is_cut": is_cut, "about": ABOUT[PayloadMode(row.mode)]}
    return render_page(request, "governance/payload_detail.html", partial="payload", context=context, status=status)


def _text(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)
