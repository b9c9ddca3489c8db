"""Forms of flags: rules are written as lines, and refused by the function that reads them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from django import forms

from gateway.contract.flags import BUCKETS, Exposure, percent_text
from governance.fields import TextField
from governance.models import FeatureClass
from rollouts import exposure as rules
from rollouts.exposure import ExposureError
from rollouts.models import Flag, Phase, Rollout
from rollouts.models.flag import key_validator


class _Lines(forms.Textarea):
    def __init__(self, rows: int = 3, placeholder: str = "") -> None:
        super().__init__(attrs={"rows": rows, "class": "gh-mono", "spellcheck": "false", "placeholder": placeholder})


def _read(text: str, parse: Callable[[str], Any]) -> Any:
    try:
        return parse(text)
    except ExposureError as error:
        raise forms.ValidationError(str(error)) from error


class FlagForm(forms.Form):
    title = forms.CharField(label="Title", max_length=160)
    key = forms.CharField(
        label="Key",
        max_length=120,
        validators=[key_validator],
        help_text="ai.<feature>.<change-id>, for example ai.search.rerank-2. It stays.",
    )
    description = TextField(label="What it changes", max_length=4000, required=False, widget=forms.Textarea(attrs={"rows": 2}))
    kind = forms.ChoiceField(label="Type of the values", choices=Flag.Kind.choices, initial=Flag.Kind.BOOLEAN)
    variants = forms.CharField(
        label="Variants",
        max_length=20_000,
        widget=_Lines(3),
        initial="off = false\non = true",
        help_text="One per line: name = value in JSON.",
    )
    control = forms.CharField(label="Control", max_length=60, initial="off", help_text="The variant of whoever is not exposed.")
    feature_class = forms.ChoiceField(
        label="Consent", choices=FeatureClass.choices, help_text="Without this consent everybody gets the control."
    )
    sticky = forms.CharField(
        label="Sticky by", max_length=60, initial="user",
        help_text="The attribute that is hashed: user (the targeting key), project, key, agent, or one of your own.",
    )  # fmt: skip
    policy = forms.ChoiceField(label="Two people for", choices=Flag.Policy.choices, initial=Flag.Policy.RAISING)
    model = forms.CharField(
        label="Binds the model", max_length=80, required=False,
        help_text="Calls to this model are served by the model that the variant names; the values are then models of the catalog, or treatments.",
    )  # fmt: skip
    rollout = forms.ModelChoiceField(
        label="Rollout",
        queryset=Rollout.objects.none(),
        required=False,
        empty_label="None",
        help_text="Changes can then be bound to one of its phases.",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["rollout"].queryset = Rollout.objects.exclude(status=Rollout.Status.STOPPED).defer("plan")  # type: ignore[attr-defined]

    @staticmethod
    def comparing(model: str) -> dict[str, str]:
        """Initial values of a flag that leads a share of a model's calls to another one."""
        variants = f'champion = {json.dumps(model)}\nchallenger = ""'
        return {"kind": Flag.Kind.STRING, "control": "champion", "variants": variants, "model": model}

    def clean_variants(self) -> dict[str, Any]:
        found: dict[str, Any] = _read(self.cleaned_data["variants"], rules.parse_variants)
        return found


