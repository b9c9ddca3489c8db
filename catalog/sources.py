"""What the search finds in the catalog; each source returns only what the person may see."""

from __future__ import annotations

from collections.abc import Iterator

from django.urls import reverse

from catalog import prompt_selectors, selectors
from catalog.filters import KeyFilter, ModelFilter
from governance.models import Membership
from governance.search import Hit


def models(query: str, membership: Membership, limit: int) -> Iterator[Hit]:
    for model in ModelFilter({"q": query}, queryset=selectors.models_visible_to(membership)).qs[:limit]:
        yield Hit(
            model.slug,
            model.name if model.is_served else f"{model.name}, {model.get_status_display().lower()}",
            reverse("model-detail", args=[model.slug]),
            icon="box",
        )


def tools(query: str, membership: Membership, limit: int) -> Iterator[Hit]:
    visible = selectors.tools_visible_to(membership)
    namespace, _, name = query.partition("__")
    found = (
        visible.filter(name__icontains=query) | visible.filter(title__icontains=query) | visible.filter(server__namespace__icontains=query)
    )
    if name:
        found = visible.filter(server__namespace=namespace, name__istartswith=name)
    for tool in found[:limit]:
        yield Hit(tool.title or tool.name, tool.full_name, reverse("tool-detail", args=[tool.server.namespace, tool.name]), icon="tool")


def projects(query: str, membership: Membership, limit: int) -> Iterator[Hit]:
    everything = selectors.projects()
    for project in (everything.filter(name__icontains=query) | everything.filter(slug__icontains=query))[:limit]:
        yield Hit(project.name, project.slug, reverse("project-detail", args=[project.slug]), icon="folders")


def keys(query: str, membership: Membership, limit: int) -> Iterator[Hit]:
    """By name, or by the id that stands in a key's prefix."""
    for key in KeyFilter({"q": query}, queryset=selectors.keys_visible_to(membership)).qs[:limit]:
        yield Hit(key.name, f"{key.public_id} · {key.project.slug} · {key.state}", reverse("key-detail", args=[key.public_id]), icon="key")


def prompts(query: str, membership: Membership, limit: int) -> Iterator[Hit]:
    for prompt in prompt_selectors.prompts(query)[:limit]:
        yield Hit(prompt.name, prompt.slug, reverse("prompt-detail", args=[prompt.slug]), icon="message")
