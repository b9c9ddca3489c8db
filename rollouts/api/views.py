"""Endpoints of rollouts: the same services and selectors as the pages."""

from __future__ import annotations

from django.db.models import QuerySet
from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import generics
from rest_framework.exceptions import NotFound
from rest_framework.response import Response
from rest_framework.views import APIView

from governance.access import Permission, or_404
from governance.api.inputs import body_of
from governance.api.serializers import ERRORS, ErrorSerializer
from governance.requests import ApiRequest
from rollouts import gate_record, gate_selectors, metric_selectors, plans, selectors
from rollouts.api import serializers
from rollouts.errors import EvidenceMissingError, NotWaivableError
from rollouts.models import Criterion, Evaluation, Gate, ReleaseLogEntry, Rollout
from rollouts.services import attestations, gates, rollouts, signatures, waivers


def the_rollout(slug: str) -> Rollout:
    return or_404(selectors.find_rollout(slug))


def the_gate(slug: str, number: int) -> Gate:
    return or_404(gate_selectors.find_gate(the_rollout(slug), number))


def gate_answer(slug: str, number: int, *, status: int = 200) -> Response:
    """The gate as it is after whatever was done."""
    return Response(serializers.GateOutput(gate_selectors.gate_view(the_gate(slug, number), now=timezone.now())).data, status=status)


def _the_criterion(gate: Gate, key: str) -> Criterion:
    criterion = gate.criteria.filter(key=key).first()
    if criterion is None:
        raise EvidenceMissingError(f"This gate has no criterion {key}.", field="criterion")
    criterion.gate = gate
    return criterion


class Plans(APIView):
    access = {"GET": Permission.VIEW}

    @extend_schema(responses=serializers.PlanOutput(many=True))
    def get(self, request: ApiRequest) -> Response:
        """The plans that ship."""
        return Response(serializers.PlanOutput(plans.all_plans(), many=True).data)


class PlanDetail(APIView):
    access = {"GET": Permission.VIEW}

    @extend_schema(responses={200: OpenApiTypes.OBJECT, 404: ErrorSerializer})
    def get(self, request: ApiRequest, key: str) -> Response:
        """One plan, complete."""
        try:
            return Response(plans.frozen(plans.get(key)))
        except KeyError:
            raise NotFound from None


class Rollouts(generics.ListAPIView[Rollout]):
    """Rollouts, newest first; POST starts one from a plan."""

    access = {"GET": Permission.VIEW, "POST": Permission.MANAGE_ROLLOUTS}
    serializer_class = serializers.RolloutOutput
    ordering = ("-created_at", "-pk")

    def get_queryset(self) -> QuerySet[Rollout]:
        return selectors.rollouts(tab=self.request.query_params.get("tab", ""), query=self.request.query_params.get("q", ""))

    @extend_schema(request=serializers.RolloutInput, responses={201: serializers.RolloutDetailOutput, **ERRORS})
    def post(self, request: ApiRequest) -> Response:
        data = body_of(request, serializers.RolloutInput)
        address = data.pop("owner", None)
        owner = selectors.owners(request.tenant).filter(email__iexact=address).first() if address else request.user
        if owner is None:
            raise EvidenceMissingError(f"{address} is not a member of the organisation.", field="owner")
        plan_key = data.pop("plan")
        name = data.pop("name", "") or (plans.get(plan_key).title if plan_key in {plan.key for plan in plans.all_plans()} else data["slug"])
        rollout = rollouts.start_rollout(plan_key=plan_key, name=name, owner=owner, actor=request.user, **data)
        return rollout_answer(rollout.slug, status=201)


def rollout_answer(slug: str, *, status: int = 200) -> Response:
    rollout = the_rollout(slug)
    return Response(serializers.RolloutDetailOutput(rollout, context={"phases": selectors.phases_of(rollout)}).data, status=status)


class RolloutDetail(APIView):
    access = {"GET": Permission.VIEW}

    @extend_schema(responses={200: serializers.RolloutDetailOutput, 404: ErrorSerializer})
    def get(self, request: ApiRequest, slug: str) -> Response:
        return rollout_answer(slug)


