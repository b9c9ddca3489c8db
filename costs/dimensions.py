"""What spend is grouped and narrowed by: one list for its page, API, CSV and saved views, and for the calls behind a figure.

Six dimensions are known of every hour. The environment is that of the project, as the catalog has it today. Deployment, region and the tags
that the organisation declared are counted apart from one another, each with the six; token classes by provider and model.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, timedelta

from django.utils import timezone

from catalog.models import Deployment, Project, VirtualKey
from costs import attribute_days, selectors
from costs.attribute_days import TAG
from costs.errors import SpendQueryError
from costs.models import AttributeDay, RequiredTag, TokenClass, UsageDay, UsageHour
from gateway.contract.tags import NAME

ENVIRONMENT, TOKEN_CLASS = "environment", "token_class"
CLASS_FILTERS = ("provider", "model")
"""What token classes can be narrowed by."""
FILTERS = (*selectors.FILTERS, ENVIRONMENT, *attribute_days.COLUMNS)
"""Besides declared tags, as `tag:<name>`."""
CHOICES_SHOWN = 200
OTHER_LABEL = "Other values"


def is_attribute(name: str) -> bool:
    """Whether it is counted apart from others of its kind."""
    return name in attribute_days.COLUMNS or name.startswith(TAG)


def is_tag(name: str) -> bool:
    """Whether it can name a tag, declared or not."""
    return name.startswith(TAG) and NAME.fullmatch(name[len(TAG) :]) is not None


def declared_tags() -> list[str]:
    return [TAG + name for name in RequiredTag.objects.order_by("name").values_list("name", flat=True)]


def groups(*, own: bool = False) -> dict[str, str]:
    """Each dimension with its label; token classes are not kept by key."""
    known = {name: label for name, label in selectors.GROUPS.items() if not (own and name == TOKEN_CLASS)}
    return known | {name: label(name) for name in declared_tags()}


def label(name: str) -> str:
    return f"Tag {name[len(TAG) :]}" if name.startswith(TAG) else selectors.GROUPS[name]


def unknown(name: str) -> str:
    """What calls without a value are called."""
    return f"No {name[len(TAG) :]}" if name.startswith(TAG) else selectors.UNKNOWN[name]


def chosen(query: Mapping[str, str]) -> dict[str, str]:
    """The filters in a query string; whatever else is in it is left out."""
    found = {name: query.get(name, "").strip().replace("\0", "") for name in query if name in FILTERS or is_tag(name)}
    return {name: value for name, value in found.items() if value}


def refusal(group: str, chosen: Mapping[str, str], *, own: bool = False) -> str:
    """Why there are no figures by this grouping with these filters; empty when there are."""
    names = list(dict.fromkeys(name for name in (group, *chosen) if is_attribute(name)))
    if len(names) > 1:
        said = " and ".join(label(name)[0].lower() + label(name)[1:] for name in names)
        return f"Deployment, region and tags are counted one at a time, not {said} together. Take one of them away."
    if group == TOKEN_CLASS and (own or set(chosen) - set(CLASS_FILTERS)):
        return "Token classes are counted by provider and model only. Take other filters away, or group by something else."
    tags = [name for name in names if name.startswith(TAG)]
    if tags and tags[0] not in declared_tags():
        return f"The tag {tags[0][len(TAG) :]} is not declared, so spend by it is not counted. Declare it under required tags."
    return ""


def check(group: str, chosen: Mapping[str, str], *, own: bool = False) -> None:
    """Raises SpendQueryError."""
    if text := refusal(group, chosen, own=own):
        raise SpendQueryError(text, field="group")


def environments() -> dict[str, str]:
    """Project to environment, today."""
    return dict(Project.objects.values_list("slug", "environment"))


def labels(group: str, values: Iterable[str]) -> dict[str, str]:
    """Names of keys, deployments and token classes; everything else is called by its slug or value."""
    if group == "key":
        named = VirtualKey.objects.filter(public_id__in=list(values)).values_list("public_id", "name")
        return {key: f"{name} ({key})" for key, name in named}
    if group == "deployment":
        found = Deployment.objects.filter(pk__in=[int(value) for value in values if value.isdecimal() and len(value) < 19])
        return {str(one.pk): f"{one.model.slug} by {one.reference}" for one in found.select_related("provider", "model")}
    if group == TOKEN_CLASS:
        return {str(value): str(value.label) for value in TokenClass}
    return {attribute_days.OTHER: OTHER_LABEL} if group.startswith(TAG) else {}


def choices(name: str, *, keys: Iterable[str] | None = None) -> list[str]:
    """Values of a dimension over the last 90 days, for a filter."""
    since = (timezone.now() - timedelta(days=90)).astimezone(UTC)
    if name == ENVIRONMENT:
        return sorted(set(environments().values()))
    if keys is None:
        days = UsageDay.objects.filter(dimension=name, day__gte=since.date()).exclude(value="")
        return list(days.order_by("value").values_list("value", flat=True).distinct()[:CHOICES_SHOWN])
    if is_attribute(name):
        own = AttributeDay.objects.filter(attribute=name, day__gte=since.date(), key_id__in=list(keys)).exclude(value="")
        return list(own.order_by("value").values_list("value", flat=True).distinct()[:CHOICES_SHOWN])
    column = selectors.FILTERS[name]
    hours = UsageHour.objects.filter(hour__gte=since, key_id__in=list(keys)).exclude(**{column: ""})
    return list(hours.order_by(column).values_list(column, flat=True).distinct()[:CHOICES_SHOWN])
