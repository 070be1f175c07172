"""Where papers and released code differ or are silent, and where a recipe stands.  Torch-free."""

from trm_lab.discrepancies.families import Family, family
from trm_lab.discrepancies.points import POINTS, Point
from trm_lab.discrepancies.stands import Side, Stand

__all__ = ["POINTS", "Family", "Point", "Side", "Stand", "family"]
