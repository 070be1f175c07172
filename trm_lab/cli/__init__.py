"""The command line.  Each verb imports what it needs when it runs."""

import os
import sys


def main() -> None:
    """Run `trm-lab`: exit code 0 done, 1 a run failed or a check did not hold, 2 usage or
    configuration, 130 interrupted.  A full disk and a silent SLURM are 1: nothing that was given is
    wrong, and the same command goes on.
    """
    try:
        _main()
    except KeyboardInterrupt:  # while importing: later ones are answered where they come
        sys.exit(130)


def _main() -> None:
    from trm_lab.atomic import is_full
    from trm_lab.errors import ConfigError, RankLostError, RunBusyError
    from trm_lab.study.slurm import SilentError

    try:
        from trm_lab.cli.app import app

        app()
    except (ConfigError, RunBusyError) as error:
        # Of several processes all have such an error, and the first one prints it.
        if os.environ.get("WORLD_SIZE", "1") == "1" or os.environ.get("RANK", "0") == "0":
            text = f"error: {error}" if "\n" not in str(error) else f"errors:\n{error}"
            print(text, file=sys.stderr)
        sys.exit(2)
    except RankLostError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except SilentError as error:
        print(f"error: SLURM does not answer: {error}", file=sys.stderr)
        sys.exit(1)
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        print(f"error: {place}{error.strerror or error}", file=sys.stderr)
        sys.exit(1 if is_full(error) else 2)
