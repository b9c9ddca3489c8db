"""Words of pages that callers sent as the value of a tag were values of their own before they were reserved: pages took them for calls without the
tag, and a price found later for such calls went nowhere. They join the other values of their day.

With attribution and pricing held off (`costs.services.ingest.lock_events`).
"""

from django.db import migrations

_WORDS = "('(none)', '(not counted)')"
_COUNTS = ("calls", "refused", "errors", "tokens", "cost", "unpriced_calls", "untagged_calls", "untagged_cost", "estimated_calls")


def _joined(table: str, dimension: str, cube: str = "") -> str:
    key = f"day, {dimension}{cube}"
    sums = ", ".join(f"sum({name})" for name in _COUNTS)
    added = ", ".join(f"{name} = u.{name} + excluded.{name}" for name in _COUNTS)
    # Days and tags come from the small table, by which the index of the large one finds them.
    return f"""
WITH gone AS (
    DELETE FROM {table} t USING (SELECT DISTINCT dimension AS tag, day AS on_day FROM usage_day WHERE dimension ^@ 'tag:' AND value IN {_WORDS}) d
    WHERE t.{dimension} = d.tag AND t.day = d.on_day AND t.value IN {_WORDS} RETURNING t.*
)
INSERT INTO {table} AS u ({key}, value, {", ".join(_COUNTS)})
SELECT {key}, '(other)', {sums} FROM gone GROUP BY {key}
ON CONFLICT ON CONSTRAINT {table}_once DO UPDATE SET {added};
"""


FILL = (
    "SELECT pg_advisory_xact_lock(27262, hashtext(current_schema()));"
    + _joined("attribute_day", "attribute", ", project, cost_centre, agent, model, provider, key_id")
    + _joined("usage_day", "dimension")
)


class Migration(migrations.Migration):

    dependencies = [
        ('costs', '0038_budget_counted'),
    ]

    operations = [
        migrations.RunSQL(FILL, migrations.RunSQL.noop, hints={"placement": "tenant"}),
    ]
