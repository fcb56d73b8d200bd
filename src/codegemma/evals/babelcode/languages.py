"""What differs between the languages of BabelCode: data, one file of `languages/` each.

**In**: those files.
**Out**: `Target`s; names, types and values spelled in one.
**Not**: how programs are compiled and run; that is `sandbox/toolchains.toml`.

In the files `$0` and `$1` are the types of a container's items, `$type` the container's own.
"""

import functools
import math
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from string import Template
from types import MappingProxyType
from typing import Any

from codegemma.errors import InputError
from codegemma.evals.babelcode.types import Type

# In the order of the card.
TARGETS = ("cpp", "csharp", "go", "java", "javascript", "kotlin", "python", "rust")


@dataclass(frozen=True, slots=True)
class Target:
    """A language that questions are translated to; one file of `languages/`.

    `boxed` are the types of items of containers where they differ. `escapes` say how a text is quoted. `words`
    stand in a question in place of Python's. `stops` are BabelCode's; where `kept_stop` one belongs to the answer.
    `keeps_integers`: an integer among fractions stays one.
    """

    key: str
    name: str
    casing: str
    stops: tuple[str, ...]
    reserved: frozenset[str]
    types: Mapping[str, str]
    literals: Mapping[str, Any]
    escapes: Mapping[str, Any]
    prompt: Mapping[str, Any]
    words: Mapping[str, str]
    program: Mapping[str, Any]
    stub: str
    boxed: Mapping[str, str] = field(default_factory=dict)
    imports: Mapping[str, Any] = field(default_factory=dict)
    kept_stop: bool = False
    has_text_keys: bool = False
    has_ordered_maps: bool = False
    has_loose_booleans: bool = False
    keeps_integers: bool = False

    def spell_type(self, found: Type, *, is_item: bool = False) -> str:
        """Spell a type.

        >>> from codegemma.evals.babelcode.types import parse_type
        >>> read_target("java").spell_type(parse_type("map<string;list<integer>>"))
        'HashMap<String, ArrayList<Integer>>'
        """
        if is_item and found.kind in self.boxed:
            return self.boxed[found.kind]
        return Template(self.types[found.kind]).substitute(self._spell_items(found))

    def _spell_items(self, found: Type) -> dict[str, str]:
        # A Template's names begin with a letter.
        return {f"item{n}": self.spell_type(item, is_item=True) for n, item in enumerate(found.items)}

    def spell_value(self, value: Any, found: Type) -> str:
        """Spell a value of a type.

        >>> from codegemma.evals.babelcode.types import parse_type
        >>> read_target("go").spell_value({"a": [1.5]}, parse_type("map<string;list<float>>"))
        'map[string][]float64{"a": []float64{1.5}}'
        """
        spell = {"boolean": self._spell_boolean, "float": self._spell_float, "double": self._spell_float}
        if found.kind in spell:
            return spell[found.kind](value)
        if found.kind in ("integer", "long"):
            return Template(self.literals[found.kind]).substitute(value=int(value))
        if found.kind in ("string", "character"):
            text, quoted = str(value), self._escape(str(value), found.kind)
            size = len(text.encode("utf-8", "surrogatepass"))
            return Template(self.literals[found.kind]).substitute(text=quoted, bytes=size)
        return self._spell_container(value, found)

    def _spell_container(self, value: Any, found: Type) -> str:
        around = self._spell_items(found) | {"type": self.spell_type(found)}
        empty = self.literals.get(f"empty_{found.kind}", self.literals.get("empty"))
        if not value and empty is not None:
            return Template(empty).substitute(around)
        if found.kind == "map":
            pair = Template(self.literals["pair"])
            items = [pair.substitute(key=self.spell_value(k, found.items[0]), value=self.spell_value(v, found.items[1]))
                     for k, v in value.items()]  # fmt: skip
        else:
            items = [self.spell_value(item, found.items[0]) for item in value]
            if found.kind == "set":
                member = Template(self.literals.get("member", "$key"))
                items = [member.substitute(key=item) for item in items]
        return Template(self.literals[found.kind]).substitute(around, items=", ".join(items))

    def _spell_boolean(self, value: Any) -> str:
        return str(self.literals["boolean"][bool(value)])

    def _spell_float(self, value: Any) -> str:
        if self.keeps_integers and isinstance(value, int):
            return str(value)
        number = float(value)
        if not math.isfinite(number):
            return str(self.literals["infinite"][2 if math.isnan(number) else number > 0])
        return Template(self.literals["float"]).substitute(value=repr(number))

    def _escape(self, text: str, kind: str) -> str:
        signs = self.escapes["signs"] | self.escapes.get(f"{kind}_signs", {})
        return "".join(signs[sign] if sign in signs else _escape_sign(sign, self.escapes["form"]) for sign in text)

    def spell_name(self, name: str) -> str:
        """Spell the name of a function in this language's case.

        >>> [read_target(key).spell_name("is_Power_Of_two") for key in ("python", "go", "csharp")]
        ['is_power_of_two', 'isPowerOfTwo', 'IsPowerOfTwo']
        """
        words = [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", name)] or [name]
        if self.casing == "snake":
            joined = "_".join(words)
        else:
            joined = "".join(word.capitalize() for word in words)
            joined = joined if self.casing == "pascal" else words[0] + joined[len(words[0]) :]
        return self.spell_parameter(joined)

    def spell_parameter(self, name: str) -> str:
        """Keep a name, unless it means something else in this language."""
        return f"{name}_" if name in self.reserved else name


def _escape_sign(sign: str, form: str) -> str:
    r"""Spell a sign that is not plain ASCII.

    >>> [_escape_sign("é", form) for form in ("octal", "utf16", "utf32", "braces")]
    ['\\303\\251', '\\u00e9', '\\U000000e9', '\\u{e9}']
    """
    if " " <= sign <= "~":
        return sign
    if form == "octal":
        return "".join(f"\\{byte:03o}" for byte in sign.encode("utf-8", "surrogatepass"))
    if form == "utf16":
        data = sign.encode("utf-16-be", "surrogatepass")
        return "".join(f"\\u{data[i]:02x}{data[i + 1]:02x}" for i in range(0, len(data), 2))
    return f"\\U{ord(sign):08x}" if form == "utf32" else f"\\u{{{ord(sign):x}}}"


@functools.cache
def read_target(key: str) -> Target:
    """Read a language's file.

    Raises:
        InputError: there is no such language; the message lists those there are.
    """
    if key not in TARGETS:
        raise InputError(f"no language {key!r}; known: {', '.join(TARGETS)}")
    place = resources.files("codegemma.evals.babelcode").joinpath("languages", f"{key}.toml")
    row = tomllib.loads(place.read_text(encoding="utf-8"))
    stub = row.pop("stub")["body"]
    for name in ("types", "literals"):
        row[name] = {kind: _name_items(spelled) for kind, spelled in row[name].items()}
    rest: dict[str, Any] = {
        name: MappingProxyType(value) if isinstance(value, dict) else value for name, value in row.items()
    }
    rest |= {"stops": tuple(row["stops"]), "reserved": frozenset(row["reserved"])}
    return Target(key=key, stub=stub, **rest)


def _name_items(spelled: Any) -> Any:
    return re.sub(r"\$(\d)", r"${item\1}", spelled) if isinstance(spelled, str) else spelled


def read_preludes(key: str) -> dict[str, bytes]:
    """Read what tells values in a language, by file name."""
    names = {"cpp": "tell.h", "csharp": "Tell.cs", "go": "tell.go", "java": "Tell.java", "javascript": "tell.js",
             "kotlin": "tell.kt", "python": "tell.py", "rust": "tell.rs"}  # fmt: skip
    folder = resources.files("codegemma.evals.babelcode").joinpath("preludes")
    return {names[key]: folder.joinpath(names[key]).read_bytes()}
