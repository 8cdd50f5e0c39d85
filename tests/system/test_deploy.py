"""What `deploy/` promises: each file is read by a linter of its kind, and what it says is run on real servers."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from json import loads
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis
import trustme
from redis.backoff import NoBackoff
from redis.retry import Retry
from ruamel.yaml import YAML

from redisq import BatchError, QueueFull, RedisQ, Settings, embedded
from redisq.gateway.settings import GatewaySettings
from redisq.worker.run import _FAREWELL, _LAST_WORDS
from tests.conftest import REAL_SERVERS
from tests.system.conftest import eventually

pytestmark = pytest.mark.system

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
README = (DEPLOY / "README.md").read_text("utf-8")
CONF = (DEPLOY / "redis.conf").read_text("utf-8").splitlines()
COMPOSE = (DEPLOY / "compose.yaml").read_text("utf-8")
DOCKERFILE = (DEPLOY / "Dockerfile").read_text("utf-8")
UNIT = (DEPLOY / "redisq-worker@.service").read_text("utf-8")
GATEWAY_UNIT = (DEPLOY / "redisq-gateway.service").read_text("utf-8")
GATEWAY = (DEPLOY / "gateway.md").read_text("utf-8")
TIMEOUT = 60


def tool(name: str) -> str:
    """Find a program beside this Python or on PATH; skip without it. In CI those of the extra `dev` must be there."""
    found = shutil.which(name, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if found:
        return found
    if os.environ.get("CI") and name in ("hadolint", "check-jsonschema"):
        pytest.fail(f"CI wants {name}")
    pytest.skip(f"{name} is not installed")


def run(*command: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, **options)


# --- What the files say ---


def dockerfile() -> list[list[str]]:
    """The instructions of the Dockerfile, each a name and a value."""
    text = re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.MULTILINE)
    return [line.split(maxsplit=1) for line in re.sub(r"\\\n\s*", "", text).splitlines() if line]


def last(name: str) -> str:
    """The value of the last instruction of this name."""
    return [value for found, value in dockerfile() if found == name][-1]


#: The image that ours is built on.
BASE = last("FROM")


def health_check() -> list[str]:
    command: list[str] = loads(last("HEALTHCHECK").partition(" CMD ")[2])
    return command


def settings_of_conf() -> dict[str, str]:
    return {name: value.strip('"') for name, value in (line.split() for line in CONF if line and line[0] != "#")}


def compose(values: dict[str, str] | None = None) -> dict[str, Any]:
    """The services of compose.yaml, with its variables filled in."""
    text = re.sub(r"\$\{(\w+):\?[^}]+\}", lambda found: (values or {}).get(found[1], "x"), COMPOSE)
    services: dict[str, Any] = YAML(typ="safe").load(text)["services"]
    return services


def unit() -> dict[str, list[str]]:
    """The unit's keys; each may be given several times."""
    keys: dict[str, list[str]] = {}
    for line in UNIT.splitlines():
        if "=" in line and line[0] != "#":
            name, _, value = line.partition("=")
            keys.setdefault(name, []).append(value)
    return keys


# --- A server and workers, started as the files say ---


def program_of(server: str) -> Path:
    if os.sep in server:
        return Path(server)
    (found,) = [candidate.binary for candidate in embedded.candidates() if candidate.kind == server]
    assert found
    return found


