"""Endpoints of the ground floor."""

from __future__ import annotations

from typing import Any

from django import forms
from django.db.models import QuerySet
from django.http import StreamingHttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import generics
from rest_framework.exceptions import NotFound, ValidationError
from rest_framework.response import Response
from rest_framework.views import APIView

from governance import selectors
from governance.access import Permission, or_404
from governance.api import serializers
from governance.api.inputs import body_of
from governance.api.permissions import ANY_TOKEN, OPERATOR, PUBLIC
from governance.downloads import download
from governance.forms import AuditForm, CheckpointForm, ConsentHistoryForm
from governance.models import AuditEntry, Consent, ConsentChange, FeatureClass, Membership, Tenant
from governance.requests import ApiRequest
from governance.services import audit, consent, people, sign_in, tenant_data, tenants, tokens


class Tokens(APIView):
    """A program's first token, for an address and a password. It is shown once."""

    access = {"POST": PUBLIC}

    @extend_schema(
        auth=[],
        request=serializers.TokenInput,
        responses={
            201: serializers.TokenOutput,
            400: serializers.ErrorSerializer,
            401: serializers.ErrorSerializer,
            403: serializers.ErrorSerializer,
            429: serializers.ErrorSerializer,
        },
    )
    def post(self, request: ApiRequest) -> Response:
        data = body_of(request, serializers.TokenInput)
        user = sign_in.check_password(email=data["email"], password=data["password"])
        token, text = tokens.create_token_for(user=user, tenant_slug=data["tenant"], name=data["name"], lifetime_days=data["lifetime_days"])
        return Response({"token": text, "id": token.public_id, "name": token.name, "expires_at": token.expires_at}, status=201)


class Me(APIView):
    """Whose token this is, and what it may do."""

    access = {"GET": ANY_TOKEN}

    @extend_schema(responses=serializers.MeOutput)
    def get(self, request: ApiRequest) -> Response:
        tenant = request.auth.tenant
        membership = selectors.membership_in(request.user, tenant) if tenant else None
        roles = [role for role in membership.roles if not request.auth.roles or role in request.auth.roles] if membership else []
        return Response(
            serializers.MeOutput(
                {"email": request.user.email, "name": request.user.name, "tenant": tenant.slug if tenant else None, "roles": roles}
            ).data
        )


class Members(generics.ListAPIView[Membership]):
    """People of the organisation. Adding a member again sets the roles."""

    access = {"GET": Permission.VIEW_OPERATE, "POST": Permission.MANAGE_PEOPLE}
    serializer_class = serializers.MemberOutput
    ordering = ("user__name", "pk")

    def get_queryset(self) -> QuerySet[Membership]:
        return selectors.members_of(self.request.auth.tenant)  # type: ignore[union-attr]

    @extend_schema(
        request=serializers.MemberInput,
        responses={201: serializers.MemberOutput, 400: serializers.ErrorSerializer, 403: serializers.ErrorSerializer},
    )
    def post(self, request: ApiRequest) -> Response:
        member = people.add_member(tenant=request.tenant, actor=request.user, **body_of(request, serializers.MemberInput))
        return Response(serializers.MemberOutput(member).data, status=201)


class Consents(APIView):
    """What holds for each feature class."""

    access = {"GET": Permission.VIEW_OPERATE}

    @extend_schema(responses=serializers.ConsentOutput(many=True))
    def get(self, request: ApiRequest) -> Response:
        return Response(serializers.ConsentOutput(selectors.consent_states(), many=True).data)


class ConsentDetail(APIView):
    """Allow or switch off a feature class."""

    access = {"PUT": Permission.MANAGE_CONSENT}

    @extend_schema(
        request=serializers.ConsentInput,
        responses={200: serializers.ConsentOutput, 400: serializers.ErrorSerializer, 404: serializers.ErrorSerializer},
    )
    def put(self, request: ApiRequest, feature_class: str) -> Response:
        if feature_class not in FeatureClass.values:
            raise NotFound
        consent.set_consent(feature_class=feature_class, actor=request.user, **body_of(request, serializers.ConsentInput))
        state = next(state for state in selectors.consent_states() if state.feature_class == feature_class)
        return Response(serializers.ConsentOutput(state).data)


class ConsentHistory(generics.ListAPIView[ConsentChange]):
    """Decisions on feature classes, newest first, each with the time until every process of the gateway held to it."""

    access = {"GET": Permission.VIEW_OPERATE}
    serializer_class = serializers.ConsentChangeOutput
    ordering = ("-set_at", "-id")

    @extend_schema(
        parameters=[
            OpenApiParameter("feature_class", enum=FeatureClass.values),
            OpenApiParameter("state", enum=Consent.State.values),
            OpenApiParameter("query", description="In reasons and names of people."),
            OpenApiParameter("first", OpenApiTypes.DATE, description="First day, UTC."),
            OpenApiParameter("last", OpenApiTypes.DATE, description="Last day, UTC."),
        ],
        responses={200: serializers.ConsentChangeOutput(many=True), 400: serializers.ErrorSerializer},
    )
    def get(self, request: ApiRequest) -> Response:  # type: ignore[override]  # our request has more than DRF's
        return super().get(request)

    def get_queryset(self) -> QuerySet[ConsentChange]:
        return selectors.consent_history(**_checked(ConsentHistoryForm(self.request.query_params)))


