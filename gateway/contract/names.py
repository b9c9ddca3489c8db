"""Tables, channels and headers that both halves of the gateway name."""

SNAPSHOT_TABLE = "public.gateway_snapshot"
COUNTER_TABLE = "public.gateway_counter"
SLOT_TABLE = "public.gateway_slot"
INBOX_TABLE = "public.inbox"
CIRCUIT_TABLE = "public.gateway_circuit_change"

SNAPSHOT_CHANNEL = "gatehouse_snapshot"
"""PostgreSQL NOTIFY channel; the payload is `<tenant public id>:<version>`."""

PLATFORM = "platform"
"""Stands where a tenant's public id does, for what holds for every tenant. No public id has an `l` or an `o`."""

AGENT_HEADER = "x-gatehouse-agent"
"""Request header in which an agent names itself."""
TAGS_HEADER = "x-gatehouse-tags"
"""Request header with `name=value` pairs, separated by commas."""
CACHE_HEADER = "x-gatehouse-cache"
"""Request header: `off` asks the provider in any case. Response header: `hit` when it was not asked."""
REQUEST_ID_HEADER = "x-request-id"
OVERHEAD_HEADER = "x-gatehouse-overhead-ms"
"""Response header: time spent in the gateway itself before the first byte, in milliseconds."""
