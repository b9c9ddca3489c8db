"""How numbers are written on pages."""

from __future__ import annotations

import pytest

from governance.templatetags.gatehouse import compact


@pytest.mark.parametrize(
    ("value", "text"), [(999, "999"), (128_000, "128K"), (1_050_000, "1.05M"), (317_904_960_000, "317.9B"), (2_000_000_000, "2B")]
)
def test_large_counts_are_short(value: int, text: str) -> None:
    assert compact(value) == text
