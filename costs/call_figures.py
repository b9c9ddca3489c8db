"""What governance asks of this floor: `governance.call_figures.CallFigures`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from django.db import connection
from django.db.models import Sum

from catalog.models import Model, Project, Provider, ToolServer, VirtualKey
from catalog.selectors import time_zone
from costs.models import VerdictHour
from costs.periods import hour_of
from governance.call_figures import PastCalls, VerdictCount

REFUSED_LATER = [
    "policy_denied",
    "rate_limit_exceeded",
    "budget_exceeded",
    "budget_throttled",
    "model_unpriced",
    "guardrail_blocked",
]
"""Codes of refusals by the policies or by a step behind them."""


class Figures:
    """Registered in `costs.apps`."""

    def past_calls(self, since: datetime, until: datetime, *, by_time: bool) -> Iterator[PastCalls]:
        """Grouped in the database: a week of a busy tenant comes back as some thousand rows.

        Attributes of keys, projects and models are today's: a replay asks what a policy would do, not what it would have done.
        """
        zone = time_zone()
        moment = "started_at AT TIME ZONE %(zone)s"
        times = f"extract(hour FROM {moment})::int, extract(isodow FROM {moment})::int" if by_time else "0, 1"
        with connection.cursor() as cursor:
            cursor.execute(
                f"""
                SELECT key_id, project, agent, kind, model, provider, region, tags, {times}, count(*), max(request_id)
                FROM event
                WHERE started_at >= %(since)s AND started_at < %(until)s AND (status <> 'refused' OR error_code = ANY(%(later)s))
                GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10
                """,  # noqa: S608  # two constants
                {"since": since, "until": until, "zone": zone.key, "later": REFUSED_LATER},
            )
            rows = cursor.fetchall()
        known = _Known()
        for key, project, agent, kind, model, provider, region, tags, hour, weekday, calls, example in rows:
            yield PastCalls(
                {
                    "caller": {
                        "key": key,
                        "owner": known.owners.get(key, ""),
                        "project": project,
                        "agent": agent,
                        **known.project(project),
                    },
                    "call": {"kind": kind},
                    **known.subject(kind, model),
                    "egress": known.egress(kind, model, provider, region),
                    "time": {"hour": hour, "weekday": weekday},
                    "tags": json.loads(tags),
                },
                calls,
                example,
            )

    def verdicts(self, since: datetime) -> list[VerdictCount]:
        rows = (
            VerdictHour.objects.filter(hour__gte=hour_of(since))
            .values("step", "verdict", "found")
            .annotate(calls=Sum("calls"), hits=Sum("hits"))
        )
        return [VerdictCount(**row) for row in rows.order_by("step", "verdict", "found")]


class _Known:
    """What the catalog says today about the names in events; read once."""

    def __init__(self) -> None:
        self.owners = dict(VirtualKey.objects.values_list("public_id", "owner__email"))
        self._projects = {
            slug: (environment, centre) for slug, environment, centre in Project.objects.values_list("slug", "environment", "cost_centre")
        }
        self._models = {model.slug: model for model in Model.objects.all()}
        self._servers = {server.namespace: server for server in ToolServer.objects.all()}
        self._hosts = {slug: urlsplit(url).hostname or "" for slug, url in Provider.objects.values_list("slug", "base_url")}

    def project(self, slug: str) -> dict[str, str]:
        environment, centre = self._projects.get(slug, ("", ""))
        return {"environment": environment, "cost_centre": centre}

    def subject(self, kind: str, name: str) -> dict[str, Any]:
        """The attributes of the model or tool that was called."""
        if kind == "tool":
            namespace, _, tool = name.partition("__")
            server = self._servers.get(namespace)
            model = {"name": "", "feature_class": server.feature_class if server else "", "sensitivity": "", "environment": ""}
            return {"model": model, "tool": {"server": namespace, "name": tool}}
        found = self._models.get(name)
        return {
            "model": {
                "name": name,
                "feature_class": found.feature_class if found else "",
                "sensitivity": found.data_sensitivity if found else "",
                "environment": found.environment if found else "",
            },
            "tool": {"server": "", "name": ""},
        }

    def egress(self, kind: str, name: str, provider: str, region: str) -> dict[str, str]:
        if kind == "tool":
            server = self._servers.get(name.partition("__")[0])
            return {"provider": "", "region": "", "host": (urlsplit(server.url).hostname or "") if server else ""}
        return {"provider": provider, "region": region, "host": self._hosts.get(provider, "")}
