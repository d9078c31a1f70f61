"""What users type wrong ends in one sentence, exit code 2 and an untouched disk."""

from __future__ import annotations

import socket

import pytest

WRONG = {
    "unknown recipe": (
        ["train", "quickstrat"],
        "unknown recipe 'quickstrat'. Did you mean 'quickstart'?",
    ),
    "no recipe": (["train"], "RECIPE is missing; recipes: quickstart, "),
    "two recipes": (["train", "quickstart", "ppo"], "unexpected 'ppo'; usage: repertory train"),
    "unknown command": (["trian"], "unknown command 'trian'. Did you mean 'train'?"),
    "unknown setting": (
        ["train", "quickstart", "--learner.batchsize", "8"],
        "unknown setting 'learner.batchsize'. Did you mean 'learner.batch_size'?",
    ),
    "a name from another library": (
        ["train", "quickstart", "--lr", "1e-3"],
        "unknown setting 'lr'. Did you mean 'optimiser.learning_rate'?",
    ),
    "a group as a setting": (
        ["train", "quickstart", "--learner", "8"],
        "'learner' is a group of settings: name one of them, such as learner.batch_size",
    ),
    "zero actors": (
        ["train", "quickstart", "--actors.count", "0"],
        "actors.count: expected an integer above 0 or all, got '0'.",
    ),
    "a misspelt word for a number": (
        ["train", "quickstart", "--actors.count", "al"],
        "actors.count: expected an integer above 0 or all, got 'al'. Did you mean 'all'?",
    ),
    "half an actor": (
        ["train", "quickstart", "--actors.count=4.5"],
        "actors.count: expected an integer above 0 or all, got '4.5'.",
    ),
    "negative learning rate": (
        ["train", "quickstart", "--optimiser.learning_rate", "-1"],
        "optimiser.learning_rate: expected a number above 0, got '-1'.",
    ),
    "discount above one": (
        ["train", "quickstart", "--algorithm.discount", "1.5"],
        "algorithm.discount: expected a number above 0 and at most 1, got '1.5'.",
    ),
    "no future": (
        ["train", "ppo", "--algorithm.discount", "0"],
        "algorithm.discount: expected a number above 0 and at most 1, got '0'.",
    ),
    "no policy to evaluate": (
        ["train", "quickstart", "--evaluation.policies="],
        "evaluation.policies: need at least one, for instance greedy",
    ),
    "not a number": (
        ["train", "quickstart", "--network.width", "nan"],
        "network.width: expected a number above 0, got 'nan'.",
    ),
    "infinity": (
        ["train", "quickstart", "--network.width", "inf"],
        "network.width: expected a number above 0, got 'inf'.",
    ),
    "misspelt choice": (
        ["train", "quickstart", "--network.torso", "impalla"],
        "network.torso: expected one of shallow, nature, impala, mlp, got 'impalla'. "
        "Did you mean 'impala'?",
    ),
    "misspelt choice in a list": (
        ["train", "quickstart", "--evaluation.policies", "greedy,sampeld"],
        "evaluation.policies: expected a list of greedy, sampled, random, got 'greedy sampeld'. "
        "Did you mean 'sampled'?",
    ),
    "misspelt truth": (
        ["train", "quickstart", "--environment.fire_reset=yes"],
        "environment.fire_reset: expected true or false, got 'yes'.",
    ),
    "unknown kind": (
        ["train", "quickstart", "--algorithm.kind", "ppoo"],
        "algorithm.kind: expected one of vtrace, ppo, sac, td3, got 'ppoo'. Did you mean 'ppo'?",
    ),
    "setting of another kind": (
        ["train", "quickstart", "--algorithm.clip", "0.1"],
        "setting 'algorithm.clip' belongs to algorithm.kind ppo, and this run has algorithm.kind "
        "vtrace",
    ),
    "flag without value": (
        ["train", "quickstart", "--seed", "--dry-run"],
        "seed: needs a value: an integer at least 0",
    ),
    "flag with two values": (
        ["train", "quickstart", "--seed", "3", "4"],
        "unexpected '4'; usage: repertory train",
    ),
    "a rule between settings": (
        ["train", "quickstart", "--algorithm.c_clip", "2"],
        "algorithm.c_clip 2.0 must not exceed algorithm.rho_clip 1.0",
    ),
    "a delay beyond the lag that is allowed": (
        ["train", "quickstart", "--actors.version_delay", "64"],
        "queue.max_policy_lag 50 drops every unroll: actors.version_delay 64 and "
        "learner.publish_every 1 put them 64 versions behind",
    ),
    "minibatches": (
        ["train", "ppo", "--algorithm.minibatches", "5", "--learner.batch_size", "32"],
        "learner.batch_size 32 must be a multiple of algorithm.minibatches 5",
    ),
    "unknown game": (
        ["train", "quickstart", "--tasks", "atari/breakuot/m0d0"],
        "unknown Atari game 'breakuot'. Did you mean 'breakout'?",
    ),
    "unknown mode": (
        ["train", "quickstart", "--tasks", "atari/breakout/m99d0"],
        "breakout has no mode 99; available: 0, 4, 8, 12, 16",
    ),
    "unknown difficulty": (
        ["train", "quickstart", "--tasks", "atari/breakout/m0d7"],
        "breakout has no difficulty 7; available: 0, 1.",
    ),
    "a game without its suite": (
        ["train", "quickstart", "--tasks", "breakout"],
        "unknown task 'breakout': no suite is called 'breakout'. Did you mean 'atari/breakout'?",
    ),
    "a misspelt game without its suite": (
        ["train", "quickstart", "--tasks", "breakuot/m4d0"],
        "unknown task 'breakuot/m4d0': no suite is called 'breakuot'. "
        "Did you mean 'atari/breakout/m4d0'?",
    ),
    "a misspelt suite": (
        ["train", "quickstart", "--tasks", "atrai/breakout"],
        "unknown task 'atrai/breakout': no suite is called 'atrai'. Did you mean 'atari'?",
    ),
    "Gymnasium's name of a game": (
        ["train", "quickstart", "--tasks", "ALE/Pong-v5"],
        "unknown task 'ALE/Pong-v5': no suite is called 'ALE'. Did you mean 'atari/pong/m0d0'?",
    ),
    "Gymnasium's older name of a game": (
        ["train", "quickstart", "--tasks", "SpaceInvadersNoFrameskip-v4"],
        "unknown task 'SpaceInvadersNoFrameskip-v4': no suite is called "
        "'SpaceInvadersNoFrameskip-v4'. Did you mean 'atari/space_invaders/m0d0'?",
    ),
    "a mode written otherwise": (
        ["train", "quickstart", "--tasks", "atari/breakout@mode=4"],
        "'atari/breakout@mode=4' is not a task; tasks are written "
        "atari/<game>/m<mode>d<difficulty>",
    ),
    "malformed variant": (
        ["train", "quickstart", "--tasks", "atari/breakout/mode4"],
        "'atari/breakout/mode4' is not a task; tasks are written atari/<game>/m<mode>d<difficulty>",
    ),
    "the same task twice": (
        ["train", "quickstart", "--tasks", "atari/breakout/m0d0", "atari/breakout"],
        "task 'atari/breakout/m0d0' is given twice",
    ),
    "no tasks": (["train", "quickstart", "--tasks="], "tasks: need at least one task"),
    "trained and held out": (
        ["train", "quickstart", "--held_out", "atari/breakout/m4d0"],
        "'atari/breakout/m4d0' is in both tasks and held_out",
    ),
    "fewer lanes than tasks": (
        [
            *("train", "quickstart", "--tasks", "atari/asteroids/train"),
            *("--actors.count", "2", "--actors.lanes", "16"),
        ],
        "63 tasks need at least 63 lanes; 2 actors x 16 lanes give 32: raise actors.lanes to 32",
    ),
    "a batch that the lanes cannot fill": (
        [
            *("train", "quickstart", "--learner.batch_size", "1024"),
            *("--actors.count", "2", "--actors.lanes", "32", "--actors.max_outstanding", "2"),
        ],
        "learner.batch_size 1024 is more unrolls than 2 actors x 32 lanes",
    ),
    "queues smaller than a batch": (
        ["train", "quickstart", "--queue.capacity_batches", "0.5"],
        "queue.capacity_batches 0.5 holds less than a batch",
    ),
    "an image network for vectors": (
        ["train", "debug-counting", "--network.torso", "nature"],
        "network.torso nature reads images, but observations of counting/0 are vectors of 3",
    ),
    "a vector network for images": (
        ["train", "quickstart", "--network.torso", "mlp"],
        "network.torso mlp reads vectors, but observations of atari/breakout/m0d0 are images",
    ),
    "more memory than there is": (
        ["train", "quickstart", "--actors.count", "100000"],
        "the run needs about ",
    ),
    "a cluster for one process": (
        ["train", "debug-counting", "--address", "somewhere:6379"],
        "runtime local is one process and joins no cluster, but address is 'somewhere:6379'",
    ),
    "malformed address": (
        ["train", "quickstart", "--address", "somewhere"],
        "address 'somewhere' is not HOST:PORT",
    ),
    "a run name with a path": (
        ["train", "debug-counting", "--name", "../up"],
        "run name '../up' is not allowed",
    ),
    "a run name with a path, dry": (
        ["train", "debug-counting", "--dry-run", "--name", "../up"],
        "run name '../up' is not allowed",
    ),
    "a place for runs that cannot be, dry": (
        ["train", "debug-counting", "--dry-run", "--runs-dir", "/proc/runs"],
        "cannot create run directories in /proc/runs: ",
    ),
    "a file as a place for runs, dry": (
        ["train", "debug-counting", "--dry-run", "--runs-dir", "/dev/null/runs"],
        "/dev/null is not a directory; runs go into one",
    ),
    "resume and a recipe": (
        ["train", "quickstart", "--resume", "somewhere"],
        "--resume takes recipe and name from the run: drop recipe 'quickstart'",
    ),
    "resume of nothing": (["train", "--resume", "nowhere"], "there is no run directory nowhere"),
    "evaluate without a run": (["evaluate"], "RUN_DIR is missing; usage: repertory evaluate"),
    "evaluate nothing": (["evaluate", "nowhere"], "there is no run directory nowhere"),
    "unknown policy": (
        ["evaluate", "nowhere", "--policy", "greddy"],
        "policy: expected a list of greedy, sampled, random, got 'greddy'. Did you mean 'greedy'?",
    ),
    "no episodes": (
        ["evaluate", "nowhere", "--episodes", "0"],
        "episodes: expected an integer above 0, got '0'.",
    ),
    "unknown option": (
        ["evaluate", "nowhere", "--epsiodes", "3"],
        "unknown setting 'epsiodes'. Did you mean 'episodes'?",
    ),
    "an unknown option of a benchmark": (
        ["bench", "atari", "--windos", "3"],
        "unknown setting 'windos'. Did you mean 'windows'?",
    ),
    "no workers to measure": (
        ["bench", "atari", "--workers", "0"],
        "workers: expected an integer above 0, got '0'.",
    ),
    "a network that a benchmark cannot build": (
        ["bench", "atari", "--torso", "foo"],
        "torso: Input should be 'shallow', 'nature', 'impala' or 'mlp', got 'foo'",
    ),
    "nothing to measure": (
        ["bench", "atari", "--tasks="],
        "tasks: need at least one task",
    ),
    "a choice that a benchmark does not have": (
        ["bench", "learner_update", "--torso", "shallow", "impalla"],
        "torso: expected a list of shallow, nature, impala, got 'shallow impalla'. "
        "Did you mean 'impala'?",
    ),
    "an unknown game to measure": (
        ["bench", "atari_lanes", "--games", "pongg"],
        "unknown Atari game 'pongg'. Did you mean 'pong'?",
    ),
    "unknown suite": (["tasks", "atrai"], "unknown task 'atrai'"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_mistake_ends_in_one_sentence_and_code_2_and_writes_nothing(command, name):
    tokens, sentence = WRONG[name]
    outcome = command(*tokens)
    assert outcome.sentence.startswith(sentence)
    assert outcome.code == 2
    assert outcome.out == ""
    assert outcome.files == []


def test_cuda_without_a_device_names_the_cure(command, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    outcome = command("train", "quickstart", "--learner.device", "cuda")
    assert outcome.code == 2
    assert "finds no CUDA device: use --learner.device cpu" in outcome.sentence


def test_compiling_without_a_compiler_names_the_cure(command, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    outcome = command("train", "quickstart", "--learner.compile", "on")
    assert outcome.code == 2
    assert "learner.compile on needs a C++ compiler" in outcome.sentence


def test_a_cluster_that_does_not_answer_is_named_within_seconds(command):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    outcome = command("train", "quickstart", "--address", f"127.0.0.1:{port}")
    assert outcome.code == 5
    assert f"no Ray cluster answers at host 127.0.0.1, port {port} within 3 s" in outcome.sentence
    assert outcome.files == []


def test_debug_shows_the_traceback_and_keeps_the_code(command):
    outcome = command("train", "quickstrat", "--debug")
    assert outcome.code == 2
    assert "Traceback" in outcome.err
    assert "repertory: unknown recipe 'quickstrat'" in outcome.err


def test_a_failure_of_our_own_is_one_line_with_a_hint(command, monkeypatch):
    import deploy.commands.recipes

    def broken(tokens):
        raise RuntimeError(f"two\nlines {tokens}")

    monkeypatch.setattr(deploy.commands.recipes, "run", broken)
    outcome = command("recipes")
    assert outcome.code == 1
    assert outcome.sentence.startswith("RuntimeError: two lines []")
    assert "--debug" in outcome.sentence


def test_an_interrupt_ends_with_code_130(command, monkeypatch):
    import deploy.commands.recipes

    def interrupted(_tokens):
        raise KeyboardInterrupt

    monkeypatch.setattr(deploy.commands.recipes, "run", interrupted)
    assert command("recipes").code == 130


def test_a_run_directory_that_cannot_be_made_is_refused(command, tmp_path):
    (tmp_path / "taken").write_text("a file")
    outcome = command("train", "debug-counting", "--runs-dir", "taken/runs")
    assert outcome.code == 2
    assert "taken" in outcome.sentence
    assert outcome.files == []


def test_an_unknown_benchmark_is_answered_with_those_there_are(command, monkeypatch, tmp_path):
    import deploy.commands.bench

    folder = tmp_path / "benchmarks"
    folder.mkdir()
    (folder / "lanes.py").write_text('"""Lanes alone."""\n\n\ndef main(argv):\n    return 0\n')
    (folder / "shared.py").write_text('"""No benchmark: it has no main."""\n')
    monkeypatch.setattr(deploy.commands.bench, "FOLDER", folder)
    outcome = command("bench", "lane")
    assert outcome.code == 2
    assert outcome.sentence == "unknown benchmark 'lane'. Did you mean 'lanes'? Benchmarks: lanes"
