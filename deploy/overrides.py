"""From flags and YAML files to settings, all held to the one schema, every mistake named.

Precedence: recipe < YAML files in their order < flags. The parsing is our own because a mistake
must end in one sentence with the full dotted path (tyro answers in a box of several lines), and
because `--algorithm.kind ppo` must start from that kind's defaults. tyro draws the help and the
shell completion from the same models.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from deploy import schema
from deploy.schema import Setting, Tree
from repertory.config import RunConfig, Settings
from repertory.errors import BadInput, did_you_mean

Texts = dict[str, tuple[str, ...]]
"""Flag values as typed, by dotted path."""

AnySettings = TypeVar("AnySettings", bound=Settings)

# What other libraries call our settings; they are suggested, never accepted.
_ELSEWHERE = {
    "lr": "optimiser.learning_rate",
    "gamma": "algorithm.discount",
    "num_actors": "actors.count",
    "num_workers": "actors.count",
    "num_envs": "actors.lanes",
    "total_timesteps": "total_steps",
    "total_frames": "total_steps",
    "sticky_actions": "environment.repeat_action_probability",
    "frameskip": "environment.frame_skip",
    "ent_coef": "algorithm.entropy_cost",
    "vf_coef": "algorithm.value_cost",
    "games": "tasks",
    "envs": "tasks",
}


def scan(tokens: Sequence[str], settings: Iterable[Setting]) -> tuple[Texts, list[str]]:
    """Split a command line into flag values and positional words.

    `--a.b V`, `--a.b=V`, `--no-a.b`, a bare `--a.b` for true, and any number of values after a
    list's flag; hyphens in names count as underscores. The last mention of a value wins, mentions
    of a list add up.
    """
    known = {setting.path: setting for setting in settings}
    texts: Texts = {}
    words: list[str] = []
    rest = list(tokens)
    while rest:
        token = rest.pop(0)
        if not token.startswith("--"):
            words.append(token)
            continue
        name, equals, value = token[2:].partition("=")
        path = name.replace("-", "_")
        negated = path.removeprefix("no_")
        if path not in known and negated in known and known[negated].is_switch and not equals:
            texts[negated] = ("false",)
            continue
        if path not in known:
            raise _unknown(path, known)
        setting = known[path]
        if equals:
            values = [value] if value or not setting.is_list else []
        else:
            values = _take(rest, setting)
        texts[path] = (*texts.get(path, ()), *values) if setting.is_list else tuple(values)
    return texts, words


def _take(rest: list[str], setting: Setting) -> list[str]:
    """Remove from the front of `rest` the values that belong to a flag, and return them."""
    if setting.is_list:
        values = []
        while rest and not rest[0].startswith("--"):
            values.append(rest.pop(0))
        if not values:
            raise BadInput(f"{setting.path}: needs a value (--{setting.path}= for an empty list)")
        return values
    if setting.is_switch:
        return [rest.pop(0)] if rest and rest[0].lower() in ("true", "false") else ["true"]
    if not rest or rest[0].startswith("--"):
        raise BadInput(f"{setting.path}: needs a value: {schema.allowed(setting.info)}")
    return [rest.pop(0)]


def options(model: type[AnySettings], texts: Texts, **given: Any) -> AnySettings:
    """Return a command's options from its flags; `given` are those already known."""
    values = dict(given)
    for setting in schema.settings_of(model):
        if setting.path in texts:
            values[setting.path] = schema.from_texts(setting, texts[setting.path])
    return _validated(model, values)


def read_yaml(path: Path) -> dict[str, Any]:
    """Return a YAML file's values by dotted path; BadInput names the file and the key."""
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise BadInput(f"{path}: expected settings by name, got {document!r}")
    return _leaves(document, "", set(schema.parts_of(RunConfig)), path)


def _leaves(document: dict[Any, Any], prefix: str, parts: set[str], file: Path) -> dict[str, Any]:
    leaves: dict[str, Any] = {}
    for key, value in document.items():
        path = f"{prefix}{key}"
        if path in parts and not isinstance(value, dict):
            raise BadInput(f"{file}: {path}: expected settings by name, got {value!r}")
        if isinstance(value, dict):
            leaves.update(_leaves(value, f"{path}.", parts, file))
        else:
            leaves[path] = value
    return leaves


