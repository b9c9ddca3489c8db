"""Telling people outside the product: channels, notices and their deliveries.

A notice and its deliveries are written in the transaction of what they tell (an outbox), so nothing is told that did not happen
and nothing that happened is left untold. A worker sends them afterwards, again and again with growing pauses, and then gives up.
"""

from __future__ import annotations

import base64
import random
import secrets
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from gateway.contract.outbound import OutboundError, check_url
from gateway.contract.sealing import Sealer
from governance import senders, tasks
from governance import topics as known
from governance.errors import BadTargetError, ChannelNameTakenError, UnknownTopicError
from governance.http import allow_list
from governance.models import AlertChannel, Delivery, Notice, Severity, Tenant, User
from governance.roles import Permission
from governance.schema import current_schema
from governance.services import audit

PAUSES_S = (5, 300, 1800, 7200, 18_000, 36_000, 36_000)
"""Between attempts, as Standard Webhooks recommends; after the last one a delivery is given up."""
JITTER = 0.1
LEASE = timedelta(seconds=120)
"""A delivery that a worker took and never finished is tried again after this: more than `senders.MOST_S`, and time to resolve names."""
SECRET_OVERLAP = timedelta(hours=24)


def notify(
    *,
    topic: str,
    severity: str,
    title: str,
    key: str,
    text: str = "",
    path: str = "",
    permission: Permission = Permission.VIEW_OPERATE,
    data: dict[str, Any] | None = None,
    at: datetime | None = None,
) -> Notice:
    """Tell the current tenant something, once per `key`: in the product and on every channel that wants it.

    Call it in the transaction of what is told. `path` is below the tenant's own path.
    """
    if not connection.in_atomic_block:
        raise RuntimeError("a notice must be written in the transaction of what it tells")
    at = at or timezone.now()
    facts = {"topic": topic, "severity": severity, "title": title[:160], "text": text, "path": path, "permission": permission}
    notice, made = Notice.objects.get_or_create(key=key, defaults=facts | {"data": data or {}, "at": at})
    if made:
        wanted = [channel for channel in AlertChannel.objects.all() if channel.wants(topic, severity)]
        Delivery.objects.bulk_create([Delivery(notice=notice, channel=channel, next_at=at, created_at=at) for channel in wanted])
        if wanted:
            schema_name = current_schema()
            transaction.on_commit(lambda: tasks.deliver_alerts.delay(schema_name=schema_name), robust=True)  # the sweep mends a lost one
    return notice


@transaction.atomic
def create_channel(
    *, name: str, kind: str, target: str, actor: User, topics: list[str] | None = None, least_severity: str = Severity.INFO
) -> tuple[AlertChannel, str]:
    """Add a channel. Returns it and, for a webhook, its signing secret, which is shown this once.

    Raises BadTargetError (no address, or a URL that may not be called), UnknownTopicError or ChannelNameTakenError.
    """
    _check_topics(topics or [])
    secret = _new_secret() if kind == AlertChannel.Kind.WEBHOOK else ""
    channel = AlertChannel(name=name, kind=kind, topics=topics or [], least_severity=least_severity, sealed_secret=_sealer().seal(secret))
    _set_target(channel, target)
    _save(channel)
    audit.record("alert_channel.created", actor=actor, target=channel, kind=kind, to=channel.shown_target, topics=channel.topics)
    return channel, secret


@transaction.atomic
def change_channel(
    *, channel: AlertChannel, actor: User, name: str, topics: list[str], least_severity: str, is_enabled: bool, target: str = ""
) -> AlertChannel:
    """Change a channel; an empty target keeps the present one, and so may topics of its own that nothing is told under any more.

    Raises BadTargetError, UnknownTopicError or ChannelNameTakenError.
    """
    channel = AlertChannel.objects.select_for_update().get(pk=channel.pk)
    _check_topics([one for one in topics if one not in channel.topics])
    channel.name, channel.topics, channel.least_severity, channel.is_enabled = name, topics, least_severity, is_enabled
    if target:
        _set_target(channel, target)
        channel.tried_at = channel.tried_ok = None
        channel.tried_detail = ""
    _save(channel)
    audit.record(
        "alert_channel.changed",
        actor=actor,
        target=channel,
        to=channel.shown_target,
        topics=topics,
        least=least_severity,
        enabled=is_enabled,
    )
    return channel


