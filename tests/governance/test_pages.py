"""Pages of the ground floor answer for everybody."""

import pytest

from governance.models import Tenant, User
from tests.conftest import ClientFor

PAGES = ["operate/home/", "build/home/", "release/home/", "operate/people/", "operate/consent/", "operate/audit/", "search/?q=bo", "me/"]


@pytest.mark.parametrize("path", PAGES)
def test_owner_opens_every_page(client_for: ClientFor, acme: Tenant, alice: User, path: str) -> None:
    response = client_for(alice).get(f"/o/acme/{path}")

    assert response.status_code == 200
    assert b"Acme" in response.content
