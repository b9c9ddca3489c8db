"""What each kind of provider is: which protocols it speaks, which credentials it takes, and where it is. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from catalog.errors import InvalidValueError
from gateway.contract.platforms import Platform

_REGION = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
_PROJECT = re.compile(r"[a-z0-9][a-z0-9:.-]{0,99}")
_LOCATION = re.compile(r"/locations/([^/]+)")
_BEDROCK_HOST = re.compile(r"bedrock(?:-runtime|-mantle)?(?:-fips)?\.([a-z0-9-]+)\.(?:amazonaws\.com(?:\.cn)?|api\.aws)")


@dataclass(frozen=True)
class Offer:
    """One kind of provider; of several protocols or credentials the first is the usual one."""

    platform: Platform
    dialects: tuple[str, ...]
    credentials: tuple[str, ...]
    docs: str = ""
    """Where the company says how to get a credential."""
    base_url: str = ""
    """Where it is, or an example of it."""


OFFERS: dict[str, Offer] = {
    "openai": Offer("direct", ("openai",), ("key",), "https://platform.openai.com/api-keys", "https://api.openai.com/v1"),
    "anthropic": Offer("direct", ("anthropic",), ("key",), "https://platform.claude.com/settings/keys", "https://api.anthropic.com/v1"),
    "azure_openai": Offer(
        "azure",
        ("openai", "anthropic"),
        ("key", "entra_id"),
        "https://learn.microsoft.com/azure/ai-foundry/openai/how-to/managed-identity",
        "https://<resource>.openai.azure.com",
    ),
    "vertex_ai": Offer(
        "vertex",
        ("openai", "anthropic"),
        ("service_account",),
        "https://cloud.google.com/iam/docs/keys-create-delete",
        "https://europe-west4-aiplatform.googleapis.com",
    ),
    "bedrock": Offer(
        "bedrock",
        ("anthropic", "openai"),
        ("aws_keys", "key"),
        "https://docs.aws.amazon.com/bedrock/latest/userguide/security-iam.html",
        "https://bedrock-runtime.eu-central-1.amazonaws.com",
    ),
    "openai_compatible": Offer("direct", ("openai", "anthropic"), ("key",), "", "https://models.example.com/v1"),
}


def platform_of(kind: str) -> Platform:
    return OFFERS[kind].platform


def completed_url(kind: str, base_url: str, *, dialect: str, region: str, project: str, api_version: str) -> str:
    """The base URL as calls need it, made or completed of what the kind lets one leave out.

    Raises InvalidValueError with the field that is missing or wrong.
    """
    base_url = base_url.strip().rstrip("/")
    platform = OFFERS[kind].platform
    if platform == "vertex":
        return _vertex(base_url, region, project)
    if platform == "bedrock":
        return _bedrock(base_url, region)
    if not base_url:
        raise InvalidValueError("Say where it is.", field="base_url")
    return _azure(base_url, dialect, api_version) if platform == "azure" else base_url


def _azure(base_url: str, dialect: str, api_version: str) -> str:
    root = "/anthropic" if dialect == "anthropic" else "/openai"
    if not urlsplit(base_url).path:
        base_url += root
    if base_url.endswith(root) and not api_version:
        base_url += "/v1"
    if base_url.endswith("/v1") and api_version[:1].isdigit():
        raise InvalidValueError("The v1 API has no dated versions: leave this empty, or /v1 out of the URL.", field="api_version")
    if not api_version and not base_url.endswith("/v1"):
        raise InvalidValueError("Without an API version the URL must end in /v1.", field="api_version")
    return base_url


def _vertex(base_url: str, region: str, project: str) -> str:
    base_url = base_url.removesuffix("/endpoints/openapi")  # as the OpenAI library is given it
    if urlsplit(base_url).path == "/v1":  # as Anthropic's is
        base_url = base_url.removesuffix("/v1")
    if path := urlsplit(base_url).path:
        located = _LOCATION.search(path)
        if located and region and located[1] != region:
            raise InvalidValueError(f"The URL is in {located[1]}, not in this region.", field="region")
        return base_url
    if not _REGION.fullmatch(region):
        raise InvalidValueError("Say in which region it computes, for example europe-west4 or global.", field="region")
    if not _PROJECT.fullmatch(project):
        raise InvalidValueError("Say which project pays, by its id.", field="project")
    if not base_url:
        host = {
            "global": "aiplatform.googleapis.com",
            "us": "aiplatform.us.rep.googleapis.com",
            "eu": "aiplatform.eu.rep.googleapis.com",
        }.get(region, f"{region}-aiplatform.googleapis.com")
        base_url = f"https://{host}"
    return f"{base_url}/v1/projects/{project}/locations/{region}"


def _bedrock(base_url: str, region: str) -> str:
    if not _REGION.fullmatch(region):
        raise InvalidValueError("Say in which region it computes, for example eu-central-1: requests are signed for it.", field="region")
    host = _BEDROCK_HOST.fullmatch(urlsplit(base_url).hostname or "")
    if host and host[1] != region:
        raise InvalidValueError(f"The URL is in {host[1]}, and requests are signed for the region.", field="region")
    return base_url or f"https://bedrock-runtime.{region}.amazonaws.com"
