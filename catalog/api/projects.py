"""Projects over REST."""

from __future__ import annotations

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework.response import Response
from rest_framework.views import APIView

from catalog import selectors
from catalog.api.endpoints import BAD, RowsView, one
from catalog.api.serializers.fields import SwitchInput, TagsInput
from catalog.api.serializers.projects import ProjectFacts, ProjectInput, ProjectOutput
from catalog.models import Project
from catalog.services import default_tags
from catalog.services import projects as project_services
from governance.access import Permission
from governance.api.inputs import body_of
from governance.requests import ApiRequest


class Projects(RowsView):
    """Projects, to which spend is shown back."""

    access = {"GET": Permission.VIEW, "POST": Permission.MANAGE_CATALOG}
    serializer_class = ProjectOutput
    ordering = ("name", "pk")

    def get_queryset(self) -> QuerySet[Project]:
        return selectors.projects()

    @extend_schema(operation_id="projects_list", responses=ProjectOutput(many=True))
    def get(self, request: ApiRequest) -> Response:
        return super().get(request)

    @extend_schema(operation_id="projects_create", request=ProjectInput, responses={201: ProjectOutput, **BAD})
    def post(self, request: ApiRequest) -> Response:
        data = body_of(request, ProjectInput)
        project = project_services.create_project(owner=request.user, actor=request.user, **{"name": data["slug"], **data})
        return Response(ProjectOutput(project).data, status=201)


class ProjectDetail(APIView):
    access = {"GET": Permission.VIEW, "PATCH": Permission.MANAGE_CATALOG}

    @extend_schema(operation_id="projects_retrieve", responses={200: ProjectOutput, **BAD})
    def get(self, request: ApiRequest, slug: str) -> Response:
        return Response(ProjectOutput(one(selectors.projects(), slug=slug)).data)

    @extend_schema(request=ProjectFacts, responses={200: ProjectOutput, **BAD})
    def patch(self, request: ApiRequest, slug: str) -> Response:
        project = one(selectors.projects(), slug=slug)
        present = {
            name: getattr(project, name)
            for name in (
                "name",
                "description",
                "cost_centre",
                "environment",
                "keys_by_request",
                "requests_per_minute",
                "monthly_budget_usd",
            )
        }
        changed = project_services.change_project(project=project, actor=request.user, **{**present, **body_of(request, ProjectFacts)})
        return Response(ProjectOutput(changed).data)


class ProjectSwitch(APIView):
    """Let the project's keys call, or refuse all of them within seconds."""

    access = {"POST": Permission.MANAGE_CATALOG}

    @extend_schema(request=SwitchInput, responses={200: ProjectOutput, **BAD})
    def post(self, request: ApiRequest, slug: str) -> Response:
        project = project_services.switch_project(
            project=one(selectors.projects(), slug=slug), actor=request.user, **body_of(request, SwitchInput)
        )
        return Response(ProjectOutput(project).data)


class ProjectTags(APIView):
    """The tags of the project's calls, where neither the caller nor the key says otherwise."""

    access = {"PUT": Permission.MANAGE_CATALOG}

    @extend_schema(request=TagsInput, responses={200: ProjectOutput, **BAD})
    def put(self, request: ApiRequest, slug: str) -> Response:
        project = one(selectors.projects(), slug=slug)
        changed = default_tags.set_project_tags(project=project, actor=request.user, **body_of(request, TagsInput))
        return Response(ProjectOutput(changed).data)
