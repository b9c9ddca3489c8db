"""SQL that keeps `attribute_day` and its part of `usage_day`: in the same statement as the change of events, or at least in the same transaction.

Both have a row for each value of deployment, region and the tags that the organisation declared, for every call: empty where it has none.
"""

from __future__ import annotations

from collections.abc import Sequence

from costs import usage_days
from costs.models import Budget, RequiredTag
from costs.selectors import NONE

TAG = "tag:"
"""Begins an attribute that is a tag; its name follows."""
COLUMNS = ("deployment", "region")
"""Attributes that are columns of a call, and their names as attributes."""
KEPT = 200
"""Values of a tag and UTC day with rows of their own, the first ones that came; a tag with a value for each call stays small. Values that a
budget names have one besides."""
OTHER = "(other)"
"""Stands for all values beyond them."""
UNCOUNTED = "(not counted)"
"""Stands for calls of days on which an attribute was not counted; in no row and no URL."""
RESERVED = (NONE, UNCOUNTED)
"""Words of pages and addresses: a call that sends one of them as the value of a tag counts as OTHER."""
LONGEST = 128
_CUBE = "project, cost_centre, agent, model, provider, key_id"
_COUNTS = usage_days.COUNTS
_ADDED = ", ".join(f"{name} = u.{name} + excluded.{name}" for name in _COUNTS.split(", "))
_KNOWN = "value NOT IN ('', '" + OTHER + "')"

# A value that has a row of the day keeps it, others get one while there are less than KEPT: so a call counts in the same row whenever its
# price comes. Those of one batch are taken by their calls. A value that a budget names counts as one that has a row: or the budget would see
# nothing of it.
_BEYOND = f"""valued AS (
    SELECT attribute, day, value, sum(calls) AS calls FROM split WHERE attribute ^@ '{TAG}' AND {_KNOWN} GROUP BY 1, 2, 3
), known AS (
    SELECT u.dimension AS attribute, u.day, u.value
    FROM (SELECT DISTINCT attribute, day FROM valued) v JOIN usage_day u ON (u.dimension, u.day) = (v.attribute, v.day) AND u.{_KNOWN}
    UNION
    SELECT v.attribute, v.day, v.value
    FROM valued v JOIN (SELECT '{TAG}' || ref AS named FROM {Budget._meta.db_table} WHERE scope = '{Budget.Scope.TAG}') b
        ON b.named = v.attribute || '=' || v.value
), beyond AS (
    SELECT n.attribute, n.day, n.value
    FROM (
        SELECT v.*, row_number() OVER (PARTITION BY v.attribute, v.day ORDER BY v.calls DESC, v.value) AS place
        FROM valued v LEFT JOIN known k USING (attribute, day, value) WHERE k.value IS NULL
    ) n LEFT JOIN (SELECT attribute, day, count(*) AS kept FROM known GROUP BY 1, 2) k USING (attribute, day)
    WHERE n.place > {KEPT} - coalesce(k.kept, 0)
), """  # noqa: S608  # names of this module only


def _said(tag: str) -> str:
    """A tag of a call as it is counted."""
    words = ", ".join(f"'{word}'" for word in RESERVED)
    return f"CASE WHEN {tag} IN ({words}) THEN '{OTHER}' ELSE left(coalesce({tag}, ''), {LONGEST}) END"


def parameters(tags: list[str]) -> dict[str, str]:
    """For the statements of these tags."""
    return {f"tag_{index}": name for index, name in enumerate(tags)}


def detail(calls: str, tags: list[str]) -> str:
    """The CTE `by_detail`, which `add` takes: rows of the CTE `calls` shaped like `usage_hour`, by the attributes besides."""
    found = (f", {_said(f'tags ->> %(tag_{index})s')} AS tag_{index}" for index in range(len(tags)))
    return f"""by_detail AS (
    SELECT hour, project, cost_centre, agent, model, provider, key_id, kind,
        {usage_days.OUTCOME} AS outcome, deployment, region{"".join(found)}, count(*) AS calls,
        coalesce(sum(uncached_input_tokens), 0) AS uncached_input_tokens, coalesce(sum(cached_input_tokens), 0) AS cached_input_tokens,
        coalesce(sum(cache_write_tokens), 0) AS cache_write_tokens, coalesce(sum(output_tokens), 0) AS output_tokens,
        coalesce(sum(cost), 0) AS cost, count(*) FILTER (WHERE pricing = 'unpriced') AS unpriced_calls,
        count(*) FILTER (WHERE {usage_days.IS_UNTAGGED}) AS untagged_calls, count(*) FILTER (WHERE usage_source = 'estimated') AS estimated_calls,
        sum(duration_us) AS duration_us, max(started_at) AS last_event_at
    FROM {calls} GROUP BY {", ".join(str(column) for column in range(1, 12 + len(tags)))}
)"""  # noqa: S608  # names of this module only


