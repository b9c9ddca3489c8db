"""What flags cost: one decision, and one evaluation over OFREP beside an endpoint that does nothing, in alternating rounds of one run."""

from __future__ import annotations

import secrets
import statistics
import tempfile
import time
from pathlib import Path

import psycopg
from cryptography.fernet import Fernet

from benchmarks import gateway
from benchmarks._gateway import load
from gateway.contract import keys, names
from gateway.contract import snapshot as contract
from gateway.contract.flags import BUCKETS, Cohort, Exposure, Flag, Override, Range, decide

FLAGS = 20
"""Of the tenant; the bulk request evaluates them all."""
DECISIONS = 20_000
ROUNDS = 5
ROUND_S = 3
CONNECTIONS = 16
CONTEXT = '{"context":{"targetingKey":"user-4711","region":"eu-west","plan":"pro","project":"bench"}}'
EXPOSURE = Exposure(
    on=True,
    overrides=tuple(
        Override(attribute="user", values=tuple(f"somebody-{line}-{number}" for number in range(20)), variant="off") for line in range(5)
    ),
    cohorts=(Cohort(name="pilot", attribute="plan", values=("team", "pro")),),
    regions=("us-east", "eu-west"),
    percentage=50_000,
    ranges=(Range("on", 0, 60_000), Range("beta", 60_000, BUCKETS)),
)
"""Every rule is asked: a hundred overridden users, a cohort, regions, two hashes."""


def measure() -> dict[str, float]:
    """Microseconds of a decision; evaluations per second of one process, single and bulk, and of the bare endpoint."""
    with tempfile.TemporaryDirectory(prefix="gatehouse-bench-") as scratch, gateway.database(Path(scratch)) as database_url:
        home = Path(scratch)
        pepper = secrets.token_urlsafe(32)
        key = keys.generate("ghk", gateway.TENANT, gateway.KEY_ID)
        _seed(database_url, key, pepper.encode())
        environment = {
            "DATABASE_URL": database_url, "DATA_DIR": scratch, "KEY_PEPPER": pepper, "SEALING_KEYS": Fernet.generate_key().decode(),
        }  # fmt: skip
        with (
            gateway.granian("benchmarks._gateway.answer:app", {}, home) as bare,
            gateway.granian("gateway.plane.asgi:app", environment, home) as plane,
        ):
            ofrep = f"{plane}/ofrep/v1/evaluate/flags"
            figures = _compare(f"{bare}/", f"{ofrep}/{_flag(0).key}", ofrep, {"authorization": f"Bearer {key}"})
    return {"flag_decision_us": _decision_us(), **figures}


def _decision_us() -> float:
    """Mean of one decision, each for another user; the median of the rounds."""
    flag, rounds = _flag(0), []
    contexts = [{"user": f"user-{number}", "region": "eu-west", "plan": "pro"} for number in range(DECISIONS)]
    for _ in range(ROUNDS):
        began = time.perf_counter_ns()
        for context in contexts:
            decide(flag, context, True)
        rounds.append((time.perf_counter_ns() - began) / 1000 / DECISIONS)
    return round(statistics.median(rounds), 2)


def _compare(bare: str, single: str, bulk: str, headers: dict[str, str]) -> dict[str, float]:
    def asked(url: str, seconds: float = ROUND_S) -> float:
        return load.run(url, headers, connections=CONNECTIONS, seconds=seconds, body=CONTEXT).requests_per_s

    for url in (bare, single, bulk):
        asked(url, 1)
    rounds = [(asked(bare), asked(single), asked(bulk)) for _ in range(ROUNDS)]
    return {
        "ofrep_per_s": round(statistics.median(one for _, one, _ in rounds)),
        "ofrep_bare_per_s": round(statistics.median(least for least, _, _ in rounds)),
        "ofrep_ratio": round(statistics.median(one / least for least, one, _ in rounds), 3),
        "ofrep_bulk_flags_per_s": round(statistics.median(many for _, _, many in rounds) * FLAGS),
    }


def _flag(number: int) -> Flag:
    return Flag(
        key=f"ai.bench.flag-{number}", version=1, kind="string", variants={"off": "a", "on": "b", "beta": "c"}, control="off",
        feature_class="assistants", sticky="user", rollout_salt=f"rollout-{number}", variant_salt=f"variant-{number}", exposure=EXPOSURE,
    )  # fmt: skip


def _seed(database_url: str, key: str, pepper: bytes) -> None:
    tenant, key_id = gateway.TENANT, gateway.KEY_ID
    digest = keys.digest(key, pepper)
    snapshot = contract.TenantSnapshot(
        tenant=tenant, slug=tenant, schema=tenant, version=1,
        consents={"assistants": contract.Consent(feature_class="assistants", granted=True, reason="")},
        projects={"bench": contract.Project(slug="bench", name="Bench")},
        keys={key_id: contract.Key(id=key_id, digest=digest, name="bench", project="bench", owner="bench", models=None, tools=None)},
        flags={flag.key: flag for flag in map(_flag, range(FLAGS))},
        facts={"tenant": tenant, "tier": "pro", "kind": "customer", "region": "eu-west"},
    )  # fmt: skip
    body = contract.encode(snapshot)
    with psycopg.connect(database_url) as connection:
        connection.execute(
            f"insert into {names.SNAPSHOT_TABLE} (tenant, version, checksum, body, published_at) values (%s, 1, %s, %s, now())",
            [gateway.TENANT, contract.checksum(body), body],
        )