class ChangeForm(forms.Form):
    """The whole exposure, as it shall be."""

    seen_version = forms.IntegerField(widget=forms.HiddenInput)
    on = forms.BooleanField(label="On", required=False, help_text="Off: everybody gets the control, overrides included.")
    overrides = forms.CharField(
        label="Overrides", required=False, max_length=100_000, widget=_Lines(3, "user = ana@example.com, ben@example.com -> on"),
        help_text="Decide before everything else. One per line: attribute = value, value -> variant.",
    )  # fmt: skip
    cohorts = forms.CharField(
        label="Stage cohorts", required=False, max_length=100_000, widget=_Lines(3, "pilot: project = search, support"),
        help_text="Whoever is in none of them gets the control. One per line: name: attribute = value, value. Empty: everybody.",
    )  # fmt: skip
    regions = forms.CharField(
        label="Regions", required=False, max_length=2000, help_text="Separated by commas, for example eu-west, us-east. Empty: all."
    )
    percentage = forms.CharField(
        label="Percentage", max_length=10, help_text="Of those whom the rules above let through; up to three decimals."
    )
    weights = forms.CharField(
        label="Shares of the variants", required=False, max_length=2000, widget=_Lines(2),
        help_text="Of the exposed, in percent, together 100. Whoever can keep a variant keeps it.",
    )  # fmt: skip
    phase = forms.ModelChoiceField(
        label="Stage",
        queryset=Phase.objects.none(),
        required=False,
        empty_label="Any time",
        help_text="The change can't be applied before this phase has begun.",
    )
    reason = TextField(label="Why", max_length=500, widget=forms.Textarea(attrs={"rows": 2}))

    def __init__(self, *args: Any, flag: Flag, **kwargs: Any) -> None:
        present = flag.exposure
        shares = rules.weights_of(present.ranges)
        initial = {
            "seen_version": flag.current.number if flag.current else 0,
            "on": True,
            "overrides": "\n".join(rules.override_lines(present.overrides)),
            "cohorts": "\n".join(rules.cohort_lines(present.cohorts)),
            "regions": ", ".join(present.regions),
            "percentage": percent_text(present.percentage).removesuffix("%"),
            "weights": "\n".join(f"{name} = {percent_text(size).removesuffix('%')}" for name, size in shares.items()),
        }
        kwargs.setdefault("initial", initial)
        super().__init__(*args, **kwargs)
        self._flag = flag
        if len(flag.variants) == 2:
            del self.fields["weights"]
        if flag.rollout is None:
            del self.fields["phase"]
        else:
            self.fields["phase"].queryset = flag.rollout.phases.all()  # type: ignore[attr-defined]
            self.fields["phase"].label_from_instance = lambda phase: f"{phase.title} ({phase.get_status_display().lower()})"  # type: ignore[attr-defined]

    def clean_overrides(self) -> Any:
        return _read(self.cleaned_data["overrides"], rules.parse_overrides)

    def clean_cohorts(self) -> Any:
        return _read(self.cleaned_data["cohorts"], rules.parse_cohorts)

    def clean_regions(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name.strip() for name in self.cleaned_data["regions"].split(",") if name.strip()))

    def clean_percentage(self) -> int:
        return int(
            _read(self.cleaned_data["percentage"].strip().removesuffix("%"), lambda text: rules.share_of(text.strip(), "percentage"))
        )

    def clean_weights(self) -> Any:
        return _read(self.cleaned_data["weights"], rules.parse_weights)

    def clean(self) -> None:
        """`cleaned_data["exposure"]` is the whole of it."""
        if self.errors:
            return
        data = self.cleaned_data
        names = ("on", "overrides", "cohorts", "regions", "percentage", "weights")
        try:
            data["exposure"] = rules.changed(self._flag.exposure, **{name: data[name] for name in names if name in data})
            rules.check(data["exposure"], self._flag.variants, self._flag.control)
        except ExposureError as error:
            self.add_error(error.field if error.field in self.fields else None, str(error))


class LowerForm(forms.Form):
    percentage = forms.CharField(label="Down to, percent", max_length=10, required=False, help_text="Empty: off, for everybody.")
    reason = TextField(label="What is wrong", max_length=500, widget=forms.Textarea(attrs={"rows": 2}))

    def clean_percentage(self) -> int | None:
        text = self.cleaned_data["percentage"].strip().removesuffix("%").strip()
        return int(_read(text, lambda given: rules.share_of(given, "percentage"))) if text else None

    def lowered(self, present: Exposure) -> Exposure:
        share: int | None = self.cleaned_data["percentage"]
        return rules.changed(present, on=False) if share is None else rules.changed(present, percentage=min(share, BUCKETS))


class CommentForm(forms.Form):
    comment = TextField(max_length=500, required=False)


class WhoForm(forms.Form):
    """Who gets what? A context, and whether to take the consent as it is."""

    CONSENTS = (("", "as it is"), ("yes", "as if granted"), ("no", "as if withdrawn"))

    context = forms.CharField(
        label="Context", required=False, max_length=20_000, widget=_Lines(6), help_text="One attribute per line: name = value."
    )
    consent = forms.ChoiceField(label="Consent", choices=CONSENTS, required=False)

    @property
    def assumed_consent(self) -> bool | None:
        return {"yes": True, "no": False}.get(self.cleaned_data["consent"])
