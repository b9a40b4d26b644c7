"""The example clusters: what their tools' schemas say of them, and that none stands open."""

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
from tests.support.clusters import EXAMPLES

from orchestrator.config.sections import parse

LAUNCHED = ("on_premises.yaml", "aws.yaml")
KUBERNETES = "1.37"


def load(name: str) -> Any:
    return yaml.safe_load((EXAMPLES / name).read_text(encoding="utf-8"))


def manifests() -> dict[str, Any]:
    """The documents of rayjob.yaml, by kind."""
    text = (EXAMPLES / "rayjob.yaml").read_text(encoding="utf-8")
    return {document["kind"]: document for document in yaml.safe_load_all(text)}


@pytest.mark.parametrize("name", LAUNCHED)
def test_ray_takes_the_cluster_file_and_no_misspelt_one(name: str) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    prepared = prepare_config(load(name))
    validate_config(prepared)
    for types in prepared["available_node_types"].values():
        assert {"node_config", "resources", "max_workers"} <= types.keys()
    with pytest.raises(jsonschema.ValidationError, match="file_mount"):
        validate_config(prepare_config(load(name) | {"file_mount": {}}))


@pytest.mark.parametrize("name", LAUNCHED)
def test_launched_clusters_ask_for_a_token_and_show_their_dashboard_to_themselves(
    name: str,
) -> None:
    config = load(name)
    # The token is a file on both sides; neither it nor another secret stands in the example.
    assert config["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    assert "RAY_AUTH_TOKEN" not in (EXAMPLES / name).read_text()
    commands = config["head_start_ray_commands"] + config["worker_start_ray_commands"]
    starts = [command for command in commands if "ray start" in command]
    assert len(starts) == 2
    assert all("RAY_AUTH_MODE=token ~/ser/bin/ray start" in command for command in starts)
    assert "--dashboard-host=127.0.0.1" in starts[0]
    assert any("RAY_AUTH_MODE=token' >> ~/.bashrc" in line for line in config["setup_commands"])


def test_ec2_takes_the_instances() -> None:
    types = load("aws.yaml")["available_node_types"]
    run_instances = get_session().get_service_model("ec2").operation_model("RunInstances")
    for kind in types.values():
        request = kind["node_config"] | {"MinCount": 1, "MaxCount": 1}
        found = ParamValidator().validate(request, run_instances.input_shape)
        assert not found.has_errors(), found.generate_report()
    assert types["gpu"]["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    assert (types["gpu"]["min_workers"], types["head"]["resources"]) == (0, {"CPU": 0})


def closed(required: tuple[str, ...], **properties: Any) -> dict[str, Any]:
    """A JSON schema of an object with these keys and no others."""
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
# Of KubeRay's own definitions (RayJobSpec and RayClusterSpec in its ray-operator/apis/ray/v1, as
# of 1.5.1), the fields that the example may use.
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


def test_kuberay_takes_the_job_and_kubernetes_the_rest() -> None:
    found = manifests()
    jsonschema.validate(found["RayJob"], RAY_JOB)
    cluster = found["RayJob"]["spec"]["rayClusterSpec"]
    assert cluster["rayVersion"] == ray.__version__
    (workers,) = cluster["workerGroupSpecs"]
    assert workers["replicas"] <= workers["maxReplicas"]
    assert "nvidia.com/gpu" in workers["template"]["spec"]["containers"][0]["resources"]["limits"]
    # What the job runs is there, is a configuration, and knows what the cluster can grow to.
    path = Path(found["RayJob"]["spec"]["entrypoint"].split()[-1])
    configuration = parse(yaml.safe_load(found["ConfigMap"]["data"][path.name]))
    assert configuration.cluster.gpus == workers["maxReplicas"]
    for group in (cluster["headGroupSpec"], workers):
        spec = group["template"]["spec"]
        (mount,) = spec["containers"][0]["volumeMounts"]
        (volume,) = spec["volumes"]
        assert (mount["name"], mount["mountPath"]) == (volume["name"], str(path.parent))
        assert volume["configMap"]["name"] == found["ConfigMap"]["metadata"]["name"]


def test_kubernetes_takes_the_pods_and_the_rest() -> None:
    found = manifests()
    cluster = found["RayJob"]["spec"]["rayClusterSpec"]
    pods = [
        {"apiVersion": "v1", "kind": "Pod", **group["template"]}
        for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])
    ]
    for resource in (found["ConfigMap"], found["NetworkPolicy"], *pods):
        kubernetes_validate.validate(resource, KUBERNETES, strict=True)


def test_the_kubernetes_cluster_asks_for_a_token_and_lets_in_who_has_business_there() -> None:
    found = manifests()
    cluster = found["RayJob"]["spec"]["rayClusterSpec"]
    assert cluster["authOptions"] == {"mode": "token"}
    head, (workers,) = cluster["headGroupSpec"], cluster["workerGroupSpecs"]
    assert head["serviceType"] == "ClusterIP"
    for group in (head, workers):
        (container,) = group["template"]["spec"]["containers"]
        assert container["env"] == [{"name": "RAY_AUTH_MODE", "value": "token"}]
    # The one dashboard beyond loopback: KubeRay needs it, and the policy keeps others from it.
    assert head["rayStartParams"]["dashboard-host"] == "0.0.0.0"
    policy = found["NetworkPolicy"]["spec"]
    (ours,) = {tuple(g["template"]["metadata"]["labels"].items()) for g in (head, workers)}
    assert policy["podSelector"] == {"matchLabels": dict(ours)}
    assert policy["policyTypes"] == ["Ingress"]
    inside, outside = policy["ingress"]
    assert inside == {"from": [{"podSelector": policy["podSelector"]}]}
    assert [port["port"] for port in outside["ports"]] == [8265]
    job = found["RayJob"]["metadata"]["name"]
    assert [peer["podSelector"]["matchLabels"] for peer in outside["from"]] == [
        {"batch.kubernetes.io/job-name": job},
        {"app.kubernetes.io/name": "kuberay-operator"},
    ]


def test_the_slurm_script_parses_asks_for_gpus_and_for_a_token() -> None:
    script = EXAMPLES / "slurm.sh"
    subprocess.run(["bash", "-n", script], check=True)
    lines = script.read_text().splitlines()
    asked = dict(
        line.removeprefix("#SBATCH --").partition("=")[::2]
        for line in lines
        if line.startswith("#SBATCH")
    )
    assert asked.keys() == {  # long options of sbatch
        *("job-name", "nodes", "ntasks-per-node", "cpus-per-task", "gpus-per-node", "mem"),
        *("time", "exclusive", "requeue", "signal", "open-mode", "output"),
    }
    assert int(asked["gpus-per-node"]) > 0
    assert asked["signal"].startswith("B:USR1@")
    code = [line for line in lines if not line.startswith("#")]
    start = next(i for i, line in enumerate(code) if line.startswith("ray start"))
    assert code.index("export RAY_AUTH_MODE=token") < start
    assert any("--dashboard-host=127.0.0.1" in line for line in code[start : start + 4])
    assert "RAY_AUTH_TOKEN=" not in "\n".join(code)


def test_the_script_for_ray_submit_is_ser() -> None:
    run = [sys.executable, EXAMPLES / "submit.py", "--help"]
    done = subprocess.run(run, capture_output=True, text=True, check=True)
    assert "sweep" in done.stdout
