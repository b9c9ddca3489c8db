"""What makes an organisation's schema."""

from __future__ import annotations

from typing import ClassVar

from django.db import models


class SchemaRecipe(models.Model):
    """The statements that migrating an empty schema ran. The newest only: another state of the migrations is recorded anew."""

    placement: ClassVar[str] = "public"

    digest = models.CharField(max_length=64, primary_key=True)
    """Of all migrations."""
    statements = models.TextField()
    recorded_at = models.DateTimeField()

    def __str__(self) -> str:
        return self.digest[:12]
