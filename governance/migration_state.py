"""Migrations of an empty schema in half the time.

When a migration creates a model, Django renders all models around it anew, so that no state shares a class with an earlier one. Tenant and user
relate nearly all models to each other: 114 models became 4,400 renderings, 6 of the 8 seconds that a schema took. Here the new class alone is
rendered, as a module that is imported later would define it; its relations reach their targets by Django's own registry. The state is marked as
`is_delayed`, which Django does for its own shortcuts: what runs Python in a migration first gets every model rendered anew.
"""

from __future__ import annotations

from typing import Any, cast

from django.db.migrations.state import ModelState, ProjectState


def _add_model(self: ProjectState, model_state: ModelState) -> None:
    state = cast(Any, self)  # the stubs leave out what Django keeps for itself
    key = model_state.app_label, model_state.name_lower
    state.models[key] = model_state
    if state._relations is not None:
        state.resolve_model_relations(key)
    if "apps" in state.__dict__:
        state.apps.render_multiple([model_state])
        state.is_delayed = True


def render_only_what_is_new() -> None:
    """For this process; called once, when Django is set up."""
    ProjectState.add_model = _add_model  # type: ignore[method-assign]
