"""Endpoints of cohorts: of the operator over all organisations, and of an organisation about itself."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from django.utils import timezone
from django_tenants.utils import get_public_schema_name, schema_context
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import generics
from rest_framework.response import Response
from rest_framework.views import APIView

from governance.access import Permission, or_404
from governance.api.inputs import body_of
from governance.api.permissions import OPERATOR
from governance.api.serializers import ERRORS
from governance.models import Tenant
from governance.requests import ApiRequest
from rollouts import cohort_selectors as selectors
from rollouts.api import cohort_serializers as serializers
from rollouts.api.flag_serializers import ChangeOutput, DecisionOutput
from rollouts.errors import CohortInvalidError
from rollouts.models import Cohort, CohortMember, FlagChange, TenantOverride
from rollouts.services import cohort_endings, cohort_exposure, cohorts, flag_changes, tenant_overrides


def the_cohort(slug: str) -> Cohort:
    return or_404(selectors.find_cohort(slug))


def the_change(slug: str, number: int) -> FlagChange:
    return or_404(selectors.find_change(the_cohort(slug), number))


def cohort_answer(slug: str, *, status: int = 200) -> Response:
    """The cohort as it is after whatever was done."""
    cohort = the_cohort(slug)
    found = {"cohort": cohort, "flag": cohort.flag, "stages": selectors.ladder(cohort.flag, at=timezone.now())}
    return Response(serializers.CohortDetailOutput(found).data, status=status)


def change_answer(slug: str, change: FlagChange, *, status: int = 200) -> Response:
    return Response(ChangeOutput(the_change(slug, change.number)).data, status=status)


class PlatformCohorts(generics.ListAPIView[Cohort]):
    """Cohorts, newest first, by `tab` (open, closed) and `q`; POST makes one. Nobody is asked or exposed by that."""

    access = {"GET": OPERATOR, "POST": OPERATOR}
    serializer_class = serializers.CohortOutput
    ordering = ("-created_at", "-pk")

    def get_queryset(self) -> QuerySet[Cohort]:
        asked = self.request.query_params
        return selectors.cohorts(tab=asked.get("tab", ""), query=asked.get("q", ""))

    @extend_schema(request=serializers.CohortInput, responses={201: serializers.CohortDetailOutput, **ERRORS})
    def post(self, request: ApiRequest) -> Response:
        return cohort_answer(cohorts.create_cohort(actor=request.user, **body_of(request, serializers.CohortInput)).slug, status=201)


class PlatformCohortDetail(APIView):
    access = {"GET": OPERATOR}

    @extend_schema(responses={200: serializers.CohortDetailOutput, **ERRORS})
    def get(self, request: ApiRequest, slug: str) -> Response:
        return cohort_answer(slug)


class PlatformCohortMembers(generics.ListAPIView[CohortMember]):
    """Organisations by state `tab` (in, asked, candidates, out; default: all), those with most calls first."""

    access = {"GET": OPERATOR}
    serializer_class = serializers.CohortMemberOutput
    ordering = ("-weight", "pk")
    queryset = CohortMember.objects.none()  # for the schema

    def get_queryset(self) -> QuerySet[CohortMember]:
        cohort, tab = the_cohort(self.kwargs["slug"]), self.request.query_params.get("tab", "")
        return selectors.listed_members(cohort, tab) if tab in selectors.TAB_STATES else selectors.members_of(cohort)


class _Act(APIView):
    access: dict[str, Any] = {"POST": OPERATOR}


class PlatformCohortScreen(_Act):
    @extend_schema(request=None, responses={202: serializers.CohortDetailOutput, **ERRORS})
    def post(self, request: ApiRequest, slug: str) -> Response:
        """Have every organisation judged anew by a worker."""
        cohorts.ask_for_screening(cohort=the_cohort(slug), actor=request.user)
        return cohort_answer(slug, status=202)


class PlatformCohortInvite(_Act):
    @extend_schema(request=serializers.CohortInviteInput, responses={201: serializers.CohortMemberOutput(many=True), **ERRORS})
    def post(self, request: ApiRequest, slug: str) -> Response:
        """Ask the candidates, as many as are recruited; or one organisation in spite of the criteria."""
        cohort, data = the_cohort(slug), body_of(request, serializers.CohortInviteInput)
        if "tenant" in data:
            tenant = Tenant.objects.filter(slug=data["tenant"]).first()
            if tenant is None:
                raise CohortInvalidError("There is no organisation with this address.", field="tenant")
            asked = [cohorts.invite_in_spite(cohort=cohort, tenant=tenant, reason=data["reason"], actor=request.user)]
        else:
            asked = cohorts.invite(cohort=cohort, actor=request.user)
        return Response(serializers.CohortMemberOutput(asked, many=True).data, status=201)


class PlatformCohortActivate(_Act):
    @extend_schema(request=serializers.CohortReasonInput, responses={201: ChangeOutput, **ERRORS})
    def post(self, request: ApiRequest, slug: str) -> Response:
        """Ask for the exposure of everybody who is enrolled; another operator approves it."""
        data = body_of(request, serializers.CohortReasonInput)
        return change_answer(slug, cohort_exposure.propose_activation(cohort=the_cohort(slug), actor=request.user, **data), status=201)


class PlatformCohortStage(_Act):
    @extend_schema(request=serializers.CohortStageInput, responses={201: ChangeOutput, **ERRORS})
    def post(self, request: ApiRequest, slug: str) -> Response:
        """Ask for the next stage of the flag: internal, dogfood, a tier, everybody. From the first tier on the one before must have held."""
        data = body_of(request, serializers.CohortStageInput)
        return change_answer(slug, cohort_exposure.open_stage(flag=the_cohort(slug).flag, actor=request.user, **data), status=201)


class PlatformCohortOverrides(generics.ListAPIView[TenantOverride]):
    """What single organisations have of the cohort's flag apart from its stages, newest first; POST gives one of them a variant for a time."""

    access = {"GET": OPERATOR, "POST": OPERATOR}
    serializer_class = serializers.TenantOverrideOutput
    ordering = ("-requested_at", "-pk")
    queryset = TenantOverride.objects.none()  # for the schema

    def get_queryset(self) -> QuerySet[TenantOverride]:
        return selectors.overrides_of(the_cohort(self.kwargs["slug"]))

    @extend_schema(request=serializers.TenantOverrideInput, responses={201: serializers.TenantOverrideOutput, **ERRORS})
    def post(self, request: ApiRequest, slug: str) -> Response:
        """The control is in force at once and reviewed by another operator; a treatment waits for one, and stays within the consent."""
        cohort, data = the_cohort(slug), body_of(request, serializers.TenantOverrideInput)
        tenant = Tenant.objects.filter(slug=data.pop("tenant")).first()
        if tenant is None:
            raise CohortInvalidError("There is no organisation with this address.", field="tenant")
        made = tenant_overrides.set_override(flag=cohort.flag, tenant=tenant, actor=request.user, **data)
        return Response(serializers.TenantOverrideOutput(made).data, status=201)


