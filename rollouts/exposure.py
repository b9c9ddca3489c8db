"""What a change does to a flag's exposure: pure rules over `gateway.contract.flags`.

A change is *lowering* only when it surely exposes nobody more. Whatever can't be proved to be lowering counts as raising, and
raising takes two people.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

from gateway.contract.flags import BUCKETS, Cohort, Exposure, Kind, Override, Range, percent_text

KEY_PATTERN = r"^ai\.[a-z0-9]+(?:-[a-z0-9]+)*\.[a-z0-9]+(?:-[a-z0-9]+)*$"
_ATTRIBUTE = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,59}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,59}")
MAX_VALUES = 500
MAX_RULES = 50
MAX_CHARACTERS = 200


class ExposureError(ValueError):
    """An exposure or a set of variants that can't be used; the message names the place, `field` the part."""

    def __init__(self, message: str, field: str) -> None:
        super().__init__(message)
        self.field = field


# What a change does


def raises(before: Exposure, after: Exposure, control: str) -> list[str]:
    """Why the change may expose somebody to something new, one sentence per reason; empty when it surely does not."""
    if not after.on:
        return []
    if not before.on:
        return ["Switches the flag on"]
    reasons = []
    if after.percentage > before.percentage:
        reasons.append(f"Percentage from {percent_text(before.percentage)} to {percent_text(after.percentage)}")
    if _wider(before.regions, after.regions):
        reasons.append("More regions")
    if before.cohorts and (not after.cohorts or not _members(after.cohorts) <= _members(before.cohorts)):
        reasons.append("More in the stage's cohorts")
    if _override_raises(before.overrides, after.overrides, control):
        reasons.append("Overrides that expose, or fewer that protect")
    if _override_raises(before.grants, after.grants, control):
        reasons.append("Grants that expose")
    if after.percentage and _gains(before.ranges, after.ranges):
        reasons.append("Other shares of the variants")
    return reasons


def _wider(before: Sequence[str], after: Sequence[str]) -> bool:
    return bool(before) and (not after or not set(after) <= set(before))


def _members(cohorts: Sequence[Cohort]) -> set[tuple[str, str]]:
    return {(cohort.attribute, value) for cohort in cohorts for value in cohort.values}


def _pairs(overrides: Sequence[Override]) -> list[tuple[str, str, str]]:
    return [(override.attribute, value, override.variant) for override in overrides for value in override.values]


def _override_raises(before: Sequence[Override], after: Sequence[Override], control: str) -> bool:
    old, new = _pairs(before), _pairs(after)
    exposing = {pair for pair in new if pair[2] != control} - set(old)
    unprotected = {pair for pair in old if pair[2] == control} - set(new)
    # Somebody may match two overrides, and then the first one counts: other orders expose other people.
    kept_old, kept_new = [pair for pair in old if pair in new], [pair for pair in new if pair in old]
    return bool(exposing or unprotected or kept_old != kept_new)


def _gains(before: Sequence[Range], after: Sequence[Range]) -> bool:
    """Does any bucket get another variant than before?"""
    marks = sorted({mark for each in (*before, *after) for mark in (each.start, each.end)})

    def at(ranges: Sequence[Range], place: int) -> str | None:
        return next((each.variant for each in ranges if each.start <= place < each.end), None)

    return any(at(before, mark) != at(after, mark) for mark in marks[:-1])


def differences(before: Exposure, after: Exposure) -> list[tuple[str, str, str]]:
    """(what, before, after) in words, for what is not the same."""
    rows = zip(words(before), words(after), strict=True)
    return [(name, old, new) for (name, old), (_, new) in rows if old != new]


def words(exposure: Exposure) -> list[tuple[str, str]]:
    """(what, how) of each rule, in the order in which they decide."""
    return [
        ("Switch", "on" if exposure.on else "off"),
        ("Overrides", "\n".join(override_lines(exposure.overrides)) or "none"),
        ("Grants", "\n".join(override_lines(exposure.grants)) or "none"),
        ("Stage cohorts", "\n".join(cohort_lines(exposure.cohorts)) or "everybody"),
        ("Regions", ", ".join(exposure.regions) or "all"),
        ("Percentage", percent_text(exposure.percentage)),
        ("Variants", ", ".join(f"{name} {percent_text(size)}" for name, size in weights_of(exposure.ranges).items()) or "none"),
    ]


