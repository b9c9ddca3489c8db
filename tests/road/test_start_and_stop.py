"""`make run`: starts, says how to get in, survives, stops, and leaves nothing behind."""

import signal
import subprocess
import sys
import time

import httpx2
import pytest

from tests.bootstrap import ROOT
from tests.road.product import Product

pytestmark = [pytest.mark.process]


def until_nothing_runs(product: Product, timeout_s: float = 20.0) -> list[str]:
    deadline = time.monotonic() + timeout_s
    while product.processes() and time.monotonic() < deadline:
        time.sleep(0.1)
    return product.processes()


def test_life_of_an_installation(tmp_path_factory: pytest.TempPathFactory) -> None:
    product = Product(tmp_path_factory.mktemp("life") / "data")

    # The first start makes everything and says how to get in.
    product.start()
    said = product.log.read_text()
    assert f"{product.base_url}/v1/chat/completions" in said
    assert "alice@acme.example" in said
    demo = product.demo()
    assert set(demo) >= {"base_url", "tenant", "users", "api_token", "virtual_key", "model"}
    assert demo == product.demo()
    assert demo["virtual_key"] in said

    # A second one beside it says why it can't start.
    beside = subprocess.run(
        [sys.executable, "-m", "governance.launcher"],
        cwd=ROOT,
        env=product.environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert beside.returncode == 1
    assert "already runs" in beside.stdout
    assert "make run PORT=" in beside.stdout
    taken = Product(tmp_path_factory.mktemp("taken") / "data", port=product.port)
    refused = subprocess.run(
        [sys.executable, "-m", "governance.launcher"],
        cwd=ROOT,
        env=taken.environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert f"Port {product.port} is in use" in refused.stdout

    # Ctrl-C stops everything.
    assert product.stop(signal.SIGINT) == 0
    assert until_nothing_runs(product) == []

    # The second start is quick and finds what was written; kill -9 of the owner leaves nothing behind either.
    first = product.started_in_s
    product.start()
    assert product.started_in_s < max(10.0, first * 0.8)
    answer = httpx2.post(
        f"{product.base_url}/v1/chat/completions",
        headers={"Authorization": f"Bearer {demo['virtual_key']}"},
        json={"model": demo["model"], "messages": [{"role": "user", "content": "Hello"}]},
        timeout=30,
    )
    assert answer.status_code == 200
    product.stop(signal.SIGKILL)
    assert until_nothing_runs(product) == []


def test_missing_secret_stops_a_real_start(tmp_path_factory: pytest.TempPathFactory) -> None:
    product = Product(tmp_path_factory.mktemp("bare") / "data")
    environment = product.environment(DATABASE_URL="postgresql://nobody@127.0.0.1:1/none")

    for more, sentence in (
        ({}, "SECRET_KEY is not set"),
        ({"SECRET_KEY": "changeme-changeme-changeme-changeme-changeme"}, "SECRET_KEY must be a random text"),
        ({"SECRET_KEY": "x" * 40}, "KEY_PEPPER is not set"),
        ({"SECRET_KEY": "x" * 40, "KEY_PEPPER": "y" * 40}, "SEALING_KEYS is not set"),
    ):
        done = subprocess.run(
            [sys.executable, "manage.py", "migrate"],
            cwd=ROOT,
            env=environment | more,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 1
        assert sentence in done.stderr
