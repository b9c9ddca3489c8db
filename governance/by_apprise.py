"""Alerts to services that we have no sender of our own for, by Apprise, behind our own outbound guard.

Apprise knows how to say a message to each service and calls them with `requests`. Here the modules of the services that we take have another
`requests`: one whose only way out is `GuardedAdapter`, that is `governance.http.guarded_client`, so that what holds for every URL that a person
types (addresses, https, ports, size, time, no redirects, no proxies, certificates always checked) holds for them too. Only services that
do nothing but HTTP are taken, from a list; templates, which would read files of this machine, are off. Apprise's own catalogue is never loaded.

Source: docs/decisions/0021-other-services-by-apprise.md
"""

from __future__ import annotations

import importlib
import logging
import time
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import httpx2
import requests
from apprise.asset import AppriseAsset
from apprise.common import NotifyFormat, NotifyType
from apprise.plugins.base import NotifyBase
from requests.adapters import BaseAdapter

from gateway.contract.outbound import OutboundError, check_url
from governance.http import ResponseRefusedError, allow_list, guarded_client
from governance.senders import MOST_S, TIMEOUT_S

LONGEST_WAIT_S = 5.0
"""That a receiver may ask for between two requests of one message, as Discord does; for more, the delivery's own pauses are there."""
_HOSTED = (
    "custom_json",
    "goalert",
    "gotify",
    "home_assistant",
    "mattermost",
    "nextcloudtalk",
    "ntfy",
    "rocketchat",
    "signal_api",
    "synology",
)
"""Services that stand on a host of the reader's choosing, which the URL names."""
MODULES: Mapping[str, str] = {
    "betterstack": "betterstack", "cliq": "cliq", "dingtalk": "dingtalk", "discord": "discord", "feishu": "feishu",
    "firehydrant": "firehydrant", "flock": "flock", "gchat": "google_chat", "goalert": "goalert", "goalerts": "goalert",
    "gotify": "gotify", "gotifys": "gotify", "hassio": "home_assistant", "hassios": "home_assistant", "ilert": "ilert",
    "incidentio": "incidentio", "json": "custom_json", "jsons": "custom_json", "lark": "lark", "line": "line", "mmost": "mattermost",
    "mmosts": "mattermost", "nctalk": "nextcloudtalk", "nctalks": "nextcloudtalk", "ntfy": "ntfy", "ntfys": "ntfy", "opsgenie": "opsgenie",
    "pagertree": "pagertree", "pover": "pushover", "revolt": "revolt", "rocket": "rocketchat", "rockets": "rocketchat", "ryver": "ryver",
    "signal": "signal_api", "signals": "signal_api", "spike": "spike", "splunk": "splunk", "squadcast": "squadcast", "synology": "synology",
    "synologys": "synology", "tgram": "telegram", "twilio": "twilio", "victorops": "splunk", "webex": "webexteams", "wecombot": "wecombot",
    "wxteams": "webexteams", "zoom": "zoom", "zulip": "zulip",
}  # fmt: skip
"""Beginning of the URL to Apprise's module. Each does HTTP by `requests` and nothing else; a test reads their sources."""
_TYPES = {"info": NotifyType.INFO, "warning": NotifyType.WARNING, "critical": NotifyType.FAILURE}
_ASSET = AppriseAsset(
    app_id="Gatehouse",
    app_desc="Gatehouse",
    app_url="",
    image_url_mask="",  # messages would name pictures of Apprise's on another host
    async_mode=False,
    http_redirects=False,
    allow_templates=False,
    storage_mode="memory",
)
logging.getLogger("apprise").setLevel(logging.CRITICAL)  # what goes wrong is said in the delivery, without the URL


class ServiceUrlError(ValueError):
    """The URL is of no service that we take, or not complete. The message is for people and repeats nothing of a secret."""


class _AskedToWaitError(Exception):
    """The receiver wants its next request later than a worker waits for."""


@dataclass
class _Sending:
    """What happens while one message is sent."""

    until: float
    """On the monotonic clock."""
    detail: str = "The service took nothing."
    is_gone: bool = False
    asked: int = 0
    """Requests that were begun."""
    answers: int = 0


_sending: ContextVar[_Sending] = ContextVar("sending")


class GuardedAdapter(BaseAdapter):
    """The transport of `requests` by the guarded client. What the guard refuses is a `requests.ConnectionError` to who asked."""

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,  # this and the others are the caller's wishes; ours hold
        timeout: Any = None,
        verify: Any = True,
        cert: Any = None,
        proxies: Any = None,
    ) -> requests.Response:
        sending = _sending.get()
        sending.asked += 1
        left_s = sending.until - time.monotonic()
        if left_s <= 0:
            sending.detail = f"It took longer than {MOST_S:.0f} s."
            raise requests.ConnectionError(sending.detail)
        if not isinstance(request.body, bytes | str | None):
            raise requests.RequestException("Only a body that is there as a whole is sent.")
        try:
            with guarded_client(timeout_s=TIMEOUT_S, total_s=left_s, headers=_headers(request)) as client:
                answer = client.request(str(request.method), str(request.url), content=request.body)
        except OutboundError as error:
            sending.detail = str(error)
        except ResponseRefusedError as error:
            sending.detail = f"The receiver's answer was refused: {error}."
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            sending.detail = f"The receiver could not be reached: {type(error).__name__}."
        else:
            sending.answers += 1
            sending.detail, sending.is_gone = f"The receiver answered {answer.status_code}.", answer.status_code == httpx2.codes.GONE
            return _answer(request, answer)
        raise requests.ConnectionError(sending.detail)

    def close(self) -> None:
        """Nothing stays open."""


_OURS = frozenset(("accept-encoding", "connection", "content-length", "host", "transfer-encoding"))


