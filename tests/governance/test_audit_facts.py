"""What an audit entry says, in lines."""

from governance.audit_facts import Fact, facts, text


def test_changes_come_first_and_only_what_differs() -> None:
    assert facts({"reason": "Quieter", "before": {"a_b": 1, "same": 2, "gone": 3}, "after": {"a_b": 5, "same": 2, "new": True}}) == [
        Fact("a b", "5", "1", is_change=True),
        Fact("gone", "", "3", is_change=True),
        Fact("new", "yes", "", is_change=True),
        Fact("reason", "Quieter"),
    ]


def test_every_way_in_which_services_write_a_change() -> None:
    assert facts({"before": "approved", "after": "submitted"}) == [Fact("", "submitted", "approved", is_change=True)]
    assert facts({"before": None, "after": {"weight": 3}}) == [Fact("weight", "3", "", is_change=True)]
    assert facts({"before": None, "after": None}) == [Fact("", "", "", is_change=True)]
    assert facts({"before": {"amount": "5"}, "amount": "7", "scope": "all"}) == [
        Fact("amount", "7", "5", is_change=True),
        Fact("scope", "all"),
    ]
    assert facts({"before": "off", "version": 2}) == [Fact("before", "off"), Fact("version", "2")]
    assert facts({"changes": {"Switch": ["off", "on"], "Percentage": ["0%", "10%"]}}) == [
        Fact("Switch", "on", "off", is_change=True), Fact("Percentage", "10%", "0%", is_change=True),
    ]  # fmt: skip
    assert facts({"changes": [{"what": "price", "before": "", "after": "$2", "widens": False}]}) == [
        Fact("price", "$2", "", is_change=True)
    ]
    assert facts({"changes": ["a", "b"]}) == [Fact("changes", "a, b")]
    assert facts({"changes": {"a": [1, 2, 3]}}) == [Fact("changes", "a 1, 2, 3")]


def test_values_read_as_people_write_them() -> None:
    assert text(False) == "no"
    assert text(0) == "0"
    assert text({"a_b": [], "c": {"d": None}, "e": 1}) == "e 1"
    assert text("a" * 64) == f"{'a' * 12}…"
    assert text("2026-11-21T20:00:00.5+02:00") == "2026-11-21 18:00:00 UTC"
    assert text("2026-11-21 20:00:00+00:00") == "2026-11-21 20:00:00 UTC"
    assert text("2026-11-21T20:00:00") == "2026-11-21T20:00:00"  # of no known zone
    assert text("2026-11-21T99:99:99") == "2026-11-21T99:99:99"
    assert facts({"empty": "", "none": None, "list": []}) == []
