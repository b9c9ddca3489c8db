"""Asking people, seldom, and keeping what they say apart from who said it. Works in the public schema."""

from __future__ import annotations

from datetime import datetime

from django.db import transaction
from django.utils import timezone
from django_tenants.utils import schema_context

from governance.models import Tenant, User
from governance.services import audit
from rollouts import programme_selectors as selectors
from rollouts.errors import SurveyNotDueError, SurveyScoreError
from rollouts.models import SurveyAnswer, SurveyKind, SurveyOptOut, SurveyPrompt

SCALES = {SurveyKind.CSAT: (1, 5), SurveyKind.NPS: (0, 10)}


@transaction.atomic
def answer(*, tenant: Tenant, person: User, question: str, score: int, comment: str = "", at: datetime | None = None) -> SurveyAnswer:
    """Answer a question that is due to the person, told by its key.

    Raises SurveyNotDueError (also where it was another question that the person saw), SurveyScoreError (not on the scale, or words where
    nobody reads them).
    """
    at = at or timezone.now()
    asked = _take(tenant, person, at, key=question)
    low, high = SCALES[asked.kind]
    if not low <= score <= high:
        raise SurveyScoreError(f"Choose {low} to {high}.", field="score")
    if comment.strip() and asked.cohort is None:
        raise SurveyScoreError("A gate asks for the number alone.", field="comment")
    return SurveyAnswer.objects.create(
        cohort=asked.cohort, subject=asked.subject, stage=asked.stage, tenant=tenant, kind=asked.kind, score=score,
        comment=comment.strip(), on=at.date(),
    )  # fmt: skip


@transaction.atomic
def dismiss(*, tenant: Tenant, person: User, at: datetime | None = None) -> None:
    """Put the question away, for as long as an answer would. Raises SurveyNotDueError."""
    _take(tenant, person, at or timezone.now())


def _take(tenant: Tenant, person: User, at: datetime, *, key: str | None = None) -> selectors.Question:
    User.objects.select_for_update().get(pk=person.pk)  # two windows of one person ask at once
    due = selectors.questions_for(tenant, person, at=at)
    question = next((one for one in due if key is None or one.key == key), None)
    if question is None:
        raise SurveyNotDueError(
            "Another question is asked of you now. Your answer was not kept." if due else "Nothing is asked of you now."
        )
    SurveyPrompt.objects.create(person=person, cohort=question.cohort, kind=question.kind, at=at)
    return question


@transaction.atomic
def set_surveys(*, tenant: Tenant, wanted: bool, actor: User, at: datetime | None = None) -> bool:
    """May people of the organisation be asked? The same decision twice changes nothing."""
    at = at or timezone.now()
    if wanted:
        changed = SurveyOptOut.objects.filter(tenant=tenant).delete()[0] > 0
    else:
        _, changed = SurveyOptOut.objects.get_or_create(tenant=tenant, defaults={"by": actor, "at": at})
    if changed:
        with schema_context(tenant.schema_name):
            audit.record("survey.switched_on" if wanted else "survey.switched_off", actor=actor, target=tenant, at=at)
    return changed
