"""Files for KubeRay and Ray's own jobs: valid, closed to others, in step with the command line."""

from __future__ import annotations

import copy
import re
import shlex
import shutil
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from launch_files import HOME, LAUNCH

from deploy.guard import NAMES

KUBERAY = LAUNCH / "kuberay"
MANIFESTS = {
    name: yaml.safe_load((KUBERAY / f"{name}.yaml").read_text(encoding="utf-8"))
    for name in ("cluster", "job")
}
POLICY, MONITOR = (
    yaml.safe_load((KUBERAY / f"{name}.yaml").read_text(encoding="utf-8"))
    for name in ("network", "monitor")
)
OPERATOR = {"app.kubernetes.io/component": "kuberay-operator"}
SCHEMA = yaml.safe_load(Path(__file__).with_name("kuberay_schema.yaml").read_text())


def accepted(command, words) -> str:
    """Run a train command of a launch file as a dry run, in the folder of the test."""
    assert words[:2] == ["repertory", "train"]
    outcome = command(*["runs" if word == "/runs" else word for word in words[1:]], "--dry-run")
    assert outcome.code == 0, outcome.err
    assert outcome.files == []
    assert words[words.index("--resume") + 1] == "auto"
    return outcome.out


# -- KubeRay -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MANIFESTS)
def test_manifests_use_fields_that_kuberay_has(name):
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(MANIFESTS[name], SCHEMA)
    wrong = copy.deepcopy(MANIFESTS[name])
    spec = wrong["spec"].get("rayClusterSpec", wrong["spec"])
    spec["workerGroupSpecs"][1]["maxReplica"] = 3
    with pytest.raises(jsonschema.ValidationError, match="maxReplica"):
        jsonschema.validate(wrong, SCHEMA)


def test_a_job_gets_the_same_cluster_as_the_standing_one():
    assert MANIFESTS["job"]["spec"]["rayClusterSpec"] == MANIFESTS["cluster"]["spec"]


def test_the_manifests_ray_is_the_tested_one():
    pins = (HOME / "constraints.txt").read_text(encoding="utf-8")
    assert f"ray=={MANIFESTS['cluster']['spec']['rayVersion']}\n" in pins


def test_the_learner_stays_and_actors_come_and_go_by_label():
    spec = MANIFESTS["cluster"]["spec"]
    groups = {group["groupName"]: group for group in spec["workerGroupSpecs"]}
    assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert spec["enableInTreeAutoscaling"] is True
    learner, spot, steady = groups["learner"], groups["actors-spot"], groups["actors"]
    assert learner["minReplicas"] == learner["maxReplicas"] == 1
    assert learner["labels"]["role"] == "learner"
    assert spot["labels"] == {"role": "actor", "ray.io/market-type": "spot"}
    assert spot["minReplicas"] == 0
    assert steady["labels"]["role"] == "actor"
    assert spot["priority"] > steady["priority"]


def test_pods_are_closed_and_get_no_rights_they_do_not_need():
    spec = MANIFESTS["cluster"]["spec"]
    assert spec["authOptions"] == {"mode": "token"}
    # KubeRay 1.7 refuses clusters with a policy of its own unless a feature gate is on.
    assert "networkPolicy" not in spec
    pods = [group["template"]["spec"] for group in spec["workerGroupSpecs"]]
    assert not any(pod["automountServiceAccountToken"] for pod in pods)
    head = spec["headGroupSpec"]["template"]["spec"]
    for pod in (head, *pods):
        assert pod["securityContext"]["runAsNonRoot"] is True
        (container,) = pod["containers"]
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert {mount["name"] for mount in container["volumeMounts"]} == {
            volume["name"] for volume in pod["volumes"]
        }
        for variable in container.get("env", []):
            secret = re.search("TOKEN|KEY|SECRET", variable["name"])
            assert not secret or variable["value"].startswith("/run/secrets/"), variable
    assert {"name": "RAY_JOB_STOP_WAIT_TIME_S", "value": "60"} in head["containers"][0]["env"]


# Peers as KubeRay labels them; the operator's by its chart, and by its kustomization.
OWN = {"app.kubernetes.io/name": "kuberay", **POLICY["spec"]["podSelector"]["matchLabels"]}
CHART = {"app.kubernetes.io/name": "kuberay-operator", **OPERATOR}
KUSTOMIZED = {"app.kubernetes.io/name": "kuberay", **OPERATOR}
SUBMITTER = {"ray.io/originated-from-crd": "RayJob", "ray.io/originated-from-cr-name": "any"}
STRANGER = {"app.kubernetes.io/name": "kuberay", "ray.io/node-type": "worker"}


