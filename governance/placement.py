"""In which schemas a model's table lives, for apps that are installed in both the public schema and the tenants'.

A model says `placement = "public"` or `placement = "tenant"`; without it the table exists wherever its app is installed.
A shared table must never exist in a tenant's schema as well: the tenant's empty one would hide it.
"""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.db import connections
from django_tenants.utils import get_public_schema_name


class PlacementRouter:
    """Stands before django-tenants' router: that one decides by app, this one by model.

    A migration operation without a model (RunSQL, RunPython) says it in its hints: `hints={"placement": "tenant"}`.
    """

    def allow_migrate(self, db: str, app_label: str, model_name: str | None = None, **hints: Any) -> bool | None:
        placement = hints.get("placement")
        if placement is None and model_name is not None:
            try:
                placement = getattr(apps.get_model(app_label, model_name), "placement", None)
            except LookupError:  # a model that a later migration removed
                placement = None
        if placement is None:
            return None
        in_public = connections[db].schema_name == get_public_schema_name()  # type: ignore[attr-defined]  # added by django-tenants
        return None if (placement == "public") == in_public else False
