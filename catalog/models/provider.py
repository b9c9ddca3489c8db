"""An account at a company (or a server of our own) that serves models."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import cast

from django.conf import settings
from django.db import models

from catalog.platforms import platform_of
from gateway.contract import credentials
from gateway.contract.platforms import Dialect, Endpoint, Platform
from gateway.contract.sealing import Sealer

ROTATE_CREDENTIALS_AFTER = timedelta(days=90)
"""What virtual keys are held to by their expiry, credentials of providers are reminded of."""


class Provider(models.Model):
    """Where models are served. The secret is write-only: it goes in sealed and leaves only towards the provider."""

    never_exported = ("sealed_secret",)

    class Kind(models.TextChoices):
        OPENAI = "openai", "OpenAI"
        ANTHROPIC = "anthropic", "Anthropic"
        AZURE_OPENAI = "azure_openai", "Azure OpenAI"
        VERTEX_AI = "vertex_ai", "Google Vertex AI"
        BEDROCK = "bedrock", "Amazon Bedrock"
        OPENAI_COMPATIBLE = "openai_compatible", "OpenAI-compatible server"

    class Dialect(models.TextChoices):
        OPENAI = "openai", "OpenAI"
        ANTHROPIC = "anthropic", "Anthropic"

    class Credential(models.TextChoices):
        KEY = "key", "API key"
        ENTRA_ID = "entra_id", "Microsoft Entra ID"
        SERVICE_ACCOUNT = "service_account", "Google service account"
        AWS_KEYS = "aws_keys", "AWS access keys"

    slug = models.SlugField(max_length=48, unique=True)
    """What events, prices and bills call it."""
    name = models.CharField(max_length=80)
    kind = models.CharField(max_length=24, choices=Kind, default=Kind.OPENAI_COMPATIBLE)
    dialect = models.CharField(max_length=16, choices=Dialect, default=Dialect.OPENAI)
    """The protocol it speaks; callers may speak another one."""
    base_url = models.URLField(max_length=300)
    """Up to and including the version segment, for example https://api.openai.com/v1"""
    api_version = models.CharField(max_length=32, blank=True)
    """Of Azure: the `api-version` of each call. Empty where the URL's own version says it."""
    credential = models.CharField(max_length=16, choices=Credential, default=Credential.KEY)
    """What the sealed text is, see `gateway.contract.credentials`."""
    credential_label = models.CharField(max_length=200, blank=True, editable=False)
    """Whose credential it is, as far as that is no secret: a client id, a service account, an access key's id."""
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

    @property
    def replace_by(self) -> datetime | None:
        """When the credential should have been replaced at the latest; None without one."""
        return self.secret_set_at + ROTATE_CREDENTIALS_AFTER if self.secret_set_at else None

    @property
    def platform(self) -> Platform:
        return platform_of(self.kind)

    def endpoint(self) -> Endpoint:
        """Where calls go, and how they are made there."""
        region = self.region if self.platform == "bedrock" else ""  # elsewhere it is said, and decides nothing
        return Endpoint(self.platform, cast(Dialect, self.dialect), self.base_url, region, self.api_version)

    def open_secret(self) -> str:
        """The upstream credential as text in clear, only for a call to the provider itself."""
        return Sealer(settings.SEALING_KEYS).open(self.sealed_secret)

    def open_credential(self) -> credentials.Credential:
        """The upstream credential, likewise. UnsealError or CredentialError when it cannot be used."""
        return credentials.read(self.credential, self.open_secret())
