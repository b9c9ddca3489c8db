"""Alerts from the outbox to receivers that nobody here wrote: a mail server, and the verifier of Standard Webhooks."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Message as MailHandler
from apprise.plugins.discord import NotifyDiscord
from apprise.plugins.opsgenie import OPSGENIE_API_LOOKUP, OpsgenieRegion
from django.db import transaction
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from governance import by_apprise, senders
from governance.errors import BadTargetError, ChannelNameTakenError
from governance.models import AlertChannel, AuditEntry, Consent, Delivery, Notice, Severity, Tenant, User
from governance.services import alerts, consent
from tests.road.product import free_port

AT = datetime.now(UTC).replace(microsecond=0)


@pytest.fixture(autouse=True)
def _now() -> None:
    """The test's own: whoever verifies a signature asks that it be younger than five minutes, which a run of all tests is not."""
    global AT  # noqa: PLW0603
    AT = datetime.now(UTC).replace(microsecond=0)


class Receiver:
    """A web server that keeps what it got and answers with the next of `answers`, then 204."""

    def __init__(self) -> None:
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.answers: list[int] = []
        self.headers: dict[str, str] = {}
        self.body = b""
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver.got.append(({name.lower(): value for name, value in self.headers.items()}, body))
                self.send_response(receiver.answers.pop(0) if receiver.answers else 204)
                for name, value in receiver.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(receiver.body)

            def log_message(self, *_: Any) -> None:
                """Nothing on the terminal."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    running = Receiver()
    yield running
    running.server.shutdown()
    running.server.server_close()


@pytest.fixture
def mails(settings: Any) -> Iterator[list[Any]]:
    """A real mail server on loopback; yields what it took."""
    taken: list[Any] = []

    class Keep(MailHandler):
        def handle_message(self, message: Any) -> None:
            taken.append(message)

    port = free_port()
    controller = Controller(Keep(), hostname="127.0.0.1", port=port)
    controller.start()
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", port
    yield taken
    controller.stop()


def tell(key: str = "k1", severity: str = Severity.WARNING, topic: str = "budget.exceeded") -> Notice:
    with transaction.atomic():
        return alerts.notify(
            topic=topic, severity=severity, title="Checkout <b> is over budget", text="$12 of $10", path="operate/costs/", key=key, at=AT
        )


def test_webhook_is_signed_so_that_a_standard_library_accepts_it(acme: Tenant, adam: User, receiver: Receiver) -> None:
    channel, secret = alerts.create_channel(name="Ops", kind="webhook", target=receiver.url, actor=adam)
    tell()

    assert alerts.deliver_due(at=AT) == 1

    [(headers, body)] = receiver.got
    payload = Webhook(secret).verify(body.decode(), headers)
    assert payload["type"] == "budget.exceeded"
    assert payload["data"]["url"].endswith("/o/acme/operate/costs/")
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(body.decode().replace("$12", "$13"), headers)
    delivery = Delivery.objects.get(channel=channel)
    assert (delivery.status, delivery.attempts, delivery.next_at) == ("sent", 1, None)
    assert headers["webhook-id"] == f"msg_{delivery.pk.hex}"


def test_both_secrets_sign_during_the_overlap_and_only_the_new_one_after(acme: Tenant, adam: User, receiver: Receiver) -> None:
    channel, old = alerts.create_channel(name="Ops", kind="webhook", target=receiver.url, actor=adam)
    new = alerts.rotate_secret(channel=channel, actor=adam, at=AT - timedelta(hours=23))
    tell("during")
    alerts.deliver_due(at=AT)
    alerts.rotate_secret(channel=channel, actor=adam, at=AT - timedelta(hours=25))
    tell("after")
    alerts.deliver_due(at=AT)

    (during, body), (after, _) = receiver.got
    assert Webhook(old).verify(body.decode(), during)
    assert Webhook(new).verify(body.decode(), during)
    assert len(during["webhook-signature"].split()) == 2
    assert len(after["webhook-signature"].split()) == 1


def test_a_receiver_that_fails_is_tried_again_and_then_given_up(acme: Tenant, adam: User, receiver: Receiver) -> None:
    alerts.create_channel(name="Ops", kind="webhook", target=receiver.url, actor=adam)
    receiver.answers = [500] * 8
    tell()

    pauses, at = [], AT
    for _ in range(8):
        assert alerts.deliver_due(at=at) == 1
        delivery = Delivery.objects.get()
        if delivery.next_at is not None:
            pauses.append((delivery.next_at - at).total_seconds())
            assert alerts.deliver_due(at=at) == 0
            at = delivery.next_at

    assert (delivery.status, delivery.attempts) == ("dead", 8)
    assert delivery.last_error == "The receiver answered 500."
    assert pauses == [pytest.approx(pause, rel=0.11) for pause in alerts.PAUSES_S]
    assert len({headers["webhook-id"] for headers, _ in receiver.got}) == 1

    receiver.answers = [500]
    alerts.replay(delivery=delivery, actor=adam, at=at)
    alerts.deliver_due(at=at)
    delivery = Delivery.objects.get()
    assert (delivery.status, delivery.attempts) == ("pending", 1)  # all of its attempts anew
    assert delivery.next_at is not None
    alerts.deliver_due(at=delivery.next_at)
    assert Delivery.objects.get().status == "sent"
    assert AuditEntry.objects.filter(event="alert.replayed").exists()


def test_a_receiver_that_is_gone_is_not_tried_again(acme: Tenant, adam: User, receiver: Receiver) -> None:
    alerts.create_channel(name="Ops", kind="webhook", target=receiver.url, actor=adam)
    receiver.answers = [410]
    tell()

    alerts.deliver_due(at=AT)

    assert Delivery.objects.get().status == "dead"


def test_a_worker_that_died_in_the_middle_leaves_the_delivery_to_another(acme: Tenant, adam: User, receiver: Receiver) -> None:
    alerts.create_channel(name="Ops", kind="webhook", target=receiver.url, actor=adam)
    tell()
    Delivery.objects.update(attempts=1, next_at=AT + alerts.LEASE)  # what a worker writes before it sends

    assert alerts.deliver_due(at=AT) == 0
    assert alerts.deliver_due(at=AT + alerts.LEASE) == 1


def test_a_delivery_is_leased_when_its_turn_comes(acme: Tenant, adam: User, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a slow receiver holds the next ones up until their lease is over, and another worker sends them too."""
    for name in ("slow", "next"):
        alerts.create_channel(name=name, kind="webhook", target=receiver.url, actor=adam)
    tell()
    taken: list[int] = []
    send = senders.send

    def watched(**message: Any) -> senders.Outcome:
        taken.append(Delivery.objects.filter(attempts=1).count())
        return send(**message)

    monkeypatch.setattr(senders, "send", watched)

    assert alerts.deliver_due(at=AT) == 2
    assert taken == [1, 2]
    assert alerts.LEASE.total_seconds() > 2 * senders.MOST_S


