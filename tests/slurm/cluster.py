"""A real SLURM for the time of some tests: several nodes on one machine, nothing outside a folder.

    with cluster(Options(accounting=True)) as slurm:
        os.environ |= slurm.env
        ...
        slurm.lose_node("n1")

Needs the programs of Debian's munge, slurm-wlm and, for accounting, slurmdbd and
mariadb-server-core.  Neither root nor systemd nor cgroups.
"""

import getpass
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.slurm.configuration import CLUSTER, Options, gres_conf, slurm_conf, slurmdbd_conf
from tests.slurm.processes import (
    all_pids,
    environment,
    free_ports,
    kill,
    open_files,
    start_daemon,
    wait_for,
    which,
)

PACKAGES = "munge slurm-wlm slurmdbd mariadb-server-core"
PROGRAMS = ("munged", "munge", "slurmctld", "slurmd", "sbatch", "srun", "setpriv")
DATABASE_PROGRAMS = ("slurmdbd", "sacct", "mariadbd")
SYSTEM_TABLES = Path("/usr/share/mysql/mysql_system_tables.sql")
ROOM = 300 << 20
"""Bytes that a cluster wants in memory: its database takes 96 MB."""


def missing(options: Options) -> str:
    """Say which programs a cluster would need and how to get them; empty if all are there."""
    names = [*PROGRAMS, *(DATABASE_PROGRAMS if options.accounting else ())]
    lacking = [name for name in names if which(name) is None]
    if not lacking:
        return ""
    return f"no {', '.join(lacking)}: apt-get install --no-install-recommends {PACKAGES}"


@contextmanager
def cluster(options: Options) -> Iterator["Cluster"]:
    """Start a cluster and leave nothing of it behind.

    Raises:
        TimeoutError: a daemon did not come up; notes have what the logs complain of.
    """
    slurm = Cluster(options, _scratch())
    try:
        slurm.start()
        yield slurm
    except BaseException as error:
        error.add_note(slurm.complaints())  # the logs go with the folder
        raise
    finally:
        slurm.stop()
        shutil.rmtree(slurm.folder, ignore_errors=True)


def _scratch() -> Path:
    """Make a short folder (a socket's path ends at 107), in memory where there is room: faster."""
    memory = Path("/dev/shm")
    roomy = os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > ROOM
    return Path(tempfile.mkdtemp(prefix="slurm-", dir=memory if roomy else "/tmp"))


