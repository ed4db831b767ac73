"""Numbers, nouns and clutter in words; the class-free half of the caption grammar."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from duch_training.scenes.canvas import Facts

NUMBER_WORDS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")

# count key -> (singular, plural) synonyms. Captions never count with any other noun.
NOUNS: dict[str, tuple[tuple[str, str], ...]] = {
    "planes": (("plane", "planes"), ("plane", "planes"), ("airplane", "airplanes"), ("jet", "jets"),
               ("aircraft", "aircraft")),
    "ships": (("ship", "ships"), ("vessel", "vessels")),
    "boats": (("boat", "boats"), ("small boat", "small boats")),
    "yachts": (("boat", "boats"), ("yacht", "yachts"), ("small boat", "small boats")),
    "piers": (("pier", "piers"), ("jetty", "jetties")),
    "runways": (("runway", "runways"), ("airstrip", "airstrips")),
    "houses": (("house", "houses"), ("home", "homes")),
    "buildings": (("building", "buildings"),),
    "bridges": (("bridge", "bridges"),),
    "islands": (("island", "islands"), ("islet", "islets")),
    "umbrellas": (("umbrella", "umbrellas"), ("parasol", "parasols"), ("sunshade", "sunshades")),
    "circles": (("round field", "round fields"), ("circular field", "circular fields")),
    "cars": (("car", "cars"), ("vehicle", "vehicles")),
    "lorries": (("lorry", "lorries"), ("truck", "trucks")),
    "tanks": (("storage tank", "storage tanks"), ("tank", "tanks"), ("oil tank", "oil tanks")),
    "diamonds": (("baseball diamond", "baseball diamonds"), ("baseball field", "baseball fields")),
    "courts": (("tennis court", "tennis courts"), ("court", "courts")),
    "arms": (("road", "roads"), ("street", "streets")),
    "sheds": (("shed", "sheds"), ("warehouse", "warehouses"), ("hall", "halls")),
    "rows": (("row of solar panels", "rows of solar panels"), ("panel row", "panel rows")),
    "blocks": (("block of solar panels", "blocks of solar panels"),),
    "trains": (("train", "trains"), ("freight train", "freight trains")),
    "tracks": (("track", "tracks"), ("railway track", "railway tracks")),
    "pools": (("pool", "pools"), ("swimming pool", "swimming pools")),
}  # fmt: skip

_THINGS: dict[str, tuple[str, ...]] = {
    "field": ("a field", "farm fields", "a ploughed field", "open fields"),
    "woods": ("woods", "a forest edge", "dense trees", "woodland"),
    "road": ("a road", "an asphalt road", "a street"),
    "dirt road": ("a dirt road", "a sandy track", "an unpaved road"),
    "stream": ("a stream", "a narrow creek", "a small brook"),
    "pond": ("a pond", "a small pond"),
    "car park": ("parked cars", "a small car park", "a parking area"),
    "trees": ("trees", "scattered trees", "some trees"),
    "containers": ("stacked containers", "colourful containers", "cargo containers"),
    "jetty": ("a wooden jetty", "a small landing stage"),
    "clearing": ("a clearing", "an open glade"),
    "farm": ("a farmhouse", "a farm", "a homestead"),
    "road bridge": ("a road bridge", "an overpass"),
    "fields": ("fields", "farm fields", "cultivated land"),
    "bank woods": ("woods", "dense trees", "woodland"),
}
_RELATIONS: dict[str, tuple[str, ...]] = {
    "beside": ("next to {}", "near {}", "beside {}", "close to {}"),
    "crossed": ("crossed by {}", "with {} running across", "cut by {}"),
    "around": ("surrounded by {}", "with {} around", "among {}"),
    "inside": ("with {} in it", "containing {}"),
    "through": ("between {}", "with {} on its banks"),
}


@dataclass(frozen=True)
class Phrases:
    """What can be said about one scene; each of the three is non-empty.

    Attributes:
        subjects: noun phrases that name the scene.
        details: noun phrases of what is in it.
        clauses: whole statements that make the subject plain, with or without naming it.
    """

    subjects: tuple[str, ...]
    details: tuple[str, ...]
    clauses: tuple[str, ...]


class Words:
    """Random choices of words for one scene's facts."""

    def __init__(self, facts: Facts, rng: np.random.Generator):
        self.facts = facts
        self.rng = rng

    def pick(self, *options: str) -> str:
        """One of the options."""
        return options[int(self.rng.integers(len(options)))]

    def chance(self, probability: float) -> bool:
        """True with the given probability."""
        return bool(self.rng.random() < probability)

    def number(self, n: int) -> str:
        """A count in words: exact up to ten, vague above; small counts are vague now and then."""
        if n > 10:
            return self.pick("many", "lots of", "numerous", "a lot of") if n < 40 else self.pick("many", "dozens of")
        if n > 3 and self.chance(0.12):
            return "several"
        if n == 1:
            return self.pick("a", "a", "one")
        return NUMBER_WORDS[n]

    def some(self, key: str, adjective: str = "", *, noun: str = "") -> str:
        """What was counted under `key` in words: "four white planes", "a ship"; `noun` uses another entry's nouns."""
        n = self.facts.counts[key]
        entries = NOUNS[noun or key]
        singular, plural = entries[int(self.rng.integers(len(entries)))]
        words = f"{adjective} {singular if n == 1 else plural}".strip()
        number = self.number(n)
        if number == "a" and words[0] in "aeio":
            number = "an"
        return f"{number} {words}"

    def has(self, key: str) -> bool:
        """True where anything was counted under `key`."""
        return self.facts.counts.get(key, 0) > 0

    def be(self, key: str) -> str:
        """The verb for what was counted under `key`."""
        return "is" if self.facts.counts[key] == 1 else "are"

    def roof(self, name: str) -> str:
        """An adjective for roofs of the named colour; snow hides the colour."""
        if self.facts.season == "winter":
            return "snowy"
        return "different" if name == "mixed" else name

    def relation(self) -> str:
        """One piece of clutter as a phrase after a noun, e.g. "crossed by a road"; "" where there is none."""
        options = list(self.facts.context)
        extra = [
            k for k in ("houses", "buildings", "sheds") if self.has(k) and k not in OWN.get(self.facts.class_name, ())
        ]
        n = len(options) + len(extra)
        if n == 0:
            return ""
        i = int(self.rng.integers(n))
        if i >= len(options):
            return self.pick(*_RELATIONS["beside"]).format(self.some(extra[i - len(options)]))
        relation, thing = options[i]
        return self.pick(*_RELATIONS[relation]).format(self.pick(*_THINGS[thing]))

    def when(self) -> str:
        """Season or sky as an adverbial, e.g. "in winter"; "" where there is nothing to say."""
        sky, season = self.facts.sky, self.facts.season
        if sky == "haze" and self.chance(0.6):
            return self.pick("in hazy air", "on a hazy day", "under haze", "seen through haze")
        if sky == "cloud" and self.chance(0.6):
            return self.pick("under thin clouds", "partly hidden by clouds", "below scattered clouds")
        return {
            "summer": self.pick("", "", "in summer", "in green surroundings"),
            "autumn": self.pick("", "in autumn", "in autumn colours", "in the fall"),
            "winter": self.pick("in winter", "in the snow", "on a snowy day", "with snow on the ground"),
            "dry": self.pick("", "in dry land", "on dry ground", "in a dry landscape"),
        }[season]


# What a class counts as its own subject, so that it is not told again as clutter.
OWN: dict[str, tuple[str, ...]] = {
    "dense residential": ("houses",),
    "sparse residential": ("houses",),
    "industrial sheds": ("sheds",),
    "intersection": ("buildings",),
}
