"""Experiments: if we stop now, what do we know? And starting, reading, stopping and deciding one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils import timezone

from governance.access import Permission, or_404, requires
from governance.pages import keyset_page, render_page, tab_and_query, try_act, try_service
from governance.requests import MemberRequest
from rollouts import advice, experiment_selectors
from rollouts import experiment_wording as words
from rollouts.experiment_forms import DecideForm, ExperimentForm, PlanForm, StopForm
from rollouts.models import Experiment, ExperimentReading
from rollouts.services import experiments as services
from rollouts.views.rollouts import may_manage

TABS = {"open": "Running", "draft": "Drafts", "decided": "Decided", "all": "All"}
SHOWN_READINGS = 24


def the_experiment(slug: str) -> Experiment:
    return or_404(experiment_selectors.find_experiment(slug))


@requires(Permission.VIEW)
def experiment_list(request: MemberRequest) -> HttpResponse:
    tab, query = tab_and_query(request, TABS)
    found = experiment_selectors.experiments(tab=tab, query=query)
    page = keyset_page(found, order=["-created_at", "-pk"], cursor=request.GET.get("cursor", ""))
    counts = experiment_selectors.experiment_counts()
    return render_page(
        request,
        "rollouts/experiment_list.html",
        partial="experiment-table",
        context={
            "rows": [_row(experiment) for experiment in page.rows],
            "page": page,
            "tab": tab,
            "tabs": [(key, label, counts[key]) for key, label in TABS.items()],
            "query": query,
            "counts": counts,
            "has_flags": experiment_selectors.flags_to_experiment_on().exists(),
            "may_manage": may_manage(request),
        },
    )


def _row(experiment: Experiment) -> dict[str, Any]:
    report = experiment.latest.report if experiment.latest else None
    return {
        "experiment": experiment,
        "report": report,
        "advised": words.advised(report) if report else "",
        "glyph": words.ADVICE_GLYPHS[report.advice] if report else "no_data",
        "effects": words.effect_lines(*_read(experiment.latest), report) if report and experiment.latest else [],
    }


def _read(reading: ExperimentReading) -> tuple[advice.Terms, dict[str, advice.Arm]]:
    return advice.terms_of(reading.record), advice.arms_of(reading.record)


@requires(Permission.MANAGE_ROLLOUTS, "GET", "POST")
def experiment_new(request: MemberRequest) -> HttpResponse:
    """The planner's answer stands beside the form and follows what is typed; without scripts, a button asks for it."""
    if request.method == "POST" and "plan" not in request.POST:
        form = ExperimentForm(request.POST)
        if form.is_valid():
            experiment = try_service(form, lambda: services.create_experiment(actor=request.user, **form.terms()))
            if experiment is not None:
                messages.success(request, f"{experiment.name} is a draft. Nothing is counted before it is started.")
                return redirect("experiment-detail", slug=experiment.slug)
        return render_page(request, "rollouts/experiment_new.html", context=_planned(form, form.data), status=422)
    asked = request.POST if request.method == "POST" else request.GET
    form = ExperimentForm(initial={name: value for name, value in asked.items() if name in ExperimentForm().fields})
    first = experiment_selectors.flags_to_experiment_on().first()
    defaults = {"flag": first.key if first else "", "metric": "latency", "effect": "5", "max_days": "14"}
    context = _planned(form, {**defaults, **{name: value for name, value in asked.items() if value}})
    return render_page(request, "rollouts/experiment_new.html", partial="plan", context=context)


def _planned(form: ExperimentForm, asked: Any) -> dict[str, Any]:
    plan_form = PlanForm(asked)
    context: dict[str, Any] = {"form": form, "plan_form": plan_form, "has_flags": bool(form.fields["flag"].queryset)}  # type: ignore[attr-defined]
    if not context["has_flags"] or not plan_form.is_valid():
        return context
    flag, data = plan_form.cleaned_data["flag"], plan_form.cleaned_data
    needed = try_service(
        plan_form,
        lambda: experiment_selectors.plan_for(
            flag, metric=data["metric"], effect=data["effect"], max_days=data["max_days"], mean=data["mean"], spread=data["spread"],
            at=timezone.now(),
        ),
    )  # fmt: skip
    split = experiment_selectors.split_of(flag, flag.exposure)
    context |= {"planned_flag": flag, "split": [(name, 100 * share) for name, share in split.items()], "needed": needed}
    if needed is not None:
        sizes = {"sequential": needed.plan.sequential, "fixed": needed.plan.fixed, "sprt": needed.plan.sprt}
        context["plans"] = [
            {"method": Experiment.Method(name), "units": size, "days": needed.days[name], "minimum": needed.minimum(name), "fits": name == needed.method}
            for name, size in sizes.items()
        ]  # fmt: skip
        context["planned_mean"] = words.figure_of(needed.volume.mean, data["metric"])
    return context


@requires(Permission.VIEW)
def experiment_detail(request: MemberRequest, slug: str) -> HttpResponse:
    return _page(request, the_experiment(slug))


def _page(request: MemberRequest, experiment: Experiment, *, status: int = 200, **extra: Any) -> HttpResponse:
    return render_page(request, "rollouts/experiment_detail.html", context={**_detail(request, experiment), **extra}, status=status)


