"""Forms of policies, guardrails, payloads and switches."""

from __future__ import annotations

from typing import Any

from django import forms
from django.core.validators import RegexValidator

from gateway.contract import presidio
from governance.catalog_names import project_names
from governance.fields import TextField
from governance.models import Guardrail, PayloadMode, Policy
from governance.models.policy import name_validator
from governance.services.guardrails import LONGEST_LIMIT_MS, SHORTEST_LIMIT_MS, entities_of
from governance.services.payloads import LONGEST_DAYS

USUAL_SCORE = 0.4
"""Presidio gives that to a telephone number of usual form; words around it raise the score."""
NAMED = {"list": "scope-names", "autocomplete": "off", "spellcheck": "false"}
"""Of a field with suggestions, see templates/partials/scope_names.html."""
CODE = {"class": "gh-mono", "rows": 3, "spellcheck": "false", "autocomplete": "off"}


class VersionForm(forms.Form):
    when = TextField(
        label="Covers the calls for which",
        max_length=2000,
        widget=forms.Textarea(attrs=CODE),
        initial="true",
        help_text='CEL, for example model.sensitivity == "confidential". `true` is every call.',
    )
    require = TextField(
        label="And requires of them",
        max_length=2000,
        widget=forms.Textarea(attrs=CODE),
        help_text='CEL, for example egress.region.startsWith("eu"). What is not true is refused.',
    )
    reason = forms.CharField(
        label="What a refused caller is told",
        max_length=300,
        required=False,
        help_text="Say what to do instead. Holds no secret: callers see it.",
    )
    note = forms.CharField(label="Why", max_length=300, required=False, help_text="For whoever reads the versions later.")


class PolicyForm(VersionForm):
    namespace = forms.CharField(max_length=40, validators=[name_validator], help_text="Whose policy it is, for example data or security.")
    name = forms.CharField(max_length=60, validators=[name_validator], help_text="For example eu-only. It can't be changed later.")
    description = forms.CharField(max_length=300, required=False)
    is_critical = forms.BooleanField(label="Critical", required=False, help_text="Asked before the others, and to be enforced first.")
    field_order = ["namespace", "name", "description", "when", "require", "reason", "note", "is_critical"]


class DescribeForm(forms.Form):
    description = forms.CharField(max_length=300, required=False)
    is_critical = forms.BooleanField(label="Critical", required=False)


class ModeForm(forms.Form):
    mode = forms.ChoiceField(choices=Policy.Mode.choices)
    version = forms.IntegerField(min_value=1)
    reason = forms.CharField(max_length=300, required=False)


