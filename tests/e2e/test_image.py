"""The gateway's image without a container engine: its file's rules, its layout, its command as a scheduler runs it.

`collector/Dockerfile` is not built here: there is no engine. Its second stage is laid out in a folder from the same
lock and the same wheel, that folder becomes the root of a process of a random user id without any capability, mounted
read-only but for the spool, and what the file calls ENTRYPOINT, CMD and HEALTHCHECK is run in there.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import re
import secrets
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from otel_posthog.emulator import Emulator
from tests.fixtures.built_tools import dockerfile_check
from tests.fixtures.ports import free_port, free_ports

__all__ = ["dockerfile_check"]

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = (ROOT / "collector" / "Dockerfile").read_text(encoding="utf-8")
SPOOL = "/var/lib/otel-posthog/spool"
TOKEN = "image-test-token-0123456789"


def instructions(text: str = DOCKERFILE) -> list[tuple[str, str]]:
    """Keyword and rest of each instruction, comments away and continued lines joined."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [(line.split(None, 1)[0], line.split(None, 1)[1]) for line in joined.splitlines() if line.strip()]


def final() -> list[tuple[str, str]]:
    """Those of the last stage."""
    found = instructions()
    start = max(index for index, (keyword, _) in enumerate(found) if keyword == "FROM")
    return found[start:]


def value(keyword: str) -> str:
    """The last of that keyword in the last stage."""
    return [rest for word, rest in final() if word == keyword][-1]


def environment() -> dict[str, str]:
    """The variables of the last stage."""
    pairs = (word.split("=", 1) for rest in (r for k, r in final() if k == "ENV") for word in shlex.split(rest))
    return {name: text.replace("$PATH", "/usr/local/bin:/usr/bin:/bin") for name, text in pairs}


def test_buildkit_accepts_every_dockerfile(dockerfile_check: Path) -> None:
    """BuildKit's own parser and linter have nothing to say, and would: a wrong flag is found."""
    shipped = [path.read_text(encoding="utf-8") for path in (ROOT / "collector").rglob("Dockerfile")]
    assert DOCKERFILE in shipped
    for text, code in (*((each, 0) for each in shipped), (DOCKERFILE.replace("--interval=", "--interva="), 1)):
        done = subprocess.run([dockerfile_check], input=text, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == code, done.stderr


def test_bases_are_pinned_and_of_one_kind() -> None:
    """A version down to the patch, the same in both stages: a virtual environment only fits its own Python."""
    bases = [rest.split()[0] for keyword, rest in instructions() if keyword == "FROM"]

    assert len(bases) == 2
    assert len(set(bases)) == 1
    assert re.fullmatch(r"python:3\.1\d\.\d+-slim-\w+", bases[0])


def test_everything_installed_is_pinned_by_hash() -> None:
    """Every installation is from a lock with hashes, or of our own wheel without an index."""
    installs = [
        part for keyword, rest in instructions() if keyword == "RUN" for part in rest.split("&&") if " install " in part
    ]
    pip = [part for part in installs if "pip" in part]

    assert len(pip) == 3
    assert all("--require-hashes -r requirements/" in part or "--no-index" in part for part in pip)
    assert not re.search(r"apt-get|curl|wget|\bADD\b|https?://", DOCKERFILE)


def test_it_is_no_root_and_has_one_place_to_write() -> None:
    """A numeric user, so that a scheduler can check it; the spool is a volume of mode 0700."""
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", value("USER"))
    assert json.loads(value("VOLUME")) == [SPOOL]
    assert environment()["OTEL_POSTHOG_SPOOL_DIR"] == SPOOL
    user = value("USER").split(":")[0]
    assert f"install -d -o {user} -g {user} -m 0700 {SPOOL}" in value("RUN")
    order = [keyword for keyword, _ in final()]
    assert "RUN" not in order[order.index("USER") :]


def test_commands_need_no_shell() -> None:
    """Exec form everywhere: signals reach the process, and nothing is quoted twice."""
    assert json.loads(value("ENTRYPOINT")) == ["otel-posthog"]
    assert json.loads(value("CMD")) == ["gateway"]
    check = value("HEALTHCHECK")
    assert json.loads(check.partition("CMD ")[2]) == ["otel-posthog", "gateway", "--healthcheck"]
    assert {"--interval", "--timeout", "--start-period", "--retries"} <= set(re.findall(r"--[a-z-]+(?==)", check))
    assert value("STOPSIGNAL") == "SIGTERM"


def test_what_is_copied_is_there_and_in_the_context() -> None:
    """Each source exists, and `.dockerignore` lets it through; nothing else gets into a layer."""
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    allowed = {line[1:] for line in ignored if line.startswith("!")}
    sources = [
        word
        for keyword, rest in instructions()
        if keyword == "COPY" and "--from" not in rest
        for word in rest.split()[:-1]
    ]

    assert sources
    assert ignored[1] == "*"
    for source in sources:
        assert (ROOT / source).exists()
        assert source in allowed or (source.startswith("requirements/") and "requirements/*.txt" in allowed)


def test_the_lock_holds_what_the_extra_asks_for() -> None:
    """Each package of the extra `gateway` is in the lock that the image installs."""
    tomllib = pytest.importorskip("tomllib")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["gateway"]]
    locked = set(re.findall(r"^([a-z0-9-]+)==", (ROOT / "requirements/gateway.txt").read_text(), re.MULTILINE))

    assert {re.split(r"[<>=;!~ \[]", each)[0] for each in wanted} - locked == set()


