"""A form made from a tool's JSON Schema: one field per property, with JSON text for what has no plain control.

The form gives types and words only; the gateway validates the arguments against the schema when the tool runs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from django import forms

from governance.fields import TextField

NOT_GIVEN = ""
_LONG_TEXT = 200
_SIMPLE = {"string", "number", "integer", "boolean"}


class JsonField(forms.CharField):
    """JSON text of one type; `array` and `object` are checked, anything else is any JSON."""

    def __init__(self, json_type: str | None, **kwargs: Any) -> None:
        super().__init__(widget=forms.Textarea(attrs={"rows": 3, "class": "gh-mono", "spellcheck": "false"}), **kwargs)
        self.json_type = json_type

    def to_python(self, value: Any) -> Any:
        text = str(super().to_python(value) or "").strip()
        if not text:
            return None
        try:
            parsed = json.loads(text)
        except ValueError as error:
            raise forms.ValidationError(f"This is not JSON: {error}.") from error
        wanted = {"array": list, "object": dict}.get(self.json_type or "")
        if wanted is not None and not isinstance(parsed, wanted):
            raise forms.ValidationError(f"This must be a JSON {self.json_type}.")
        return parsed


class ArgumentsForm(forms.Form):
    """Fields `arg0`, `arg1`, … in the order of the schema's properties; names of properties may be anything."""

    def __init__(self, schema: Mapping[str, Any], *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        properties = schema.get("properties")
        self._names: dict[str, str] = {}
        self._choices: dict[str, list[Any]] = {}
        required = schema.get("required")
        for position, (name, rule) in enumerate((properties if isinstance(properties, dict) else {}).items()):
            field_name = f"arg{position}"
            self._names[field_name] = name
            self.fields[field_name] = self._field(
                field_name, name, rule if isinstance(rule, dict) else {}, isinstance(required, list) and name in required
            )

    def _field(self, field_name: str, name: str, rule: dict[str, Any], required: bool) -> forms.Field:
        words = str(rule.get("description") or "")
        common: dict[str, Any] = {"label": name, "required": required, "help_text": words}
        values = _enumeration(rule)
        kind = _type_of(rule)
        if values is not None:
            self._choices[field_name] = [value for value, _ in values]
            shown = [(str(index), title) for index, (_, title) in enumerate(values)]
            given = (
                self._choices[field_name].index(rule["default"])
                if "default" in rule and rule["default"] in self._choices[field_name]
                else None
            )
            return forms.ChoiceField(
                choices=shown if required else [(NOT_GIVEN, "Not given"), *shown], initial=None if given is None else str(given), **common
            )
        if kind == "boolean":
            self._choices[field_name] = [True, False]
            initial = {True: "0", False: "1"}.get(rule.get("default"), NOT_GIVEN)  # type: ignore[arg-type]
            return forms.ChoiceField(
                choices=[*([] if required else [(NOT_GIVEN, "Not given")]), ("0", "Yes"), ("1", "No")], initial=initial, **common
            )
        if kind in ("integer", "number"):
            for limit, keyword in (("min_value", "minimum"), ("max_value", "maximum")):
                common[limit] = rule[keyword] if isinstance(rule.get(keyword), int | float) else None
            number = forms.IntegerField if kind == "integer" else forms.FloatField
            return number(initial=rule.get("default"), **common)
        if kind == "string":
            longest = rule.get("maxLength") if isinstance(rule.get("maxLength"), int) else None
            big = len(words) > _LONG_TEXT or str(rule.get("format", "")) in ("multiline", "textarea")
            given_as = {"initial": rule.get("default"), "max_length": longest, "strip": False, **common}
            return TextField(widget=forms.Textarea(attrs={"rows": 3}), **given_as) if big else forms.CharField(**given_as)
        initial_json = json.dumps(rule["default"], indent=2) if "default" in rule else None
        return JsonField(kind, initial=initial_json, **{**common, "help_text": f"{words} JSON{f' {kind}' if kind else ''}.".strip()})

    def arguments(self) -> dict[str, Any]:
        """The arguments of a valid form: what was left empty is left out, never sent as an empty value."""
        given: dict[str, Any] = {}
        for field_name, name in self._names.items():
            value = self.cleaned_data.get(field_name)
            if value is None or (value == "" and not self.fields[field_name].required):
                continue
            given[name] = self._choices[field_name][int(value)] if field_name in self._choices else value
        return given


def _type_of(rule: Mapping[str, Any]) -> str | None:
    """The one type of a property, ignoring null; None when it has several or none."""
    kinds = rule.get("type")
    if isinstance(kinds, str):
        return kinds
    if isinstance(kinds, list):
        plain = [kind for kind in kinds if kind != "null"]
        return plain[0] if len(plain) == 1 else None
    for key in ("anyOf", "oneOf"):
        options = rule.get(key)
        if isinstance(options, list):
            found = {option.get("type") for option in options if isinstance(option, dict)} - {"null"}
            if len(found) == 1 and all(isinstance(option, dict) and set(option) <= {"type", "title", "description"} for option in options):
                kind = found.pop()
                return kind if kind in _SIMPLE else None
    return None


def _enumeration(rule: Mapping[str, Any]) -> list[tuple[Any, str]] | None:
    """Values with their titles, from `enum`, `const` or a `oneOf` of constants."""
    if isinstance(rule.get("enum"), list) and rule["enum"]:
        return [(value, value if isinstance(value, str) else json.dumps(value)) for value in rule["enum"]]
    options = rule.get("oneOf")
    if isinstance(options, list) and options and all(isinstance(option, dict) and "const" in option for option in options):
        return [(option["const"], str(option.get("title") or option["const"])) for option in options]
    if "const" in rule:
        return [(rule["const"], json.dumps(rule["const"]))]
    return None
