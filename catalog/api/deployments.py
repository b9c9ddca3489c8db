"""Deployments of models over REST."""

from __future__ import annotations

from drf_spectacular.utils import extend_schema
from rest_framework.response import Response
from rest_framework.views import APIView

from catalog import selectors
from catalog.api.endpoints import BAD, named_in_body, one
from catalog.api.serializers.deployments import DeploymentChange, DeploymentInput, DeploymentOutput
from catalog.models import Deployment, ModelReview
from catalog.services import deployments as deployment_services
from governance.access import Permission
from governance.api.inputs import body_of
from governance.requests import ApiRequest


class Deployments(APIView):
    """The upstreams behind a model."""

    access = {"GET": Permission.VIEW, "POST": Permission.MANAGE_CATALOG}

    @extend_schema(operation_id="deployments_list", responses={200: DeploymentOutput(many=True), **BAD})
    def get(self, request: ApiRequest, slug: str) -> Response:
        model = one(selectors.models_visible_to(request.membership), slug=slug)
        return Response(DeploymentOutput(model.deployments.all(), many=True).data)

    @extend_schema(operation_id="deployments_create", request=DeploymentInput, responses={201: DeploymentOutput, **BAD})
    def post(self, request: ApiRequest, slug: str) -> Response:
        model, data = one(selectors.all_models(), slug=slug), body_of(request, DeploymentInput)
        data["provider"] = named_in_body(data["provider"], selectors.providers(), "provider", slug=data["provider"])
        deployment = deployment_services.add_deployment(model=model, actor=request.user, **data)
        return Response(DeploymentOutput(deployment).data, status=201)


class DeploymentDetail(APIView):
    access = {"PATCH": Permission.MANAGE_CATALOG, "DELETE": Permission.MANAGE_CATALOG}

    def _find(self, slug: str, pk: int) -> Deployment:
        deployment: Deployment = one(Deployment.objects.select_related("model", "provider"), model__slug=slug, pk=pk)
        return deployment

    @extend_schema(request=DeploymentChange, responses={200: DeploymentOutput, **BAD})
    def patch(self, request: ApiRequest, slug: str, pk: int) -> Response:
        deployment = self._find(slug, pk)
        waits = deployment.reviews.filter(status=ModelReview.Status.WAITING).exists()  # what is left out stays asked for
        present = {**deployment_services.share_of(deployment), "is_enabled": deployment.is_enabled or waits}
        given = {**present, **body_of(request, DeploymentChange)}
        changed = deployment_services.change_deployment(deployment=deployment, actor=request.user, **given)
        return Response(DeploymentOutput(changed).data)

    @extend_schema(responses={204: None, **BAD})
    def delete(self, request: ApiRequest, slug: str, pk: int) -> Response:
        deployment_services.remove_deployment(deployment=self._find(slug, pk), actor=request.user)
        return Response(status=204)
