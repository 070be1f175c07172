"""Time and objective of our fit against the published recipe, on the same public data.

    python bench/fit.py [--shared FOLDER] [--starts 150 | --all] [--quick]

One thread, CPU time.  The published recipe (arXiv 2203.15556; its rerun arXiv 2404.10102) descends
by L-BFGS-B from 4,500 starts.  Its time is an estimate unless `--all` is given: by default 150
seeded starts are run, and their time is multiplied by 30.  The PyPI package `chinchilla`
(`pip install -e '.[bench]'`) is run where it is installed, from a grid of 48 starts of its own.
"""

import argparse
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy is loaded

import numpy as np
import pandas as pd
import scipy
from scipy.optimize import minimize
from scipy.special import logsumexp

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "fit"))

from published import chinchilla, gemstones, learning_curves, rmsle  # noqa: E402

from trm_lab.fit import fit, forecast  # noqa: E402
from trm_lab.laws import BNSL, M4, SumPower  # noqa: E402

DELTA = 1e-3
LAW = SumPower("N", "D")
GRID = list(itertools.product(
    np.arange(0, 2.5, 0.5), np.arange(0, 2.5, 0.5), np.arange(-1, 1.5, 0.5),
    np.arange(0, 30, 5), np.arange(0, 30, 5),
))  # fmt: skip
"""alpha, beta, ln E, ln A, ln B of the published starts."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared")
    parser.add_argument("--starts", type=int, default=150, help="of the recipe; its time is scaled")
    parser.add_argument("--all", action="store_true", help="all 4,500 starts of the recipe")
    parser.add_argument("--quick", action="store_true", help="Chinchilla and the import only")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    folder = args.shared / "data" / "scaling"
    print(f"numpy {np.__version__}, scipy {scipy.__version__}, "
          f"{platform.processor() or platform.machine()}, one thread")  # fmt: skip
    rows = chinchilla(folder)
    ours(rows)
    recipe(rows, len(GRID) if args.all else args.starts)
    package(rows)
    if not args.quick:
        stones(folder)
        curves(folder)
    imports()


def ours(rows: pd.DataFrame) -> None:
    times = []
    for _ in range(5):
        began = time.process_time()
        found = fit(rows, "L", LAW, cluster="row", interval="none")
        times.append(time.process_time() - began)
    print(f"240 Chinchilla runs, Huber {DELTA:g} of ln L")
    print(f"  trm_lab: {statistics.median(times):.2f} s (median of 5; {min(times):.2f} to "
          f"{max(times):.2f}), objective {found.attrs['objective_value']:.10e}, "
          f"{found.attrs['agreement']:.0%} of {found.attrs['starts']} starts agree")  # fmt: skip
    began = time.process_time()
    fit(rows, "L", LAW, cluster="row", draws=1000)
    print(f"  trm_lab with 1,000 bootstrap resamples: {time.process_time() - began:.1f} s")


def recipe(rows: pd.DataFrame, count: int) -> None:
    """Run the published recipe: sum of Huber's loss of a log-sum-exp, analytic gradient."""
    n, d, target = (np.log(rows[name].to_numpy()) for name in ("N", "D", "L"))

    def objective(at: np.ndarray) -> tuple[float, np.ndarray]:
        alpha, beta, e, a, b = at
        terms = np.stack([a - alpha * n, b - beta * d, np.full_like(n, e)])
        fitted = logsumexp(terms, axis=0)
        r = fitted - target
        size = np.abs(r)
        loss = np.where(size <= DELTA, 0.5 * r**2, DELTA * (size - 0.5 * DELTA)).sum()
        share = np.exp(terms - fitted) * np.clip(r, -DELTA, DELTA)
        by_a, by_b, by_e = share
        return float(loss), np.array(
            [-(by_a * n).sum(), -(by_b * d).sum(), by_e.sum(), by_a.sum(), by_b.sum()]
        )

    chosen = np.random.default_rng(0).permutation(len(GRID))[:count]
    began, values, claimed = time.process_time(), [], 0
    for at in chosen:
        found = minimize(objective, np.array(GRID[at]), jac=True, method="L-BFGS-B")
        values.append(found.fun)
        claimed += found.success
    seconds = time.process_time() - began
    best = min(values)
    hits = np.mean(np.array(values) <= 1.0182740178e-3 * (1 + 1e-6))
    scaled = (
        "" if count == len(GRID) else f" (estimate: {count} seeded starts took {seconds:.1f} s)"
    )
    print(f"  published recipe, {len(GRID)} starts: {seconds * len(GRID) / count:.1f} s{scaled}, "
          f"best objective {best:.10e}, {hits:.1%} of starts within 1e-6 of the optimum, "
          f"{claimed / count:.0%} report success")  # fmt: skip


