"""The files and numbers of ``docs/how-to/deploy.md`` agree with each other and with the settings."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from django.urls import resolve

from kafkaproxy.conf import Settings
from kafkaproxy.serving import connections
from tests.support.recipes import COMMANDS, DOCKERFILE, PAGE, RECIPES, UNIT, kubernetes, option, read_compose, without_address
from tests.support.servers import SERVERS

SETTINGS = Settings()
WANTED = SETTINGS.max_streams + SETTINGS.max_waiting_requests + connections._OTHER_DESCRIPTORS


def test_the_page_has_a_command_for_each_server() -> None:
    assert COMMANDS.keys() == SERVERS.keys()


@pytest.mark.parametrize("name", ["systemd", "docker"])
def test_the_files_run_the_command_of_the_page(name: str) -> None:
    assert without_address(RECIPES[name]) == COMMANDS["granian"]


def test_the_limits_leave_room_for_what_the_settings_allow() -> None:
    assert f"**{WANTED:,}** with the default settings" in PAGE.read_text()
    nofile = read_compose()["services"]["web"]["ulimits"]["nofile"]
    for limit in (option(COMMANDS["granian"], "--backpressure"), int(UNIT["Service"]["LimitNOFILE"]), *nofile.values()):
        assert limit >= WANTED


def test_each_time_of_a_stop_is_longer_than_what_it_waits_for() -> None:
    pod = kubernetes("Deployment")["spec"]["template"]["spec"]
    pre_stop = int(pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][1])
    graceful = option(COMMANDS["uvicorn"], "--timeout-graceful-shutdown")
    kill = option(COMMANDS["granian"], "--workers-kill-timeout")
    stop = int(UNIT["Service"]["TimeoutStopSec"])
    assert option(COMMANDS["hypercorn"], "--graceful-timeout") == graceful
    assert read_compose()["services"]["web"]["stop_grace_period"] == f"{stop}s"
    assert pod["terminationGracePeriodSeconds"] >= stop + pre_stop
    times = [int(SETTINGS.drain_seconds), int(SETTINGS.produce_timeout_seconds), graceful, kill, stop]
    assert times == sorted(set(times))
    assert [int(each) for each in re.findall(r"^\| (\d+) \| ", PAGE.read_text(), re.MULTILINE)] == times
    assert kill > graceful + SETTINGS.drain_seconds  # as the lifespan's end comes after the requests
    (patience,) = re.findall(r"proxy_read_timeout (\d+)s;", PAGE.read_text())
    assert int(patience) > SETTINGS.max_wait_seconds


def test_what_restarts_does_so_whatever_the_status() -> None:
    assert UNIT["Service"]["Restart"] == "always"
    assert UNIT["Service"]["KillMode"] == "mixed"
    assert read_compose()["services"]["web"]["restart"] == "unless-stopped"
    assert "restartPolicy" not in kubernetes("Deployment")["spec"]["template"]["spec"]  # Always, then
    assert "--respawn-failed-workers" in COMMANDS["granian"]
    assert option(COMMANDS["hypercorn"], "--workers") == 0


def test_the_unit_is_one_that_systemd_takes(tmp_path: Path) -> None:
    if (analyze := shutil.which("systemd-analyze")) is None:
        pytest.skip("no systemd-analyze")
    program = UNIT["Service"]["ExecStart"].split()[0]
    unit = tmp_path / "mysite.service"
    unit.write_text((PAGE.parent / "deploy" / "mysite.service").read_text().replace(program, sys.executable))
    done = subprocess.run([analyze, "verify", unit], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_objects_of_kubernetes_fit_together() -> None:
    deployment, service = kubernetes("Deployment"), kubernetes("Service")
    assert (deployment["apiVersion"], service["apiVersion"]) == ("apps/v1", "v1")
    template = deployment["spec"]["template"]
    labels = template["metadata"]["labels"]
    assert deployment["spec"]["selector"]["matchLabels"] == labels == service["spec"]["selector"]
    (container,) = template["spec"]["containers"]
    assert [each["name"] for each in container["volumeMounts"]] == [each["name"] for each in template["spec"]["volumes"]]
    ports = {each["name"]: each["containerPort"] for each in container["ports"]}
    assert ports == {"http": option(RECIPES["docker"], "--port")}
    assert [each["targetPort"] for each in service["spec"]["ports"]] == ["http"]
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert container[probe]["httpGet"]["port"] in ports
        assert container[probe]["timeoutSeconds"] <= container[probe]["periodSeconds"] or probe == "startupProbe"
    assert container["startupProbe"]["httpGet"] == container["livenessProbe"]["httpGet"]
    assert resolve(container["livenessProbe"]["httpGet"]["path"], "project.urls").func.__module__ == "kafkaproxy.urls"
    user = template["spec"]["securityContext"]["runAsUser"]
    assert f"--uid {user} mysite" in DOCKERFILE


def test_a_container_can_write_its_store() -> None:
    (mount,) = kubernetes("Deployment")["spec"]["template"]["spec"]["containers"][0]["volumeMounts"]
    (volume,) = read_compose()["services"]["web"]["volumes"]
    assert volume.split(":")[1] == mount["mountPath"] == f"/var/lib/{UNIT['Service']['StateDirectory']}"
    assert f"install --directory --owner mysite {mount['mountPath']}" in DOCKERFILE
    assert f"`{mount['mountPath']}`" in PAGE.read_text()
    (size,) = [each["emptyDir"]["sizeLimit"] for each in kubernetes("Deployment")["spec"]["template"]["spec"]["volumes"]]
    assert int(size.removesuffix("Gi")) << 30 >= SETTINGS.store_max_bytes * 9 // 8
