"""Azure, Vertex AI and Bedrock as a server in the test's own process: they check proofs as the real ones do, and answer as the sandbox.

Nothing of ours is used to check: signatures of requests are worked out here a second time, assertions are read by PyJWT.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import metadata
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit
from zlib import crc32

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from gateway.contract.credentials import AwsKeys, EntraId, ServiceAccount
from gateway.sandbox.surfaces import SURFACES, Rendered

AZURE_KEY = "azure-k3y"
API_VERSION = "2024-10-21"
PLACE = "/v1/projects/acme/locations/europe-west4"
REGION = "eu-central-1"
SERVICE_ACCOUNT = "gatehouse@acme.iam.gserviceaccount.com"
AWS = AwsKeys("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "a-session-token")
BEDROCK_KEY = "bedrock-api-k3y"


@cache
def _version_of_its_client() -> str:
    """What Anthropic's own client sends, read where it stands: its import takes four seconds of the processor."""
    [source] = [file for file in metadata.files("anthropic") or [] if file.as_posix() == "anthropic/_constants.py"]
    [version] = re.findall(r'^ANTHROPIC_API_VERSION\b.*"(.+)"$', source.read_text(), re.MULTILINE)
    return str(version)


def versions(own: str) -> tuple[str, str]:
    """What a cloud takes as the version of Anthropic's API: what its documentation says, and what Anthropic's own client sends."""
    return own, _version_of_its_client()


@cache
def private_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def frame(payload: bytes, **headers: str) -> bytes:
    """One message of Amazon's event stream."""
    head = b""
    for name, value in headers.items():
        label = f":{name.replace('_', '-')}".encode()
        head += bytes([len(label)]) + label + b"\x07" + struct.pack(">H", len(value)) + value.encode()
    prelude = struct.pack(">II", 12 + len(head) + len(payload) + 4, len(head))
    whole = prelude + struct.pack(">I", crc32(prelude)) + head + payload
    return whole + struct.pack(">I", crc32(whole))


def chunk(event: bytes) -> bytes:
    """An event of a message as Bedrock sends it."""
    payload = json.dumps({"bytes": base64.b64encode(event).decode(), "p": "abcdefgh"}).encode()
    return frame(payload, event_type="chunk", content_type="application/json", message_type="event")


class Refused(Exception):
    """What the platform answers instead."""

    def __init__(self, status: int, body: Any, **headers: str) -> None:
        super().__init__(status)
        self.status, self.body, self.headers = status, body, headers


