"""Prompts and flows, version by version."""

from __future__ import annotations

from django.core.validators import RegexValidator
from django.db import models

from catalog.models.fields import OrderedJSONField
from catalog.models.model import slug_validator
from governance.models import User

label_validator = RegexValidator(r"^[a-z][a-z0-9-]{0,39}$", "Begin with a lower-case letter; then letters, digits and hyphens, 40 at most.")


class Prompt(models.Model):
    """One name that programs ask for. What it says is in its versions."""

    placement = "tenant"

    class Kind(models.TextChoices):
        CHAT = "chat", "Prompt"
        FLOW = "flow", "Flow"

    slug = models.CharField(max_length=80, unique=True, validators=[slug_validator])
    """What callers send as `prompt.id`. Events keep it, so it never changes."""
    name = models.CharField(max_length=80)
    description = models.CharField(max_length=300, blank=True)
    kind = models.CharField(max_length=8, choices=Kind, default=Kind.CHAT)
    """A prompt is filled in and sent by the gateway; a flow's configuration is read by the program that runs it."""
    owner = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    archived_at = models.DateTimeField(null=True, editable=False)
    """Since then the gateway serves none of its versions."""
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["slug"]

    def __str__(self) -> str:
        return self.slug


class PromptVersion(models.Model):
    """What a prompt says, from one edit to the next. Only its status changes after it was written."""

    placement = "tenant"

    class Status(models.TextChoices):
        DRAFT = "draft", "Draft"
        SUBMITTED = "submitted", "Submitted"
        APPROVED = "approved", "Approved"

    prompt = models.ForeignKey(Prompt, on_delete=models.CASCADE, related_name="versions")
    number = models.PositiveIntegerField()
    content = OrderedJSONField()
    """`{"messages": [{"role": …, "content": …}, …]}` of a prompt, `{"flow": {…}}` of a flow."""
    model = models.CharField(max_length=80, blank=True)
    """Slug of the model that is called when a call names none."""
    parameters = OrderedJSONField(default=dict)
    """Fields of the request that a call does not give itself, such as temperature."""
    digest = models.CharField(max_length=64)
    """sha256 of content, model and parameters, see `catalog.prompt_texts.digest`."""
    note = models.CharField(max_length=300, blank=True)
    """Why it was written."""
    author = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    status = models.CharField(max_length=12, choices=Status, default=Status.DRAFT)
    decided_by = models.ForeignKey(User, null=True, on_delete=models.PROTECT, related_name="+", editable=False)
    """Who approved it; never its author."""
    decided_at = models.DateTimeField(null=True, editable=False)

    class Meta:
        ordering = ["-number"]
        constraints = [models.UniqueConstraint(fields=["prompt", "number"], name="prompt_version_once")]

    def __str__(self) -> str:
        return f"{self.prompt}@{self.number}"


class PromptLabel(models.Model):
    """A name, such as production, for one approved version; programs that ask for it get another version when it moves."""

    placement = "tenant"

    prompt = models.ForeignKey(Prompt, on_delete=models.CASCADE, related_name="labels")
    name = models.CharField(max_length=40, validators=[label_validator])
    version = models.ForeignKey(PromptVersion, on_delete=models.PROTECT, related_name="labels")
    moved_by = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    moved_at = models.DateTimeField()

    class Meta:
        ordering = ["name"]
        constraints = [models.UniqueConstraint(fields=["prompt", "name"], name="prompt_label_once")]

    def __str__(self) -> str:
        return f"{self.name} of {self.prompt}"
