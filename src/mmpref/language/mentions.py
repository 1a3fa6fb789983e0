"""Mentions of objects in a text, by their names."""

import re
from functools import lru_cache
from typing import NamedTuple

_IRREGULAR_PLURALS = """
    calf/calves child/children foot/feet goose/geese knife/knives leaf/leaves loaf/loaves man/men
    mouse/mice person/people scarf/scarves shelf/shelves tooth/teeth wolf/wolves woman/women
"""


class Mention(NamedTuple):
    """The object called `name`, mentioned as `word` in characters `start` to `end` of a text."""

    name: str
    start: int
    end: int
    word: str = ""

    @property
    def span(self) -> dict[str, str | int]:
        """What the report shows of it."""
        return {"name": self.name, "start": self.start, "end": self.end}


def find_mentions(text: str, vocabulary: tuple[str, ...]) -> list[Mention]:
    """Return the mentions of object names in `text`, in order, without overlap.

    A name is found in its singular and plural, in any case, as whole words (`cup` is neither in
    `cupboard` nor in `cup-shaped`); the words of a longer name may be joined by a hyphen. Where
    several names start at one place, the longest wins: `dining table` is not also a `table`. A
    negated name is a mention too, as in CHAIR.
    """
    pattern, names = _pattern(vocabulary)
    return [
        Mention(names[_normal(found[0])], found.start(), found.end())
        for found in (pattern.finditer(_lower(text)) if names else ())
    ]


@lru_cache(maxsize=64)
def _pattern(vocabulary: tuple[str, ...]) -> tuple[re.Pattern[str], dict[str, str]]:
    """Return a pattern of every form of every name, longest first, and the name of each form."""
    singulars = {_normal(_lower(name)): name for name in vocabulary}
    names = {plural: name for form, name in singulars.items() for plural in _plurals(form)}
    # A name as it stands beats the plural of another: "glasses" are not several of "glass".
    names |= singulars
    forms = sorted(names, key=len, reverse=True)
    alternatives = "|".join(re.escape(form).replace(r"\ ", r"[\s-]+") for form in forms)
    return re.compile(rf"(?<!\w)(?<!\w-)(?:{alternatives})(?!\w)(?!-\w)"), names


def _plurals(name: str) -> list[str]:
    """Return the forms an English plural of `name` may take; some may be no words."""
    before, space, noun = name.rpartition(" ")
    forms = [f"{noun}s", *re.findall(rf"\s{re.escape(noun)}/(\w+)", _IRREGULAR_PLURALS)]
    if noun.endswith(("s", "x", "z", "ch", "sh", "o")):
        forms.append(f"{noun}es")
    if re.search(r"[^aeiou]y\Z", noun):
        forms.append(f"{noun[:-1]}ies")
    return [f"{before}{space}{form}" for form in forms]


def _normal(form: str) -> str:
    """Return `form` with single spaces between its words."""
    return re.sub(r"[\s-]+", " ", form.strip())


def _lower(text: str) -> str:
    """Return `text` in lower case, of unchanged length, so that positions stay valid."""
    return "".join(low if len(low := char.lower()) == 1 else char for char in text)
