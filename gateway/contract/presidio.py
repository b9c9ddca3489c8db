"""Microsoft Presidio as a second engine of guardrails on personal data: what it can find, and how it is asked.

It is an optional extra (`presidio-analyzer`), and slow beside our own patterns: milliseconds a text. So it never runs in a process that serves calls
or pages: `gateway.contract.presidio_worker` is a program of its own that is asked by frames over its standard input. The plane keeps one
running (`gateway.plane.presidio`), the portal starts one for a text that a person tries.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from gateway.contract.detectors import ENTITY_NAMES, PII
from gateway.contract.guardrails import UNAVAILABLE, Hit
from gateway.contract.snapshot import Presidio

ROOT: Final = Path(__file__).resolve().parents[2]
COMMAND: Final = (sys.executable, "-m", "gateway.contract.presidio_worker")
MOST_FRAME_BYTES: Final = 64 * 1024 * 1024
TRY_S: Final = 30.0
"""A worker that is started for one text loads spaCy first, which takes seconds."""


@dataclass(frozen=True, slots=True)
class Recogniser:
    """What finds one kind of personal data."""

    theirs: str
    """Presidio's name of the entity."""
    class_name: str
    """Of the recogniser; `SpacyRecognizer` needs a trained model."""
    label: str
    is_usual: bool = True
    """Looked for when nothing is chosen. False for what is found wrongly too often."""


ENTITIES: Final[dict[str, Recogniser]] = {
    # What patterns of ours find too, by the same name; Presidio adds other ways of writing it.
    "email": Recogniser("EMAIL_ADDRESS", "EmailRecognizer", "E-mail addresses"),
    "card": Recogniser("CREDIT_CARD", "CreditCardRecognizer", "Payment cards"),
    "iban": Recogniser("IBAN_CODE", "IbanRecognizer", "Bank accounts (IBAN)"),
    "ssn": Recogniser("US_SSN", "UsSsnRecognizer", "US social security numbers"),
    "phone": Recogniser("PHONE_NUMBER", "PhoneRecognizer", "Telephone numbers"),
    "ip": Recogniser("IP_ADDRESS", "IpRecognizer", "IP addresses"),
    "person": Recogniser("PERSON", "SpacyRecognizer", "Names of people"),
    "location": Recogniser("LOCATION", "SpacyRecognizer", "Places"),
    "group": Recogniser("NRP", "SpacyRecognizer", "Nationalities, religions, political groups"),
    "organization": Recogniser("ORGANIZATION", "SpacyRecognizer", "Names of organisations", is_usual=False),
    "crypto": Recogniser("CRYPTO", "CryptoRecognizer", "Bitcoin addresses"),
    "medical_license": Recogniser("MEDICAL_LICENSE", "MedicalLicenseRecognizer", "US medical licences"),
    "us_bank_number": Recogniser("US_BANK_NUMBER", "UsBankRecognizer", "US bank accounts"),
    "us_driver_license": Recogniser("US_DRIVER_LICENSE", "UsLicenseRecognizer", "US driving licences"),
    "us_itin": Recogniser("US_ITIN", "UsItinRecognizer", "US taxpayer numbers (ITIN)"),
    "us_passport": Recogniser("US_PASSPORT", "UsPassportRecognizer", "US passports"),
    "uk_nhs": Recogniser("UK_NHS", "NhsRecognizer", "UK health numbers (NHS)", is_usual=False),  # takes telephone numbers for them
    "uk_nino": Recogniser("UK_NINO", "UkNinoRecognizer", "UK national insurance numbers"),
    "de_tax_id": Recogniser("DE_TAX_ID", "DeTaxIdRecognizer", "German tax numbers"),
    "es_nif": Recogniser("ES_NIF", "EsNifRecognizer", "Spanish identity numbers (NIF)"),
    "it_fiscal_code": Recogniser("IT_FISCAL_CODE", "ItFiscalCodeRecognizer", "Italian fiscal codes"),
    "pl_pesel": Recogniser("PL_PESEL", "PlPeselRecognizer", "Polish identity numbers (PESEL)"),
    "in_aadhaar": Recogniser("IN_AADHAAR", "InAadhaarRecognizer", "Indian Aadhaar numbers"),
    "in_pan": Recogniser("IN_PAN", "InPanRecognizer", "Indian tax numbers (PAN)"),
    "date_time": Recogniser("DATE_TIME", "DateRecognizer", "Dates", is_usual=False),
    "url": Recogniser("URL", "UrlRecognizer", "Web addresses", is_usual=False),
}
TRAINED: Final = frozenset(name for name, each in ENTITIES.items() if each.class_name == "SpacyRecognizer")
"""What only a trained model finds."""
OWN: Final = {name: each.label for name, each in ENTITIES.items() if name not in PII}
"""What patterns don't find, with its name for people."""
NAMES: Final = {**ENTITY_NAMES, **OWN, UNAVAILABLE: "Not looked at: Presidio did not answer"}
"""Of everything that a guardrail counts."""


