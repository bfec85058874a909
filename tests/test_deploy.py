"""The cluster files, by Ray's own validators; the roles, by what the store really asks of S3."""

import copy
import json
import re
import tomllib
import zipfile
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from rayapp.storage.s3 import s3_client
from rayapp.storage.uris import open_store
from tests.doubles.s3 import S3

ROOT = Path(__file__).parents[1]
VMS = ("cluster.yaml", "deploy/gcp.yaml")


def read(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text())


# --- virtual machines -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", VMS)
def test_rays_own_validator_takes_the_cluster_file(name: str):
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = read(name)
    validate_config(prepare_config(copy.deepcopy(config)))
    wrong = [config | {"nonsense": 1}, config | {"head_node_type": "nonsense"}]
    for spoilt in wrong:  # the validator does refuse
        with pytest.raises(Exception, match=r"nonsense|must be one of"):
            validate_config(prepare_config(copy.deepcopy(spoilt)))


@pytest.mark.parametrize("name", VMS)
def test_the_head_computes_nothing_and_spot_workers_start_from_none(name: str):
    config = read(name)
    types = config["available_node_types"]
    assert types["head"]["resources"] == {"CPU": 0, "driver": 4}
    for kind in types.values():
        assert kind["min_workers"] == 0
        assert all(isinstance(count, int) for count in kind["resources"].values())
    for kind in (types["cpu"], types["gpu"]):
        market = kind["node_config"].get("InstanceMarketOptions", {}).get("MarketType")
        preemptible = kind["node_config"].get("scheduling", [{}])[0].get("preemptible")
        assert market == "spot" or preemptible
    assert types["gpu"]["resources"]["GPU"] == 1
    assert config["idle_timeout_minutes"] >= 15


@pytest.mark.parametrize("name", VMS)
def test_nobody_comes_in_without_the_token(name: str):
    config = read(name)
    assert "--env RAY_AUTH_MODE=token" in config["docker"]["run_options"]
    assert "~/.ray/auth_token" in config["file_mounts"]
    head = next(line for line in config["head_start_ray_commands"] if "--head" in line)
    assert "--dashboard-host=127.0.0.1" in head


def test_no_file_holds_a_key_and_what_is_to_fill_in_is_marked():
    files = [ROOT / "cluster.yaml", *(ROOT / "deploy").iterdir()]
    for file in files:
        text = file.read_text()
        assert not re.search(r"(?i)AKIA[0-9A-Z]{16}|secret_access_key|password", text), file
    aws = read("cluster.yaml")["available_node_types"]
    for kind in aws.values():
        assert re.fullmatch(r"<.*>", kind["node_config"]["IamInstanceProfile"]["Name"])


def test_what_is_mounted_is_there():
    for name in VMS:
        local = read(name)["file_mounts"]["~/configs"]
        assert ((ROOT / name).parent / local).resolve() == ROOT / "configs"


# --- Kubernetes -----------------------------------------------------------------------------------


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Meta(Strict):
    name: str


class Mount(Strict):
    name: str
    mountPath: str
    readOnly: bool = False


class Amounts(Strict):
    requests: dict[str, str]
    limits: dict[str, str]


class Container(Strict):
    name: str
    image: str
    resources: Amounts
    volumeMounts: list[Mount] = []


class Toleration(Strict):
    key: str
    operator: Literal["Exists", "Equal"]
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"]


class SecretName(Strict):
    secretName: str


class Volume(Strict):
    name: str
    configMap: Meta | None = None
    secret: SecretName | None = None


class PodSpec(Strict):
    serviceAccountName: str
    restartPolicy: Literal["Never", "Always", "OnFailure"] = "Always"
    containers: list[Container]
    volumes: list[Volume] = []
    tolerations: list[Toleration] = []


class Template(Strict):
    spec: PodSpec


class Head(Strict):
    rayStartParams: dict[str, str]
    template: Template


class Workers(Head):
    groupName: str
    minReplicas: int
    maxReplicas: int
    replicas: int


