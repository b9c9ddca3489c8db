"""What each surface of the gateway calls a parameter, and what of it the Anthropic protocol knows."""

from __future__ import annotations

_SAME = {"temperature": "temperature", "top_p": "top_p"}
FIELDS: dict[str, dict[str, str]] = {
    "chat": {
        **_SAME,
        "max_tokens": "max_completion_tokens",
        "frequency_penalty": "frequency_penalty",
        "presence_penalty": "presence_penalty",
        "reasoning_effort": "reasoning_effort",
    },
    "responses": {**_SAME, "max_tokens": "max_output_tokens", "reasoning_effort": "reasoning.effort"},
    "messages": {**_SAME, "max_tokens": "max_tokens", "reasoning_effort": "output_config.effort"},
}
"""By surface and our name of `treatments.PARAMETERS`: where it stands. A dot stands between an object and its field."""
MOST_OUTPUT: dict[str, tuple[str, ...]] = {
    "chat": ("max_completion_tokens", "max_tokens"),
    "messages": ("max_tokens",),
    "responses": ("max_output_tokens",),
    "count_tokens": (),
}
"""The names that a surface has for the most tokens to write."""
MOST_OUTPUT_NAMES = tuple(dict.fromkeys(name for names in MOST_OUTPUT.values() for name in names))
MESSAGES_EFFORTS = ("low", "medium", "high", "xhigh")
MESSAGES_TEMPERATURE = 1
