"""`make run`: starts, says how to get in, survives, stops, and leaves nothing behind."""

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.bootstrap import ROOT
from tests.clock import allowed
from tests.road.product import Product

QUICK_S = 10.0
pytestmark = [pytest.mark.process]


def until_nothing_runs(product: Product, timeout_s: float = 20.0) -> list[str]:
    deadline = time.monotonic() + allowed(timeout_s)
    while product.processes() and time.monotonic() < deadline:
        time.sleep(0.1)
    return product.processes()


def test_first_start_says_how_to_get_in(product: Product, demo: dict[str, Any]) -> None:
    said = product.first_words

    assert f"{product.base_url}/v1/chat/completions" in said
    assert all(user["email"] in said and user["password"] in said for user in demo["users"])
    assert demo["virtual_key"] in said
    assert set(demo) >= {"base_url", "tenant", "users", "api_token", "virtual_key", "model"}
    assert demo == product.demo()


def test_second_one_beside_it_says_why_it_cannot_start(product: Product, tmp_path: Path) -> None:
    def start(other: Product) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "governance.launcher"],
            cwd=ROOT,
            env=other.environment(),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 1
        return done.stdout

    same_folder = start(product)
    same_port = start(Product(tmp_path / "data", port=product.port))

    assert "already runs" in same_folder
    assert "make run PORT=" in same_folder
    assert f"Port {product.port} is in use" in same_port


def test_what_was_written_survives_and_nothing_is_left_behind(product: Product, demo: dict[str, Any]) -> None:
    # Ctrl-C stops everything; so does kill -9 of the owner, in the middle of the second life.
    assert product.stop(signal.SIGINT) == 0
    assert until_nothing_runs(product) == []
    product.start()
    product.stop(signal.SIGKILL)
    assert until_nothing_runs(product) == []

    # The next start is quick, and the key of before still works.
    product.start()
    assert product.started_in_s < allowed(QUICK_S)
    answer = httpx2.post(
        f"{product.base_url}/v1/chat/completions",
        headers={"Authorization": f"Bearer {demo['virtual_key']}"},
        json={"model": demo["model"], "messages": [{"role": "user", "content": "Hello"}]},
        timeout=30,
    )
    assert answer.status_code == 200


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