class Stand:
    """A server started as compose.yaml does, but on a unix socket, and workers that reach it with compose's values."""

    def __init__(self, program: Path, folder: Path, values: dict[str, str]) -> None:
        self.program = program
        self.folder = folder
        self.values = values
        self.socket = folder / "redis.sock"
        self.url = f"unix://:{values['REDIS_PASSWORD']}@{self.socket}"
        self.processes: list[subprocess.Popen[bytes]] = []
        self.server = self.start_server()

    def start_server(self) -> subprocess.Popen[bytes]:
        name, conf, *options = compose(self.values)["redis"]["command"]
        assert (name, conf) == ("redis-server", "/etc/redis/redis.conf")
        here = ["--port", "0", "--unixsocket", str(self.socket), "--dir", str(self.folder)]
        self.server = self.start("redis.log", self.program, DEPLOY / "redis.conf", *options, *here)
        eventually(self.answers, f"an answer of {self.program}")
        return self.server

    def answers(self) -> bool:
        assert self.server.poll() is None, (self.folder / "redis.log").read_text()
        try:
            with self.client() as client:
                return bool(client.ping())
        except (redis.ConnectionError, redis.BusyLoadingError):
            return False

    def has_written(self) -> bool:
        """Whether all of the log is with the operating system, where a kill of the server cannot reach it."""
        with self.client() as client:
            return bool(client.info("persistence")["aof_buffer_length"] == 0)

    def kill_server(self) -> None:
        self.server.kill()
        self.server.wait()

    def client(self, password: str | None = "") -> redis.Redis:
        chosen = self.values["REDIS_PASSWORD"] if password == "" else password
        once = Retry(NoBackoff(), 0)
        return redis.Redis(unix_socket_path=str(self.socket), password=chosen, decode_responses=True, retry=once)

    def environment(self, **extra: str) -> dict[str, str]:
        """What compose.yaml gives a worker, with this server in place of `redis:6379`."""
        given = {name: str(value) for name, value in compose(self.values)["worker"]["environment"].items()}
        url = urlsplit(given["REDISQ_URL"])
        assert (url.hostname, url.port, url.password) == ("redis", 6379, self.values["REDIS_PASSWORD"])
        ours = {name: value for name, value in os.environ.items() if not name.startswith("REDISQ_")}
        return {**ours, **given, "PYTHONPATH": str(ROOT), "REDISQ_URL": self.url, **extra}

    def mq(self) -> RedisQ:
        environment = self.environment()
        secret = environment["REDISQ_APP_SECRET"]
        return RedisQ(settings=Settings(url=self.url, app_id=environment["REDISQ_APP_ID"], app_secret=secret))

    def start(self, log: str, *command: str | Path, **options: Any) -> subprocess.Popen[bytes]:
        with (self.folder / log).open("ab") as output:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, **options)
        self.processes.append(process)
        return process

    def start_worker(self, *command: str | Path) -> subprocess.Popen[bytes]:
        return self.start("worker.log", *command, env=self.environment(), cwd=DEPLOY / "example")

    def working(self) -> int:
        """How many worker processes have got to work."""
        log = self.folder / "worker.log"
        return log.read_text().count("working on orders") if log.exists() else 0

    def end(self) -> None:
        for process in reversed(self.processes):
            if process.poll() is None:
                process.kill()
            process.wait()


def redisq(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "redisq", *arguments]


@pytest.fixture(scope="module")
def values() -> dict[str, str]:
    """The file .env, made as README.md says."""
    tool("openssl")
    with tempfile.TemporaryDirectory() as folder:
        lines = [line for line in README.splitlines() if line.endswith("> .env")]
        docker = f'docker() {{ shift 3; {shlex.join(redisq())} "$@"; }}'  # docker run --rm redisq
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        made = run("sh", "-euc", "\n".join([docker, *lines]), cwd=folder, env=environment)
        assert made.returncode == 0, made.stderr
        written = (Path(folder) / ".env").read_text()
    return dict(line.removeprefix("export ").split("=", 1) for line in written.splitlines())


@pytest.fixture(
    params=REAL_SERVERS or [pytest.param("none", marks=pytest.mark.skip("no real Redis here"))],
    ids=lambda server: Path(server).name,
)
def stand(request: pytest.FixtureRequest, values: dict[str, str]) -> Iterator[Stand]:
    """A private server of each kind under deploy/redis.conf."""
    with tempfile.TemporaryDirectory(prefix="redisq-") as folder:  # not tmp_path: a socket's path is short
        made = Stand(program_of(request.param), Path(folder), values)
        yield made
        made.end()


# --- redis.conf ---


def test_each_setting_of_redis_has_its_reason() -> None:
    settings = [number for number, line in enumerate(CONF) if line and line[0] != "#"]
    assert [CONF[number] for number in settings if not CONF[number - 1].startswith("# ")] == []
    assert len(settings) == len(settings_of_conf())


