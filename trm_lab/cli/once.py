"""A command whose options are given once, but for those that make a list."""

from collections import Counter
from typing import Any

from typer.core import TyperCommand, TyperOption

from trm_lab.errors import ConfigError


class Once(TyperCommand):
    """Refuses an option that is given twice, of which the last one would count without a word."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments."""
        _, _, given = self.make_parser(ctx).parse_args(args=list(args))
        for option, times in Counter(given).items():
            if times > 1 and isinstance(option, TyperOption) and not option.multiple:
                raise ConfigError(f"{option.opts[0]}: given {times} times; give it once")
        return super().parse_args(ctx, args)
