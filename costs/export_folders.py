"""Folders that clouds deliver FOCUS exports to, in a bucket or container: listed page by page, and copied file by file.

Three stores speak one language in three accents: a list below a prefix, with a mark for the next page, and a GET of each object as it was
when it was listed. Sources: the references of Amazon S3 (ListObjectsV2, GetObject; also spoken by MinIO, Ceph, R2 and others), of Azure
Blob Storage (List Blobs, Get Blob) and of the JSON API of Google Cloud Storage (Objects: list, get). Reads only.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, BinaryIO
from urllib.parse import parse_qs, quote, unquote, unquote_plus, urlencode
from xml.etree import ElementTree

import httpx2

from gateway.contract import sigv4
from gateway.contract.credentials import AwsKeys, Credential, CredentialError, EntraId, Key, ServiceAccount
from gateway.contract.outbound import OutboundError
from governance.http import ResponseRefusedError, fetch_token, guarded_client

MOST_PAGES = 50
"""Of a list, some 50,000 files: a prefix that has more holds other things than exports."""
PAGE = 1000
LIST_TIMEOUT_S = 30.0
COPY_TIMEOUT_S = 60.0
LONGEST_S = 300.0
"""For all that one reading asks for, so that a slow store, or one that sends a byte now and then, holds nobody up for longer."""
SKEW = timedelta(minutes=5)
"""What stores allow a clock to be off by, or less."""
_RENEW = timedelta(minutes=5)
_ERROR_BYTES = 64 * 1024
AZURE_VERSION = "2021-08-06"


class ExportFolderFailure(RuntimeError):  # the domain's error of it is `costs.errors.CostApiError`
    """The store did not give what was asked for; the text is for people, says what to do, and names no secret."""


@dataclass(frozen=True)
class Place:
    """Where a folder is."""

    kind: str
    """Of STORES."""
    base_url: str
    """Of the store, without the bucket."""
    bucket: str
    """Or container."""
    prefix: str
    region: str
    """Of S3: what signatures name."""


@dataclass(frozen=True)
class StoredObject:
    """One object as it was listed."""

    name: str
    """Whole, with the prefix."""
    tag: str
    """Its content's ETag, or the generation of Google."""
    size_bytes: int
    changed_at: datetime

    @property
    def version(self) -> str:
        """Another one: another content."""
        return f"{self.tag} {self.size_bytes}"


@dataclass(frozen=True)
class Store:
    """How one kind of store is asked."""

    title: str
    list_url: Callable[[Place, str], str]
    """Of one page, by the mark that the page before gave; empty for the first."""
    entries: Callable[[bytes], tuple[list[StoredObject], str]]
    """The objects of a page, and the mark of the next. ValueError, KeyError or TypeError when it is none."""
    object_url: Callable[[Place, StoredObject], str]
    matching: Callable[[StoredObject], dict[str, str]]
    """Headers that ask for the object as it was listed, else 412."""
    headers: dict[str, str]
    may_list: str
    """What allows to list; said where it is missing."""
    may_read: str


class _Builder(ElementTree.TreeBuilder):
    """Without document types: what has none has no entities either."""

    def doctype(self, *_: Any) -> None:
        raise ValueError("a document type")


def _tree(body: bytes) -> ElementTree.Element:
    """The root, with names as they are without namespaces. ValueError when it is no XML, or has a document type."""
    try:
        root = ElementTree.fromstring(body, ElementTree.XMLParser(target=_Builder()))  # noqa: S314  # see _Builder
    except ElementTree.ParseError as error:
        raise ValueError("no XML") from error
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    return root


def _text(element: ElementTree.Element, path: str) -> str:
    found = element.findtext(path)
    if found is None:
        raise ValueError(f"without {path}")
    return found


def _moment(found: datetime) -> datetime:
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _path(name: str) -> str:
    """A name as the path of a URL. ExportFolderFailure for one that means another path there."""
    if {".", ".."} & set(name.split("/")):
        raise ExportFolderFailure("A name with . or .. between slashes cannot be fetched: rename it.")
    return quote(name, safe="/-_.~")


def _query(*pairs: tuple[str, str]) -> str:
    return urlencode([pair for pair in pairs if pair[1]], quote_via=quote)


def _s3_list(place: Place, mark: str) -> str:
    query = _query(
        ("continuation-token", mark), ("encoding-type", "url"), ("list-type", "2"), ("max-keys", str(PAGE)), ("prefix", place.prefix)
    )
    return f"{place.base_url}/{place.bucket}?{query}"


