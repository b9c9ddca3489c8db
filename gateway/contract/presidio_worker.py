"""The program that runs Presidio: frames with texts come in by standard input, frames with findings go out by standard output.

It needs no network: without a trained model the pipeline is spaCy's blank one, the recognisers are named one by one, and the list of public
suffixes is the one that came with its package. It writes nothing about a text anywhere else, and ends with its input.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from functools import lru_cache
from typing import IO, Any

import msgspec

from gateway.contract.presidio import ENTITIES, MOST_FRAME_BYTES, TRAINED, Ask, Told, chosen, frame
from gateway.contract.snapshot import Presidio

PIECE_CHARACTERS = 20_000
OVERLAP_CHARACTERS = 256
"""Of two pieces of a long text, so that what stands on the edge is whole in one of them."""
_LABELS = {
    "PER": "PERSON", "PERSON": "PERSON", "LOC": "LOCATION", "GPE": "LOCATION", "FAC": "LOCATION", "NORP": "NRP", "ORG": "ORGANIZATION",
}  # fmt: skip
"""Of trained models, to Presidio's entities; other labels are left alone."""


@lru_cache(maxsize=8)
def _engine(language: str, spacy_model: str) -> Any:
    """An analyzer with every recogniser of ours. Takes seconds the first time. Raises what the libraries raise."""
    import spacy
    import tldextract
    from presidio_analyzer import AnalyzerEngine, RecognizerRegistry, predefined_recognizers
    from presidio_analyzer.nlp_engine import NerModelConfiguration, SpacyNlpEngine

    tldextract.tldextract.TLD_EXTRACTOR = tldextract.TLDExtract(suffix_list_urls=())
    tldextract.extract = tldextract.tldextract.TLD_EXTRACTOR  # the recogniser of e-mail addresses would load the list from the network

    class Pipeline(SpacyNlpEngine):  # type: ignore[misc]  # the extra may not be installed where types are checked
        def load(self) -> None:
            """As theirs, but without a model to download."""
            self.nlp = {language: spacy.load(spacy_model) if spacy_model else spacy.blank(language)}

        def process_text(self, text: str, language: str) -> Any:
            """With the words as their own lemmas where no model says better: by them Presidio sees the context of a number."""
            document = self.nlp[language](text)
            for token in document:
                token.lemma_ = token.lemma_ or token.lower_
            return self._doc_to_nlp_artifact(document, language)

    pipeline = Pipeline(
        models=[{"lang_code": language, "model_name": spacy_model or "blank"}],
        ner_model_configuration=NerModelConfiguration(model_to_presidio_entity_mapping=_LABELS, labels_to_ignore=[]),
    )
    pipeline.load()
    names = {each.class_name for name, each in ENTITIES.items() if name not in TRAINED}
    recognisers = [getattr(predefined_recognizers, name)(supported_language=language) for name in sorted(names)]
    if spacy_model:
        theirs = sorted(ENTITIES[name].theirs for name in TRAINED)
        recognisers.append(predefined_recognizers.SpacyRecognizer(supported_language=language, supported_entities=theirs))
    registry = RecognizerRegistry(recognizers=recognisers, supported_languages=[language])
    return AnalyzerEngine(registry=registry, nlp_engine=pipeline, supported_languages=[language])


def find(settings: Presidio, text: str, until: float) -> list[tuple[str, int, int]]:
    """Everything found in one text. TimeoutError when it is not done by then, on the clock of `time.monotonic`: others wait.

    ValueError when there is nothing to look for: that must not look like nothing found.
    """
    engine = _engine(settings.language, settings.spacy_model)
    names = {ENTITIES[name].theirs: name for name in chosen(settings)}
    if not names:
        raise ValueError("nothing to look for")
    found = []
    for start in range(0, max(1, len(text) - OVERLAP_CHARACTERS), PIECE_CHARACTERS - OVERLAP_CHARACTERS):
        if time.monotonic() >= until:
            raise TimeoutError
        piece = text[start : start + PIECE_CHARACTERS]
        results = engine.analyze(piece, language=settings.language, entities=list(names), score_threshold=settings.threshold)
        found += [(names[each.entity_type], start + each.start, start + each.end) for each in results]
    return found


def answer(ask: Ask) -> Told:
    """What was found in every text; without texts only what will be needed is loaded. A failure says of what kind it was, never about what."""
    try:
        _engine(ask.settings.language, ask.settings.spacy_model)
        until = time.monotonic() + ask.settings.time_limit_ms / 1000  # after that nobody waits for it
        found = {at: hits for at, text in enumerate(ask.texts) if text and (hits := find(ask.settings, text, until))}
        return Told(ask.number, len(ask.texts), found)
    except Exception as error:  # noqa: BLE001 - of foreign code; whoever asked decides what follows
        return Told(ask.number, 0, {}, type(error).__name__)


def asks(source: IO[bytes]) -> Iterator[Ask]:
    """Until the input ends."""
    while len(head := source.read(4)) == 4:
        size = int.from_bytes(head)
        if size > MOST_FRAME_BYTES:
            return
        yield msgspec.msgpack.decode(source.read(size), type=Ask)


def main() -> None:
    logging.disable(logging.CRITICAL)  # what the libraries log may hold what they read
    for ask in asks(sys.stdin.buffer):
        sys.stdout.buffer.write(frame(answer(ask)))
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
