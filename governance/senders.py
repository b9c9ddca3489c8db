"""How a notice is put on each kind of wire. No database here; URLs that people typed go through the guarded client.

Services that need more than a shape of their own (signatures, keys that group repetitions) are here; the others are Apprise's
(`governance.by_apprise`); see docs/decisions/0021-other-services-by-apprise.md.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from smtplib import SMTPException
from typing import Any

import httpx2
from django.conf import settings
from django.core.mail import EmailMessage

from gateway.contract.outbound import OutboundError
from governance.http import ResponseRefusedError, guarded_client

TIMEOUT_S = 10.0
MOST_S = 40.0
"""For all that one message waits for over HTTP: less than the lease of a delivery, so that no second worker sends it meanwhile."""
PAGERDUTY_URL = "https://events.pagerduty.com/v2/enqueue"


@dataclass(frozen=True)
class Message:
    """What is told, in every form that a wire needs."""

    id: str
    topic: str
    severity: str
    title: str
    text: str
    url: str
    tenant: str
    key: str
    at: datetime
    data: dict[str, Any]

    def as_json(self) -> dict[str, Any]:
        """The body of a signed webhook: type, timestamp and data, as Standard Webhooks recommends."""
        facts = {"severity": self.severity, "title": self.title, "text": self.text, "url": self.url, "tenant": self.tenant, "key": self.key}
        return {"type": self.topic, "timestamp": self.at.isoformat(), "data": facts | {"facts": self.data}}


@dataclass(frozen=True)
class Outcome:
    ok: bool
    detail: str
    is_final: bool = False
    """Trying again is pointless: the receiver said that it is gone."""


def signature(secret: str, *, message_id: str, timestamp: int, body: bytes) -> str:
    """`v1,<base64 of HMAC-SHA256>` over `id.timestamp.body`; source: standardwebhooks.com, specification 1.0."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    digest = hmac.new(key, f"{message_id}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


def send(*, kind: str, target: str, secrets: list[str], message: Message, now: datetime) -> Outcome:
    """Tell one channel. Never raises for what the other side does: the outcome says it in words."""
    if kind == "email":
        return _send_mail(target, message)
    if kind == "apprise":
        return _send_by_apprise(target, message)
    url, body = (PAGERDUTY_URL, _pagerduty(target, message)) if kind == "pagerduty" else (target, _BODIES[kind](message))
    content = json.dumps(body, ensure_ascii=False).encode()
    headers = {"content-type": "application/json", "user-agent": "Gatehouse"}
    if kind == "webhook":
        timestamp = int(now.timestamp())
        signatures = " ".join(signature(secret, message_id=message.id, timestamp=timestamp, body=content) for secret in secrets)
        headers |= {"webhook-id": message.id, "webhook-timestamp": str(timestamp), "webhook-signature": signatures}
    try:
        with guarded_client(timeout_s=TIMEOUT_S, total_s=MOST_S, headers=headers) as client:
            answer = client.post(url, content=content)
    except OutboundError as error:
        return Outcome(False, str(error))
    except ResponseRefusedError as error:
        return Outcome(False, f"The receiver's answer was refused: {error}.")
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        return Outcome(False, f"The receiver could not be reached: {type(error).__name__}.")
    if answer.is_success:
        return Outcome(True, f"The receiver answered {answer.status_code}.")
    return Outcome(False, f"The receiver answered {answer.status_code}.", is_final=answer.status_code == httpx2.codes.GONE)


def _send_mail(addresses: str, message: Message) -> Outcome:
    if not settings.EMAIL_HOST:
        return Outcome(False, "No mail server is set: see EMAIL_URL.")
    lines = [message.text, message.url, f"{message.tenant} · {message.topic} · {message.severity}"]
    mail = EmailMessage(
        subject=" ".join(f"[{message.tenant}] {message.title}".split()),
        body="\n\n".join(line for line in lines if line),
        to=[address.strip() for address in addresses.split(",")],
        headers={"Message-ID": f"<{message.id}@gatehouse>", "Auto-Submitted": "auto-generated"},
    )
    try:
        mail.send()
    except (SMTPException, OSError) as error:
        return Outcome(False, f"The mail server refused it: {error}"[:300])
    return Outcome(True, "The mail server took it.")


def _send_by_apprise(url: str, message: Message) -> Outcome:
    from governance import by_apprise  # only who has such a channel pays for loading it

    text = "\n\n".join(line for line in (message.text, message.url, f"{message.tenant} · {message.topic} · {message.severity}") if line)
    return Outcome(*by_apprise.send(url, title=" ".join(message.title.split()), text=text, severity=message.severity))


def _slack(message: Message) -> dict[str, Any]:
    def plain(text: str) -> str:
        return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")

    text = f"*{plain(message.title)}*\n{plain(message.text)}"
    return {
        "text": plain(message.title),
        "blocks": [{"type": "section", "text": {"type": "mrkdwn", "text": f"{text}\n<{message.url}|Open>"}}],
    }


def _teams(message: Message) -> dict[str, Any]:
    body = [
        {"type": "TextBlock", "text": message.title, "weight": "Bolder", "wrap": True},
        {"type": "TextBlock", "text": message.text, "wrap": True},
    ]
    card = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "body": body,
        "actions": [{"type": "Action.OpenUrl", "title": "Open", "url": message.url}],
    }
    return {"type": "message", "attachments": [{"contentType": "application/vnd.microsoft.card.adaptive", "content": card}]}


def _pagerduty(routing_key: str, message: Message) -> dict[str, Any]:
    """Events API v2; the notice's key groups repetitions into one incident."""
    return {
        "routing_key": routing_key,
        "event_action": "trigger",
        "dedup_key": f"{message.tenant}:{message.key}",
        "payload": {
            "summary": message.title[:1024],
            "source": f"gatehouse/{message.tenant}",
            "severity": message.severity,
            "timestamp": message.at.isoformat(),
            "custom_details": {"text": message.text, "topic": message.topic, **message.data},
        },
        "links": [{"href": message.url, "text": "Open in Gatehouse"}],
    }


_BODIES: dict[str, Callable[[Message], dict[str, Any]]] = {"webhook": Message.as_json, "slack": _slack, "teams": _teams}
