"""An account at a company (or a server of our own) that serves models."""

from __future__ import annotations

from django.conf import settings
from django.db import models

from gateway.contract.sealing import Sealer


class Provider(models.Model):
    """Where models are served. The secret is write-only: it goes in sealed and leaves only towards the provider."""

    never_exported = ("sealed_secret",)

    class Kind(models.TextChoices):
        OPENAI = "openai", "OpenAI"
        ANTHROPIC = "anthropic", "Anthropic"
        OPENAI_COMPATIBLE = "openai_compatible", "OpenAI-compatible server"

    class Dialect(models.TextChoices):
        OPENAI = "openai", "OpenAI"
        ANTHROPIC = "anthropic", "Anthropic"

    slug = models.SlugField(max_length=48, unique=True)
    """What events, prices and bills call it."""
    name = models.CharField(max_length=80)
    kind = models.CharField(max_length=24, choices=Kind, default=Kind.OPENAI_COMPATIBLE)
    dialect = models.CharField(max_length=16, choices=Dialect, default=Dialect.OPENAI)
    """The protocol it speaks; callers may speak another one."""
    base_url = models.URLField(max_length=300)
    """Up to and including the version segment, for example https://api.openai.com/v1"""
    sealed_secret = models.TextField(blank=True, editable=False)
    secret_set_at = models.DateTimeField(null=True, editable=False)
    region = models.CharField(max_length=32, blank=True)
    checked_at = models.DateTimeField(null=True, editable=False)
    check_ok = models.BooleanField(null=True, editable=False)
    check_ms = models.IntegerField(null=True, editable=False)
    check_detail = models.CharField(max_length=300, blank=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    def open_secret(self) -> str:
        """The upstream credential in clear, only for a call to the provider itself."""
        return Sealer(settings.SEALING_KEYS).open(self.sealed_secret)