class AuditLog(generics.ListAPIView[AuditEntry]):
    """The organisation's audit log, newest first."""

    access = {"GET": Permission.VIEW_AUDIT}
    serializer_class = serializers.AuditOutput
    ordering = ("-sequence",)

    @extend_schema(
        parameters=[
            OpenApiParameter("event", description="Beginning of the event, for example `consent.`"),
            OpenApiParameter("actor", description="In the name of who did it."),
            OpenApiParameter("query", description="In the name of what was changed."),
            OpenApiParameter("via", enum=AuditEntry.Via.values),
            OpenApiParameter("target", description="Type and id of the object, for example `model:12`."),
            OpenApiParameter("first", OpenApiTypes.DATE, description="First day, UTC."),
            OpenApiParameter("last", OpenApiTypes.DATE, description="Last day, UTC."),
        ],
        responses={200: serializers.AuditOutput(many=True), 400: serializers.ErrorSerializer},
    )
    def get(self, request: ApiRequest) -> Response:  # type: ignore[override]  # our request has more than DRF's
        return super().get(request)

    def get_queryset(self) -> QuerySet[AuditEntry]:
        return selectors.audit_entries(**_checked(AuditForm(self.request.query_params)))


class AuditVerification(APIView):
    """Walk the hash chain now."""

    access = {"GET": Permission.VIEW_AUDIT}

    @extend_schema(
        parameters=[
            OpenApiParameter("checkpoint", description="As an earlier verification told it: shows a log that was cut off or written anew.")
        ],
        responses={200: serializers.VerificationOutput, 400: serializers.ErrorSerializer},
    )
    def get(self, request: ApiRequest) -> Response:
        checked = _checked(CheckpointForm(request.query_params))
        return Response(serializers.VerificationOutput(audit.verify(**checked)).data)


def _checked(form: forms.Form) -> dict[str, Any]:
    """The values of a form over query parameters; what is wrong with them is a 400."""
    if not form.is_valid():
        raise ValidationError({name: [str(error) for error in errors] for name, errors in form.errors.items()})
    return form.cleaned_data


class Tenants(generics.ListAPIView[Tenant]):
    """All organisations on this platform. Needs a platform token."""

    access = {"GET": OPERATOR, "POST": OPERATOR}
    serializer_class = serializers.TenantOutput
    ordering = ("name", "pk")

    def get_queryset(self) -> QuerySet[Tenant]:
        return selectors.tenants_for_operator()

    @extend_schema(
        request=serializers.TenantInput,
        responses={201: serializers.TenantOutput, 400: serializers.ErrorSerializer, 409: serializers.ErrorSerializer},
    )
    def post(self, request: ApiRequest) -> Response:
        tenant = tenants.create_tenant(actor=request.user, **body_of(request, serializers.TenantInput))
        return Response(serializers.TenantOutput(tenant).data, status=201)


class _OneTenant(APIView):
    access = {"POST": OPERATOR}

    def find(self, slug: str) -> Tenant:
        return or_404(Tenant.objects.filter(slug=slug).first())


class SuspendTenant(_OneTenant):
    """Refuse all calls of the organisation within seconds."""

    @extend_schema(request=serializers.ReasonInput, responses={200: serializers.TenantOutput, 404: serializers.ErrorSerializer})
    def post(self, request: ApiRequest, slug: str) -> Response:
        tenant = tenants.suspend_tenant(tenant=self.find(slug), actor=request.user, **body_of(request, serializers.ReasonInput))
        return Response(serializers.TenantOutput(tenant).data)


class ReopenTenant(_OneTenant):
    """Let the organisation call again."""

    @extend_schema(request=None, responses={200: serializers.TenantOutput, 404: serializers.ErrorSerializer})
    def post(self, request: ApiRequest, slug: str) -> Response:
        return Response(serializers.TenantOutput(tenants.reopen_tenant(tenant=self.find(slug), actor=request.user)).data)


class TenantDetail(_OneTenant):
    access = {"GET": OPERATOR, "DELETE": OPERATOR}

    @extend_schema(responses={200: serializers.TenantOutput, 404: serializers.ErrorSerializer})
    def get(self, request: ApiRequest, slug: str) -> Response:
        return Response(serializers.TenantOutput(self.find(slug)).data)

    @extend_schema(
        request=serializers.DeletionInput,
        responses={204: None, 400: serializers.ErrorSerializer, 404: serializers.ErrorSerializer, 409: serializers.ErrorSerializer},
    )
    def delete(self, request: ApiRequest, slug: str) -> Response:
        """Forget a suspended organisation and everything it has. There is no way back."""
        tenant_data.delete_tenant(tenant=self.find(slug), actor=request.user, **body_of(request, serializers.DeletionInput))
        return Response(status=204)


class ExportTenant(_OneTenant):
    """Everything that the organisation has, as a ZIP file; credentials are left out."""

    @extend_schema(request=None, responses={(200, "application/zip"): OpenApiTypes.BINARY, 404: serializers.ErrorSerializer})
    def post(self, request: ApiRequest, slug: str) -> StreamingHttpResponse:
        chunks = tenant_data.export_tenant(tenant=self.find(slug), actor=request.user)
        return download(request._request, name=f"{slug}.zip", content_type="application/zip", chunks=chunks)