class PresidioError(Exception):
    """It cannot be asked, or did not answer. The message is fit for people and holds nothing of the text."""


class Ask(msgspec.Struct, array_like=True):
    """One frame to the worker."""

    number: int
    settings: Presidio
    texts: list[str]


class Told(msgspec.Struct, array_like=True):
    """One frame from it."""

    number: int
    texts: int
    """How many were looked at."""
    hits: dict[int, list[tuple[str, int, int]]]
    """By place of the text, where there are any: entity, start, end. Of 2^18 texts all but a few hold nothing."""
    error: str = ""


def is_installed() -> bool:
    return importlib.util.find_spec("presidio_analyzer") is not None


def chosen(settings: Presidio) -> list[str]:
    """What is looked for. Without a trained model what needs one is left out."""
    names = [name for name in settings.entities if name in ENTITIES] or [name for name, each in ENTITIES.items() if each.is_usual]
    return [name for name in names if settings.spacy_model or name not in TRAINED]


def obstacle(settings: Presidio) -> tuple[str, str] | None:
    """Why it can't run here: the field (`engine`, `language`, `spacy_model`) and a sentence; None when nothing speaks against it."""
    if not is_installed():
        return (
            "engine",
            'Presidio is not installed here: install the extra "pii" for the portal and for every gateway, see docs/controls.md.',
        )
    spacy = importlib.util.find_spec("spacy")
    folders = (spacy.submodule_search_locations if spacy else None) or []
    if not any((Path(folder) / "lang" / settings.language).is_dir() for folder in folders):
        return "language", f"spaCy has no language {settings.language}."
    if settings.spacy_model and importlib.util.find_spec(settings.spacy_model) is None:
        return "spacy_model", f"The spaCy model {settings.spacy_model} is not installed here."
    return None


def united(hits: Iterable[Hit]) -> list[Hit]:
    """By place and apart: what overlaps becomes one finding over all of it, named by its longest, so that no end of one is left standing."""
    kept: list[Hit] = []
    longest = 0
    for hit in sorted(hits, key=lambda hit: (hit.start, -hit.end)):
        length = hit.end - hit.start
        if kept and hit.start < kept[-1].end:
            name = hit.entity if length > longest else kept[-1].entity
            kept[-1] = Hit(name, kept[-1].start, max(hit.end, kept[-1].end))
            longest = max(longest, length)
        else:
            kept.append(hit)
            longest = length
    return kept


def frame(message: Ask | Told) -> bytes:
    """Four bytes of length, and the message."""
    body = msgspec.msgpack.encode(message)
    return len(body).to_bytes(4) + body


def read_told(body: bytes) -> Told:
    """Raises PresidioError."""
    try:
        return msgspec.msgpack.decode(body, type=Told)
    except msgspec.MsgspecError as error:
        raise PresidioError("Presidio's worker said something that cannot be read.") from error


def hits_of(told: Told, texts: Sequence[str]) -> dict[int, list[Hit]]:
    """By place of the text, where there are any; in order and apart. Raises PresidioError, also when an answer is not about every text."""
    if told.error:
        raise PresidioError(f"Presidio failed: {told.error}.")
    if told.texts != len(texts) or any(not 0 <= at < len(texts) for at in told.hits):
        raise PresidioError("Presidio's worker did not answer for every text.")
    return {at: united(Hit(*hit) for hit in hits) for at, hits in told.hits.items()}


def environment() -> dict[str, str]:
    """Of the worker: as here, without what only the product needs to know."""
    return {
        name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "PYTHONPATH", "VIRTUAL_ENV", "SYSTEMROOT")
    }


def find_once(settings: Presidio, text: str) -> list[Hit]:
    """What it finds in one text, by a worker that is started for it: for people who wait. Raises PresidioError."""
    if not is_installed():
        raise PresidioError("Presidio is not installed here.")
    patient = msgspec.structs.replace(settings, time_limit_ms=int(TRY_S * 1000))
    try:
        done = subprocess.run(
            COMMAND, input=frame(Ask(0, patient, [text])), capture_output=True, timeout=TRY_S, cwd=ROOT, env=environment(), check=False
        )
    except subprocess.TimeoutExpired as error:
        raise PresidioError(f"Presidio did not answer within {TRY_S:.0f} s.") from error
    if done.returncode or len(done.stdout) < 4:
        raise PresidioError("Presidio's worker ended without an answer.")
    return hits_of(read_told(done.stdout[4:]), [text]).get(0, [])
