"""Answers given again to questions that only mean the same.

Compared is the last thing that a user says; everything else of the request (what was said before, system prompt, parameters, surface) must be
the same to the letter, and with organisation, model, scope and guardrails makes the *partition* that is searched. So nothing is ever
compared across them. Not looked up at all: requests with tools, with a picture or a file in the last message, or that ask for variety
(a temperature above 0, several choices). Vectors are compared by pgvector in the organisation's own schema, answers are sealed.

When the embedding or the database takes too long, the call simply goes on.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
import zlib
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from math import sqrt
from typing import Any

import msgspec
import orjson
import psycopg
from psycopg import sql

from gateway.contract.events import Step
from gateway.contract.names import SEMANTIC_TABLE
from gateway.contract.sealing import Sealer, UnsealError
from gateway.contract.snapshot import Model, Semantic
from gateway.plane import text
from gateway.plane.assembly import assembled
from gateway.plane.cache import Kept
from gateway.plane.call import Call
from gateway.plane.database import Link
from gateway.plane.errors import DatabaseAwayError, Refusal
from gateway.plane.inner import ask
from gateway.plane.served import Served
from gateway.plane.usage import Usage

logger = logging.getLogger(__name__)

EMBEDDING_S = 1.0
"""How long the embedding of a question may take."""
LOOKUP_S = 0.2
"""With the wait for the connection, and for its opening."""
TURN_S = 0.1
"""Of it, for calls that look up at the same time; who waits longer has no time left for a statement."""
KEEP_S = 2.0
SAMPLE_S = 120.0
MOST_CHARACTERS = 8000
"""A longer question is not compared: the more it says, the less one vector tells."""
MOST_COMPARED = 2000
"""The newest answers of one partition."""
MOST_AT_ONCE = 16
"""Things done behind answers; what comes on top is left out."""
AGREES_FROM = 0.85
"""The least similarity of two answers that say the same."""
CAUSE = "semantic_cache"
SAMPLE_CAUSE = "semantic_cache_sample"


@dataclass(frozen=True, slots=True)
class Asked:
    """A question, ready to be compared. Holds what was said, so it is never logged."""

    partition: str
    vector: list[float]

    def __repr__(self) -> str:
        return f"Asked({self.partition})"


@dataclass(frozen=True, slots=True)
class Near:
    answer: Kept
    similarity: float


class _Stored(msgspec.Struct):
    """An answer as it is sealed."""

    tenant: str
    partition: str
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    usage: Usage | None


class SemanticStore:
    """The table of each tenant. DatabaseAwayError or TimeoutError when it cannot be asked in time, or has no pgvector."""

    def __init__(self, link: Link, keeping: Link, sealer: Sealer) -> None:
        self._link = link
        self._keeping = keeping
        """Nobody waits for it: answers are put down here, so that no look-up waits for one."""
        self._sealer = sealer

    async def nearest(self, schema: str, tenant: str, asked: Asked, threshold: float) -> Near | None:
        query = sql.SQL(
            "select sealed, kept_at, until, similarity from (select sealed, extract(epoch from kept_at)::float8 as kept_at,"
            " extract(epoch from until)::float8 as until, 1 - (embedding::public.vector <=> %(vector)s::float8[]::public.vector) as similarity"
            " from (select * from {table} where partition = %(partition)s and until > now() and cardinality(embedding) = %(size)s"
            " order by kept_at desc limit %(most)s) recent) compared where similarity >= %(threshold)s order by similarity desc limit 1"
        ).format(table=sql.Identifier(schema, SEMANTIC_TABLE))
        values = {
            "vector": asked.vector,
            "partition": asked.partition,
            "size": len(asked.vector),
            "most": MOST_COMPARED,
            "threshold": threshold,
        }
        try:
            async with asyncio.timeout(LOOKUP_S), self._link.use(LOOKUP_S * 0.95, turn_s=TURN_S) as connection:
                row = await (await connection.execute(query, values)).fetchone()
        except (psycopg.errors.UndefinedObject, psycopg.errors.UndefinedTable) as error:
            raise DatabaseAwayError("the database cannot compare vectors", certain=True) from error
        if row is None:
            return None
        sealed, kept_at, until, similarity = row
        stored = msgspec.msgpack.decode(zlib.decompress(self._sealer.open_bytes(sealed)), type=_Stored)
        if (stored.tenant, stored.partition) != (tenant, asked.partition):
            raise UnsealError("an answer is another partition's")
        return Near(Kept(stored.headers, stored.body, stored.usage, kept_at, until), float(similarity))

    async def keep(self, schema: str, tenant: str, model: str, project: str, asked: Asked, answer: Kept) -> None:
        stored = _Stored(tenant, asked.partition, answer.headers, answer.body, answer.usage)
        sealed = await asyncio.to_thread(lambda: self._sealer.seal_bytes(zlib.compress(msgspec.msgpack.encode(stored))))
        query = sql.SQL(
            "insert into {table} (partition, model, project, embedding, sealed, kept_at, until)"
            " values (%s, %s, %s, %s, %s, to_timestamp(%s), to_timestamp(%s))"
        ).format(table=sql.Identifier(schema, SEMANTIC_TABLE))
        async with self._keeping.use(KEEP_S) as connection:
            await connection.execute(query, [asked.partition, model, project, asked.vector, sealed, answer.kept_at, answer.until])

    async def connect(self) -> None:
        """Open the connection, however long it takes."""
        async with self._link.use():
            pass

    async def close(self) -> None:
        await self._link.close()
        await self._keeping.close()


class SemanticCache:
    def __init__(self, store: SemanticStore) -> None:
        self._store = store
        self._behind: set[asyncio.Task[None]] = set()

    async def find(
        self, call: Call, settings: Semantic, asked: dict[str, Any], key: Callable[[dict[str, Any]], Awaitable[bytes]]
    ) -> Near | None:
        """A near enough answer. Without one, `call.semantic` is set where the answer to come may be kept."""
        served = call.served
        assert served is not None
        assert call.key is not None
        rule = served.snapshot.payloads.get(call.key.project)
        question = last_question(call.surface, asked) if rule is None or rule.mode != "none" else None
        embedding = served.snapshot.models.get(settings.embedding)
        if question is None or embedding is None:
            return None
        words, rest = question
        try:
            async with asyncio.timeout(EMBEDDING_S):
                [vector] = await _embed(call, embedding, [words], CAUSE)
            partition = await key({**rest, "embedding": [embedding.slug, *[each.upstream_model for each in embedding.deployments]]})
            looked = Asked(partition.hex(), vector)
            near = await self._nearest(served, looked, settings.threshold)
        except (TimeoutError, Refusal, DatabaseAwayError, UnsealError, zlib.error, msgspec.DecodeError, ValueError) as error:
            call.steps.append(Step("semantic", "skipped", 0, type(error).__name__))
            return None
        if near is None:
            call.semantic = looked
        return near

    async def _nearest(self, served: Served, looked: Asked, threshold: float) -> Near | None:
        try:
            return await self._store.nearest(served.snapshot.schema, served.tenant, looked, threshold)
        except TimeoutError:
            self._do(self._store.connect())  # where opening takes longer than a look-up may, it is done behind the call
            raise

    def keep(self, call: Call, asked: Asked) -> None:
        """Keep the answer that was just sent."""
        served, model, body = call.served, call.model, b"".join(call.kept or ())
        assert served is not None
        assert model is not None
        assert call.key is not None
        now = time.time()
        answer = Kept(call.kept_headers, body, call.usage, now, now + model.cache_ttl_s)
        self._do(self._store.keep(served.snapshot.schema, served.tenant, model.slug, call.key.project, asked, answer))

    def sample(self, call: Call, settings: Semantic, given: Kept) -> None:
        """Of a share of hits, ask the model too, and record whether it agrees. The caller has its answer already."""
        if random.random() < settings.sample:  # noqa: S311 - which hits are looked at is no secret
            self._do(_compare(call, settings, given))

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        if len(self._behind) >= MOST_AT_ONCE:
            work.close()
            return
        task = asyncio.create_task(_quietly(work))
        self._behind.add(task)
        task.add_done_callback(self._behind.discard)

    async def close(self) -> None:
        for task in self._behind:
            task.cancel()
        await asyncio.gather(*self._behind, return_exceptions=True)
        await self._store.close()


async def _quietly(work: Coroutine[Any, Any, None]) -> None:
    try:
        async with asyncio.timeout(SAMPLE_S):
            await work
    except (TimeoutError, Refusal, DatabaseAwayError):
        pass  # the call behind it has its answer, and what was asked has an event of its own
    except Exception:
        logger.exception("semantic.failed")


def last_question(surface: str, asked: dict[str, Any]) -> tuple[str, dict[str, Any]] | None:
    """The last thing the user says, and the request without it; None for requests that are not compared."""
    temperature = asked.get("temperature") or 0
    is_number = isinstance(temperature, int | float) and not isinstance(temperature, bool)  # what is none is for the provider to refuse
    if (
        not is_number
        or temperature > 0
        or (asked.get("n") or 1) != 1
        or any(asked.get(name) for name in ("tools", "functions", "tool_choice", "previous_response_id", "conversation"))
    ):
        return None
    name = "input" if surface == "responses" else "messages"
    said = asked.get(name)
    if surface == "responses" and isinstance(said, str):
        words, before = said, []
    elif isinstance(said, list) and said and isinstance(said[-1], dict) and said[-1].get("role") == "user":
        words, before = _words(said[-1].get("content")), said[:-1]
    else:
        return None
    if not words.strip() or len(words) > MOST_CHARACTERS:
        return None
    return words, {**asked, name: before}


def _words(content: Any) -> str:
    """A message's text; empty when it holds anything else."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    if not all(isinstance(part, dict) and isinstance(part.get("text"), str) and not part.keys() - {"type", "text"} for part in parts):
        return ""
    return "\n".join(part["text"] for part in parts)


