"""Commands in processes of their own, which start at once because everything they need is already imported.

Importing torch takes seconds. A Server imports it and lca once, and forks for every command. Apart from that, a command
is like `python -m lca`: it has its own folder, environment and output, it can be killed, and it ends as the interpreter
ends. What Python takes from the environment when it starts, such as the encoding of the output, comes from the server.
"""

import atexit
import gc
import importlib
import io
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile

COMMANDS = ("allocate", "analyze", "plot", "problems", "train")
IMPORTS = ("torch._dynamo", "torch.distributed.launcher.api", *(f"lca.cli.{name}" for name in COMMANDS))
PROGRAM = f"import sys; sys.path.append({str(Path(__file__).parent)!r}); from processes import serve; serve()"


class Server:
    """A process that starts commands and ends with the process that created it.

    Args:
        environment: The environment in which its interpreter starts. By default, that of this process.
        python: The interpreter.
        folder: The folder in which it starts, from which no module is imported.
    """

    def __init__(self, environment=None, python=sys.executable, folder=None):
        self.socket, theirs = socket.socketpair()
        with theirs:
            command = [python, "-c", PROGRAM]
            self.process = subprocess.Popen(command, stdin=theirs, env=environment, cwd=folder)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()
        self.process.wait()

    def start(self, *arguments, module="lca", cwd=".", env=None, stdout=None, stderr=None):
        """Start `python -m MODULE ARGUMENTS`, which writes to the open files `stdout` and `stderr`, if given."""
        with TemporaryFile("w+") as request, open(os.devnull, "w") as nothing:
            words = [module, *map(str, arguments)]
            json.dump([words, os.path.abspath(cwd), dict(os.environ if env is None else env)], request)
            request.seek(0)
            return Command(self.socket, request, stdout or nothing, stderr or nothing)

    def run(self, *arguments, status=0, **options):
        """Run a command, check its exit status, and return the bytes that it has written to stdout and to stderr."""
        reading, writing = os.pipe()
        with open(reading, "rb") as stdout, TemporaryFile() as stderr:
            with open(writing, "wb") as pipe:
                command = self.start(*arguments, stdout=pipe, stderr=stderr, **options)
            written = stdout.read()
            assert command.wait() == status, read_from_start(stderr)
            return written, read_from_start(stderr)


def read_from_start(file):
    file.seek(0)
    return file.read()


class Command:
    """A command that a server has started."""

    def __init__(self, server, *files):
        reading, writing = os.pipe()
        socket.send_fds(server, [b"start"], [*(file.fileno() for file in files), writing])
        os.close(writing)
        self._report, self.status = io.FileIO(reading), None
        self.pid = int(self._report.readline())

    def ends_within(self, seconds):
        """Wait for the end of the command for at most this long, and return whether it has ended."""
        if self.status is None and select.select([self._report], [], [], seconds)[0]:
            self.wait()
        return self.status is not None

    def wait(self):
        """Wait for the end of the command and return its exit status, or -N if signal N has ended it."""
        if self.status is None:
            with self._report:
                self.status = int(self._report.readline())
        return self.status

    def send(self, signal):
        """Send a signal to the command, if it has not ended, and return its exit status."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal)
        return self.wait()


def serve():
    """Import everything. Then run every command that is requested, each in a fork of this process."""
    for name in IMPORTS:
        importlib.import_module(name)
    gc.freeze()  # so that a fork need not copy the memory of every object to collect garbage
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    requests = socket.socket(fileno=os.dup(0))
    while True:
        message, files, *_ = socket.recv_fds(requests, 16, 4)
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        if not message:
            return None
        if os.fork() == 0:
            requests.close()
            return run_and_report(*files)
        for file in files:
            os.close(file)


def run_and_report(request, stdout, stderr, report):
    """Run the command in a fork, and write its process id and its exit status to `report`."""
    if pid := os.fork():
        os.write(report, b"%d\n" % pid)
        os.write(report, b"%d\n" % os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        os._exit(0)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with open(request) as file:
        (module, *arguments), folder, environment = json.load(file)
    for number, file in enumerate((os.open(os.devnull, os.O_RDONLY), stdout, stderr)):
        os.dup2(file, number)
    os.closerange(3, report + 1)
    sys.stdout, sys.stderr = reopen(sys.stdout), reopen(sys.stderr)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.path.pop()
    sys.path[0], sys.argv = folder, [module, *arguments]
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if isinstance(end.code, int):
            leave(end.code)
        raise


def reopen(stream):
    """Return a stream with the same encoding for the file that has replaced the one that it was opened for."""
    written = io.FileIO(stream.fileno(), "w", closefd=False)
    line_buffering = stream is sys.stderr or written.isatty()
    return io.TextIOWrapper(io.BufferedWriter(written), stream.encoding, stream.errors, line_buffering=line_buffering)


def leave(status):
    """End the process as the interpreter does, except that the modules are not deleted, which would take long."""
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    os._exit(status)
