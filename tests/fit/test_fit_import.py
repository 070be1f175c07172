import subprocess
import sys

import pytest


@pytest.mark.slow
def test_fitting_loads_neither_torch_nor_optuna_nor_statsmodels():
    heavy = "torch", "optuna", "statsmodels", "matplotlib", "typer"
    script = (
        f"import sys, trm_lab.fit, trm_lab.laws; print([m for m in {heavy} if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
