"""The `clipserve` command. Verbs that need more than the serving install are entry points of other packages."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from functools import partial
from importlib.metadata import entry_points, version
from typing import Protocol

from service.bench_command import BenchCommand
from service.configuration import unread_variables
from service.doctor import DoctorCommand
from service.key_command import KeyCommand
from service.listening import ListenError, bind
from service.logs import configure_logging
from service.options import add_setting_options, chosen_configuration
from service.predict_command import PredictCommand
from service.runtimes.kinds import KINDS
from service.server import leave, run_server
from service.signals import on_early_stop
from service.supervisor import supervise

logger = logging.getLogger(__name__)

COMMAND_GROUP = "clipserve.commands"


class Command(Protocol):
    """A verb of the command line.

    Attributes:
        help: One line for the list of verbs.
    """

    help: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the verb's arguments."""
        ...

    def run(self, arguments: argparse.Namespace) -> int:
        """Do the work and return the exit status."""
        ...


class ServeCommand:
    """`clipserve serve`."""

    help = "serve the models of a repository folder over HTTP"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Offer every setting as an option."""
        add_setting_options(parser)

    def run(self, arguments: argparse.Namespace) -> int:
        """Run the server until it is stopped; 1 if it could not start."""
        # To be stopped is no failure, however early it comes.
        on_early_stop(partial(leave, 0))
        configuration = chosen_configuration(arguments)
        if configuration.problems:
            for problem in configuration.problems:
                print(f"clipserve: {problem}", file=sys.stderr)
            return 2
        settings = configuration.settings
        configure_logging(settings.log_format)
        _warn_of_variables()
        try:
            listeners = bind(settings.host, settings.port)
        except ListenError as error:
            logger.critical("%s", error)
            return 1
        for listener in listeners:
            logger.info("will listen on %s port %d", *listener.getsockname()[:2])
        return supervise(settings, listeners) if settings.processes > 1 else run_server(settings, listeners)


def _warn_of_variables() -> None:
    """Name what stands in the environment as if it were a setting, and does nothing."""
    unread = [f"{name} ({hint})" if hint else name for name, hint in unread_variables().items()]
    if unread:
        logger.warning("no setting is called so, and nothing reads it: %s", ", ".join(unread))


def _commands() -> dict[str, Command]:
    """Return all verbs by name. Importing a verb is cheap; what it needs is imported when it runs."""
    commands: dict[str, Command] = {
        "serve": ServeCommand(),
        "doctor": DoctorCommand(),
        "key": KeyCommand(),
        "predict": PredictCommand(),
        "bench": BenchCommand(),
    }
    for entry in entry_points(group=COMMAND_GROUP):
        commands[entry.name] = entry.load()()
    return commands


def _cure(module: str | None) -> str:
    """Return what installs a module that a verb needs: the extra of a runtime, or that of all else."""
    return next((kind.cure for kind in KINDS.values() if kind.module == module), "pip install 'clipserve[export]'")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    parser = argparse.ArgumentParser(prog="clipserve", description="Serves video and image models.")
    parser.add_argument("--version", action="version", version=f"clipserve {version('clipserve')}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    commands, parsers = _commands(), dict[str, argparse.ArgumentParser]()
    for name, command in commands.items():
        parsers[name] = verbs.add_parser(name, help=command.help, description=command.help)
        command.add_arguments(parsers[name])
    arguments, unknown = parser.parse_known_args(argv)
    if unknown:
        # With the usage of the verb, which parse_args would not show.
        parsers[arguments.verb].error(f"unrecognized arguments: {' '.join(unknown)}")
    try:
        return commands[arguments.verb].run(arguments)
    except ModuleNotFoundError as error:
        missing = error.name
        print(
            f"clipserve: `{arguments.verb}` needs {missing}, which is not installed: {_cure(missing)}", file=sys.stderr
        )
        return 2


if __name__ == "__main__":
    sys.exit(main())
