"""Signing off a month's reconciliation: two people, the latest revision, exactly the figures that they saw."""

from __future__ import annotations

from datetime import date, datetime
from urllib.parse import quote

from django.db import transaction
from django.utils import timezone

from costs import bill_selectors, exchange
from costs.errors import (
    BillWaitingError,
    PeriodOpenError,
    RateUnknownError,
    RevisionReplacedError,
    RevisionSignedError,
    SignatureReasonError,
)
from costs.models import Reconciliation, Revision, RevisionSignature
from governance.models import Severity, User
from governance.roles import Permission
from governance.services import alerts, audit


@transaction.atomic
def sign(*, revision: Revision, digest: str, actor: User, comment: str = "", at: datetime | None = None) -> RevisionSignature:
    """One person's signature; with the second one, by somebody else, the month is signed off until a new revision.

    `digest` is that of the figures the person saw. The first signature tells those who may give the second one.

    Raises RevisionReplacedError (not the latest of the provider's month, or other figures), RevisionSignedError (by this person before, or by two already),
    PeriodOpenError (the month is not over), RateUnknownError (rows of the month's bill are not compared, because they wait for exchange rates),
    BillWaitingError (a file that would change the month's bill is neither applied nor dismissed), SignatureReasonError (doubtful or provisional figures need a comment).
    """
    at, comment = at or timezone.now(), comment.strip()
    # Comparing again takes a lock of its own and then writes this row: a signature is for the revision before it or voided by it.
    series = Reconciliation.objects.select_for_update().get(pk=revision.reconciliation_id)
    revision = series.revisions.get(pk=revision.pk)
    if series.latest_id != revision.pk:
        raise RevisionReplacedError(f"Revision {revision.number} was replaced. Look at the latest one, then sign that.")
    if not Reconciliation.objects.in_force().filter(pk=series.pk).exists():
        raise RevisionReplacedError(
            f"Bills of {series.month:%B %Y} name other accounts as well. Look at the newest comparison, then sign that."
        )
    _check_rates(series)
    _check_files(series)
    if digest != revision.digest:
        raise RevisionReplacedError("These are not the figures that the page showed. Look at them again, then sign.", field="digest")
    given = list(revision.signatures.filter(voided_at=None))
    if len(given) >= RevisionSignature.NEEDED:
        raise RevisionSignedError("The month is signed off.")
    if any(signature.person_id == actor.pk for signature in given):
        raise RevisionSignedError("You have signed it. The second signature is somebody else's.")
    if at.date() <= revision.last_day:
        raise PeriodOpenError(f"{series.month:%B %Y} is not over: its figures still change.")
    if (revision.is_doubtful or revision.is_provisional) and not comment:
        why = "The bill and our figures are too far apart" if revision.is_doubtful else "The bill does not reach the end of the month"
        raise SignatureReasonError(f"{why}. Say why it is signed all the same.", field="comment")
    signature = RevisionSignature.objects.create(revision=revision, digest=digest, person=actor, comment=comment, at=at)
    done = len(given) + 1 == RevisionSignature.NEEDED
    audit.record(
        "reconciliation.signed_off" if done else "reconciliation.signed",
        actor=actor,
        target=series,
        at=at,
        revision=revision.number,
        digest=digest,
        comment=comment,
        by=[str(one.person) for one in [*given, signature]],
    )
    name = f"{series.provider}, {series.month:%Y-%m}"
    alerts.notify(
        topic="bill.signed_off" if done else "bill.signature_needed",
        severity=Severity.INFO,
        title=f"The bill of {name} is signed off" if done else f"The bill of {name} waits for a second signature",
        text=f"Revision {revision.number}, by {' and '.join(str(one.person) for one in [*given, signature])}.",
        path=path_of(series),
        permission=Permission.VIEW_COSTS if done else Permission.SIGN_BILLS,
        key=f"bill:{series.pk}:{revision.number}:signature:{signature.pk}",
        data={"provider": series.provider, "account": series.account, "month": f"{series.month:%Y-%m}", "revision": revision.number},
        at=at,
    )
    return signature


def _check_rates(series: Reconciliation) -> None:
    """RateUnknownError while rows of its month wait, whichever account they are of: the figures are without them."""
    waiting = Reconciliation.objects.filter(provider=series.provider, month=series.month).exclude(missing_rates=[]).first()
    if waiting is not None:
        missing = [
            exchange.Missing(one["currency"], date.fromisoformat(one["first"]), date.fromisoformat(one["last"]))
            for one in waiting.missing_rates
        ]
        raise RateUnknownError(
            f"Rows of the bill of {series.month:%B %Y} are not in these figures: no exchange rate is known of {exchange.told(missing)}. "
            "Enter it, then sign what is compared.",
            missing,
            waiting.account,
        )


def _check_files(series: Reconciliation) -> None:
    """BillWaitingError while it is open whether the figures are those of the month's bill."""
    waiting = bill_selectors.waiting_files(series.provider, series.month).first()
    if waiting is not None:
        raise BillWaitingError(
            f"{waiting.name} would change the bill of {series.month:%B %Y} and waits. Apply or dismiss it, then sign what is compared."
        )


