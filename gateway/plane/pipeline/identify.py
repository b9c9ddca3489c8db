from __future__ import annotations

import time
from hmac import compare_digest

from gateway.contract.keys import SESSION_PREFIX, MalformedKeyError
from gateway.contract.names import AGENT_HEADER, OWN_TAGS, TAGS_HEADER
from gateway.contract.snapshot import Key, SnapshotError
from gateway.contract.tags import MOST_CHARACTERS, MOST_SENT
from gateway.plane.call import Call
from gateway.plane.errors import DatabaseAwayError, Refusal
from gateway.plane.http import Headers
from gateway.plane.served import Served

_AGENT = AGENT_HEADER.encode()
_TAGS = TAGS_HEADER.encode()
_SESSION = f"{SESSION_PREFIX}_"


async def identify(call: Call) -> str:
    """Find the tenant and the key by the credential in the headers. Both stay unset on the call when this refuses."""
    credential = _credential(call.headers)
    is_session = credential.startswith(_SESSION)
    try:
        proof = call.plane.proofs.session(credential) if is_session else call.plane.proofs.key(credential)
    except MalformedKeyError as error:
        raise Refusal("malformed_key", f"The API key is not valid: {error}.") from error
    served = await served_of(call, proof.tenant)
    try:
        key = served.snapshot.keys.get(proof.key_id)
    except SnapshotError as error:  # keys are read when they are first asked for
        raise unreadable_keys() from error
    if key is None:
        raise unknown_key()
    is_previous = proof.digest is not None and not compare_digest(proof.digest, key.digest)
    if is_previous and not (key.previous_digest and compare_digest(proof.digest or "", key.previous_digest)):
        raise unknown_key()
    call.served, call.key = served, key
    call.is_limit_ours = is_session
    call.project = served.snapshot.projects.get(key.project)
    call.agent = _agent(call.headers)
    call.tags = _tags(call.headers)
    if proof.expires_at is not None and proof.expires_at <= time.time():
        raise Refusal("key_expired", "This page's access has expired. Reload the page.")
    check_holder(served, key)
    if is_previous and key.previous_until <= time.time():
        raise Refusal("key_rotated", f"The key {key.id} ({key.name}) has a new secret; this one has ended.", scope="key")
    if call.plane.spool.is_full:
        raise Refusal("store_unavailable", "The gateway cannot record calls at the moment, so it serves none.", retry_after_s=5)
    return "session" if is_session else "previous secret" if is_previous else ""


async def served_of(call: Call, tenant: str) -> Served:
    """The tenant's snapshot; an unknown tenant is answered like an unknown key."""
    served = call.plane.snapshots.current(tenant)
    if served is None:
        try:
            served = await call.plane.snapshots.get(tenant)
        except DatabaseAwayError as error:
            raise Refusal("store_unavailable", "The gateway's configuration store is away. Try again soon.", retry_after_s=2) from error
        if served is None:
            raise unknown_key()
    return served


def check_holder(served: Served, key: Key) -> None:
    """Refusal when the tenant, the key or its project may not call at all now."""
    if not served.snapshot.enabled:
        raise Refusal("tenant_suspended", f"The organisation {served.snapshot.slug} is suspended.", scope="tenant")
    if key.disabled:
        raise Refusal("key_revoked", f"The key {key.id} ({key.name}) has been revoked.", scope="key")
    if key.expires_at is not None and key.expires_at <= time.time():
        raise Refusal("key_expired", f"The key {key.id} ({key.name}) has expired.", scope="key")
    project = served.snapshot.projects.get(key.project)
    if project is None or not project.enabled:
        raise Refusal("project_disabled", f"The project {key.project} is disabled.", scope="project")


def unreadable_keys() -> Refusal:
    return Refusal("store_unavailable", "The gateway's configuration of this organisation cannot be read.", retry_after_s=2)


def unknown_key() -> Refusal:
    return Refusal("unknown_key", "This API key is not known. It may have been deleted.")


def _credential(headers: Headers) -> str:
    given = headers.get(b"authorization")
    if given is not None:
        scheme, _, credential = given.partition(b" ")
        if scheme.lower() != b"bearer":
            raise Refusal("malformed_key", "The Authorization header must be `Bearer <key>`.")
    else:
        credential = headers.get(b"api-key") or headers.get(b"x-api-key") or b""
    if not credential:
        raise Refusal("malformed_key", "No API key was sent. Send it as `Authorization: Bearer <key>`.")
    return credential.strip().decode("latin-1")


def _agent(headers: Headers) -> str | None:
    given = headers.get(_AGENT)
    if not given:
        return None
    agent = given.decode("utf-8", "replace").strip()
    if len(agent) > MOST_CHARACTERS or not agent.isprintable():
        raise Refusal("invalid_request", f"The header {AGENT_HEADER} must be up to {MOST_CHARACTERS} printable characters.")
    return agent or None


def _tags(headers: Headers) -> dict[str, str]:
    """The caller's tags, without names that only the gateway sets."""
    given = headers.get(_TAGS)
    if not given:
        return {}
    tags = {}
    for pair in given.decode("utf-8", "replace").split(","):
        name, equals, value = pair.strip().partition("=")
        if not equals or not name or len(pair) > MOST_CHARACTERS or not pair.isprintable():
            raise Refusal("invalid_request", f"The header {TAGS_HEADER} must hold `name=value` pairs, separated by commas.")
        tags[name.strip()] = value.strip()
    if len(tags) > MOST_SENT:
        raise Refusal("invalid_request", f"The header {TAGS_HEADER} may hold up to {MOST_SENT} pairs.")
    return {name: value for name, value in tags.items() if name not in OWN_TAGS}
