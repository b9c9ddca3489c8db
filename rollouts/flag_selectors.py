"""What may be seen of flags, and how pages, API and the gateway see them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from django.db.models import Q, QuerySet
from django_tenants.utils import get_public_schema_name, schema_context

from gateway.contract.flags import ORDER, Decision, Exposure, decide
from gateway.contract.flags import Flag as ContractFlag
from gateway.contract.flags import Kind as ContractKind
from gateway.contract.treatments import comparison_of
from governance import selectors as governance_selectors
from governance.access import Permission
from governance.models import Membership, Tenant
from rollouts.models import Flag, FlagChange, FlagVersion

RULE_NAMES = {
    "switch": "Switch",
    "override": "Override",
    "consent": "Consent",
    "grant": "Grant",
    "cohort": "Stage cohort",
    "region": "Region",
    "percentage": "Percentage",
}


def flags(*, tab: str = "", query: str = "") -> QuerySet[Flag]:
    """By key, by tab (`live`, `waiting`, `archived`; empty: all) and by key, title or owner."""
    found = Flag.objects.select_related("owner", "current").order_by("key")
    if tab == "live":
        found = found.filter(archived_at=None)
    elif tab == "waiting":
        found = found.filter(waits()).distinct()
    elif tab == "archived":
        found = found.filter(archived_at__isnull=False)
    if query:
        found = found.filter(Q(key__icontains=query) | Q(title__icontains=query) | Q(owner__name__icontains=query))
    return found


def waits() -> Q:
    return Q(changes__status=FlagChange.Status.PROPOSED) | Q(changes__review_due_at__isnull=False, changes__reviewed_at=None)


def flag_counts() -> dict[str, int]:
    return {tab: flags(tab=tab).count() for tab in ("live", "waiting", "archived")}


def find_flag(key: str) -> Flag | None:
    return Flag.objects.select_related("owner", "current", "rollout").filter(key=key).first()


def find_change(flag: Flag, number: int) -> FlagChange | None:
    return changes_of(flag).filter(number=number).first()


def changes_of(flag: Flag) -> QuerySet[FlagChange]:
    """Newest first."""
    return flag.changes.select_related("flag", "base", "version", "phase__rollout", "proposed_by", "decided_by", "reviewed_by").order_by(
        "-number"
    )


def versions_of(flag: Flag) -> QuerySet[FlagVersion]:
    """Newest first, each with the change that it came from; the first version came from none."""
    return flag.versions.select_related("change__proposed_by", "change__decided_by").order_by("-number")


def waiting_changes() -> QuerySet[FlagChange]:
    """Proposals, and emergencies that nobody has looked at afterwards."""
    return FlagChange.objects.filter(Q(status=FlagChange.Status.PROPOSED) | Q(review_due_at__isnull=False, reviewed_at=None))


def open_changes(keys: Sequence[int]) -> dict[int, list[FlagChange]]:
    """What waits for somebody, by flag."""
    waiting = waiting_changes().select_related("proposed_by").filter(flag__in=keys)
    found: dict[int, list[FlagChange]] = {}
    for change in waiting:
        found.setdefault(change.flag_id, []).append(change)
    return found


def waiting_for(membership: Membership) -> QuerySet[FlagChange]:
    """Changes and emergencies that wait for this person, the oldest first."""
    found = waiting_changes().select_related("flag", "proposed_by").order_by("proposed_at", "pk")
    if not membership.can(Permission.SIGN_GATES):
        return found.none()
    return found.exclude(proposed_by=membership.user_id)


def due_count(membership: Membership) -> int:
    return waiting_for(membership).count()


# As the gateway sees them


def compiled(flag: Flag, exposure: Exposure | None = None) -> ContractFlag:
    """The flag as `decide` wants it, with its own exposure or another one."""
    assert flag.current is not None
    return ContractFlag(
        key=flag.key,
        version=flag.current.number,
        kind=cast(ContractKind, flag.kind),
        # jsonb keeps 1.0 as it was written; a value that an import wrote as 1 must still be a fraction for clients.
        variants={name: float(value) if flag.kind == Flag.Kind.NUMBER else value for name, value in flag.variants.items()},
        control=flag.control,
        feature_class=flag.feature_class,
        sticky=flag.sticky,
        rollout_salt=flag.rollout_salt,
        variant_salt=flag.variant_salt,
        exposure=flag.exposure if exposure is None else exposure,
        model=flag.model,
    )


def served_flags() -> list[ContractFlag]:
    """Everything that is not archived, by key: the organisation's own and the operator's, whose word holds where both have the key."""
    own = {flag.key: compiled(flag) for flag in flags(tab="live")}
    with schema_context(get_public_schema_name()):
        operators = {flag.key: compiled(flag) for flag in flags(tab="live")}
    return [flag for _, flag in sorted({**own, **operators}.items())]


def prompts_of(flags: Iterable[ContractFlag]) -> set[str]:
    """The versions of prompts that calls may get by these flags, as `greeting@3`: as long as a flag names one, it stays what it is."""
    treatments = (each for flag in flags if flag.model for each in comparison_of(flag.variants).treatments.values())
    return {each.prompt for each in treatments if each.prompt}


def facts_of(tenant: Tenant) -> dict[str, str]:
    """What flags may ask about a tenant. An unknown region is left out: a rule must not take it for a value."""
    facts = {"tenant": tenant.slug, "tier": tenant.tier, "kind": tenant.kind, "region": tenant.region}
    return {name: value for name, value in facts.items() if value}


def has_consent(feature_class: str) -> bool:
    """Has the current tenant agreed to the class?"""
    return any(state.granted for state in governance_selectors.consent_states() if state.feature_class == feature_class)


# Who gets what, and why


@dataclass(frozen=True)
class Asked:
    """One rule on the way to the decision."""

    rule: str
    name: str
    outcome: str
    """`passed`, `decided` or `not asked`."""


@dataclass(frozen=True)
class Preview:
    decision: Decision
    rule_name: str
    consent: bool
    road: list[Asked]
    proposed: Decision | None
    """Under the change that waits, if there is one."""

    @property
    def is_changed(self) -> bool:
        return self.proposed is not None and self.proposed.variant != self.decision.variant


def preview(flag: Flag, context: Mapping[str, Any], *, consent: bool | None = None, change: FlagChange | None = None) -> Preview:
    """What a context gets from the flag as it is, by the function that the gateway runs, and under a change that waits.

    `consent` None: as the tenant has decided. A context may be written as programs send it, with a `targetingKey` as its user.
    """
    if "targetingKey" in context:
        context = {**context, "user": context["targetingKey"]}
    agreed = has_consent(flag.feature_class) if consent is None else consent
    decision = decide(compiled(flag), context, agreed)
    place = ORDER.index(decision.rule)
    road = [
        Asked(rule, RULE_NAMES[rule], "decided" if at == place else "passed" if at < place else "not asked")
        for at, rule in enumerate(ORDER)
    ]
    proposed = decide(compiled(flag, change.exposed), context, agreed) if change is not None else None
    return Preview(decision, RULE_NAMES[decision.rule], agreed, road, proposed)