def test_redis_takes_each_setting(stand: Stand) -> None:
    units = {"1gb": str(1024**3), "64mb": str(64 * 1024**2)}
    given = settings_of_conf()
    with stand.client() as client:
        taken = {name: client.config_get(name)[name] for name in given}
    assert taken == {name: units.get(value, value) for name, value in given.items()}
    assert taken["appendonly"] == taken["protected-mode"] == "yes"
    assert taken["maxmemory-policy"] == "noeviction"
    assert taken["save"] == ""


def test_redis_asks_for_the_password_and_hides_it(stand: Stand) -> None:
    for password in (None, "wrong"):
        with stand.client(password) as client, pytest.raises((redis.AuthenticationError, redis.ResponseError)):
            client.ping()
    if Path("/proc/self/cmdline").exists():
        arguments = Path(f"/proc/{stand.server.pid}/cmdline").read_bytes()
        assert arguments
        assert stand.values["REDIS_PASSWORD"].encode() not in arguments


@pytest.mark.parametrize("torn", [False, True], ids=["whole", "torn"])
def test_what_redis_accepted_survives_a_kill(stand: Stand, torn: bool) -> None:
    with stand.mq() as mq:
        id = mq.queue_message("orders", {"price": 3, "count": 7})
    eventually(stand.has_written, "the log on its way to the disk")  # held back while the one before is forced
    stand.kill_server()
    if torn:  # half a command, as a power cut leaves it
        (log,) = [*stand.folder.glob("appendonly.aof"), *stand.folder.glob("appendonlydir/*.incr.aof")]
        with log.open("ab") as end:
            end.write(b"*3\r\n$3\r\nSET\r\n$1")
    stand.start_server()
    with stand.mq() as mq:
        assert mq.get_message("orders", id).request == {"price": 3, "count": 7}
    assert list(stand.folder.glob("*.rdb")) == []


def test_full_memory_refuses_messages_and_drops_none(stand: Stand) -> None:
    with stand.client() as client, stand.mq() as mq:
        client.config_set("maxmemory", client.info("memory")["used_memory"] + 8 * 1024**2)
        with pytest.raises(BatchError) as refused:
            mq.queue_messages("orders", [{"price": 1, "count": 1, "note": "x" * 500_000}] * 20)
        assert {type(error) for error in refused.value.errors.values()} == {QueueFull}
        accepted = 20 - len(refused.value.errors)
        assert mq.stats("orders").ready == accepted > 0
        done = run(*redisq("worker", "shop:worker", "--burst"), env=stand.environment(), cwd=DEPLOY / "example")
        assert done.returncode == 0, done.stderr
        assert mq.stats("orders").completed == accepted


# --- compose.yaml ---


def test_compose_fits_its_schema(tmp_path: Path) -> None:
    check = [tool("check-jsonschema"), "--builtin-schema", "vendor.compose-spec"]
    checked = run(*check, DEPLOY / "compose.yaml")
    assert checked.returncode == 0, checked.stdout
    wrong = tmp_path / "compose.yaml"
    wrong.write_text(COMPOSE.replace("stop_grace_period", "stop_grace"))
    assert run(*check, wrong).returncode == 1


def test_compose_takes_each_secret_from_the_environment_or_fails() -> None:
    assert set(re.findall(r"\$\{.*?\}", COMPOSE)) == set(re.findall(r"\$\{[A-Z_]+:\?see README\.md\}", COMPOSE))
    names = set(re.findall(r"\$\{(\w+)", COMPOSE))
    assert names == {"REDIS_PASSWORD", "REDISQ_APP_ID", "REDISQ_APP_SECRET"}
    assert all(name in str(compose({name: f"<{name}>"})) for name in names)


def test_compose_starts_redis_first_and_two_workers() -> None:
    services = compose()
    server, worker = services["redis"], services["worker"]
    assert worker["deploy"]["replicas"] == 2
    assert worker["depends_on"] == {"redis": {"condition": "service_healthy"}}
    assert worker["init"] is True
    assert re.fullmatch(r"redis:\d+\.\d+\.\d+-alpine@sha256:\w+", server["image"])
    assert "ports" not in server
    assert server["mem_limit"] == "2g"
    assert settings_of_conf()["maxmemory"] == "1gb"  # half of that
    for volume in [*server["volumes"][:1], *worker["volumes"]]:
        assert (DEPLOY / volume.partition(":")[0]).exists()
    assert (DEPLOY / worker["build"]["context"] / worker["build"]["dockerfile"]).exists()


