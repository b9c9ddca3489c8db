"""What somebody asks of a model and somebody else agrees to."""

from __future__ import annotations

from typing import Any

from django.db import models

from catalog.bindings import FACT_WORDS
from catalog.models.model import Deployment, Model
from governance.models import User


class ModelReview(models.Model):
    """One thing that waits for approval, or waited. It never changes but by its decision: asking anew makes another one."""

    placement = "tenant"

    class Kind(models.TextChoices):
        SERVE = "serve", "To be served"
        FACTS = "facts", "A wider description"
        PARAMETERS = "parameters", "Default parameters"
        DEPLOYMENT = "deployment", "Another deployment"
        DRIFT = "drift", "Changed underneath"

    class Status(models.TextChoices):
        WAITING = "waiting", "Waiting"
        APPROVED = "approved", "Approved"
        RETURNED = "returned", "Returned"
        WITHDRAWN = "withdrawn", "Withdrawn"

    class Basis(models.TextChoices):
        SECOND_PERSON = "second_person", "A second person"
        OTHER_HAND = "other_hand", "Somebody who had changed it but did not submit it: everybody had a part in it"
        ALONE = "alone", "The same person: nobody else could"

    model = models.ForeignKey(Model, on_delete=models.CASCADE, related_name="reviews")
    kind = models.CharField(max_length=12, choices=Kind)
    deployment = models.ForeignKey(Deployment, null=True, on_delete=models.SET_NULL, related_name="reviews")
    """That is to be switched on. None of the other kinds, and once it is removed: what was decided stays, and the binding names it."""
    facts = models.JSONField(default=dict)
    """Those of `bindings.FACTS` that change with approval; of the kind PARAMETERS only the parameters that were proposed, see
    `review_selectors.facts_after`."""
    binding = models.JSONField()
    """What the model will be bound to, see `catalog.bindings`."""
    digest = models.CharField(max_length=64)
    """Of the binding. Approval holds for nothing else."""
    changes = models.JSONField(default=list)
    """What was approved before against this: `[{what, before, after, widens}, …]`."""
    status = models.CharField(max_length=10, choices=Status, default=Status.WAITING)
    reason = models.CharField(max_length=200, blank=True)
    asked_by = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    asked_at = models.DateTimeField()
    decided_by = models.ForeignKey(User, null=True, on_delete=models.PROTECT, related_name="+")
    decided_at = models.DateTimeField(null=True)
    note = models.CharField(max_length=200, blank=True)
    basis = models.CharField(max_length=16, choices=Basis, blank=True)
    """On what it was approved."""

    class Meta:
        ordering = ["-pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["model", "kind", "deployment"],
                condition=models.Q(status="waiting"),
                nulls_distinct=False,
                name="model_review_one_waiting",
            ),
            models.CheckConstraint(
                condition=~models.Q(status="approved")
                | models.Q(basis="alone")
                | (models.Q(decided_by__isnull=False) & ~models.Q(decided_by=models.F("asked_by"))),
                name="model_review_four_eyes",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.model.slug}: {self.get_kind_display().lower()}"

    @property
    def shown_changes(self) -> list[dict[str, Any]]:
        """The changes with words for what changes."""
        return [{**change, "what": FACT_WORDS.get(change["what"], change["what"])} for change in self.changes]
