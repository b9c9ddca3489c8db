"""Projects: what spend is shown back to, and what can be switched off at once."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from django.db import IntegrityError, transaction

from catalog.errors import NameTakenError
from catalog.models import Project
from governance import config
from governance.models import Effect, User
from governance.services import audit, effects


@transaction.atomic
def create_project(
    *,
    slug: str,
    name: str,
    owner: User,
    actor: User,
    description: str = "",
    cost_centre: str = "",
    environment: str = "development",
    keys_by_request: bool = False,
    requests_per_minute: int | None = None,
    monthly_budget_usd: Decimal | None = None,
) -> Project:
    """Add a project. The slug stays for ever: events and bills name it. Raises NameTakenError."""
    project = Project(
        slug=slug,
        name=name,
        owner=owner,
        description=description,
        cost_centre=cost_centre,
        environment=environment,
        keys_by_request=keys_by_request,
        requests_per_minute=requests_per_minute,
        monthly_budget_usd=monthly_budget_usd,
    )
    try:
        with transaction.atomic():
            project.save(force_insert=True)
    except IntegrityError as error:
        raise NameTakenError(f"There is a project {slug} already.", field="slug") from error
    audit.record("project.created", actor=actor, target=project, slug=slug, cost_centre=cost_centre, **_limits(project))
    config.changed()
    return project


@transaction.atomic
def change_project(
    *,
    project: Project,
    name: str,
    actor: User,
    description: str = "",
    cost_centre: str = "",
    environment: str = "development",
    keys_by_request: bool = False,
    requests_per_minute: int | None = None,
    monthly_budget_usd: Decimal | None = None,
) -> Project:
    """Replace what can be changed of a project; limits None are none."""
    project = Project.objects.select_for_update().get(pk=project.pk)
    before = {"name": project.name, "cost_centre": project.cost_centre, "environment": project.environment, **_limits(project)}
    project.name, project.description, project.cost_centre, project.environment = name, description, cost_centre, environment
    project.requests_per_minute, project.monthly_budget_usd = requests_per_minute, monthly_budget_usd
    project.keys_by_request = keys_by_request
    project.save()
    after = {"name": project.name, "cost_centre": project.cost_centre, "environment": project.environment, **_limits(project)}
    audit.record("project.changed", actor=actor, target=project, before=before, after=after)
    config.changed()
    return project


@transaction.atomic
def switch_project(*, project: Project, enabled: bool, actor: User, reason: str = "") -> Project:
    """Let the project's keys call, or refuse all of them within seconds. Idempotent."""
    project = Project.objects.select_for_update().get(pk=project.pk)
    if project.is_enabled != enabled:
        project.is_enabled = enabled
        project.save(update_fields=["is_enabled"])
        audit.record("project.switched_on" if enabled else "project.switched_off", actor=actor, target=project, reason=reason)
        config.changed()
        effects.watch(f"Project {project.slug} {'on' if enabled else 'off'}", scope=Effect.Scope.PROJECT, actor=actor)
    return project


def _limits(project: Project) -> dict[str, Any]:
    budget = project.monthly_budget_usd
    return {
        "requests_per_minute": project.requests_per_minute,
        "monthly_budget_usd": None if budget is None else str(budget),
        "keys_by_request": project.keys_by_request,
    }
