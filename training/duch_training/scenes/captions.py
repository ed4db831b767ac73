"""Five sentences about a scene, made from its facts alone.

Every class gives phrases: how to name the scene, what is in it, and whole statements. Frames of different length and
order put them together with clutter and season.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np

from duch_training.scenes import phrases_built, phrases_open
from duch_training.scenes.canvas import Facts
from duch_training.scenes.grammar import Phrases, Words

SPEAKERS: dict[str, Callable[[Words], Phrases]] = {
    "airport": phrases_open.airport,
    "runway": phrases_open.runway,
    "harbour": phrases_open.harbour,
    "river": phrases_open.river,
    "lake": phrases_open.lake,
    "beach": phrases_open.beach,
    "forest": phrases_open.forest,
    "farmland": phrases_open.farmland,
    "dense residential": phrases_built.dense,
    "sparse residential": phrases_built.sparse,
    "parking lot": phrases_built.parking,
    "storage tanks": phrases_built.tanks,
    "baseball field": phrases_built.baseball,
    "tennis courts": phrases_built.tennis,
    "roundabout": phrases_built.roundabout,
    "intersection": phrases_built.intersection,
    "industrial sheds": phrases_built.industrial,
    "solar farm": phrases_built.solar,
    "railway yard": phrases_built.railway,
    "stadium": phrases_built.stadium,
}
# Frames by level of detail; each scene uses one of each row, so its five captions differ in structure.
FRAMES: tuple[tuple[str, ...], ...] = (
    ("{subject} with {detail}.", "{subject} {relation}, with {detail}.", "a view of {subject} with {detail}."),
    ("{clause}.", "{clause} {when}.", "{clause}, {relation}.", "{clause}, {relation}."),
    ("{there} {subject} {relation}.", "{there} {subject} {relation} {when}.", "{subject} {relation} {when}."),
    ("{clause}, {when}.", "in this picture {clause}, {relation}.", "{clause} in an area {relation}."),
    (
        "{subject} {when}, with {detail}, {relation}.",
        "the picture shows {subject} with {detail}, {relation}.",
        "seen from above: {subject} {relation}, with {detail}.",
        "{detail} can be seen at {subject} {relation}.",
    ),
)
_PLURAL = ("two ", "three ", "four ", "five ", "six ", "seven ", "eight ", "nine ", "ten ", "several ", "many ")
_SEASON_TOLD = {"summer": "green", "autumn": "autumn", "winter": "snow", "dry": "dry"}
# What empty phrases leave behind, and what it closes to.
_GAPS = (
    (" in an area.", "."),
    (" in an area .", "."),
    (" ,", ","),
    (" .", "."),
    (",,", ","),
    (", .", "."),
    (",.", "."),
)


def describe(facts: Facts, rng: np.random.Generator) -> tuple[str, ...]:
    """Five different captions: lower-case sentences that end with a full stop and say only what `facts` hold."""
    words = Words(facts, rng)
    captions: list[str] = []
    for row in FRAMES:
        for _ in range(20):
            sentence = _sentence(words, words.pick(*row))
            if sentence not in captions:
                captions.append(sentence)
                break
        else:
            raise RuntimeError(f"the grammar of {facts.class_name!r} has too few sentences")
    return tuple(captions)


def _sentence(words: Words, frame: str) -> str:
    phrases = SPEAKERS[words.facts.class_name](words)
    subject, clause = words.pick(*phrases.subjects), words.pick(*phrases.clauses)
    detail, relation, when = words.pick(*phrases.details), words.relation(), words.when()
    if " with " in subject and "{detail}" in frame:
        subject = phrases.subjects[0]
    if detail.endswith((" it", " its corners", " its side", " its end")):  # "it" needs the subject before it
        frame = frame.replace("{detail} can be seen at {subject}", "{subject} with {detail}")
    told = clause if "{clause}" in frame else subject + detail
    if _SEASON_TOLD[words.facts.season] in told:
        when = ""
    told_more = ("{relation}" in frame and relation) or ("{when}" in frame and when)
    if not told_more and "{detail}" not in frame and "{clause}" not in frame:
        frame = "{there} {subject} with {detail}."
        subject = phrases.subjects[0] if " with " in subject else subject
    there = "there are" if subject.startswith(_PLURAL) else "there is"
    text = frame.format(subject=subject, clause=clause, detail=detail, relation=relation, when=when, there=there)
    text = " ".join(text.split())
    for gap, closed in _GAPS:
        text = text.replace(gap, closed)
    return re.sub(r"\ba (?=[aeio])", "an ", text).replace("an one", "a one")
