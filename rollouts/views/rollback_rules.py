"""Rollback rules of a flag: what watches it, what a new rule would do, and what it would have done."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone

from governance.access import Permission, requires
from governance.pages import render_page, try_act, try_form, try_service
from governance.requests import MemberRequest
from rollouts import rollback_lint as linting
from rollouts import rollback_selectors as selectors
from rollouts import rollback_trials
from rollouts import rollback_wording as wording
from rollouts.forms import WhyForm
from rollouts.models import Flag, RollbackRule, RollbackWatch
from rollouts.rollback_forms import RuleForm
from rollouts.rollback_language import MEASURES, RuleError
from rollouts.services import rollback_rules as services
from rollouts.views.flags import the_flag
from rollouts.views.rollouts import may_manage

SHOWN_EPISODES = 20
TEMPLATE = "rollouts/flag_rules.html"


def the_rule(key: str, pk: int) -> RollbackRule:
    rule = selectors.find_rule(pk)
    if rule is None or rule.flag.key != key:
        raise Http404
    return rule


@requires(Permission.VIEW, "GET")
def rule_list(request: MemberRequest, key: str) -> HttpResponse:
    return _page(request, the_flag(key), RuleForm(initial={"text": request.GET.get("text", "")}))


@requires(Permission.MANAGE_ROLLOUTS, "POST")
def rule_new(request: MemberRequest, key: str) -> HttpResponse:
    flag, form = the_flag(key), RuleForm(request.POST)
    if form.is_valid():
        checked = rollback_trials.check_text(flag, form.cleaned_data["text"], at=timezone.now())
        for finding in checked.lint.findings if checked.lint else ():
            if finding.level == "error":
                form.add_error("text", finding.text)
    if form.is_valid():
        rule = try_service(form, lambda: services.create_rule(flag=flag, actor=request.user, **form.cleaned_data))
        if rule is not None:
            messages.success(
                request, "Armed as a dry run: it only tells." if rule.is_dry_run else "Armed. The watcher looks every ten seconds."
            )
            return redirect("flag-rules", key=key)
    return _page(request, flag, form, status=422)


def _page(request: MemberRequest, flag: Flag, form: RuleForm, status: int = 200) -> HttpResponse:
    now = timezone.now()
    found = list(selectors.rules_of(flag))
    context = {
        "flag": flag,
        "rules": [{"rule": rule, "reading": wording.readings(rule), "baselines": wording.baselines(rule)} for rule in found],
        "armed": sum(rule.is_live and not rule.is_dry_run for rule in found),
        "watch": RollbackWatch.objects.order_by("-ticked_at").first(),
        "away_since": selectors.watcher_away_since(at=now),
        "form": form,
        "measures": MEASURES.values(),
        "may_manage": may_manage(request),
    }
    return render_page(request, TEMPLATE, context=context, status=status)


@requires(Permission.MANAGE_ROLLOUTS, "POST")
def rule_lint(request: MemberRequest, key: str) -> HttpResponse:
    """What the linter says of a rule while it is typed. Always a fragment."""
    flag, text = the_flag(key), request.POST.get("text", "")
    checked = rollback_trials.check_text(flag, text, at=timezone.now())
    context: dict[str, Any] = {"checked": checked, "findings": checked.lint.findings if checked.lint else (), "text": text}
    if checked.lint is not None:
        often = checked.lint.false_alarms_per_week
        context |= {"earliest": wording.earliest(checked.lint.earliest_s), "often": None if often is None else linting.often(often)}
    return render_page(request, "rollouts/partials/rule_lint.html", context=context)


@requires(Permission.MANAGE_ROLLOUTS, "POST")
def rule_replay(request: MemberRequest, key: str) -> HttpResponse:
    """What a rule would have done to the last seven days. Always a fragment."""
    flag, form = the_flag(key), RuleForm(request.POST)
    context: dict[str, Any] = {"form": form}
    if form.is_valid():
        data = form.cleaned_data
        try:
            seen = rollback_trials.dry_run(
                flag, data["text"], at=timezone.now(), clear_percent=data["clear_percent"], cooldown_minutes=data["cooldown_minutes"]
            )
        except RuleError as error:
            form.add_error("text", str(error))
        else:
            context |= {
                "seen": seen,
                "episodes": [
                    {"at": datetime.fromtimestamp(one.at, UTC), "variant": one.variant, "told": wording.breach(one.verdict)}
                    for one in seen.replay.episodes[-SHOWN_EPISODES:][::-1]
                ],
            }
    return render_page(request, "rollouts/partials/rule_replay.html", context=context)


@requires(Permission.MANAGE_ROLLOUTS, "POST")
def rule_arm(request: MemberRequest, key: str, pk: int) -> HttpResponse:
    rule = the_rule(key, pk)
    is_dry_run = {"dry": True, "real": False}.get(request.POST.get("as", ""))
    return _act(
        request, key, lambda: services.arm_rule(rule=rule, actor=request.user, is_dry_run=is_dry_run), "Armed, against the baseline of now."
    )


@requires(Permission.MANAGE_ROLLOUTS, "POST")
def rule_pause(request: MemberRequest, key: str, pk: int) -> HttpResponse:
    rule = the_rule(key, pk)
    try_form(
        request,
        WhyForm(request.POST, most=300),
        lambda data: services.pause_rule(rule=rule, actor=request.user, **data),
        "Paused. Nobody watches by it.",
    )
    return redirect("flag-rules", key=key)


@requires(Permission.MANAGE_ROLLOUTS, "POST")
def rule_remove(request: MemberRequest, key: str, pk: int) -> HttpResponse:
    rule = the_rule(key, pk)
    return _act(request, key, lambda: services.remove_rule(rule=rule, actor=request.user), "Removed. Its incidents keep it.")


def _act(request: MemberRequest, key: str, act: Callable[[], object], done: str) -> HttpResponse:
    try_act(request, act, done)
    return redirect("flag-rules", key=key)
