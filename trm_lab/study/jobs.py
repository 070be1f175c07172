"""How a job of SLURM is described to sbatch."""

import sys
from pathlib import Path
from shlex import quote
from typing import Any

from trm_lab.config.execution import Execution, Slurm
from trm_lab.errors import ConfigError
from trm_lab.study.machine import THREADS
from trm_lab.study.submission import sbatch, script
from trm_lab.study.worker import Drive

HINTS = (
    ("partition", "`sinfo -s` lists the partitions"),
    ("account", "`sacctmgr show associations user=$USER` lists the accounts"),
    ("qos", "`sacctmgr show qos` lists them"),
    ("generic resource", "set gpu_flag to gres, gpus, gpus_per_node or none, as the site wants it"),
    ("gres", "set gpu_flag to gres, gpus, gpus_per_node or none, as the site wants it"),
    ("node configuration", "ask for fewer cpus, gpus or memory_gb than a node has"),
    ("memory", "ask for less memory_gb"),
    ("time limit", "lower timeout_min; runs go on from their checkpoint in a further job"),
    ("constraint", "`sinfo -o '%N %f'` lists the features"),
)


def send_driver(setting: Slurm, root: Path, study: str, arguments: tuple[str, ...]) -> str:
    """Submit a small job that drives the study with `trm-lab` arguments; give its id.

    Raises:
        ConfigError: sbatch's own words, with a hint.
    """
    small = setting.model_copy(
        update={"gpus": 0, "cpus": 1, "pack": 1, "nodes": 1, "tasks_per_node": 1}
    )
    # Without a limit of threads: sbatch would hand the driver's variables on to its runs.
    described = parameters(small, Execution(threads=None), f"trm-driver-{study}")
    try:
        return sbatch(root.resolve() / "logs", described, python(small), [Drive(arguments)])
    except ConfigError as error:
        raise ConfigError(hinted(str(error))) from None


def parameters(setting: Slurm, execution: Execution, name: str) -> dict[str, Any]:
    """Give a job's description as submitit takes it."""
    use_srun = _by_srun(setting)
    # Without srun the batch shell would get the signal, and by itself not pass it on; it is
    # replaced by the worker (see `python`), and B: sends the signal there.
    to = "" if use_srun else "B:"
    given: dict[str, Any] = {"signal": f"{to}USR2@{setting.signal_seconds}", "requeue": True}
    chosen: dict[str, Any] = {
        "job_name": name,
        "time": setting.timeout_min,
        "nodes": setting.nodes,
        "ntasks_per_node": setting.tasks_per_node,
        "cpus_per_task": setting.cpus or (execution.threads or 1) * setting.pack,
        "partition": setting.partition,
        "account": setting.account,
        "qos": setting.qos,
        "constraint": setting.constraint,
        "mem": None if setting.memory_gb is None else f"{round(1024 * setting.memory_gb)}M",
        "setup": [*_limits(execution.threads), *setting.setup],
        # submitit's own would be refused by clusters that check it; None leaves it away.
        "wckey": None,
        "array_parallelism": setting.max_jobs,
        "use_srun": use_srun,
    }
    match setting.gpu_flag if setting.gpus else "none":
        case "gpus_per_node":
            chosen["gpus_per_node"] = setting.gpus
        case "gres":
            chosen["gres"] = f"gpu:{setting.gpus}"
        case "gpus":
            given["gpus"] = setting.gpus * setting.nodes
        case "none":
            pass
    options = given | setting.extra
    chosen["additional_parameters"] = {k: v for k, v in options.items() if v is not False}
    optional = {"partition", "account", "qos", "constraint", "mem"}
    return {k: v for k, v in chosen.items() if v is not None or k not in optional}


def python(setting: Slurm) -> str:
    """Give the command that starts the worker; without srun it takes the batch shell's place."""
    return quote(sys.executable) if _by_srun(setting) else f"exec {quote(sys.executable)}"


def text(setting: Slurm, execution: Execution, root: Path, study: str, count: int) -> str:
    """Give what sbatch would be given for an array of `count` jobs."""
    described = parameters(setting, execution, f"trm-{study}-xxxxxxxx")
    return script(root.resolve() / "logs", described, python(setting), count)


def _by_srun(setting: Slurm) -> bool:
    return setting.use_srun or setting.nodes * setting.tasks_per_node > 1


def _limits(threads: int | None) -> list[str]:
    """Limit the thread pools of a job from its very start."""
    return [f"export {name}={threads}" for name in THREADS] if threads else []


def hinted(text: str) -> str:
    """Add to sbatch's words what helps."""
    low = text.lower()
    for word, hint in HINTS:
        if word in low:
            return f"{text}; {hint}"
    return text
