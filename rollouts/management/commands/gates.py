"""`./manage.py gates evaluate|replay --tenant acme --rollout slug --gate n`: evaluate now, or judge past evidence again."""

from __future__ import annotations

from argparse import ArgumentParser
from datetime import UTC, datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils.dateparse import parse_datetime
from django_tenants.utils import schema_context

from governance.errors import DomainError
from governance.models import Tenant
from rollouts import gate_selectors, rules, selectors, wording
from rollouts.models import Evaluation, Gate
from rollouts.services.gates import evaluate_gate


class Command(BaseCommand):
    help = "Evaluate a gate now, or recompute its past verdicts from their evidence alone."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("act", choices=["evaluate", "replay"])
        parser.add_argument("--tenant", required=True, help="Address of the organisation.")
        parser.add_argument("--rollout", required=True, help="Address of the rollout.")
        parser.add_argument(
            "--gate", type=int, help="Number of the gate (default: every gate of the rollout for replay, the open one for evaluate)."
        )
        parser.add_argument("--at", help="Replay what held at this time (ISO 8601, UTC when it names no zone); default: every evaluation.")

    def handle(self, *args: Any, **options: Any) -> None:
        tenant = Tenant.objects.filter(slug=options["tenant"]).first()
        if tenant is None:
            raise CommandError(f"There is no organisation {options['tenant']}.")
        with schema_context(tenant.schema_name):
            rollout = selectors.find_rollout(options["rollout"])
            if rollout is None:
                raise CommandError(f"{tenant} has no rollout {options['rollout']}.")
            found = rollout.gates.select_related("rollout", "phase", "latest")
            if options["gate"] is not None:
                found = found.filter(number=options["gate"])
            elif options["act"] == "evaluate":
                found = found.filter(status__in=[Gate.Status.OPEN, Gate.Status.REJECTED])
            gates = list(found)
            if not gates:
                raise CommandError(f"{rollout} has no such gate." if options["gate"] is not None else f"No gate of {rollout} is open.")
            if options["act"] == "evaluate":
                self._evaluate(gates)
            else:
                self._replay(gates, _moment(options["at"]))

    def _evaluate(self, gates: list[Gate]) -> None:
        for gate in gates:
            try:
                evaluation = evaluate_gate(gate=gate, trigger=Evaluation.Trigger.PERSON)
            except DomainError as error:
                raise CommandError(error.message) from error
            assert evaluation is not None
            self.stdout.write(f"{gate}: {wording.gate_sentence(evaluation.records, is_ready=evaluation.is_ready)}")
            for record in wording.worst_first(evaluation.records):
                self.stdout.write(f"  {record['verdict']:14}{record['title']}: {wording.shown_value(record)} ({record['reason']})")

    def _replay(self, gates: list[Gate], at: datetime | None) -> None:
        differing = total = 0
        for gate in gates:
            evaluations = gate.evaluations.order_by("sequence")
            if at is not None:
                newest = evaluations.filter(at__lte=at).last()
                if newest is None:
                    self.stdout.write(f"{gate}: not evaluated by {at:%Y-%m-%d %H:%M} UTC, so not ready")
                    continue
                evaluations = evaluations.filter(pk=newest.pk)
            previous_hash: str | None = None
            for evaluation in evaluations.iterator(chunk_size=200):
                replayed = gate_selectors.replay(evaluation)
                differences = list(replayed.differences)
                if previous_hash is not None and evaluation.previous_hash != previous_hash:
                    differences.append("the evaluation before it is missing or was changed")
                previous_hash = evaluation.evidence_hash
                total += 1
                differing += bool(differences)
                ready = "ready" if replayed.is_ready else "not ready"
                self.stdout.write(
                    f"{evaluation.at:%Y-%m-%d %H:%M:%S} UTC  gate {gate.number}  {rules.Verdict(replayed.verdict):14}{ready:10} {wording.short(evaluation.evidence_hash)}  {'; '.join(differences) or 'same verdict'}"
                )
        self.stdout.write(f"{total} recomputed, {differing} differ.")
        if differing:
            raise CommandError("The evidence does not give the stored verdicts.")


def _moment(text: str | None) -> datetime | None:
    if text is None:
        return None
    found = parse_datetime(text) or parse_datetime(f"{text}T23:59:59")
    if found is None:
        raise CommandError(f"--at {text} is not a time; write for example 2026-11-20T14:00.")
    return found if found.tzinfo else found.replace(tzinfo=UTC)
