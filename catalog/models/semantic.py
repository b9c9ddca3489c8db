"""Answers that the gateway may give again to questions that mean the same."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.db import models


class SemanticAnswer(models.Model):
    """One answer with the vector of its question. Written and searched by planes (`gateway.plane.semantic`), deleted when its time is over.

    The vector is an array that the query casts, so that the table needs no extension and vectors of every length fit.
    """

    never_exported = ("embedding", "sealed")

    partition = models.TextField()
    """Digest of model, scope, guardrails and of everything that must be the same to the letter."""
    model = models.TextField()
    project = models.TextField()
    """Of the call that was answered."""
    embedding = ArrayField(models.FloatField())
    sealed = models.TextField()
    kept_at = models.DateTimeField()
    until = models.DateTimeField()

    class Meta:
        db_table = "semantic_answer"
        indexes = [
            models.Index(fields=["partition", "-kept_at"], name="semantic_answer_newest"),
            models.Index(fields=["until"], name="semantic_answer_until"),
        ]

    def __str__(self) -> str:
        return f"{self.partition} {self.pk}"
