"""The release log of the organisation: what stands in it, in which order, by page, Markdown and API."""

from __future__ import annotations

import html
from collections import Counter
from datetime import UTC, date, datetime
from typing import Any

import pytest
from django.utils import timezone

from governance.models import Tenant, User
from rollouts import exposure, release_lines
from rollouts.models import Experiment, FlagVersion, ReleaseLogEntry, Rollout
from rollouts.release_lines import Chosen
from rollouts.services import experiments, flag_changes, rollback, rollouts, shifts
from tests.conftest import ClientFor
from tests.factories import rollbacks
from tests.factories import rollouts as make

PAGE, API = "/o/acme/release/log/", "/api/v1/release-log/"


def titles(chosen: Chosen | None = None) -> list[tuple[str, str]]:
    return [(line.what, line.about) for line in release_lines.release_lines(chosen or Chosen())[0]]


@pytest.fixture
def eventful(acme: Tenant, rita: User, adam: User) -> Rollout:
    """A rollout whose flag a rule rolled back, and, outside of it, a flag with a shift, an experiment that is over, and an emergency."""
    flag = rollbacks.make_watched_flag(rita, adam)
    rollbacks.calls(acme, flag, new=10)
    rollbacks.make_rule(flag, rita)
    rollback.tick(at=rollbacks.NOW)
    other = make.make_flag(
        rita, key="ai.support.tone", kind="string", variants={"a": "chat-old", "b": "chat-new"}, control="a", model="tone"
    )
    make.change_exposure(other, rita, adam, on=True, percentage=20_000)
    shifts.start_shift(slug="tone", name="Tone", flag=other, challenger="b", actor=rita, steps=[50, 100], window_calls=100)
    experiment = make.make_experiment(other, rita, at=timezone.now())
    experiments.decide(experiment=experiment, decision="hold", note="Not now.", actor=rita)
    flag_changes.lower_in_emergency(flag=other, exposure=exposure.changed(other.exposure, on=False), reason="Complaints", actor=rita)
    assert flag.rollout is not None
    return flag.rollout


def test_the_log_tells_of_everything_that_changed_for_callers(eventful: Rollout) -> None:
    rows = Counter(titles())

    assert rows["Started", "Small"] == rows["Phase", "Small"] == 1
    assert rows["Rollback", "Small"] == 1  # the rule's, which is the incident's as well: once
    assert rows["Exposure", "ai.chat.next-model"] == rows["Exposure", "ai.support.tone"] == 1  # the shift's step waits: nothing changed
    assert rows["Traffic shift", "Tone"] == 1
    assert rows["Experiment", "Next model"] == 2
    assert rows["Lowered at once", "ai.support.tone"] == 1
    assert titles(Chosen("incidents")) == [("Rollback", "Incident 1")]
    assert {about for _, about in titles(Chosen(rollout="small"))} == {"Small", "ai.chat.next-model"}
    change = next(line for line in release_lines.all_lines(Chosen("flags")) if line.what == "Exposure")
    assert change.text == "Switch off → on; percentage 0% → 20%. Next step"
    assert change.who == "Rita, agreed by Adam"


def test_a_phase_rolled_back_is_told_once(
    acme: Tenant, rollout: Rollout, bob: User, rita: User, adam: User, client_for: ClientFor, monkeypatch: pytest.MonkeyPatch
) -> None:
    flag = make.make_flag(rita, rollout=rollout)
    exposed = exposure.changed(flag.exposure, on=True, percentage=20_000)
    change = flag_changes.propose_change(flag=flag, exposure=exposed, reason="Pilot", actor=rita, phase=rollout.phases.get(position=0))
    flag_changes.approve_change(change=change, actor=adam)
    rollouts.roll_back(rollout=rollout, reason="Wrong answers", actor=rita)

    assert [what for what, about in titles() if about == flag.key] == ["Exposure"]
    assert any(flag.key in line.text and line.what == "Rollback" for line in release_lines.all_lines(Chosen()))
    assert ("Lowered at once", flag.key) in titles(Chosen("flags"))

    whole = client_for(bob).get("/o/acme/release/log.md").content.decode()
    monkeypatch.setattr(release_lines, "EXPORTED_AT_MOST", 2)
    newest = client_for(bob).get("/o/acme/release/log.md").content.decode()

    assert "newest" not in whole
    assert "Only the newest 2 lines: choose days for earlier ones" in newest
    assert newest.splitlines()[-2:] == whole.splitlines()[-2:]
    assert newest.count("\n- ") == 2


def test_pages_by_key_hold_each_line_once_also_at_the_same_moment(eventful: Rollout) -> None:
    at = timezone.now()
    for model in (ReleaseLogEntry, FlagVersion):
        model.objects.update(at=at)
    Experiment.objects.update(started_at=at, decided_at=at)
    whole = list(release_lines.all_lines(Chosen()))

    for size in (1, 2, 3):
        paged, cursor = release_lines.release_lines(Chosen(), size=size)
        while cursor:
            more, cursor = release_lines.release_lines(Chosen(), cursor=cursor, size=size)
            paged += more
        assert paged == whole, size
    assert [line.at for line in whole] == sorted((line.at for line in whole), reverse=True)
    assert release_lines.release_lines(Chosen(), cursor="nonsense") == release_lines.release_lines(Chosen())


def test_days_are_whole_utc_days(eventful: Rollout) -> None:
    at = datetime(2026, 3, 1, 23, 59, 59, tzinfo=UTC)
    ReleaseLogEntry.objects.filter(kind="started").update(at=at)

    assert titles(Chosen(first=date(2026, 3, 1), last=date(2026, 3, 1))) == [("Started", "Small")]
    assert titles(Chosen(last=date(2026, 2, 28))) == []
    assert ("Started", "Small") not in titles(Chosen(first=date(2026, 3, 2)))
    assert release_lines.chosen_from({"kind": "x", "from": "2026-02-30", "to": "soon", "rollout": "\0"}) == Chosen()


def test_page_markdown_and_api_tell_the_same(
    eventful: Rollout, bob: User, client_for: ClientFor, api_for: ClientFor, django_assert_max_num_queries: Any
) -> None:
    client = client_for(bob)

    page = client.get(f"{PAGE}?kind=flags").content.decode()
    text = client.get("/o/acme/release/log.md?kind=flags&rollout=small").content.decode()
    with django_assert_max_num_queries(30):
        answer = api_for(bob).get(f"{API}?kind=flags").json()
    empty = client.get(f"{PAGE}?to=1999-12-31").content.decode()

    assert [line["what"] for line in answer["results"]] == ["Lowered at once", "Exposure", "Exposure"]
    assert answer["next"] is None
    assert all(html.escape(line["text"]) in page for line in answer["results"])
    assert text.startswith("# Release log of Acme\n\nOnly: Exposure  \nRollout: Small  \nWritten: ")
    assert "UTC — **Exposure**, ai.chat.next-model (Rita, agreed by Adam): Switch off → on; percentage 0% → 50%. Next step" in text
    assert "ai.support.tone" not in text
    assert "Nothing matches" in empty