class GuardrailForm(forms.Form):
    """Of one kind; fields that the kind has no use for are left out."""

    name = forms.CharField(max_length=60, validators=[name_validator], help_text="For example no-personal-data. Refusals name it.")
    mode = forms.ChoiceField(choices=Guardrail.Mode.choices, help_text="Monitor finds and counts; enforced also replaces or refuses.")
    action = forms.ChoiceField(label="When something is found", choices=Guardrail.Action.choices)
    scope = forms.ChoiceField(label="Applies to", choices=Guardrail.Scope.choices)
    ref = forms.CharField(
        label="Which",
        max_length=128,
        required=False,
        widget=forms.TextInput(attrs=NAMED),
        help_text="The short name of the project or model: type to choose. Or the name that the agent gives itself.",
    )
    on_input = forms.BooleanField(label="What is sent", required=False, initial=True)
    on_output = forms.BooleanField(label="What is answered", required=False)
    engine = forms.ChoiceField(
        label="Find it by",
        choices=Guardrail.Engine.choices,
        required=False,
        help_text="Presidio reads after the patterns, in a process beside each gateway. It takes milliseconds a text, and an answer that it reads "
        "for an enforced guardrail is sent as a whole: a stream comes at once at its end.",
    )
    entities = forms.MultipleChoiceField(
        label="Look for", required=False, widget=forms.CheckboxSelectMultiple, help_text="None chosen means the usual ones."
    )
    terms = TextField(
        label="Words and phrases",
        required=False,
        widget=forms.Textarea(attrs={"rows": 5}),
        help_text="One on each line. Whole words, in any case.",
    )
    threshold = forms.FloatField(
        label="Suspicion", min_value=0.05, max_value=1, initial=0.5, widget=forms.NumberInput(attrs={"step": "0.05"}),
        help_text="0 to 1: from how much suspicion it counts as found.",
    )  # fmt: skip
    language = forms.CharField(
        max_length=3, validators=[RegexValidator(r"^[a-z]{2,3}$", "A language is two or three small letters, such as en.")], initial="en",
        required=False, help_text="Of the texts, for Presidio: en, de, fr and so on.",
    )  # fmt: skip
    spacy_model = forms.CharField(
        label="Trained model", max_length=64, required=False,
        validators=[RegexValidator(r"^[A-Za-z_][A-Za-z0-9_]*$", "Give the name of an installed package, for example en_core_web_md.")],
        help_text="An installed spaCy model, for example en_core_web_md, if names of people and places are to be found. Empty is none.",
    )  # fmt: skip
    time_limit_ms = forms.IntegerField(
        label="Time limit, ms", min_value=SHORTEST_LIMIT_MS, max_value=LONGEST_LIMIT_MS, initial=1000, required=False,
        help_text="For all texts of a request, or of an answer.",
    )  # fmt: skip
    when_unavailable = forms.ChoiceField(
        label="When Presidio does not answer in time",
        choices=Guardrail.WhenUnavailable.choices,
        required=False,
        help_text="Or is not installed. When the guardrail only monitors, calls pass and the record says that they were not looked at.",
    )
    max_characters = forms.IntegerField(label="Most characters", min_value=1, max_value=100_000_000, initial=100_000)

    OF_PRESIDIO = ("threshold", "language", "spacy_model", "time_limit_ms", "when_unavailable")
    """Of a guardrail on personal data; other kinds judge by their own threshold."""
    USED_BY = {
        "action": Guardrail.REDACTING,
        "entities": Guardrail.REDACTING,
        "terms": (Guardrail.Kind.TOPICS,),
        "threshold": (Guardrail.Kind.INJECTION, Guardrail.Kind.PII),
        **dict.fromkeys(("engine", "language", "spacy_model", "time_limit_ms", "when_unavailable"), (Guardrail.Kind.PII,)),
        "max_characters": (Guardrail.Kind.SIZE,),
    }

    def __init__(self, kind: str, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.kind = kind
        for name, kinds in self.USED_BY.items():
            if kind not in kinds:
                del self.fields[name]
        if "entities" in self.fields:
            self.fields["entities"].choices = [  # type: ignore[attr-defined]
                (entity, f"{name} (Presidio)" if entity in presidio.OWN else name) for entity, name in entities_of(kind).items()
            ]
        if kind == Guardrail.Kind.PII:
            self.fields["threshold"].label, self.fields["threshold"].required = "Score", False
            self.fields["threshold"].help_text = "0 to 1: from which score of Presidio something counts as found."

    @property
    def presidio_fields(self) -> list[forms.BoundField]:
        return [self[name] for name in self.OF_PRESIDIO if self.kind == Guardrail.Kind.PII]

    @property
    def plain_fields(self) -> list[forms.BoundField]:
        return [field for field in self if field not in self.presidio_fields]

    @property
    def uses_presidio(self) -> bool:
        """Whether the fields of Presidio are to be seen at once: they count, or one of them is wrong."""
        return self["engine"].value() == Guardrail.Engine.PRESIDIO or any(field.errors for field in self.presidio_fields)

    def clean(self) -> dict[str, Any]:
        """What is left empty keeps its usual value."""
        cleaned: dict[str, Any] = super().clean() or {}
        usual = {
            "threshold": USUAL_SCORE,
            "engine": Guardrail.Engine.PATTERNS,
            "language": "en",
            "time_limit_ms": 1000,
            "when_unavailable": Guardrail.WhenUnavailable.REFUSE,
        }
        return cleaned | {name: cleaned.get(name) or value for name, value in usual.items() if name in self.fields}

    def clean_terms(self) -> list[str]:
        return [line for line in self.cleaned_data["terms"].splitlines() if line.strip()]


class TryForm(forms.Form):
    text = TextField(max_length=20_000, widget=forms.Textarea(attrs={"rows": 4}), strip=False)


class PayloadRuleForm(forms.Form):
    ref = forms.ChoiceField(label="For", required=False)
    mode = forms.ChoiceField(
        label="Keep",
        choices=[*PayloadMode.choices, ("", "As the organisation (a project's own rule goes)")],
        required=False,
        initial=PayloadMode.METADATA,
        help_text="Pictures, sound, files and vectors are never kept.",
    )
    days = forms.IntegerField(label="For how many days", min_value=1, max_value=LONGEST_DAYS, initial=7)
    reason = forms.CharField(max_length=300, help_text="Stands in the audit log; a second person reads it before more is kept.")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        names = sorted(project_names().items(), key=lambda pair: pair[1].lower())
        self.fields["ref"].choices = [("", "Whole organisation"), *names]  # type: ignore[attr-defined]


class DeclineForm(forms.Form):
    note = forms.CharField(max_length=300, required=False)


class EraseForm(forms.Form):
    project = forms.ChoiceField(required=False, help_text="Only of this project.")
    user = forms.CharField(
        label="End user", max_length=200, required=False, help_text="As callers name them in the field user; the name is not kept."
    )
    until = forms.DateTimeField(
        label="Called before",
        required=False,
        widget=forms.DateTimeInput(attrs={"type": "datetime-local"}),
        help_text="UTC. Empty: until now.",
    )
    everything = forms.BooleanField(label="Everything", required=False, help_text="Needed when nothing above is given.")
    reason = forms.CharField(max_length=300, help_text="Stands in the audit log.")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        names = sorted(project_names().items(), key=lambda pair: pair[1].lower())
        self.fields["project"].choices = [("", "Any project"), *names]  # type: ignore[attr-defined]


class OpenForm(forms.Form):
    reason = forms.CharField(max_length=300, help_text="Stands in the audit log with your name.")


class SwitchForm(forms.Form):
    reason = forms.CharField(max_length=200, required=False)
