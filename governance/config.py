"""Telling the gateway that a tenant's configuration changed.

A service calls `changed()` inside its transaction: the tenant's `config_version` grows with the change itself, so it cannot
be lost. After the commit the publishers run at once; if the process dies in between, the sweep (a beat task) sees that
`published_version` is behind and publishes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from django.db import transaction
from django.db.models import F
from django_tenants.utils import get_public_schema_name, schema_context

from governance.models import Tenant
from governance.schema import current_schema

logger = logging.getLogger(__name__)
Publisher = Callable[[Tenant], None]
_publishers: list[Publisher] = []
_platform_publishers: list[Callable[[], None]] = []


def register_publisher(publisher: Publisher) -> None:
    """`publisher(tenant)` is called in the tenant's schema after its configuration changed."""
    _publishers.append(publisher)


def register_platform_publisher(publisher: Callable[[], None]) -> None:
    """`publisher()` is called in the public schema after something changed that holds for every tenant, and every half minute."""
    _platform_publishers.append(publisher)


def platform_changed() -> None:
    """Publish after the commit what holds for every tenant. What fails or is lost, the sweep mends."""
    transaction.on_commit(publish_platform, robust=True)


def publish_platform() -> None:
    with schema_context(get_public_schema_name()):
        for publisher in _platform_publishers:
            publisher()


def changed(tenant: Tenant | None = None) -> None:
    """Note that the configuration of the tenant (default: the current one) changed, and publish it after the commit.

    In the public schema it is everybody's: a worker publishes them one after another.
    """
    schema_name = tenant.schema_name if tenant is not None else current_schema()
    if schema_name == get_public_schema_name():
        Tenant.objects.update(config_version=F("config_version") + 1)
        transaction.on_commit(_publish_everybody_soon, robust=True)  # what is lost here the sweep finds within seconds
        return
    Tenant.objects.filter(schema_name=schema_name).update(config_version=F("config_version") + 1)
    transaction.on_commit(lambda: publish(schema_name), robust=True)  # what fails here is logged, and the sweep mends it


def _publish_everybody_soon() -> None:
    from governance.tasks import publish_stragglers  # it calls this module

    publish_stragglers.apply_async(expires=5)


def publish(schema_name: str) -> None:
    """Run the publishers for one tenant and note the version that they saw."""
    with schema_context(schema_name):
        tenant = Tenant.objects.get(schema_name=schema_name)
        for publisher in _publishers:
            publisher(tenant)
        Tenant.objects.filter(pk=tenant.pk, published_version__lt=tenant.config_version).update(published_version=tenant.config_version)


def behind() -> list[str]:
    """Schemas of the tenants whose newest configuration is not published yet."""
    return list(Tenant.objects.filter(published_version__lt=F("config_version")).values_list("schema_name", flat=True))