# --- the layout, run -------------------------------------------------------------------------------------------------


@dataclass
class Image:
    """The last stage's files in a folder, and how a process gets them as its root."""

    root: Path

    def run(self, uid: int, *command: str, env: dict[str, str], **options: object) -> subprocess.Popen[bytes]:
        """Starts a command as `uid` with nothing of the machine in reach but /proc, libraries and the loopback."""
        plan = {
            "root": str(self.root),
            "uid": uid,
            "command": command,
            "env": environment() | env,
            "cwd": value("WORKDIR"),
            "python": str(Path(sys.base_prefix)),
        }
        return subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", sys.executable, __file__, json.dumps(plan)],
            **options,  # type: ignore[call-overload]
        )


def enter(plan: dict[str, object]) -> None:
    """In a mount namespace: makes the folder the read-only root, gives up all rights, and runs the command."""
    root = str(plan["root"])

    def mount(*words: str) -> None:
        subprocess.run(["mount", *words], check=True)

    def read_only(source: str, target: str) -> None:
        mount("--bind", source, root + target)
        mount("-o", "remount,bind,ro", root + target)

    mount("--bind", root, root)
    read_only(str(plan["python"]), "/usr/local")
    for folder in ("/lib", "/lib64", "/usr/lib", "/usr/lib64"):
        if os.path.isdir(folder):
            read_only(os.path.realpath(folder), folder)
    mount("--rbind", "/proc", f"{root}/proc")
    mount("-t", "tmpfs", "-o", "mode=0755,size=64k", "tmpfs", f"{root}/dev")
    for name, minor in (("null", 3), ("zero", 5), ("urandom", 9)):
        os.mknod(f"{root}/dev/{name}", 0o666 | 0o020000, os.makedev(1, minor))
        os.chmod(f"{root}/dev/{name}", 0o666)
    mount("-o", "remount,ro", f"{root}/dev")
    uid = int(str(plan["uid"]))
    mount("-t", "tmpfs", "-o", f"mode=0700,uid={uid},gid={uid},size=64m", "tmpfs", root + SPOOL)
    # A fresh ext4 volume has a folder that only root may read; it is no spool of a dead worker.
    os.mkdir(f"{root}{SPOOL}/lost+found", 0o700)
    mount("-o", "remount,bind,ro", root)
    os.chroot(root)
    os.chdir(str(plan["cwd"]))
    libc = ctypes.CDLL(None, use_errno=True)
    for capability in range(64):
        libc.prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP; those beyond the kernel's last are refused
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    libc.prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS
    words = [str(word) for word in plan["command"]]  # type: ignore[attr-defined]
    env = {str(name): str(text) for name, text in plan["env"].items()}  # type: ignore[attr-defined]
    # This machine's Python may have been built for another place than the image's: it must find its own library.
    env["LD_LIBRARY_PATH"] = "/usr/local/lib"
    os.environ["PATH"] = env["PATH"]
    os.execvpe(words[0], words, env)


