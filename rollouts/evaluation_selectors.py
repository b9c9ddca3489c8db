"""What may be seen of evaluations by harnesses, and where models stand against the thresholds of their class."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import urlencode

from django.db.models import Prefetch, Q, QuerySet
from django.urls import reverse
from django.utils import timezone

from catalog import hooks
from catalog import selectors as catalog_selectors
from governance.access import Permission
from governance.metrics import NO_DATA, Metric, Reading, Window
from governance.models import Membership
from rollouts import evaluation_rules, rules
from rollouts.models import EvaluationRun, EvaluationScore, EvaluationThreshold, EvaluationThresholdChange, EvaluationWaiver

SHOWN = 20


def runs(*, query: str = "", model: str = "", dataset: str = "", metric: str = "") -> QuerySet[EvaluationRun]:
    """Newest first, with their scores but not the items; by words in what was evaluated, and exactly by model, data set and metric."""
    found = EvaluationRun.objects.select_related("by").order_by("-at", "-pk")
    if query:
        words = ("key", "harness", "dataset", "model", "prompt_version")
        found = found.filter(Q(*((f"{name}__icontains", query) for name in words), _connector=Q.OR))
    if model:
        found = found.filter(model=model)
    if dataset:
        found = found.filter(dataset=dataset)
    if metric:
        found = found.filter(pk__in=EvaluationScore.objects.filter(metric=metric).values("run"))
    return found.prefetch_related(Prefetch("scores", queryset=EvaluationScore.objects.defer("items")))


def find_run(pk: int) -> EvaluationRun | None:
    return EvaluationRun.objects.select_related("by").prefetch_related("scores").filter(pk=pk).first()


def like(run: EvaluationRun) -> QuerySet[EvaluationRun]:
    """Runs over the same data set that may be compared with it, newest first."""
    return runs(dataset=run.dataset)


@dataclass(frozen=True)
class Compared:
    metric: str
    title: str
    is_safety: bool
    first: evaluation_rules.Score
    second: evaluation_rules.Score
    difference: evaluation_rules.Difference


def compare(first: EvaluationRun, second: EvaluationRun) -> list[Compared]:
    """By metric that both have, safety first: the second against the first."""
    before = {one.metric: one for one in first.scores.all()}
    return [
        Compared(
            one.metric, one.title, one.is_safety, before[one.metric].facts, one.facts,
            evaluation_rules.compare(before[one.metric].facts, one.facts, better=one.better),
        )
        for one in second.scores.all()
        if one.metric in before
    ]  # fmt: skip


def trend(run: EvaluationRun) -> list[EvaluationRun]:
    """The same subject over the same data set by the same harness: the newest, oldest first."""
    same = runs(model=run.model, dataset=run.dataset).filter(harness=run.harness, deployment=run.deployment)
    if not run.model:
        same = same.filter(prompt_version=run.prompt_version)
    return list(same[:SHOWN])[::-1]


def thresholds() -> QuerySet[EvaluationThreshold]:
    """With the changes that wait."""
    waiting = Prefetch("changes", queryset=waiting_changes())
    return EvaluationThreshold.objects.select_related("set_by").prefetch_related(waiting).order_by("feature_class", "metric")


def open_waivers(*, at: datetime) -> QuerySet[EvaluationWaiver]:
    """Those that wait, and those in force."""
    found = EvaluationWaiver.objects.filter(Q(decided_at=None) | Q(approved=True, until__gt=at))
    return found.select_related("threshold", "requested_by", "decided_by").order_by("-requested_at", "-pk")


def waiting_changes() -> QuerySet[EvaluationThresholdChange]:
    """Of thresholds on safety: at most one each."""
    found = EvaluationThresholdChange.objects.filter(decided_at=None).select_related("threshold", "requested_by")
    return found.order_by("-requested_at", "-pk")


def waiting_waivers() -> QuerySet[EvaluationWaiver]:
    return EvaluationWaiver.objects.filter(decided_at=None)


def due_count(membership: Membership) -> int:
    """Waivers and changes of thresholds that wait for this person."""
    if not membership.can(Permission.SIGN_GATES):
        return 0
    return sum(each.exclude(requested_by=membership.user_id).count() for each in (waiting_waivers(), waiting_changes()))


@dataclass(frozen=True)
class Standing:
    """One threshold, and what one model scored."""

    threshold: EvaluationThreshold
    score: EvaluationScore | None
    """Of the newest run that is recent enough."""
    verdict: rules.Verdict
    reason: str

    @property
    def said(self) -> str:
        """`faithfulness >= 0.9`"""
        return f"{self.threshold.metric} {self.threshold.operator} {self.threshold.value:g}"

    @property
    def opens(self) -> bool:
        return self.verdict in rules.OPENS


def standings(model: str, feature_class: str, *, at: datetime, prompt_version: str = "", deployment: str = "") -> list[Standing]:
    """Against every threshold of the class, each judged by the model's newest score of that metric. Four queries.

    A score that names a deployment counts only while that serves: one that is tried out says nothing about the model.
    With `prompt_version` (`greeting@3`) by the newest one of that version, with this model or without word of any; with `deployment`
    (`openai/gpt-4o`) by the newest one of the model that names it, and no prompt version. Waivers are its own, too.
    """
    asked = list(EvaluationThreshold.objects.filter(feature_class=feature_class))
    if not asked:
        return []
    newest: dict[str, EvaluationScore] = {}
    scored = EvaluationScore.objects.filter(run__at__lte=at, metric__in=[one.metric for one in asked])
    subject = prompt_version or model
    if prompt_version:
        scored = scored.filter(run__prompt_version=prompt_version, run__model__in=["", model])
    else:
        scored = scored.filter(run__model=model)
    if deployment:
        scored, subject = (
            scored.filter(run__deployment=deployment, run__prompt_version=""),
            evaluation_rules.deployment_subject(model, deployment),
        )
    else:
        scored = scored.filter(run__deployment__in=["", *catalog_selectors.serving_references(model)])
    for score in scored.select_related("run").defer("items").order_by("metric", "-run__at", "-pk").distinct("metric"):
        newest[score.metric] = score
    waived = EvaluationWaiver.objects.filter(threshold__in=asked, model=subject, approved=True, until__gt=at)
    waivers = {one.threshold_id: one for one in waived.order_by("decided_at")}
    return [_standing(one, newest.get(one.metric), waivers.get(one.pk), at) for one in asked]


def _standing(threshold: EvaluationThreshold, score: EvaluationScore | None, waiver: EvaluationWaiver | None, at: datetime) -> Standing:
    if score is not None and score.run.at < at - timedelta(days=threshold.max_age_days):
        score = None
    # Without its items: they are not needed to judge, and many.
    facts = None if score is None else evaluation_rules.Score(score.value, score.n, score.low, score.high)
    verdict, reason = evaluation_rules.judge(
        facts, metric=threshold.metric, operator=threshold.operator, threshold=threshold.value, minimum=threshold.minimum, at=at
    )
    if waiver is not None and verdict not in rules.OPENS and not threshold.is_safety:
        verdict, reason = rules.Verdict.WAIVED, f"waived to {waiver.until:%b} {waiver.until.day}; {reason}"
    return Standing(threshold, score, verdict, reason)


def asked_of_deployment(deployment: str, model: str, feature_class: str) -> list[hooks.Asked]:
    """How a deployment (`openai/gpt-4o`) that is added to a served model stands with each threshold of the class, for the model's page."""
    subject = evaluation_rules.deployment_subject(model, deployment)
    return _asked(standings(model, feature_class, at=timezone.now(), deployment=deployment), subject)


