"""What guardrails look for in a text: patterns, and the rules behind them.

Patterns are bounded, so that scanning is linear in the text; what has a checksum is held to it, since a pattern alone takes order numbers
for cards.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable

# --- what has a checksum, or a rule that tells it from any other number ---


def luhn(digits: str) -> bool:
    """ISO/IEC 7812-1 annex B."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (2 if place % 2 else 1)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def iban_checks(text: str) -> bool:
    """ISO 13616: the country's letters, and 97 as the modulus."""
    compact = re.sub(r"[ -]", "", text).upper()
    if not 15 <= len(compact) <= 34:
        return False
    return int("".join(str(int(character, 36)) for character in compact[4:] + compact[:4])) % 97 == 1


_SIXTEEN, _SIXTEEN_ON = range(16, 17), range(16, 20)
ISSUERS: tuple[tuple[str, str, range], ...] = (
    ("2200", "2204", _SIXTEEN_ON),  # Mir
    ("2221", "2720", _SIXTEEN),  # Mastercard
    ("300", "305", range(14, 20)),  # Diners Club
    ("3095", "3095", range(14, 20)),
    ("34", "34", range(15, 16)),  # American Express
    ("3528", "3589", _SIXTEEN_ON),  # JCB
    ("36", "36", range(14, 20)),
    ("37", "37", range(15, 16)),
    ("38", "39", range(14, 20)),
    ("4", "4", range(13, 20, 3)),  # Visa
    ("50", "50", range(13, 20)),  # Maestro, Verve, RuPay
    ("51", "55", _SIXTEEN),
    ("56", "58", range(13, 20)),
    ("60", "61", _SIXTEEN_ON),  # Discover, RuPay
    ("62", "62", _SIXTEEN_ON),  # UnionPay
    ("63", "63", range(13, 20)),  # Maestro, InstaPayment
    ("64", "65", _SIXTEEN_ON),  # Discover, Troy
    ("67", "67", range(13, 20)),
    ("81", "82", _SIXTEEN_ON),  # UnionPay, RuPay
    ("9792", "9792", _SIXTEEN),  # Troy
)
"""First digits of cards, from and to, and how many digits there are; docs/controls.md has the same table.

Source: ISO/IEC 7812-1, as the networks publish their ranges (Wikipedia, "Payment card number", issuer identification numbers). Without
it one in ten time stamps in milliseconds would be a card.
"""


def _card(text: str) -> bool:
    digits = re.sub(r"\D", "", text)
    is_issued = any(first <= digits[: len(first)] <= last and len(digits) in lengths for first, last, lengths in ISSUERS)
    return is_issued and len(set(digits)) > 1 and luhn(digits)


def _ssn(text: str) -> bool:
    """Numbers that the US Social Security Administration never gives are none."""
    area, group, serial = text.split("-")
    return area not in ("000", "666") and area < "900" and group != "00" and serial != "0000"


def _ip(text: str) -> bool:
    try:
        return not (address := ipaddress.ip_address(text)).is_loopback and not address.is_unspecified
    except ValueError:
        return False


def _phone(text: str) -> bool:
    """E.164: 8 to 15 digits behind the plus sign."""
    return 8 <= len(re.sub(r"\D", "", text)) <= 15


def _always(text: str) -> bool:
    return True


Detector = tuple[str, re.Pattern[str], Callable[[str], bool]]
"""What a text must hold for the pattern to be worth trying (`0` for a digit), the pattern, and the rule behind it."""

