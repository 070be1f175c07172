"""`trm-lab verify`."""

from pathlib import Path

from trm_lab.cli import output
from trm_lab.errors import ConfigError


def verify(files: list[Path], json: bool) -> int:
    """Verify each file; 1 if anything does not hold.

    Raises:
        ConfigError: no file is given, or one cannot be replayed.
    """
    if not files:
        raise ConfigError(
            "verify: no file given; docs/verify.md says what such files hold and how to record them"
        )
    import torch

    from trm_lab.verify import verify as verify_file

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as the values were recorded
    try:
        results = [verify_file(path) for path in files]
    finally:
        torch.set_num_threads(threads)
    if json:
        output.as_json(
            [
                {
                    "file": str(r.path),
                    "holds": r.holds,
                    "checks": [vars(c) | {"holds": c.holds} for c in r.checks],
                    "absent": list(r.absent),
                    "unchecked": list(r.unchecked),
                }
                for r in results
            ]
        )
        return int(not all(r.holds for r in results))
    for result in results:
        failed = [check for check in result.checks if not check.holds]
        worst = max(result.checks, key=lambda c: c.difference / (c.tolerance or 1), default=None)
        verdict = "holds" if result.holds else "DOES NOT HOLD"
        output.say(f"{result.path}: {verdict}: {len(result.checks)} arrays compared, "
                   f"{len(failed)} beyond tolerance")  # fmt: skip
        groups: dict[str, list[float]] = {}
        for check in result.checks:
            groups.setdefault(_group(check.key), []).append(check.difference)
        for name, differences in groups.items():
            output.say(f"  {name}: {len(differences)} compared, largest {max(differences):.1e}")
        for check in failed:
            output.say(f"  FAILED {check.key}: {check.difference:.2e} > {check.tolerance:.0e}")
        if worst is not None and not failed:
            output.say(f"  closest to its tolerance: {worst.key}: {worst.difference:.1e} of "
                       f"{worst.tolerance:.0e}")  # fmt: skip
        for title, keys in (("not in the file, not checked", result.absent),
                            ("in the file, but not known", result.unchecked)):  # fmt: skip
            if keys:
                output.say(f"  {title}: {len(keys)}: {_summary(keys)}")
    return int(not all(r.holds for r in results))


def _group(key: str) -> str:
    parts = key.split("/")
    if parts[0] == "train":
        return "/".join(parts[:2] + (parts[2:3] if len(parts) > 3 else ["values"]))
    return "/".join(parts[:2]) if len(parts) > 2 else parts[0]


def _summary(keys: tuple[str, ...]) -> str:
    groups: dict[str, int] = {}
    for key in keys:
        groups[_group(key)] = groups.get(_group(key), 0) + 1
    return ", ".join(f"{name} ({count})" for name, count in groups.items())
