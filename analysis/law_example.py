"""The worked example of docs/laws.md: its figure and its numbers."""

from pathlib import Path

import pandas as pd
import typer

from trm_lab.fit import backtest, fit, predict
from trm_lab.plots import captions, law, style

DOCS = Path(__file__).parents[1] / "docs"
LAWS = ["TestTime(r_eval, train=r_train)", "PowerFloor(r_eval)"]
PLAIN = {"cluster": "model", "interval": "none", "objective": "least_squares"}


@style.styled
def main(out: Path = DOCS / "figures") -> None:
    left, right = style.figure(style.WIDE, 2.4).subplots(1, 2)
    looped = pd.read_csv(DOCS / "data" / "looped_nanochat_bpb.csv")
    for model, rows in looped.groupby("model"):
        scores = backtest(rows, "val_bpb", LAWS, along="r_eval", horizons=(1.5, 2))["score"]
        for one, missed in zip(LAWS, scores.values, strict=True):
            rmse = fit(rows, "val_bpb", one, **PLAIN).attrs["rmse"]
            print(f"{model} {one}: rmse {rmse:.1e}, held out {missed:.1e}")
    arms = fit(looped, "val_bpb", LAWS[0], by="model", **PLAIN)
    law.draw(arms, left, x="r_eval").set_title(captions.headed("a", arms))
    runs = pd.read_csv(DOCS / "data" / "olmo_hellaswag_bpb.csv")
    made = fit(runs[runs["mode"] == "train"], "bpb", "SumPower(N, D)", cluster="model")
    law.draw(made, right, x="D").set_title(captions.headed("b", made))
    print(f"{made.attrs['status']}: {made.attrs['note'].partition(';')[0]}")
    for one, value, (low, high) in zip(made.param.values, made.coefficients, made.ci, strict=True):
        print(f"{one} = {float(value):.3g} [{abs(round(float(low), 3)):.3g}, {float(high):.3g}]")
    runs["ahead"] = predict(made, runs)["prediction"].values
    for run in runs[runs["mode"] == "eval"].itertuples():
        print(f"{run.model}: predicted {run.ahead:.4f}, measured {run.bpb:.4f}")
    print(*style.save(left.figure, out / "law_example", ("svg",)))


if __name__ == "__main__":
    typer.run(main)
