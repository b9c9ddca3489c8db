"""What rollouts put into the frame of the portal: sidebar, search and the Release home."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any
from urllib.parse import urlencode

from django.urls import reverse
from django.utils import timezone

from catalog import hooks
from governance import drills, home, navigation, search
from governance.access import Permission
from governance.models import Membership
from rollouts import (
    board_selectors,
    evaluation_selectors,
    experiment_selectors,
    flag_selectors,
    selectors,
    shadow_selectors,
    shift_selectors,
    waiting_selectors,
)
from rollouts import exposure as rules
from rollouts.services import evaluation_runs

SHOWN = 8
MODEL_EXPERIMENTS = 10


def register() -> None:
    """Called once, from AppConfig.ready()."""
    drills.register(selectors.drill_subjects)
    item = partial(navigation.Item, "release", permission=Permission.VIEW)
    navigation.register(
        item("Roll out", "Rollouts", "rollout-list", icon="layout-board", order=10),
        item(
            "Roll out",
            "Gates",
            "gate-list",
            icon="circle-check",
            order=20,
            due=waiting_selectors.due_count,
            among=(waiting_selectors.opened,),
        ),
        item("Roll out", "Plans", "plan-list", icon="file-text", order=30),
        item("Steer", "Flags", "flag-list", icon="flag", order=10, due=flag_selectors.due_count, among=(flag_selectors.waiting_changes,)),
        item(
            "Steer",
            "Experiments",
            "experiment-list",
            icon="flask",
            order=20,
            due=experiment_selectors.due_count,
            among=(experiment_selectors.undecided,),
        ),
        item("Steer", "Shadows", "shadow-list", icon="copy", order=25, due=shadow_selectors.due_count, among=(shadow_selectors.drafts,)),
        item(
            "Steer",
            "Traffic shifts",
            "shift-list",
            icon="stairs-up",
            order=30,
            due=shift_selectors.due_count,
            among=(shift_selectors.paused,),
        ),
        item("Prove", "Release log", "release-log", icon="history", order=5),
        item("Prove", "Metrics", "metric-list", icon="ruler-measure", order=10),
        item(
            "Prove",
            "Evaluations",
            "evaluation-run-list",
            icon="clipboard-check",
            order=20,
            due=evaluation_selectors.due_count,
            among=(evaluation_selectors.waiting_waivers, evaluation_selectors.waiting_changes),
        ),
    )
    hooks.register_approval_checks(_ApprovalChecks())
    hooks.register_experiments(_experiments_on)
    hooks.register_named_versions(lambda: flag_selectors.prompts_of(flag_selectors.served_flags()))
    search.register(search.Source("Rollouts", Permission.VIEW, _find))
    search.register(search.Source("Flags", Permission.VIEW, _find_flags))
    search.register(search.Source("Experiments", Permission.VIEW, _find_experiments))
    home.register(
        home.Panel("release", "rollouts/partials/home_waiting.html", Permission.VIEW, _waiting, order=10, line=_waiting_line),
        home.Panel("release", "rollouts/partials/home_flags.html", Permission.SIGN_GATES, _flags_waiting, order=15),
        home.Panel("release", "rollouts/partials/home_current.html", Permission.VIEW, _current, order=20, line=_current_line),
    )


class _ApprovalChecks:
    """`catalog.hooks.ApprovalChecks`"""

    check_model = staticmethod(evaluation_runs.check_model)
    check_prompt = staticmethod(evaluation_runs.check_prompt)
    check_deployment = staticmethod(evaluation_runs.check_deployment)
    asked_of_deployment = staticmethod(evaluation_selectors.asked_of_deployment)
    asked_of_prompt = staticmethod(evaluation_selectors.asked_of_prompt)


def _find(query: str, membership: Membership, limit: int) -> Iterable[search.Hit]:
    return [
        search.Hit(
            rollout.name,
            f"{rollout.get_status_display()}, owner {rollout.owner}",
            reverse("rollout-detail", kwargs={"slug": rollout.slug}),
            icon="layout-board",
        )
        for rollout in selectors.rollouts(query=query)[:limit]
    ]


def _find_flags(query: str, membership: Membership, limit: int) -> Iterable[search.Hit]:
    return [
        search.Hit(
            flag.key,
            f"{flag.title}, {rules.sentence(flag.exposure).lower()}",
            reverse("flag-detail", kwargs={"key": flag.key}),
            icon="flag",
        )
        for flag in flag_selectors.flags(query=query)[:limit]
    ]


def _find_experiments(query: str, membership: Membership, limit: int) -> Iterable[search.Hit]:
    return [
        search.Hit(
            experiment.name,
            f"{experiment.get_status_display()}, on {experiment.flag.key}",
            reverse("experiment-detail", kwargs={"slug": experiment.slug}),
            icon="flask",
        )
        for experiment in experiment_selectors.experiments(query=query)[:limit]
    ]


def _experiments_on(model: str) -> hooks.ModelExperiments:
    lines = [
        hooks.ExperimentLine(
            experiment.name,
            reverse("experiment-detail", kwargs={"slug": experiment.slug}),
            experiment.state_words,
            experiment.note if experiment.decision else experiment.latest.report.sentence if experiment.latest else "",
        )
        for experiment in experiment_selectors.experiments_about(model)[:MODEL_EXPERIMENTS]
    ]
    flag = experiment_selectors.flags_to_experiment_on().filter(model=model).first()
    if flag is not None:
        return hooks.ModelExperiments(lines, f"{reverse('experiment-new')}?{urlencode({'flag': flag.key})}", "New experiment")
    return hooks.ModelExperiments(lines, f"{reverse('flag-new')}?{urlencode({'model': model})}", "Compare with another model")


def _waiting(membership: Membership) -> Any:
    """None while nothing waits for this person."""
    return waiting_selectors.waiting_for(membership)[:SHOWN] or None


def _waiting_line(panel: Sequence[waiting_selectors.Waiting]) -> str:
    return f"{_counted(panel, 'gate waits', 'gates wait')} for you."


def _flags_waiting(membership: Membership) -> Any:
    """None while no change and no emergency waits for this person."""
    return list(flag_selectors.waiting_for(membership)[:SHOWN]) or None


def _current(membership: Membership) -> Any:
    """Always there: who has no rollout yet sees how to start one."""
    return board_selectors.board(list(selectors.rollouts(tab="running")[:SHOWN]), membership=membership, now=timezone.now())


def _current_line(panel: Sequence[board_selectors.BoardRow]) -> str:
    if not panel:
        return ""
    late = sum(row.is_late for row in panel)
    return f"{_counted(panel, 'rollout is', 'rollouts are')} under way{f', {late} late' if late else ''}."


def _counted(panel: Sequence[Any], one: str, many: str) -> str:
    """Panels show a few: as many may be more."""
    return f"{len(panel)}{' or more' if len(panel) == SHOWN else ''} {one if len(panel) == 1 else many}"
