"""A flag that binds a model decides which model serves a call, before anything else is asked about that model."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from gateway.contract import snapshot as contract
from gateway.contract.flags import BUCKETS, Cohort, Exposure, Flag, Override, Range
from tests.gateway.conftest import GRANTED, SAY_HELLO, Org, Plane, SandboxUpstream, chat_model, deployment, make_org, wait_until

pytestmark = pytest.mark.process

EVERYBODY = Exposure(on=True, percentage=BUCKETS, ranges=(Range("new", 0, BUCKETS),))
BINDING = Flag(
    key="ai.chat.next-model", version=4, kind="string", variants={"old": "chat", "new": "chat-next"}, control="old",
    feature_class="assistants", sticky="user", rollout_salt="r", variant_salt="v", exposure=EVERYBODY, model="chat",
)  # fmt: skip


@pytest.fixture
def bound(plane: Plane, sandbox_upstream: SandboxUpstream) -> Org:
    """Calls to `chat` are served by `chat-next`; the flag is bound to everybody."""
    here = deployment(sandbox_upstream.base_url())
    models = {"chat": chat_model(here), "chat-next": chat_model(here, slug="chat-next", input_price=7_000_000)}
    return make_org(plane, sandbox_upstream, models=models, flags={BINDING.key: BINDING})


def expose(org: Org, **fields: Any) -> None:
    org.change(flags={BINDING.key: msgspec.structs.replace(BINDING, exposure=msgspec.structs.replace(EVERYBODY, **fields))})


def ask(org: Org, **options: Any) -> dict[str, Any]:
    """The event of one call to `chat` under the newest configuration, which the plane takes some milliseconds to hear of."""

    def event() -> dict[str, Any] | None:
        known = len(org.plane.events(org.id))
        org.client().chat.completions.create(model="chat", messages=SAY_HELLO, **options)
        newest = org.plane.wait_for_events(org.id, known + 1)[-1]
        return newest if newest["snapshot_version"] == org.snapshot.version else None

    return wait_until(event, what="a call under the newest configuration") or {}


def detail(event: dict[str, Any]) -> str:
    return str(next(step[3] for step in event["steps"] if step[0] == "flags"))


def test_call_goes_to_the_variants_model_and_says_so(bound: Org) -> None:
    event = ask(bound)

    assert event["model"] == "chat-next"
    assert event["tags"] == {"flag.ai.chat.next-model": "new"}
    assert detail(event) == "ai.chat.next-model 4: new by percentage. Everybody is exposed."


def test_other_models_and_tenants_without_flags_are_not_asked(bound: Org, org: Org) -> None:
    bound.client().chat.completions.create(model="chat-next", messages=SAY_HELLO)

    [named] = bound.plane.wait_for_events(bound.id, 1)
    assert (named["model"], named["tags"], detail(named)) == ("chat-next", {}, "")
    assert detail(ask(org)) == ""


def test_change_of_exposure_is_heeded_by_the_next_call(bound: Org) -> None:
    assert ask(bound)["model"] == "chat-next"

    expose(bound, on=False)

    assert ask(bound)["model"] == "chat"


def test_user_of_the_request_decides_by_override_and_by_percentage(bound: Org) -> None:
    expose(bound, percentage=1, overrides=(Override(attribute="user", values=("ana",), variant="new"),))

    assert ask(bound, user="ana")["model"] == "chat-next"
    assert ask(bound, user="ben")["model"] == "chat"
    assert "no user" in detail(ask(bound))


def test_cohort_by_what_the_key_proves_is_not_claimed_by_a_tag(bound: Org) -> None:
    expose(bound, cohorts=(Cohort(name="pilot", attribute="project", values=("search",)),))

    event = ask(bound, extra_headers={"x-gatehouse-tags": "project=search"})

    assert event["model"] == "chat"
    assert "by cohort" in detail(event)


def test_flag_gives_a_key_no_more_than_it_may(bound: Org) -> None:
    bound.change_key(models=("chat",))
    event = ask(bound)

    assert event["model"] == "chat"
    assert "the key may not call chat-next" in detail(event)


def test_withdrawn_variant_leads_back_to_the_control(bound: Org) -> None:
    models = {"chat": bound.snapshot.models["chat"]}
    bound.change(models=models)
    event = ask(bound)

    assert event["model"] == "chat"
    assert event["tags"] == {"flag.ai.chat.next-model": "old"}


def test_without_consent_to_the_flags_class_the_control_serves(bound: Org) -> None:
    flag = msgspec.structs.replace(BINDING, feature_class="agents")
    bound.change(flags={flag.key: flag}, consents={"assistants": GRANTED})
    event = ask(bound)

    assert event["model"] == "chat"
    assert "by consent" in detail(event)


def test_variant_of_a_class_without_consent_is_not_served(bound: Org) -> None:
    following = msgspec.structs.replace(bound.snapshot.models["chat-next"], feature_class="agents")
    refused = contract.Consent(feature_class="agents", granted=False, reason="Not for us.")
    bound.change(models={**bound.snapshot.models, "chat-next": following}, consents={"assistants": GRANTED, "agents": refused})
    event = ask(bound)

    assert event["model"] == "chat"
    assert "Not for us." in detail(event)


def test_name_that_only_a_flag_knows_is_served(bound: Org) -> None:
    alias = msgspec.structs.replace(BINDING, model="best")
    bound.change(flags={alias.key: alias})

    ask(bound)  # the plane knows the flag now

    bound.client().chat.completions.create(model="best", messages=SAY_HELLO)

    event = bound.plane.wait_for_events(bound.id, 2)[-1]
    assert (event["model"], event["tags"]) == ("chat-next", {"flag.ai.chat.next-model": "new"})