def _headers(request: requests.PreparedRequest) -> dict[str, str]:
    def text(value: str | bytes) -> str:
        return value.decode("latin-1") if isinstance(value, bytes) else value

    return {text(name): text(value) for name, value in request.headers.items() if text(name).lower() not in _OURS}


def _answer(request: requests.PreparedRequest, answer: httpx2.Response) -> requests.Response:
    made = requests.Response()
    made.status_code, made.reason, made.url, made.request = answer.status_code, answer.reason_phrase, str(request.url), request
    made.headers.update(answer.headers)
    made.encoding = answer.encoding
    made._content = answer.content  # the only door: `requests` fills it from a connection of its own
    return made


class _GuardedRequests:
    """As much of the module `requests` as the services use."""

    RequestException = requests.RequestException
    codes = requests.codes

    @staticmethod
    def request(method: str, url: str, **options: Any) -> requests.Response:
        with requests.Session() as session:
            session.trust_env = False
            session.adapters.clear()
            session.mount("https://", GuardedAdapter())
            session.mount("http://", GuardedAdapter())
            return session.request(method, url, **{**options, "allow_redirects": False})

    @classmethod
    def get(cls, url: str, **options: Any) -> requests.Response:
        return cls.request("GET", url, **options)

    @classmethod
    def post(cls, url: str, **options: Any) -> requests.Response:
        return cls.request("POST", url, **options)

    @classmethod
    def delete(cls, url: str, **options: Any) -> requests.Response:
        return cls.request("DELETE", url, **options)


def service_class(scheme: str) -> type[NotifyBase]:
    """Apprise's class for a scheme of `MODULES`, whose module has our `requests` from then on."""
    module: Any = importlib.import_module(f"apprise.plugins.{MODULES[scheme]}")
    module.requests = _GuardedRequests
    found: type[NotifyBase]
    [found] = [
        each for each in vars(module).values() if isinstance(each, type) and scheme in _schemes(each) and each.__module__ == module.__name__
    ]
    return found


def _schemes(service: type) -> set[str]:
    named = [getattr(service, "protocol", None), getattr(service, "secure_protocol", None)]
    return {scheme for each in named for scheme in ((each,) if isinstance(each, str) else each or ())}


def _service(url: str) -> NotifyBase:
    scheme, separator, _ = url.partition("://")
    scheme = scheme.lower()
    if not separator or scheme not in MODULES:
        raise ServiceUrlError(f"Enter an Apprise URL, as discord://…, that begins with one of {', '.join(MODULES)}.")
    found = service_class(scheme)
    parsed = found.parse_url(url.replace("/#", "/%23"))  # as Apprise does before: channels may be named so
    if parsed and scheme == "opsgenie":  # Apprise's default notes it on earlier alerts of this instance, which has none: nothing is sent
        parsed["mapping"] = {"info": "new"} | parsed["mapping"]
    try:
        if parsed:
            service = found(**{**parsed, "asset": _ASSET})
            if getattr(service, "template", None):
                raise ServiceUrlError("Templates are files of this machine and can't be used.")
            _let_wait_no_longer(service)
            return service
    except TypeError as error:  # what is wrong may quote a key, so it is not said
        raise ServiceUrlError(_incomplete(found)) from error
    raise ServiceUrlError(_incomplete(found))


def _let_wait_no_longer(service: Any) -> None:
    """Services sleep before their requests: by a rate, which a worker is not held up for, and for what the receiver asks, which it may for long."""

    def throttle(last_io: object = None, wait: float | None = None) -> None:
        if wait is None:
            return
        if wait > LONGEST_WAIT_S:
            raise _AskedToWaitError(f"asks to wait {wait:,.0f} s")
        time.sleep(wait)

    service.throttle = throttle


def _incomplete(service: type[NotifyBase]) -> str:
    return f"This is no complete URL of {service.service_name}: see {service.setup_url}."


def check(url: str) -> str:
    """What a page may show of the URL: service and host. Raises ServiceUrlError, or OutboundError for a host that may not be called."""
    service = _service(url)
    if MODULES[url.partition("://")[0].lower()] not in _HOSTED or getattr(service, "mode", "") == "cloud":
        return str(service.service_name)
    host, port = (f"[{service.host}]" if ":" in service.host else service.host), (f":{service.port}" if service.port else "")
    check_url(f"http{'s' if service.secure else ''}://{host}{port}/", allow_list())
    return f"{service.service_name} at {service.host}"


def send(url: str, *, title: str, text: str, severity: str) -> tuple[bool, str, bool]:
    """Was it taken, what happened in words, and is trying again pointless? Raises nothing for what the other side does.

    What was never answered was not taken, whatever the service says of it.
    """
    try:
        service = _service(url)
    except ServiceUrlError as error:  # a newer Apprise may know it otherwise than when it was saved
        return False, str(error), False
    sending = _Sending(until=time.monotonic() + MOST_S)
    token = _sending.set(sending)
    try:
        is_taken = service.notify(body=text, title=title, notify_type=_TYPES[severity], body_format=NotifyFormat.TEXT)
    except _AskedToWaitError as error:
        return False, f"{sending.detail} {service.service_name} {error}.", False
    except (ValueError, TypeError, KeyError, AttributeError) as error:  # a service that reads an answer as it never expected it
        return False, f"{sending.detail} Apprise could not read it ({type(error).__name__}).", False
    finally:
        _sending.reset(token)
    if is_taken and not sending.asked:
        return False, f"{service.service_name} sends nothing at this severity: its URL maps it to something else than an alert.", True
    is_taken = bool(is_taken and sending.answers)
    return is_taken, sending.detail, sending.is_gone and not is_taken
