"""`python -m trm_lab.cli`."""

from trm_lab.cli import main

if __name__ == "__main__":
    main()