def _detail(request: MemberRequest, experiment: Experiment) -> dict[str, Any]:
    reading = experiment.latest
    if (number := request.GET.get("reading", "")) and number.isdecimal() and len(number) < 9:
        reading = or_404(experiment.readings.select_related("requested_by").filter(sequence=int(number)).first())
    now, flag = timezone.now(), experiment.flag
    split = experiment_selectors.split_of(flag, flag.exposure)
    manages = may_manage(request)
    readings = list(experiment_selectors.readings_of(experiment)[:SHOWN_READINGS])
    return {
        "experiment": experiment,
        "flag": flag,
        "treatments": words.arms_of(experiment),
        "split": [(name, 100 * share) for name, share in split.items()],
        "may_start": len(split) > 1 and experiment.champion in split and not flag.is_archived,
        "guardrails": [
            (advice.MEASURES[each["metric"]].title, words.change(each["margin"], each["metric"])) for each in experiment.guardrails
        ],
        "effect": words.change(experiment.effect if experiment.better == "higher" else -experiment.effect, experiment.metric),
        "day": min((now - experiment.started_at).days + 1, experiment.max_days) if experiment.started_at else 0,
        "readings": readings,
        "course": list(zip(readings, words.looks(experiment, readings), strict=True)),
        "read_every": experiment_selectors.READ_EVERY,
        "may_manage": manages,
        "stop_form": StopForm(),
        "decide_form": _decide_form(experiment) if manages and experiment.is_open else None,
        **(_figures(experiment, reading) if reading else {}),
    }


def _figures(experiment: Experiment, reading: ExperimentReading) -> dict[str, Any]:
    """Everything is worked out anew from the reading's evidence."""
    (terms, arms), report = _read(reading), reading.report
    fewest = min((arms[name].units if name in arms else 0 for name in terms.shares), default=0)
    return {
        "reading": reading,
        "is_newest": reading.pk == experiment.latest_id,
        "is_same": experiment_selectors.is_as_written(reading),
        "report": report,
        "advised": words.advised(report),
        "glyph": words.ADVICE_GLYPHS[report.advice],
        "variants": words.variants_of(terms),
        "arms": words.arm_lines(terms, arms),
        "effects": words.effect_lines(terms, arms, report),
        "guards": words.guardrail_lines(terms, arms, report),
        "figures": words.figure_lines(terms, arms),
        "latency_changes": words.latency_changes(terms, arms),
        "excluded": reading.record["excluded"],
        "fewest": fewest,
    }


def _decide_form(experiment: Experiment, data: Any = None) -> DecideForm:
    report = experiment.latest.report if experiment.latest else None
    initial = {
        "seen": experiment.latest.sequence if experiment.latest else None,
        "decision": report.advice if report else "hold",
        "winner": report.winner if report else "",
    }
    return DecideForm(data, experiment=experiment, initial=initial)


@requires(Permission.MANAGE_ROLLOUTS, "POST")
def experiment_start(request: MemberRequest, slug: str) -> HttpResponse:
    return _act(
        request,
        slug,
        lambda it: services.start_experiment(experiment=it, actor=request.user),
        "Started. The first reading comes within 5 min.",
    )


@requires(Permission.MANAGE_ROLLOUTS, "POST")
def experiment_read(request: MemberRequest, slug: str) -> HttpResponse:
    return _act(request, slug, lambda it: services.read_experiment(experiment=it, actor=request.user), "Read just now.")


@requires(Permission.MANAGE_ROLLOUTS, "POST")
def experiment_discard(request: MemberRequest, slug: str) -> HttpResponse:
    experiment = the_experiment(slug)
    if not try_act(
        request,
        lambda: services.discard_experiment(experiment=experiment, actor=request.user),
        f"The draft {experiment.name} is discarded.",
    ):
        return redirect("experiment-detail", slug=slug)
    return redirect("experiment-list")


@requires(Permission.MANAGE_ROLLOUTS, "POST")
def experiment_stop(request: MemberRequest, slug: str) -> HttpResponse:
    experiment, form = the_experiment(slug), StopForm(request.POST)
    if form.is_valid() and try_service(
        form, lambda: services.stop_experiment(experiment=experiment, actor=request.user, **form.cleaned_data)
    ):
        messages.success(request, "Stopped. It counts no further calls and waits for a decision.")
        return redirect("experiment-detail", slug=slug)
    return _page(request, experiment, stop_form=form, status=422)


@requires(Permission.MANAGE_ROLLOUTS, "POST")
def experiment_decide(request: MemberRequest, slug: str) -> HttpResponse:
    experiment = the_experiment(slug)
    form = _decide_form(experiment, request.POST)
    if form.is_valid():
        decided = try_service(form, lambda: services.decide(experiment=experiment, actor=request.user, **form.chosen()))
        if decided is not None:
            messages.success(request, _told(decided))
            return redirect("experiment-detail", slug=slug)
    return _page(request, experiment, decide_form=form if experiment.is_open else None, refused=form, status=422)


def _told(experiment: Experiment) -> str:
    change = experiment.change
    if change is None:
        return "Decided. The flag stays as it is."
    if change.is_open:
        return f"Decided. Change {change.number} of the flag waits for a second person."
    return f"Decided. Change {change.number} of the flag is in force."


def _act(request: MemberRequest, slug: str, act: Callable[[Experiment], object], done: str) -> HttpResponse:
    experiment = the_experiment(slug)
    try_act(request, lambda: act(experiment), done)
    return redirect("experiment-detail", slug=slug)
