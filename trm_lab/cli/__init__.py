"""The command line.  Each verb imports what it needs when it runs."""

import sys

from trm_lab.errors import ConfigError, RunBusyError


def main() -> None:
    """Run `trm-lab`: exit code 0 done, 1 a run failed or a check did not hold, 2 usage or
    configuration, 130 interrupted.
    """
    from trm_lab.cli.app import app

    try:
        app()
    except (ConfigError, RunBusyError) as error:
        print(f"error: {error}" if "\n" not in str(error) else f"errors:\n{error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        print(f"error: {error.filename or ''}: {error.strerror or error}", file=sys.stderr)
        sys.exit(2)