@pytest.mark.parametrize(("kind", "scheme"), [("webhook", "http"), ("apprise", "json")])
def test_who_answers_byte_by_byte_is_cut_off(
    acme: Tenant, adam: User, monkeypatch: pytest.MonkeyPatch, settings: Any, kind: str, scheme: str
) -> None:
    monkeypatch.setattr(senders, "MOST_S", 0.3)
    monkeypatch.setattr(by_apprise, "MOST_S", 0.3)

    def drip(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection, contextlib.suppress(OSError):
            connection.sendall(b"HTTP/1.1 200 OK\r\nx-slow: ")
            for _ in range(60):  # 3 s
                time.sleep(0.05)
                connection.sendall(b"a")

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=drip, args=(server,), daemon=True)
        thread.start()
        channel, _ = alerts.create_channel(name="Slow", kind=kind, target=f"{scheme}://127.0.0.1:{server.getsockname()[1]}/", actor=adam)
        tried = alerts.try_channel(channel=channel, actor=adam)
        thread.join()

    assert (tried.tried_ok, tried.tried_detail) == (False, "The receiver could not be reached: ReadTimeout.")


def test_mail_reaches_a_mail_server(acme: Tenant, adam: User, mails: list[Any]) -> None:
    alerts.create_channel(name="Finance", kind="email", target="fay@example.com, cfo@example.com", actor=adam)
    tell()

    alerts.deliver_due(at=AT)

    [mail] = mails
    assert mail["Subject"] == "[acme] Checkout <b> is over budget"
    assert mail["X-RcptTo"] == "fay@example.com, cfo@example.com"
    assert "/o/acme/operate/costs/" in mail.get_payload()


def test_without_a_mail_server_the_delivery_says_so(acme: Tenant, adam: User, settings: Any) -> None:
    settings.EMAIL_HOST = ""
    alerts.create_channel(name="Finance", kind="email", target="fay@example.com", actor=adam)
    tell()

    alerts.deliver_due(at=AT)

    assert Delivery.objects.get().last_error == "No mail server is set: see EMAIL_URL."


