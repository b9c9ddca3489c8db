"""What rollouts offer to gates and rollback rules as figures: experiments, shifts, rollbacks, approvals, evaluations, and what other systems report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, timedelta
from itertools import groupby
from operator import itemgetter

from django.db.models import F, Q, QuerySet
from django_tenants.utils import get_public_schema_name

from governance.metrics import NO_DATA, Metric, Reading, Window, register, wilson
from governance.schema import current_schema
from rollouts import advice, evaluation_selectors, figure_selectors, programme_rules
from rollouts.evaluation_rules import MEASURES
from rollouts.models import (
    Experiment,
    ExperimentReading,
    Flag,
    FlagChange,
    Incident,
    ShiftWindow,
    SurveyAnswer,
    SurveyKind,
    Waiver,
)
from rollouts.programme_rules import Score
from rollouts.reported_figures import FIGURES
from rollouts.survey_subjects import ASKS, Ask

DAY = timedelta(hours=24)


def _experiments(window: Window) -> list[Experiment]:
    """Those that ran in the window."""
    ran = Experiment.objects.filter(started_at__lt=window.end).filter(Q(ended_at=None) | Q(ended_at__gte=window.start))
    return list(ran.select_related("flag"))


def _read(window: Window) -> list[ExperimentReading]:
    """The newest reading of each of these up to the end of the window. None at all when one of them has none: it could be the one that fails."""
    ran = _experiments(window)
    newest = ExperimentReading.objects.filter(experiment__in=ran, at__lte=window.end).order_by("experiment_id", "-sequence")
    found = list(newest.distinct("experiment_id").select_related("experiment__flag"))
    return found if len(found) == len(ran) else []


def guarded_share(window: Window) -> Reading:
    """Every experiment counts, so it is exact."""
    found = _experiments(window)
    guarded = sum(1 for one in found if one.guardrails)
    return Reading(100 * guarded / len(found), len(found), statistics={"guarded": guarded, "all": len(found)}) if found else NO_DATA


def fewest_calls(window: Window) -> Reading:
    """An arm that no call has reached yet has none."""
    found = _read(window)
    calls = [arm.calls for one in found for arm in _arms(one)]
    return Reading(float(min(calls)), len(calls), statistics={"arms": len(calls), "experiments": len(found)}) if calls else NO_DATA


def promotable_share(window: Window) -> Reading:
    """Those whose newest reading advises to promote: better on the primary metric by the whole interval, every guardrail kept."""
    found = _read(window)
    promotable = sum(1 for one in found if one.report.advice == "promote")
    return (
        Reading(100 * promotable / len(found), len(found), statistics={"promotable": promotable, "all": len(found)}) if found else NO_DATA
    )


def dearest_treatment(window: Window) -> Reading:
    """Mean over the calls that have a price; an experiment without such calls makes it unknown."""
    dearest: tuple[float, int] | None = None
    for one in _read(window):
        for name, arm in advice.arms_of(one.record).items():
            if name == one.experiment.champion:
                continue
            mean = advice.mean_of(arm, "cost")
            if mean is None:
                return NO_DATA
            dearest = max(dearest or (mean, arm.calls), (mean, arm.calls))
    return NO_DATA if dearest is None else Reading(dearest[0], dearest[1], statistics={"calls": dearest[1]})


def _arms(reading: ExperimentReading) -> list[advice.Arm]:
    arms = advice.arms_of(reading.record)
    return [arms.get(name, advice.Arm(0, 0, {})) for name in reading.experiment.shares]


def _worst_window(window: Window, measure: str) -> Reading:
    """Over the newest judged window of each shift: the change that is worst, with the interval it was judged by. One that can't be told makes it unknown."""
    judged = ShiftWindow.objects.filter(at__gte=window.start, at__lt=window.end).order_by("shift_id", "-sequence").distinct("shift_id")
    worst: Reading | None = None
    for one in judged:
        judgement = one.judgement
        effect = next((guard for guard in judgement.guards if guard.metric == measure), None)
        if effect is None or effect.value is None:
            return NO_DATA
        reading = Reading(effect.value, judgement.calls, effect.low, effect.high, {"window": one.evidence_hash})
        if worst is None or worst.value is None or effect.value > worst.value:
            worst = reading
    return worst or NO_DATA


