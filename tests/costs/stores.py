"""Stores that clouds deliver exports to. S3 is moto's server, which nobody here wrote: it checks signatures by AWS's own client, and rights by
policies. Azure Blob Storage and Google Cloud Storage are doubles in the test's own process that check proofs as the references say.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit
from xml.sax.saxutils import escape

import boto3
import jwt
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.gateway.clouds import SERVICE_ACCOUNT, private_key
from tests.road.product import free_port

REGION = "eu-central-1"
SAS = "sv=2024-11-04&ss=b&srt=co&sp=rl&se=2099-01-01T00:00:00Z&sig=c2VjcmV0LXNpZ25hdHVyZQ%3D%3D"
AZURE_SECRET = "entra-s3cret"
PAGE = 2


class S3:
    """Buckets of one account, and an access key that may list and read one of them."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        first = boto3.Session("any", "any", region_name=REGION)
        self._iam = first.client("iam", endpoint_url=self.url)
        self.owner = self._user("owner", "s3:*")
        self.reader = self._user("reader", "s3:ListBucket", "s3:GetObject")
        self.lister = self._user("lister", "s3:ListBucket")
        self.nobody = self._user("nobody", "s3:ListAllMyBuckets")
        self._s3 = boto3.Session(*self.owner, region_name=REGION).client("s3", endpoint_url=self.url)
        request = urllib.request.Request(f"{self.url}/moto-api/reset-auth", data=b"0", headers={"content-type": "text/plain"})
        with urllib.request.urlopen(request):  # from now on each request is checked
            pass

    def _user(self, name: str, *actions: str) -> tuple[str, str]:
        self._iam.create_user(UserName=name)
        policy = {"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": actions, "Resource": "*"}}
        self._iam.put_user_policy(UserName=name, PolicyName="its", PolicyDocument=json.dumps(policy))
        key = self._iam.create_access_key(UserName=name)["AccessKey"]
        return key["AccessKeyId"], key["SecretAccessKey"]

    def make(self, bucket: str) -> None:
        self._s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})

    def put(self, bucket: str, name: str, content: bytes) -> None:
        self._s3.put_object(Bucket=bucket, Key=name, Body=content)

    def delete(self, bucket: str, name: str) -> None:
        self._s3.delete_object(Bucket=bucket, Key=name)


@contextmanager
def s3() -> Iterator[S3]:
    port = free_port()
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_for(f"http://127.0.0.1:{port}/moto-api/data.json")
        yield S3(port)
    finally:
        server.terminate()
        server.wait(10)


def _wait_for(url: str) -> None:
    until = time.monotonic() + 20
    while True:
        try:
            with urllib.request.urlopen(url):
                return
        except OSError:
            assert time.monotonic() < until, "the server of moto did not start"
            time.sleep(0.05)