def test_composes_health_check_of_redis(stand: Stand) -> None:
    beside = stand.program.with_name("redis-cli")
    client = str(beside) if beside.exists() else tool("redis-cli")
    kind, command = compose()["redis"]["healthcheck"]["test"]
    assert (kind, command.split()[:2]) == ("CMD-SHELL", ["redis-cli", "ping"])
    there = command.replace("redis-cli", f"{shlex.quote(client)} -s {stand.socket}")

    def check(password: str) -> int:
        return run("sh", "-c", there, env={**os.environ, "REDISCLI_AUTH": password}).returncode

    assert compose(stand.values)["redis"]["environment"] == {"REDISCLI_AUTH": stand.values["REDIS_PASSWORD"]}
    assert check(stand.values["REDIS_PASSWORD"]) == 0
    assert check("wrong") == 1
    stand.kill_server()
    assert check(stand.values["REDIS_PASSWORD"]) == 1


# --- The image ---


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("", ""),
        ('ENTRYPOINT ["redisq"]', "ENTRYPOINT redisq"),
        (f"FROM {BASE}\n", "FROM python:latest\n"),
        ("USER 10001:10001", "USER root"),
        ("COPY redisq redisq", "ADD redisq redisq"),
    ],
    ids=["as it is", "shell", "latest", "root", "add"],
)
def test_the_dockerfile_passes_its_linter(right: str, wrong: str) -> None:
    assert right in DOCKERFILE
    text = DOCKERFILE.replace(right, wrong) if right else DOCKERFILE
    linted = run(tool("hadolint"), "--failure-threshold", "style", "-", input=text)
    assert (linted.returncode == 0) is (right == wrong), linted.stdout


def test_the_image_is_small_not_root_and_takes_signals() -> None:
    stages = [value for name, value in dockerfile() if name == "FROM"]
    assert stages == [f"{BASE} AS build", BASE]
    assert re.fullmatch(r"([1-9]\d+):\1", last("USER"))
    assert loads(last("ENTRYPOINT")) == ["redisq"]
    assert last("COPY").startswith("--from=build ")
    own = [name for name, _ in dockerfile()][::-1]
    assert "RUN" not in own[: own.index("FROM")]  # nothing is installed in the image itself


def test_the_images_extras_have_the_bounds_of_the_package() -> None:
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    wanted = re.findall(r'"((?:hiredis|uvloop)>=[\d.]+)"', last("RUN"))
    assert len(wanted) == 2
    assert all(f'"{requirement}' in project for requirement in wanted)