def shift_latency(window: Window) -> Reading:
    return _worst_window(window, "latency")


def shift_errors(window: Window) -> Reading:
    return _worst_window(window, "error_rate")


def shift_saving(window: Window) -> Reading:
    """Less cost per call; the change of the cost with its sign turned."""
    cost = _worst_window(window, "cost")
    if cost.value is None or cost.low is None or cost.high is None:
        return NO_DATA
    return Reading(-cost.value, cost.sample, -cost.high, -cost.low, cost.statistics)


def slowest_rollback(window: Window) -> Reading:
    """From the end of the first bad step until the rule had lowered the flag."""
    found = Incident.objects.filter(opened_at__gte=window.start, opened_at__lt=window.end).values_list("began_at", "opened_at")
    took = [(opened - began).total_seconds() for began, opened in found]
    return Reading(max(0.0, *took), len(took), statistics={"rollbacks": len(took)}) if took else NO_DATA


def decided_in_a_day(window: Window) -> Reading:
    """Changes of flags and waivers that were asked for in the window. What waits for less than a day is not judged yet."""
    in_time = late = 0
    changes = FlagChange.objects.filter(needs_approval=True, proposed_at__gte=window.start, proposed_at__lt=window.end)
    waivers = Waiver.objects.filter(requested_at__gte=window.start, requested_at__lt=window.end)
    for asked, asked_at in ((changes, "proposed_at"), (waivers, "requested_at")):
        soon = asked.filter(decided_at__lte=F(asked_at) + DAY).count()
        due = asked.filter(Q(decided_at__isnull=False) | Q(**{f"{asked_at}__lte": window.end - DAY})).count()
        in_time, late = in_time + soon, late + due - soon
    if not in_time + late:
        return NO_DATA
    low, high = wilson(in_time, in_time + late)
    return Reading(100 * in_time / (in_time + late), in_time + late, low, high, {"in_time": in_time, "late": late})


def model_pairs(window: Window) -> Reading:
    """At the end of the window: flags that lead calls of a model to one of several."""
    flags = Flag.objects.exclude(model="").filter(archived_at=None)
    pairs = sum(1 for flag in flags.only("variants") if len({each.model for each in flag.comparison.treatments.values()}) > 1)
    return Reading(float(pairs), pairs, statistics={"pairs": pairs})


def _answers(window: Window, kind: SurveyKind) -> QuerySet[SurveyAnswer]:
    """Of whole days (UTC) that were over at the end of the window, since answers keep the day alone."""
    first, end = (moment.astimezone(UTC).date() for moment in (window.start, window.end))
    return SurveyAnswer.objects.filter(kind=kind, on__gte=first, on__lt=end)


def _survey(window: Window, kind: SurveyKind, score: Callable[[Sequence[int]], Score]) -> Reading:
    """About the cohort of the rollout; without one, of people of the organisation, or of all in the public schema, about whatever cohort.

    Too few have no value.
    """
    answers = _answers(window, kind).exclude(cohort=None)
    if window.cohort:
        answers = answers.filter(cohort__slug=window.cohort)
    elif current_schema() != get_public_schema_name():
        answers = answers.filter(tenant__schema_name=current_schema())
    found = score(list(answers.values_list("score", flat=True)))
    return Reading(found.value, found.n, found.low, found.high, {"answers": found.n}) if found.n else NO_DATA


def _asked(ask: Ask) -> Callable[[Window], Reading]:
    """What was said for a gate of the current organisation: by its own people, or, where the rollout is over a cohort, about that."""

    def read(window: Window) -> Reading:
        answers = _answers(window, ask.kind).filter(subject=ask.subject, stage=ask.stage)
        mine = Q(cohort__slug=window.cohort) if window.cohort else Q(cohort=None, tenant__schema_name=current_schema())
        scores = list(answers.filter(mine).order_by("tenant").values_list("tenant", "score"))
        if not scores:
            return NO_DATA
        said = [score for _, score in scores]
        if ask.by_organisation and window.cohort:
            found = programme_rules.csat_by_organisation(
                [[score for _, score in theirs] for _, theirs in groupby(scores, key=itemgetter(0))]
            )
        else:
            found = programme_rules.csat(said) if ask.kind == SurveyKind.CSAT else programme_rules.nps(said)
        return Reading(found.value, found.n, found.low, found.high, {"answers": len(said)})

    return read