def not_here(reason: str) -> None:
    """Skips; fails where all is required."""
    if os.environ.get("OTEL_POSTHOG_REQUIRE_ALL") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    """The layout of the last stage, made by the steps of the first one, offline."""
    if os.geteuid() != 0 or subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode:
        not_here("a root file system of its own needs the right to mount (root, or a container with CAP_SYS_ADMIN)")
    installed = list((ROOT / ".envs" / "image" / "lib").glob("python3.*/site-packages"))
    if not (ROOT / ".envs" / "image" / ".made").exists() or not installed:
        not_here("there is no .envs/image: run `make envs` first")
    dist = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(dist)],
        cwd=ROOT,
        check=True,
        capture_output=True,
        timeout=100,
    )
    root = Path(tempfile.mkdtemp(prefix="image-"))
    try:
        root.chmod(0o755)
        for folder in ("proc", "dev", "lib", "lib64", "usr/lib", "usr/lib64", "usr/local", SPOOL[1:], "etc", "tmp"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        (root / "etc/hosts").write_text("127.0.0.1 localhost\n")
        venv = root / "opt/otel-posthog"
        packages = venv / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
        (venv / "bin").mkdir(parents=True)
        python = f"/usr/local/bin/python{sys.version_info[0]}.{sys.version_info[1]}"
        for name in ("python", "python3"):
            (venv / "bin" / name).symlink_to(python)
        (venv / "pyvenv.cfg").write_text(f"home = /usr/local/bin\nversion = {sys.version.split()[0]}\n")
        shutil.copytree(installed[0], packages, symlinks=True)
        (wheel,) = dist.glob("*.whl")
        shutil.unpack_archive(wheel, packages, "zip")
        script = venv / "bin" / "otel-posthog"
        script.write_text(
            "#!/opt/otel-posthog/bin/python\nimport sys\nfrom otel_posthog.cli.main import main\nsys.exit(main())\n"
        )
        script.chmod(0o755)
        yield Image(root)
    finally:
        shutil.rmtree(root, ignore_errors=True)


@dataclass
class Running:
    """The image's command with its ports."""

    process: subprocess.Popen[bytes]
    uid: int
    http: int
    admin: int
    log: Path

    def status(self) -> dict[str, str]:
        """`/proc/PID/status`."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return {name: rest.strip() for name, _, rest in (line.partition(":") for line in text.splitlines())}

    def asked(self, path: str) -> tuple[int, str]:
        """Status and body of the admin port."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}{path}", timeout=30) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def send(self, name: str) -> int:
        """Sends one tagged span; the status."""
        span = {
            "traceId": secrets.token_hex(16),
            "spanId": secrets.token_hex(8),
            "name": "work",
            "startTimeUnixNano": str(time.time_ns() - 1_000_000),
            "endTimeUnixNano": str(time.time_ns()),
            "attributes": [
                {"key": "posthog.event", "value": {"stringValue": name}},
                {"key": "posthog.distinct_id", "value": {"stringValue": "ada"}},
            ],
        }
        body = json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}).encode()
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {TOKEN}"}
        request = urllib.request.Request(f"http://127.0.0.1:{self.http}/v1/traces", body, headers)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code

    def until(self, path: str, status: int) -> str:
        """Waits until the admin port answers so; the body."""
        deadline = time.monotonic() + 60
        while True:
            found, body = self.asked(path)
            if found == status:
                return body
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, (found, body, self.log.read_text())
            time.sleep(0.05)


@pytest.fixture
def posthog() -> Iterator[Emulator]:
    """A local PostHog."""
    with Emulator() as emulator:
        yield emulator