class AutoscalerOptions(Strict):
    version: Literal["v1", "v2"]
    idleTimeoutSeconds: int


class AuthOptions(Strict):
    mode: Literal["disabled", "token"]


class RayClusterSpec(Strict):
    rayVersion: str
    authOptions: AuthOptions
    enableInTreeAutoscaling: bool
    autoscalerOptions: AutoscalerOptions
    headGroupSpec: Head
    workerGroupSpecs: list[Workers]


class RayJobSpec(Strict):
    entrypoint: str
    submissionMode: Literal["K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"]
    shutdownAfterJobFinishes: bool
    ttlSecondsAfterFinished: int
    rayClusterSpec: RayClusterSpec


class RayJob(Strict):
    """The fields of ray.io/v1 RayJob that our file uses, by KubeRay's Go types; none else."""

    apiVersion: Literal["ray.io/v1"]
    kind: Literal["RayJob"]
    metadata: Meta
    spec: RayJobSpec


def test_the_rayjob_has_kuberays_structure():
    job = RayJob.model_validate(read("deploy/kuberay-rayjob.yaml"))
    cluster = job.spec.rayClusterSpec
    assert cluster.authOptions.mode == "token"
    assert job.spec.entrypoint.split()[1].startswith("/home/ray/jobs/")
    assert (ROOT / "jobs" / Path(job.spec.entrypoint.split()[1]).name).exists()
    for group in (cluster.headGroupSpec, *cluster.workerGroupSpecs):
        for container in group.template.spec.containers:
            assert container.resources.requests == container.resources.limits
    spoilt = read("deploy/kuberay-rayjob.yaml")
    spoilt["spec"]["entryPoint"] = spoilt["spec"].pop("entrypoint")
    with pytest.raises(ValidationError):
        RayJob.model_validate(spoilt)


def test_rays_autoscaler_reads_the_rayjobs_cluster_as_the_one_on_machines():
    from ray.autoscaler._private.kuberay.autoscaling_config import (
        _derive_autoscaling_config_from_ray_cr,
    )
    from ray.autoscaler._private.util import validate_config

    spec = read("deploy/kuberay-rayjob.yaml")["spec"]["rayClusterSpec"]
    meta = {"name": "imaginet", "namespace": "default"}
    config = _derive_autoscaling_config_from_ray_cr({"metadata": meta, "spec": spec})
    validate_config(config)
    aws = read("cluster.yaml")
    for theirs, ours in (("headgroup", "head"), ("cpu", "cpu"), ("gpu", "gpu")):
        kind, expected = config["available_node_types"][theirs], aws["available_node_types"][ours]
        resources = {k: v for k, v in kind["resources"].items() if k != "memory"}
        assert resources == expected["resources"]
        assert kind["max_workers"] == expected["max_workers"]
    assert config["idle_timeout_minutes"] == aws["idle_timeout_minutes"]


class RayServiceSpec(Strict):
    serveConfigV2: str
    rayClusterConfig: RayClusterSpec


class RayService(Strict):
    """The fields of ray.io/v1 RayService that our file uses; none else."""

    apiVersion: Literal["ray.io/v1"]
    kind: Literal["RayService"]
    metadata: Meta
    spec: RayServiceSpec


def test_the_rayservice_has_kuberays_structure_and_the_config_is_our_services():
    from ray.serve.schema import ServeDeploySchema

    from rayapp.cluster.serving import NAME, deployment_name
    from rayapp.serve.settings import ServeSettings

    service = RayService.model_validate(read("deploy/kuberay-rayservice.yaml"))
    assert service.spec.rayClusterConfig.authOptions.mode == "token"
    deployed = ServeDeploySchema.model_validate(yaml.safe_load(service.spec.serveConfigV2))
    (app,) = deployed.applications
    assert (app.name, app.import_path) == (NAME, "rayapp.jobs.serve:application")
    settings = ServeSettings(**app.args)
    assert settings.tokens  # others reach it
    assert settings.host == deployed.http_options.host
    assert [one.name for one in app.deployments] == [deployment_name(n) for n in settings.called]


