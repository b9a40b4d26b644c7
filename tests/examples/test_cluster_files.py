"""The example cluster files: they fit the schemas of their tools, and require a token."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import ray
import yaml
from botocore.session import get_session
from botocore.validate import ParamValidator

from orchestrator.config.parsing import parse
from tests.support.clusters import EXAMPLES

LAUNCHED = ("on_premises.yaml", "aws.yaml")
KUBERNETES = "1.37"


def load(name: str) -> Any:
    return yaml.safe_load((EXAMPLES / name).read_text(encoding="utf-8"))


def manifests() -> dict[str, Any]:
    """The documents of rayjob.yaml, by kind."""
    text = (EXAMPLES / "rayjob.yaml").read_text(encoding="utf-8")
    return {document["kind"]: document for document in yaml.safe_load_all(text)}


@pytest.mark.parametrize("name", LAUNCHED)
def test_ray_accepts_the_cluster_file_but_not_a_misspelt_key(name: str) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    prepared = prepare_config(load(name))
    validate_config(prepared)
    for types in prepared["available_node_types"].values():
        assert {"node_config", "resources", "max_workers"} <= types.keys()
    with pytest.raises(jsonschema.ValidationError, match="file_mount"):
        validate_config(prepare_config(load(name) | {"file_mount": {}}))


@pytest.mark.parametrize("name", LAUNCHED)
def test_a_launched_cluster_requires_a_token_and_has_its_dashboard_on_loopback(name: str) -> None:
    config = load(name)
    # The token is a file on both sides. The example contains neither the token nor a secret.
    assert config["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    assert "RAY_AUTH_TOKEN" not in (EXAMPLES / name).read_text()
    commands = config["head_start_ray_commands"] + config["worker_start_ray_commands"]
    starts = [command for command in commands if "ray start" in command]
    assert len(starts) == 2
    assert all("RAY_AUTH_MODE=token ~/ser/bin/ray start" in command for command in starts)
    assert "--dashboard-host=127.0.0.1" in starts[0]
    assert any("RAY_AUTH_MODE=token' >> ~/.bashrc" in line for line in config["setup_commands"])


def test_ec2_accepts_the_instances() -> None:
    types = load("aws.yaml")["available_node_types"]
    run_instances = get_session().get_service_model("ec2").operation_model("RunInstances")
    for kind in types.values():
        request = kind["node_config"] | {"MinCount": 1, "MaxCount": 1}
        errors = ParamValidator().validate(request, run_instances.input_shape)
        assert not errors.has_errors(), errors.generate_report()
    assert types["gpu"]["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    assert (types["gpu"]["min_workers"], types["head"]["resources"]) == (0, {"CPU": 0})


def closed(required: tuple[str, ...], **properties: Any) -> dict[str, Any]:
    """Return the JSON schema of an object that has these keys and no others."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


TEXT: dict[str, Any] = {"type": "string"}
COUNT: dict[str, Any] = {"type": "integer", "minimum": 0}
YES_NO: dict[str, Any] = {"type": "boolean"}
TEXTS: dict[str, Any] = {"type": "object", "additionalProperties": TEXT}
POD: dict[str, Any] = {"type": "object", "required": ["spec"]}
# The fields that the example may use, from RayJobSpec and RayClusterSpec of KubeRay 1.5.1
# (ray-operator/apis/ray/v1).
RAY_JOB = closed(
    ("apiVersion", "kind", "metadata", "spec"),
    apiVersion={"const": "ray.io/v1"},
    kind={"const": "RayJob"},
    metadata=closed(("name",), name={"type": "string", "pattern": "^[a-z]([-a-z0-9]{0,46})$"}),
    spec=closed(
        ("entrypoint", "rayClusterSpec"),
        entrypoint=TEXT,
        backoffLimit=COUNT,
        activeDeadlineSeconds=COUNT,
        submissionMode={"enum": ["K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"]},
        shutdownAfterJobFinishes=YES_NO,
        ttlSecondsAfterFinished=COUNT,
        rayClusterSpec=closed(
            ("rayVersion", "headGroupSpec", "workerGroupSpecs"),
            rayVersion=TEXT,
            authOptions=closed(("mode",), mode={"enum": ["disabled", "token"]}),
            enableInTreeAutoscaling=YES_NO,
            autoscalerOptions=closed((), idleTimeoutSeconds=COUNT),
            headGroupSpec=closed(
                ("template", "rayStartParams"),
                serviceType={"enum": ["ClusterIP", "NodePort", "LoadBalancer"]},
                rayStartParams=TEXTS,
                template=POD,
            ),
            workerGroupSpecs={
                "type": "array",
                "minItems": 1,
                "items": closed(
                    ("groupName", "template", "rayStartParams", "minReplicas", "maxReplicas"),
                    groupName=TEXT,
                    replicas=COUNT,
                    minReplicas=COUNT,
                    maxReplicas=COUNT,
                    rayStartParams=TEXTS,
                    template=POD,
                ),
            },
        ),
    ),
)