def _metric_of(key: str, ask: Ask) -> Metric:
    words = "Mean of the answers from 1 to 5" if ask.kind == SurveyKind.CSAT else "Promoters less detractors, in points, of the answers"
    whose = ", over the organisations as the sample (of an organisation's own rollout: over its people)" if ask.by_organisation else ""
    least = 1 if ask.by_organisation else programme_rules.FEWEST_ANSWERS if ask.kind == SurveyKind.CSAT else 10
    return Metric(
        key,
        ask.title,
        "score",
        "higher",
        least,
        _asked(ask),
        f"{words} to the question that a gate of that phase asks{whose}.",
        "programme",
    )


def survey_csat(window: Window) -> Reading:
    return _survey(window, SurveyKind.CSAT, programme_rules.csat)


def survey_nps(window: Window) -> Reading:
    return _survey(window, SurveyKind.NPS, programme_rules.nps)


def register_all() -> None:
    """Called once, from `rollouts.apps`."""
    for metric in (
        Metric("approvals.within_a_day", "Decided within a day", "%", "higher", 20, decided_in_a_day, "Of the changes of flags and waivers that were asked for, those decided within 24 hours."),
        Metric("experiments.calls_per_arm", "Calls of the smallest arm", "count", "higher", 2, fewest_calls, "Over the arms of all experiments that ran."),
        Metric("experiments.cost_per_call", "Dearest treatment", "USD", "lower", 200, dearest_treatment, "Mean cost of a call, of the dearest treatment that ran."),
        Metric("experiments.guarded_share", "Experiments with a guardrail", "%", "higher", 1, guarded_share, "Of the experiments that ran, those with at least one guardrail beside their primary metric."),
        Metric("experiments.promotable_share", "Experiments to promote", "%", "higher", 1, promotable_share, "Of the experiments that ran, those surely better with every guardrail kept."),
        Metric("flags.model_pairs", "Champion and challenger", "count", "higher", 0, model_pairs, "Flags that lead calls of a model to one of several, now."),
        Metric("rollbacks.time_to_act", "Slowest automatic rollback", "s", "lower", 1, slowest_rollback, "From the end of the first bad step until the flag was lowered, drills included."),
        Metric("shifts.error_change", "Errors against the control", "pp", "lower", 100, shift_errors, "Of the challenger, in the newest window of the worst shift."),
        Metric("shifts.latency_change", "Latency against the control", "%", "lower", 100, shift_latency, "Of the challenger's mean, in the newest window of the worst shift."),
        Metric("shifts.saving", "Saving against the control", "%", "higher", 100, shift_saving, "Of the challenger's cost per call, in the newest window of the worst shift."),
        Metric("surveys.csat", "Satisfaction", "score", "higher", programme_rules.FEWEST_ANSWERS, survey_csat, "Mean of the answers from 1 to 5 to the question on the home page, about the cohort of the rollout, or else about all.", "programme"),
        Metric("surveys.nps", "Net promoter score", "score", "higher", 10, survey_nps, "Promoters less detractors, in points, of the answers to the question on the home page, about the cohort of the rollout, or else about all.", "programme"),
    ):  # fmt: skip
        register(metric)
    register(
        Metric("evaluations.golden_failures", "Failing golden answers", "count", "lower", 1, evaluation_selectors.golden_failures, "Items of golden data sets that were not met, in the newest run of each.")
    )  # fmt: skip
    for key, ask in ASKS.items():
        register(_metric_of(key, ask))
    for measure in MEASURES.values():
        register(evaluation_selectors.metric_of(measure))
    for figure in FIGURES.values():
        register(figure_selectors.metric_of(figure))
