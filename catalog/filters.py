"""One filter class per list, for its page and its endpoint. Unknown values simply match nothing."""

from __future__ import annotations

from decimal import Decimal

import django_filters
from django.db.models import Q, QuerySet
from django.utils import timezone

from catalog import selectors
from catalog.models import Deployment, Model, VirtualKey


class ModelFilter(django_filters.FilterSet):  # type: ignore[misc]  # django-filter ships no types
    q = django_filters.CharFilter(method="by_text")
    capability = django_filters.CharFilter(method="by_capability")
    provider = django_filters.CharFilter(method="by_provider")
    sensitivity = django_filters.CharFilter(field_name="data_sensitivity")
    status = django_filters.CharFilter(field_name="status")
    region = django_filters.CharFilter(method="by_region")
    context = django_filters.NumberFilter(field_name="context_window", lookup_expr="gte")
    price = django_filters.NumberFilter(method="by_price")
    tag = django_filters.CharFilter(method="by_tag")

    class Meta:
        model = Model
        fields: list[str] = []

    def filter_queryset(self, models: QuerySet[Model]) -> QuerySet[Model]:
        """A context or a price that is no number matches nothing either."""
        found: QuerySet[Model] = models.none() if self.form.errors else super().filter_queryset(models)
        return found

    def by_text(self, models: QuerySet[Model], name: str, value: str) -> QuerySet[Model]:
        return models.filter(Q(slug__icontains=value) | Q(name__icontains=value) | Q(description__icontains=value))

    def by_capability(self, models: QuerySet[Model], name: str, value: str) -> QuerySet[Model]:
        return models.filter(capabilities__contains=[value])

    def by_provider(self, models: QuerySet[Model], name: str, value: str) -> QuerySet[Model]:
        return models.filter(deployments__in=Deployment.objects.filter(provider__slug=value)).distinct()

    def by_region(self, models: QuerySet[Model], name: str, value: str) -> QuerySet[Model]:
        return models.filter(deployments__in=Deployment.objects.filter(provider__region=value)).distinct()

    def by_tag(self, models: QuerySet[Model], name: str, value: str) -> QuerySet[Model]:
        """As `name=value`."""
        tag, _, wanted = value.partition("=")
        return models.filter(tags__contains={tag: wanted})

    def by_price(self, models: QuerySet[Model], name: str, value: Decimal) -> QuerySet[Model]:
        """At most so many USD per million output tokens; what is unpriced is not known to be."""
        prices = selectors.list_prices(models)
        return models.filter(pk__in=[pk for pk, price in prices.items() if price.output_per_million <= value])


class KeyFilter(django_filters.FilterSet):  # type: ignore[misc]
    q = django_filters.CharFilter(method="by_text")
    project = django_filters.CharFilter(field_name="project__slug")
    state = django_filters.CharFilter(method="by_state")

    class Meta:
        model = VirtualKey
        fields: list[str] = []

    def by_text(self, keys: QuerySet[VirtualKey], name: str, value: str) -> QuerySet[VirtualKey]:
        """Name, owner, project, or the id as it stands in a key's prefix."""
        part = value.split("_")[2] if value.startswith("ghk_") and value.count("_") >= 2 else value
        by_id = Q(public_id__istartswith=part) if part else Q()
        return keys.filter(
            by_id
            | Q(name__icontains=value)
            | Q(owner__name__icontains=value)
            | Q(owner__email__icontains=value)
            | Q(project__slug__icontains=value)
        )

    def by_state(self, keys: QuerySet[VirtualKey], name: str, value: str) -> QuerySet[VirtualKey]:
        now = timezone.now()
        if value == "active":
            return selectors.live_keys(keys, now)
        if value == "expiring":
            return selectors.keys_expiring(keys, now)
        if value == "expired":
            return keys.filter(revoked_at=None, expires_at__lte=now)
        return keys.filter(revoked_at__isnull=False) if value == "revoked" else keys.none()
