"""What rollbacks put into the frame of the portal: sidebar, banner and the Operate home."""

from __future__ import annotations

from functools import partial
from typing import Any

from django.urls import reverse

from governance import banners, home, navigation
from governance.access import Permission
from governance.models import Membership
from rollouts import rollback_selectors

SHOWN = 5


def register() -> None:
    """Called once, from AppConfig.ready()."""
    incidents = partial(
        navigation.Item, title="Incidents", url_name="incidents", icon="urgent", permission=Permission.VIEW, order=20,
        due=rollback_selectors.incidents_waiting_for, among=(rollback_selectors.unacknowledged_incidents,),
    )  # fmt: skip
    navigation.register(incidents("operate", "Reliability"), incidents("release", "Prove"))
    banners.register(_banner, among=rollback_selectors.unresolved_incidents)
    home.register(home.Panel("operate", "rollouts/partials/home_incidents.html", Permission.VIEW, _open, order=5))


def _banner(membership: Membership) -> banners.Banner | None:
    incident = rollback_selectors.open_incident()
    if incident is None:
        return None
    url = reverse("incident-detail", kwargs={"number": incident.number})
    return banners.Banner(
        f"Rolled back by a rule: {incident.flag.title}. Everybody gets {incident.flag.control} again.", url, str(incident)
    )


def _open(membership: Membership) -> Any:
    """None while no incident is open."""
    return list(rollback_selectors.incidents(tab="open")[:SHOWN]) or None