def _s3_entries(body: bytes) -> tuple[list[StoredObject], str]:
    root = _tree(body)
    is_encoded = root.findtext("EncodingType") == "url"  # was asked for; not every host that speaks S3 does so
    found = [
        StoredObject(
            unquote_plus(_text(one, "Key")) if is_encoded else _text(one, "Key"),
            _text(one, "ETag").strip('"'),
            int(_text(one, "Size")),
            _moment(datetime.fromisoformat(_text(one, "LastModified"))),
        )
        for one in root.findall("Contents")
    ]
    return found, _text(root, "NextContinuationToken") if _text(root, "IsTruncated") == "true" else ""


def _azure_list(place: Place, mark: str) -> str:
    query = _query(("comp", "list"), ("marker", mark), ("maxresults", str(PAGE)), ("prefix", place.prefix), ("restype", "container"))
    return f"{place.base_url}/{place.bucket}?{query}"


def _azure_entries(body: bytes) -> tuple[list[StoredObject], str]:
    root = _tree(body)
    found = []
    for one in root.findall("Blobs/Blob"):
        name = one.find("Name")
        is_encoded = name is not None and name.get("Encoded") == "true"  # what XML cannot say
        found.append(
            StoredObject(
                unquote(_text(one, "Name")) if is_encoded else _text(one, "Name"),
                _text(one, "Properties/Etag").strip('"'),
                int(_text(one, "Properties/Content-Length")),
                _moment(parsedate_to_datetime(_text(one, "Properties/Last-Modified"))),
            )
        )
    return found, root.findtext("NextMarker") or ""


def _gcs_list(place: Place, mark: str) -> str:
    fields = "nextPageToken,items(name,size,updated,generation)"
    query = _query(("fields", fields), ("maxResults", str(PAGE)), ("pageToken", mark), ("prefix", place.prefix))
    return f"{place.base_url}/storage/v1/b/{place.bucket}/o?{query}"


def _gcs_entries(body: bytes) -> tuple[list[StoredObject], str]:
    page = json.loads(body)
    found = [
        StoredObject(one["name"], str(one["generation"]), int(one["size"]), _moment(datetime.fromisoformat(one["updated"])))
        for one in page.get("items", [])
    ]
    return found, str(page.get("nextPageToken", ""))


def _if_match(found: StoredObject) -> dict[str, str]:
    return {"if-match": f'"{found.tag}"'}


STORES = {
    "s3": Store(
        "S3 bucket",
        _s3_list,
        _s3_entries,
        lambda place, found: f"{place.base_url}/{place.bucket}/{_path(found.name)}",
        _if_match,
        {},
        "the right s3:ListBucket on the bucket",
        "the right s3:GetObject on its objects (and kms:Decrypt where a KMS key encrypts them)",
    ),
    "azure_blob": Store(
        "Azure Blob container",
        _azure_list,
        _azure_entries,
        lambda place, found: f"{place.base_url}/{place.bucket}/{_path(found.name)}",
        _if_match,
        {"x-ms-version": AZURE_VERSION},
        "List: sp=rl in the SAS token of the container, or the role Storage Blob Data Reader for the application",
        "Read: sp=rl in the SAS token of the container, or the role Storage Blob Data Reader for the application",
    ),
    "gcs": Store(
        "Google Cloud Storage bucket",
        _gcs_list,
        _gcs_entries,
        lambda place, found: (
            f"{place.base_url}/storage/v1/b/{place.bucket}/o/{quote(found.name, safe='')}?alt=media&generation={quote(found.tag, safe='')}"
        ),
        lambda _: {},
        {},
        "storage.objects.list (the role Storage Object Viewer) on the bucket",
        "storage.objects.get (the role Storage Object Viewer) on the bucket",
    ),
}