PII: dict[str, Detector] = {
    "email": ("@", re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,24}\b"), _always),
    "card": ("0", re.compile(r"(?<![\d.-])\d(?:[ -]?\d){12,18}(?![\d-])"), _card),
    "iban": ("0", re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b"), iban_checks),
    "ssn": ("0", re.compile(r"(?<![\d-])\d{3}-\d{2}-\d{4}(?![\d-])"), _ssn),
    "phone": ("+", re.compile(r"(?<![\w+])\+\d(?:[ ().-]{0,2}\d){7,14}(?!\d)"), _phone),
    "ip": (
        "0",
        re.compile(r"(?<![\w.:])(?:\d{1,3}\.){3}\d{1,3}(?!\w|\.\w)|(?<![\w:])(?:[0-9A-Fa-f]{1,4}:){7}[0-9A-Fa-f]{1,4}(?![\w:])"),
        _ip,
    ),
}
_KEY_NAME = r"(?:[A-Z]{1,10} ){0,2}PRIVATE KEY-----"
_KEY_CHARACTER = r"(?!-----(?:BEGIN|END) )[A-Za-z0-9+/=\s\\:,-]"
MOST_KEY = 8000
"""Characters between the first and the last line of a private key."""
# With what follows the first line: the key itself, to its last line or as far as it looks like one; line ends may be written as \n.
# It runs into no other first line and never goes back, so that many first lines without a last one take no longer than other text.
_PRIVATE_KEY = re.compile(
    rf"-----BEGIN {_KEY_NAME}"
    rf"(?:(?:{_KEY_CHARACTER}){{0,{MOST_KEY}}}+-----END {_KEY_NAME}|[A-Za-z0-9+/=\s\\]{{0,{MOST_KEY}}})"
)
KEY_BEGIN = re.compile(rf"-----BEGIN {_KEY_NAME}")
KEY_RUN = re.compile(rf"(?:{_KEY_CHARACTER})*+")
KEY_END_BEGUN = re.compile(r"-----END [A-Z ]{0,40}-{0,4}")
SECRETS: dict[str, Detector] = {
    "gatehouse_key": ("gh", re.compile(r"\bgh[ktw]_[A-Za-z0-9_]{20,200}"), _always),
    "openai_key": ("sk-", re.compile(r"\bsk-(?!ant-)(?:proj-|svcacct-)?[A-Za-z0-9_-]{20,200}"), _always),
    "anthropic_key": ("sk-ant-", re.compile(r"\bsk-ant-[A-Za-z0-9_-]{20,200}"), _always),
    "aws_key": ("A", re.compile(r"\b(?:AKIA|ASIA)[A-Z2-7]{16}\b"), _always),
    "google_key": ("AIza", re.compile(r"\bAIza[A-Za-z0-9_-]{35}\b"), _always),
    "github_token": ("_", re.compile(r"\b(?:gh[opusr]_[A-Za-z0-9]{36}\b|github_pat_[A-Za-z0-9_]{40,90})"), _always),
    "slack_token": ("xox", re.compile(r"\bxox[abprs]-[A-Za-z0-9-]{10,200}"), _always),
    "private_key": ("-----BEGIN", _PRIVATE_KEY, _always),
    "jwt": ("eyJ", re.compile(r"\beyJ[A-Za-z0-9_-]{10,2000}+\.eyJ[A-Za-z0-9_-]{10,4000}+\.[A-Za-z0-9_-]{10,1000}"), _always),
}
LONGEST = {"email": 640, "private_key": MOST_KEY + 120, "jwt": 7020, "exfiltrate": 720}
"""Characters of the longest match, with what is looked at behind it. A secret that is longer than a piece begins with its hint."""
LONGEST_OTHER = 256
"""Of every other pattern here."""
ENTITY_NAMES = {
    "email": "E-mail addresses", "card": "Payment cards", "iban": "Bank accounts (IBAN)", "ssn": "US social security numbers",
    "phone": "Telephone numbers", "ip": "IP addresses", "gatehouse_key": "Gatehouse keys", "openai_key": "OpenAI keys",
    "anthropic_key": "Anthropic keys", "aws_key": "AWS keys", "google_key": "Google keys", "github_token": "GitHub tokens",
    "slack_token": "Slack tokens", "private_key": "Private keys (PEM)", "jwt": "Signed tokens (JWT)",
}  # fmt: skip

# Suspicion, not proof: each phrase adds its weight, the sum is capped at 1. OWASP LLM01 lists the families.
INJECTION: tuple[tuple[str, float, re.Pattern[str]], ...] = tuple(
    (name, weight, re.compile(pattern, re.IGNORECASE))
    for name, weight, pattern in (
        (
            "override",
            0.6,
            r"\b(?:ignore|disregard|forget|override)\b.{0,30}\b(?:previous|prior|above|earlier|all|your)\b.{0,30}"
            r"\b(?:instructions?|rules?|prompts?|directions?|guidelines?)\b",
        ),
        (
            "reveal",
            0.5,
            r"\b(?:reveal|print|repeat|show|output|leak)\b.{0,40}\b(?:system|hidden|initial|developer)\b.{0,12}"
            r"\b(?:prompt|instructions?|message)\b",
        ),
        (
            "persona",
            0.4,
            r"\b(?:you are now|pretend (?:to be|you are)|act as)\b.{0,40}\b(?:unrestricted|jailbroken|dan|developer mode|no (?:rules|limits|filters))\b",
        ),
        ("mode", 0.4, r"\b(?:developer|debug|god|jailbreak|dan) mode\b"),
        ("markup", 0.5, r"<\|?(?:im_start|im_end|system|endoftext)\|?>|\[/?INST\]|<<SYS>>"),
        # What follows the last ? or & is the shortest: where even that is too long, no earlier one is tried, or many of them take long.
        ("exfiltrate", 0.4, r"!\[[^\]]{0,80}\]\(https?://(?>[^)\s]{1,300}[?&](?=[^)\s]))[^)\s]{1,300}+\)"),
        ("conceal", 0.3, r"\b(?:do not|don't|never) (?:tell|mention|inform|reveal)\b.{0,30}\b(?:user|anyone|human)\b"),
    )
)