@transaction.atomic
def delete_channel(*, channel: AlertChannel, actor: User) -> None:
    """Remove a channel with its deliveries; the notices stay."""
    audit.record("alert_channel.deleted", actor=actor, target=channel, to=channel.shown_target)
    channel.delete()


@transaction.atomic
def rotate_secret(*, channel: AlertChannel, actor: User, at: datetime | None = None) -> str:
    """A new signing secret, shown this once. For a day webhooks carry a signature by the old one as well."""
    at = at or timezone.now()
    channel = AlertChannel.objects.select_for_update().get(pk=channel.pk)
    secret = _new_secret()
    channel.sealed_previous_secret, channel.previous_until = channel.sealed_secret, at + SECRET_OVERLAP
    channel.sealed_secret = _sealer().seal(secret)
    channel.save(update_fields=["sealed_previous_secret", "previous_until", "sealed_secret"])
    audit.record("alert_channel.secret_rotated", actor=actor, target=channel, previous_until=channel.previous_until)
    return secret


def try_channel(*, channel: AlertChannel, actor: User, at: datetime | None = None) -> AlertChannel:
    """Send a test message now, really, and keep how it went. The call is made outside any transaction."""
    at = at or timezone.now()
    tenant = Tenant.objects.get(schema_name=current_schema())
    message = senders.Message(
        id=f"test_{secrets.token_hex(8)}", topic="test", severity=Severity.INFO, title=f"Test from {tenant.name}",
        text=f"{actor} tries this channel.", url=f"{settings.BASE_URL}{tenant.path}operate/alerts/", tenant=tenant.slug,
        key=f"test:{at.isoformat()}", at=at, data={},
    )  # fmt: skip
    outcome = _send(channel, message, at)
    with transaction.atomic():
        AlertChannel.objects.filter(pk=channel.pk).update(tried_at=at, tried_ok=outcome.ok, tried_detail=outcome.detail[:300])
        channel.refresh_from_db()
        audit.record("alert_channel.tried", actor=actor, target=channel, ok=outcome.ok, detail=outcome.detail)
    return channel


@transaction.atomic
def replay(*, delivery: Delivery, actor: User, at: datetime | None = None) -> Delivery:
    """Send once more, from the first pause on: what was given up, or what a receiver lost. Its id stays."""
    at = at or timezone.now()
    delivery = Delivery.objects.select_for_update().get(pk=delivery.pk)
    delivery.status, delivery.attempts, delivery.next_at, delivery.last_error = Delivery.Status.PENDING, 0, at, ""
    delivery.save(update_fields=["status", "attempts", "next_at", "last_error"])
    audit.record("alert.replayed", actor=actor, target=delivery, channel=delivery.channel.name)
    schema_name = current_schema()
    transaction.on_commit(lambda: tasks.deliver_alerts.delay(schema_name=schema_name), robust=True)
    return delivery


def deliver_due(*, at: datetime | None = None) -> int:
    """Send what is due in the current tenant; returns how many were tried. Safe to run in any number of workers.

    Each is taken when its turn comes, since its lease runs from then: behind slow receivers, a batch would be taken by others too.
    """
    tenant = Tenant.objects.get(schema_name=current_schema())
    tried = 0
    while (delivery := _take_due(now := at or timezone.now())) is not None:
        _note(delivery, _send(delivery.channel, _message(delivery, tenant), now), now)
        tried += 1
    return tried


@transaction.atomic
def _take_due(at: datetime) -> Delivery | None:
    due = Delivery.objects.select_for_update(skip_locked=True, of=("self",)).select_related("notice", "channel")
    delivery = due.filter(status=Delivery.Status.PENDING, next_at__lte=at).order_by("next_at").first()
    if delivery is not None:
        delivery.attempts += 1
        delivery.next_at = at + LEASE
        delivery.save(update_fields=["attempts", "next_at"])
    return delivery


