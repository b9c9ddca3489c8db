"""Feature flags: who gets which variant, and by which rule. Pure, and the only implementation.

Plane, OFREP, the portal's preview and the tests all ask `decide`. Rules are asked in one order, and the first that has an answer
decides: the switch, an operator's override, consent, an operator's grant, the stage's cohort, the region, the percentage. Whatever is not known
(no consent on record, no attribute in the context) leads to the control, never to a treatment.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import msgspec

BUCKETS = 100_000
"""A share is a whole number of buckets: 100,000 are everybody, 1 is a thousandth of a percent."""

Kind = Literal["boolean", "string", "integer", "number", "object"]
Reason = Literal["STATIC", "TARGETING_MATCH", "SPLIT", "DEFAULT", "DISABLED"]
"""Of OpenFeature. The official Python client knows no others: our own words are in `Decision.rule`."""
Rule = Literal["switch", "override", "consent", "grant", "cohort", "region", "percentage"]
ORDER: tuple[Rule, ...] = ("switch", "override", "consent", "grant", "cohort", "region", "percentage")


class Override(msgspec.Struct, frozen=True, kw_only=True):
    """An operator's word for somebody: whoever has one of the values gets the variant."""

    attribute: str
    values: tuple[str, ...]
    variant: str


class Cohort(msgspec.Struct, frozen=True, kw_only=True):
    """Who belongs to the present stage."""

    name: str
    attribute: str
    values: tuple[str, ...]


class Range(msgspec.Struct, frozen=True, array_like=True):
    """Exposed subjects with a variant bucket in [start, end) get the variant."""

    variant: str
    start: int
    end: int


class Exposure(msgspec.Struct, frozen=True, kw_only=True):
    """Everything about a flag that decides who is exposed. Replaced as a whole by a change, never edited."""

    on: bool = False
    """Off: everybody gets the control, overrides included."""
    overrides: tuple[Override, ...] = ()
    grants: tuple[Override, ...] = ()
    """Likewise, but only within the organisation's consent: it decides before them. Apart from overrides, so that a plane that does not know
    grants exposes nobody by them."""
    cohorts: tuple[Cohort, ...] = ()
    """Whoever is in none of them gets the control; no cohorts means everybody."""
    regions: tuple[str, ...] = ()
    """Likewise by the attribute `region`."""
    percentage: int = 0
    """Buckets exposed, 0 to `BUCKETS`: those below it, so that a larger percentage keeps whoever was in."""
    ranges: tuple[Range, ...] = ()
    """The treatments of the exposed; together they cover [0, BUCKETS)."""


class Flag(msgspec.Struct, frozen=True, kw_only=True):
    key: str
    """`ai.<feature>.<change-id>`"""
    version: int
    """Of the exposure; 1 is the first."""
    kind: Kind
    variants: dict[str, Any]
    """Value by variant name, all of `kind`."""
    control: str
    """The variant of whoever is not exposed."""
    feature_class: str
    """The consent that any treatment needs."""
    sticky: str
    """The attribute whose value is hashed, for example `user` or `project`."""
    rollout_salt: str
    variant_salt: str
    """A salt of its own, so that being exposed says nothing about the variant, and a new percentage moves nobody between variants."""
    exposure: Exposure
    model: str = ""
    """A call that names this model is served by the model that the variant's value names. Empty: the flag binds no model."""


class Decision(NamedTuple):
    variant: str
    value: Any
    reason: Reason
    rule: Rule
    """The rule that decided."""
    detail: str
    """Why, in a sentence."""
    bucket: int | None = None
    """Of the rollout, 0 to 99,999; None when no bucket was needed."""


def bucket(salt: str, subject: str) -> int:
    """0 to 99,999, evenly spread: the first 8 bytes of SHA-256 over `salt:subject`, big-endian, modulo `BUCKETS`.

    The modulo favours low buckets by less than 1 in 10**14.
    """
    return int.from_bytes(hashlib.sha256(f"{salt}:{subject}".encode()).digest()[:8]) % BUCKETS


