"""Providers: where models are served, and whether they answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import Exists, OuterRef
from django.utils import timezone

from catalog import platforms, upstream
from catalog.errors import InvalidValueError, NameTakenError, OutboundRefusedError
from catalog.models import Deployment, Model, Provider
from catalog.services import reviews
from gateway.contract import credentials as kinds
from gateway.contract.credentials import CredentialError, EntraId, ServiceAccount
from gateway.contract.outbound import OutboundError, check_url
from gateway.contract.sealing import Sealer
from governance import config
from governance.http import allow_list
from governance.models import User
from governance.services import audit


@dataclass(frozen=True, repr=False)
class _Proof:
    """A credential that was given, as it is kept."""

    kind: str
    text: str = ""
    """To be sealed; empty for none."""
    label: str = ""
    project: str = ""
    """Of a service account."""

    def put_on(self, provider: Provider) -> None:
        provider.credential, provider.credential_label = self.kind, self.label[:200]
        provider.sealed_secret = Sealer(settings.SEALING_KEYS).seal(self.text)
        provider.secret_set_at = timezone.now() if self.text else None


def _proof(kind: str, chosen: str, secret: str, credentials: Mapping[str, str] | None, dialect: str) -> _Proof:
    """What was given, checked. Raises InvalidValueError, or OutboundRefusedError for a token service that may not be called."""
    offer = platforms.OFFERS[kind]
    chosen = chosen or offer.credentials[0]
    if chosen not in offer.credentials:
        raise InvalidValueError(f"{Provider.Kind(kind).label} takes no {Provider.Credential(chosen).label}.", field="credential")
    given = dict(credentials or {})
    if chosen == Provider.Credential.KEY:
        given = {"secret": secret, **given}
    elif secret:
        raise InvalidValueError(f"A {Provider.Credential(chosen).label} is more than one secret.", field="secret")
    if not any(value.strip() for value in given.values()):
        return _Proof(chosen)
    if chosen == Provider.Credential.ENTRA_ID and dialect == Provider.Dialect.ANTHROPIC:
        given.setdefault("scope", kinds.FOUNDRY_SCOPE)
    try:
        credential = kinds.make(chosen, given)
        if isinstance(credential, EntraId | ServiceAccount):
            check_url(credential.token_endpoint, allow_list())
    except CredentialError as error:
        raise InvalidValueError(str(error), field=error.field) from error
    except OutboundError as error:
        raise OutboundRefusedError(
            f"The token service: {error}", field="token_url" if chosen == Provider.Credential.ENTRA_ID else "service_account"
        ) from error
    project = credential.project_id if isinstance(credential, ServiceAccount) else ""
    return _Proof(chosen, kinds.dump(credential), credential.label, project)


def _checked(base_url: str) -> str:
    try:
        check_url(base_url, allow_list())
    except OutboundError as error:
        raise OutboundRefusedError(str(error), field="base_url") from error
    return base_url


def _spoken(kind: str, dialect: str) -> str:
    """The protocol, by default the usual one of the kind. Whoever chose one has reasons: also a company's own may be imitated."""
    return dialect or platforms.OFFERS[kind].dialects[0]


@transaction.atomic
def create_provider(
    *,
    slug: str,
    name: str,
    actor: User,
    base_url: str = "",
    kind: str = Provider.Kind.OPENAI_COMPATIBLE,
    dialect: str = "",
    region: str = "",
    project: str = "",
    api_version: str = "",
    credential: str = "",
    secret: str = "",
    credentials: Mapping[str, str] | None = None,
) -> Provider:
    """Add an account at a provider. Its credential is sealed; nothing ever shows it again. Without a dialect its kind decides.

    `credential` is the kind of credential (its provider's usual one when empty): of a key `secret` is the key, of every other kind
    `credentials` holds the fields. The base URL may be left out where region and project say it.
    Raises NameTakenError (slug in use), InvalidValueError (with its field) or OutboundRefusedError (a URL may not be called).
    """
    dialect, region, api_version = _spoken(kind, dialect), region.strip(), api_version.strip()
    proof = _proof(kind, credential, secret, credentials, dialect)
    url = platforms.completed_url(
        kind, base_url, dialect=dialect, region=region, project=project.strip() or proof.project, api_version=api_version
    )
    provider = Provider(slug=slug, name=name, kind=kind, dialect=dialect, base_url=_checked(url), region=region, api_version=api_version)
    proof.put_on(provider)
    try:
        with transaction.atomic():
            provider.save(force_insert=True)
    except IntegrityError as error:
        raise NameTakenError(f"There is a provider {slug} already.", field="slug") from error
    audit.record(
        "provider.created",
        actor=actor,
        target=provider,
        base_url=url,
        kind=kind,
        dialect=dialect,
        credential=proof.kind,
        credential_label=proof.label,
        has_secret=bool(proof.text),
    )
    config.changed()
    return provider


