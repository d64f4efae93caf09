"""Commands whose help lists the options under headings, such as "Accuracy" and "Speed"."""

from typing import Any

import click


class Option(click.Option):
    """An option that the help lists under the heading `group`."""

    def __init__(self, *declarations: Any, group: str = "", **settings: Any) -> None:
        super().__init__(*declarations, **settings)
        self.group = group


class Command(click.Command):
    """A command whose help lists its options by group, in the order in which the groups first occur."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        groups: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx) if isinstance(parameter, click.Option) else None
            if record:
                groups.setdefault(getattr(parameter, "group", ""), []).append(record)
        for i, (heading, records) in enumerate(groups.items()):
            with formatter.section(heading or ("Other options" if i else "Options")):
                formatter.write_dl(records)


class Group(click.Group):
    """A group whose commands list their options by heading."""

    command_class = Command