def changed(
    present: Exposure,
    *,
    on: bool | None = None,
    overrides: Sequence[Override] | None = None,
    grants: Sequence[Override] | None = None,
    cohorts: Sequence[Cohort] | None = None,
    regions: Sequence[str] | None = None,
    percentage: int | None = None,
    weights: Mapping[str, int] | None = None,
) -> Exposure:
    """The present exposure with other parts; None keeps a part. Weights and percentage in buckets. Raises ExposureError."""
    return Exposure(
        on=present.on if on is None else on,
        overrides=present.overrides if overrides is None else tuple(overrides),
        grants=present.grants if grants is None else tuple(grants),
        cohorts=present.cohorts if cohorts is None else tuple(cohorts),
        regions=present.regions if regions is None else tuple(regions),
        percentage=present.percentage if percentage is None else percentage,
        ranges=present.ranges if weights is None or weights == weights_of(present.ranges) else lay_out(weights, present.ranges),
    )


def without(lines: Sequence[Override], attribute: str, value: str, variant: str = "") -> tuple[Override, ...]:
    """The lines without this value of the attribute, of any variant or of one. A line that names nobody any more goes."""
    rest = []
    for line in lines:
        is_meant = line.attribute == attribute and variant in ("", line.variant)
        values = tuple(each for each in line.values if each != value) if is_meant else line.values
        if values:
            rest.append(Override(attribute=line.attribute, values=values, variant=line.variant))
    return tuple(rest)


def with_value(lines: Sequence[Override], attribute: str, value: str, variant: str) -> tuple[Override, ...]:
    """The lines with this value of the attribute given the variant before any other line decides."""
    rest = without(lines, attribute, value)
    if rest and (rest[0].attribute, rest[0].variant) == (attribute, variant):
        return (Override(attribute=attribute, values=(*rest[0].values, value), variant=variant), *rest[1:])
    return (Override(attribute=attribute, values=(value,), variant=variant), *rest)


# The shares of the variants


def weights_of(ranges: Sequence[Range]) -> dict[str, int]:
    """Buckets per variant, in the order of their first range."""
    sizes: dict[str, int] = {}
    for each in ranges:
        sizes[each.variant] = sizes.get(each.variant, 0) + each.end - each.start
    return sizes


def lay_out(weights: Mapping[str, int], present: Sequence[Range] = ()) -> tuple[Range, ...]:
    """Ranges of these sizes (buckets, together `BUCKETS`) that move as few subjects as possible.

    A variant that grows keeps what it has and takes what others give; one that shrinks gives from its end.
    """
    if sum(weights.values()) != BUCKETS or any(size < 0 for size in weights.values()):
        raise ExposureError("The shares of the variants add up to 100%.", "weights")
    kept: list[Range] = []
    left = dict(weights)
    for each in present:
        size = min(each.end - each.start, left.get(each.variant, 0))
        if size:
            kept.append(Range(each.variant, each.start, each.start + size))
            left[each.variant] -= size
    place = 0
    filled: list[Range] = []
    for each in [*sorted(kept, key=lambda one: one.start), Range("", BUCKETS, BUCKETS)]:
        for variant, wanted in left.items():
            size = min(wanted, each.start - place)
            if size:
                filled.append(Range(variant, place, place + size))
                left[variant] -= size
                place += size
        if each.variant:
            filled.append(each)
        place = each.end
    return _joined(filled)


def _joined(ranges: Sequence[Range]) -> tuple[Range, ...]:
    joined: list[Range] = []
    for each in ranges:
        if joined and joined[-1].variant == each.variant and joined[-1].end == each.start:
            joined[-1] = Range(each.variant, joined[-1].start, each.end)
        else:
            joined.append(each)
    return tuple(joined)


# What may be written


