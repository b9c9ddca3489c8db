"""SQL that keeps `latency_hour`: in the same statement as the change of events."""

from __future__ import annotations


def _counted(measure: str, of: str = "'', ''") -> str:
    grouped = f"hour, {of}, {measure}_bucket" if of == "model, provider" else f"hour, {measure}_bucket"
    return (
        f"SELECT hour, '{measure}', {of}, {measure}_bucket, count(*) FROM {{calls}} WHERE {measure}_bucket IS NOT NULL GROUP BY {grouped}"  # noqa: S608
    )


# A pass for each measure: a lateral row for each measure of each call takes several times as long.
ADD = f"""
    INSERT INTO latency_hour AS l (hour, measure, model, provider, bucket, count)
    {" UNION ALL ".join((_counted("duration", "model, provider"), _counted("ttft", "model, provider"), _counted("overhead"), _counted("attribution")))}
    ON CONFLICT ON CONSTRAINT latency_hour_once DO UPDATE SET count = l.count + excluded.count
"""
"""Adds the CTE `calls`, with their buckets."""
