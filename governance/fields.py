"""Fields of forms that Django has otherwise."""

from __future__ import annotations

from typing import Any

from django import forms


class TextField(forms.CharField):
    """Several lines. A browser counts the end of a line as one character against `maxlength`, but sends two."""

    widget = forms.Textarea

    def to_python(self, value: Any) -> str | None:
        return super().to_python(value.replace("\r\n", "\n") if isinstance(value, str) else value)
