"""A page of costs as somebody wants to find it again: its filter, kept under a name."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from governance.models import User


class SavedView(models.Model):
    """Parameters of a page under a name; only its owner changes it, and others use it when it is shared."""

    placement = "tenant"

    class Page(models.TextChoices):
        SPEND = "spend", "Spend"
        USAGE = "usage", "My usage"

    page = models.CharField(max_length=8, choices=Page)
    name = models.CharField(max_length=60)
    parameters = models.JSONField()
    """Of the page's URL, name to value; see `costs.saved_views.cleaned`."""
    owner = models.ForeignKey(User, on_delete=models.CASCADE, related_name="+")
    is_shared = models.BooleanField(default=False)
    is_default = models.BooleanField(default=False)
    """What its owner sees when the page is opened without parameters."""
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        db_table = "saved_view"
        ordering = ["name", "pk"]
        constraints = [
            models.UniqueConstraint(fields=["owner", "page", "name"], name="saved_view_name_once"),
            models.UniqueConstraint(fields=["owner", "page"], condition=Q(is_default=True), name="saved_view_one_default"),
        ]

    def __str__(self) -> str:
        return self.name