class Folder:
    """One reading of a folder, which is over `total_s` from now on: what it asks for later fails."""

    def __init__(self, place: Place, credential: Credential, total_s: float = LONGEST_S) -> None:
        self._total_s, self._until = total_s, time.monotonic() + total_s
        self._place, self._credential, self._store = place, credential, STORES[place.kind]
        self._token, self._token_until = "", datetime.min.replace(tzinfo=UTC)

    @property
    def left_s(self) -> float:
        """Of its time; below zero when that is over."""
        return self._until - time.monotonic()

    def listed(self) -> list[StoredObject]:
        """All that lies below the prefix. ExportFolderFailure when a page of it is not there."""
        mark, found = "", list[StoredObject]()
        for _ in range(MOST_PAGES):
            with self._answer(self._store.list_url(self._place, mark), {}, self._store.may_list) as response:
                body = response.read()
            try:
                objects, following = self._store.entries(body)
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise ExportFolderFailure("The list has another form than the reference says. Is this the address of the store?") from error
            found += objects
            if not following:
                return found
            if following == mark:
                raise ExportFolderFailure("There is more in the list, but no next page.")
            mark = following
        raise ExportFolderFailure(f"More than {MOST_PAGES * PAGE:,} files lie there. Give a longer prefix.")

    def copy(self, found: StoredObject, into: BinaryIO, most_bytes: int) -> None:
        """Write the object as it was listed. ExportFolderFailure, also when it is another one by now."""
        url, size = self._store.object_url(self._place, found), 0
        with self._answer(url, self._store.matching(found), self._store.may_read, most_bytes) as response:
            for chunk in response.iter_raw():
                into.write(chunk)
                size += len(chunk)
        if size != found.size_bytes:
            raise ExportFolderFailure(f"{size:,} bytes came instead of {found.size_bytes:,}.")

    @contextmanager
    def _answer(self, url: str, headers: dict[str, str], right: str, most_bytes: int | None = None) -> Iterator[httpx2.Response]:
        """An answer with status 200, to be read within: that of a list, or with `most_bytes` a file, raw. `right` is said where the store refuses."""
        caps: dict[str, Any] = {"timeout_s": LIST_TIMEOUT_S}
        if most_bytes is not None:
            caps = {"timeout_s": COPY_TIMEOUT_S, "max_bytes": most_bytes, "is_raw": True}
        over = f"It takes more than {self._total_s:,.0f} seconds in all: the store is slow, or has very much."
        try:
            if self.left_s <= 0:
                raise ExportFolderFailure(over)
            url, proof = self._proved(url, {**self._store.headers, **headers})
            with guarded_client(total_s=self.left_s, **caps) as client, client.stream("GET", url, headers=proof) as response:
                if response.status_code != 200:
                    raise ExportFolderFailure(_why(response, right, self._credential))
                yield response
        except OutboundError as error:
            raise ExportFolderFailure(f"The address may not be called: {str(error).rstrip('.')}.") from error
        except CredentialError as error:
            raise ExportFolderFailure(f"No access token: {str(error).rstrip('.')}.") from error
        except ResponseRefusedError as error:
            raise ExportFolderFailure(f"Not read on: {error}.") from error
        except httpx2.HTTPError as error:
            if self.left_s <= 0:
                raise ExportFolderFailure(over) from error
            raise ExportFolderFailure(f"No answer: {type(error).__name__}. Check the address; the next reading tries again.") from error

    def _proved(self, url: str, headers: dict[str, str]) -> tuple[str, dict[str, str]]:
        now, credential = datetime.now(UTC), self._credential
        if isinstance(credential, AwsKeys):
            return url, headers | sigv4.sign(
                "GET", url, headers, b"",
                access_key_id=credential.access_key_id, secret_access_key=credential.secret_access_key,
                session_token=credential.session_token, region=self._place.region, service="s3", at=now,
            )  # fmt: skip
        if isinstance(credential, EntraId | ServiceAccount):
            if now >= self._token_until:
                token = fetch_token(credential)
                self._token, self._token_until = token.value, now + timedelta(seconds=min(token.expires_in_s, 86_400)) - _RENEW
            return url, {**headers, "authorization": f"Bearer {self._token}"}
        return f"{url}{'&' if '?' in url else '?'}{credential.secret}", headers


def shared_access(text: str) -> str:
    """The SAS token in what people paste: the token, with its question mark or with the whole URL before it. CredentialError when it is none."""
    token = text.strip().rpartition("?")[2]
    said = parse_qs(token)
    if not {"sig", "sv"} <= set(said) or not re.fullmatch(r"[\x21-\x7e]+", token):
        raise CredentialError("This is no SAS token: one has sv=… and sig=….", "key")
    return token


