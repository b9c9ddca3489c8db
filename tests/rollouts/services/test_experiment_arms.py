"""An experiment with more than two arms, on a flag of its own."""

from __future__ import annotations

from governance.models import Tenant, User
from tests.factories.rollouts import make_experiment, make_split_flag
from tests.rollouts.services.test_experiments import START, arrive, read


def test_several_treatments_are_each_measured_against_the_champion(acme: Tenant, rita: User, adam: User) -> None:
    flag = make_split_flag(rita, adam, percentage=66_667, variants=("old", "new", "newer"))
    experiment = make_experiment(flag, rita, at=START)
    arrive(acme, flag, users=400)

    reading = read(experiment)

    assert {each.variant for each in reading.report.contenders} == {"new", "newer"}
    assert (reading.advice, reading.report.winner) == ("promote", "new")
