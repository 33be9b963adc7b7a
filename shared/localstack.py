"""The half of localstack.ts that needs locks: installs LocalStack once, starts and stops one server a port.

It is Python because Node has no file locks. The kernel's own (flock) end with the process that holds them,
however it ends, so nothing here can go stale. The lock of a port is taken before the installation and handed
on to the server, which takes this process's place and so its pid.

    localstack.py start FOLDER PORT VENV REQUIREMENTS   becomes the server; 0 if there is one, 98 if the port is taken
    localstack.py stop|pid FOLDER                       ends the server; prints its pid, or nothing if there is none
"""

import contextlib
import errno
import fcntl
import glob
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

PORT_TAKEN = 98
LOG_LIMIT = 5_000_000
# What no setting changes: files of its packages, what stands there, and what shall.
CORRECTIONS = (
    # All servers and users of a machine would share one folder, and lose large objects with a bucket of another's.
    (
        "localstack/services/s3/provider.py",
        '"/tmp/localstack-s3-storage"',
        '__import__("tempfile").gettempdir() + "/s3"',
    ),
    # It closes a connection that was idle for 5 s even if a request has just come: that is carried out, not answered,
    # and sent again by the SDK, so that there are two instances.
    ("hypercorn/config.py", "keep_alive_timeout = 5 * SECONDS", "keep_alive_timeout = 86_400 * SECONDS"),
)


def lock(path, wait=True):
    """The open file, locked until it is closed, or None if another process has the lock."""
    file = open(path, "a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return None
    return file


def check_port(port):
    # LocalStack says 'Ready.' and stays, without a port, when another process listens there.
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError as error:
        print(error, flush=True)
        sys.exit(PORT_TAKEN if error.errno == errno.EADDRINUSE else 1)


def install(venv, requirements):
    with lock(f"{venv}.lock") as held:
        # A link to a Python that is gone doesn't exist either.
        if os.path.exists(f"{venv}/bin/python"):
            return
        fresh = f"{venv}.new"
        for left in filter(os.path.exists, (venv, fresh)):
            shutil.rmtree(left)
        # What pip unpacks goes with the folder, where it is killed.
        tmp = f"{fresh}/tmp"
        os.makedirs(tmp)
        pip = ["pip", "install", "--quiet", "--no-input", "--no-user", "--require-hashes", "--no-deps"]
        for command in (
            [sys.executable, "-I", "-m", "venv", fresh],
            [f"{fresh}/bin/python", "-I", "-m", *pip, "-r", requirements],
        ):
            # They share the lock: if this process is killed, the next waits until pip is out of the folder.
            if subprocess.run(command, pass_fds=[held.fileno()], env=os.environ | {"TMPDIR": tmp}).returncode:
                sys.exit(1)
        shutil.rmtree(tmp)
        os.rename(fresh, venv)


def correct(venv):
    for name, wrong, right in CORRECTIONS:
        for path in glob.glob(f"{venv}/lib/python*/site-packages/{name}"):
            with open(path, encoding="utf-8") as file:
                text = file.read()
            if wrong in text:
                with open(f"{path}.{os.getpid()}", "w", encoding="utf-8") as file:
                    file.write(text.replace(wrong, right))
                os.replace(file.name, path)


def start(server, folder, port, venv, requirements):
    log = f"{folder}/localstack.log"
    if os.path.exists(log) and os.path.getsize(log) > LOG_LIMIT:
        os.replace(log, f"{log}.1")
    output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.dup2(output, 1)
    os.dup2(output, 2)
    print(time.strftime("%Y-%m-%d %H:%M:%S"), "starting on port", port, flush=True)
    check_port(int(port))
    install(venv, requirements)
    correct(venv)
    check_port(int(port))

    tmp = f"{folder}/tmp"
    shutil.rmtree(tmp, ignore_errors=True)
    os.mkdir(tmp)
    # PYTHONPATH and the like could disturb it, and it has no business with anyone's real keys.
    env = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "PYTHON"))}
    env |= {
        "GATEWAY_LISTEN": f"127.0.0.1:{port}",
        # The default, twisted, listens on all interfaces whatever GATEWAY_LISTEN says.
        "GATEWAY_SERVER": "hypercorn",
        "DISABLE_EVENTS": "1",
        "SKIP_SSL_CERT_DOWNLOAD": "1",
        "DNS_ADDRESS": "0",
        "TMPDIR": tmp,
        # Without these it writes to /var/lib in a container, into the virtual environment elsewhere.
        "OVERRIDE_IN_DOCKER": "0",
        "FILESYSTEM_ROOT": f"{tmp}/root",
        "CONFIG_DIR": folder,
        "XDG_CACHE_HOME": folder,
        # /_localstack/info shows this as part of the version, and runs Docker to describe the machine.
        "LOCALSTACK_BUILD_GIT_HASH": f"cookbook-{os.getpid()}",
        "DOCKER_CMD": "true",
    }
    os.chdir(folder)
    os.set_inheritable(server.fileno(), True)
    python = f"{venv}/bin/python"
    os.execve(python, [python, "-Iu", "-m", "localstack.runtime.main"], env)


def stop(folder, pid):
    # A hung server ignores the first. The whole group, for the sake of pip while it installs.
    for signum in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signum)
        for _ in range(50):
            if lock(f"{folder}/server.lock", wait=False):
                return
            time.sleep(0.1)


command, folder, *rest = sys.argv[1:]
# Taking the lock and writing the pid are one step to others: nobody reads, and kills, an earlier holder's pid.
with lock(f"{folder}/claim.lock"):
    server = lock(f"{folder}/server.lock", wait=False)
    if not server:
        pid = int(open(f"{folder}/server.lock").read())
    elif command == "start":
        server.truncate(0)
        print(os.getpid(), file=server, flush=True)
    else:
        server.close()
if command == "start" and server:
    start(server, folder, *rest)
elif command != "start" and not server:
    if command == "stop":
        stop(folder, pid)
    print(pid)
