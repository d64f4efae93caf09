"""Windows, as far as Linux can imitate it: what it lacks is hidden, and files that are open cannot be deleted.

As a program, `python windows.py FOLDER` runs the main commands in such a process. The stores and figures go to FOLDER.
"""

import contextlib
import errno
import fcntl
import importlib
import io
import os
import pkgutil
import signal
import struct
import sys
from collections import namedtuple
from pathlib import Path
from types import ModuleType

MODULES = ["fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "syslog", "readline", "curses", "crypt"]
MODULES += ["imageio_ffmpeg"]  # its program for Windows does not run here, so films are encoded by Pillow
# Attributes of `os`, without those that the standard library itself uses on Linux after it was imported.
FUNCTIONS = """
chown chroot confstr ctermid fchmod fchown fdatasync fork forkpty getegid geteuid getgid getgroups getloadavg getpgid
getpgrp getpriority getresuid getsid getuid initgroups killpg lchown lockf major memfd_create minor mkfifo mknod nice
openpty pipe2 posix_fadvise posix_fallocate pread preadv pwrite pwritev register_at_fork sched_getaffinity
sched_getscheduler sched_setaffinity sched_yield sendfile setpgid setpriority setsid setuid sync sysconf sysconf_names
tcgetpgrp ttyname uname wait wait3 wait4 O_CLOEXEC O_DIRECTORY O_DSYNC O_NOCTTY O_NOFOLLOW O_NONBLOCK O_SYNC
PRIO_PROCESS
"""
SIGNALS = """
SIGALRM SIGBUS SIGCHLD SIGCONT SIGHUP SIGIO SIGKILL SIGPIPE SIGPROF SIGQUIT SIGSTOP SIGTSTP SIGUSR1 SIGUSR2 SIGVTALRM
SIGXCPU alarm pause pthread_kill pthread_sigmask setitimer sigpending sigwait
"""
# Libraries that choose their code for Linux when they are imported.
LIBRARIES = """
asyncio click fsspec http.client matplotlib.backends.backend_agg matplotlib.figure multiprocessing numcodecs PIL.Image
plotly.offline psutil rich.console scipy.stats subprocess tempfile torch torch.utils.data torch.distributed tqdm
urllib.request zarr zarr.storage
"""
FOLDER = "a b#c%20é"


def make_msvcrt():
    """Return a module with `locking`, based on locks of Linux that belong to an open file, as those of Windows do."""
    module = ModuleType("msvcrt")
    module.LK_UNLCK, module.LK_NBLCK = 0, 2

    def locking(fd, mode, n):
        kind = fcntl.F_UNLCK if mode == module.LK_UNLCK else fcntl.F_WRLCK
        region = struct.pack("hhqqi4x", kind, os.SEEK_SET, os.lseek(fd, 0, os.SEEK_CUR), n, 0)
        try:
            fcntl.fcntl(fd, fcntl.F_OFD_SETLK, region)
        except OSError as error:
            raise PermissionError(errno.EACCES, "Permission denied") from error

    module.locking = locking
    return module


def keep_open_files():
    """Let all functions that delete or rename a file fail with PermissionError while this process has it open."""

    def find_open():
        for fd in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):
                yield os.readlink(f"/proc/self/fd/{fd}")

    def guard(function):
        def call(*paths, **options):
            folder = options.get("dir_fd")
            base = os.getcwd() if folder is None else os.readlink(f"/proc/self/fd/{folder}")
            touched = {os.path.realpath(os.path.join(base, os.fspath(path))) for path in paths}
            for file in find_open():
                if os.path.isfile(file) and any(file == path or file.startswith(f"{path}/") for path in touched):
                    raise PermissionError(errno.EACCES, "The file is open", file)
            return function(*paths, **options)

        return call

    for name in ("remove", "unlink", "rename", "replace", "rmdir"):
        setattr(os, name, guard(getattr(os, name)))


def imitate():
    """Import the libraries, and let this process look like one on Windows to everything that is imported later."""
    for name in LIBRARIES.split():
        importlib.import_module(name)
    import psutil

    memory = namedtuple("pmem", "rss vms peak_wset")  # some of the fields that psutil has on Windows
    found = psutil.Process().memory_info()
    psutil.Process.memory_info = lambda self: memory(found.rss, found.vms, found.rss)
    sys.modules["msvcrt"] = make_msvcrt()
    sys.modules.update(dict.fromkeys(MODULES))
    for module, names in ((os, FUNCTIONS), (signal, SIGNALS)):
        for name in names.split():
            if hasattr(module, name):
                delattr(module, name)
    keep_open_files()
    sys.platform = "win32"
    assert not [name for name in sys.modules if name.partition(".")[0] == "lca"]
    from lca.runtime import host

    host.PROCESS_STATUS = Path("missing")


def import_all():
    """Import every module of lca, and return their number."""
    import lca

    names = [module.name for module in pkgutil.walk_packages(lca.__path__, "lca.")]
    for name in names:
        if name != "lca.__main__":
            importlib.import_module(name)
    return len(names)


def main():
    """Run the main commands, and write the number of imported modules."""
    imitate()
    n_modules = import_all()
    from lca.cli.main import main as run_command

    os.chdir(sys.argv[1])
    os.mkdir(FOLDER)
    run = f"{FOLDER}/run.zarr"
    for command in (
        ["train", "digits-fc", "--iterations", "9", "--out", run],
        ["train", "digits-fc", "--iterations", "6", "--out", run, "--overwrite"],
        ["train", "digits-fc", "--iterations", "6", "--out", run, "--resume"],
        ["check", run],
        ["allocate", run, "--audit", "0"],
        ["allocate", run, "--audit", "0", "--overwrite"],
        ["allocate", run, "--audit", "0", "--split", "val"],
        ["info", run],
        ["verify", run, "--repair"],
        ["analyze", "layers", run, "--json", f"{FOLDER}/layers.json"],
        ["plot", "helping", run, "--out", f"{FOLDER}/helping.png"],
        ["plot", "helping", run, "--out", f"{FOLDER}/helping.png"],
        ["plot", "animation", run, "--out", f"{FOLDER}/film.gif"],
        ["plot", "report", run, "--out", f"{FOLDER}/report.html"],
    ):
        with contextlib.redirect_stdout(io.StringIO()) as output:
            status = run_command(command, standalone_mode=False)
        assert not status, (command, status, output.getvalue())
    sys.stdout.write(f"{n_modules}\n")


if __name__ == "__main__":
    main()