def test_kuberay_accepts_the_job_and_its_configuration_is_valid() -> None:
    documents = manifests()
    jsonschema.validate(documents["RayJob"], RAY_JOB)
    cluster = documents["RayJob"]["spec"]["rayClusterSpec"]
    assert cluster["rayVersion"] == ray.__version__
    (workers,) = cluster["workerGroupSpecs"]
    assert workers["replicas"] <= workers["maxReplicas"]
    assert "nvidia.com/gpu" in workers["template"]["spec"]["containers"][0]["resources"]["limits"]
    # The job's configuration exists, is valid, and names the size that the cluster can grow to.
    path = Path(documents["RayJob"]["spec"]["entrypoint"].split()[-1])
    configuration = parse(yaml.safe_load(documents["ConfigMap"]["data"][path.name]))
    assert configuration.cluster.gpus == workers["maxReplicas"]
    for group in (cluster["headGroupSpec"], workers):
        spec = group["template"]["spec"]
        (mount,) = spec["containers"][0]["volumeMounts"]
        (volume,) = spec["volumes"]
        assert (mount["name"], mount["mountPath"]) == (volume["name"], str(path.parent))
        assert volume["configMap"]["name"] == documents["ConfigMap"]["metadata"]["name"]


def test_kubernetes_accepts_the_pods_and_the_other_resources() -> None:
    documents = manifests()
    cluster = documents["RayJob"]["spec"]["rayClusterSpec"]
    pods = [
        {"apiVersion": "v1", "kind": "Pod", **group["template"]}
        for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])
    ]
    for resource in (documents["ConfigMap"], documents["NetworkPolicy"], *pods):
        kubernetes_validate.validate(resource, KUBERNETES, strict=True)


def test_the_kubernetes_cluster_requires_a_token_and_admits_only_its_own_pods_and_kuberay() -> None:
    documents = manifests()
    cluster = documents["RayJob"]["spec"]["rayClusterSpec"]
    assert cluster["authOptions"] == {"mode": "token"}
    head, (workers,) = cluster["headGroupSpec"], cluster["workerGroupSpecs"]
    assert head["serviceType"] == "ClusterIP"
    for group in (head, workers):
        (container,) = group["template"]["spec"]["containers"]
        assert container["env"] == [{"name": "RAY_AUTH_MODE", "value": "token"}]
    # This dashboard listens beyond loopback because KubeRay needs it. The policy admits no others.
    assert head["rayStartParams"]["dashboard-host"] == "0.0.0.0"
    policy = documents["NetworkPolicy"]["spec"]
    (ours,) = {tuple(g["template"]["metadata"]["labels"].items()) for g in (head, workers)}
    assert policy["podSelector"] == {"matchLabels": dict(ours)}
    assert policy["policyTypes"] == ["Ingress"]
    inside, outside = policy["ingress"]
    assert inside == {"from": [{"podSelector": policy["podSelector"]}]}
    assert [port["port"] for port in outside["ports"]] == [8265]
    job = documents["RayJob"]["metadata"]["name"]
    assert [peer["podSelector"]["matchLabels"] for peer in outside["from"]] == [
        {"batch.kubernetes.io/job-name": job},
        {"app.kubernetes.io/name": "kuberay-operator"},
    ]


def test_the_slurm_script_is_valid_and_requests_gpus_and_a_token() -> None:
    script = EXAMPLES / "slurm.sh"
    subprocess.run(["bash", "-n", script], check=True)
    lines = script.read_text().splitlines()
    options = dict(
        line.removeprefix("#SBATCH --").partition("=")[::2]
        for line in lines
        if line.startswith("#SBATCH")
    )
    assert options.keys() == {  # long options of sbatch
        *("job-name", "nodes", "ntasks-per-node", "cpus-per-task", "gpus-per-node", "mem"),
        *("time", "exclusive", "requeue", "signal", "open-mode", "output"),
    }
    assert int(options["gpus-per-node"]) > 0
    assert options["signal"].startswith("B:USR1@")
    code = [line for line in lines if not line.startswith("#")]
    start = next(i for i, line in enumerate(code) if line.startswith("ray start"))
    assert code.index("export RAY_AUTH_MODE=token") < start
    assert any("--dashboard-host=127.0.0.1" in line for line in code[start : start + 4])
    assert "RAY_AUTH_TOKEN=" not in "\n".join(code)


def test_the_script_for_ray_submit_runs_ser() -> None:
    run = [sys.executable, EXAMPLES / "submit.py", "--help"]
    done = subprocess.run(run, capture_output=True, text=True, check=True)
    assert "sweep" in done.stdout