def asked_of_prompt(version: str, model: str, feature_class: str) -> list[hooks.Asked]:
    """The same of a version of a prompt or flow (`greeting@3`) with each threshold of the class of a model that it names."""
    return _asked(standings(model, feature_class, at=timezone.now(), prompt_version=version), version)


def _asked(found: Iterable[Standing], subject: str) -> list[hooks.Asked]:
    return [hooks.Asked(one.said, one.verdict.value, one.reason, _waive_url(one.threshold, subject)) for one in found]


def _waive_url(threshold: EvaluationThreshold, subject: str) -> str:
    if threshold.is_safety:
        return ""
    return f"{reverse('evaluation-threshold-waive', kwargs={'pk': threshold.pk})}?{urlencode({'model': subject})}"


GOLDEN = "golden"
"""How the names of data sets begin whose answers are known and must all be met."""
_MET_BY = ("correctness", "task_success")


def golden_failures(window: Window) -> Reading:
    """Items that were not met, over the newest run of each golden data set, of whatever version, for each of its subjects.

    A run that does not tell whether its items were met makes it unknown.
    """
    told = EvaluationRun.objects.filter(dataset__istartswith=GOLDEN, at__gte=window.start, at__lt=window.end).order_by("-at", "-pk")
    newest: dict[tuple[str, ...], EvaluationRun] = {}
    for run in told.prefetch_related(Prefetch("scores", queryset=EvaluationScore.objects.filter(metric__in=_MET_BY))):
        newest.setdefault((run.dataset.partition("@")[0], run.model, run.deployment, run.prompt_version.partition("@")[0]), run)
    if not newest or not all(run.scores.all() for run in newest.values()):
        return NO_DATA
    scores = [score.facts for run in newest.values() for score in run.scores.all()]
    failed, tried = sum(map(evaluation_rules.failures, scores)), sum(score.n for score in scores)
    return Reading(float(failed), tried, statistics={"failed": failed, "tried": tried, "runs": len(newest)})


def metric_of(measure: evaluation_rules.Measure) -> Metric:
    """All runs of the window pooled, of whatever model: what a gate or a rollback rule reads."""

    def read(window: Window) -> Reading:
        told = EvaluationScore.objects.filter(metric=measure.key, run__at__gte=window.start, run__at__lt=window.end)
        values = told.values_list("value", "n", "low", "high")
        return evaluation_rules.pooled([evaluation_rules.Score(*each) for each in values])

    name = measure.description[:1].upper() + measure.description[1:]
    return Metric(
        f"evaluations.{measure.key}", measure.title, "score", "higher" if measure.better == "higher" else "lower", 50, read, f"{name}."
    )
