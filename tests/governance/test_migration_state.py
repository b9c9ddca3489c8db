"""A created model is rendered alone, a changed one with those that refer to it; all stand in all their relations."""

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


def test_changed_model_is_rendered_with_those_that_refer_to_it() -> None:
    state = ProjectState()
    for added in (
        _model("region"),
        _model("customer", "region"),
        _model("order", "customer"),
        _model("line", "order"),
        _model("rival", "region"),
    ):
        state.add_model(added)
    names = ("region", "customer", "order", "line", "rival")
    before = {name: state.apps.get_model("shop", name) for name in names}

    state.add_field("shop", "customer", "credit", models.IntegerField(default=0), preserve_default=True)

    now = {name: state.apps.get_model("shop", name) for name in names}
    assert [name for name in names if now[name] is not before[name]] == ["customer", "order", "line"]
    assert now["customer"]._meta.get_field("credit")
    assert now["order"]._meta.get_field("customer").related_model is now["customer"]
    assert {relation.related_model for relation in now["region"]._meta.related_objects} == {now["customer"], now["rival"]}
    assert {relation.related_model for relation in now["customer"]._meta.related_objects} == {now["order"]}
