"""What the programme shows of a cohort, and what people of its organisations are asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Count, Q, QuerySet
from django_tenants.utils import schema_context

from governance.models import Effect, Tenant, User
from rollouts import cohort_selectors
from rollouts import programme_rules as rules
from rollouts.cohort_selectors import Rung
from rollouts.models import (
    Cohort,
    CohortMember,
    Criterion,
    Phase,
    Rollout,
    SurveyAnswer,
    SurveyKind,
    SurveyOptOut,
    SurveyPrompt,
    SurveySubject,
)
from rollouts.survey_subjects import ASKS, Ask

PAUSE = timedelta(days=60)
"""Between two questions to one person, over all organisations, answered or put away."""
SETTLED = timedelta(days=7)
"""People are asked about what their organisation has had for a week."""
MEMBERS_AT_MOST = 10_000
DRILLS_SHOWN = 20
QUESTIONS = {
    SurveyKind.CSAT: "How satisfied are you with {name}?",
    SurveyKind.NPS: "How likely are you to recommend {name} to a colleague?",
}


@dataclass(frozen=True)
class Drill:
    """One rehearsal of taking the phase back, over all organisations that were active."""

    at: datetime
    by: str
    organisations: int
    slowest_s: float | None
    verdict: str
    rto_s: float


@dataclass(frozen=True)
class Programme:
    cohort: Cohort
    stages: list[Rung]
    funnel: list[rules.Step]
    retention: list[rules.Row]
    first_call: rules.Times
    csat: rules.Score
    nps: rules.Score
    drills: list[Drill]


def programme_of(cohort: Cohort, *, at: datetime) -> Programme:
    journeys = [_journey(member) for member in _asked(cohort)]
    return Programme(
        cohort, cohort_selectors.ladder(cohort.flag, at=at), rules.funnel(journeys, today=at.date()),
        rules.retention(journeys, today=at.date()), rules.times_to_first_call(journeys),
        rules.csat(_scores(cohort, SurveyKind.CSAT)), rules.nps(_scores(cohort, SurveyKind.NPS)), drills_of(cohort),
    )  # fmt: skip


def _asked(cohort: Cohort) -> QuerySet[CohortMember]:
    return cohort_selectors.members_of(cohort).exclude(state=CohortMember.State.CANDIDATE).order_by("pk")[:MEMBERS_AT_MOST]


def _journey(member: CohortMember) -> rules.Journey:
    enrolled = member.answered_at if member.state in CohortMember.IN_IT or member.activated_at or member.left_at else None
    is_in = member.state in CohortMember.IN_IT
    return rules.Journey(
        member.invited_at, enrolled, member.activated_at, member.first_call_at, tuple(member.days_with_calls), is_in
    )  # fmt: skip


def _scores(cohort: Cohort, kind: SurveyKind) -> list[int]:
    return list(SurveyAnswer.objects.filter(cohort=cohort, kind=kind).values_list("score", flat=True))


def comments_of(cohort: Cohort) -> QuerySet[SurveyAnswer]:
    """For the programme only, newest first."""
    return SurveyAnswer.objects.select_related("tenant").filter(cohort=cohort).exclude(comment="").order_by("-on", "-pk")


def drill_name(cohort: Cohort) -> str:
    return f"Rollback drill: {cohort.slug}"


def drills_of(cohort: Cohort) -> list[Drill]:
    """The newest ones first. The organisations of one drill have its moment in common."""
    found = Effect.objects.select_related("actor").filter(is_drill=True, what=drill_name(cohort), tenant__isnull=False)
    moments = list(found.order_by("-decided_at").values_list("decided_at", flat=True).distinct()[:DRILLS_SHOWN])
    by_moment: dict[datetime, list[Effect]] = {}
    for effect in found.filter(decided_at__in=moments):
        by_moment.setdefault(effect.decided_at, []).append(effect)
    return [_drill(moment, by_moment[moment]) for moment in moments]


def _drill(moment: datetime, effects: Sequence[Effect]) -> Drill:
    seconds = [effect.seconds for effect in effects]
    measured = [effect.seconds for effect in effects if effect.seconds is not None and effect.planes]
    verdict = rules.drill_verdict(
        seconds,
        given_up=sum(effect.given_up for effect in effects),
        without_planes=sum(effect.planes == 0 for effect in effects),
    )
    rto = rules.rto_of(len(effects))
    by = str(effects[0].actor) if effects[0].actor else "the schedule"
    return Drill(moment, by, len(effects), max(measured, default=None), verdict, rto.total_seconds())


# What somebody is asked


@dataclass(frozen=True)
class Question:
    cohort: Cohort | None
    """None: a rollout of the organisation itself asks."""
    kind: SurveyKind
    text: str
    subject: str = ""
    stage: str = ""

    @property
    def key(self) -> str:
        """Which question it is: an answer says to which one it was given, for another one may be due by then."""
        return ".".join((self.kind, self.subject, self.stage, self.cohort.slug if self.cohort else ""))

    @property
    def choices(self) -> range:
        return range(1, 6) if self.kind == SurveyKind.CSAT else range(11)

    @property
    def ends(self) -> tuple[str, str]:
        """What the lowest and the highest number mean."""
        return ("not at all", "very") if self.kind == SurveyKind.CSAT else ("not likely", "very likely")


def question_for(tenant: Tenant, person: User, *, at: datetime) -> Question | None:
    """What a person of an organisation is asked now; None nearly always."""
    return next(iter(questions_for(tenant, person, at=at)), None)


def questions_for(tenant: Tenant, person: User, *, at: datetime) -> list[Question]:
    """What may be asked of a person of an organisation now, the one that has the fewest answers first; none nearly always.

    For gates of the organisation, else for a cohort. Works in the organisation's schema as in the public one.
    """
    with schema_context(tenant.schema_name):
        own = asked_by_gates(at=at)
    settled = CohortMember.objects.select_related("cohort").filter(
        tenant=tenant, state=CohortMember.State.ACTIVE, activated_at__lte=at - SETTLED
    )
    member = None if own else settled.order_by("-activated_at", "-pk").first()
    if (not own and member is None) or SurveyOptOut.objects.filter(tenant=tenant).exists():
        return []
    last = SurveyPrompt.objects.filter(person=person).order_by("-at").first()
    if last is not None and last.at > at - PAUSE:
        return []
    if member is None:
        return [_gate_question(ask) for ask in _fewest_answers_first(own, tenant)]
    return _cohort_questions(member.cohort, tenant, last, at)


def asked_by_gates(*, at: datetime, cohort: str = "") -> dict[Ask, datetime]:
    """What the gates of the phases that the current schema's rollouts are in need answers for, and since when: of its own people, or of those of a
    cohort's organisations, where the rollout is over that."""
    needed = Criterion.objects.filter(
        metric__in=ASKS, gate__phase__status=Phase.Status.CURRENT, gate__phase__entered_at__lte=at - SETTLED,
        gate__rollout__status=Rollout.Status.RUNNING, gate__rollout__paused_at=None, gate__rollout__cohort=cohort,
    )  # fmt: skip
    found = needed.order_by("gate__rollout_id", "position").values_list("metric", "gate__phase__entered_at")
    return {ASKS[metric]: entered for metric, entered in found if entered}


