"""What `manage.py start` runs: the Redis-protocol server, the web process and the workers."""

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from mistudio import embedded_redis
from mistudio.children import SERVER, WORKER, Child
from mistudio.places import redis_socket
from mistudio.preflight import CannotStart, check_port, only_one
from mistudio.supervisor import Say, Supervisor

ROOT = Path(__file__).resolve().parent.parent
PATIENCE = 90.0  # seconds for a part to answer; a large append-only file takes its time


@dataclass(frozen=True)
class Plan:
    host: str
    port: int
    workers: int
    data_dir: Path
    external_redis: str
    prepare: Callable[[], None]  # after the locks, before the children: migrations and the like
    greeting: Callable[[], str]  # what to print once pages are served


def launch(plan: Plan, say: Say) -> None:
    """Run everything until Ctrl-C or TERM. Raises CannotStart with a sentence."""
    with only_one(plan.data_dir):
        check_port(plan.host, plan.port)
        with Supervisor(say) as supervisor:
            _bring_up(plan, supervisor, say)
            supervisor.watch()
            say("Stopping.")
    say("Stopped.")


def _bring_up(plan: Plan, supervisor: Supervisor, say: Say) -> None:
    """Ends early where the user stops it meanwhile."""
    _start_server(plan, supervisor)
    plan.prepare()
    if not _server_answers(plan, supervisor):
        return
    env = environment(plan)
    supervisor.start(Child("web", web_command(plan), env))
    greeting = plan.greeting()  # half a second, while the web process loads
    if not _await(supervisor, lambda: web_answers(plan.host, plan.port), "The web process"):
        return
    # The workers come last: their own start would slow the first page down.
    for number in range(1, plan.workers + 1):
        argv = [sys.executable, str(ROOT / "manage.py"), "sae_worker"]
        supervisor.start(Child(f"worker-{number}", argv, env, WORKER))
    say(greeting)


def _start_server(plan: Plan, supervisor: Supervisor) -> None:
    if plan.external_redis:
        _check_external(plan.external_redis)
        return
    door, folder = redis_socket(plan.data_dir), plan.data_dir / "redis"
    embedded_redis.prepare(door, folder)
    _dismiss_leftover(door, supervisor)
    argv = embedded_redis.command(embedded_redis.find_server(), door, folder)
    supervisor.start(
        Child("redis", argv, os.environ, SERVER, embedded_redis.HUSH, others_need_it=True)
    )


def _dismiss_leftover(door: Path, supervisor: Supervisor) -> None:
    if embedded_redis.answers(door):
        embedded_redis.dismiss(door)
        _await(supervisor, lambda: not embedded_redis.answers(door), "The former server to end")


def _check_external(url: str) -> None:
    import redis  # a tenth of a second that the usual start does without

    try:
        redis.Redis.from_url(url, socket_connect_timeout=5, socket_timeout=5).ping()
    except redis.AuthenticationError as error:
        raise CannotStart("MISTUDIO_REDIS_URL: the server refuses its password.") from error
    except (redis.RedisError, OSError, ValueError) as error:
        raise CannotStart("MISTUDIO_REDIS_URL: no Redis-protocol server answers there.") from error


def _server_answers(plan: Plan, supervisor: Supervisor) -> bool:
    if plan.external_redis:
        return True
    door = redis_socket(plan.data_dir)
    return _await(supervisor, lambda: embedded_redis.answers(door), "The queue's server")


def _await(supervisor: Supervisor, ready: Callable[[], bool], what: str) -> bool:
    if supervisor.wait_until(ready, PATIENCE):
        return True
    if supervisor.signals:
        return False
    raise CannotStart(f"{what} took longer than {PATIENCE:.0f} seconds.")


def web_command(plan: Plan) -> list[str]:
    return [
        *(sys.executable, "-m", "mistudio.web", "-v", "0", "--no-server-name"),
        *("-b", plan.host, "-p", str(plan.port), "mistudio.asgi:application"),
    ]


def environment(plan: Plan) -> Mapping[str, str]:
    """What the children see: the supervisor's own decisions, in the place of the variables."""
    decided = {
        "MISTUDIO_HOST": plan.host,
        "MISTUDIO_PORT": str(plan.port),
        "MISTUDIO_WORKERS": str(plan.workers),
        "MISTUDIO_DATA_DIR": str(plan.data_dir),
    }
    kept = {
        name: value
        for name, value in os.environ.items()
        if name.removesuffix("_FILE") not in decided
    }
    search = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {
        **kept,
        **decided,
        "PYTHONPATH": os.pathsep.join(search),  # `-m` would look in the working directory
        "PYTHONUNBUFFERED": "1",
        "OBJC_DISABLE_INITIALIZE_FORK_SAFETY": "YES",  # macOS would kill every forked worker
    }


def web_answers(host: str, port: int) -> bool:
    everywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}
    line = HTTPConnection(everywhere.get(host, host), port, timeout=1)
    try:
        line.request("GET", "/healthz")
        return line.getresponse().status < 500
    except (OSError, HTTPException):
        return False
    finally:
        line.close()
