"""What pages, API and publisher read about payload rules and about what is kept."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.db.models import Q, QuerySet
from django.utils import timezone

from gateway.contract.payloads import KEEPING, strictest
from gateway.contract.snapshot import PayloadRule
from governance.catalog_names import project_names
from governance.models import CallPayload, PayloadMode, PayloadRequest, PayloadSetting

DEFAULT = PayloadRule(mode="metadata", days=7)
STANDARD = "metadata"


@dataclass(frozen=True)
class ProjectRule:
    """What holds for one project."""

    ref: str
    name: str
    own: PayloadSetting | None
    effective: PayloadRule

    @property
    def mode(self) -> PayloadMode:
        return PayloadMode(self.effective.mode)


def settings_by_ref() -> dict[str, PayloadSetting]:
    return {setting.ref: setting for setting in PayloadSetting.objects.select_related("set_by")}


def rule_of(setting: PayloadSetting | None) -> PayloadRule:
    """As the gateway has it; the organisation's default without a row."""
    return PayloadRule(mode=setting.mode, days=setting.days) if setting else DEFAULT  # type: ignore[arg-type]  # a choice of the same words


def effective_rule(ref: str, settings: dict[str, PayloadSetting] | None = None) -> PayloadRule:
    """Of a project, or of the organisation (empty): the strictest of both."""
    settings = settings_by_ref() if settings is None else settings
    rules = [rule_of(settings.get(""))]
    if ref and ref in settings:
        rules.append(rule_of(settings[ref]))
    return strictest(*rules)


def project_rules() -> list[ProjectRule]:
    """Of every project, by name."""
    settings = settings_by_ref()
    names = sorted(project_names().items(), key=lambda pair: pair[1].lower())
    return [ProjectRule(ref, name, settings.get(ref), effective_rule(ref, settings)) for ref, name in names]


def published_rules(refs: Iterable[str]) -> dict[str, PayloadRule]:
    """Of those projects that are not on the default of keeping figures only."""
    settings = settings_by_ref()
    rules = {ref: effective_rule(ref, settings) for ref in refs} if settings else {}
    return {ref: rule for ref, rule in rules.items() if rule.mode != STANDARD}


def requests() -> QuerySet[PayloadRequest]:
    """Newest first."""
    return PayloadRequest.objects.select_related("asked_by", "decided_by")


def kept(*, project: str = "", at: datetime | None = None) -> QuerySet[CallPayload]:
    """Payloads that may still be read, without their texts: neither expired nor wider than what is allowed now."""
    return CallPayload.objects.filter(_allowed(at or timezone.now())).filter(**({"project": project} if project else {})).defer("sealed")


def kept_of(event_id: UUID, *, at: datetime | None = None) -> CallPayload | None:
    """Of one call; None when nothing is kept, or not any more."""
    return kept(at=at).filter(pk=event_id).first()


def not_allowed(at: datetime) -> QuerySet[CallPayload]:
    """What has expired, is wider than its rule by now, or is older than its rule keeps."""
    return CallPayload.objects.exclude(_allowed(at))


def _allowed(at: datetime) -> Q:
    settings = settings_by_ref()
    own = [ref for ref in settings if ref]
    condition = _within(effective_rule("", settings), at) & ~Q(project__in=own)
    for ref in own:
        condition |= Q(project=ref) & _within(effective_rule(ref, settings), at)
    return Q(expires_at__gt=at) & condition


def _within(rule: PayloadRule, at: datetime) -> Q:
    if rule.mode not in KEEPING:
        return Q(pk__in=[])
    modes = ["redacted"] if rule.mode == "redacted" else ["redacted", "full"]
    return Q(mode__in=modes, at__gt=at - timedelta(days=rule.days))
