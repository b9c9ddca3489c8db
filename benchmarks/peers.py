"""The plane beside two gateways of others, over the same upstream, in one run: LiteLLM's proxy and Portkey.

The plane works in full, as in `benchmarks.gateway`; the others with the least that lets them answer: LiteLLM with a configuration file,
one worker and no database, Portkey without any configuration. They are installed into `.cache/peers` at first use. Whole answers only: this
release of Portkey answers 500 to streams on Node 20.
"""

from __future__ import annotations

import contextlib
import secrets
import statistics
import subprocess
import tempfile
import venv
from collections.abc import Iterator
from pathlib import Path

from cryptography.fernet import Fernet

from benchmarks import gateway
from benchmarks._gateway import load
from gateway.contract import keys

AREA = "gateway"
LITELLM, PORTKEY = "1.106.2", "1.15.2"
HOME = gateway.ROOT / ".cache" / "peers"
CONNECTIONS = 16
ROUNDS = 3
ROUND_S = 4


def measure() -> dict[str, float]:
    """How many times as many requests a second the plane answers, and the rates themselves."""
    litellm, portkey = litellm_program(), _portkey()
    with tempfile.TemporaryDirectory(prefix="gatehouse-bench-") as scratch, gateway.database(Path(scratch)) as database_url:
        home, pepper = Path(scratch), secrets.token_urlsafe(32)
        key = keys.generate("ghk", gateway.TENANT, gateway.KEY_ID)
        with gateway.upstream(home) as upstream:
            gateway.seed(database_url, key, pepper.encode(), upstream)
            environment = {
                "DATABASE_URL": database_url, "DATA_DIR": scratch, "KEY_PEPPER": pepper,
                "SEALING_KEYS": Fernet.generate_key().decode(), "OUTBOUND_ALLOW": "127.0.0.1",
            }  # fmt: skip
            with (
                gateway.granian("gateway.plane.asgi:app", environment, home) as plane,
                running_litellm(litellm, _one_model(upstream), home) as lite,
                _running_portkey(portkey, home) as port,
            ):
                rates = _compare(
                    {
                        "plane": (plane, {"authorization": f"Bearer {key}"}),
                        "litellm": (lite, {"authorization": "Bearer sk-bench"}),
                        "portkey": (
                            port,
                            {"authorization": "Bearer x", "x-portkey-provider": "openai", "x-portkey-custom-host": f"{upstream}/v1"},
                        ),
                    }
                )
    return {
        "litellm_ratio": round(statistics.median(p / other for p, other in zip(rates["plane"], rates["litellm"], strict=True)), 1),
        "portkey_ratio": round(statistics.median(p / other for p, other in zip(rates["plane"], rates["portkey"], strict=True)), 1),
        "litellm_requests_per_s": round(statistics.median(rates["litellm"])),
        "portkey_requests_per_s": round(statistics.median(rates["portkey"])),
    }


def _compare(peers: dict[str, tuple[str, dict[str, str]]]) -> dict[str, list[float]]:
    """Requests a second of each round; rounds alternate."""
    rates: dict[str, list[float]] = {name: [] for name in peers}
    for round_ in range(ROUNDS + 1):  # the first one warms up
        for name, (url, headers) in peers.items():
            found = load.run(f"{url}/v1/chat/completions", headers, connections=CONNECTIONS, seconds=ROUND_S)
            if round_:
                rates[name].append(found.requests_per_s)
    return rates


def litellm_program() -> Path:
    """The proxy's program, in an environment of its own."""
    home = HOME / f"litellm-{LITELLM}"
    program = home / "bin" / "litellm"
    if not program.exists():
        venv.create(home, with_pip=True, clear=True)
        subprocess.run([home / "bin" / "pip", "install", "-q", f"litellm[proxy]=={LITELLM}"], check=True)
    return program


def _portkey() -> Path:
    home = HOME / f"portkey-{PORTKEY}"
    program = home / "node_modules" / "@portkey-ai" / "gateway" / "build" / "start-server.js"
    if not program.exists():
        home.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            ["npm", "install", "--silent", "--prefix", str(home), "--ignore-scripts", f"@portkey-ai/gateway@{PORTKEY}"], check=True
        )
    return program


def _one_model(upstream: str) -> str:
    return (
        "model_list:\n  - model_name: chat\n    litellm_params:\n      model: openai/upstream-model\n"
        f"      api_base: {upstream}/v1\n      api_key: none\ngeneral_settings:\n  master_key: sk-bench\n"
    )


@contextlib.contextmanager
def running_litellm(program: Path, config: str, home: Path) -> Iterator[str]:
    """The proxy with one worker under a configuration in YAML, and without a database; its address."""
    port = gateway.free_port()
    path = home / "litellm.yaml"
    path.write_text(config)
    command = [
        "env",
        "-u",
        "DATABASE_URL",
        str(program),
        "--config",
        str(path),
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--num_workers",
        "1",
    ]
    with gateway.process(command, {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}, f"http://127.0.0.1:{port}", home, start_s=180) as url:
        yield url


@contextlib.contextmanager
def _running_portkey(program: Path, home: Path) -> Iterator[str]:
    """Node may trust private hosts only when told."""
    port = gateway.free_port()
    command = ["node", str(program), f"--port={port}", "--headless"]
    with gateway.process(command, {"TRUSTED_CUSTOM_HOSTS": "127.0.0.1,localhost"}, f"http://127.0.0.1:{port}", home, start_s=30) as url:
        yield url
