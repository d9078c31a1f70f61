"""Files from others are read without running them; keys come from files and stay out of records."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from deploy.address import token_hint
from deploy.checks import token
from deploy.guard import HOME, NAMES
from deploy.secret_files import read_secret_files
from repertory.errors import BadInput
from repertory.run_directory import RunDirectory

KEY = "k3y" * 14
UNSAFE = re.compile(
    r"\bpickle\.loads?\(|\bcloudpickle\.loads?\(|\bUnpickler\(|weights_only=False"
    r"|\btorch\.load\((?!.*weights_only=True)|\byaml\.(?:unsafe_|full_)?load\(|allow_pickle=True"
    r"|\bjoblib\.load\(|\beval\((?!\))|\bexec\("
)


def test_no_package_unpickles_or_evaluates_what_it_reads():
    found = [
        f"{file.relative_to(HOME)}: {line.strip()}"
        for name in NAMES
        for file in (HOME / name).rglob("*.py")
        for line in file.read_text(encoding="utf-8").splitlines()
        if UNSAFE.search(line) and ".eval()" not in line
    ]
    assert found == []
    for line in (
        "x = pickle.loads(y)",
        "torch.load(f)",
        "yaml.load(f)",
        "np.load(f, allow_pickle=True)",
    ):
        assert UNSAFE.search(line), line


def test_a_key_in_a_file_is_known_to_the_training_process(tmp_path: Path):
    file = tmp_path / "key"
    file.write_text(f"{KEY}\n")
    environment = {"WANDB_API_KEY_FILE": str(file)}
    read_secret_files(environment)
    assert environment["WANDB_API_KEY"] == KEY


def test_a_key_that_is_set_goes_before_a_file_and_an_empty_file_means_none(tmp_path: Path):
    file = tmp_path / "key"
    file.write_text(KEY)
    environment = {"WANDB_API_KEY_FILE": str(file), "WANDB_API_KEY": "mine"}
    read_secret_files(environment)
    assert environment["WANDB_API_KEY"] == "mine"
    file.write_text("\n")
    environment = {"WANDB_API_KEY_FILE": str(file)}
    read_secret_files(environment)
    assert "WANDB_API_KEY" not in environment


def test_a_key_file_that_cannot_be_read_is_named_and_its_content_is_not(command, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY_FILE", "/nowhere/key")
    outcome = command("train", "debug-counting", "--dry-run")
    assert outcome.code == 2
    assert outcome.sentence == (
        "cannot read /nowhere/key, which WANDB_API_KEY_FILE names: No such file or directory"
    )
    binary = {"WANDB_API_KEY_FILE": __file__.replace("test_security_of_files.py", "")}
    with pytest.raises(BadInput, match="Is a directory"):
        read_secret_files(binary)


def test_a_folder_of_secrets_without_the_key_means_none_and_is_told(tmp_path, capsys):
    environment = {"WANDB_API_KEY_FILE": str(tmp_path / "wandb_api_key")}
    read_secret_files(environment)
    assert "WANDB_API_KEY" not in environment
    said = capsys.readouterr().err
    assert said.startswith(f"repertory: warning: no WANDB_API_KEY: there is no file {tmp_path}")


def test_a_token_file_that_cannot_be_read_is_the_reason_and_not_its_content(monkeypatch):
    # A file that not even root can read from its beginning.
    file = "/proc/self/mem"
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", file)
    assert f"the file {file} cannot be read (Input/output error)" in token_hint()
    found = token({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": file}, Path("/nowhere"))
    assert found.status == "broken"
    assert f"{file} cannot be read" in found.detail


def test_a_key_from_a_file_is_in_nothing_that_a_run_leaves(command, monkeypatch, tmp_path_factory):
    file = tmp_path_factory.mktemp("secrets") / "key"
    file.write_text(KEY)
    monkeypatch.setenv("WANDB_API_KEY_FILE", str(file))
    # Set and put back by monkeypatch, since the command sets it.
    monkeypatch.setenv("WANDB_API_KEY", "")
    words = ("--total_steps", "400", "--evaluation.episodes", "1", "--logging.wandb", "disabled")
    outcome = command("train", "debug-counting", "--name", "first", *words)
    assert outcome.code == 0, outcome.err
    RunDirectory.open(Path("runs/first")).event("tried", reason=f"key {KEY} was refused")
    written = [path for path in Path("runs/first").rglob("*") if path.is_file()]
    assert any("<WANDB_API_KEY>" in p.read_text(errors="replace") for p in written)
    for path in written:
        assert KEY.encode() not in path.read_bytes(), path
    assert KEY not in outcome.out + outcome.err
