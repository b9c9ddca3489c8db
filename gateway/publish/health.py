"""What planes said of deployments: for pages, from the changes of their circuits."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from django.db.models import Exists, Min, OuterRef, Q, QuerySet
from django.utils import timezone

from catalog.hooks import Circuit
from catalog.hooks import CircuitChange as Change
from gateway.publish.circuits import KEPT
from gateway.publish.models import CircuitChange
from governance.models import Tenant
from governance.schema import current_schema


class Circuits:
    """`catalog.hooks.Circuits`, registered in `apps`."""

    def circuits(self, deployments: Iterable[str]) -> Mapping[str, Circuit]:
        """Every plane judges for itself; the newest verdict of any of them counts. Three queries, however many deployments."""
        changes = _changes().filter(deployment__in=list(deployments))
        newest: dict[str, dict[str, Change]] = defaultdict(dict)
        for row in changes.order_by("deployment", "circuit", "-at").distinct("deployment", "circuit"):
            newest[row.deployment][row.circuit] = _change(row)
        later = CircuitChange.objects.filter(
            tenant=OuterRef("tenant"), deployment=OuterRef("deployment"), circuit="closed", at__gte=OuterRef("at")
        )
        openings = changes.filter(~Exists(later), circuit="open").values_list("deployment").annotate(first=Min("at"))
        ill_since = dict(openings)
        return {
            deployment: Circuit(max(by_state.values(), key=lambda change: change.at), by_state.get("open"), ill_since.get(deployment))
            for deployment, by_state in newest.items()
        }

    def changes(self, model: str, deployments: Iterable[str], *, limit: int) -> list[Change]:
        rows = _changes().filter(Q(model=model) | Q(deployment__in=list(deployments)))
        return [_change(row) for row in rows.order_by("-at", "-event_id")[:limit]]


def _changes() -> QuerySet[CircuitChange]:
    tenant = Tenant.objects.values_list("public_id", flat=True).get(schema_name=current_schema())
    return CircuitChange.objects.filter(tenant=tenant, at__gte=timezone.now() - KEPT)


def _change(row: CircuitChange) -> Change:
    return Change(row.deployment, row.provider, row.circuit, row.at, row.calls, row.errors, row.cooldown_s, row.reason)
