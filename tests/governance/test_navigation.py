"""The sidebar: which section is open, what its badge says, and pages by name in the search."""

from governance import navigation
from governance.models import Tenant, User
from tests.conftest import ClientFor


def test_sidebar_opens_the_section_one_is_in_those_one_opened_and_what_fits() -> None:
    sizes = {"": 1, "Catalog": 4, "Control": 6, "Costs": 13, "Reliability": 2, "Organisation": 4}
    found = [
        (title, [{"title": title, "url": f"/{title}/{number}/", "due": number} for number in range(size)]) for title, size in sizes.items()
    ]

    def opened(chosen: str, current: str = "") -> list[str]:
        sections = navigation.sections_for(found, area="operate", current=current, chosen=chosen)
        assert [section.due for section in sections] == [0, 6, 15, 78, 1, 6]
        return [section.title for section in sections if section.title and section.is_open]

    assert opened("") == ["Catalog", "Control", "Reliability", "Organisation"]
    assert opened("", "/Costs/3/") == ["Catalog", "Costs"]
    assert opened("operate-costs_0", "/Costs/3/") == ["Catalog", "Costs"]  # the one that one is in is never hidden
    assert opened("operate-control_1.build-try_1.operate-catalog_0", "/Costs/3/") == ["Control", "Costs"]
    assert opened("nonsense.__.operate-control_2") == opened("")


def test_page_shows_its_section_and_search_finds_pages_by_name(client_for: ClientFor, acme: Tenant, alice: User, bob: User) -> None:
    client = client_for(alice)
    client.cookies[navigation.COOKIE] = "operate-control_1"

    page = client.get("/o/acme/operate/costs/budgets/").content.decode()
    found, hidden = (client_for(user).get("/o/acme/search/?q=budg").content.decode() for user in (alice, bob))

    assert 'data-section="operate-costs" open' in page
    assert 'data-section="operate-control" open' in page
    assert 'data-section="operate-organisation">' in page
    assert page.count('aria-current="page"') == 1
    assert "Operate · Costs" in found
    assert "Operate · Costs" not in hidden
