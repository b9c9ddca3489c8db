"""What may be seen of spend, calls, prices and bills, and how it is counted. Pages about money read rollups only."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.db.models import Max, Q, QuerySet, Sum
from django.utils import timezone

from catalog.hooks import PromptUsage, Usage
from catalog.models import Project, VirtualKey
from catalog.selectors import current_tenant
from costs import archive_selectors, sketch
from costs.models import (
    AttributeDay,
    Event,
    Inbox,
    LatencyHour,
    PriceEntry,
    PromptDay,
    SupersededPrice,
    TokenClass,
    UsageDay,
    UsageHour,
    Valuation,
)
from costs.models.event import has_id
from costs.models.rollup import INPUT_TOKENS, known_cost
from costs.periods import Period, hour_of
from governance.access import Permission
from governance.models import Membership, Tenant, User

USAGE_DAYS = 30
GROUPS = {
    "project": "Project",
    "cost_centre": "Cost centre",
    "environment": "Environment",
    "agent": "Agent",
    "key": "Key",
    "model": "Model",
    "token_class": "Token class",
    "provider": "Provider",
    "deployment": "Deployment",
    "region": "Region",
}
FILTERS = {"project": "project", "model": "model", "agent": "agent", "key": "key_id", "provider": "provider", "cost_centre": "cost_centre"}
"""Those that are columns of an hour and of a call."""
UNKNOWN = {
    "project": "No project",
    "model": "No model",
    "agent": "Untagged",
    "key": "No key",
    "provider": "Not routed",
    "cost_centre": "No cost centre",
    "environment": "No project",
    "deployment": "Not routed",
    "region": "No region",
}
NONE = "(none)"
"""In a URL: the calls for which the dimension is not known."""
ANY = "(any)"
"""In a URL, as a tag: the calls that lack any of those that they must carry."""


# What the catalog shows


def usage_by_model(slugs: Iterable[str] | None = None) -> dict[str, Usage]:
    """The last 30 days by model slug (tools as `<namespace>__<tool>`), with percentiles of successful calls."""
    since = _usage_start()
    hours, latencies = (
        UsageHour.objects.filter(hour__gte=since).exclude(model=""),
        LatencyHour.objects.filter(hour__gte=since).exclude(model=""),
    )
    if slugs is not None:
        wanted = list(slugs)
        hours, latencies = hours.filter(model__in=wanted), latencies.filter(model__in=wanted)
    counts: dict[tuple[str, str], dict[int, int]] = defaultdict(dict)
    rows = latencies.filter(measure__in=["duration", "ttft"]).values_list("model", "measure", "bucket").annotate(total=Sum("count"))
    for model, measure, bucket, total in rows:
        counts[model, measure][bucket] = total
    return {
        model: Usage(
            **figures,
            p50_ms=sketch.quantile_ms(counts[model, "duration"], 0.5),
            p95_ms=sketch.quantile_ms(counts[model, "duration"], 0.95),
            ttft_ms=sketch.quantile_ms(counts[model, "ttft"], 0.5),
        )
        for model, figures in _usage(hours, "model").items()
    }


def usage_by_key(public_ids: Iterable[str]) -> dict[str, Usage]:
    """The last 30 days by key; percentiles are not kept by key."""
    hours = UsageHour.objects.filter(hour__gte=_usage_start(), key_id__in=list(public_ids))
    return {key: Usage(**figures) for key, figures in _usage(hours, "key_id").items()}


def usage_by_prompt_version(prompt: str) -> list[PromptUsage]:
    """The last 30 UTC days of one prompt, newest version first."""
    days = PromptDay.objects.filter(prompt=prompt, day__gte=timezone.now().astimezone(UTC).date() - timedelta(days=USAGE_DAYS - 1))
    totals = {name: Sum(name) for name in ("calls", "errors", "refused", "input_tokens", "output_tokens", "cost", "unpriced_calls")}
    rows: Any = days.values("version").order_by("-version").annotate(**{f"n_{name}": total for name, total in totals.items()})
    return [
        PromptUsage(
            version=row["version"],
            calls=row["n_calls"],
            errors=row["n_errors"],
            refused=row["n_refused"],
            input_tokens=row["n_input_tokens"],
            output_tokens=row["n_output_tokens"],
            cost_usd=known_cost(row["n_cost"], row["n_unpriced_calls"]),
            unpriced_calls=row["n_unpriced_calls"],
        )
        for row in rows
    ]


def _usage_start() -> datetime:
    return hour_of(timezone.now() - timedelta(days=USAGE_DAYS))


def _usage(hours: QuerySet[UsageHour], column: str) -> dict[str, dict[str, Any]]:
    rows = hours.values(column).annotate(
        n=Sum("calls"),
        errors=Sum("calls", filter=~Q(outcome__in=["ok", "refused"]), default=0),
        unpriced=Sum("unpriced_calls"),
        refused=Sum("calls", filter=Q(outcome="refused"), default=0),
        input=Sum(INPUT_TOKENS),
        output=Sum("output_tokens"),
        money=Sum("cost"),
        last=Max("last_event_at"),
    )
    return {
        row[column]: {
            "calls": row["n"],
            "errors": row["errors"],
            "refused": row["refused"],
            "input_tokens": row["input"],
            "output_tokens": row["output"],
            "last_used_at": row["last"],
            "unpriced_calls": row["unpriced"],
            "cost_usd": known_cost(row["money"], row["unpriced"]),
        }
        for row in rows
    }


# Spend


def only(rows: QuerySet[Any], chosen: Mapping[str, str]) -> QuerySet[Any]:
    """Narrow rows with the columns of FILTERS to what a query string names, and to the projects of an environment."""
    for name, column in FILTERS.items():
        if value := chosen.get(name, ""):
            rows = rows.filter(**{column: "" if value == NONE else value})
    if environment := chosen.get("environment", ""):
        slugs = Project.objects.all() if environment == NONE else Project.objects.filter(environment=environment)
        of_it = Q(project__in=list(slugs.values_list("slug", flat=True)))
        rows = rows.filter(~of_it if environment == NONE else of_it)
    return rows


def counted_days(period: Period) -> QuerySet[AttributeDay] | None:
    """The calls of whole days by all that an hour knows, a 24th of the rows; None while some of them are in the hours only.

    Regions have every call once, so their rows together are all calls.
    """
    days = UsageDay.objects.filter(dimension__in=["all", "region"], day__gte=period.first, day__lte=period.last).order_by()
    calls = dict(days.values_list("dimension").annotate(n=Sum("calls")))
    if calls.get("all", 0) != calls.get("region", 0):
        return None
    return AttributeDay.objects.filter(attribute="region", day__gte=period.first, day__lte=period.last).order_by()


def complete_through() -> datetime:
    """Everything that reached the inbox and began before this is in the figures."""
    oldest = Inbox.objects.filter(tenant=current_tenant().public_id).order_by("id").values_list("started_at", flat=True)[:1]
    return min([timezone.now(), *oldest])


LATE = timedelta(minutes=1)
"""Calls are counted within seconds: one that waits for longer says that nobody counts."""


def late_since(tenant: Tenant) -> datetime | None:
    """Since when a call waits to be counted, where that is longer than it should take; None when all is well."""
    waiting = Inbox.objects.filter(tenant=tenant.public_id).order_by("id").values_list("received_at", flat=True)
    oldest = waiting.first()
    return oldest if oldest is not None and oldest < timezone.now() - LATE else None


def own_keys(user: User) -> list[str]:
    """Ids of the keys that a person owns, revoked ones too."""
    return list(VirtualKey.objects.filter(owner=user).values_list("public_id", flat=True))


def has_calls(keys: list[str] | None = None) -> bool:
    """Whether any call was ever counted; with `keys` of these."""
    hours = UsageHour.objects.all() if keys is None else UsageHour.objects.filter(key_id__in=keys)
    return hours.exists()


# Calls


def sees_all_calls(membership: Membership) -> bool:
    return membership.can(Permission.VIEW_COSTS)


def events_visible_to(membership: Membership, *, own: bool = False) -> QuerySet[Event]:
    """All calls for who may see the organisation's costs; for everybody else (or with `own`) those of the person's keys."""
    if sees_all_calls(membership) and not own:
        return Event.objects.all()
    return Event.objects.filter(key_id__in=own_keys(membership.user))


def event_visible_to(membership: Membership, event_id: UUID) -> Event | None:
    """One call, archived or not. Raises ArchiveError when it is in a file that is damaged."""
    found = events_visible_to(membership).filter(has_id(event_id)).first()
    if found is not None:
        return found
    return archive_selectors.event(event_id, keys=None if sees_all_calls(membership) else own_keys(membership.user))


STATUSES = {"ok": "OK", "refused": "Refused", "upstream_error": "Upstream failed", "client_gone": "Caller left", "error": "Gateway failed"}


def earlier_values(event: Event) -> QuerySet[Valuation]:
    """What a call was valued at before its price was corrected, oldest first."""
    return Valuation.objects.filter(event_id=event.event_id, started_at=event.started_at).order_by("replaced_at", "pk")


def prices_of(event: Event) -> list[tuple[str, int | None, PriceEntry | SupersededPrice | None, Decimal | None]]:
    """Token class, tokens, price entry and money of each class that a call used."""
    ids = [entry_id for entry_id in event.price_ids if entry_id is not None]
    # A corrected price is superseded some time before the last call has its new value.
    entries: dict[int, PriceEntry | SupersededPrice] = {**SupersededPrice.objects.in_bulk(ids), **PriceEntry.objects.in_bulk(ids)}
    used_by = event.tokens_by_class
    rows: list[tuple[str, int | None, PriceEntry | SupersededPrice | None, Decimal | None]] = []
    for index, token_class in enumerate(TokenClass):
        used = used_by.get(token_class)
        if used is None or (used == 0 and token_class not in (TokenClass.INPUT, TokenClass.OUTPUT)):
            continue
        entry = entries.get(event.price_ids[index] or 0) if index < len(event.price_ids) else None
        rows.append((token_class.label, used, entry, entry.price * used * Decimal("0.000001") if entry else None))
    return rows


_NOTES = ("cache:", "route:")
_WORDS = {"pass": "Passed", "flagged": "Noted", "redacted": "Replaced"}


@dataclass(frozen=True)
class Step:
    """One step of the pipeline as it went."""

    name: str
    verdict: str
    micros: int
    detail: str
    share: float
    """Percent of the whole call."""

    @property
    def passed(self) -> bool:
        """Steps that only note what was found or chosen hold nobody up."""
        return self.verdict == "pass" or self.name.startswith(_NOTES)

    @property
    def label(self) -> str:
        if self.name == "failover":
            return "Went on"
        return _WORDS.get(self.verdict) or self.verdict.replace("_", " ").capitalize()

    @property
    def glyph(self) -> str:
        """As `verdict` draws it: what a guardrail found and let go on, and a failover, are no failures of the call."""
        if self.name == "failover" or self.verdict in ("flagged", "redacted"):
            return "inconclusive"
        return "pass" if self.passed else "fail"

    @property
    def ms(self) -> float:
        return self.micros / 1000

    @property
    def title(self) -> str:
        return "Reported by OpenTelemetry" if self.name == "otlp" else self.name.replace("_", " ").replace(":", ": ").capitalize()


def steps_of(event: Event) -> list[Step]:
    whole = max(event.duration_us, sum(step[2] for step in event.steps), 1)
    return [Step(step[0], step[1], step[2], step[3] if len(step) > 3 else "", 100 * step[2] / whole) for step in event.steps]


def key_of(event: Event) -> VirtualKey | None:
    """The key with its owner; None when it is not known (any more)."""
    return VirtualKey.objects.filter(public_id=event.key_id).select_related("owner").first() if event.key_id else None


def attribution_seconds(event: Event) -> float:
    """From the end of the call until it was in the figures."""
    return max(0.0, (event.attributed_at - event.started_at).total_seconds() - event.duration_us / 1e6)


_ADVICE = {
    "tag_required": "Send the tag in the header x-gatehouse-tags, or set it on the key: its page has a field for it.",
    "consent_withdrawn": "Your organisation switched this kind of AI feature off. An owner can allow it again under Consent.",
    "model_not_found": "No approved model has this name. Look it up in the catalog.",
    "model_not_allowed": "The key is limited to other models. Make a key for this one, or ask its owner.",
    "rate_limit_exceeded": "Wait as long as Retry-After says, or ask for a higher limit.",
    "budget_exceeded": "The budget is used up until it resets. Ask its owner to raise it.",
    "key_revoked": "Make a new key.",
    "key_expired": "Make a new key.",
    "project_disabled": "The project is switched off. Ask its owner.",
    "model_unpriced": "A money limit applies and the model has no price. Ask for a price in the price book.",
    "upstream_error": "The provider failed. Try again; if it goes on, look at the provider's health.",
    "upstream_timeout": "The provider did not answer in time. Try again, or ask for less output.",
    "process_lost": "The gateway's process was killed while the provider answered. What it answered is not known; call again.",
    "invalid_json": "The body is not valid JSON.",
    "request_too_large": "Send less in one call.",
    "guardrail_unavailable": "A guardrail could not look at the call, and lets nothing pass without. Try again; if it goes on, see that Presidio runs beside the gateway.",
    "store_unavailable": "A limit could not be checked. Try again in a moment.",
}


_BUDGET_ADVICE = {
    "budget_exceeded": "The budget {budget} is used up until it resets. Finance and admins can raise it for a while.",
    "budget_throttled": "The budget {budget} is nearly used up and lets fewer calls pass. Wait as long as Retry-After says; "
    "finance and admins can raise it for a while.",
}


def advice(event: Event) -> str:
    """What to do about a refusal or failure, by its stable code; empty when there is nothing to say."""
    budget = refusing_budget(event)
    if budget and event.error_code in _BUDGET_ADVICE:
        return _BUDGET_ADVICE[event.error_code].format(budget=budget)
    return _ADVICE.get(event.error_code, "")


def refusing_budget(event: Event) -> str:
    """The name of the budget that refused the call; empty when none did. A limit of a key or a project is none."""
    said = next((step.detail for step in steps_of(event) if step.name == "reserve"), "")
    return said.removeprefix("budget:") if event.status == "refused" and said.startswith("budget:") else ""
