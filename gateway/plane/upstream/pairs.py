"""Which surface goes with which upstream protocol. A pair that is missing here is refused, see `exchange.pair_of`."""

from __future__ import annotations

from gateway.plane.upstream import anthropic, openai
from gateway.plane.upstream.dialects import Pair

PAIRS: dict[tuple[str, str], Pair] = {
    ("chat", "openai"): openai.CHAT,
    ("embeddings", "openai"): openai.EMBEDDINGS,
    ("responses", "openai"): openai.RESPONSES,
    ("messages", "anthropic"): anthropic.MESSAGES,
}
"""By surface and by the deployment's dialect."""
