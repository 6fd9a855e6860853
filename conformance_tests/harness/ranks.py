"""Functions run in several processes at once, which are the ranks of one group, on this machine.

    ranks = started("torch", 2, 4)  # a fixture of the module: groups of two and of four

    def summed(rank, value):  # of the module's own: it is found by its name
        ...

    def test_sums(ranks):
        assert ranks.run(summed, 3.0) == [6.0] * ranks.world

``torch`` joins gloo with a file as store, ``jax`` is ``jax.distributed`` on the loopback, and
``mlx`` is ``mlx.launch`` with its ring. Libraries are imported once per session of pytest, in a
process that is forked for each group. Everything ends in bounded time: a rank that does not answer
is a failure that says where it waits, and after a failure the group is started anew.
"""

from __future__ import annotations

import atexit
import contextlib
import faulthandler
import importlib
import linecache
import os
import pickle
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from functools import cache
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import pytest

__all__ = ["RankError", "Ranks", "started"]

IMPORTS = {
    "torch": ("torch.distributed.fsdp", "torch.distributed.tensor.parallel", "samestep.torch"),
    "jax": ("jax", "optax", "samestep.jax"),
    "mlx": ("samestep.mlx",),
}
"""What a process imports before it is forked, by the kind of the group."""
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "JAX_PLATFORMS": "cpu", "PYTHONUNBUFFERED": "1"}
GRACE = 3.0
"""Seconds in which the other ranks may answer after one has failed."""
FRAME = re.compile(r'File "(.+)", line (\d+) in (.+)')
COLLECTIVES = ("distributed_c10d.py", "_functional_collectives.py")
"""The files of torch whose functions are the collectives."""


class RankError(AssertionError):
    """Some ranks failed, or did not answer in time; the message has the words of all."""


def started(kind: str, *worlds: int, **environment: str) -> Any:
    """A fixture with the ranks of a group, for each number of them.

    Args:
        kind: ``"torch"``, ``"jax"`` or ``"mlx"``.
        worlds: how many ranks.
        environment: variables that are set for the processes.
    """

    @pytest.fixture(scope="module", params=worlds, ids=lambda world: f"{world}_ranks")
    def ranks(request: Any, tmp_path_factory: Any) -> Iterator[Ranks]:
        folder = tmp_path_factory.mktemp("ranks")
        with Ranks(kind, request.param, folder, **environment) as found:
            yield found

    return ranks