class RolloutPause(APIView):
    access = {"POST": Permission.MANAGE_ROLLOUTS}

    @extend_schema(request=serializers.RolloutReasonInput, responses={200: serializers.RolloutDetailOutput, **ERRORS})
    def post(self, request: ApiRequest, slug: str) -> Response:
        """Nobody can say go until it is resumed."""
        rollouts.pause_rollout(rollout=the_rollout(slug), **body_of(request, serializers.RolloutReasonInput), actor=request.user)
        return rollout_answer(slug)


class RolloutResume(APIView):
    access = {"POST": Permission.MANAGE_ROLLOUTS}

    @extend_schema(request=None, responses={200: serializers.RolloutDetailOutput, **ERRORS})
    def post(self, request: ApiRequest, slug: str) -> Response:
        rollouts.resume_rollout(rollout=the_rollout(slug), actor=request.user)
        return rollout_answer(slug)


class RolloutRollBack(APIView):
    access = {"POST": Permission.MANAGE_ROLLOUTS, "DELETE": Permission.MANAGE_ROLLOUTS}

    @extend_schema(request=serializers.RolloutReasonInput, responses={201: serializers.RollbackOutput, **ERRORS})
    def post(self, request: ApiRequest, slug: str) -> Response:
        """Leave the current phase backwards; the clock against the RTO starts."""
        rollback = rollouts.roll_back(rollout=the_rollout(slug), **body_of(request, serializers.RolloutReasonInput), actor=request.user)
        return Response(serializers.RollbackOutput(rollback).data, status=201)

    @extend_schema(responses={200: serializers.RollbackOutput, **ERRORS})
    def delete(self, request: ApiRequest, slug: str) -> Response:
        """Confirm that nobody is exposed any more: the clock stops."""
        rollback = or_404(selectors.open_rollback(the_rollout(slug)))
        return Response(serializers.RollbackOutput(rollouts.finish_rollback(rollback=rollback, actor=request.user)).data)


class RolloutLog(generics.ListAPIView[ReleaseLogEntry]):
    """The release log, newest first."""

    access = {"GET": Permission.VIEW}
    serializer_class = serializers.LogOutput
    ordering = ("-sequence",)

    def get_queryset(self) -> QuerySet[ReleaseLogEntry]:
        if getattr(self, "swagger_fake_view", False):
            return ReleaseLogEntry.objects.none()
        return selectors.log_of(the_rollout(self.kwargs["slug"]))


class GateDetail(APIView):
    access = {"GET": Permission.VIEW}

    @extend_schema(responses={200: serializers.GateOutput, 404: ErrorSerializer})
    def get(self, request: ApiRequest, slug: str, number: int) -> Response:
        """The verdict with its criteria, worst first, and the signatures."""
        return gate_answer(slug, number)


class GateEvaluate(APIView):
    access = {"POST": Permission.VIEW}

    @extend_schema(request=None, responses={200: serializers.GateOutput, **ERRORS})
    def post(self, request: ApiRequest, slug: str, number: int) -> Response:
        """Evaluate now and keep the evidence."""
        gates.evaluate_gate(gate=the_gate(slug, number), trigger=Evaluation.Trigger.PERSON, actor=request.user)
        return gate_answer(slug, number)


class GateSign(APIView):
    access = {"POST": Permission.SIGN_GATES}

    @extend_schema(request=serializers.SignInput, responses={201: serializers.GateOutput, **ERRORS})
    def post(self, request: ApiRequest, slug: str, number: int) -> Response:
        """Say go or no-go for a role that you hold. With the last go that was missing, the next phase begins."""
        signatures.sign(gate=the_gate(slug, number), person=request.membership, **body_of(request, serializers.SignInput))
        return gate_answer(slug, number, status=201)


class GateReopen(APIView):
    access = {"POST": Permission.MANAGE_ROLLOUTS}

    @extend_schema(request=serializers.RolloutReasonInput, responses={200: serializers.GateOutput, **ERRORS})
    def post(self, request: ApiRequest, slug: str, number: int) -> Response:
        """Take back a no-go; who said it has to sign anew."""
        gates.reopen_gate(gate=the_gate(slug, number), **body_of(request, serializers.RolloutReasonInput), actor=request.user)
        return gate_answer(slug, number)


