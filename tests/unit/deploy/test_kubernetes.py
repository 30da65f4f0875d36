"""The manifests of deploy/kubernetes and deploy/kserve, by the schemas of Kubernetes."""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from tests.support.kserve import INFERENCE_SERVICE, SERVING_RUNTIME
from tests.unit.deploy.test_docker import check_command

DEPLOY = Path(__file__).parents[3] / "deploy"
PROXY = DEPLOY / "proxy"
Manifest = dict[str, Any]

pytestmark = pytest.mark.unit


def manifests(folder: Path) -> Iterator[Manifest]:
    """What a kustomization applies."""
    custom = yaml.safe_load((folder / "kustomization.yaml").read_text(encoding="utf-8"))
    for name in custom["resources"]:
        yield from yaml.safe_load_all((folder / name).read_text(encoding="utf-8"))


CLUSTER = list(manifests(DEPLOY))
KSERVE = {one["kind"]: one for one in manifests(DEPLOY / "kserve")}
(POD,) = (one["spec"]["template"]["spec"] for one in CLUSTER if one["kind"] == "Deployment")
RUNTIME = KSERVE["ServingRuntime"]["spec"]
PODS = {"kubernetes": POD, "kserve": RUNTIME}


def named(kind: str) -> Manifest:
    (found,) = (one for one in CLUSTER if one["kind"] == kind)
    return found


def validate(manifest: Manifest) -> None:
    """By the latest schemas that the package holds; unknown fields are errors."""
    kubernetes_validate.validate(manifest, kubernetes_validate.latest_version(), strict=True)


@pytest.mark.parametrize("manifest", CLUSTER, ids=lambda one: one["kind"])
def test_manifests_are_what_kubernetes_takes(manifest: Manifest) -> None:
    validate(manifest)


def test_a_wrong_manifest_is_found() -> None:
    wrong = copy.deepcopy(named("Deployment"))
    wrong["spec"]["template"]["spec"]["containers"][0]["readynessProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError, match="readynessProbe"):
        validate(wrong)


def test_kserves_resources_are_as_its_reference_says() -> None:
    for kind, schema in (
        ("ServingRuntime", SERVING_RUNTIME),
        ("InferenceService", INFERENCE_SERVICE),
    ):
        jsonschema.Draft202012Validator(schema).validate(KSERVE[kind])
        wrong = {**KSERVE[kind], "spec": {**KSERVE[kind]["spec"], "modelFormats": []}}
        with pytest.raises(jsonschema.ValidationError, match="modelFormats"):
            jsonschema.Draft202012Validator(schema).validate(wrong)
    pod = {"containers": RUNTIME["containers"], "volumes": RUNTIME["volumes"]}
    metadata = {"name": "runtime"}
    validate({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod})
    model = KSERVE["InferenceService"]["spec"]["predictor"]["model"]
    assert model["runtime"] == KSERVE["ServingRuntime"]["metadata"]["name"]
    formats = [one["name"] for one in RUNTIME["supportedModelFormats"]]
    assert model["modelFormat"]["name"] in formats
    assert model["protocolVersion"] in RUNTIME["protocolVersions"]


@pytest.mark.parametrize("pod", PODS.values(), ids=PODS)
def test_containers_are_hardened_and_their_commands_exist(pod: Manifest) -> None:
    for container in pod["containers"]:
        security = container["securityContext"]
        assert security["allowPrivilegeEscalation"] is False
        assert security["readOnlyRootFilesystem"] is True
        assert security["capabilities"] == {"drop": ["ALL"]}
        assert "limits" in container["resources"]
        command = [*container.get("command", []), *container.get("args", [])]
        if command[:1] == ["videopure"]:
            check_command(command)
        volumes = {volume["name"] for volume in pod["volumes"]}
        assert {mount["name"] for mount in container["volumeMounts"]} <= volumes


@pytest.mark.parametrize("pod", PODS.values(), ids=PODS)
def test_pods_are_ready_when_the_workers_are(pod: Manifest) -> None:
    server = pod["containers"][0]
    assert server["readinessProbe"]["exec"]["command"] == ["videopure", "status"]
    check_command(server["readinessProbe"]["exec"]["command"])
    assert server["resources"]["limits"]["nvidia.com/gpu"]


def test_the_parts_know_each_other() -> None:
    """Selectors, names and ports: what a schema cannot tell."""
    labels = named("Deployment")["spec"]["template"]["metadata"]["labels"]
    for kind in ("Service", "PodDisruptionBudget", "NetworkPolicy", "Deployment"):
        spec = named(kind)["spec"]
        selector = spec.get("selector", spec.get("podSelector"))
        chosen = selector.get("matchLabels", selector)
        assert chosen.items() <= labels.items(), kind
    target = named("HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]
    assert target["name"] == named("Deployment")["metadata"]["name"]
    ports = {port["name"]: port["containerPort"] for port in POD["containers"][2]["ports"]}
    assert {port["targetPort"] for port in named("Service")["spec"]["ports"]} == ports.keys()
    policy = named("NetworkPolicy")["spec"]["ingress"]
    assert {rule["ports"][0]["port"] for rule in policy} == {*ports.values()}
    for file, port in (("proxy/videopure.conf", "https"), ("kubernetes/metrics.conf", "metrics")):
        assert f"listen {ports[port]}" in (DEPLOY / file).read_text(encoding="utf-8")


def test_the_autoscaler_asks_for_a_metric_that_there_is() -> None:
    (metric,) = named("HorizontalPodAutoscaler")["spec"]["metrics"]
    rules = yaml.safe_load((DEPLOY / "kubernetes/adapter.yaml").read_text(encoding="utf-8"))
    (rule,) = rules["rules"]["custom"]
    assert metric["pods"]["metric"]["name"] == rule["name"]["as"]
    declared = (DEPLOY.parent / "metrics.yaml").read_text(encoding="utf-8")
    for name in ("ts_queue_latency_microseconds", "ts_inference_requests_total"):
        assert name in rule["metricsQuery"]
        assert f"- name: {name}\n" in declared


@pytest.mark.parametrize("folder", [DEPLOY, DEPLOY / "kserve"], ids=lambda path: path.name)
def test_files_of_the_config_maps_exist(folder: Path) -> None:
    custom = yaml.safe_load((folder / "kustomization.yaml").read_text(encoding="utf-8"))
    for config in custom["configMapGenerator"]:
        for name in config["files"]:
            # kustomize reads nothing outside of its folder, and follows no link out of it.
            assert (folder / name).resolve().is_relative_to(folder.resolve())
            assert (folder / name).is_file()


@pytest.mark.parametrize("name", ["nginx.conf", "run.sh"])
def test_kserves_copies_are_the_proxys(name: str) -> None:
    assert (DEPLOY / "kserve" / name).read_bytes() == (PROXY / name).read_bytes()
