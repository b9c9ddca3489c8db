"""Forms count what is typed as the browser does."""

from __future__ import annotations

from collections.abc import Iterator

from django import forms

from catalog.forms import keys, models, projects, prompts, providers, tools
from catalog.models import Project
from costs import forms as cost_forms
from governance import control_forms
from governance import forms as ground_forms
from governance.fields import TextField
from governance.models import Tenant, User
from tests.conftest import ClientFor

MODULES = (keys, models, projects, prompts, providers, tools, cost_forms, control_forms, ground_forms)


def _fields() -> Iterator[tuple[str, forms.Field]]:
    for module in MODULES:
        for form in vars(module).values():
            if isinstance(form, type) and issubclass(form, forms.BaseForm):
                yield from ((f"{form.__name__}.{name}", field) for name, field in form.base_fields.items())  # type: ignore[attr-defined]


def test_every_field_of_several_lines_with_a_limit_counts_their_ends_once() -> None:
    areas = {
        name: field
        for name, field in _fields()
        if isinstance(field.widget, forms.Textarea) and getattr(field, "max_length", None) is not None
    }

    assert len(areas) > 8
    assert [name for name, field in areas.items() if not isinstance(field, TextField)] == []


def test_description_that_just_fits_its_box_is_taken(acme: Tenant, client_for: ClientFor, alice: User) -> None:
    lines = "x" * 99 + "\r\n"  # a browser counts 100
    fields = {"name": "Shop", "slug": "shop", "environment": "development", "description": lines * 19 + "x" * 100}

    client_for(alice).post("/o/acme/operate/projects/new/", fields)

    assert Project.objects.get().description == fields["description"].replace("\r\n", "\n")
