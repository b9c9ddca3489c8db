"""An organisation, and the schema that holds what is its own."""

from __future__ import annotations

from django.core.validators import RegexValidator
from django.db import models
from django_tenants.models import DomainMixin, TenantMixin

from gateway.contract.keys import new_id

slug_validator = RegexValidator(
    r"^[a-z][a-z0-9-]{1,30}[a-z0-9]$", "Use 3 to 32 lower-case letters, digits and hyphens, beginning with a letter."
)
RESERVED_SLUGS = frozenset({"public", "platform", "api", "static", "login", "logout", "admin", "template", "pg"})


class OpenTenants(models.Manager["Tenant"]):
    """Without the deleted ones: their schemas are gone."""

    def get_queryset(self) -> models.QuerySet[Tenant]:
        return super().get_queryset().filter(deleted_at=None)


class Tenant(TenantMixin):  # type: ignore[misc]  # django-tenants ships no types
    """An organisation. `public_id` is inside its keys, `slug` inside its URLs; neither is ever given to another."""

    placement = "public"

    class Kind(models.TextChoices):
        INTERNAL = "internal", "Internal"
        STAFF = "staff", "Staff"
        PARTNER = "partner", "Design partner"
        CUSTOMER = "customer", "Customer"

    class Tier(models.TextChoices):
        FREE = "free", "Free"
        STARTER = "starter", "Starter"
        PRO = "pro", "Pro"
        BUSINESS = "business", "Business"
        ENTERPRISE = "enterprise", "Enterprise"

    slug = models.CharField(max_length=32, unique=True, validators=[slug_validator])
    public_id = models.CharField(max_length=16, unique=True, default=new_id, editable=False)
    name = models.CharField(max_length=80)
    kind = models.CharField(max_length=16, choices=Kind, default=Kind.CUSTOMER)
    tier = models.CharField(max_length=16, choices=Tier, default=Tier.FREE)
    region = models.CharField(max_length=32, blank=True)
    time_zone = models.CharField(max_length=64, default="UTC")
    suspended_at = models.DateTimeField(null=True, blank=True)
    deleted_at = models.DateTimeField(null=True, blank=True)
    """A deleted tenant keeps this row and nothing else, so that nobody is given its address or public id again."""
    created_at = models.DateTimeField(auto_now_add=True)
    config_version = models.BigIntegerField(default=1)
    """Grows in the transaction of every change that the gateway must know."""
    published_version = models.BigIntegerField(default=0)
    """The config_version that the gateway's newest snapshot was compiled from."""

    objects = OpenTenants()
    every = models.Manager["Tenant"]()

    auto_create_schema = False  # the service creates the schema, inside its own error handling

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    @property
    def is_suspended(self) -> bool:
        return self.suspended_at is not None

    @property
    def path(self) -> str:
        """Where the tenant's pages begin."""
        return f"/o/{self.slug}/"


class Domain(DomainMixin):  # type: ignore[misc]
    """Required by django-tenants; unused, because a tenant is addressed by path."""

    placement = "public"