_SECRET_IS_WRONG = "Refused: the secret access key does not belong to this access key ID. Enter both again."  # noqa: S105 - a text
_BUCKET_IS_MISSING = "The bucket or container is not there (404). Correct its name, its region or the address."
_WHY = {
    "InvalidAccessKeyId": "Refused: the store does not know the access key ID. It was deleted, or is of another account.",
    "SignatureDoesNotMatch": _SECRET_IS_WRONG,
    "ExpiredToken": "Refused: the session token has ended. Give a new one, or keys that do not end.",
    "InvalidToken": "Refused: the session token is not accepted. Give a new one, or keys that do not end.",
    "NoSuchBucket": _BUCKET_IS_MISSING,
    "ContainerNotFound": _BUCKET_IS_MISSING,
    "InvalidObjectState": "It is in an archive class: restore it there first.",
    "BlobArchived": "It is in the archive tier: rehydrate it there first.",
    "AuthorizationFailure": "Refused: the SAS token is not for this container, or the storage account's firewall keeps this server out.",
    "AuthorizationSourceIPMismatch": "Refused: the SAS token is not for this server's address (sip).",
    "AuthorizationProtocolMismatch": "Refused: the SAS token is not for this protocol (spr).",
    "AuthorizationResourceTypeMismatch": "Refused: the SAS token is for other resources. It has to be of the container (sr=c), or of the account with srt=co.",
    "AuthorizationServiceMismatch": "Refused: the SAS token is not for blobs (ss=b).",
}
"""By the store's own code; others are told by their status."""
_REGION = ("AuthorizationHeaderMalformed", "PermanentRedirect", "TemporaryRedirect", "IllegalLocationConstraintException")


def _why(response: httpx2.Response, right: str, credential: Credential) -> str:
    """What the store's no means. Of what it says only the code is used: the rest may quote what was sent."""
    status, body = response.status_code, b""
    for chunk in response.iter_raw():
        body += chunk
        if len(body) > _ERROR_BYTES:
            break
    code, region = _code(response, body)
    now = datetime.now(UTC)
    if status in (400, 401, 403):
        ahead = now - _said_at(response, now)
        if abs(ahead) > SKEW or code == "RequestTimeTooSkewed":
            minutes, way = round(abs(ahead).total_seconds() / 60), "fast" if ahead > timedelta() else "slow"
            return f"Refused ({status}): the clock of this server is {minutes:,} minutes {way} by the store's. Set it right (NTP)."
        if isinstance(credential, Key) and (ended := _end_of(credential.secret)) is not None and ended < now:
            return f"Refused ({status}): the SAS token ended on {ended:%Y-%m-%d %H:%M} UTC. Give a new one."
    if code in _REGION or (status == 301 and region):
        where = f": {region}" if region else ". Correct it"
        return f"The bucket is in another region than was given{where}."
    if code in _WHY:
        return _WHY[code]
    return _by_status(status, code, right)


def _by_status(status: int, code: str, right: str) -> str:
    tail = f" ({status}{f', {code}' if code else ''})"
    if status == 401 or code == "AuthenticationFailed":
        return f"Refused{tail}: the credential is not accepted. Enter it again, as a whole."
    if status == 403:
        return f"Refused{tail}: what is missing is {right}."
    if status == 404:
        return f"Not found{tail}: the bucket, or the file since it was listed. Correct the name of the bucket."
    if status == 412:
        return "It was written anew while it was read. The next reading takes it."
    if 300 <= status < 400:
        return f"It redirects{tail}; redirects are not followed. Give the store's own address and the bucket's region."
    if status == 429 or status >= 500:
        return f"The store is busy or ill{tail}. The next reading tries again."
    return f"The store answered{tail}."


def _code(response: httpx2.Response, body: bytes) -> tuple[str, str]:
    """The store's own code for what is wrong, and the region that it names; each may be empty."""
    code, region = response.headers.get("x-ms-error-code", ""), response.headers.get("x-amz-bucket-region", "")
    if not code or not region:
        try:
            root = _tree(body)
            code, region = code or root.findtext("Code") or "", region or root.findtext("Region") or ""
        except ValueError:  # no error of S3 or Azure: the status says it
            pass
    return (code if re.fullmatch(r"[A-Za-z]{1,60}", code) else ""), (region if re.fullmatch(r"[a-z0-9-]{1,32}", region) else "")


def _said_at(response: httpx2.Response, now: datetime) -> datetime:
    """The store's time; ours where it says none."""
    try:
        return _moment(parsedate_to_datetime(response.headers.get("date", "")))
    except (ValueError, TypeError):
        return now


def _end_of(token: str) -> datetime | None:
    """When a SAS token ends; None where a policy of the container says it."""
    try:
        return _moment(datetime.fromisoformat(parse_qs(token)["se"][0]))
    except (KeyError, ValueError):
        return None