class Cluster:
    """A running cluster: what tests ask of it and do to it."""

    def __init__(self, options: Options, folder: Path) -> None:
        self.options, self.folder = options, folder
        self.nodes = options.names
        self.conf = folder / "slurm.conf"
        self.env = {"SLURM_CONF": str(self.conf)}
        """What a client needs in its environment."""
        self.daemons: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        """Start every daemon and wait until all nodes are idle."""
        folder = self.folder
        self._lay_out()
        self._daemon("munged", "--foreground", f"--key-file={folder}/munge/key",
                     f"--socket={folder}/munge.socket", f"--pid-file={folder}/munge/pid",
                     f"--log-file={folder}/munge/log", f"--seed-file={folder}/munge/seed",
                     "--num-threads=4")  # fmt: skip
        ping = ("munge", "-S", f"{folder}/munge.socket", "-n")
        wait_for("munged", lambda: self.run(*ping).returncode == 0, 10)
        if self.options.accounting:
            self._start_accounting()
        self._daemon("slurmctld", "-D", "-f", str(self.conf))
        for node in self.nodes:
            self._start_slurmd(node)
        idle = ("sinfo", "-h", "-p", "low", "-o", "%T")
        wait_for("idle nodes", lambda: self.ask(*idle) == "idle", 40)

    def stop(self) -> None:
        """Kill all of it: the controller first, or it would requeue what dies."""
        controller = self.daemons.get("slurmctld")
        if controller:
            children = self.run("pgrep", "-P", str(controller.pid)).stdout.split()
            kill([controller.pid, *map(int, children)])
        kill(d.pid for name, d in self.daemons.items() if name.startswith("slurmd-"))
        kill(self.step_daemons())
        kill(self.job_processes())
        kill(d.pid for d in self.daemons.values() if d.poll() is None)
        for daemon in self.daemons.values():
            daemon.wait(10)
        self.daemons.clear()

    def complaints(self) -> str:
        """Give what ended and what the daemons' logs say went wrong."""
        lines = [f"{name} ended with {d.returncode}" for name, d in self.daemons.items()
                 if d.poll() is not None]  # fmt: skip
        words = ("error", "fatal", "killing", "not responding")
        for log in sorted((self.folder / "log").glob("*.out")):
            for line in log.read_text(errors="replace").splitlines()[-200:]:
                # PMIx is not there and not needed.
                if any(word in line.lower() for word in words) and "pmi" not in line.lower():
                    lines.append(f"{log.name}: {line}")
        return "\n".join(lines[-60:])

    def run(self, *command: str, timeout: float = 20) -> subprocess.CompletedProcess[str]:
        """Run a client; with a limit, because clients wait long for a controller that is gone."""
        try:
            return subprocess.run(
                command, capture_output=True, text=True, timeout=timeout,
                env=os.environ | self.env,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return subprocess.CompletedProcess(command, 124, "", f"no answer in {timeout} s")

    def ask(self, *command: str) -> str:
        """Give what a client prints."""
        return self.run(*command).stdout.strip()

    def submit(self, *options: str, wrap: str) -> str:
        """Submit a shell line and give its job's id."""
        done = self.run("sbatch", "--parsable", "-o", "/dev/null", *options, "--wrap", wrap)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def jobs(self) -> dict[str, tuple[str, str, str]]:
        """Give state, reason and node of every job and array task that waits or runs, by id."""
        lines = self.ask("squeue", "-h", "-r", "-o", "%i|%T|%r|%N").splitlines()
        return {job: (state, reason, node) for job, state, reason, node in
                (line.split("|") for line in lines)}  # fmt: skip

    def job(self, job: str) -> tuple[str, str, str]:
        """Give a job's state, reason and node; three empty texts once it is over."""
        return self.jobs().get(job, ("", "", ""))

    def state(self, job: str) -> str:
        """Give a job's state as the controller remembers it, also when it is over."""
        return self.ask("squeue", "-h", "-r", "-t", "all", "-j", job, "-o", "%T")

    def history(self, job: str) -> list[str]:
        """Give the state of every run of a job, requeued ones too, from accounting."""
        return self.ask("sacct", "-n", "-X", "-D", "-P", "-j", job, "-o", "State").splitlines()

    def submitted(self) -> list[str]:
        """Name every job and array task that the controller remembers."""
        return self.ask("squeue", "-h", "-r", "-t", "all", "-o", "%i").splitlines()

    def no_requeue_wait(self, job: str) -> None:
        """Let a requeued job start in two seconds instead of six.

        Not at once: started within the same second on the same node it dies with "Job credential
        revoked".
        """
        self.run("scontrol", "update", f"jobid={job}", "starttime=now+2")

    def cancel_all(self) -> None:
        """Leave no job and every node up: what comes between two tests."""
        jobs = sorted({job.split("_")[0] for job in self.jobs()})
        for options in (("--signal=KILL", "--full"), ()):
            if jobs:
                self.run("scancel", *options, *jobs)
        for node in self.nodes:
            if self.daemons[f"slurmd-{node}"].poll() is not None:
                self.start_node(node)
        wait_for("no jobs", lambda: not self.jobs(), 30)
        kill(self.job_processes())  # of runs that nobody but we knew of

    def start_node(self, node: str) -> None:
        """Bring a node back."""
        self._start_slurmd(node)
        wait_for(f"{node} up", lambda: self._usable(node), 30)

    def lose_node(self, node: str, noticed: bool = True) -> None:
        """Lose a machine: its slurmd, step daemons and job processes die at once.

        noticed: the controller is told and requeues within a second; it would find out by itself
        after 25 to 30 s.
        """
        self._end_slurmd(node)
        while found := [*self.step_daemons(node), *self.job_processes(node)]:
            kill(found)  # what forked meanwhile too
        if noticed:
            self._declare_down(node)

    def part_node(self, node: str, noticed: bool = True) -> None:
        """Lose the network to a machine: its slurmd dies, and jobs run on unseen."""
        self._end_slurmd(node)
        if noticed:
            self._declare_down(node)

    def step_daemons(self, node: str = "") -> list[int]:
        """Find slurmstepd processes, which outlive their slurmd, by their node's open log.

        Their environment cannot be read: they write their title over it.
        """
        log = f"{self.folder}/log/slurmd-{node}" + ("." if node else "")
        pids = map(int, self.run("pgrep", "-x", "slurmstepd").stdout.split())
        return [pid for pid in pids if any(path.startswith(log) for path in open_files(pid))]

    def job_processes(self, node: str = "", job: str = "") -> list[int]:
        """Find all processes of jobs, also those that left their session."""
        found = []
        for pid in all_pids():
            env = environment(pid)
            wanted = {"SLURM_CONF": str(self.conf), "SLURM_CLUSTER_NAME": CLUSTER}
            wanted |= {"SLURMD_NODENAME": node} if node else {}
            wanted |= {"SLURM_JOB_ID": job} if job else {}
            if wanted.items() <= env.items():
                found.append(pid)
        return found

    def processes(self) -> list[int]:
        """Find everything that belongs to the cluster."""
        daemons = [d.pid for d in self.daemons.values() if d.poll() is None]
        return sorted({*daemons, *self.step_daemons(), *self.job_processes()})

    def _usable(self, node: str) -> bool:
        state = self.ask("sinfo", "-h", "-n", node, "-p", "low", "-o", "%T")
        if state.startswith("down"):
            self.run("scontrol", "update", f"nodename={node}", "state=resume")
        return state in ("idle", "mixed", "allocated", "completing")

    def _declare_down(self, node: str) -> None:
        self.run("scontrol", "update", f"nodename={node}", "state=down", "reason=lost")

    def _start_slurmd(self, node: str) -> None:
        self._daemon("slurmd", "-D", "-N", node, "-f", str(self.conf), name=f"slurmd-{node}")

    def _end_slurmd(self, node: str) -> None:
        daemon = self.daemons[f"slurmd-{node}"]
        kill([daemon.pid])
        daemon.wait(10)

    def _daemon(
        self, program: str, *arguments: str, name: str = "", env: dict[str, str] | None = None
    ) -> None:
        name = name or program
        self.daemons[name] = start_daemon(
            program, *arguments, log=self.folder / "log" / f"{name}.out", cwd=self.folder,
            env=os.environ | self.env | (env or {}),
        )  # fmt: skip

    def _lay_out(self) -> None:
        folder = self.folder
        assert len(str(folder)) <= 80, f"{folder}: too long for a socket"
        for name in ("log", "state", "dev", "munge", *(f"spool/{node}" for node in self.nodes)):
            (folder / name).mkdir(parents=True)
        folder.chmod(0o755)  # munged wants its socket within everyone's reach
        (folder / "munge").chmod(0o700)
        key = folder / "munge" / "key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        for i in range(self.options.gpus):
            (folder / "dev" / f"nvidia{i}").symlink_to("/dev/null")
        (folder / "gres.conf").write_text(gres_conf(self.options, folder))
        self.port = free_ports(2 + len(self.nodes))
        self.conf.write_text(slurm_conf(self.options, folder, self.port))

    def _start_accounting(self) -> None:
        folder = self.folder
        (folder / "db" / "mysql").mkdir(parents=True)
        (folder / "tmp").mkdir()  # its own: a starting server clears its tmpdir of others' tables
        options = ("--no-defaults", f"--user={getpass.getuser()}", f"--datadir={folder}/db",
                   f"--tmpdir={folder}/tmp", "--skip-grant-tables", "--skip-log-bin",
                   "--innodb-buffer-pool-size=16M", "--innodb-log-file-size=4M",
                   "--innodb-flush-method=nosync", "--innodb-flush-log-at-trx-commit=0",
                   "--aria-pagecache-buffer-size=1M", "--key-buffer-size=1M")  # fmt: skip
        tables = b"use mysql;\nset @auth_root_socket=NULL;\n" + SYSTEM_TABLES.read_bytes()
        with open(folder / "log" / "bootstrap.out", "wb") as out:
            server = which("mariadbd")
            assert server
            subprocess.run([server, *options, "--bootstrap"], input=tables, stdout=out, stderr=out,
                           check=True, timeout=60)  # fmt: skip
        socket = folder / "mysql.sock"
        self._daemon("mariadbd", *options, "--skip-networking", f"--socket={socket}",
                     f"--pid-file={folder}/mysql.pid")  # fmt: skip
        wait_for("mariadbd", socket.exists, 30)
        conf = folder / "slurmdbd.conf"
        conf.touch(0o600)
        conf.write_text(slurmdbd_conf(folder, self.port + 1))
        self._daemon("slurmdbd", "-D", env={"MYSQL_UNIX_PORT": str(socket)})
        listed = ("sacctmgr", "-n", "list", "cluster")
        wait_for("slurmdbd", lambda: self.run(*listed).returncode == 0, 30)
