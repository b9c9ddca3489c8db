"""AWS Signature Version 4 for one request with a body that is known as a whole. Pure: the moment is an argument.

Source: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html; checked against the vectors of
AWS's own test suite. S3 encodes paths once only, and has the digest of the body as a header of its own (API reference, "Authenticating
Requests: Using the Authorization Header"); its streamed bodies are not made here.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from urllib.parse import parse_qsl, quote, urlsplit

ALGORITHM = "AWS4-HMAC-SHA256"


def sign(
    method: str,
    url: str,
    headers: Mapping[str, str],
    body: bytes,
    *,
    access_key_id: str,
    secret_access_key: str,
    session_token: str,
    region: str,
    service: str,
    at: datetime,
) -> dict[str, str]:
    """The headers to add to the request. All of `headers` (lower-case names) are signed, and so is the host.

    `url` as it goes over the wire: its path is encoded once more for signing, as every service but S3 demands. `at` is aware UTC.
    """
    parts = urlsplit(url)
    moment, digest = at.strftime("%Y%m%dT%H%M%SZ"), hashlib.sha256(body).hexdigest()
    added = {"x-amz-date": moment}
    path = parts.path or "/"
    if service == "s3":
        added["x-amz-content-sha256"] = digest
    else:
        path = quote(path, safe="/-_.~")
    if session_token:
        added["x-amz-security-token"] = session_token
    default_port = ":443" if parts.scheme == "https" else ":80"
    signed = {**headers, **added, "host": parts.netloc.removesuffix(default_port)}  # as clients name it
    names = sorted(signed)
    canonical = "\n".join([
        method,
        path,
        _query(parts.query),
        *(f"{name}:{' '.join(signed[name].split())}" for name in names),
        "",
        ";".join(names),
        digest,
    ])  # fmt: skip
    scope = f"{moment[:8]}/{region}/{service}/aws4_request"
    to_sign = "\n".join([ALGORITHM, moment, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    signature = hmac.new(_key(secret_access_key, moment[:8], region, service), to_sign.encode(), hashlib.sha256).hexdigest()
    added["authorization"] = f"{ALGORITHM} Credential={access_key_id}/{scope}, SignedHeaders={';'.join(names)}, Signature={signature}"
    return added


def _query(query: str) -> str:
    pairs = [(quote(name, safe="-_.~"), quote(value, safe="-_.~")) for name, value in parse_qsl(query, keep_blank_values=True)]
    return "&".join(f"{name}={value}" for name, value in sorted(pairs))


@lru_cache(maxsize=256)
def _key(secret_access_key: str, day: str, region: str, service: str) -> bytes:
    """Of one day, so that a call costs one HMAC instead of five."""
    key = f"AWS4{secret_access_key}".encode()
    for part in (day, region, service, "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return key