def add(tags: list[str], columns: Sequence[str] = COLUMNS) -> str:
    """CTEs that add the rows of the CTE `by_detail`, as `detail` makes it with the same tags; one tag or column at least."""
    attributes = [f"('{name}', c.{name})" for name in columns] + [
        f"('{TAG}' || %(tag_{index})s, c.tag_{index})" for index in range(len(tags))
    ]
    value, beyond, join = "s.value", "", ""
    if tags:
        value, beyond = f"CASE WHEN b.value IS NULL THEN s.value ELSE '{OTHER}' END", _BEYOND
        join = "LEFT JOIN beyond b ON (b.attribute, b.day, b.value) = (s.attribute, s.day, s.value)"
    cube = ", ".join(f"c.{column}" for column in _CUBE.split(", "))
    return f"""split AS (
    SELECT (c.hour AT TIME ZONE 'UTC')::date AS day, a.attribute, a.value, {cube}, {usage_days.FIGURES}
    FROM by_detail c CROSS JOIN LATERAL (VALUES {", ".join(attributes)}) a(attribute, value)
    GROUP BY 1, 2, 3, {cube}
), {beyond}attributed AS (
    SELECT s.day, s.attribute, {value} AS value, {_CUBE}, {", ".join(f"sum({name}) AS {name}" for name in _COUNTS.split(", "))}
    FROM split s {join} GROUP BY 1, 2, 3, {_CUBE}
), by_attribute AS (
    INSERT INTO attribute_day AS u (day, attribute, value, {_CUBE}, {_COUNTS})
    SELECT day, attribute, value, {_CUBE}, {_COUNTS} FROM attributed
    ON CONFLICT ON CONSTRAINT attribute_day_once DO UPDATE SET {_ADDED}
), by_attribute_and_day AS (
    INSERT INTO usage_day AS u (day, dimension, value, {_COUNTS})
    SELECT day, attribute, value, {", ".join(f"sum({name})" for name in _COUNTS.split(", "))} FROM attributed GROUP BY 1, 2, 3
    ON CONFLICT ON CONSTRAINT usage_day_once DO UPDATE SET {_ADDED}
)"""  # noqa: S608  # names of this module only


_SAID = " UNION ALL ".join(
    [f"SELECT '{name}', f.{name}" for name in COLUMNS]
    + [f"SELECT '{TAG}' || name, {_said('f.tags ->> name')} FROM {RequiredTag._meta.db_table}"]  # noqa: S608  # names of ours
)
_MORE = "cost = t.cost + n.cost, unpriced_calls = t.unpriced_calls - n.calls, untagged_cost = t.untagged_cost + n.untagged_cost"
VALUE = f"""worth AS (
    SELECT (f.started_at AT TIME ZONE 'UTC')::date AS day, a.attribute,
        CASE WHEN a.attribute ^@ '{TAG}' AND a.{_KNOWN} AND u.value IS NULL THEN '{OTHER}' ELSE a.value END AS value, {_CUBE},
        sum({{money}}) AS cost, {{unpriced}} * count(*) AS calls, coalesce(sum({{money}}) FILTER (WHERE {usage_days.IS_UNTAGGED}), 0) AS untagged_cost
    FROM {{calls}} f CROSS JOIN LATERAL ({_SAID}) a(attribute, value)
    LEFT JOIN usage_day u ON a.attribute ^@ '{TAG}' AND (u.dimension, u.day, u.value) = (a.attribute, (f.started_at AT TIME ZONE 'UTC')::date, a.value)
    GROUP BY 1, 2, 3, {_CUBE}
), by_attribute AS (
    UPDATE attribute_day t SET {_MORE} FROM worth n
    WHERE (t.attribute, t.day, t.value, {", ".join(f"t.{column}" for column in _CUBE.split(", "))})
        = (n.attribute, n.day, n.value, {", ".join(f"n.{column}" for column in _CUBE.split(", "))})
), by_attribute_and_day AS (
    UPDATE usage_day t SET {_MORE}
    FROM (SELECT attribute, day, value, sum(cost) AS cost, sum(calls) AS calls, sum(untagged_cost) AS untagged_cost FROM worth GROUP BY 1, 2, 3) n
    WHERE (t.dimension, t.day, t.value) = (n.attribute, n.day, n.value)
)"""  # noqa: S608  # names of this module only
"""CTEs that give calls in the CTE `calls` `money` more; `unpriced` is 1 when they had no price before, else 0."""