def decide(flag: Flag, context: Mapping[str, Any], consent: bool) -> Decision:
    """Which variant a subject with this context gets. `consent`: has the tenant agreed to the flag's feature class?"""
    exposure = flag.exposure
    if not exposure.on:
        return _control(flag, "DISABLED", "switch", "The flag is off.")
    forced = _named(flag, exposure.overrides, context, "override", "An override")
    if forced is not None:
        return forced
    if not consent:
        return _control(flag, "DISABLED", "consent", f"The organisation has not agreed to {flag.feature_class}.")
    granted = _named(flag, exposure.grants, context, "grant", "A grant")
    if granted is not None:
        return granted
    if exposure.cohorts and not any(match(context.get(cohort.attribute), cohort.values) for cohort in exposure.cohorts):
        return _control(
            flag, "DEFAULT", "cohort", f"In none of the stage's cohorts: {_listed(cohort.name for cohort in exposure.cohorts)}."
        )
    if exposure.regions and match(context.get("region"), exposure.regions) is None:
        region = text_of(context.get("region"))
        detail = f"The region {region} is not open yet." if region else "The context has no region, and only some are open."
        return _control(flag, "DEFAULT", "region", detail)
    return _by_percentage(flag, exposure, context)


def _named(flag: Flag, lines: tuple[Override, ...], context: Mapping[str, Any], rule: Rule, said: str) -> Decision | None:
    """By the first line that names the subject."""
    for line in lines:
        given = context.get(line.attribute)
        found = match(given, line.values) if given is not None else None
        if found is not None:
            detail = f"{said} gives {line.variant} to {line.attribute} {found}."
            return Decision(line.variant, flag.variants[line.variant], "TARGETING_MATCH", rule, detail)
    return None


def _by_percentage(flag: Flag, exposure: Exposure, context: Mapping[str, Any]) -> Decision:
    if exposure.percentage <= 0 or not exposure.ranges:
        return _control(flag, "DEFAULT", "percentage", "Nobody is exposed by percentage.")
    if exposure.percentage >= BUCKETS and len(exposure.ranges) == 1:
        # Everybody must mean everybody, also who sends no context at all.
        variant = exposure.ranges[0].variant
        reason: Reason = "TARGETING_MATCH" if exposure.cohorts or exposure.regions else "STATIC"
        return Decision(variant, flag.variants[variant], reason, "percentage", "Everybody is exposed.")
    subject = text_of(context.get(flag.sticky))
    if not subject:
        return _control(flag, "DEFAULT", "percentage", f"The context has no {flag.sticky}, which decides who is exposed.")
    place = bucket(flag.rollout_salt, subject)
    share = percent_text(exposure.percentage)
    if place >= exposure.percentage:
        return _control(flag, "SPLIT", "percentage", f"Bucket {place} is outside the first {share}.", place)
    arm = exposure.ranges[0] if len(exposure.ranges) == 1 else _arm(exposure.ranges, bucket(flag.variant_salt, subject))
    detail = f"Bucket {place} is within the first {share}."
    return Decision(arm.variant, flag.variants[arm.variant], "SPLIT", "percentage", detail, place)


def _arm(ranges: tuple[Range, ...], place: int) -> Range:
    return next(arm for arm in ranges if arm.start <= place < arm.end)


def _control(flag: Flag, reason: Reason, rule: Rule, detail: str, place: int | None = None) -> Decision:
    return Decision(flag.control, flag.variants[flag.control], reason, rule, detail, place)


def match(given: Any, wanted: tuple[str, ...]) -> str | None:
    """The first of the given values that is wanted. A context may hold one value or a list; a missing one matches nothing."""
    if isinstance(given, str):
        return given if given in wanted else None
    if isinstance(given, (list, tuple)):
        return next((text for each in given if (text := text_of(each)) in wanted), None)
    text = text_of(given)
    return text if text in wanted else None


def text_of(value: Any) -> str:
    """A value of a context as rules compare it; empty for what is missing or no plain value."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, (int, float)) else ""


@lru_cache(1024)
def percent_text(share: int) -> str:
    """`12.5%`, from buckets."""
    whole, rest = divmod(share, 1000)
    return f"{whole}.{rest:03d}".rstrip("0").rstrip(".") + "%"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)
