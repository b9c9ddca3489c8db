"""Three small tools behind the sandbox's `/mcp`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from mcp.server.mcpserver import MCPServer
from mcp_types import ToolAnnotations

_HANDBOOK = {
    "Expenses": "Expenses up to 50 EUR need no approval. Hand in receipts within 30 days; money arrives with the next salary.",
    "Holidays": "Everyone has 30 days of holiday. Ask your lead two weeks ahead; days left over lapse at the end of March.",
    "Working from home": "You may work from home up to three days a week. Team days are Tuesday and Thursday.",
    "Equipment": "A new laptop every three years. Order it from the service desk; broken ones are swapped the same day.",
    "AI models": "Use models through the gateway only. Personal data of customers needs the consent of the data owner.",
    "Incidents": "Call the duty line first, write second. The one who finds an incident leads it until relieved.",
}
_TO_BASE = {
    "m": ("length", 1.0), "km": ("length", 1000.0), "mi": ("length", 1609.344), "ft": ("length", 0.3048),
    "g": ("mass", 1.0), "kg": ("mass", 1000.0), "lb": ("mass", 453.59237), "oz": ("mass", 28.349523125),
    "l": ("volume", 1.0), "ml": ("volume", 0.001), "gal": ("volume", 3.785411784),
}  # fmt: skip
_READ_ONLY = ToolAnnotations(read_only_hint=True, open_world_hint=False)

server = MCPServer("sandbox-tools", instructions="Small tools for trying out the gateway.", log_level="WARNING")


@server.tool(title="Current time", annotations=_READ_ONLY)
def current_time(time_zone: str = "UTC") -> str:
    """The time now in an IANA time zone, for example Europe/Berlin."""
    try:
        zone = ZoneInfo(time_zone)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise ValueError(f"There is no time zone named {time_zone}.") from error
    return datetime.now(UTC).astimezone(zone).isoformat(timespec="seconds")


@server.tool(title="Convert units", annotations=_READ_ONLY)
def convert_units(
    value: float,
    source: Literal["m", "km", "mi", "ft", "g", "kg", "lb", "oz", "l", "ml", "gal"],
    target: Literal["m", "km", "mi", "ft", "g", "kg", "lb", "oz", "l", "ml", "gal"],
) -> float:
    """Convert a length, a mass or a volume from one unit to another of the same kind."""
    source_kind, source_factor = _TO_BASE[source]
    target_kind, target_factor = _TO_BASE[target]
    if source_kind != target_kind:
        raise ValueError(f"{source} is a {source_kind}, {target} is a {target_kind}.")
    return round(value * source_factor / target_factor, 9)


@server.tool(title="Search the handbook", annotations=_READ_ONLY)
def search_handbook(query: str, limit: int = 3) -> list[dict[str, str]]:
    """Find the handbook's sections that match the words of a question, the best first."""
    words = [word.lower().strip("?.,") for word in query.split() if len(word) > 2]
    scored = [(sum(f"{title} {text}".lower().count(word) for word in words), title) for title, text in _HANDBOOK.items()]
    found = [title for score, title in sorted(scored, key=lambda each: -each[0]) if score]
    return [{"title": title, "text": _HANDBOOK[title]} for title in found[: max(1, limit)]]
