"""The sidebar: which section is open, what its badge says, and pages by name in the search."""

from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from catalog import review_selectors, selectors
from catalog.models import KeyRequest
from governance import banners, glance, navigation
from governance.models import Tenant, User
from tests.conftest import ClientFor
from tests.factories.catalog import make_project
from tests.factories.rollouts import membership


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


def test_badges_of_what_is_nowhere_take_one_statement_and_fragments_take_none(
    client_for: ClientFor, acme: Tenant, alice: User, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    mine = membership(alice, acme)
    asked = {rows for item in navigation._items for rows in item.among}
    assert asked

    with django_assert_num_queries(2) as quiet:  # badges, and the banner
        due = [item["due"] for _, items in navigation.items_for(mine, "release") for item in items]
        banner = banners.banner_for(mine)
    with django_assert_num_queries(0):
        nothing = glance.present(set())
    fragment = client_for(alice).get("/o/acme/operate/models/", headers={"HX-Request": "true"})

    assert not any(due)
    assert banner is None
    assert nothing == glance.present(asked) == frozenset()
    assert all(query["sql"].startswith("SELECT EXISTS(") for query in quiet.captured_queries)
    assert "gh-side" not in fragment.content.decode()


def test_badge_is_counted_only_of_what_is_there(acme: Tenant, alice: User, adam: User) -> None:
    KeyRequest.objects.create(
        name="mine", project=make_project(owner=alice), requester=alice, why="A batch", lifetime_days=30, asked_at=timezone.now()
    )

    found = glance.present({review_selectors.waiting, selectors.waiting_key_requests})
    due = {
        person.name: {item["url"]: item["due"] for _, items in navigation.items_for(membership(person, acme), "operate") for item in items}
        for person in (alice, adam)
    }

    assert found == {selectors.waiting_key_requests}
    assert {name: sum(badges.values()) for name, badges in due.items()} == {"Alice": 0, "Adam": 1}
