"""What ``--help`` says: every command, each with a sentence, and only arguments that there are."""

import re

import pytest
from anomalib.cli import AnomalibCLI
from anomalib.cli.pipelines import PIPELINE_REGISTRY

from anomalib_memmc import cli
from anomalib_memmc.command_help import ANOMALIB, TAKEN


@pytest.fixture(scope="module")
def parsers():
    """anomalib's parsers, by command."""
    host = AnomalibCLI.__new__(AnomalibCLI)
    host.parser = host.init_parser()
    host.subcommand_parsers, host.subcommand_method_arguments = {}, {}
    host.add_subcommands()
    return host.subcommand_parsers


@pytest.mark.parametrize("arguments", [[], ["-h"], ["--help"]])
def test_help_has_a_sentence_for_every_command(capsys, arguments, parsers):
    assert cli.main(arguments) == 0
    rows = re.findall(r"^  ([a-z-]+) +(\S.*)$", capsys.readouterr().out, flags=re.MULTILINE)
    assert len(rows) == len(dict(rows))
    assert dict(rows).keys() == {*cli.COMMANDS, *parsers}
    assert all(text.endswith(".") and len(text) < 90 for _, text in rows)


def test_all_commands_of_anomalib_are_known(parsers):
    assert {*ANOMALIB, *PIPELINE_REGISTRY} == set(parsers)


@pytest.mark.parametrize("command", TAKEN)
def test_help_of_a_command_names_arguments_that_it_takes(capsys, command, parsers):
    assert cli.main([command, "--help"]) == 0
    printed = capsys.readouterr().out
    assert ANOMALIB[command] in printed
    for name in TAKEN[command]:
        assert name in printed
        assert ".init_args." in name or name in parsers[command]._option_string_actions
    example = printed.splitlines()[-1].split()
    assert example[:2] == ["anomalib-memmc", command]


def test_all_arguments_are_a_matter_of_anomalib(capsys):
    with pytest.raises(SystemExit):
        cli.main(["train", "-h", "-vv"])
    assert "--trainer.max_epochs" in capsys.readouterr().out