class Clouds:
    """The server, what it was asked, and the tokens that it has given out."""

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        """Of the calls that were taken: path, headers and body."""
        self.tokens: dict[str, list[str]] = {"entra": [], "google": []}
        self.token_life_s = 3600
        handler = type("Handler", (_Handler,), {"clouds": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def entra(self, secret: str = "entra-s3cret") -> EntraId:
        return EntraId("11111111-2222-3333-4444-555555555555", "an-application", secret, f"{self.url}/entra/token")

    def service_account(self) -> ServiceAccount:
        pem = private_key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
        return ServiceAccount(SERVICE_ACCOUNT, pem, "kid-1", f"{self.url}/google/token", "acme")

    def service_account_file(self) -> str:
        account = self.service_account()
        known = ("client_email", "private_key", "private_key_id", "token_uri", "project_id")
        return json.dumps({"type": "service_account", "universe_domain": "x", **{name: getattr(account, name) for name in known}})

    def asked(self, request_id: str) -> dict[str, Any]:
        [found] = [each for each in self.requests if each["headers"].get("x-request-id") == request_id]
        return found


@contextmanager
def running() -> Iterator[Clouds]:
    clouds = Clouds()
    thread = threading.Thread(target=clouds.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield clouds
    finally:
        clouds.server.shutdown()
        clouds.server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    clouds: Clouds

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._serve(b"")

    def do_POST(self) -> None:
        self._serve(self.rfile.read(int(self.headers["content-length"])))

    def _serve(self, raw: bytes) -> None:
        self.found = {name.lower(): value for name, value in self.headers.items()}
        parts = urlsplit(self.path)
        self.query = parse_qs(parts.query)
        try:
            if parts.path.startswith("/entra/"):
                self._json(200, self._entra(raw))
            elif parts.path == "/google/token":
                self._json(200, self._google(raw))
            elif parts.path.startswith("/azure/"):
                self._azure(parts.path.removeprefix("/azure"), raw)
            elif parts.path.startswith(("/v1/projects/", "/v1beta1/")):
                self._vertex(parts.path, raw)
            else:
                self._bedrock(parts.path, raw)
        except Refused as refused:
            self._json(refused.status, refused.body, **refused.headers)

    # Tokens

    def _token(self, of: str) -> dict[str, Any]:
        tokens = self.clouds.tokens[of]
        tokens.append(f"{of}-token-{len(tokens)}")
        return {"access_token": tokens[-1], "expires_in": self.clouds.token_life_s, "token_type": "Bearer"}

    def _entra(self, raw: bytes) -> dict[str, Any]:
        form = {name: values[0] for name, values in parse_qs(raw.decode()).items()}
        expected = {
            "grant_type": "client_credentials", "client_id": "an-application", "client_secret": "entra-s3cret",
            "scope": "https://cognitiveservices.azure.com/.default",
        }  # fmt: skip
        if form != expected:
            raise Refused(401, {"error": "invalid_client", "error_description": f"AADSTS7000215: Invalid client secret {form}"})
        return self._token("entra")

    def _google(self, raw: bytes) -> dict[str, Any]:
        form = {name: values[0] for name, values in parse_qs(raw.decode()).items()}
        assert form["grant_type"] == "urn:ietf:params:oauth:grant-type:jwt-bearer"
        assert jwt.get_unverified_header(form["assertion"]) == {"alg": "RS256", "typ": "JWT", "kid": "kid-1"}
        claims = jwt.decode(form["assertion"], private_key().public_key(), ["RS256"], audience=f"{self.clouds.url}/google/token")
        assert (claims["iss"], claims["exp"] - claims["iat"]) == (SERVICE_ACCOUNT, 3600)
        assert claims["scope"] == "https://www.googleapis.com/auth/cloud-platform"
        return self._token("google")

    def _bears(self, of: str) -> bool:
        return self.found.get("authorization", "").removeprefix("Bearer ") in self.clouds.tokens[of]

    # Platforms

    def _azure(self, path: str, raw: bytes) -> None:
        if self.found.get("api-key" if path.startswith("/openai") else "x-api-key") != AZURE_KEY and not self._bears("entra"):
            raise Refused(401, {"error": {"code": "401", "message": f"Access denied due to invalid credentials {self.found}."}})
        deployment = re.fullmatch(r"/openai/deployments/([^/]+)/(.+)", path)
        if deployment:
            operation, name = deployment[2], unquote(deployment[1])
        else:
            operation = re.sub(r"^/(openai|anthropic)/v1/", "", path).removeprefix("/openai/")
            name = json.loads(raw)["model"] if raw else ""
        if self.query.get("api-version", [""])[0] != (API_VERSION if "/v1/" not in path else ""):
            raise Refused(404, {"error": {"code": "404", "message": "Resource not found"}})
        if operation == "models":
            self._json(200, {"data": [{"id": "gpt-4.1-mini"}, {"id": "gpt-5"}], "object": "list"})
            return
        if name == "reasoning" and "max_tokens" in json.loads(raw):
            said = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
            raise Refused(400, {"error": {"message": said, "type": "invalid_request_error", "param": "max_tokens", "code": None}})
        if name == "filtered":
            inner = {"code": "ResponsibleAIPolicyViolation", "content_filter_result": {"violence": {"filtered": True, "severity": "high"}}}
            raise Refused(
                400, {"error": {"message": "The response was filtered", "type": None, "code": "content_filter", "innererror": inner}}
            )
        prefix = b""
        if operation == "chat/completions":
            results = [{"prompt_index": 0, "content_filter_results": {"hate": {"filtered": False, "severity": "safe"}}}]
            first = {"choices": [], "created": 0, "id": "", "model": "", "object": "", "prompt_filter_results": results}
            prefix = b"data: " + json.dumps(first).encode() + b"\n\n"
        if operation == "embeddings":
            data = [{"object": "embedding", "index": 0, "embedding": [0.5]}]
            self._note(raw)
            self._json(200, {"object": "list", "data": data, "model": name, "usage": {"prompt_tokens": 7, "total_tokens": 7}})
            return
        self._answer(operation, json.loads(raw), raw, prefix)

    def _vertex(self, path: str, raw: bytes) -> None:
        if not self._bears("google"):
            raise Refused(401, {"error": {"code": 401, "message": "Request had invalid credentials.", "status": "UNAUTHENTICATED"}})
        if path.startswith("/v1beta1/publishers/"):
            publisher = path.split("/")[3]
            self._json(200, {"publisherModels": [{"name": f"publishers/{publisher}/models/first"}]})
            return
        request = json.loads(raw)
        act = re.fullmatch(rf"{PLACE}/publishers/anthropic/models/([^/:]+):(rawPredict|streamRawPredict)", path)
        if act is None and path != f"{PLACE}/endpoints/openapi/chat/completions":
            raise Refused(404, {"error": {"code": 404, "message": "Not found.", "status": "NOT_FOUND"}})
        if act is None:
            if request["model"] == "google/throttled":
                error = {"code": 429, "message": "Resource exhausted.", "status": "RESOURCE_EXHAUSTED"}
                raise Refused(429, [{"error": error}])
            self._answer("chat/completions", request, raw)
            return
        if request.pop("anthropic_version") not in versions("vertex-2023-10-16"):
            raise Refused(400, {"error": {"code": 400, "message": "anthropic_version", "status": "INVALID_ARGUMENT"}})
        if act[1] == "count-tokens":
            self._count(request, raw)
            return
        if "model" in request or request.get("stream", False) != (act[2] == "streamRawPredict"):
            raise Refused(400, {"type": "error", "error": {"type": "invalid_request_error", "message": "Extra inputs are not permitted"}})
        if act[1] == "throttled":
            raise Refused(429, {"error": {"code": 429, "message": "Quota exceeded.", "status": "RESOURCE_EXHAUSTED"}})
        self._answer("messages", {**request, "model": act[1]}, raw)

    def _bedrock(self, path: str, raw: bytes) -> None:
        if self.found.get("authorization") != f"Bearer {BEDROCK_KEY}":
            self._check_signature(path, raw)
        if path == "/foundation-models":
            self._json(200, {"modelSummaries": [{"modelId": "anthropic.claude-x-v1:0"}, {"modelId": "openai.gpt-oss-120b-1:0"}]})
            return
        request = json.loads(raw)
        if path == "/openai/v1/chat/completions":
            self._answer("chat/completions", request, raw)
            return
        act = re.fullmatch(r"/model/([^/]+)/(invoke|invoke-with-response-stream|count-tokens)", path)
        if act is None:
            raise Refused(404, {"message": "unknown"}, **{"x-amzn-errortype": "UnknownOperationException"})
        model = unquote(act[1])
        if act[2] == "count-tokens":
            request = json.loads(base64.b64decode(request["input"]["invokeModel"]["body"]))
        if (
            {"model", "stream"} & request.keys()
            or request.pop("anthropic_version") not in versions("bedrock-2023-05-31")
            or not request["max_tokens"]
        ):
            raise Refused(400, {"message": "Malformed input request"}, **{"x-amzn-errortype": "ValidationException:http://internal/"})
        if model == "throttled":
            raise Refused(429, {"message": "Too many requests."}, **{"x-amzn-errortype": "ThrottlingException"})
        if act[2] == "count-tokens":
            self._note(raw)
            self._json(200, {"inputTokens": SURFACES["/v1/messages"]({**request, "model": model}).input_tokens})
            return
        rendered = SURFACES["/v1/messages"]({**request, "model": model})
        self._note(raw, rendered)
        if act[2] == "invoke":
            self._json(200, rendered.whole)
            return
        frames = [chunk(event.partition(b"data: ")[2].strip()) for event in rendered.events]
        if model == "failing":
            frames[3:] = [frame(b'{"message":"Model is overloaded."}', exception_type="throttlingException", message_type="exception")]
        if model == "damaged":
            frames[3] = frames[3][:-9] + b"#" + frames[3][-8:]
        self._stream("application/vnd.amazon.eventstream", frames)

    def _check_signature(self, path: str, raw: bytes) -> None:
        """As AWS does, from what came over the wire."""
        refused = Refused(403, {"message": "The request signature does not match."}, **{"x-amzn-errortype": "InvalidSignatureException"})
        given = re.fullmatch(
            r"AWS4-HMAC-SHA256 Credential=([^/]+)/(\d{8})/([^/]+)/bedrock/aws4_request, SignedHeaders=([^,]+), Signature=(\w+)",
            self.found.get("authorization", ""),
        )
        if given is None or (given[1], given[3]) != (AWS.access_key_id, REGION):
            raise refused
        names = given[4].split(";")
        if not {"host", "x-amz-date", "x-amz-security-token"} <= set(names) or self.found["x-amz-security-token"] != AWS.session_token:
            raise refused
        lines = [self.command, quote(path), urlsplit(self.path).query, *(f"{name}:{self.found[name].strip()}" for name in names)]
        canonical = "\n".join([*lines, "", given[4], hashlib.sha256(raw).hexdigest()])
        key = b"AWS4" + AWS.secret_access_key.encode()
        for part in (given[2], REGION, "bedrock", "aws4_request"):
            key = hmac.digest(key, part.encode(), "sha256")
        scope = f"{given[2]}/{REGION}/bedrock/aws4_request"
        to_sign = f"AWS4-HMAC-SHA256\n{self.found['x-amz-date']}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
        if hmac.digest(key, to_sign.encode(), "sha256").hex() != given[5]:
            raise refused

    # Answers

    def _note(self, raw: bytes, rendered: Rendered | None = None) -> None:
        self.clouds.requests.append({"path": self.path, "headers": self.found, "body": json.loads(raw), "rendered": rendered})

    def _count(self, request: dict[str, Any], raw: bytes) -> None:
        self._note(raw)
        self._json(200, {"input_tokens": SURFACES["/v1/messages"]({"max_tokens": 1, **request}).input_tokens})

    def _answer(self, operation: str, request: dict[str, Any], raw: bytes, prefix: bytes = b"") -> None:
        if operation == "messages/count_tokens":
            self._count(request, raw)
            return
        rendered = SURFACES[f"/v1/{operation}"](request)
        self._note(raw, rendered)
        if request.get("stream"):
            self._stream("text/event-stream; charset=utf-8", [prefix, *rendered.events] if prefix else rendered.events)
        else:
            self._json(200, rendered.whole)

    def _json(self, status: int, body: Any, **headers: str) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"content-type": "application/json", "content-length": str(len(data)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def _stream(self, content_type: str, pieces: list[bytes]) -> None:
        self.send_response(200)
        self.send_header("content-type", content_type)
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        whole = b"".join(pieces)
        for at in range(0, len(whole), 777):  # cut where no event and no frame ends
            piece = whole[at : at + 777]
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        self.wfile.write(b"0\r\n\r\n")
