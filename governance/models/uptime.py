"""Whether the portal answered, minute by minute."""

from __future__ import annotations

from typing import ClassVar

from django.db import models


class PortalMinute(models.Model):
    """What the worker met when it asked for a page of the portal in one minute. Of a minute without a row nothing is known."""

    placement: ClassVar[str] = "public"

    minute = models.DateTimeField(primary_key=True)
    """UTC, on the minute."""
    took_ms = models.PositiveIntegerField()
    failure = models.CharField(max_length=64, blank=True)
    """Why it was down, for operators; empty when the page came whole and in time."""

    def __str__(self) -> str:
        return f"{self.minute:%Y-%m-%d %H:%M} {self.failure or 'up'}"
