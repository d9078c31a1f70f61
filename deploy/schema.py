"""Settings as a flat list of dotted paths, and the one sentence that says what a value must be."""

from __future__ import annotations

import json
import math
import re
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from repertory.config import Settings
from repertory.errors import BadInput, did_you_mean

Tree = dict[str, Any]
"""Settings as nested dictionaries, parts being dictionaries and leaves plain values."""

# PyYAML follows YAML 1.1, which wants a point and a sign in a float: `1e-3` arrives as text.
_EXPONENT = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)[eE][+-]?\d+")
_INTEGER = re.compile(r"[+-]?\d+(_\d+)*")


@dataclass(frozen=True, slots=True)
class Setting:
    """One value that can be set, by its dotted path."""

    path: str
    info: FieldInfo
    kind: tuple[str, str] | None = None
    """(path of the discriminator, its value) that this setting exists under; None if always."""

    @property
    def is_list(self) -> bool:
        """Whether the setting takes any number of values."""
        return any(get_origin(arm) is tuple for arm in _arms(self.info.annotation))

    @property
    def is_switch(self) -> bool:
        """Whether the setting is true or false and nothing else."""
        return self.info.annotation is bool


def members(info: FieldInfo) -> dict[str, type[Settings]]:
    """Return the settings classes a field can hold, by kind ("" if it is the only one)."""
    arms = [
        arm for arm in _arms(info.annotation) if isinstance(arm, type) and issubclass(arm, Settings)
    ]
    if info.discriminator is None:
        return {"": arms[0]} if arms else {}
    name = str(info.discriminator)
    return {get_args(arm.model_fields[name].annotation)[0]: arm for arm in arms}


def settings_of(model: type[Settings], prefix: str = "") -> Iterator[Setting]:
    """Yield every setting of every kind, in order; a path shared by two kinds comes twice."""
    for name, info in model.model_fields.items():
        path = f"{prefix}{name}"
        kinds = members(info)
        if not kinds:
            yield Setting(path, info)
        for kind, member in kinds.items():
            discriminator = f"{path}.{info.discriminator}"
            for setting in settings_of(member, f"{path}."):
                under = (discriminator, kind) if kind and setting.path != discriminator else None
                yield Setting(setting.path, setting.info, under)


def parts_of(model: type[Settings], prefix: str = "") -> Iterator[str]:
    """Yield the dotted paths of everything that groups settings."""
    for name, info in model.model_fields.items():
        for member in members(info).values():
            yield f"{prefix}{name}"
            yield from parts_of(member, f"{prefix}{name}.")


def discriminators(model: type[Settings]) -> dict[str, dict[str, type[Settings]]]:
    """Return, by the discriminator's dotted path, the classes it chooses between."""
    return {
        f"{name}.{info.discriminator}": members(info)
        for name, info in model.model_fields.items()
        if info.discriminator is not None
    }


def from_texts(setting: Setting, texts: tuple[str, ...], kinds: tuple[str, ...] = ()) -> Any:
    """Return the value that flag values stand for; BadInput says what is allowed instead."""
    if not setting.is_list:
        if len(texts) != 1:
            given = f"{len(texts)}: {' '.join(texts)}" if texts else "none"
            raise BadInput(f"{setting.path}: expected one value, got {given}")
        value = _from_text(setting.info.annotation, texts[0])
        return checked(setting, value, texts[0], kinds)
    pieces = [piece for text in texts for piece in _split(text)]
    if len(pieces) == 1:
        for arm in _arms(setting.info.annotation):
            if get_origin(arm) is Literal and pieces[0] in get_args(arm):
                return pieces[0]
    (sequence,) = (a for a in _arms(setting.info.annotation) if get_origin(a) is tuple)
    value = tuple(_from_text(get_args(sequence)[0], piece) for piece in pieces)
    return checked(setting, value, " ".join(pieces), kinds)


def from_yaml(setting: Setting, value: Any, kinds: tuple[str, ...] = ()) -> Any:
    """Return the value that a YAML value stands for; BadInput says what is allowed instead."""
    annotation: Any = setting.info.annotation
    if _lists_settings(annotation) and isinstance(value, list):
        try:
            # As config.json is read: its inner lists are tuples too.
            return TypeAdapter[Any](annotation).validate_json(json.dumps(value), strict=True)
        except (ValidationError, TypeError):
            pass
    converted = tuple(value) if isinstance(value, list) else value
    for arm in _arms(setting.info.annotation):
        if isinstance(value, str) and _EXPONENT.fullmatch(value) and arm in (int, float):
            converted = _from_text(arm, value)
        # `on` and `off` are truth values in YAML 1.1 and words here.
        if isinstance(value, bool) and get_origin(arm) is Literal and "on" in get_args(arm):
            converted = "on" if value else "off"
    return checked(setting, converted, value, kinds)


