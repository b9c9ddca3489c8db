"""Giving a tenant its data, and forgetting it."""

from __future__ import annotations

import io
import json
import zipfile

import pytest
from django.apps import apps
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.db import connection
from django.db.models import Model as DjangoModel
from django_tenants.utils import schema_context, schema_exists

from catalog.services import keys, projects, providers
from gateway.contract import snapshot as contract
from gateway.publish.models import Snapshot
from governance.errors import TenantOpenError, TenantSlugTakenError
from governance.models import ApiToken, AuditEntry, Effect, Membership, Tenant, User
from governance.services import consent, drills, effects, tenant_data, tenants, tokens

HASHES_THAT_ARE_NO_CREDENTIALS = {
    "revision_signature.digest",
    "catalog_modelreview.digest",
    "catalog_promptversion.digest",
    "catalog_tool.digest",
    "rollouts_evaluation.digest",
    "rollouts_signoff.digest",
}


@pytest.fixture
def initech(db: None, olga: User, bob: User) -> Tenant:
    """A tenant with a provider, a project, a key, a file, a decision, drills, and two people; bob is also at acme, peter is nowhere else."""
    tenant = tenants.create_tenant(
        slug="initech", name="Initech", owner_email="peter@initech.example", owner_password="Long-enough-phrase-1", actor=olga
    )
    peter = User.objects.get(email="peter@initech.example")
    Membership.objects.create(tenant=tenant, user=bob, roles=["developer"])
    tokens.create_token(user=peter, tenant=tenant, name="ci", actor=peter)
    with schema_context(tenant.schema_name):
        providers.create_provider(
            slug="local", name='Löcal "quoted" \\ one', base_url="http://127.0.0.1:9/v1", secret="sk-very-secret", actor=peter
        )
        project = projects.create_project(slug="checkout", name="Checkout", owner=peter, actor=peter)
        keys.create_key(name="first", project=project, owner=peter, actor=peter)
        consent.set_consent(feature_class="tools", state="granted", actor=peter)
        effects.run_drill(actor=None)
        drills.start(tenant=tenant, kind="project", reference="checkout", actor=peter)
        default_storage.save(f"{tenant.schema_name}/bills/one.csv", ContentFile(b"a,b\n1,2\n"))
    return tenant


def exported(tenant: Tenant, olga: User) -> zipfile.ZipFile:
    return zipfile.ZipFile(io.BytesIO(b"".join(tenant_data.export_tenant(tenant=tenant, actor=olga))))


def test_export_holds_every_table_and_file_and_no_credential(initech: Tenant, olga: User, bob: User) -> None:
    archive = exported(initech, olga)

    assert archive.testzip() is None
    manifest = json.loads(archive.read("manifest.json"))
    [provider] = [json.loads(line) for line in archive.read("tables/catalog_provider.jsonl").splitlines()]
    [key] = [json.loads(line) for line in archive.read("tables/catalog_virtualkey.jsonl").splitlines()]
    assert provider["name"] == 'Löcal "quoted" \\ one'
    assert "sealed_secret" not in provider
    assert "digest" not in key
    assert manifest["rows"]["catalog_provider"] == 1
    assert {"event", "usage_hour", "governance_auditentry", "rollouts_rollout"} <= set(manifest["rows"])
    assert archive.read(f"files/{initech.schema_name}/bills/one.csv") == b"a,b\n1,2\n"
    people = [json.loads(line) for line in archive.read("people.jsonl").splitlines()]
    assert {person["email"] for person in people} == {"peter@initech.example", bob.email}
    assert json.loads(archive.read("tenant.json"))["slug"] == "initech"
    assert AuditEntry.objects.filter(event="tenant.exported", actor=olga).exists()


def test_every_column_that_may_hold_a_credential_is_kept_back() -> None:
    def kept_back(model: type[DjangoModel], column: str) -> bool:
        return column in getattr(model, "never_exported", ()) or f"{model._meta.db_table}.{column}" in HASHES_THAT_ARE_NO_CREDENTIALS

    suspicious = [
        (model, field.name)
        for model in apps.get_models()
        for field in model._meta.local_concrete_fields
        if getattr(model, "placement", None) != "public" and any(word in field.name for word in ("sealed", "secret", "digest", "password"))
        if not field.name.endswith("_at")
    ]

    assert suspicious
    assert [pair for pair in suspicious if not kept_back(*pair)] == []


def test_only_a_suspended_tenant_is_deleted(initech: Tenant, olga: User) -> None:
    with pytest.raises(TenantOpenError):
        tenant_data.delete_tenant(tenant=initech, actor=olga, reason="contract ended", confirm="initech")

    assert schema_exists(initech.schema_name)


def test_deleting_forgets_everything_but_the_address(
    initech: Tenant, olga: User, bob: User, django_capture_on_commit_callbacks: object
) -> None:
    peter = User.objects.get(email="peter@initech.example")
    tenants.suspend_tenant(tenant=initech, actor=olga, reason="contract ended")
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO public.inbox_rejected (event_id, tenant, reason, received_at, kind, started_at, duration_us, request_id, status, http_status, "
            "stream, usage_source, snapshot_version, tags, steps) VALUES (gen_random_uuid(), %s, 'impossible_time', now(), 'chat', now(), 1, 'r', "
            "'ok', 200, false, 'none', 1, '{}', '[]')",
            [initech.public_id],
        )

    with django_capture_on_commit_callbacks(execute=True):  # type: ignore[operator]
        tenant_data.delete_tenant(tenant=initech, actor=olga, reason="contract ended", confirm="initech")

    assert not schema_exists(initech.schema_name)
    assert not Tenant.objects.filter(slug="initech").exists()
    assert not Membership.objects.filter(tenant=initech).exists()
    assert not ApiToken.objects.filter(tenant=initech).exists()
    assert not Effect.objects.filter(tenant=initech).exists()
    peter.refresh_from_db()
    assert (peter.email, peter.name, peter.is_active) == (f"deleted-{peter.pk}@invalid", "Deleted person", False)
    bob.refresh_from_db()
    assert bob.is_active
    assert not list(tenant_data._files(initech.schema_name))
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM public.inbox_rejected WHERE tenant = %s", [initech.public_id])
        assert cursor.fetchone() == (0,)
    left = contract.decode(bytes(Snapshot.objects.get(tenant=initech.public_id).body))
    assert (left.enabled, left.keys, left.projects, left.models) == (False, {}, {}, {})
    [entry] = AuditEntry.objects.filter(event="tenant.deleted")
    assert entry.details == {"reason": "contract ended", "public_id": initech.public_id}
    with pytest.raises(TenantSlugTakenError):
        tenants.create_tenant(slug="initech", name="Again", owner_email=bob.email, actor=olga)
