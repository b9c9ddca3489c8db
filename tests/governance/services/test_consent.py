"""Consent: a decision, its history, and the gateway that hears of it."""

from governance import config, selectors
from governance.models import AuditEntry, Consent, ConsentChange, FeatureClass, Tenant, User
from governance.services import consent


def state(feature_class: str) -> selectors.ConsentState:
    return next(state for state in selectors.consent_states() if state.feature_class == feature_class)


def test_defaults_hold_until_somebody_decides(acme: Tenant) -> None:
    assert state(FeatureClass.ASSISTANTS).granted
    assert not state(FeatureClass.TRAINING).granted
    assert state(FeatureClass.TRAINING).is_default


def test_withdrawal_is_kept_with_actor_reason_and_history(acme: Tenant, sam: User) -> None:
    version = Tenant.objects.get(pk=acme.pk).config_version

    consent.set_consent(feature_class=FeatureClass.ASSISTANTS, state=Consent.State.WITHDRAWN, actor=sam, reason="Audit in progress")
    consent.set_consent(feature_class=FeatureClass.ASSISTANTS, state=Consent.State.WITHDRAWN, actor=sam, reason="Audit in progress")
    consent.set_consent(feature_class=FeatureClass.ASSISTANTS, state=Consent.State.GRANTED, actor=sam)

    assert [change.state for change in ConsentChange.objects.all()] == ["granted", "withdrawn"]
    assert [entry.event for entry in AuditEntry.objects.filter(event__startswith="consent.")] == ["consent.granted", "consent.withdrawn"]
    assert Tenant.objects.get(pk=acme.pk).config_version == version + 2
    assert state(FeatureClass.ASSISTANTS).actor_name == "Sam"


def test_change_is_published_after_the_commit_and_otherwise_by_the_sweep(acme: Tenant, sam: User) -> None:
    consent.set_consent(feature_class=FeatureClass.SEARCH, state=Consent.State.WITHDRAWN, actor=sam)
    assert acme.schema_name in config.behind()

    config.publish(acme.schema_name)

    assert acme.schema_name not in config.behind()