def checked(setting: Setting, value: Any, given: object, kinds: tuple[str, ...] = ()) -> Any:
    """Return `value` if the setting's type and range hold it; BadInput shows `given` otherwise."""
    if kinds:
        if value in kinds:
            return value
    elif not _is_endless(value):
        try:
            full: Any = setting.info.annotation
            for rule in setting.info.metadata:
                full = Annotated[full, rule]
            return TypeAdapter[Any](full).validate_python(value, strict=True)
        except ValidationError:
            pass
    words = kinds or _words(setting.info.annotation)
    # Of a list, the word that is wrong.
    wrong = next((word for word in str(given).split() if word not in words), str(given))
    hint = did_you_mean(wrong, words) if words else ""
    raise BadInput(f"{setting.path}: expected {allowed(setting.info, kinds)}, got {given!r}.{hint}")


def allowed(info: FieldInfo, kinds: tuple[str, ...] = ()) -> str:
    """Say in a few words what values a field takes."""
    if kinds:
        return f"one of {', '.join(kinds)}"
    bounds = []
    for rule in [*info.metadata, *_rules(info.annotation)]:
        for name, words in (
            ("ge", "at least"),
            ("gt", "above"),
            ("le", "at most"),
            ("lt", "below"),
        ):
            bound = getattr(rule, name, None)
            if bound is not None:
                bounds.append(f"{words} {bound:g}")
    limits = " and ".join(bounds)
    # Bounds belong to the number, not to a word that may stand in its place.
    described = [
        f"{_describe(arm)} {limits}" if limits and arm in (int, float) else _describe(arm)
        for arm in _arms(info.annotation)
        if arm is not types.NoneType
    ]
    return " or ".join(described)


def dump(settings: Settings) -> Tree:
    """Return settings as a tree with plain Python leaves."""
    return settings.model_dump(mode="python")


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the leaves of a tree by dotted path."""
    leaves: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            leaves.update(flatten(value, f"{prefix}{name}."))
        else:
            leaves[f"{prefix}{name}"] = value
    return leaves


def _arms(annotation: Any) -> tuple[Any, ...]:
    if get_origin(annotation) in (Union, types.UnionType):
        return tuple(leaf for arm in get_args(annotation) for leaf in _arms(arm))
    if get_origin(annotation) is Annotated:
        return _arms(get_args(annotation)[0])
    return (annotation,)


def _lists_settings(annotation: Any) -> bool:
    members = get_args(annotation) if get_origin(annotation) is tuple else ()
    return any(isinstance(arm, type) and issubclass(arm, Settings) for arm in members)


def _rules(annotation: Any) -> list[Any]:
    """Return the bounds written inside a union, as in `Annotated[int, Field(gt=0)] | None`."""
    if get_origin(annotation) is Annotated:
        return [rule for field in get_args(annotation)[1:] for rule in field.metadata]
    if get_origin(annotation) in (Union, types.UnionType):
        return [rule for arm in get_args(annotation) for rule in _rules(arm)]
    return []


def _from_text(annotation: Any, text: str) -> Any:
    """Return the most specific reading of `text` that the annotation names, else the text."""
    for arm in _arms(annotation):
        if arm is bool and text.lower() in ("true", "false"):
            return text.lower() == "true"
        if arm is int and _INTEGER.fullmatch(text):
            return int(text)
        if arm is int and _EXPONENT.fullmatch(text) and float(text).is_integer():
            return int(float(text))
        if arm is float:
            try:
                return float(text)
            except ValueError:
                continue
        if arm is Path:
            return Path(text)
    return text


def _split(text: str) -> list[str]:
    # Sweeps write a list as Python does: ['a', 'b'].
    if text.startswith("[") and text.endswith("]"):
        text = re.sub(r"[\[\]'\"\s]", "", text)
    return [piece for piece in text.split(",") if piece]


def _is_endless(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def _words(annotation: Any) -> tuple[str, ...]:
    words: list[str] = []
    for arm in _arms(annotation):
        if get_origin(arm) is Literal:
            words.extend(str(word) for word in get_args(arm))
        elif get_origin(arm) is tuple:
            words.extend(_words(get_args(arm)[0]))
    return tuple(words)


def _describe(annotation: Any) -> str:
    if get_origin(annotation) is Literal:
        words = [str(word) for word in get_args(annotation)]
        return words[0] if len(words) == 1 else f"one of {', '.join(words)}"
    if _lists_settings(annotation):
        return "nothing (launching fills it in)"
    if get_origin(annotation) is tuple:
        words = list(_words(annotation))
        return f"a list of {', '.join(words)}" if words else "a list of names"
    return {
        bool: "true or false",
        int: "an integer",
        float: "a number",
        Path: "a path",
        str: "text",
    }.get(annotation, str(annotation))