class Stores:
    """Azure and Google on one port; what lies there, what was asked and what they do wrong can be set."""

    def __init__(self) -> None:
        self.files: dict[str, tuple[bytes, datetime]] = {}
        self.asked: list[str] = []
        self.tokens: list[str] = []
        self.off = timedelta()
        """How far its clock is off."""
        self.refuses: tuple[int, str] | None = None
        """Answered to whatever is asked: status and code."""
        self.archived: set[str] = set()
        """Names of what is listed by Azure, and given out only when it is here no more."""
        self.slow_s = 0.0
        """How long each file of Azure takes."""
        self.list_body: bytes | None = None
        """Answered as a list in place of what lies there."""
        handler = type("Handler", (_Handler,), {"stores": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def put(self, name: str, content: bytes, changed_at: datetime) -> None:
        self.files[name] = (content, changed_at)

    def entra(self) -> dict[str, str]:
        return {
            "tenant_id": "a-tenant",
            "client_id": "an-application",
            "client_secret": AZURE_SECRET,
            "token_url": f"{self.url}/entra/token",
        }

    def google(self) -> dict[str, str]:
        pem = private_key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
        known = {"client_email": SERVICE_ACCOUNT, "private_key": pem, "token_uri": f"{self.url}/google/token"}
        return {"service_account": json.dumps({"type": "service_account", **known})}


@contextmanager
def stores() -> Iterator[Stores]:
    found = Stores()
    thread = threading.Thread(target=found.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        found.server.shutdown()
        found.server.server_close()
        thread.join()


def tag_of(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    stores: Stores

    def log_message(self, *_: Any) -> None:
        pass

    def handle(self) -> None:
        with suppress(ConnectionError):  # who has read enough goes away
            super().handle()

    def date_time_string(self, timestamp: float | None = None) -> str:
        return format_datetime(datetime.now(UTC) + self.stores.off, usegmt=True)

    def do_POST(self) -> None:
        form = {name: values[0] for name, values in parse_qs(self.rfile.read(int(self.headers["content-length"])).decode()).items()}
        if self.path == "/google/token":
            claims = jwt.decode(form["assertion"], private_key().public_key(), ["RS256"], audience=f"{self.stores.url}/google/token")
            assert claims["iss"] == SERVICE_ACCOUNT
        elif (form["client_secret"], form["scope"]) != (AZURE_SECRET, "https://storage.azure.com/.default"):
            self._answer(401, b'{"error": "invalid_client"}')
            return
        self.stores.tokens.append(f"token-{len(self.stores.tokens)}")
        self._answer(200, json.dumps({"access_token": self.stores.tokens[-1], "expires_in": 3600}).encode())

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        self.stores.asked.append(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        bears = self.headers.get("authorization", "").removeprefix("Bearer ") in self.stores.tokens
        if self.stores.refuses is not None:
            status, code = self.stores.refuses
            self._answer(status, f"<Error><Code>{code}</Code><Message>{self.path}</Message></Error>".encode(), **{"x-ms-error-code": code})
        elif parts.path.startswith("/storage/v1/b/"):
            self._google(parts.path.removeprefix("/storage/v1/b/"), query) if bears else self._answer(401, b"{}")
        elif bears or query.get("sig") == parse_qs(SAS)["sig"][0]:
            assert self.headers["x-ms-version"] >= "2017-11-09"
            self._azure(parts.path, query)
        else:
            self._answer(403, b"", **{"x-ms-error-code": "AuthenticationFailed"})

    def _listed(self, query: dict[str, str], mark: str) -> tuple[list[tuple[str, bytes, datetime]], str]:
        names = sorted(name for name in self.stores.files if name.startswith(query.get("prefix", "")))
        begin = int(query.get(mark, "0"))
        page = [(name, *self.stores.files[name]) for name in names[begin : begin + PAGE]]
        return page, str(begin + PAGE) if len(names) > begin + PAGE else ""

    def _azure(self, path: str, query: dict[str, str]) -> None:
        container, _, name = path.removeprefix("/").partition("/")
        if container != "bills":
            self._answer(404, b"", **{"x-ms-error-code": "ContainerNotFound"})
        elif query.get("comp") == "list":
            page, following = self._listed(query, "marker") if self.stores.list_body is None else ([], "")
            blobs = "".join(
                f'<Blob><Name Encoded="true">{quote(one)}</Name><Properties><Last-Modified>{format_datetime(at, usegmt=True)}</Last-Modified>'
                f"<Etag>0x{tag_of(content)}</Etag><Content-Length>{len(content)}</Content-Length></Properties></Blob>"
                if "&" in one
                else f"<Blob><Name>{escape(one)}</Name><Properties><Last-Modified>{format_datetime(at, usegmt=True)}</Last-Modified>"
                f"<Etag>0x{tag_of(content)}</Etag><Content-Length>{len(content)}</Content-Length></Properties></Blob>"
                for one, content, at in page
            )
            body = (
                f'<?xml version="1.0"?><EnumerationResults><Blobs>{blobs}</Blobs><NextMarker>{following}</NextMarker></EnumerationResults>'
            )
            self._answer(200, body.encode() if self.stores.list_body is None else self.stores.list_body)
        else:
            content, _ = self.stores.files[unquote(name)]
            time.sleep(self.stores.slow_s)
            if unquote(name) in self.stores.archived:
                self._answer(409, b"", **{"x-ms-error-code": "BlobArchived"})
            elif self.headers["if-match"] != f'"0x{tag_of(content)}"':
                self._answer(412, b"", **{"x-ms-error-code": "ConditionNotMet"})
            else:
                self._answer(200, content)

    def _google(self, path: str, query: dict[str, str]) -> None:
        bucket, _, name = path.partition("/o")
        if bucket != "bills":
            self._answer(404, b'{"error": {"code": 404}}')
        elif query.get("alt") == "media":
            content, at = self.stores.files[unquote(name.removeprefix("/"))]
            found = query["generation"] == str(int(at.timestamp()))
            # As a store does with what was put there packed and marked so.
            self._answer(200 if found else 404, content, **({"content-encoding": "gzip"} if content[:2] == b"\x1f\x8b" else {}))
        else:
            page, following = self._listed(query, "pageToken")
            items = [
                {"name": one, "size": str(len(content)), "updated": at.isoformat(), "generation": str(int(at.timestamp()))}
                for one, content, at in page
            ]
            self._answer(200, json.dumps({"items": items, **({"nextPageToken": following} if following else {})}).encode())

    def _answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