@transaction.atomic
def withdraw(*, revision: Revision, actor: User, at: datetime | None = None) -> RevisionSignature:
    """Take one's own signature back. Raises RevisionSignedError when the month is signed off, or the person did not sign it."""
    at = at or timezone.now()
    series = Reconciliation.objects.select_for_update().get(pk=revision.reconciliation_id)
    given = list(revision.signatures.filter(voided_at=None))
    own = next((signature for signature in given if signature.person_id == actor.pk), None)
    if own is None:
        raise RevisionSignedError("You have not signed this revision.")
    if len(given) >= RevisionSignature.NEEDED:
        raise RevisionSignedError("The month is signed off: a signature holds until a new revision.")
    own.voided_at, own.void_reason = at, "withdrawn"
    own.save(update_fields=["voided_at", "void_reason"])
    audit.record("reconciliation.signature_withdrawn", actor=actor, target=series, at=at, revision=revision.number)
    return own


def void(*, series: Reconciliation, by: Revision, actor: User | None, at: datetime) -> None:
    """A new revision came: signatures of those before no longer hold, and whoever may see the bill is told of it.

    `by` is of the same series, or of one of the same provider and month that replaces it. Called in the transaction that makes it.
    """
    lost = _standing(series)
    if not lost:
        return
    is_other = by.reconciliation_id != series.pk
    name = f"{by.reconciliation.account}, revision {by.number}" if is_other else f"revision {by.number}"
    old = lost[0].revision.rules
    why = ": the rules of comparison changed" if old is not None and old != by.rules else ""
    _take_back(lost, f"{name} replaced it{why}", at)
    before = lost[0].revision
    # A bill that came to be in another currency is told of in USD, at our exchange rates.
    is_usd = by.currency != before.currency
    changes = (
        (by.bill_usd - before.bill_usd, by.telemetry_usd - before.telemetry_usd)
        if is_usd
        else (by.bill - before.bill, by.telemetry - before.telemetry)
    )
    currency = exchange.BOOK if is_usd else by.currency
    was_signed_off = len(lost) >= RevisionSignature.NEEDED
    audit.record(
        "reconciliation.signatures_voided",
        actor=actor,
        target=series,
        at=at,
        revision=before.number,
        by_revision=by.number,
        by_account=by.reconciliation.account,
        people=[str(signature.person) for signature in lost],
    )
    alerts.notify(
        topic="bill.restated",
        severity=Severity.WARNING if was_signed_off else Severity.INFO,
        title=f"{series.provider}, {series.month:%Y-%m}: the figures changed after "
        + ("they were signed off" if was_signed_off else "a signature"),
        text=f"{name if is_other else name.capitalize()} replaced {before.number}: the bill by {changes[0]:+.2f} {currency}, our figures by "
        f"{changes[1]:+.2f} {currency}. It has to be signed again.",
        path=path_of(by.reconciliation) if is_other else f"{path_of(series)}changes/",
        permission=Permission.VIEW_COSTS,
        key=f"bill:{series.pk}:by-{by.pk}:restated" if is_other else f"bill:{series.pk}:{by.number}:restated",
        data={"provider": series.provider, "account": by.reconciliation.account, "month": f"{series.month:%Y-%m}", "revision": by.number},
        at=at,
    )


def void_waiting(*, series: Reconciliation, actor: User | None, at: datetime) -> None:
    """Rows came that wait for exchange rates: the bill is no longer what was signed, though no figure of it changed yet.

    Called in the transaction that writes `missing_rates`, with the series locked.
    """
    lost = _standing(series)
    if not lost:
        return
    _take_back(lost, "rows of the bill wait for exchange rates", at)
    number = lost[0].revision.number
    audit.record(
        "reconciliation.signatures_voided",
        actor=actor,
        target=series,
        at=at,
        revision=number,
        missing=series.missing_rates,
        people=[str(signature.person) for signature in lost],
    )
    was_signed_off = len(lost) >= RevisionSignature.NEEDED
    alerts.notify(
        topic="bill.restated",
        severity=Severity.WARNING if was_signed_off else Severity.INFO,
        title=f"{series.provider}, {series.month:%Y-%m}: the bill changed after "
        + ("it was signed off" if was_signed_off else "a signature"),
        text=f"Rows came that wait for exchange rates. Once these are known, revision {number} or the one that replaces it has to be signed again.",
        path=path_of(series),
        permission=Permission.VIEW_COSTS,
        key=f"bill:{series.pk}:signature-{lost[-1].pk}:waits",
        data={"provider": series.provider, "account": series.account, "month": f"{series.month:%Y-%m}", "revision": number},
        at=at,
    )


def _standing(series: Reconciliation) -> list[RevisionSignature]:
    """Signatures of the series that hold."""
    return list(RevisionSignature.objects.filter(revision__reconciliation=series, voided_at=None).select_related("revision", "person"))


def _take_back(lost: list[RevisionSignature], reason: str, at: datetime) -> None:
    for signature in lost:
        signature.voided_at, signature.void_reason = at, reason[:200]
        signature.save(update_fields=["voided_at", "void_reason"])


def path_of(series: Reconciliation) -> str:
    """Of its page, below the tenant's own path."""
    return f"operate/costs/reconciliation/{series.provider}/{quote(series.account)}/{series.month:%Y-%m}/"