def resolve(base: RunConfig, files: Sequence[Path], texts: Texts) -> RunConfig:
    """Return `base` with YAML files and then flags laid over it; BadInput for the first mistake."""
    tree = schema.dump(base)
    for file in files:
        values = read_yaml(file)
        try:
            tree = _laid_over(tree, values, schema.from_yaml)
            _validated(RunConfig, tree)
        except BadInput as error:
            raise BadInput(f"{file}: {error}") from error
    return _validated(RunConfig, _laid_over(tree, texts, schema.from_texts))


def _laid_over(
    tree: Tree, values: Mapping[str, Any], convert: Callable[[Setting, Any, tuple[str, ...]], Any]
) -> Tree:
    """Return a new tree with `values` set; a changed kind starts from that kind's defaults."""
    tree = {name: dict(part) if isinstance(part, dict) else part for name, part in tree.items()}
    by_path: dict[str, list[Setting]] = {}
    for setting in schema.settings_of(RunConfig):
        by_path.setdefault(setting.path, []).append(setting)
    choices = schema.discriminators(RunConfig)
    for path, classes in choices.items():
        if path in values:
            kind = convert(by_path[path][0], values[path], tuple(classes))
            part, name = path.split(".")
            if tree[part][name] != kind:
                tree[part] = schema.dump(classes[kind]())
    for path, raw in values.items():
        if path in choices:
            continue
        if path not in by_path:
            raise _unknown(path, by_path)
        setting = _existing(path, by_path[path], schema.flatten(tree))
        _set(tree, path, convert(setting, raw, ()))
    return tree


def _existing(path: str, settings: Sequence[Setting], leaves: Mapping[str, Any]) -> Setting:
    """Return the setting that exists under the kinds chosen."""
    for setting in settings:
        if setting.kind is None or leaves[setting.kind[0]] == setting.kind[1]:
            return setting
    kinds = [setting.kind for setting in settings if setting.kind is not None]
    discriminator, wanted = kinds[0]
    raise BadInput(
        f"setting '{path}' belongs to {discriminator} {wanted}, and this run has "
        f"{discriminator} {leaves[discriminator]}: set {discriminator} to {wanted} with it"
    )


def _set(tree: Tree, path: str, value: Any) -> None:
    *parts, name = path.split(".")
    for part in parts:
        tree[part] = dict(tree[part])
        tree = tree[part]
    tree[name] = value


def _unknown(path: str, known: Iterable[str]) -> BadInput:
    known = list(known)
    inside = [name for name in known if name.startswith(f"{path}.")]
    if inside:
        return BadInput(f"'{path}' is a group of settings: name one of them, such as {inside[0]}")
    elsewhere = _ELSEWHERE.get(path.rpartition(".")[2])
    hint = f" Did you mean '{elsewhere}'?" if elsewhere in known else did_you_mean(path, known)
    return BadInput(f"unknown setting '{path}'.{hint}")


def _validated(model: type[AnySettings], values: Mapping[str, Any]) -> AnySettings:
    """Build settings from values that were checked one by one: what is left are rules between."""
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        first = error.errors()[0]
        rule = first.get("ctx", {}).get("error")
        where = ".".join(str(part) for part in first["loc"])
        raise BadInput(str(rule) if rule else f"{where}: {first['msg']}") from error


# What a run may change when it is resumed: where it runs, how long, and what it tells.
_FREE_ON_RESUME = ("actors.", "logging.", "checkpoint.", "evaluation.")
_FREE_NAMES_ON_RESUME = (
    "total_steps",
    "runtime",
    "address",
    "learner.device",
    "learner.compile",
    "learner.threads",
    "learner.count",
    "learner.exchange_timeout_s",
    "masks.unseen_votes",
)


def check_resume(before: RunConfig, after: RunConfig) -> None:
    """Refuse, by name, changes that would make the checkpoint belong to another run."""
    old, new = (schema.flatten(schema.dump(config)) for config in (before, after))
    changed = [path for path in {**old, **new} if old.get(path) != new.get(path)]
    refused = [
        path
        for path in changed
        if not path.startswith(_FREE_ON_RESUME) and path not in _FREE_NAMES_ON_RESUME
    ]
    if refused:
        changes = "; ".join(
            f"{path} is {_shown(old.get(path))} in the run, {_shown(new.get(path))} was given"
            for path in refused[:3]
        )
        raise BadInput(
            f"--resume continues the run as it was: {changes}. Only actors.*, evaluation.*, "
            f"checkpoint.*, logging.*, {', '.join(_FREE_NAMES_ON_RESUME)} may change"
        )


def _shown(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