@transaction.atomic
def change_provider(
    *,
    provider: Provider,
    name: str,
    base_url: str,
    actor: User,
    region: str = "",
    secret: str | None = None,
    dialect: str = "",
    api_version: str | None = None,
    credential: str = "",
    credentials: Mapping[str, str] | None = None,
) -> Provider:
    """Change an account. Another base URL voids the credential unless a new one comes with it: a credential must never
    travel to a host that it was not given for. Without `secret` and `credentials` the present one is kept where that is safe; an empty
    `dialect` or `credential` and an `api_version` of None keep theirs.
    Another address, dialect or kind of credential voids what the live checks found.

    Raises InvalidValueError or OutboundRefusedError.
    """
    models = Model.objects.filter(Exists(Deployment.objects.filter(model=OuterRef("pk"), provider=provider)))
    reviews.locked(models)  # before the provider: adding a deployment locks the one, then the other
    provider = Provider.objects.select_for_update().get(pk=provider.pk)
    before, called_before = _described(provider), (provider.endpoint(), provider.credential)
    chosen = credential or provider.credential
    provider.dialect = dialect or provider.dialect
    proof = _proof(provider.kind, chosen, secret or "", credentials, provider.dialect)
    provider.api_version = provider.api_version if api_version is None else api_version.strip()
    url = platforms.completed_url(
        provider.kind, base_url, dialect=provider.dialect, region=region.strip(), project=proof.project, api_version=provider.api_version
    )
    moved = _checked(url) != provider.base_url or chosen != provider.credential
    voided = moved and not proof.text and bool(provider.sealed_secret)
    if proof.text or moved:
        proof.put_on(provider)
    provider.name, provider.base_url, provider.region = name, url, region.strip()
    if (provider.endpoint(), provider.credential) != called_before:
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
        secret="voided" if voided else "replaced" if proof.text else "kept",
    )
    reviews.look_again(models=reviews.locked(models), actor=actor)
    config.changed()
    return provider


def _described(provider: Provider) -> dict[str, str]:
    fields = ("name", "base_url", "dialect", "region", "api_version", "credential", "credential_label")
    return {field: getattr(provider, field) for field in fields}


@transaction.atomic
def set_secret(
    *, provider: Provider, actor: User, secret: str = "", credential: str = "", credentials: Mapping[str, str] | None = None
) -> Provider:
    """Replace the credential, by one of another kind too; nothing given removes it. The old one is gone.

    Raises InvalidValueError or OutboundRefusedError.
    """
    provider = Provider.objects.select_for_update().get(pk=provider.pk)
    proof = _proof(provider.kind, credential or provider.credential, secret, credentials, provider.dialect)
    proof.put_on(provider)
    provider.save(update_fields=["credential", "credential_label", "sealed_secret", "secret_set_at"])
    audit.record(
        "provider.secret_set", actor=actor, target=provider, removed=not proof.text, credential=proof.kind, credential_label=proof.label
    )
    config.changed()
    return provider


def check_provider(*, provider: Provider, actor: User) -> tuple[Provider, upstream.Trace, list[str]]:
    """Ask the provider for its models, really, and keep the outcome. Returns the provider, the trace and the model names.

    The call is made outside any transaction; an address or credential that changed meanwhile keeps its own, newer state.
    """
    trace, names = upstream.list_models(provider.endpoint(), provider.open_credential)
    with transaction.atomic():
        present = Provider.objects.select_for_update().get(pk=provider.pk)
        if (present.endpoint(), present.sealed_secret) == (provider.endpoint(), provider.sealed_secret):
            present.checked_at, present.check_ok = timezone.now(), trace.ok
            present.check_ms = round(trace.total_ms) if trace.total_ms is not None else None
            present.check_detail = trace.summary[:300]
            present.save(update_fields=["checked_at", "check_ok", "check_ms", "check_detail"])
        audit.record("provider.checked", actor=actor, target=present, ok=trace.ok, detail=trace.summary)
    return present, trace, names
