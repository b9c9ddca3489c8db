"""Migrations of an empty schema without rendering again what did not change.

When a migration creates a model, or changes a field that is no relation, Django renders the models around it anew, so that no state shares a
class with an earlier one. Tenant and user relate nearly all models to each other: 114 models became 7,200 renderings, most of the seconds that a
schema took. Here the one class is rendered, with those that refer to it; its own relations reach their targets by Django's registry. The state is
marked as `is_delayed`, which Django does for its own shortcuts: what runs Python in a migration first gets every model rendered anew.
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


def _reload_model(self: ProjectState, app_label: str, model_name: str, delay: bool = False) -> None:
    """`delay` is Django's word for a change of which relations know nothing."""
    state = cast(Any, self)
    if "apps" not in state.__dict__:
        return
    if not delay:
        state._reload(state._find_reload_model(app_label, model_name))
        return
    referring: set[tuple[str, str]] = set()
    waiting = [(app_label, model_name)]
    while waiting:
        key = waiting.pop()
        if key not in referring:
            referring.add(key)
            waiting += state.relations.get(key, ())
    state._reload(referring)
    state.is_delayed = True


def render_only_what_is_new() -> None:
    """For this process; called once, when Django is set up."""
    ProjectState.add_model = _add_model  # type: ignore[method-assign]
    ProjectState.reload_model = _reload_model  # type: ignore[method-assign]