async def _embed(call: Call, model: Model, texts: list[str], cause: str) -> list[list[float]]:
    """ValueError when the answer holds no vectors."""
    body = {"model": model.slug, "input": texts if len(texts) > 1 else texts[0]}
    answer = await ask(call, kind="embeddings", surface="embeddings", model=model, body=body, cause=cause)
    try:
        found = sorted(orjson.loads(answer)["data"], key=lambda each: each["index"])
        vectors = [[float(number) for number in each["embedding"]] for each in found]
    except (KeyError, TypeError, orjson.JSONDecodeError) as error:
        raise ValueError("the embedding model gave no vectors") from error
    if len(vectors) != len(texts) or not all(any(vector) for vector in vectors):
        raise ValueError("the embedding model gave no vectors")
    return vectors


async def _compare(call: Call, settings: Semantic, given: Kept) -> None:
    model, served = call.model, call.served
    assert model is not None
    assert served is not None
    embedding = served.snapshot.models.get(settings.embedding)
    if embedding is None:
        return
    before = answer_text(call.surface, given.body, is_stream=call.stream)

    async def judge(fresh: Call, body: bytes) -> None:
        now = answer_text(fresh.surface, body, is_stream=False)
        agreement = 1.0 if now == before else _cosine(*await _embed(fresh, embedding, [before, now], SAMPLE_CAUSE))
        verdict = "agree" if agreement >= AGREES_FROM else "disagree"
        fresh.steps.append(Step(f"cache:{model.slug}", verdict, 0, f"agreement_ppm={round(max(0.0, agreement) * 10**6)}"))

    body = {name: value for name, value in call.body.items() if name not in ("stream", "stream_options")}
    await ask(call, kind="chat", surface=call.surface, model=model, body=body, cause=SAMPLE_CAUSE, body_bytes=call.body_bytes, judge=judge)


def answer_text(surface: str, body: bytes, *, is_stream: bool) -> str:
    """What an answer says. ValueError when it cannot be read."""
    answer = assembled(surface, body) if is_stream else orjson.loads(body)
    if surface == "responses" and all(isinstance(item, str) for item in answer.get("output") or ()):
        return "\n".join(answer.get("output") or ())
    return "\n".join(holder[name] for said, holder, name in text.texts(surface, answer) if said.kind == "text")


def _cosine(one: list[float], other: list[float]) -> float:
    product = sum(a * b for a, b in zip(one, other, strict=True))
    return product / sqrt(sum(a * a for a in one) * sum(b * b for b in other))
