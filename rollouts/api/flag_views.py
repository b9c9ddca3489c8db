"""Endpoints of flags: the same services and selectors as the pages."""

from __future__ import annotations

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import generics
from rest_framework.response import Response
from rest_framework.views import APIView

from governance.access import Permission, or_404
from governance.api.inputs import body_of
from governance.api.serializers import ERRORS, ErrorSerializer
from governance.requests import ApiRequest
from rollouts import exposure as rules
from rollouts import flag_selectors, selectors
from rollouts.api import flag_serializers as serializers
from rollouts.errors import ExposureInvalidError
from rollouts.models import Flag, FlagChange
from rollouts.services import flag_changes, flags


def the_flag(key: str) -> Flag:
    return or_404(flag_selectors.find_flag(key))


def the_change(key: str, number: int) -> FlagChange:
    return or_404(flag_selectors.find_change(the_flag(key), number))


def flag_answer(key: str, *, status: int = 200) -> Response:
    """The flag as it is after whatever was done."""
    return Response(serializers.FlagDetailOutput(the_flag(key)).data, status=status)


def change_answer(change: FlagChange, *, status: int = 200) -> Response:
    return Response(serializers.ChangeOutput(flag_selectors.find_change(change.flag, change.number)).data, status=status)


class Flags(generics.ListAPIView[Flag]):
    """Flags by key; POST makes one, which begins off."""

    access = {"GET": Permission.VIEW, "POST": Permission.MANAGE_ROLLOUTS}
    serializer_class = serializers.FlagOutput
    ordering = ("key",)

    def get_queryset(self) -> QuerySet[Flag]:
        asked = self.request.query_params
        return flag_selectors.flags(tab=asked.get("tab", ""), query=asked.get("q", "")).select_related("rollout")

    @extend_schema(request=serializers.FlagInput, responses={201: serializers.FlagDetailOutput, **ERRORS})
    def post(self, request: ApiRequest) -> Response:
        data = body_of(request, serializers.FlagInput)
        slug = data.pop("rollout", None)
        rollout = selectors.find_rollout(slug) if slug else None
        if slug and rollout is None:
            raise ExposureInvalidError(f"There is no rollout {slug}.", field="rollout")
        return flag_answer(flags.create_flag(rollout=rollout, actor=request.user, **data).key, status=201)


class FlagDetail(APIView):
    access = {"GET": Permission.VIEW}

    @extend_schema(responses={200: serializers.FlagDetailOutput, 404: ErrorSerializer})
    def get(self, request: ApiRequest, key: str) -> Response:
        return flag_answer(key)


class FlagEvaluate(APIView):
    access = {"POST": Permission.VIEW}

    @extend_schema(request=serializers.EvaluateInput, responses={200: serializers.DecisionOutput, **ERRORS})
    def post(self, request: ApiRequest, key: str) -> Response:
        """Who gets what, and why: what a context gets, by the function that the gateway runs. Programs ask the gateway by OFREP."""
        flag = the_flag(key)
        body = body_of(request, serializers.EvaluateInput)
        context = {**flag_selectors.facts_of(request.tenant), **body["context"]}
        seen = flag_selectors.preview(flag, context, consent=body["consent"], change=flag.waiting_change)
        return Response(serializers.DecisionOutput(seen).data)


class FlagLower(APIView):
    access = {"POST": Permission.MANAGE_ROLLOUTS}

    @extend_schema(request=serializers.LowerInput, responses={201: serializers.ChangeOutput, **ERRORS})
    def post(self, request: ApiRequest, key: str) -> Response:
        """Lower the exposure in an emergency: at once, by one person, reviewed by another within a day."""
        flag = the_flag(key)
        body = body_of(request, serializers.LowerInput)
        asked = body.get("exposure")
        exposure = serializers.exposure_from(asked, flag.exposure) if asked else rules.changed(flag.exposure, on=False)
        change = flag_changes.lower_in_emergency(flag=flag, exposure=exposure, reason=body["reason"], actor=request.user)
        return change_answer(change, status=201)


class FlagArchive(APIView):
    access = {"POST": Permission.MANAGE_ROLLOUTS}

    @extend_schema(request=None, responses={200: serializers.FlagDetailOutput, **ERRORS})
    def post(self, request: ApiRequest, key: str) -> Response:
        """Take a flag that is off out of service: callers get their own default."""
        return flag_answer(flags.archive_flag(flag=the_flag(key), actor=request.user).key)


class FlagChanges(generics.ListAPIView[FlagChange]):
    """Changes of a flag, newest first; POST proposes one."""

    access = {"GET": Permission.VIEW, "POST": Permission.MANAGE_ROLLOUTS}
    serializer_class = serializers.ChangeOutput
    ordering = ("-number",)
    queryset = FlagChange.objects.none()  # for the schema

    def get_queryset(self) -> QuerySet[FlagChange]:
        return flag_selectors.changes_of(the_flag(self.kwargs["key"]))

    @extend_schema(request=serializers.ChangeInput, responses={201: serializers.ChangeOutput, **ERRORS})
    def post(self, request: ApiRequest, key: str) -> Response:
        """What surely lowers exposure is applied at once; what may raise it waits for a second person."""
        flag = the_flag(key)
        data = body_of(request, serializers.ChangeInput)
        phase = flag.rollout.phases.filter(key=data["phase"]).first() if "phase" in data and flag.rollout else None
        if "phase" in data and phase is None:
            raise ExposureInvalidError(f"The flag's rollout has no phase {data['phase']}.", field="phase")
        assert flag.current is not None
        change = flag_changes.propose_change(
            flag=flag,
            exposure=serializers.exposure_from(data["exposure"], flag.exposure),
            reason=data["reason"],
            phase=phase,
            seen_version=data.get("seen_version", flag.current.number),
            actor=request.user,
        )
        return change_answer(change, status=201)


class _Decide(APIView):
    access = {"POST": Permission.SIGN_GATES}

    def comment(self, request: ApiRequest) -> str:
        return str(body_of(request, serializers.FlagCommentInput)["comment"])


class FlagChangeApprove(_Decide):
    @extend_schema(request=serializers.FlagCommentInput, responses={200: serializers.ChangeOutput, **ERRORS})
    def post(self, request: ApiRequest, key: str, number: int) -> Response:
        """Agree to somebody else's change; it is in force at once."""
        return change_answer(flag_changes.approve_change(change=the_change(key, number), actor=request.user, comment=self.comment(request)))


class FlagChangeReject(_Decide):
    @extend_schema(request=serializers.FlagCommentInput, responses={200: serializers.ChangeOutput, **ERRORS})
    def post(self, request: ApiRequest, key: str, number: int) -> Response:
        """Decline a change, saying why, or take back one's own."""
        return change_answer(flag_changes.reject_change(change=the_change(key, number), actor=request.user, comment=self.comment(request)))


class FlagChangeReview(_Decide):
    @extend_schema(request=serializers.FlagCommentInput, responses={200: serializers.ChangeOutput, **ERRORS})
    def post(self, request: ApiRequest, key: str, number: int) -> Response:
        """Put on record what came of somebody else's emergency."""
        return change_answer(
            flag_changes.review_lowering(change=the_change(key, number), actor=request.user, comment=self.comment(request))
        )