def test_mail_server_that_is_away_is_an_error_in_words(acme: Tenant, adam: User, settings: Any) -> None:
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", 9
    channel, _ = alerts.create_channel(name="Finance", kind="email", target="fay@example.com", actor=adam)

    tried = alerts.try_channel(channel=channel, actor=adam)

    assert tried.tried_ok is False
    assert tried.tried_detail.startswith("The mail server refused it")


def test_other_services_are_told_by_apprise_and_tried_again_like_others(
    acme: Tenant, adam: User, receiver: Receiver, settings: Any
) -> None:
    host = receiver.url.removeprefix("http://127.0.0.1:").removesuffix("/hook")
    channel, secret = alerts.create_channel(name="Ops", kind="apprise", target=f"json://127.0.0.1:{host}/token-1?redirect=yes", actor=adam)
    receiver.answers = [302, 500, 200, 200, 410]
    tell()

    for attempt in range(3):
        alerts.deliver_due(at=AT + timedelta(days=attempt))
        delivery = Delivery.objects.get()
        assert (delivery.status, delivery.last_error) == [
            ("pending", "The receiver answered 302."),  # which is not followed
            ("pending", "The receiver answered 500."),
            ("sent", ""),
        ][attempt]
    tried = alerts.try_channel(channel=channel, actor=adam)
    tell("gone")
    alerts.deliver_due(at=AT)
    settings.OUTBOUND_ALLOW = []
    tell("guarded")
    alerts.deliver_due(at=AT)

    assert (secret, channel.shown_target) == ("", "JSON at 127.0.0.1")
    assert (tried.tried_ok, tried.tried_detail) == (True, "The receiver answered 200.")
    gone, guarded = Delivery.objects.filter(notice__key="gone").get(), Delivery.objects.filter(notice__key="guarded").get()
    assert (gone.status, guarded.status, len(receiver.got)) == ("dead", "pending", 5)
    assert "127.0.0.1" in guarded.last_error  # our guard's own words
    body = json.loads(receiver.got[2][1])
    assert (body["title"], body["type"]) == ("Checkout <b> is over budget", "warning")
    assert "$12 of $10" in body["message"]
    assert "/o/acme/operate/costs/" in body["message"]
    assert "token-1" not in json.dumps(list(AuditEntry.objects.values_list("details", flat=True)))


def test_message_names_no_picture_of_another_host(acme: Tenant, adam: User, receiver: Receiver) -> None:
    target = f"mmost://{receiver.url.removeprefix('http://').removesuffix('/hook')}/abcdefghijklmnopqrstuvwx"
    channel, _ = alerts.create_channel(name="Chat", kind="apprise", target=target, actor=adam)
    receiver.answers = [200]

    tried = alerts.try_channel(channel=channel, actor=adam)

    assert tried.tried_ok
    assert b"github" not in receiver.got[0][1]


def test_what_a_service_never_sends_is_not_sent(acme: Tenant, adam: User, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """Opsgenie's default for information is a note on an earlier alert of the same process, which is no request at all."""
    monkeypatch.setitem(OPSGENIE_API_LOOKUP, OpsgenieRegion.US, receiver.url)
    key = "opsgenie://0f0e0d0c-0b0a-4908-8706-050403020100"
    noting, _ = alerts.create_channel(name="Noting", kind="apprise", target=f"{key}?:info=note", actor=adam)
    alerting, _ = alerts.create_channel(name="Alerting", kind="apprise", target=key, actor=adam)
    receiver.answers, receiver.body = [202, 401, 202], b'{"requestId": "1"}'
    tell(severity=Severity.INFO)

    alerts.deliver_due(at=AT)
    tries = [
        (tried.tried_ok, tried.tried_detail)
        for tried in (alerts.try_channel(channel=each, actor=adam) for each in [noting] + [alerting] * 2)
    ]

    assert tries[0][1].startswith("Opsgenie sends nothing at this severity")
    assert [tries[0][0], *tries[1:]] == [False, (False, "The receiver answered 401."), (True, "The receiver answered 202.")]
    assert dict(Delivery.objects.values_list("channel__name", "status")) == {"Noting": "dead", "Alerting": "sent"}
    assert len(receiver.got) == 3


def test_a_receiver_that_asks_for_an_hour_is_not_waited_for(
    acme: Tenant, adam: User, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(NotifyDiscord, "notify_url", receiver.url)
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail(f"sleeps {seconds} s"))
    channel, _ = alerts.create_channel(name="Ops", kind="apprise", target="discord://4174216298/JHMHI8qBe7bk2ZwO5U711o3dV_js", actor=adam)
    receiver.answers = [429, 204]
    receiver.headers = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(int(AT.timestamp()) + 3600)}

    tried = alerts.try_channel(channel=channel, actor=adam)

    assert (tried.tried_ok, len(receiver.got)) == (False, 1)
    assert tried.tried_detail.startswith("The receiver answered 429. Discord asks to wait 3,")


