"""Figures of adoption: who calls what, and how much."""

from __future__ import annotations

import math
from datetime import datetime, timedelta

from django.db.models import Count, Min, OuterRef, Q, QuerySet, Subquery, Sum

from catalog.models import Project, VirtualKey
from costs.metrics.windows import hours_of, served_hours
from costs.models import Event, UsageHour
from governance.metrics import NO_DATA, Metric, Reading, Window, register


def calls(window: Window) -> Reading:
    figures = UsageHour.objects.filter(hours_of(window)).aggregate(
        n=Sum("calls", default=0), refused=Sum("calls", filter=Q(outcome="refused"), default=0)
    )
    if figures["n"] == 0:
        return NO_DATA
    return Reading(
        float(figures["n"] - figures["refused"]), figures["n"], statistics={"calls": figures["n"], "refused": figures["refused"]}
    )


def active_projects(window: Window) -> Reading:
    served = UsageHour.objects.filter(hours_of(window)).exclude(outcome="refused")
    calls = served.aggregate(n=Sum("calls", default=0))["n"]
    if calls == 0:
        return NO_DATA
    count = served.exclude(project="").values("project").distinct().count()
    return Reading(float(count), calls, statistics={"projects": count, "calls": calls})


def active_people(window: Window) -> Reading:
    return _people(served_hours(window))


def tool_people(window: Window) -> Reading:
    return _people(served_hours(window).filter(kind="tool"))


def _people(served: QuerySet[UsageHour]) -> Reading:
    """Owners of the keys with which calls were made."""
    keys = list(served.values_list("key_id", flat=True).distinct())
    if not keys:
        return NO_DATA
    people = VirtualKey.objects.filter(public_id__in=keys).values("owner").distinct().count()
    return Reading(float(people), len(keys), statistics={"people": people, "keys": len(keys)})


def active_agents(window: Window) -> Reading:
    served = served_hours(window)
    calls = served.aggregate(n=Sum("calls", default=0))["n"]
    count = served.exclude(agent="").values("agent").distinct().count()
    return Reading(float(count), calls, statistics={"agents": count, "calls": calls}) if calls else NO_DATA


def project_share(window: Window) -> Reading:
    """Every project counts, so it is exact."""
    projects = set(Project.objects.filter(is_enabled=True).values_list("slug", flat=True))
    if not projects:
        return NO_DATA
    active = projects & set(served_hours(window).values_list("project", flat=True).distinct())
    return Reading(100 * len(active) / len(projects), len(projects), statistics={"active": len(active), "projects": len(projects)})


def fewest_models(window: Window) -> Reading:
    found = served_hours(window).exclude(project="").exclude(kind="tool").values("project").annotate(n=Count("model", distinct=True))
    counts = list(found.order_by().values_list("n", flat=True))
    return Reading(float(min(counts)), len(counts), statistics={"projects": len(counts), "fewest": min(counts)}) if counts else NO_DATA


FIRST_CALL_AFTER = timedelta(days=1)
"""Whoever has a key for less and has not called yet is not judged."""


def first_call_p75(window: Window) -> Reading:
    """Of people whose first key for programs was made in the window, from then until a call with a key of theirs was answered, in seconds.

    Who has not called counts as waiting until the end of the window, so that keys that nobody uses make it worse. Nearest rank.
    """
    keys = VirtualKey.objects.filter(purpose=VirtualKey.Purpose.STANDARD)
    people = keys.order_by().values("owner").annotate(made=Min("created_at")).filter(made__gte=window.start, made__lt=window.end)
    made: dict[int, datetime] = dict(people.values_list("owner", "made"))
    answered = Event.objects.filter(key_id=OuterRef("public_id"), started_at__gte=OuterRef("created_at"), status="ok")
    first = answered.filter(started_at__lt=window.end).order_by("started_at").values("started_at")[:1]
    called: dict[int, datetime] = {}
    for owner, at in keys.filter(owner__in=made).annotate(first=Subquery(first)).values_list("owner", "first"):
        if at is not None:
            called[owner] = min(at, called.get(owner, at))
    judged = [owner for owner, at in made.items() if owner in called or at <= window.end - FIRST_CALL_AFTER]
    waits = sorted((called.get(owner, window.end) - made[owner]).total_seconds() for owner in judged)
    if not waits:
        return NO_DATA
    return Reading(waits[math.ceil(0.75 * len(waits)) - 1], len(waits), statistics={"people": len(waits), "called": len(called)})


for _metric in (
    Metric("usage.calls", "Served calls", "count", "higher", 1, calls, "Calls that were not refused."),
    Metric("usage.active_projects", "Active projects", "count", "higher", 1, active_projects, "Projects with at least one served call."),
    Metric("usage.active_people", "Active developers", "count", "higher", 1, active_people, "Owners of keys with served calls."),
    Metric("tools.active_people", "People who use tools", "count", "higher", 1, tool_people, "Owners of keys with which tools were called."),
    Metric("usage.active_agents", "Active agents", "count", "higher", 1, active_agents, "Agents that named themselves in a served call."),
    Metric("usage.project_share", "Active projects of all", "%", "higher", 1, project_share, "Of the projects that are switched on, those with served calls."),
    Metric("usage.first_call_p75", "First governed call, P75", "s", "lower", 5, first_call_p75, "From a person's first key until a call with it was answered, of those whose first key was made in the window."),
    Metric("usage.models_per_project", "Models of each project", "count", "higher", 1, fewest_models, "The fewest models that an active project called."),
):  # fmt: skip
    register(_metric)
