"""`repertory submit`: train on a cluster as one of its jobs, with the flags of `train`."""

from __future__ import annotations

import secrets
import shlex
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from deploy.commands import Page
from deploy.overrides import Texts, options, resolve, scan
from deploy.schema import settings_of
from repertory.config import RunConfig, Settings
from repertory.errors import BadInput
from repertory.recipes import RECIPES, get

USAGE = "repertory submit RECIPE [options] [options of train]"


class Options(Settings):
    """Where to train, and under what name."""

    address: str = "http://127.0.0.1:8265"
    """The cluster's Jobs API: the dashboard of its head."""
    name: str = ""
    """Name of the run; submitted again, it goes on. Empty for <recipe>-<utc>-<4 hex>."""
    config: tuple[Path, ...] = ()
    """YAML files of settings on this machine; they are shipped."""
    runs_dir: Path = Path("/runs")
    """Folder on the head that runs are kept in, the same for every attempt."""
    follow: bool = True
    """Print the job's output until it ends, and end with its exit code."""
    dry_run: bool = False
    """Print the plan and what would be sent; send nothing."""
    force: bool = False
    """Start although the head's disk has little room left."""


def page() -> Page:
    """Return the help."""
    described = (
        "Every option of `repertory train RECIPE --help` is passed on. What can be checked here is "
        f"checked before anything is sent. Recipes: {', '.join(RECIPES)}."
    )
    return Page(USAGE, described, (Options,))


def run(tokens: Sequence[str]) -> int:
    """Submit the run; the job's exit code, or 0 when it is not followed."""
    own = list(settings_of(Options))
    names = {setting.path for setting in own}
    theirs = [setting for setting in settings_of(RunConfig) if setting.path not in names]
    texts, words = scan(tokens, [*own, *theirs])
    chosen = options(Options, {path: text for path, text in texts.items() if path in names})
    settings = {path: text for path, text in texts.items() if path not in names}
    if len(words) > 1:
        raise BadInput(f"unexpected '{words[1]}'; usage: {USAGE}")
    if not words and not chosen.config:
        raise BadInput(f"RECIPE is missing; recipes: {', '.join(RECIPES)}")
    if not chosen.runs_dir.is_absolute():
        raise BadInput(
            f"runs_dir '{chosen.runs_dir}' would be inside the job's own folder, which Ray "
            "deletes: give an absolute path on the head, such as /runs"
        )
    return _submit(chosen, {"runtime": ("cluster",), **settings}, words)


def _submit(chosen: Options, settings: Texts, words: Sequence[str]) -> int:
    from deploy.jobs import client, shipping

    client.host_and_port(chosen.address)
    base = get(words[0]).config if words else RunConfig()
    # As the job will see it: a cluster whose hardware this machine knows nothing of.
    config = resolve(base, chosen.config, {**settings, "address": ("auto",)})
    _check(config, dry_run=chosen.dry_run)
    name = chosen.name or _fresh_name(config.recipe)
    with tempfile.TemporaryDirectory(prefix="repertory-") as folder:
        configs = shipping.stage(Path(folder), chosen.config)
        entrypoint = _entrypoint(chosen, settings, [*words], name, configs)
        megabytes = shipping.size(Path(folder)) / 1e6
        if chosen.dry_run:
            print(f"# would send {megabytes:.1f} MB to {chosen.address} and run: {entrypoint}")
            return 0
        jobs = client.Jobs(chosen.address)
        shipped = Path(folder) if megabytes else None
        identity = jobs.submit(name, entrypoint, shipped)
    print(f"job {identity}: run {name} in {chosen.runs_dir / name} on the head", flush=True)
    if not chosen.follow:
        return 0
    code = jobs.follow(identity)
    if code == client.LEFT_TO_ITSELF:
        print(f"the job goes on; to stop it: ray job stop --address {chosen.address} {identity}")
    return code


def _check(config: RunConfig, *, dry_run: bool) -> None:
    from deploy.preflight import check

    plan = check(config, probe_cluster=False)
    for warning in plan.warnings:
        print(f"repertory: warning: {warning}", file=sys.stderr)
    if dry_run:
        from deploy.plan_text import plan_text

        print(plan_text(config, plan), end="")


def _entrypoint(
    chosen: Options, settings: Texts, words: Sequence[str], name: str, configs: Sequence[str]
) -> str:
    """Return the job's command: the same settings, and a run that goes on if it is there."""
    flags = ["--name", name, "--resume", "auto", "--runs_dir", str(chosen.runs_dir)]
    flags += ["--address", "auto", *(f"--config={path}" for path in configs)]
    if chosen.force:
        flags.append("--force")
    for path, values in settings.items():
        flags += [f"--{path}={value}" for value in values or ("",)]
    return shlex.join(["python", "-m", "deploy", "train", *words, *flags])


def _fresh_name(recipe: str) -> str:
    return f"{recipe}-{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
