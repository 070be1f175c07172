"""`python -m trm_lab`."""

from trm_lab.cli import main

if __name__ == "__main__":
    main()
