"""Which surface goes with which upstream protocol. A pair that is missing here is refused, see `exchange.pair_of`."""

from __future__ import annotations

from gateway.plane.translate.anthropic_to_openai import MESSAGES_ON_CHAT
from gateway.plane.translate.openai_to_anthropic import CHAT_ON_MESSAGES
from gateway.plane.translate.responses_to_anthropic import RESPONSES_ON_MESSAGES
from gateway.plane.upstream import anthropic, openai
from gateway.plane.upstream.dialects import Pair

PAIRS: dict[tuple[str, str], Pair] = {
    ("chat", "openai"): openai.CHAT,
    ("embeddings", "openai"): openai.EMBEDDINGS,
    ("responses", "openai"): openai.RESPONSES,
    ("messages", "anthropic"): anthropic.MESSAGES,
    ("count_tokens", "anthropic"): anthropic.COUNT_TOKENS,
    ("chat", "anthropic"): CHAT_ON_MESSAGES,
    ("messages", "openai"): MESSAGES_ON_CHAT,
    ("responses", "anthropic"): RESPONSES_ON_MESSAGES,
}
"""By surface and by the deployment's dialect."""