def package(rows: pd.DataFrame) -> None:
    """Run the package `chinchilla` from 48 starts of its own, in its own process."""
    script = """
import json, sys, tempfile, time, pathlib, numpy as np, pandas as pd
from chinchilla import Chinchilla
from chinchilla._metrics import log_huber
rows = pd.read_json(sys.stdin)
folder = pathlib.Path(tempfile.mkdtemp())
table = pd.DataFrame({"C": rows.C, "N": rows.N, "D": rows.D, "loss": rows.L})
table.to_csv(folder / "df.csv", index=False)
grid = {"e": np.log([1, 1.5, 2]).tolist(), "a": [5.0, 10.0], "b": [5.0, 10.0],
        "alpha": [0.25, 0.5], "beta": [0.25, 0.5]}
made = Chinchilla(str(folder), param_grid=grid, log_level=40,
    loss_fn=lambda y, f: log_huber(y, f, 1e-3))
began = time.process_time()
made.fit(parallel=False)
params = {k: float(getattr(made, k)) for k in ("E", "A", "B", "alpha", "beta")}
print(json.dumps({"cpu": time.process_time() - began, "starts": 48, "params": params}))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], input=rows.to_json(), capture_output=True, text=True,
        timeout=1800,
    )  # fmt: skip
    if done.returncode:
        print(f"  package chinchilla: not run ({done.stderr.strip().splitlines()[-1]})")
        return
    said = json.loads(done.stdout.strip().splitlines()[-1])
    p = said["params"]
    fitted = p["E"] + p["A"] * rows.N ** -p["alpha"] + p["B"] * rows.D ** -p["beta"]
    r = np.abs(np.log(fitted) - np.log(rows.L))
    value = float(np.where(r <= DELTA, 0.5 * r**2, DELTA * (r - 0.5 * DELTA)).sum())
    print(f"  package chinchilla, {said['starts']} starts, the same objective by log_huber: "
          f"{said['cpu']:.1f} s, objective {value:.10e}")  # fmt: skip


def stones(folder: Path) -> None:
    print("Gemstones: our objective / the published one, CPU s")
    for name, rows, axes, delta, published in gemstones(folder):
        began = time.process_time()
        found = fit(
            rows, "final_loss", SumPower(*axes), cluster="row", delta=delta, interval="none"
        )
        ratio = found.attrs["objective_value"] / published
        print(f"  {name}: {ratio:.7f}, {time.process_time() - began:.1f} s, "
              f"{found.attrs['status']}")  # fmt: skip


ASKED = {"stack": None, "m4": {"m4": M4("x")}, "bnsl": {"bnsl": BNSL("x")}}


def curve(one: tuple[str, pd.DataFrame, pd.DataFrame, str]) -> tuple[str, float, float]:
    """Forecast one curve: give the domain, the held-out error and the CPU time."""
    domain, train, rest, name = one
    began = time.process_time()
    made = forecast(train, "Loss", rest, ASKED[name], along="x").prediction.values
    return domain, rmsle(made, rest.Loss.to_numpy()), time.process_time() - began


def curves(folder: Path) -> None:
    given = list(learning_curves(folder))
    found: dict[str, list[tuple[str, float, float]]] = {}
    wall = {}
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        for name in ASKED:
            began = time.perf_counter()
            found[name] = list(pool.map(curve, [(*one, name) for one in given]))
            wall[name] = time.perf_counter() - began
    print("20 learning curves, mean held-out RMSLE")
    for domain in ("NMT", "LM", "BB"):
        means = {
            name: np.mean([error for d, error, _ in rows if d == domain])
            for name, rows in found.items()
        }
        said = ", ".join(f"{name} {value:.5f}" for name, value in means.items())
        print(f"  {domain} ({sum(d == domain for d, *_ in given)} curves): {said}")
    cpu = sum(seconds for *_, seconds in found["stack"])
    print(f"  the stacks took {cpu:.0f} CPU s, {wall['stack']:.0f} s wall in two processes")


def imports() -> None:
    script = (
        "import time; t = time.perf_counter(); import trm_lab.fit; print(time.perf_counter() - t)"
    )
    times = [
        float(subprocess.run([sys.executable, "-c", script], capture_output=True, text=True,
                             check=True).stdout)
        for _ in range(6)
    ][1:]  # fmt: skip
    print(f"import trm_lab.fit: {statistics.median(times):.2f} s wall (median of 5 warm)")


if __name__ == "__main__":
    main()
