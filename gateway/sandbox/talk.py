"""What the sandbox says: deterministic small talk, token counts and vectors."""

from __future__ import annotations

import hashlib
import math
import re
from typing import Any

_TOKEN = re.compile(r"\w{1,6}|[^\w\s]")
_OPENINGS = (
    "Happy to help with that.",
    "Good question.",
    "Let me think about that for a moment.",
    "Here is a short answer.",
)
_BODIES = (
    "You asked about {topic}. The usual way is to start small, measure what happens, and keep what works.",
    "When people bring up {topic}, three things matter most: who it is for, what it costs, and how you will know it works.",
    "With {topic} I would first write down what must not go wrong, then try the simplest thing that could work.",
    "There is more than one view on {topic}. A careful reader would compare two of them before deciding.",
)
_CLOSINGS = (
    "Tell me more and I can be more precise.",
    "Shall I go into detail?",
    "I am only the sandbox, so take this as a rehearsal.",
    "That should be enough to take the next step.",
)
_STOP_WORDS = frozenset(
    ["a", "an", "and", "are", "can", "could", "do", "for", "from", "how", "i", "in", "is", "it", "me", "my", "of", "on", "or", "please",
     "tell", "that", "the", "to", "what", "when", "why", "with", "you", "your"]
)  # fmt: skip


def count_tokens(text: str) -> int:
    """Stable and roughly what a real tokenizer says: pieces of up to six letters, and punctuation."""
    return len(_TOKEN.findall(text))


def pieces(text: str) -> list[str]:
    """The text in the pieces in which it is streamed: words with the space before them."""
    return re.findall(r"\s*\S+", text)


def text_of(content: Any) -> str:
    """The text of a message's content, which may be a string or a list of parts."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return " ".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return ""


def prompt_tokens(messages: list[Any]) -> int:
    """As chat models count: the text and a few tokens of framing for each message."""
    return 3 + sum(4 + count_tokens(text_of(message.get("content"))) for message in messages if isinstance(message, dict))


def answer(messages: list[Any]) -> str:
    """Some sentences about what the last user message says. The same prompt gets the same answer."""
    prompts = [text_of(message.get("content")) for message in messages if isinstance(message, dict) and message.get("role") == "user"]
    prompt = prompts[-1].strip() if prompts else ""
    seed = int.from_bytes(hashlib.sha256(prompt.encode()).digest()[:8])
    words = [word for word in re.findall(r"[\w'-]+", prompt) if word.lower() not in _STOP_WORDS]
    topic = " ".join(words[:6]) or "nothing in particular"
    opening = _OPENINGS[seed % len(_OPENINGS)]
    body = _BODIES[seed // 7 % len(_BODIES)].format(topic=topic)
    closing = _CLOSINGS[seed // 31 % len(_CLOSINGS)]
    return f"{opening} {body} {closing}"


def vector(text: str, dimensions: int) -> list[float]:
    """A unit vector; texts that share words are near each other."""
    values = [0.0] * dimensions
    for word in re.findall(r"\w+", text.lower()) or [""]:
        digest = hashlib.sha256(word.encode()).digest()
        for index in range(0, 32, 4):
            position = int.from_bytes(digest[index : index + 3]) % dimensions
            values[position] += 1.0 if digest[index + 3] % 2 else -1.0
    length = math.sqrt(sum(value * value for value in values)) or 1.0
    return [round(value / length, 6) for value in values]
