"""SQL that says what a call costs: its token classes, the prices in force when it began, and the money, exact.

Ingest, late prices and corrections value a call by these same expressions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from costs.models.price import TokenClass
from gateway.contract.events import CACHED_UNITS, COUNTED_UNITS, INPUT_UNITS, OUTPUT_UNITS, WRITE_UNITS

TOKEN_CLASSES = tuple(TokenClass.values)
"""In the order of `Event.price_ids`."""
USUAL_CLASSES = TOKEN_CLASSES[:4]
"""Every call may use them, and each has a column. The others stand in `units`, which few calls have: their SQL is guarded by that."""
UNIT_CLASSES = TOKEN_CLASSES[4:]


def count(name: str) -> str:
    return f"coalesce((units ->> '{name}')::bigint, 0)"


def counts(names: Iterable[str]) -> str:
    return " + ".join(count(name) for name in names)


_USUAL_JOINS = "\n".join(
    f"""    LEFT JOIN price_entry price_{token_class} ON price_{token_class}.provider = c.provider AND price_{token_class}.model = c.model
        AND price_{token_class}.token_class = '{token_class}' AND price_{token_class}.service_tier = c.service_tier
        AND price_{token_class}.region = '' AND price_{token_class}.context_over = 0 AND price_{token_class}.valid_from <= c.started_at
        AND (price_{token_class}.valid_to IS NULL OR price_{token_class}.valid_to > c.started_at)"""
    for token_class in USUAL_CLASSES
)
"""One entry per class at most, because entries of a series never overlap."""
_BEST = "(array_agg(p.{0} ORDER BY p.region DESC, p.context_over DESC) FILTER (WHERE p.token_class = '{1}'))[1] AS {1}_{2}"
_BEST_OF_CLASSES = ", ".join(
    _BEST.format(column, token_class, name) for token_class in TOKEN_CLASSES for column, name in (("price", "price"), ("id", "price_id"))
)
INPUT_TOKENS = "coalesce(c.uncached_input_tokens, 0) + coalesce(c.cached_input_tokens, 0) + coalesce(c.cache_write_tokens, 0)"


def price_joins(source: str, key: str = "event_id") -> str:
    """What a call `c` of `source`, with `key` of its own, is priced by.

    A choice is needed for models with prices by region or band, and for calls with `units`.
    """
    return f"""{_USUAL_JOINS}
    LEFT JOIN (
        SELECT c.{key}, {_BEST_OF_CLASSES}
        FROM {source} JOIN price_entry p ON p.provider = c.provider AND p.model = c.model AND p.service_tier = c.service_tier
            AND p.valid_from <= c.started_at AND (p.valid_to IS NULL OR p.valid_to > c.started_at)
            AND (p.region = '' OR p.region = c.region) AND (p.context_over = 0 OR p.context_over < {INPUT_TOKENS})
        WHERE c.units IS NOT NULL OR (c.provider, c.model) IN (SELECT provider, model FROM price_entry WHERE region <> '' OR context_over > 0)
        GROUP BY c.{key}
    ) special ON special.{key} = c.{key}"""  # noqa: S608  # names of this module only


PRICED_COLUMNS = f"""
    coalesce(special.input_price, price_input.price) AS input_price,
    -- Cached input and cache writes without a price of their own are charged as input: that is what the gateway reserves.
    coalesce(special.cached_input_price, price_cached_input.price, special.input_price, price_input.price) AS cached_input_price,
    coalesce(special.cache_write_price, price_cache_write.price, special.input_price, price_input.price) AS cache_write_price,
    coalesce(special.output_price, price_output.price) AS output_price,
    coalesce(special.input_price_id, price_input.id) AS input_price_id,
    coalesce(special.cached_input_price_id, price_cached_input.id, special.input_price_id, price_input.id) AS cached_input_price_id,
    coalesce(special.cache_write_price_id, price_cache_write.id, special.input_price_id, price_input.id) AS cache_write_price_id,
    coalesce(special.output_price_id, price_output.id) AS output_price_id,
    -- Sound and images cost many times what text does, and a call of a tool is no token: without a price of its own it is not priced.
    {", ".join(f"special.{name}_{what} AS {name}_{what}" for name in UNIT_CLASSES for what in ("price", "price_id"))}"""

WHOLE_TOKENS = {
    "input": "uncached_input_tokens",
    "cached_input": "cached_input_tokens",
    "cache_write": "cache_write_tokens",
    "output": "output_tokens",
}
"""The usual classes of a call without `units`."""


def _apart(name: str, units: Iterable[str]) -> str:
    tokens = WHOLE_TOKENS[name]
    return f"(CASE WHEN units IS NULL THEN {tokens} ELSE {tokens} - {counts(units).replace(' + ', ' - ')} END)"


CLASS_TOKENS = {
    "input": _apart("input", INPUT_UNITS),
    "cached_input": _apart("cached_input", CACHED_UNITS),
    "cache_write": _apart("cache_write", WRITE_UNITS),
    "output": _apart("output", OUTPUT_UNITS),
    **{name: f"(units ->> '{name}')::bigint" for name in UNIT_CLASSES},
}
"""Disjoint: tokens of the first four and of the units sum to what the provider counts."""
assert set(UNIT_CLASSES) == {*INPUT_UNITS, *CACHED_UNITS, *WRITE_UNITS, *OUTPUT_UNITS, *COUNTED_UNITS}


def _are_priced(names: Iterable[str]) -> str:
    return " AND ".join(f"(coalesce({CLASS_TOKENS[name]}, 0) = 0 OR {name}_price IS NOT NULL)" for name in names)


# A unit that a newer gateway knows and this code does not is one without a price.
IS_PRICED = f"""{_are_priced(USUAL_CLASSES)} AND (units IS NULL OR ({_are_priced(UNIT_CLASSES)}
    AND units - ARRAY[{", ".join(f"'{name}'" for name in UNIT_CLASSES)}] = jsonb_build_object()))"""
# Multiplying by 0.000001 is exact in numeric; dividing by a million would round.
CLASS_COST = {name: f"coalesce({tokens}, 0) * coalesce({name}_price, 0) * 0.000001" for name, tokens in CLASS_TOKENS.items()}
COST = f"""({" + ".join(f"coalesce({CLASS_TOKENS[name]} * {name}_price, 0)" for name in USUAL_CLASSES)}) * 0.000001
    + CASE WHEN units IS NULL THEN 0 ELSE {" + ".join(CLASS_COST[name] for name in UNIT_CLASSES)} END"""


def _price_ids(names: Iterable[str]) -> str:
    return f"ARRAY[{', '.join(f'CASE WHEN coalesce({CLASS_TOKENS[name]}, 0) > 0 THEN {name}_price_id END' for name in names)}]::bigint[]"


PRICE_IDS = f"{_price_ids(USUAL_CLASSES)} || CASE WHEN units IS NULL THEN ARRAY[]::bigint[] ELSE {_price_ids(UNIT_CLASSES)} END"


def by_class(row: Callable[[str], str]) -> str:
    """A lateral subquery with `row` (a list of expressions) for each class that a call may have used."""
    usual, units = (", ".join(f"({row(name)})" for name in names) for names in (USUAL_CLASSES, UNIT_CLASSES))
    return f"(VALUES {usual} UNION ALL SELECT * FROM (VALUES {units}) of_units WHERE units IS NOT NULL)"  # noqa: S608  # expressions of our own


def tokens_and_cost(name: str) -> str:
    """Of a call that is being priced."""
    return f"'{name}', {CLASS_TOKENS[name]}, {CLASS_COST[name]}"


def tokens_and_price_id(name: str) -> str:
    """Of a call that was priced."""
    return f"'{name}', {CLASS_TOKENS[name]}, price_ids[{TOKEN_CLASSES.index(name) + 1}]"


SERVICE_TIER = """CASE WHEN lower(coalesce(b.service_tier, '')) IN ('', 'default', 'auto', 'standard', 'standard_only', 'on_demand') THEN 'standard'
            ELSE left(lower(b.service_tier), 16) END"""
"""What providers call the tier that nobody asked for is `standard`."""
