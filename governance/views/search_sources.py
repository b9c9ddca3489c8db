"""What search finds on the ground floor."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlencode

from django.db.models import Q
from django.urls import reverse

from governance import control_selectors, selectors
from governance.models import Membership
from governance.search import Hit


def find_people(query: str, membership: Membership, limit: int) -> Iterable[Hit]:
    members = selectors.members_of(membership.tenant).filter(Q(user__name__icontains=query) | Q(user__email__icontains=query))[:limit]
    return [
        Hit(
            title=member.user.name,
            subtitle=", ".join(member.role_labels),
            url=f"{reverse('people')}?{urlencode({'q': member.user.email})}",
            icon="user",
        )
        for member in members
    ]


def find_policies(query: str, membership: Membership, limit: int) -> Iterable[Hit]:
    found = control_selectors.policies().filter(Q(name__icontains=query) | Q(namespace__icontains=query) | Q(description__icontains=query))[
        :limit
    ]
    return [
        Hit(str(policy), policy.get_mode_display(), reverse("policy-detail", args=[policy.namespace, policy.name]), icon="shield-check")
        for policy in found
    ]


def find_guardrails(query: str, membership: Membership, limit: int) -> Iterable[Hit]:
    found = control_selectors.guardrails().filter(name__icontains=query)[:limit]
    return [Hit(each.name, each.get_kind_display(), reverse("guardrail-detail", args=[each.pk]), icon="shield") for each in found]