def test_readmes_image_passes_the_linter() -> None:
    (text,) = re.findall(r"^```dockerfile\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    linted = run(tool("hadolint"), "--ignore", "DL3006", "--ignore", "DL3013", "-", input=text)  # no versions there
    assert linted.returncode == 0, linted.stdout
    assert f"USER {last('USER')}" in text


@pytest.mark.full
def test_the_image_works_and_is_healthy_until_redis_is_gone(stand: Stand) -> None:
    def healthy(**extra: str) -> bool:
        name, *arguments = health_check()
        assert name == "redisq"
        environment = stand.environment(REDISQ_RETRY_DEADLINE="0.2", **extra)
        return run(*redisq(*arguments), env=environment).returncode == 0

    worker = stand.start_worker(*redisq(*compose()["worker"]["command"]))
    with stand.mq() as mq:
        id = mq.queue_message("orders", {"price": 3, "count": 7})
        assert mq.get_message("orders", id, wait=TIMEOUT).result == {"total": 21}
    assert healthy()
    assert not healthy(REDISQ_URL=stand.url.replace("unix://:", "unix://:not"))
    assert not healthy(REDISQ_APP_SECRET="short")
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(TIMEOUT) == 0
    stand.kill_server()
    assert not healthy()


def test_a_worker_that_is_process_1_stops_at_sigterm(stand: Stand) -> None:
    alone = [tool("unshare"), "--pid", "--fork", "--kill-child", *["--map-root-user"] * (os.geteuid() != 0)]
    if run(*alone, "true").returncode:
        pytest.skip("this machine lets nobody make a process namespace")
    outside = stand.start_worker(*alone, *redisq(*compose()["worker"]["command"]))
    eventually(stand.working, "the worker's start")
    (first,) = Path(f"/proc/{outside.pid}/task/{outside.pid}/children").read_text().split()
    os.kill(int(first), signal.SIGTERM)
    assert outside.wait(TIMEOUT) == 0


# --- The systemd unit ---


def verify(text: str, folder: Path) -> tuple[int, list[str]]:
    """Check a unit as the instance `shop`; give the exit code, and the complaints about the unit itself."""
    copy = folder / "redisq-worker@shop.service"
    program = tool("true")  # not this Python, whose path may hold spaces
    copy.write_text(re.sub(r"/srv/\S+/\.venv/bin/redisq", program, text))
    checked = run(tool("systemd-analyze"), "verify", "--man=no", copy)
    return checked.returncode, [line for line in checked.stderr.splitlines() if "redisq-worker@" in line]


@pytest.mark.parametrize("text", [UNIT, GATEWAY_UNIT], ids=["worker", "gateway"])
def test_systemd_reads_the_unit(text: str, tmp_path: Path) -> None:
    version = int(run(tool("systemd-analyze"), "--version").stdout.split()[1])
    code, complaints = verify(text, tmp_path)
    if version < 254:  # which brought the growing pause, and until then says so
        complaints = [line for line in complaints if "RestartSteps" not in line and "RestartMaxDelaySec" not in line]
    assert (code, complaints) == (0, [])
    _, complaints = verify(text.replace("KillMode", "KilMode"), tmp_path)
    assert any("KilMode" in line for line in complaints)


@pytest.mark.parametrize("name", ["redisq-worker@.service", "redisq-gateway.service"])
def test_systemd_finds_the_unit_hardened(name: str) -> None:
    analyze = tool("systemd-analyze")
    if int(run(analyze, "--version").stdout.split()[1]) < 250:
        pytest.skip("this systemd cannot rate a file")
    threshold = "--threshold=20"  # of 100, less is better
    english = {**os.environ, "LC_ALL": "C.UTF-8"}  # it cannot print its table in every locale
    rated = run(analyze, "security", "--offline=true", threshold, "--no-pager", DEPLOY / name, env=english)
    assert rated.returncode == 0, rated.stdout[-200:]


@pytest.mark.full(keep=1)
def test_the_units_command_works_and_stops_at_sigterm(stand: Stand) -> None:
    keys = unit()
    assert keys["EnvironmentFile"] == ["/etc/redisq/%i.env"]
    name, *arguments = keys["ExecStart"][0].split()
    assert name.endswith("/redisq")
    file = dict(line.split("=", 1) for line in re.findall(r"^```ini\n(.*?)^```$", README, re.M | re.S)[0].splitlines())
    assert set(file) == {"WORKER", "REDISQ_URL"}  # the rest comes from `redisq app create`
    main = stand.start_worker(*redisq(*(part.replace("${WORKER}", file["WORKER"]) for part in arguments)))
    eventually(lambda: stand.working() == 2, "two processes at work")
    main.send_signal(signal.SIGTERM)  # KillMode=mixed: to the main process only
    assert keys["KillMode"] == ["mixed"]
    assert main.wait(TIMEOUT) == 0


def test_wrong_usage_ends_with_the_code_that_prevents_a_restart() -> None:
    (code,) = unit()["RestartPreventExitStatus"]
    assert run(*redisq("worker"), env={**os.environ, "PYTHONPATH": str(ROOT)}).returncode == int(code)


def test_no_process_leaves_its_memory_on_a_disk() -> None:
    for text in (UNIT, GATEWAY_UNIT):
        assert re.findall(r"^LimitCORE=(.*)$", text, re.MULTILINE) == ["0"]
    assert [service["ulimits"] for service in compose().values()] == [{"core": 0}] * 2


def test_images_of_others_are_pinned() -> None:
    others = [BASE, *(service["image"] for service in compose().values() if "build" not in service)]
    assert len(others) == 2
    for image in others:
        assert re.fullmatch(r"\w+:\d+\.\d+\.\d+-[a-z-]+@sha256:[0-9a-f]{64}", image)


# --- The gateway ---


def gateway_settings() -> str:
    """The table of the gateway's settings, from the settings themselves."""
    rows = ["| environment variable | default | meaning |", "| --- | --- | --- |"]
    for name, field in GatewaySettings.model_fields.items():
        default = "" if field.default in (None, (), "") else f"`{field.default}`"
        rows.append(f"| `REDISQ_HTTP_{name.upper()}` | {default} | {field.description} |")
    return "\n".join(rows)


def test_the_table_of_the_gateways_settings_is_the_settings() -> None:
    """When this fails, put the expected text into deploy/gateway.md."""
    (shown,) = re.findall(r"^\| environment variable .*?(?=\n\n|\n\Z)", GATEWAY, re.MULTILINE | re.DOTALL)
    assert shown == gateway_settings()


@pytest.mark.full(keep=1)
def test_what_the_page_of_the_gateway_says_of_applications_runs(stand: Stand) -> None:
    commands = re.findall(r"^```sh\n(.*?)^```$", GATEWAY, re.MULTILINE | re.DOTALL)[0]
    bash, redisq_here = tool("bash"), f'redisq() {{ "{sys.executable}" -m redisq "$@"; }}\n'
    done = run(bash, "-euc", redisq_here + commands, env=stand.environment(), cwd=stand.folder)
    assert done.returncode == 0, done.stderr
    assert "work:reports.*" in done.stdout


def test_nginx_takes_its_example(tmp_path: Path) -> None:
    nginx = shutil.which("nginx", path=f"{os.environ['PATH']}{os.pathsep}/usr/sbin")
    if nginx is None:
        pytest.skip("nginx is not installed")
    certificate = trustme.CA().issue_cert("queue.example.com")
    for name, blob in (
        ("queue.pem", certificate.cert_chain_pems[0]),
        ("queue.key", certificate.private_key_pem),
    ):
        blob.write_to_path(str(tmp_path / name))
    text = (DEPLOY / "nginx.conf").read_text("utf-8")
    assert "listen 443 ssl;" in text
    # Checking a configuration listens, too, and port 443 is root's, or another nginx's.
    text = text.replace("listen 443 ssl;", "listen unix:socket ssl;").replace("/etc/ssl", str(tmp_path))
    temporary = "".join(
        f"{kind}_temp_path {tmp_path / kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    whole = f"pid {tmp_path / 'pid'}; error_log stderr; events {{}} http {{ {temporary} access_log off; {text} }}"
    (tmp_path / "nginx.conf").write_text(whole)
    checked = run(nginx, "-t", "-e", "stderr", "-p", tmp_path, "-c", tmp_path / "nginx.conf", cwd=tmp_path)
    assert checked.returncode == 0, checked.stderr


def test_what_kills_the_gateway_waits_for_its_grace() -> None:
    (stop,) = re.findall(r"^TimeoutStopSec=(\d+)$", GATEWAY_UNIT, re.MULTILINE)
    assert int(stop) > GatewaySettings().grace


# --- All of it ---


def test_whatever_kills_a_worker_waits_until_it_has_handed_back() -> None:
    worker = compose()["worker"]
    needed = Settings(auth="none").grace + _LAST_WORDS + _FAREWELL
    assert worker["environment"]["REDISQ_GRACE"] == 25 == needed - 6
    (unit_stop,) = unit()["TimeoutStopSec"]
    assert int(unit_stop) == int(worker["stop_grace_period"].removesuffix("s")) == 40
    assert needed + _FAREWELL + _LAST_WORDS < 40, "and its lifespan has ended"


def test_the_readme_names_every_file() -> None:
    files = {file.relative_to(DEPLOY).as_posix() for file in DEPLOY.rglob("*") if file.is_file()}
    files = {name for name in files if not name.startswith(".") and "__pycache__" not in name}
    files = {re.sub(r"^(example/webshop/).*", r"\1", name) for name in files}  # a project of its own
    assert files - {"README.md", "Dockerfile.dockerignore"} == set(re.findall(r"^\| `([^`]+)`", README, re.MULTILINE))
