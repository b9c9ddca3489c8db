"""Endpoints of rollback rules and incidents: the same services and selectors as the pages."""

from __future__ import annotations

from datetime import UTC, datetime

from django.db.models import QuerySet
from django.utils import timezone
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_view
from rest_framework import generics
from rest_framework.response import Response
from rest_framework.views import APIView

from governance.access import Permission, or_404
from governance.api.inputs import body_of
from governance.api.serializers import ERRORS, ErrorSerializer
from governance.requests import ApiRequest
from rollouts import flag_selectors, rollback_trials, rollback_wording
from rollouts import rollback_selectors as selectors
from rollouts.api import rollback_serializers as serializers
from rollouts.errors import RuleInvalidError
from rollouts.models import Flag, Incident, RollbackRule
from rollouts.rollback_language import RuleError
from rollouts.services import incidents, rollback_rules


def named_flag(key: str) -> Flag:
    """Named in a body, so a wrong one is a wrong body."""
    flag = flag_selectors.find_flag(key)
    if flag is None:
        raise RuleInvalidError(f"There is no flag {key}.", field="flag")
    return flag


def the_rule(pk: int) -> RollbackRule:
    return or_404(selectors.find_rule(pk))


def the_incident(number: int) -> Incident:
    return or_404(selectors.find_incident(number))


def rule_answer(rule: RollbackRule, *, status: int = 200) -> Response:
    return Response(serializers.RollbackRuleOutput(the_rule(rule.pk)).data, status=status)


@extend_schema_view(get=extend_schema(parameters=[OpenApiParameter("flag", str, description="Key of a flag.")]))
class RollbackRules(generics.ListAPIView[RollbackRule]):
    """Rules that are not removed; POST makes one and arms it."""

    access = {"GET": Permission.VIEW, "POST": Permission.MANAGE_ROLLOUTS}
    serializer_class = serializers.RollbackRuleOutput
    ordering = ("id",)
    queryset = RollbackRule.objects.none()  # for the schema

    def get_queryset(self) -> QuerySet[RollbackRule]:
        return selectors.all_rules(flag=self.request.query_params.get("flag", ""))

    @extend_schema(request=serializers.RuleInput, responses={201: serializers.RollbackRuleOutput, **ERRORS})
    def post(self, request: ApiRequest) -> Response:
        """What the linter calls an error is not saved."""
        data = body_of(request, serializers.RuleInput)
        flag = named_flag(data.pop("flag"))
        checked = rollback_trials.check_text(flag, data["text"], at=timezone.now())
        for finding in checked.lint.findings if checked.lint else ():
            if finding.level == "error":
                raise RuleInvalidError(finding.text, field="text")
        return rule_answer(rollback_rules.create_rule(flag=flag, actor=request.user, **data), status=201)


class RollbackRuleDetail(APIView):
    access = {"GET": Permission.VIEW, "DELETE": Permission.MANAGE_ROLLOUTS}

    @extend_schema(responses={200: serializers.RollbackRuleOutput, 404: ErrorSerializer})
    def get(self, request: ApiRequest, pk: int) -> Response:
        return rule_answer(the_rule(pk))

    @extend_schema(request=None, responses={204: None, **ERRORS})
    def delete(self, request: ApiRequest, pk: int) -> Response:
        """Take it away; its incidents keep it."""
        rollback_rules.remove_rule(rule=the_rule(pk), actor=request.user)
        return Response(status=204)


class RollbackRuleArm(APIView):
    access = {"POST": Permission.MANAGE_ROLLOUTS}

    @extend_schema(request=serializers.RuleArmInput, responses={200: serializers.RollbackRuleOutput, **ERRORS})
    def post(self, request: ApiRequest, pk: int) -> Response:
        """Watch by it from now on, against the baseline of now."""
        rule = the_rule(pk)
        return rule_answer(rollback_rules.arm_rule(rule=rule, actor=request.user, **body_of(request, serializers.RuleArmInput)))


class RollbackRulePause(APIView):
    access = {"POST": Permission.MANAGE_ROLLOUTS}

    @extend_schema(request=serializers.RulePauseInput, responses={200: serializers.RollbackRuleOutput, **ERRORS})
    def post(self, request: ApiRequest, pk: int) -> Response:
        rule = the_rule(pk)
        return rule_answer(rollback_rules.pause_rule(rule=rule, **body_of(request, serializers.RulePauseInput), actor=request.user))


