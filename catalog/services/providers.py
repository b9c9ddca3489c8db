"""Providers: where models are served, and whether they answer."""

from __future__ import annotations

from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone

from catalog import upstream
from catalog.errors import NameTakenError, OutboundRefusedError
from catalog.models import Deployment, Provider
from gateway.contract.outbound import OutboundError, check_url
from gateway.contract.sealing import Sealer
from governance import config
from governance.http import allow_list
from governance.models import User
from governance.services import audit


def _check_url(base_url: str) -> str:
    base_url = base_url.strip().rstrip("/")
    try:
        check_url(base_url, allow_list())
    except OutboundError as error:
        raise OutboundRefusedError(str(error), field="base_url") from error
    return base_url


def _seal(secret: str) -> str:
    return Sealer(settings.SEALING_KEYS).seal(secret.strip())


@transaction.atomic
def create_provider(
    *,
    slug: str,
    name: str,
    base_url: str,
    actor: User,
    kind: str = Provider.Kind.OPENAI_COMPATIBLE,
    dialect: str = "",
    secret: str = "",
    region: str = "",
) -> Provider:
    """Add an account at a provider. The secret is sealed; nothing ever shows it again. Without a dialect its kind decides.

    Raises NameTakenError (slug in use) or OutboundRefusedError (the URL may not be called).
    """
    if not dialect:
        dialect = Provider.Dialect.ANTHROPIC if kind == Provider.Kind.ANTHROPIC else Provider.Dialect.OPENAI
    provider = Provider(
        slug=slug, name=name, kind=kind, dialect=dialect, base_url=_check_url(base_url), region=region, sealed_secret=_seal(secret)
    )
    if secret:
        provider.secret_set_at = timezone.now()
    try:
        with transaction.atomic():
            provider.save(force_insert=True)
    except IntegrityError as error:
        raise NameTakenError(f"There is a provider {slug} already.", field="slug") from error
    audit.record(
        "provider.created",
        actor=actor,
        target=provider,
        base_url=provider.base_url,
        kind=kind,
        dialect=provider.dialect,
        has_secret=bool(secret),
    )
    config.changed()
    return provider


@transaction.atomic
def change_provider(
    *, provider: Provider, name: str, base_url: str, actor: User, region: str = "", secret: str | None = None, dialect: str = ""
) -> Provider:
    """Change an account. Another base URL voids the secret unless a new one comes with it: a credential must never
    travel to a host that it was not given for. `secret` None keeps the present one where that is safe; so does an empty `dialect`.
    Another base URL or dialect voids what the live checks found.

    Raises OutboundRefusedError.
    """
    provider = Provider.objects.select_for_update().get(pk=provider.pk)
    before = _described(provider)
    new_url = _check_url(base_url)
    moved = new_url != provider.base_url
    other = moved or (bool(dialect) and dialect != provider.dialect)
    provider.name, provider.base_url, provider.region = name, new_url, region
    provider.dialect = dialect or provider.dialect
    voided = moved and not secret and bool(provider.sealed_secret)
    if secret or moved:
        provider.sealed_secret = _seal(secret or "")
        provider.secret_set_at = timezone.now() if secret else None
    if other:
        provider.checked_at = provider.check_ok = provider.check_ms = None
        provider.check_detail = ""
        Deployment.objects.filter(provider=provider).update(checked_at=None, check_ok=None, check_trace=None)
    provider.save()
    audit.record(
        "provider.changed",
        actor=actor,
        target=provider,
        before=before,
        after=_described(provider),
        secret="voided" if voided else "replaced" if secret else "kept",
    )
    config.changed()
    return provider


def _described(provider: Provider) -> dict[str, str]:
    return {"name": provider.name, "base_url": provider.base_url, "dialect": provider.dialect, "region": provider.region}


@transaction.atomic
def set_secret(*, provider: Provider, secret: str, actor: User) -> Provider:
    """Replace the credential (empty removes it). The old one is gone."""
    provider = Provider.objects.select_for_update().get(pk=provider.pk)
    provider.sealed_secret = _seal(secret)
    provider.secret_set_at = timezone.now() if secret.strip() else None
    provider.save(update_fields=["sealed_secret", "secret_set_at"])
    audit.record("provider.secret_set", actor=actor, target=provider, removed=not secret.strip())
    config.changed()
    return provider


def check_provider(*, provider: Provider, actor: User) -> tuple[Provider, upstream.Trace, list[str]]:
    """Ask the provider for its models, really, and keep the outcome. Returns the provider, the trace and the model names.

    The call is made outside any transaction; a base URL that changed meanwhile keeps its own, newer state.
    """
    trace, names = upstream.list_models(provider.base_url, provider.open_secret(), provider.dialect)
    with transaction.atomic():
        present = Provider.objects.select_for_update().get(pk=provider.pk)
        if (present.base_url, present.dialect, present.sealed_secret) == (provider.base_url, provider.dialect, provider.sealed_secret):
            present.checked_at, present.check_ok = timezone.now(), trace.ok
            present.check_ms = round(trace.total_ms) if trace.total_ms is not None else None
            present.check_detail = trace.summary[:300]
            present.save(update_fields=["checked_at", "check_ok", "check_ms", "check_detail"])
        audit.record("provider.checked", actor=actor, target=present, ok=trace.ok, detail=trace.summary)
    return present, trace, names
