"""SIGTERM in real processes: a flush, then what would have happened without us, whatever the main thread was doing."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import textwrap

import pytest

PRELUDE = """
import os, signal, sys, threading, time
from otel_posthog.auto.terminating import Terminating

def say(word):
    os.write(1, word.encode() + b"\\n")

def kill():
    os.kill(os.getpid(), signal.SIGTERM)

budget = 20.0
ours = Terminating(lambda: say("flush"), lambda: budget)
assert ours.install()
"""


def run(code: str, *before: str) -> tuple[int, list[str]]:
    """Runs `code` in a process of its own; exit code and what it said."""
    done = subprocess.run(
        [*before, sys.executable, "-c", PRELUDE + textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.stderr == ""
    return done.returncode, done.stdout.split()


def test_it_flushes_and_dies_by_the_signal() -> None:
    """The exit status is that of the default action."""
    assert run("kill(); say('alive')") == (-signal.SIGTERM, ["flush"])


def test_the_interrupted_thread_may_hold_the_locks_of_threading() -> None:
    """A signal in the middle of `Thread.start`: nothing waits for the thread that was interrupted."""
    assert run("with threading._active_limbo_lock: kill()") == (-signal.SIGTERM, ["flush"])


def test_a_flush_that_hangs_is_waited_for_within_the_budget() -> None:
    """A lock that the main thread holds: the tail is lost, the end is not."""
    code = """
        budget = 0.2
        lock = threading.Lock()
        ours._flush = lambda: (say("begun"), lock.acquire())
        with lock:
            kill()
        """
    assert run(code) == (-signal.SIGTERM, ["begun"])


def test_a_second_signal_does_not_cut_the_flush() -> None:
    """Supervisors signal the process group and the process: both arrive within a moment."""
    code = """
        def flush():
            kill()
            say("half")
            time.sleep(0.2)
            say("flushed")
        ours._flush = flush
        kill()
        """
    assert run(code) == (-signal.SIGTERM, ["half", "flushed"])


def test_a_failing_flush_does_not_keep_the_process() -> None:
    """What the flush raises is its own affair."""
    code = """
        sys.unraisablehook = lambda _: None
        ours._flush = lambda: 1 / 0
        kill()
        """
    assert run(code) == (-signal.SIGTERM, [])


def test_where_the_interrupted_thread_must_not_wait_the_flush_ends_the_process() -> None:
    """Gevent's hub raises where it is made to wait: whatever flushes then brings the end."""
    code = """
        import _thread
        later = []
        class Lock:
            def acquire(self, timeout=None):
                if timeout is not None:
                    raise AssertionError("Impossible to call blocking function in the event loop callback")
            def release(self):
                pass
        _thread.allocate_lock = Lock
        _thread.start_new_thread = lambda work, _: later.append(work)
        kill()
        say("in the hub")
        later.pop()()
        """
    assert run(code) == (-signal.SIGTERM, ["in", "the", "hub", "flush"])


def test_a_later_handler_that_calls_its_predecessor_decides_itself() -> None:
    """Without us there would have been nothing to call: the graceful stop of the app goes on."""
    code = """
        former = signal.getsignal(signal.SIGTERM)
        def mine(number, frame):
            if callable(former):
                former(number, frame)
            say("stopping")
        signal.signal(signal.SIGTERM, mine)
        kill()
        say("stopped")
        """
    assert run(code) == (0, ["flush", "stopping", "stopped"])


def test_a_predecessor_that_is_put_back_and_raised_again_ends_the_process() -> None:
    """As uvicorn does."""
    code = """
        former = signal.signal(signal.SIGTERM, lambda *_: say("graceful"))
        kill()
        signal.signal(signal.SIGTERM, former)
        signal.raise_signal(signal.SIGTERM)
        """
    assert run(code) == (-signal.SIGTERM, ["graceful", "flush"])


def test_it_passes_for_the_default_action() -> None:
    """Code that installs a handler only over the default action (Lightning, submitit) still does."""
    code = """
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
        assert signal.getsignal(signal.SIGTERM) in (None, signal.SIG_DFL)
        assert signal.getsignal(signal.SIGTERM) != signal.SIG_IGN
        assert signal.getsignal(signal.SIGTERM) is ours
        try:
            signal.Handlers(ours)  # how Python 3.10 makes the answer of signal.signal: SIG_DFL here would lose us
        except ValueError:
            say("kept")
        """
    assert run(code) == (0, ["kept"])


def test_programs_that_are_started_have_the_default_action() -> None:
    """A handler does not survive `exec`."""
    code = """
        import subprocess
        shown = "import signal; print(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)"
        subprocess.run([sys.executable, "-c", shown], check=True)
        """
    assert run(code) == (0, ["True"])


def test_children_of_a_fork_die_by_it_too() -> None:
    """`Process.terminate` of multiprocessing: the child flushes its own and ends by the signal."""
    code = """
        pid = os.fork()
        if pid == 0:
            kill()
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGTERM
        """
    assert run(code) == (0, ["flush"])


@pytest.mark.parametrize(
    "taken", ["signal.signal(signal.SIGTERM, signal.SIG_IGN)", "signal.signal(signal.SIGTERM, lambda *_: None)"]
)
def test_what_is_not_the_default_action_stays(taken: str) -> None:
    """An ignored signal stays ignored, a handler stays."""
    code = f"""
        {taken}
        kept = signal.getsignal(signal.SIGTERM)
        assert not Terminating(say, lambda: 1.0).install()
        assert signal.getsignal(signal.SIGTERM) is kept
        """
    assert run(code) == (0, [])


def test_another_thread_installs_nothing() -> None:
    """Signals are the main thread's."""
    code = """
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        answers = []
        thread = threading.Thread(target=lambda: answers.append(ours.install()))
        thread.start()
        thread.join()
        assert answers == [False]
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        """
    assert run(code) == (0, [])


def test_pid_1_ignores_it_still_and_flushes_each_time() -> None:
    """For pid 1 the kernel ignores the default action: a container's program lives on, as without us."""
    unshare = shutil.which("unshare")
    words = (unshare or "", "--user", "--map-root-user", "--pid", "--fork")
    if unshare is None or subprocess.run([*words, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no pid namespaces here")
    code = """
        assert os.getpid() == 1
        kill()
        kill()
        say("alive")
        """
    assert run(code, *words) == (0, ["flush", "flush", "alive"])