@pytest.mark.parametrize(
    ("peer", "namespace", "ports"),
    [
        (OWN, "here", {6379, 8265, 8080, 10002}),
        (OWN, "elsewhere", set()),
        (CHART, "ray-system", {8265}),
        (KUSTOMIZED, "here", {8265}),
        (SUBMITTER, "here", {8265}),
        (SUBMITTER, "elsewhere", set()),
        ({"app.kubernetes.io/name": "prometheus"}, "monitoring", {8080}),
        ({"app.kubernetes.io/name": "prometheus"}, "prometheus-system", {8080}),
        (STRANGER, "here", set()),
        ({}, "elsewhere", set()),
    ],
)
def test_only_who_must_gets_to_a_port_of_our_pods(peer, namespace, ports):
    assert {port for port in (6379, 8265, 8080, 10002) if lets_in(peer, namespace, port)} == ports


def lets_in(pod: dict[str, str], namespace: str, port: int) -> bool:
    """Return whether the policy, which is in namespace `here`, lets a pod in."""

    def matches(selector: dict[str, Any], labels: dict[str, str]) -> bool:
        assert set(selector) <= {"matchLabels", "matchExpressions"}
        for one in selector.get("matchExpressions", []):
            assert one["operator"] == "In"
            if labels.get(one["key"]) not in one["values"]:
                return False
        return selector.get("matchLabels", {}).items() <= labels.items()

    def meant(peer: dict[str, Any]) -> bool:
        assert set(peer) <= {"podSelector", "namespaceSelector"}
        there = {"kubernetes.io/metadata.name": namespace}
        where = (
            matches(peer["namespaceSelector"], there)
            if "namespaceSelector" in peer
            else (namespace == "here")
        )
        return where and matches(peer.get("podSelector", {}), pod)

    return any(
        any(meant(peer) for peer in rule["from"])
        and ("ports" not in rule or port in [one["port"] for one in rule["ports"]])
        for rule in POLICY["spec"]["ingress"]
    )


def test_the_policy_is_for_every_pod_of_ours_and_denies_what_it_does_not_name():
    assert (POLICY["apiVersion"], POLICY["kind"]) == ("networking.k8s.io/v1", "NetworkPolicy")
    assert POLICY["spec"]["policyTypes"] == ["Ingress"]
    chosen = POLICY["spec"]["podSelector"]["matchLabels"]
    spec = MANIFESTS["cluster"]["spec"]
    for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
        assert chosen.items() <= group["template"]["metadata"]["labels"].items()


def test_the_monitor_shows_exporters_the_token_that_kuberay_made_for_the_cluster():
    name = MANIFESTS["cluster"]["metadata"]["name"]
    spec = MONITOR["spec"]
    assert spec["selector"]["matchLabels"] == {"ray.io/cluster": name}
    (endpoint,) = spec["podMetricsEndpoints"]
    # KubeRay names this port of every pod.
    assert endpoint["port"] == "metrics"
    assert endpoint["authorization"] == {
        "type": "Bearer",
        "credentials": {"name": name, "key": "auth_token"},
    }


def test_the_jobs_command_is_one_that_repertory_accepts(command):
    said = accepted(command, shlex.split(MANIFESTS["job"]["spec"]["entrypoint"]))
    assert "count: 32" in said


def test_kustomize_builds_the_standing_cluster():
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed")
    done = subprocess.run(["kubectl", "kustomize", str(KUBERAY)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    built = {document["kind"]: document for document in yaml.safe_load_all(done.stdout)}
    assert set(built) == {"PersistentVolumeClaim", "NetworkPolicy", "RayCluster"}
    # Anchors are spelt out in what is applied.
    jsonschema.validate(built["RayCluster"], SCHEMA)
    claim = built["RayCluster"]["spec"]["headGroupSpec"]["template"]["spec"]["volumes"][2]
    name = built["PersistentVolumeClaim"]["metadata"]["name"]
    assert claim["persistentVolumeClaim"]["claimName"] == name


# -- ray job submit ------------------------------------------------------------------------------


def test_the_runtime_environment_lets_the_packages_through_and_nothing_else(tmp_path):
    packaging = pytest.importorskip("ray._private.runtime_env.packaging")
    excludes = yaml.safe_load((LAUNCH / "runtime_env.yaml").read_text())["excludes"]
    for name in (*NAMES, "runs", "secrets", "tests", ".venv"):
        (tmp_path / name / "__pycache__").mkdir(parents=True)
        (tmp_path / name / "file.py").write_text("x = 1\n")
        (tmp_path / name / "__pycache__" / "file.pyc").write_text("x")
    package = tmp_path.with_suffix(".zip")
    packaging.create_package(
        str(tmp_path), package, include_gitignore=True, include_parent_dir=False, excludes=excludes
    )
    with zipfile.ZipFile(package) as sent:
        files = {name for name in sent.namelist() if not name.endswith("/")}
    assert files == {f"{name}/file.py" for name in NAMES}