@pytest.fixture
def running(image: Image, posthog: Emulator, tmp_path: Path) -> Iterator[Running]:
    """ENTRYPOINT and CMD of the image, ready."""
    http, admin = free_ports(2)
    uid = 100_000 + secrets.randbelow(1_000_000)
    log = tmp_path / "log"
    with log.open("wb") as out:
        process = image.run(
            uid,
            *json.loads(value("ENTRYPOINT")),
            *json.loads(value("CMD")),
            env={
                "OTEL_EXPORTER_OTLP_ENDPOINT": f"{posthog.url}/i",
                "OTEL_EXPORTER_OTLP_TOKEN": "phc_image",
                "OTEL_POSTHOG_MODE": "direct",
                "OTEL_POSTHOG_GATEWAY_TOKENS": TOKEN,
                "OTEL_POSTHOG_GATEWAY_HTTP": f"127.0.0.1:{http}",
                "OTEL_POSTHOG_GATEWAY_GRPC": "off",
                "OTEL_POSTHOG_GATEWAY_ADMIN": f"127.0.0.1:{admin}",
            },
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    made = Running(process, uid, http, admin, log)
    try:
        made.until("/readyz", 200)
        yield made
    finally:
        if process.poll() is None:
            process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.mark.row(52)
@pytest.mark.timeout(180)
def test_its_command_serves_under_a_random_user_with_nothing_to_write_but_the_spool(
    image: Image, running: Running, posthog: Emulator
) -> None:
    """Events arrive; no rights, no writable file but the spool, well below 128 MiB; SIGTERM ends it with 0."""
    assert running.send("order") == 200
    posthog.wait_for(lambda each: each.events(event="order"))

    status = running.status()
    assert status["Uid"].split() == [str(running.uid)] * 4
    assert status["Gid"].split() == [str(running.uid)] * 4
    assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert status["NoNewPrivs"] == "1"
    assert int(status["VmHWM"].split()[0]) < 128 * 1024
    mounts = Path(f"/proc/{running.process.pid}/mounts").read_text().splitlines()
    spool = str(image.root) + SPOOL
    writable = {line.split()[1] for line in mounts if "rw" in line.split()[3].split(",")}
    inside = {place for place in writable if place in (SPOOL, spool) or place == "/"}
    assert inside == {SPOOL} or inside == {spool}
    assert not [place for place in image.root.rglob("*") if place.stat(follow_symlinks=False).st_uid == running.uid]

    running.process.send_signal(signal.SIGTERM)
    assert running.process.wait(60) == 0
    assert not re.search("WARNING|ERROR|Traceback", running.log.read_text())


@pytest.mark.row(52)
@pytest.mark.timeout(180)
def test_a_full_spool_volume_is_told_and_mended_without_a_restart(running: Running, posthog: Emulator) -> None:
    """Callers are told to come again, readiness is red and says why, the process stays; then all is well again."""
    filler = Path(f"/proc/{running.process.pid}/root{SPOOL}/.filler")
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(1 << 20)):
            pass
    # What fits into the last page of its open file is taken still.
    answers = {running.send(f"taken_{number}") for number in range(40)}
    assert answers <= {200, 503}
    assert 503 in answers
    assert "the spool takes nothing" in running.until("/readyz?verbose", 503)
    assert running.asked("/livez")[0] == 200

    filler.unlink()
    running.until("/readyz", 200)
    assert running.send("mended") == 200
    posthog.wait_for(lambda each: each.events(event="mended"))


@pytest.mark.row(52)
@pytest.mark.timeout(120)
def test_its_health_check_is_the_images(image: Image, running: Running) -> None:
    """HEALTHCHECK's command, in the image and as that user: 0 while it is alive, 1 where nobody is."""
    (*command, flag) = json.loads(value("HEALTHCHECK").partition("CMD ")[2])
    for port, code in ((running.admin, 0), (free_port(), 1)):
        url = f"http://127.0.0.1:{port}/livez"
        done = image.run(running.uid + 1, *command, flag, url, env={}, stderr=subprocess.PIPE)
        _, err = done.communicate(timeout=60)
        assert done.returncode == code, err.decode()


@pytest.mark.row(52)
@pytest.mark.timeout(120)
def test_a_spool_that_it_may_not_write_stops_it_loudly(image: Image) -> None:
    """No spool volume for this user: exit 1 at once, with the folder and the way out, and nothing is accepted."""
    done = image.run(
        123_456,
        "otel-posthog",
        "gateway",
        "--spool",
        "/var/lib/elsewhere",
        env={
            "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9/i",
            "OTEL_EXPORTER_OTLP_TOKEN": "phc_image",
            "OTEL_POSTHOG_MODE": "direct",
            "OTEL_POSTHOG_GATEWAY_HTTP": "127.0.0.1:0",
            "OTEL_POSTHOG_GATEWAY_GRPC": "off",
            "OTEL_POSTHOG_GATEWAY_ADMIN": "off",
        },
        stderr=subprocess.PIPE,
    )
    _, err = done.communicate(timeout=60)

    assert done.returncode == 1
    assert "`spool.dir`: /var/lib/elsewhere" in err.decode()
    assert "Read-only file system. Name a folder that can be written" in err.decode()


if __name__ == "__main__":
    enter(json.loads(sys.argv[1]))
