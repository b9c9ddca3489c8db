"""A created model is rendered alone, and still stands in all its relations."""

from django.db import models
from django.db.migrations.state import ModelState, ProjectState


def _model(name: str, *targets: str) -> ModelState:
    keys = [(target, models.ForeignKey(f"shop.{target}", models.CASCADE, related_name=f"{name}_set")) for target in targets]
    return ModelState("shop", name, [("id", models.AutoField(primary_key=True)), *keys])


def test_new_model_is_rendered_alone_with_its_relations() -> None:
    state = ProjectState()
    state.add_model(_model("customer"))
    customer = state.apps.get_model("shop", "customer")

    for added in (_model("order", "customer"), _model("line", "order", "customer")):
        state.add_model(added)

    assert state.apps.get_model("shop", "customer") is customer
    assert {relation.name for relation in customer._meta.related_objects} == {"order_set", "line_set"}
    assert state.apps.get_model("shop", "line")._meta.get_field("order").related_model is state.apps.get_model("shop", "order")
    state.clear_delayed_apps_cache()  # what a migration that runs Python begins with
    assert state.apps.get_model("shop", "customer") is not customer
