"""The verbs of the command line; each hands over to the room that does the work."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from alpot.errors import AlpotError, UsageError

app = typer.Typer(
    name="alpot",
    help="Discover interatomic potentials: explore, label, train, assess, until they are good enough.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

CampaignFile = Annotated[Path, typer.Argument(metavar="FILE", help="campaign file, e.g. campaign.toml")]
CampaignPath = Annotated[Path, typer.Argument(metavar="DIR", help="campaign directory")]


@app.command()
def run(
    path: Annotated[Path, typer.Argument(metavar="FILE|DIR", help="campaign file, or directory to continue")],
    directory: Annotated[
        Path | None, typer.Option("--directory", "-d", help="where the campaign lives; default: FILE without suffix")
    ] = None,
) -> None:
    """Start a campaign from its file, or continue one; Ctrl-C drains it."""
    from alpot.subjects.launch import prepare

    launch = prepare(path, directory)
    outcome = launch.run(lambda s: print(s.seq, dict(s.in_flight), s.train_labels, s.promoted))
    print(outcome.reason)


def main() -> None:
    """Entry point: errors of ours become one line on stderr and an exit code, 2 where the user can mend them."""
    try:
        app()
    except AlpotError as error:
        typer.secho(f"error: {error}", fg="red", err=True)
        raise SystemExit(2 if isinstance(error, UsageError) else 1) from error


@app.command()
def stop(path: CampaignPath) -> None:
    """Let the running tasks of a campaign finish, then stop it."""
    from alpot.subjects.launch import request_stop

    typer.echo(request_stop(path))
