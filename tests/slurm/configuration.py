"""The configuration files of a throwaway cluster, for SLURM 22.05 and later."""

import getpass
import socket
from dataclasses import dataclass
from pathlib import Path

CLUSTER = "throwaway"


@dataclass(frozen=True)
class Options:
    """What a cluster is like."""

    accounting: bool = False
    """Whether slurmdbd and its database run; without them `sacct` only says that it is disabled."""
    nodes: int = 3
    cpus: int = 2
    """Per node; may be more than this machine has."""
    memory_mb: int = 4000
    """Per node; claimed, not enforced."""
    gpus: int = 2
    """Per node.  Names only: jobs get CUDA_VISIBLE_DEVICES, there is no CUDA."""
    max_array: int = 6
    """MaxArraySize: one more than the highest index that an array may have."""
    grace_seconds: int = 5
    """From a preempted job's signal to its end."""
    kill_seconds: int = 3
    """KillWait: from SIGTERM to SIGKILL."""
    min_job_age: int = 600
    """Seconds for which the controller remembers jobs that have ended."""

    def __post_init__(self) -> None:
        assert 1 <= self.gpus <= 10, "one digit each"

    @property
    def names(self) -> list[str]:
        """The nodes."""
        return [f"n{i}" for i in range(1, self.nodes + 1)]


def slurm_conf(options: Options, folder: Path, port: int) -> str:
    """Write slurm.conf: controller on `port`, accounting on the next, then one port per node."""
    host, user = socket.gethostname().split(".")[0], getpass.getuser()
    last = port + 1 + options.nodes
    return f"""\
ClusterName={CLUSTER}
# The address in brackets saves resolving the name.
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
{_authentication(folder)}
CredType=cred/munge
{"CommunicationParameters=NoInAddrAny,NoCtldInAddrAny" if _is_loopback() else ""}
SlurmctldPort={port}
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd-%n.log
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
MailProg=/bin/true
MpiDefault=none
# No cgroups: neither root nor a mounted hierarchy is needed.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
# Without a default every job takes its node's whole memory.
DefMemPerCPU=100
SchedulerType=sched/backfill
# From sbatch to start 0.4 s instead of 2.
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0,sched_min_interval=0
MaxArraySize={options.max_array}
# Without the parameter a preempted job gets SIGTERM alone, which submitit ignores.
SlurmctldParameters=preempt_send_user_signal
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
KillWait={options.kill_seconds}
MinJobAge={options.min_job_age}
SlurmdTimeout=10
InactiveLimit=0
# With 2 a late answer of a lost node brings it back, and jobs are sent to a dead slurmd.
ReturnToService=0
# Nodes may claim more than this machine has.
SlurmdParameters=config_overrides
GresTypes=gpu
{_accounting(options, folder, port + 1)}
NodeName=n[1-{options.nodes}] NodeHostname={host} NodeAddr=127.0.0.1 Port=[{port + 2}-{last}] \
CPUs={options.cpus} RealMemory={options.memory_mb} Gres=gpu:{options.gpus} State=UNKNOWN
PartitionName=low Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=1 \
PreemptMode=REQUEUE GraceTime={options.grace_seconds}
PartitionName=high Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF
PartitionName=closed Nodes=ALL MaxTime=INFINITE State=DOWN
"""


def gres_conf(options: Options, folder: Path) -> str:
    """Write gres.conf: a GPU is any character device, and its digit the job's visible device.

    A count without files leaves the nodes invalid.
    """
    return f"AutoDetect=off\nName=gpu File={folder}/dev/nvidia[0-{options.gpus - 1}]\n"


def slurmdbd_conf(folder: Path, port: int) -> str:
    """Write slurmdbd.conf; MYSQL_UNIX_PORT names the database's socket."""
    return f"""\
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort={port}
SlurmUser={getpass.getuser()}
{_authentication(folder)}
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=root
StorageLoc=slurm_acct_db
PidFile={folder}/slurmdbd.pid
LogFile={folder}/log/slurmdbd.log
"""


def _authentication(folder: Path) -> str:
    # cred_expire is also how long a requeued job waits: 120 s unless set, 5 s at least.
    return f"AuthType=auth/munge\nAuthInfo=socket={folder}/munge.socket,cred_expire=5"


def _accounting(options: Options, folder: Path, port: int) -> str:
    if not options.accounting:
        return (
            "JobAcctGatherType=jobacct_gather/none\nAccountingStorageType=accounting_storage/none"
        )
    return f"""\
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=1
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={port}
# This connection does not take AuthInfo's socket.
AccountingStoragePass={folder}/munge.socket
AccountingStorageTRES=gres/gpu"""


def _is_loopback() -> bool:
    """Say whether daemons may bind to their own name only: where it means this machine."""
    try:
        return socket.gethostbyname(socket.gethostname()).startswith("127.")
    except OSError:
        return False