# --- image and working directory ------------------------------------------------------------------


def test_the_image_is_made_of_files_that_are_there_and_of_the_pinned_ray():
    lines = (ROOT / "deploy/Dockerfile").read_text().replace("\\\n", " ").splitlines()
    for line in lines:
        words = [word for word in line.split() if not word.startswith("--")]
        if words[:1] == ["COPY"]:
            assert all((ROOT / source).exists() for source in words[1:-1]), line
    installs = [line for line in lines if "pip install" in line]
    assert len(installs) == 2
    assert all("-c constraints.txt" in line for line in installs)
    pinned = re.search(r"^ray==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert pinned
    assert read("deploy/kuberay-rayjob.yaml")["spec"]["rayClusterSpec"]["rayVersion"] == pinned[1]
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    kuberay = ("deploy/kuberay-rayjob.yaml", "deploy/kuberay-rayservice.yaml")
    for name in (*VMS, *kuberay, "deploy/Dockerfile"):
        assert f"imaginet-ray:{version}" in (ROOT / name).read_text(), name


def test_the_working_directory_that_travels_is_small(tmp_path: Path):
    from ray._private.runtime_env.packaging import create_package

    create_package(str(ROOT), tmp_path / "package.zip", include_gitignore=True)
    with zipfile.ZipFile(tmp_path / "package.zip") as package:
        names = set(package.namelist())
    assert (tmp_path / "package.zip").stat().st_size < 3 << 20
    assert {"rayapp/cluster/session.py", "jobs/train.py", "configs/demo.yaml"} <= names
    assert not {name.split("/")[0] for name in names} & {"tests", "runs", ".venv", ".git", "docs"}


# --- roles ----------------------------------------------------------------------------------------

ACTIONS = {  # of boto3's operations
    "PutObject": "s3:PutObject",
    "GetObject": "s3:GetObject",
    "HeadObject": "s3:GetObject",
    "ListObjectsV2": "s3:ListBucket",
    "DeleteObjects": "s3:DeleteObject",
}
# Ray Train writes its checkpoints through Arrow, in parts.
BY_ARROW = {"s3:AbortMultipartUpload"}


def allowed(name: str) -> list[dict[str, Any]]:
    return list(json.loads((ROOT / "deploy" / name).read_text())["Statement"])


def test_the_workers_role_allows_what_the_store_asks_and_no_more(s3: S3):
    asked: set[str] = set()
    client = s3_client()

    def note(model: Any, **_: Any) -> None:
        asked.add(model.name)

    client.meta.events.register("before-call.s3", note)
    try:
        store = open_store(f"s3://{s3.bucket}/role")
        store.put("a/b", b"1", if_absent=True)
        assert store.get("a/b") == store.get_range("a/b", 0, 9) == b"1"
        assert store.stat("a/b") is not None
        assert [stat.key for stat in store.list()] == ["a/b"]
        store.delete(["a/b"])
        store.sweep(0)
    finally:
        client.meta.events.unregister("before-call.s3", note)
    granted: set[str] = set()
    for statement in allowed("iam-worker.json"):
        actions = statement["Action"]
        granted |= {actions} if isinstance(actions, str) else set(actions)
        assert "<bucket>" in statement["Resource"]
    assert granted == {ACTIONS[name] for name in asked} | BY_ARROW


def test_the_heads_role_changes_nodes_of_this_cluster_only():
    name = read("cluster.yaml")["cluster_name"]
    for statement in allowed("iam-head.json"):
        actions = statement["Action"]
        actions = [actions] if isinstance(actions, str) else actions
        assert all("*" not in action for action in actions)
        if not all(action.startswith("ec2:Describe") for action in actions):
            assert statement["Resource"] != "*"
        if "ec2:TerminateInstances" in actions:
            tag = statement["Condition"]["StringEquals"]["ec2:ResourceTag/ray-cluster-name"]
            assert tag == name