def _fewest_answers_first(asked: Mapping[Ask, datetime], tenant: Tenant, cohort: Cohort | None = None) -> list[Ask]:
    """Of this organisation, then of the cohort: a person is asked so seldom that otherwise the first gate would take every answer."""
    if len(asked) < 2:
        return list(asked)
    told = SurveyAnswer.objects.filter(cohort=cohort, on__gte=min(asked.values()).date())
    if cohort is None:
        told = told.filter(tenant=tenant)
    by_question = told.order_by().values_list("subject", "stage", "kind")
    counted = by_question.annotate(theirs=Count("pk", filter=Q(tenant=tenant)), all=Count("pk"))
    answers = {(subject, stage, kind): (theirs, together) for subject, stage, kind, theirs, together in counted}
    return sorted(asked, key=lambda ask: answers.get((str(ask.subject), str(ask.stage), str(ask.kind)), (0, 0)))


def _gate_question(ask: Ask) -> Question:
    return Question(None, ask.kind, QUESTIONS[ask.kind].format(name=SurveySubject(ask.subject).label), ask.subject, ask.stage)


def _cohort_questions(cohort: Cohort, tenant: Tenant, last: SurveyPrompt | None, at: datetime) -> list[Question]:
    """What gates over the cohort need; else satisfaction, then recommendation."""
    asked: dict[Ask, datetime] = {}
    for internal in Tenant.objects.filter(kind=Tenant.Kind.INTERNAL).order_by("pk"):  # only these roll out over cohorts
        with schema_context(internal.schema_name):
            asked |= asked_by_gates(at=at, cohort=cohort.slug)
    if asked:
        asks = _fewest_answers_first(asked, tenant, cohort)
        return [Question(cohort, ask.kind, QUESTIONS[ask.kind].format(name=cohort.name), ask.subject, ask.stage) for ask in asks]
    kind = SurveyKind.NPS if last is not None and last.kind == SurveyKind.CSAT else SurveyKind.CSAT
    return [Question(cohort, kind, QUESTIONS[kind].format(name=cohort.name))]


def has_surveys(tenant: Tenant) -> bool:
    return not SurveyOptOut.objects.filter(tenant=tenant).exists()
