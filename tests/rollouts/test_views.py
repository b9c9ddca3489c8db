from __future__ import annotations

import pytest

from governance.models import User
from rollouts.models import Gate
from tests.conftest import ClientFor

BASE = "/o/acme/release/"
PAGES = [
    "rollouts/", "rollouts/?view=list", "rollouts/?tab=mine", "rollouts/?tab=planned", "rollouts/?tab=closed", "rollouts/?q=zzz", "rollouts/small/", "rollouts/small/log/", "rollouts/small/log.md",
    "rollouts/small/gates/1/", "rollouts/small/gates/2/", "rollouts/small/gates/1/evidence/", "rollouts/small/gates/1/criteria/overhead/", "rollouts/small/gates/1/criteria/feedback/", "gates/", "plans/",
    "plans/ai-gateway-governance/", "metrics/", "home/",
]


@pytest.mark.parametrize("path", PAGES)
def test_page_opens_from_its_plain_url(path: str, ready_gate: Gate, client_for: ClientFor, bob: User) -> None:
    answer = client_for(bob).get(BASE + path)

    assert answer.status_code == 200