class PlatformCohortOverrideEnd(_Act):
    @extend_schema(request=serializers.CohortReasonInput, responses={200: serializers.TenantOverrideOutput, **ERRORS})
    def post(self, request: ApiRequest, slug: str, pk: int) -> Response:
        """Before its time. What was given goes at once; what was taken comes back once another operator agrees."""
        override = or_404(selectors.find_override(the_cohort(slug), pk))
        data = body_of(request, serializers.CohortReasonInput)
        return Response(serializers.TenantOverrideOutput(tenant_overrides.end_override(override=override, actor=request.user, **data)).data)


class PlatformCohortWho(APIView):
    access = {"GET": OPERATOR}

    @extend_schema(
        parameters=[OpenApiParameter("tenant", str, required=True, description="Address of the organisation.")],
        responses={200: DecisionOutput, **ERRORS},
    )
    def get(self, request: ApiRequest, slug: str) -> Response:
        """What programs of one organisation get from the cohort's flag, by its own facts and consent, and why."""
        found = selectors.who_gets(the_cohort(slug), request.query_params.get("tenant", ""))
        if found is None:
            raise CohortInvalidError("There is no organisation with this address.", field="tenant")
        return Response(DecisionOutput(found[1]).data)


class PlatformCohortSwitchOff(_Act):
    @extend_schema(request=serializers.CohortReasonInput, responses={201: ChangeOutput, **ERRORS})
    def post(self, request: ApiRequest, slug: str) -> Response:
        """Expose nobody any more, at once and alone; another operator reviews it. Members stay enrolled."""
        data = body_of(request, serializers.CohortReasonInput)
        return change_answer(slug, cohort_exposure.switch_off(flag=the_cohort(slug).flag, actor=request.user, **data), status=201)


