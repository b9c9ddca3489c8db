"""Answers that may be given again: a model's settings for it, and deleting what was kept for questions of the same meaning."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from catalog import selectors
from catalog.errors import InvalidValueError
from catalog.models import Model, SemanticAnswer
from governance import config, payload_selectors
from governance.models import User
from governance.services import audit

LEAST_THRESHOLD = 0.8
LONGEST_CACHE_S = 7 * 24 * 3600


@transaction.atomic
def set_cache(
    *,
    model: Model,
    actor: User,
    ttl_s: int,
    scope: str,
    embedding: str = "",
    threshold: float = 0.95,
    sample_percent: int = 5,
) -> Model:
    """How long, and among whose calls, an answer may be given again; 0 never. With `embedding`, also to questions that mean the same by
    that model: from the cosine similarity `threshold` on, and after `sample_percent` of such hits the model is asked too.

    Writes one audit entry. Without an embedding model, what was kept for such questions is deleted. Raises InvalidValueError.
    """
    if not 0 <= ttl_s <= LONGEST_CACHE_S:
        raise InvalidValueError(f"An answer is kept for 0 to {LONGEST_CACHE_S:,} seconds (a week).", field="ttl_s")
    if embedding:
        _check_semantic(model, embedding, threshold, sample_percent)
    model = Model.objects.select_for_update().get(pk=model.pk)
    after: dict[str, Any] = {
        "ttl_s": ttl_s, "scope": scope, "embedding": embedding, "threshold": threshold, "sample_percent": sample_percent,
    }  # fmt: skip
    before = {name: getattr(model, f"cache_{name}") for name in after}
    if before == after:
        return model
    for name, value in after.items():
        setattr(model, f"cache_{name}", value)
    model.save(update_fields=[f"cache_{name}" for name in after])
    if not embedding:
        SemanticAnswer.objects.filter(model=model.slug).delete()
    audit.record("model.cache_set", actor=actor, target=model, before=before, after=after)
    config.changed()
    return model


def _check_semantic(model: Model, embedding: str, threshold: float, sample_percent: int) -> None:
    if "chat" not in model.capabilities:
        raise InvalidValueError("Only answers to chat can be given again to questions that mean the same.", field="embedding")
    if embedding not in selectors.embedding_models():
        raise InvalidValueError(f"{embedding} is no served model that makes embeddings.", field="embedding")
    if not selectors.can_compare_vectors():
        raise InvalidValueError("The database has no pgvector: whoever runs it must create the extension vector.", field="embedding")
    if not LEAST_THRESHOLD <= threshold <= 1:
        raise InvalidValueError(
            f"The similarity is {LEAST_THRESHOLD} to 1: below it, different questions get the same answer.", field="threshold"
        )
    if not 0 <= sample_percent <= 100:
        raise InvalidValueError("A share is 0 to 100%.", field="sample_percent")


def purge_answers(*, at: datetime | None = None) -> int:
    """Delete answers to questions of the same meaning whose time is over, or whose project keeps nothing by now. Returns how many."""
    rules = payload_selectors.published_rules(selectors.project_names())
    closed = [project for project, rule in rules.items() if rule.mode == "none"]
    gone: int = SemanticAnswer.objects.filter(Q(until__lte=at or timezone.now()) | Q(project__in=closed)).delete()[0]
    return gone


LONGEST_CALL = timedelta(hours=1)


def erase_answers(project: str, until: datetime | None) -> int:
    """Delete answers to questions of the same meaning: of a project unless empty, of calls that began before `until` if given. An answer is
    kept when its call ends, so some of the hour after go too. In the caller's transaction. Returns how many."""
    wanted: dict[str, Any] = {"project": project} if project else {}
    if until:
        wanted["kept_at__lt"] = until + LONGEST_CALL
    gone: int = SemanticAnswer.objects.filter(**wanted).delete()[0]
    return gone