@pytest.mark.parametrize(("kind", "where"), [("slack", "blocks"), ("teams", "attachments")])
def test_chat_services_get_their_own_shape(acme: Tenant, adam: User, receiver: Receiver, kind: str, where: str) -> None:
    alerts.create_channel(name="Chat", kind=kind, target=receiver.url, actor=adam)
    tell()

    alerts.deliver_due(at=AT)

    [(headers, body)] = receiver.got
    assert "webhook-signature" not in headers
    assert "is over budget" in json.dumps(json.loads(body)[where])
    if kind == "slack":
        assert json.loads(body)["text"] == "Checkout &lt;b&gt; is over budget"


def test_the_same_thing_is_told_once_and_only_where_it_is_wanted(acme: Tenant, adam: User, receiver: Receiver) -> None:
    for name, topics, least in (
        ("all", [], "info"),
        ("budgets", ["budget"], "info"),
        ("gates", ["gate"], "info"),
        ("pager", [], "critical"),
    ):
        alerts.create_channel(name=name, kind="slack", target=receiver.url, actor=adam, topics=topics, least_severity=least)
    AlertChannel.objects.filter(name="gates").update(topics=["gate", "bud"])  # by whole words

    tell("same")
    tell("same")

    assert Notice.objects.count() == 1
    assert set(Delivery.objects.values_list("channel__name", flat=True)) == {"all", "budgets"}


@pytest.mark.parametrize(
    ("kind", "target", "words"),
    [
        ("webhook", "http://169.254.169.254/latest", "private|link-local|metadata"),
        ("slack", "file:///etc/passwd", "http"),
        ("email", "nobody", "e-mail addresses"),
        ("email", "", "e-mail addresses"),
        ("pagerduty", "short", "integration key"),
        ("apprise", "mailto://user:word@mail.example.com", "begins with one of"),
        ("apprise", "syslog://", "begins with one of"),
        ("apprise", "file:///etc/passwd", "begins with one of"),
        ("apprise", "https://discord.com/api/webhooks/1/2", "begins with one of"),
        ("apprise", "discord://x", "no complete URL of Discord"),
        ("apprise", "discord://4174216298/JHMHI8qBe7bk2ZwO5U711o3dV_js?template=/etc/passwd", "Templates"),
        ("apprise", "jsons://169.254.169.254/latest", "private|link-local|metadata"),
        ("apprise", "json://hooks.example.com/1", "https"),
    ],
)
def test_a_target_that_leads_nowhere_or_where_it_may_not_is_refused(acme: Tenant, adam: User, kind: str, target: str, words: str) -> None:
    with pytest.raises(BadTargetError, match=words):
        alerts.create_channel(name="Bad", kind=kind, target=target, actor=adam)

    assert not AlertChannel.objects.exists()


def test_names_are_unique_and_targets_never_shown(acme: Tenant, adam: User, receiver: Receiver) -> None:
    channel, _ = alerts.create_channel(name="Ops", kind="slack", target=receiver.url, actor=adam)
    with pytest.raises(ChannelNameTakenError):
        alerts.create_channel(name="Ops", kind="slack", target=receiver.url, actor=adam)

    assert channel.shown_target == "127.0.0.1"
    assert "/hook" not in json.dumps(list(AuditEntry.objects.values_list("details", flat=True)))


def test_withdrawn_consent_is_told(acme: Tenant, sam: User) -> None:
    consent.set_consent(feature_class="assistants", state=Consent.State.WITHDRAWN, actor=sam, reason="Audit until Monday")
    consent.set_consent(feature_class="assistants", state=Consent.State.GRANTED, actor=sam)

    [notice] = Notice.objects.all()
    assert (notice.topic, notice.severity, notice.text) == ("consent.withdrawn", "warning", "Audit until Monday")