def _note(delivery: Delivery, outcome: senders.Outcome, at: datetime) -> None:
    changes: dict[str, Any] = {"last_error": "" if outcome.ok else outcome.detail[:300]}
    if outcome.ok:
        changes |= {"status": Delivery.Status.SENT, "sent_at": at, "next_at": None}
    elif outcome.is_final or delivery.attempts > len(PAUSES_S):
        changes |= {"status": Delivery.Status.DEAD, "next_at": None}
    else:
        pause = PAUSES_S[delivery.attempts - 1] * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311  # spreads load, hides nothing
        changes |= {"next_at": at + timedelta(seconds=pause)}
    # A replay or another worker after our lease may have taken it over meanwhile: theirs holds.
    Delivery.objects.filter(pk=delivery.pk, attempts=delivery.attempts).update(**changes)


def _message(delivery: Delivery, tenant: Tenant) -> senders.Message:
    notice = delivery.notice
    return senders.Message(
        id=f"msg_{delivery.pk.hex}", topic=notice.topic, severity=notice.severity, title=notice.title, text=notice.text,
        url=f"{settings.BASE_URL}{tenant.path}{notice.path}", tenant=tenant.slug, key=notice.key, at=notice.at, data=notice.data,
    )  # fmt: skip


def _send(channel: AlertChannel, message: senders.Message, at: datetime) -> senders.Outcome:
    sealer = _sealer()
    keys = [sealer.open(channel.sealed_secret)]
    if channel.previous_until is not None and channel.previous_until > at:
        keys.append(sealer.open(channel.sealed_previous_secret))
    return senders.send(
        kind=channel.kind, target=sealer.open(channel.sealed_target), secrets=[key for key in keys if key], message=message, now=at
    )


def _set_target(channel: AlertChannel, target: str) -> None:
    target = target.strip()
    if channel.kind == AlertChannel.Kind.EMAIL:
        addresses = [address.strip() for address in target.split(",") if address.strip()]
        try:
            for address in addresses:
                validate_email(address)
        except ValidationError:
            addresses = []
        if not addresses:
            raise BadTargetError("Enter e-mail addresses, separated by commas.", field="target")
        target = channel.shown_target = ", ".join(addresses)[:200]
    elif channel.kind == AlertChannel.Kind.PAGERDUTY:
        if not (target.isalnum() and len(target) == 32):
            raise BadTargetError("Enter the integration key of a PagerDuty service: 32 letters and digits.", field="target")
        channel.shown_target = f"…{target[-4:]}"
    elif channel.kind == AlertChannel.Kind.APPRISE:
        channel.shown_target = _check_service(target)[:200]
    else:
        try:
            check_url(target, allow_list())
        except OutboundError as error:
            raise BadTargetError(str(error), field="target") from error
        channel.shown_target = (urlsplit(target).hostname or "")[:200]
    channel.sealed_target = _sealer().seal(target)


def _check_topics(wanted: list[str]) -> None:
    """A misspelt one would never be told, and nobody would know."""
    for one in wanted:
        if not known.is_known(one):
            raise UnknownTopicError(f"Nothing is told under {one}; known are {', '.join(known.nearest(one))}.", field="topics")


def _check_service(url: str) -> str:
    from governance import by_apprise  # only who has such a channel pays for loading it

    try:
        return by_apprise.check(url)
    except (by_apprise.ServiceUrlError, OutboundError) as error:
        raise BadTargetError(str(error), field="target") from error


def _save(channel: AlertChannel) -> None:
    try:
        with transaction.atomic():
            channel.save()
    except IntegrityError as error:
        raise ChannelNameTakenError(f"There is a channel {channel.name} already.", field="name") from error


def _new_secret() -> str:
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()


def _sealer() -> Sealer:
    return Sealer(settings.SEALING_KEYS)