class RollbackRuleLint(APIView):
    access = {"POST": Permission.MANAGE_ROLLOUTS}

    @extend_schema(request=serializers.RuleTextInput, responses={200: serializers.RuleLintOutput, **ERRORS})
    def post(self, request: ApiRequest) -> Response:
        """How soon a rule can act, how often chance alone fires it at the present traffic, and what it lacks."""
        body = body_of(request, serializers.RuleTextInput)
        checked = rollback_trials.check_text(named_flag(body["flag"]), body["text"], at=timezone.now())
        if checked.lint is None:
            assert checked.error is not None
            wrong = {"level": "error", "text": str(checked.error), "position": checked.error.position}
            answer = {"ok": False, "earliest_s": None, "false_alarms_per_week": None, "findings": [wrong]}
            return Response(serializers.RuleLintOutput(answer).data)
        lint = checked.lint
        return Response(
            serializers.RuleLintOutput(
                {
                    "ok": checked.may_save, "earliest_s": lint.earliest_s, "false_alarms_per_week": lint.false_alarms_per_week,
                    "findings": lint.findings,
                }
            ).data
        )  # fmt: skip


class RollbackRuleReplay(APIView):
    access = {"POST": Permission.MANAGE_ROLLOUTS}

    @extend_schema(request=serializers.RuleReplayInput, responses={200: serializers.ReplayOutput, **ERRORS})
    def post(self, request: ApiRequest) -> Response:
        """What a rule would have done to the last seven days."""
        data = body_of(request, serializers.RuleReplayInput)
        flag = named_flag(data.pop("flag"))
        try:
            seen = rollback_trials.dry_run(flag, data.pop("text"), at=timezone.now(), **data)
        except RuleError as error:
            raise RuleInvalidError(f"{error} (character {error.position + 1})", field="text") from error
        episodes = [
            {"at": datetime.fromtimestamp(one.at, UTC), "variant": one.variant, "breach": rollback_wording.breach(one.verdict)}
            for one in seen.replay.episodes
        ]
        told = {"steps": seen.replay.steps, "bad": seen.replay.bad, "unknown": seen.replay.unknown, "episodes": episodes}
        return Response(serializers.ReplayOutput({"since": seen.since, "until": seen.until, "stride": seen.stride, **told}).data)


@extend_schema_view(get=extend_schema(parameters=[OpenApiParameter("tab", str, enum=["open", "resolved"])]))
class Incidents(generics.ListAPIView[Incident]):
    """Newest first; `tab` is `open` or `resolved`."""

    access = {"GET": Permission.VIEW}
    serializer_class = serializers.RollbackIncidentOutput
    ordering = ("-number",)
    queryset = Incident.objects.none()  # for the schema

    def get_queryset(self) -> QuerySet[Incident]:
        return selectors.incidents(tab=self.request.query_params.get("tab", ""))


class IncidentDetail(APIView):
    access = {"GET": Permission.VIEW}

    @extend_schema(responses={200: serializers.RollbackIncidentDetailOutput, 404: ErrorSerializer})
    def get(self, request: ApiRequest, number: int) -> Response:
        return Response(serializers.RollbackIncidentDetailOutput(the_incident(number)).data)


class IncidentAcknowledge(APIView):
    access = {"POST": Permission.MANAGE_ROLLOUTS}

    @extend_schema(request=None, responses={200: serializers.RollbackIncidentOutput, **ERRORS})
    def post(self, request: ApiRequest, number: int) -> Response:
        incidents.acknowledge_incident(incident=the_incident(number), actor=request.user)
        return Response(serializers.RollbackIncidentOutput(the_incident(number)).data)


class IncidentResolve(APIView):
    access = {"POST": Permission.MANAGE_ROLLOUTS}

    @extend_schema(request=serializers.IncidentResolveInput, responses={200: serializers.RollbackIncidentOutput, **ERRORS})
    def post(self, request: ApiRequest, number: int) -> Response:
        """Say what was found; from then on exposure may rise again."""
        incident = the_incident(number)
        incidents.resolve_incident(incident=incident, **body_of(request, serializers.IncidentResolveInput), actor=request.user)
        return Response(serializers.RollbackIncidentOutput(the_incident(number)).data)
