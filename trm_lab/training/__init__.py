"""Training: one recipe to one run folder."""

from trm_lab.config.execution import Execution
from trm_lab.training.loop import train

__all__ = ["Execution", "train"]
