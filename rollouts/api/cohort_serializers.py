"""Shapes of the REST API of cohorts."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from governance.api.serializers import StrictSerializer
from governance.models import Effect, FeatureClass
from rollouts import cohort_rules as rules
from rollouts.api.flag_serializers import FlagDetailOutput
from rollouts.cohort_selectors import Rung
from rollouts.models import Cohort, CohortMember, SurveyAnswer, SurveyKind, SurveySubject, TenantOverride
from rollouts.models.flag import key_validator
from rollouts.models.rollout import slug_validator


class CohortInput(StrictSerializer):
    slug = serializers.CharField(max_length=60, validators=[slug_validator])
    name = serializers.CharField(max_length=100)
    purpose = serializers.CharField(max_length=500, required=False, default="", allow_blank=True)
    flag_key = serializers.CharField(max_length=120, validators=[key_validator], help_text="A key that is not used yet makes a flag.")
    feature_class = serializers.ChoiceField(choices=FeatureClass.choices)
    criteria = serializers.CharField(max_length=4000, help_text="One per line, for example calls_per_day >= 100.")
    places = serializers.IntegerField(min_value=1, max_value=10_000)
    over_recruitment = serializers.IntegerField(
        min_value=0, max_value=200, required=False, default=rules.DEFAULT_OVER_RECRUITMENT, help_text="Percent asked beyond the places."
    )


class CohortReasonInput(StrictSerializer):
    reason = serializers.CharField(max_length=300)


class CohortInviteInput(StrictSerializer):
    """Without an organisation: the candidates who meet the criteria."""

    tenant = serializers.SlugField(max_length=32, required=False, help_text="Ask this one in spite of the criteria; needs a reason.")
    reason = serializers.CharField(max_length=300, required=False, default="", allow_blank=True)


class CohortWindDownInput(CohortReasonInput):
    tenants = serializers.ListField(
        child=serializers.SlugField(max_length=32), required=False, min_length=1, help_text="Default: everybody; the cohort is closed."
    )


class CohortStageInput(CohortReasonInput):
    stage = serializers.ChoiceField(choices=[stage.key for stage in rules.STAGES if stage.attribute != "tenant"])


class CohortDecideInput(StrictSerializer):
    approve = serializers.BooleanField()
    comment = serializers.CharField(max_length=500, required=False, default="", allow_blank=True, help_text="Needed to decline.")


class CohortReviewInput(StrictSerializer):
    comment = serializers.CharField(max_length=500)


class CohortAnswerInput(StrictSerializer):
    answer = serializers.ChoiceField(choices=["accept", "decline", "leave"])
    reason = serializers.CharField(max_length=300, required=False, default="", allow_blank=True)


class CohortOutcomeOutput(serializers.Serializer[rules.Outcome]):
    criterion = serializers.CharField()
    figure = serializers.JSONField(allow_null=True, help_text="Null: not known, which is no pass.")
    verdict = serializers.ChoiceField(choices=CohortMember.Verdict.choices)


class CohortMemberOutput(serializers.ModelSerializer[CohortMember]):
    tenant = serializers.CharField(source="tenant.slug")
    outcomes = CohortOutcomeOutput(many=True)
    answered_by = serializers.EmailField(source="answered_by.email", default=None)

    class Meta:
        model = CohortMember
        fields = [
            "tenant", "state", "verdict", "outcomes", "screened_at", "override_reason", "invited_at", "answer_by", "answered_at", "answered_by",
            "activated_at", "first_call_at", "winding_down_at", "leaves_at", "left_at", "reason",
        ]  # fmt: skip


class CohortOutput(serializers.ModelSerializer[Cohort]):
    flag = serializers.CharField(source="flag.key")
    feature_class = serializers.CharField(source="flag.feature_class")
    owner = serializers.EmailField(source="owner.email")
    recruits = serializers.IntegerField(help_text="How many may be asked or in.")
    candidates = serializers.IntegerField(help_text="Who meet the criteria and are not asked.")
    asked = serializers.IntegerField()
    enrolled = serializers.IntegerField()
    active = serializers.IntegerField()
    winding_down = serializers.IntegerField()

    class Meta:
        model = Cohort
        fields = [
            "slug", "name", "purpose", "flag", "feature_class", "criteria", "places", "over_recruitment", "recruits", "owner", "created_at",
            "screened_at", "closed_at", "candidates", "asked", "enrolled", "active", "winding_down",
        ]  # fmt: skip


class CohortStageOutput(serializers.Serializer[Rung]):
    stage = serializers.CharField(source="stage.key")
    title = serializers.CharField(source="stage.title")
    exit_rule = serializers.CharField(source="stage.exit_rule")
    is_open = serializers.BooleanField()
    since = serializers.DateTimeField(allow_null=True)
    until = serializers.DateTimeField(allow_null=True, help_text="When it will have held.")
    has_held = serializers.BooleanField()


class CohortDetailOutput(serializers.Serializer[Any]):
    cohort = CohortOutput()
    flag = FlagDetailOutput()
    stages = CohortStageOutput(many=True)


class TenantOverrideInput(StrictSerializer):
    tenant = serializers.CharField(max_length=32, help_text="Address of the organisation.")
    variant = serializers.CharField(max_length=60, help_text="The control holds at once; a treatment once another operator agrees.")
    reason = serializers.CharField(max_length=300)
    until = serializers.DateTimeField(help_text="Within 90 days.")


class TenantOverrideOutput(serializers.ModelSerializer[TenantOverride]):
    id = serializers.IntegerField(source="pk")
    tenant = serializers.CharField(source="tenant.slug")
    requested_by = serializers.EmailField(source="requested_by.email")
    change = serializers.IntegerField(source="change.number")
    ending = serializers.IntegerField(source="ending.number", default=None, help_text="The change that waits to take it back.")
    state = serializers.CharField(source="state_words")

    class Meta:
        model = TenantOverride
        fields = [
            "id", "tenant", "variant", "reason", "until", "state", "requested_by", "requested_at", "change", "applied_at", "ending", "ended_at",
        ]  # fmt: skip


class CohortStandingOutput(serializers.Serializer[Any]):
    """What the operator gives and what the organisation allows: two things, and programs need both."""

    cohort = serializers.CharField(source="member.cohort.slug")
    name = serializers.CharField(source="member.cohort.name")
    purpose = serializers.CharField(source="member.cohort.purpose")
    state = serializers.ChoiceField(source="member.state", choices=CohortMember.State.choices)
    flag = serializers.CharField()
    is_entitled = serializers.BooleanField()
    has_consent = serializers.BooleanField()
    variant = serializers.CharField(source="decision.variant", help_text="What programs get now.")
    detail = serializers.CharField(source="decision.detail")
    answer_by = serializers.DateTimeField(source="member.answer_by", allow_null=True)
    leaves_at = serializers.DateTimeField(source="member.leaves_at", allow_null=True)
    reason = serializers.CharField(source="member.reason")


class ProgrammeStepOutput(serializers.Serializer[Any]):
    key = serializers.CharField()
    count = serializers.IntegerField(help_text="Organisations.")
    of = serializers.IntegerField(help_text="Who could have come here by now.")
    share = serializers.FloatField(allow_null=True, help_text="Percent; null when nobody could have.")


class ProgrammeWeekOutput(serializers.Serializer[Any]):
    monday = serializers.DateField()
    size = serializers.IntegerField()
    shares = serializers.ListField(
        child=serializers.FloatField(allow_null=True), help_text="Percent with calls in week 0, 1, …; null while the week is not over."
    )


class ProgrammeTimesOutput(serializers.Serializer[Any]):
    n = serializers.IntegerField()
    waiting = serializers.IntegerField()
    median = serializers.FloatField(allow_null=True, help_text="Seconds from enrolment.")
    p90 = serializers.FloatField(allow_null=True)


class ProgrammeScoreOutput(serializers.Serializer[Any]):
    n = serializers.IntegerField()
    value = serializers.FloatField(allow_null=True, help_text="Null below five answers.")
    low = serializers.FloatField(allow_null=True, help_text="Of the 95% interval.")
    high = serializers.FloatField(allow_null=True)


class ProgrammeDrillOutput(serializers.Serializer[Any]):
    at = serializers.DateTimeField()
    by = serializers.CharField()
    organisations = serializers.IntegerField()
    slowest_s = serializers.FloatField(allow_null=True)
    rto_s = serializers.FloatField()
    verdict = serializers.ChoiceField(choices=Effect.VERDICTS)


class ProgrammeOutput(serializers.Serializer[Any]):
    stages = CohortStageOutput(many=True)
    funnel = ProgrammeStepOutput(many=True)
    retention = ProgrammeWeekOutput(many=True)
    first_call = ProgrammeTimesOutput()
    csat = ProgrammeScoreOutput()
    nps = ProgrammeScoreOutput()
    drills = ProgrammeDrillOutput(many=True)


class ProgrammeCommentOutput(serializers.ModelSerializer[SurveyAnswer]):
    tenant = serializers.CharField(source="tenant.slug")

    class Meta:
        model = SurveyAnswer
        fields = ["on", "tenant", "kind", "score", "comment"]


class SurveyAnswerInput(StrictSerializer):
    question = serializers.CharField(max_length=200, help_text="The key of the question that is answered.")
    score = serializers.IntegerField(min_value=0, max_value=10)
    comment = serializers.CharField(max_length=1000, required=False, default="", allow_blank=True)


class SurveyQuestionOutput(serializers.Serializer[Any]):
    key = serializers.CharField(help_text="Which question it is; an answer says it.")
    cohort = serializers.CharField(source="cohort.slug", default=None, help_text="Null: a gate of the organisation's own rollout asks.")
    subject = serializers.ChoiceField(choices=SurveySubject.choices, allow_blank=True)
    kind = serializers.ChoiceField(choices=SurveyKind.choices)
    text = serializers.CharField()


class SurveyOutput(serializers.Serializer[Any]):
    question = SurveyQuestionOutput(allow_null=True, help_text="What is due to the token's person; null nearly always.")
    is_allowed = serializers.BooleanField(help_text="May people of the organisation be asked?")


class SurveySettingsInput(StrictSerializer):
    is_allowed = serializers.BooleanField()