class Ranks:
    """The ranks of a group, which wait for functions to run."""

    def __init__(self, kind: str, world: int, folder: Path, **environment: str) -> None:
        self.kind, self.world, self.folder = kind, world, folder
        self._environment = tuple(sorted({**ENVIRONMENT, **environment}.items()))
        self._links: dict[int, Connection] = {}
        self._pids: dict[int, int] = {}
        self._launcher: subprocess.Popen[bytes] | None = None
        self._starts = 0

    def __enter__(self) -> Ranks:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def run(self, function: Callable[..., Any], *arguments: Any, seconds: float = 120) -> list[Any]:
        """What a function returns on every rank, by rank; it gets its rank first.

        Args:
            function: a function of a module. Arguments and results are pickled.
            seconds: how long it may take.

        Raises:
            RankError: a rank failed or did not answer.
        """
        call = (function.__module__, function.__qualname__, arguments, seconds)
        try:
            self._ask(pickle.dumps(call))
        except OSError:  # a process has ended after its last answer
            self.end()
            self._ask(pickle.dumps(call))
        answers = self._answers(time.monotonic() + seconds)
        if len(answers) == self.world and all(good for good, _ in answers.values()):
            return [answers[rank][1] for rank in range(self.world)]
        words = [self._words(rank, answers.get(rank)) for rank in range(self.world)]
        self.end()
        name = f"{function.__module__}.{function.__qualname__}"
        raise RankError("\n".join((f"{name} on {self.world} ranks of {self.kind}:", *words)))

    def _ask(self, call: bytes) -> None:
        """Tell all ranks what to do; they are started if they are not there."""
        if not self._links:
            self._begin()
        for link in self._links.values():
            link.send_bytes(call)

    def end(self) -> None:
        """End the processes."""
        for link in self._links.values():
            link.close()
        for pid in self._pids.values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self._launcher is not None:
            self._launcher.kill()
            self._launcher.wait()
        self._links, self._pids, self._launcher = {}, {}, None

    def _begin(self) -> None:
        """Start the processes, and wait until each has said its rank."""
        self._starts += 1
        place = self.folder / f"start{self._starts}"
        place.mkdir(parents=True)
        home = tempfile.mkdtemp(prefix="ranks")  # the name of a socket must be short
        try:
            with socket.socket(socket.AF_UNIX) as server:
                server.bind(f"{home}/s")
                server.listen(self.world)
                server.settimeout(120)
                self._launch(f"{home}/s", place)
                for _ in range(self.world):
                    link = Connection(server.accept()[0].detach())
                    rank, pid = pickle.loads(link.recv_bytes())
                    self._links[rank], self._pids[rank] = link, pid
        except (TimeoutError, EOFError) as error:
            self.end()
            logs = "\n".join(file.read_text() for file in sorted(place.glob("*.log")))
            raise RankError(f"not all of {self.world} ranks started: {error!r}\n{logs}") from None
        finally:
            shutil.rmtree(home)

    def _launch(self, address: str, place: Path) -> None:
        order = f"{self.kind} {address} {self.world} {place}"
        if self.kind != "mlx":
            template = _template(self.kind, self._environment)
            if template.poll() is not None:
                raise RankError(f"the process that is forked has ended with {template.returncode}")
            assert template.stdin is not None
            template.stdin.write(f"{order} {_free_port()}\n")
            template.stdin.flush()
            return
        launch = Path(sys.executable).with_name("mlx.launch")
        own = [sys.executable, "-m", __spec__.name, *order.split()]
        with (place / "launch.log").open("w") as log:
            self._launcher = subprocess.Popen(
                [launch, "-n", str(self.world), "--backend", "ring", "--", *own],
                env={**os.environ, **dict(self._environment)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def _answers(self, end: float) -> dict[int, tuple[bool, Any]]:
        """What the ranks answer until a time, and whether it is what the function returned."""
        answers: dict[int, tuple[bool, Any]] = {}
        waiting = {id(link): rank for rank, link in self._links.items()}
        while waiting and (left := end - time.monotonic()) > 0:
            links = [self._links[rank] for rank in waiting.values()]
            for link in wait(links, left):
                rank = waiting.pop(id(link))
                try:
                    answers[rank] = pickle.loads(link.recv_bytes())  # type: ignore[union-attr]
                except (EOFError, ConnectionError):
                    answers[rank] = False, "the process ended"
                if not answers[rank][0]:
                    end = min(end, time.monotonic() + GRACE)
        return answers

    def _words(self, rank: int, answer: tuple[bool, Any] | None) -> str:
        place = self.folder / f"start{self._starts}"
        if answer is None:
            stack = place / f"{rank}.stack"
            with contextlib.suppress(ProcessLookupError):  # it has ended without a word
                os.kill(self._pids[rank], signal.SIGUSR1)
            time.sleep(0.5)
            text = stack.read_text()
            return f"rank {rank} does not return from {_place(text)}\n{text}"
        if answer[0]:
            return f"rank {rank} returned"
        log = place / f"{rank}.log"
        said = log.read_text()[-2000:] if log.exists() and "ended" in answer[1] else ""
        return f"rank {rank} failed: {answer[1]}\n{said}"


def _place(stack: str) -> str:
    """The collective in which a stack of faulthandler is, else the line."""
    frames = FRAME.findall(stack)
    named = [name for file, _, name in frames if file.endswith(COLLECTIVES)]
    if named:
        return " of ".join(dict.fromkeys(named))
    if not frames:
        return "a place without Python"
    file, line, name = frames[0]
    return f"{name}: {linecache.getline(file, int(line)).strip()}"


@cache
def _template(kind: str, environment: Sequence[tuple[str, str]]) -> subprocess.Popen[str]:
    """A process that has imported everything, and forks the ranks that it reads of."""
    found = subprocess.Popen(
        [sys.executable, "-m", __spec__.name, kind],
        env={**os.environ, **dict(environment)},
        stdin=subprocess.PIPE,
        text=True,
    )
    atexit.register(found.communicate, timeout=10)  # it ends where nothing more is to be read
    return found


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def _fork(kind: str) -> None:
    """What the template does."""
    for name in IMPORTS[kind]:
        importlib.import_module(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the ranks
    warnings.filterwarnings("ignore", "os.fork", RuntimeWarning)  # JAX has no threads yet
    for line in iter(sys.stdin.readline, ""):
        _, address, world, place, port = line.split()
        for rank in range(int(world)):
            if os.fork() == 0:
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
                _serve(kind, address, rank, int(world), Path(place), port)
    os._exit(0)


def _serve(kind: str, address: str, rank: int, world: int, place: Path, port: str) -> None:
    """What a rank does: run the functions that it is told, until nobody is there."""
    log = os.open(place / f"{rank}.log", os.O_WRONLY | os.O_CREAT)
    os.dup2(log, 1)
    os.dup2(log, 2)
    stack = (place / f"{rank}.stack").open("w")
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1, stack, all_threads=False)
    with socket.socket(socket.AF_UNIX) as own:
        own.connect(address)
        link = Connection(own.detach())
    link.send_bytes(pickle.dumps((rank, os.getpid())))
    joined = False
    with contextlib.suppress(EOFError, ConnectionError):
        while True:
            module, name, arguments, seconds = pickle.loads(link.recv_bytes())
            faulthandler.dump_traceback_later(seconds + 30, exit=True)  # if nobody ends it
            try:
                if not joined:
                    _join(kind, rank, world, place, port)
                    joined = True
                found: Any = importlib.import_module(module)
                for part in name.split("."):
                    found = getattr(found, part)
                answer = pickle.dumps((True, found(rank, *arguments)))
            except BaseException:  # pytest's failures too
                answer = pickle.dumps((False, traceback.format_exc()))
            faulthandler.cancel_dump_traceback_later()
            link.send_bytes(answer)
    os._exit(0)  # gloo's threads do not always survive the end of the interpreter


def _join(kind: str, rank: int, world: int, place: Path, port: str) -> None:
    """Make the rank one of its group."""
    if kind == "torch":
        distributed = importlib.import_module("torch.distributed")
        store = f"file://{place}/store"
        distributed.init_process_group(
            "gloo", store, timedelta(minutes=10), world_size=world, rank=rank
        )
    elif kind == "jax" and world > 1:
        jax = importlib.import_module("jax")
        jax.distributed.initialize(f"127.0.0.1:{port}", world, rank)
    elif kind == "mlx":
        importlib.import_module("mlx.core").distributed.init(strict=True, backend="ring")


if __name__ == "__main__":
    if len(sys.argv) == 2:
        _fork(sys.argv[1])
    else:
        kind, address, world, place = sys.argv[1:]
        rank = int(os.environ["MLX_RANK"])
        _serve(kind, address, rank, int(world), Path(place), "")