def check_variants(kind: Kind, variants: Mapping[str, Any], control: str) -> dict[str, Any]:
    """The variants with values of the right type. Raises ExposureError."""
    if not 2 <= len(variants) <= 20:
        raise ExposureError("A flag has 2 to 20 variants, the control among them.", "variants")
    for name in variants:
        if not _NAME.fullmatch(name):
            raise ExposureError(f"{name or 'An empty name'} is not the name of a variant: letters, digits, hyphens, dots.", "variants")
    if control not in variants:
        raise ExposureError(f"The control {control or '(none)'} is not one of the variants.", "control")
    return {name: _value(kind, value, name) for name, value in variants.items()}


def _value(kind: Kind, value: Any, name: str) -> Any:
    fits = {
        "boolean": isinstance(value, bool),
        "string": isinstance(value, str),
        "integer": isinstance(value, int) and not isinstance(value, bool),
        "number": isinstance(value, (int, float)) and not isinstance(value, bool),
        "object": isinstance(value, dict),
    }
    if not fits[kind]:
        raise ExposureError(f"The value of {name} must be of type {kind}.", "variants")
    # Clients tell 1 from 1.0, and refuse the first where they expect a fraction.
    return float(value) if kind == "number" else value


def check_attribute(name: str) -> None:
    """Raises ExposureError when a flag can't be sticky by it."""
    if not _ATTRIBUTE.fullmatch(name):
        raise ExposureError("Name an attribute of the context, for example user or project.", "sticky")


def check(exposure: Exposure, variants: Mapping[str, Any], control: str) -> None:
    """Raises ExposureError for what contradicts itself or the flag."""
    if not 0 <= exposure.percentage <= BUCKETS:
        raise ExposureError("A percentage is 0 to 100.", "percentage")
    _check_rules(exposure.overrides, "overrides")
    _check_rules(exposure.grants, "grants")
    _check_rules(exposure.cohorts, "cohorts")
    for field, lines in (("overrides", exposure.overrides), ("grants", exposure.grants)):
        for line in lines:
            if line.variant not in variants:
                raise ExposureError(f"There is no variant {line.variant}.", field)
        seen = [(pair[0], pair[1]) for pair in _pairs(lines)]
        twice = next((pair for pair in seen if seen.count(pair) > 1), None)
        if twice:
            raise ExposureError(f"{twice[0]} {twice[1]} has two {field}.", field)
    if any(line.variant == control for line in exposure.grants):
        raise ExposureError(f"A grant gives a treatment; an override to {control} takes one away.", "grants")
    names = [cohort.name for cohort in exposure.cohorts]
    if len(set(names)) != len(names):
        raise ExposureError("Two cohorts have the same name.", "cohorts")
    for region in exposure.regions:
        if not _NAME.fullmatch(region):
            raise ExposureError(f"{region} is not the name of a region.", "regions")
    _check_ranges(exposure.ranges, variants, control)


def _check_rules(rules: Sequence[Override] | Sequence[Cohort], field: str) -> None:
    if len(rules) > MAX_RULES:
        raise ExposureError(f"At most {MAX_RULES} lines.", field)
    for rule in rules:
        if not _ATTRIBUTE.fullmatch(rule.attribute):
            raise ExposureError(f"{rule.attribute or 'An empty name'} is not the name of an attribute.", field)
        if not rule.values or not all(0 < len(value) <= MAX_CHARACTERS and value.isprintable() for value in rule.values):
            raise ExposureError(f"{rule.attribute} needs one or more values of up to {MAX_CHARACTERS} characters.", field)
        if len(rule.values) > MAX_VALUES:
            raise ExposureError(f"At most {MAX_VALUES} values in one line.", field)


def _check_ranges(ranges: Sequence[Range], variants: Mapping[str, Any], control: str) -> None:
    place = 0
    for each in ranges:
        if each.variant not in variants:
            raise ExposureError(f"There is no variant {each.variant}.", "weights")
        if each.variant == control:
            raise ExposureError(f"{control} is the control: whoever is not exposed gets it. Lower the percentage instead.", "weights")
        if each.start != place or each.end <= each.start:
            raise ExposureError("The shares of the variants don't fit together.", "weights")
        place = each.end
    if place != BUCKETS:
        raise ExposureError("The shares of the variants add up to 100%.", "weights")


# Rules as lines of text, as people write them