class GateAttest(APIView):
    access = {"POST": Permission.SIGN_GATES}

    @extend_schema(request=serializers.AttestInput, responses={201: serializers.GateOutput, **ERRORS})
    def post(self, request: ApiRequest, slug: str, number: int) -> Response:
        """State that a criterion which nothing measures is met, or is not; the gate is evaluated at once."""
        data = body_of(request, serializers.AttestInput)
        criterion = _the_criterion(the_gate(slug, number), data.pop("criterion"))
        attestations.attest(criterion=criterion, person=request.membership, note_text=data.pop("note"), **data)
        return gate_answer(slug, number, status=201)


class GateWaive(APIView):
    access = {"POST": Permission.SIGN_GATES}

    @extend_schema(request=serializers.WaiveInput, responses={201: serializers.GateOutput, **ERRORS})
    def post(self, request: ApiRequest, slug: str, number: int) -> Response:
        """Ask that a criterion be passed over until a time, or decide what somebody else has asked for."""
        data = body_of(request, serializers.WaiveInput)
        criterion = _the_criterion(the_gate(slug, number), data["criterion"])
        if "decision" in data:
            asked = criterion.waivers.filter(decided_at=None).first()
            if asked is None:
                raise NotWaivableError(f"Nobody has asked for a waiver of {criterion.title}.")
            asked.criterion = criterion
            waivers.decide_waiver(waiver=asked, approve=data["decision"] == "approve", person=request.membership)
        else:
            waivers.request_waiver(criterion=criterion, reason=data["reason"], until=data["until"], actor=request.user)
        return gate_answer(slug, number, status=201)


class GateRecord(APIView):
    access = {"GET": Permission.VIEW}

    @extend_schema(
        parameters=[
            OpenApiParameter("at", OpenApiTypes.DATETIME, description="What was on record by then; now by default."),
            OpenApiParameter("evaluation", str, description="Evidence hash of one by then, or `none`; the newest by default."),
        ],
        responses={200: serializers.GateRecordOutput, 400: ErrorSerializer, 404: ErrorSerializer},
    )
    def get(self, request: ApiRequest, slug: str, number: int) -> Response:
        """Everything that the decision rests on in one document, with its hash: criteria and evidence, signatures, waivers, attestations, log.

        `today.query` asks for the same record again.
        """
        gate = the_gate(slug, number)
        record = gate_record.gate_record(gate, gate_record.as_of(gate, request.query_params.dict(), now=timezone.now()))
        return Response(serializers.GateRecordOutput({"record": record, "record_hash": gate_record.hash_of(record)}).data)


class GateEvidence(APIView):
    access = {"GET": Permission.VIEW}

    @extend_schema(responses={200: OpenApiTypes.OBJECT, 404: ErrorSerializer})
    def get(self, request: ApiRequest, slug: str, number: int, digest: str) -> Response:
        """One immutable record, by evidence hash or verdict digest, and what recomputing it finds."""
        evaluation = or_404(gate_selectors.find_evaluation(the_gate(slug, number), digest))
        replayed = gate_selectors.replay(evaluation)
        return Response(
            {
                "at": evaluation.at,
                "verdict": evaluation.verdict,
                "ready": evaluation.is_ready,
                "digest": evaluation.digest,
                "evidence_hash": evaluation.evidence_hash,
                "previous_hash": evaluation.previous_hash,
                "rules_version": evaluation.rules_version,
                "evidence": evaluation.evidence,
                "replay": {
                    "verdict": str(replayed.verdict),
                    "ready": replayed.is_ready,
                    "digest": replayed.digest,
                    "differences": replayed.differences,
                },
            }
        )


class Metrics(APIView):
    access = {"GET": Permission.VIEW}

    @extend_schema(responses=serializers.MetricOutput(many=True))
    def get(self, request: ApiRequest) -> Response:
        """Every registered metric with its value over the last days and the open gates that use it."""
        use = metric_selectors.metric_use()
        rows = metric_selectors.metric_rows(now=timezone.now(), use=use, chosen=use.chosen(""))
        return Response(serializers.MetricOutput(rows, many=True).data)
