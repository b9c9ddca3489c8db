"""Attesting what nothing measures."""

from __future__ import annotations

import hashlib
from datetime import datetime
from pathlib import PurePosixPath

from django.core.files.base import ContentFile, File
from django.db import transaction
from django.utils import timezone

from governance.models import Membership
from governance.schema import current_schema
from governance.services import audit
from rollouts import signing
from rollouts.errors import EvidenceMissingError, MeasuredError, RoleNotHeldError
from rollouts.models import Attestation, Criterion, Evaluation, ReleaseLogEntry
from rollouts.services import gates
from rollouts.services.locking import check_decidable, lock_gate
from rollouts.services.release_log import note

MAX_FILE_BYTES = 10 * 1024 * 1024


@transaction.atomic
def attest(
    *,
    criterion: Criterion,
    met: bool,
    note_text: str,
    person: Membership,
    summary: str = "",
    link: str = "",
    file: File[bytes] | None = None,
    at: datetime | None = None,
) -> Attestation:
    """State that a criterion is met, or that it is not, with the evidence; the gate is evaluated at once.

    The newest statement since the gate opened counts. Raises RoleNotHeldError, MeasuredError, GateNotOpenError,
    NotUnderWayError, EvidenceMissingError.
    """
    if not criterion.is_attested:
        raise MeasuredError(f"{criterion.title} is measured by {criterion.metric}; nobody attests it.")
    if criterion.role not in signing.held_by(person.roles):
        raise RoleNotHeldError(f"Attesting for {signing.label(criterion.role)} takes the role {signing.holders_text(criterion.role)}.")
    if not note_text.strip():
        raise EvidenceMissingError(f"Say what shows it: {criterion.evidence}", field="note")
    if file is not None and (file.size or 0) > MAX_FILE_BYTES:
        raise EvidenceMissingError(f"The file is larger than {MAX_FILE_BYTES // 1024 // 1024} MB. Link to it instead.", field="file")
    gate = lock_gate(criterion.gate)
    at = at or timezone.now()
    check_decidable(gate)
    attestation = Attestation(
        criterion=criterion, met=met, note=note_text.strip(), summary=summary.strip(), link=link, by=person.user, at=at
    )
    if file is not None:
        content = file.read()
        attestation.file_name = PurePosixPath(file.name or "evidence").name[:200]
        attestation.file_sha256 = hashlib.sha256(content).hexdigest()
        # Named by its content below the tenant's folder: what a person calls a file never becomes a path.
        attestation.file.save(f"{current_schema()}/attestations/{attestation.file_sha256}", ContentFile(content), save=False)
    attestation.save()
    note(
        rollout=gate.rollout,
        kind=ReleaseLogEntry.Kind.ATTESTATION,
        gate=gate,
        actor=person.user,
        at=at,
        glyph="pass" if met else "fail",
        text=f"{criterion.title} attested as {'met' if met else 'not met'} by {person.user}: {attestation.note}",
    )
    audit.record(
        "criterion.attested",
        actor=person.user,
        target=criterion,
        at=at,
        gate=str(gate),
        met=met,
        note=attestation.note,
        link=link,
        file_sha256=attestation.file_sha256,
    )
    gates.evaluate_gate(gate=gate, trigger=Evaluation.Trigger.ACT, at=at)
    return attestation