def override_lines(overrides: Sequence[Override]) -> list[str]:
    return [f"{one.attribute} = {', '.join(one.values)} -> {one.variant}" for one in overrides]


def cohort_lines(cohorts: Sequence[Cohort]) -> list[str]:
    return [f"{one.name}: {one.attribute} = {', '.join(one.values)}" for one in cohorts]


def parse_overrides(text: str) -> tuple[Override, ...]:
    """`attribute = value, value -> variant`, one per line. Raises ExposureError."""
    found = []
    for line in _lines(text):
        condition, arrow, variant = line.rpartition("->")
        attribute, equals, values = condition.partition("=")
        if not arrow or not equals:
            raise ExposureError(f"“{line}” is not an override. Write: user = ana@example.com, ben@example.com -> on", "overrides")
        found.append(Override(attribute=attribute.strip(), values=_values(values), variant=variant.strip()))
    return tuple(found)


def parse_cohorts(text: str) -> tuple[Cohort, ...]:
    """`name: attribute = value, value`, one per line. Raises ExposureError."""
    found = []
    for line in _lines(text):
        name, colon, condition = line.partition(":")
        attribute, equals, values = condition.partition("=")
        if not colon or not equals or not _NAME.fullmatch(name.strip()):
            raise ExposureError(f"“{line}” is not a cohort. Write: pilot: project = search, support", "cohorts")
        found.append(Cohort(name=name.strip(), attribute=attribute.strip(), values=_values(values)))
    return tuple(found)


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


def _values(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(value.strip() for value in text.split(",") if value.strip()))


def sentence(exposure: Exposure) -> str:
    """Who is exposed, in a few words: `25% in eu, of 2 cohorts, 1 override`."""
    if not exposure.on:
        return "Nobody"
    parts = ["Everybody" if exposure.percentage == BUCKETS else percent_text(exposure.percentage)]
    if exposure.regions:
        parts.append(f"in {', '.join(exposure.regions)}")
    text = " ".join(parts)
    if exposure.cohorts:
        text += f" of {_counted(len(exposure.cohorts), 'cohort')}"
    for lines, noun in ((exposure.overrides, "override"), (exposure.grants, "grant")):
        text += f", {_counted(len(lines), noun)}" if lines else ""
    return text


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def parse_weights(text: str) -> dict[str, int]:
    """`variant = percent`, one per line, in buckets. Raises ExposureError."""
    weights: dict[str, int] = {}
    for line in _lines(text):
        name, equals, percent = line.partition("=")
        if not equals or name.strip() in weights:
            raise ExposureError(f"“{line}” is not a share. Write: on = 60", "weights")
        weights[name.strip()] = share_of(percent.strip().removesuffix("%").strip(), "weights")
    return weights


def share_of(percent: str | Decimal, field: str) -> int:
    """Buckets of a percentage with up to three decimals. Raises ExposureError."""
    try:
        share = Decimal(percent) * 1000
    except InvalidOperation as error:
        raise ExposureError(f"“{percent}” is not a percentage.", field) from error
    if not share.is_finite() or not 0 <= share <= BUCKETS or share != share.to_integral_value():
        raise ExposureError("A percentage is 0 to 100, with up to three decimals.", field)
    return int(share)


def parse_variants(text: str) -> dict[str, Any]:
    """`name = value` with the value in JSON, one per line. Raises ExposureError."""
    variants: dict[str, Any] = {}
    for line in _lines(text):
        name, equals, value = line.partition("=")
        try:
            variants[name.strip()] = json.loads(value)
        except ValueError as error:
            raise ExposureError(f'“{line}” is not a variant. Write the value in JSON, for example: new = "gpt-next"', "variants") from error
        if not equals:
            raise ExposureError(f"“{line}” is not a variant. Write: on = true", "variants")
    return variants


def parse_context(text: str) -> dict[str, str]:
    """An evaluation context from `attribute = value`, one per line; a line without a value is an attribute that is missing."""
    context: dict[str, str] = {}
    for line in _lines(text)[:MAX_RULES]:
        name, _, value = line.partition("=")
        if value.strip():
            context[name.strip()] = value.strip()[:MAX_CHARACTERS]
    return context
