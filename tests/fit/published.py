"""Public data as tables: every function takes the folder `data/scaling`."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd


def chinchilla(folder: Path, worst: int = 5) -> pd.DataFrame:
    """Give N, C, D and L of 245 runs less those with the `worst` highest losses."""
    raw = pd.read_csv(folder / "epoch_chinchilla" / "svg_extracted_data.csv")
    frame = pd.DataFrame(
        {"N": raw["Model Size"], "C": raw["Training FLOP"], "L": raw["loss"]}, dtype=float
    )
    frame["D"] = frame.C / 6 / frame.N
    return frame[np.sort(frame.L)[-worst] > frame.L] if worst else frame


def gemstones(folder: Path) -> Iterator[tuple[str, pd.DataFrame, list[str], float, float]]:
    """Give the published fits of the files in hand: name, rows, axes, delta, objective."""
    fits = json.loads((folder / "gemstones" / "published_approach3_fits.json").read_text())
    for key, fit in fits.items():
        for file in ("cool_end", "hot", "slim_chinchilla", "hot_sampled_like_chinchilla"):
            if key.endswith(f"_0_{file}.json"):
                axes = ["N", "D"]
                if "width_depth" in key:
                    axes = ["width", "depth", "D"]
                if "width_depth_parameters" in key:
                    axes = ["width", "depth", "N", "D"]
                rows = pd.read_json(
                    folder / "gemstones" / f"wandb_df_for_fitting_{file}.jsonl", lines=True
                ).rename(columns={"params_active_precise": "N", "tokens": "D"})
                delta = 1e-3 if "delta-3" in key else 1e-4
                yield f"{file} {'-'.join(axes)} {delta:g}", rows, axes, delta, float(fit["loss"])


def learning_curves(folder: Path) -> Iterator[tuple[str, pd.DataFrame, pd.DataFrame]]:
    """Give 20 curves as (domain, rows to fit, rows to predict); x is examples seen."""
    raw = pd.read_csv(folder / "google_learning_curves" / "benchmark.lang.csv").drop_duplicates()
    raw = raw.rename(columns={"Seen Examples": "x"})
    for (domain, _, _), rows in raw.groupby(["Domain", "Task", "Model"], sort=False):
        rows = rows.sort_values("x")
        yield str(domain), rows[rows.Training == 1], rows[rows.Training == 0]


def looped_design(folder: Path) -> tuple[pd.DataFrame, np.ndarray]:
    """Give the 116 runs of arXiv 2604.21106 and a planted E, A, B, alpha, beta, phi."""
    laws = json.loads((folder / "looped_lm" / "published_laws.json").read_text())
    paper = laws["iso_depth_2604.21106v3"]
    design, truth = paper["design"], paper["planted_truth_used_here"]
    rows = []
    for size, tokens in design["tokens_billion_r1"].items():
        for budget, token in zip(design["budgets_flops"], tokens, strict=True):
            for r in design["recurrences"] if token is not None else []:
                block, inject = 12 * (64 * int(size)) ** 2, 2 * (64 * int(size)) ** 2
                rows.append({
                    "budget": budget, "r": float(r), "N_once": 4.0 * block,
                    "N_rec": 16 / r * block + (inject if r > 1 else 0),
                    "D": token * 1e9 / (1 + r / 120 if r > 1 else 1),
                })  # fmt: skip
    names = ("E", "A", "B", "alpha", "beta", "phi")
    return pd.DataFrame(rows), np.array([truth[name] for name in names])


def rmsle(predicted: np.ndarray, given: np.ndarray) -> float:
    """Give the root mean square error of logarithms."""
    return float(np.sqrt(np.mean((np.log(predicted) - np.log(given)) ** 2)))