class PlatformCohortWindDown(_Act):
    @extend_schema(request=serializers.CohortWindDownInput, responses={200: serializers.CohortMemberOutput(many=True), **ERRORS})
    def post(self, request: ApiRequest, slug: str) -> Response:
        """Announce the end: active members keep the feature for 14 more days, the others leave at once."""
        cohort, data = the_cohort(slug), body_of(request, serializers.CohortWindDownInput)
        tenants = selectors.tenants_named(data["tenants"]) if "tenants" in data else None
        told = cohort_endings.wind_down(cohort=cohort, tenants=tenants, reason=data["reason"], actor=request.user)
        return Response(serializers.CohortMemberOutput(told, many=True).data)


class PlatformCohortDecide(_Act):
    @extend_schema(request=serializers.CohortDecideInput, responses={200: ChangeOutput, **ERRORS})
    def post(self, request: ApiRequest, slug: str, number: int) -> Response:
        """Approve or decline another operator's change of exposure, or take back one's own."""
        change, data = the_change(slug, number), body_of(request, serializers.CohortDecideInput)
        return change_answer(slug, cohort_exposure.decide(change=change, actor=request.user, **data))


class PlatformCohortReview(_Act):
    @extend_schema(request=serializers.CohortReviewInput, responses={200: ChangeOutput, **ERRORS})
    def post(self, request: ApiRequest, slug: str, number: int) -> Response:
        """Put on record what came of another operator's emergency."""
        change, data = the_change(slug, number), body_of(request, serializers.CohortReviewInput)
        return change_answer(slug, flag_changes.review_lowering(change=change, actor=request.user, **data))


class Cohorts(APIView):
    """Cohorts that the organisation was asked into, the newest first."""

    access = {"GET": Permission.VIEW}

    @extend_schema(responses={200: serializers.CohortStandingOutput(many=True)})
    def get(self, request: ApiRequest) -> Response:
        return Response(serializers.CohortStandingOutput(selectors.standings(request.tenant), many=True).data)


class CohortAnswer(APIView):
    access = {"POST": Permission.MANAGE_ROLLOUTS}

    @extend_schema(request=serializers.CohortAnswerInput, responses={200: serializers.CohortStandingOutput, **ERRORS})
    def post(self, request: ApiRequest, slug: str) -> Response:
        """Accept or decline an invitation, or leave: that holds at the gateway within seconds."""
        standing = self._standing(request, slug)
        data = body_of(request, serializers.CohortAnswerInput)
        answer, member, why = data["answer"], standing.member, data["reason"]
        with schema_context(get_public_schema_name()):
            if answer == "leave":
                cohort_endings.leave(member=member, reason=why, actor=request.user)
            else:
                cohorts.answer(member=member, accept=answer == "accept", reason=why, actor=request.user)
        return Response(serializers.CohortStandingOutput(self._standing(request, slug)).data)

    def _standing(self, request: ApiRequest, slug: str) -> selectors.Standing:
        return or_404(next(iter(selectors.standings(request.tenant, slug=slug)), None))
