"""What a limit or guardrail may apply to: suggestions for its form."""

from __future__ import annotations

from django.db.models import Q, QuerySet

from catalog import selectors
from catalog.filters import KeyFilter, ModelFilter
from catalog.models import Deployment, Model, Project
from governance.models import Membership

MOST = 20
"""Suggestions at a time: typing on narrows them."""


def found_names(membership: Membership, scope: str, query: str) -> list[tuple[str, str]]:
    """See `governance.catalog_names.Finder`."""
    if scope == "project":
        projects = Project.objects.filter(Q(slug__icontains=query) | Q(name__icontains=query)).order_by("slug")
        return [(project.slug, project.name) for project in projects[:MOST]]
    if scope == "model":
        return [(model.slug, model.name) for model in _models(query)[:MOST]]
    if scope == "key":
        keys = KeyFilter({"q": query}, queryset=selectors.live_keys(selectors.keys_visible_to(membership))).qs
        return [(key.public_id, f"{key.name}, {key.owner}, {key.project.slug}") for key in keys[:MOST]]
    if scope == "deployment":
        of = Q(model__in=_models(query)) | Q(provider__slug__icontains=query) | Q(upstream_model__icontains=query)
        deployments = (
            Deployment.objects.filter(of, model__in=_models(""))
            .select_related("model", "provider")
            .order_by("model__slug", "priority", "pk")
        )
        return [(f"{each.model.slug}/{each.reference}", each.model.name) for each in deployments[:MOST]]
    return []


def _models(query: str) -> QuerySet[Model]:
    found: QuerySet[Model] = ModelFilter({"q": query}, queryset=Model.objects.exclude(status=Model.Status.RETIRED).order_by("slug")).qs
    return found
