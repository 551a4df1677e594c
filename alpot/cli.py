"""The verbs of the command line; each hands over to the room that does the work."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from alpot.errors import AlpotError, PotentialError, StorageError, UsageError

app = typer.Typer(
    name="alpot",
    help="Discover interatomic potentials: explore, label, train, assess, until they are good enough.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
console = Console(highlight=False)

CampaignFile = Annotated[Path, typer.Argument(metavar="FILE", help="campaign file, e.g. campaign.toml")]
CampaignPath = Annotated[Path, typer.Argument(metavar="DIR", help="campaign directory")]
TrustDirectory = Annotated[
    bool, typer.Option("--trust-directory", help="accept a directory that other users may write to")
]


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="print the version and exit", is_eager=True)] = False,
) -> None:
    if version:
        from alpot import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.command()
def init(
    element: Annotated[list[str], typer.Option("--element", "-e", help="chemical symbol; repeat for alloys")],
    output: Annotated[Path, typer.Option("--output", "-o", help="file to write")] = Path("campaign.toml"),
) -> None:
    """Write a commented campaign file."""
    from alpot.config_file import template
    from alpot.store.files import publish_new

    if not publish_new(output, template(element).encode()):
        raise UsageError(f"{output} exists already; choose another name with --output, or remove it")
    typer.echo(f"wrote {output}; adapt it, then try it with: alpot check {output}")


@app.command()
def schema() -> None:
    """Print the JSON schema of the campaign file."""
    from alpot.config_file import json_schema

    typer.echo(json.dumps(json_schema(), indent=2, ensure_ascii=False))


@app.command()
def check(
    path: CampaignFile,
    stage: Annotated[
        str | None,
        typer.Option(help="only this stage: reference, start, label, train, walker or platform"),
    ] = None,
) -> None:
    """Try every stage in small, and estimate labels and time, before anything is spent."""
    from alpot.config_file import read_campaign
    from alpot.subjects.checks import Checks, Stage

    if stage is not None and stage not in list(Stage):
        raise UsageError(f"there is no stage {stage!r}; the stages are {', '.join(Stage)}")
    checks = Checks(read_campaign(path), path.parent)
    failed = None
    for result in checks.run(None if stage is None else Stage(stage)):
        mark = "[green]ok[/]   " if result.ok else "[red]failed[/]"
        console.print(f"{mark} {result.stage:<10} {escape(result.detail)}", soft_wrap=True)
        failed = failed or (None if result.ok else result.stage)
    if failed:
        raise UsageError(f"the stage {failed} does not work yet; nothing was spent")
    if stage is None:
        for sentence in checks.estimate():
            console.print(f"       {escape(sentence)}", soft_wrap=True)


@app.command()
def run(
    path: Annotated[Path, typer.Argument(metavar="FILE|DIR", help="campaign file, or directory to continue")],
    directory: Annotated[
        Path | None, typer.Option("--directory", "-d", help="where the campaign lives; default: FILE without suffix")
    ] = None,
    fork: Annotated[
        Path | None,
        typer.Option(metavar="NEWDIR", help="begin a new campaign here, with FILE and the labels of that campaign"),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="print job scripts and files; make and submit nothing")
    ] = False,
    trust_directory: TrustDirectory = False,
) -> None:
    """Start a campaign from its file, or continue one. Ctrl-C lets running tasks finish, then stops."""
    from alpot.report.live import LiveProgress
    from alpot.report.page import write_report
    from alpot.report.refresh import PageRefresher
    from alpot.report.status import campaign_status
    from alpot.report.tables import property_table
    from alpot.subjects.launch import plan, prepare

    if dry_run:
        planned, files = plan(path, directory)
        console.print(f"campaign in {escape(str(planned.path))}; nothing is made or submitted", soft_wrap=True)
        _print_job_scripts(files)
        return
    launch = prepare(path, directory, fork_to=fork, trust_directory=trust_directory)
    console.print(f"campaign in {escape(str(launch.directory.path))}", soft_wrap=True)
    for change in launch.changes:
        console.print(escape(change), soft_wrap=True)
    try:
        with LiveProgress(launch.directory, console) as progress, PageRefresher(launch.directory) as page:
            outcome = launch.run(progress, page)
    except BaseException:
        with suppress(AlpotError):  # what went wrong is told, not that its report cannot be written
            write_report(launch.directory)
        raise
    report = write_report(launch.directory)
    status = campaign_status(launch.directory)
    if status.properties:
        console.print(property_table(status.properties))
    console.print(f"{outcome.status}: {escape(outcome.reason)}")
    if status.potential is not None:
        console.print(f"potential: {escape(str(launch.directory.path / status.potential))}", soft_wrap=True)
    console.print(f"report:    {escape(str(report))}", soft_wrap=True)


def _print_job_scripts(files: Sequence[tuple[str, str]]) -> None:
    for name, text in files:
        typer.echo(f"\n==> {name} <==\n{text}")
    if not files:
        typer.echo("there are no job scripts: the workers are processes of this machine")


@app.command()
def label(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="structures, in any format that ASE reads")],
    reference: Annotated[
        Path,
        typer.Option("--reference", "-r", help="campaign file; its \\[reference] and \\[resources] are used"),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="file to write, *.extxyz or *.h5")],
    directory: Annotated[
        Path | None,
        typer.Option("--directory", "-d", help="where labels are kept; default: OUTPUT with the suffix .labelling"),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="say what would be computed, print job scripts; make and submit nothing")
    ] = False,
    trust_directory: TrustDirectory = False,
) -> None:
    """Label the structures of a file without a campaign. Once more continues it; a finished label is kept."""
    from alpot.report.labelling import LabelProgress, missing_table
    from alpot.subjects.label_files import label_file, plan_file

    if dry_run:
        sentences, files = plan_file(path, reference, output, directory)
        for sentence in sentences:
            console.print(escape(sentence), soft_wrap=True)
        _print_job_scripts(files)
        return
    work = label_file(path, reference, output, directory, trust_directory=trust_directory)
    console.print(f"labels in {escape(str(work.labelling.directory.path))}", soft_wrap=True)
    for change in work.labelling.changes:
        console.print(escape(change), soft_wrap=True)
    try:
        with LabelProgress(console) as progress:
            outcome = work.run(progress)
    except BaseException:
        with suppress(AlpotError):  # what went wrong is told, not that the rest cannot be written
            console.print(f"{work.write().labelled} of {len(work.frames)} frames have a label so far")
        raise
    written = work.write()
    if written.missing:
        console.print(missing_table({n: (why.reason, why.message) for n, why in written.missing.items()}))
    console.print(f"{outcome.status}: {escape(outcome.reason)}")
    counts = f"{written.labelled} of {len(work.frames)} frames"
    if written.labelled:
        console.print(f"wrote {counts} to {escape(str(output))}", soft_wrap=True)
    if written.missing:
        raise StorageError(f"{counts} have a label; the others are left out")


@app.command()
def converge(
    path: CampaignFile,
    structures: Annotated[int, typer.Option("--structures", "-n", min=1, help="number of structures")] = 3,
    force_tolerance: Annotated[
        float, typer.Option(min=0.0, help="largest force difference that may be, in eV/Å")
    ] = 0.01,
    vary: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=v1,v2,...",
            help="setting below \\[reference] and its values, the most accurate last; repeat for more",
        ),
    ] = None,
    frames: Annotated[
        Path | None, typer.Option(help="take the structures from this file; default: starts of the campaign")
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="folder of the study")] = Path("convergence"),
    trust_directory: TrustDirectory = False,
) -> None:
    """Find out which settings of the reference are good enough: cutoff, k points, smearing, or any other number."""
    from alpot.report.convergence import study_view, write_plots
    from alpot.report.labelling import LabelProgress
    from alpot.store.study import write_study
    from alpot.subjects.convergence import prepare_study

    work = prepare_study(
        path,
        output,
        count=structures,
        tolerance=force_tolerance,
        vary=vary or (),
        frames_of=frames,
        trust_directory=trust_directory,
    )
    with LabelProgress(console) as progress:
        outcome = work.run(progress)
    study = work.study()
    write_study(output, study)
    plots = write_plots(output, study)
    console.print(study_view(study))
    console.print(f"{outcome.status}: {escape(outcome.reason)}")
    console.print(f"wrote {escape(', '.join(map(str, (output / 'convergence.json', *plots))))}", soft_wrap=True)


@app.command()
def validate(
    potential: Annotated[
        str,
        typer.Argument(
            metavar="POTENTIAL",
            help="folder of a potential, campaign directory, campaign file (its reference), or a calculator, e.g. emt",
        ),
    ],
    reference: Annotated[
        str | None, typer.Option("--reference", "-r", help="likewise: what it is compared with")
    ] = None,
    suite: Annotated[str, typer.Option(help="which properties: quick, metal or full")] = "quick",
    measured: Annotated[
        list[str] | None, typer.Option("--property", "-p", help="only this property; repeat for more")
    ] = None,
    element: Annotated[
        list[str] | None, typer.Option("--element", "-e", help="chemical symbol; default: those of the potential")
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="folder for the results")] = Path("validation"),
    members: Annotated[
        bool, typer.Option(help="measure each member of the ensemble, too, for error bars; takes several times as long")
    ] = True,
    seed: Annotated[int, typer.Option(min=0, help="seed of everything random")] = 0,
    workers: Annotated[
        int | None, typer.Option(min=1, help="measurements at a time on this machine; default: one for each core")
    ] = None,
    trust_directory: TrustDirectory = False,
) -> None:
    """Measure physical properties of any potential, beside a reference and published values."""
    from alpot.report.page.validation import write_validation
    from alpot.report.properties import PropertyProgress, property_view
    from alpot.subjects.validation import prepare_validation

    work = prepare_validation(
        potential,
        output,
        reference=reference,
        suite=suite,
        properties=measured or (),
        elements=element or (),
        members=members,
        seed=seed,
        workers=workers,
        trust_directory=trust_directory,
    )
    with PropertyProgress(console) as progress:
        try:
            found = work.run(progress)
        except KeyboardInterrupt:
            console.print(f"stopped; {progress.kept}; the same command goes on from there")
            raise typer.Exit(130) from None
    console.print(property_view(found))
    written = (work.file, *write_validation(output, found))
    console.print(f"wrote {escape(', '.join(map(str, written)))}", soft_wrap=True)
    if all(row.value is None for row in found.rows):
        raise PotentialError(f"nothing could be measured of {found.potential}")


@app.command()
def status(
    path: CampaignPath,
    as_json: Annotated[bool, typer.Option("--json", help="machine-readable")] = False,
) -> None:
    """Say how a campaign is doing, also while it runs."""
    from alpot.report.status import campaign_status
    from alpot.report.tables import status_view
    from alpot.store.directory import CampaignDirectory

    found = campaign_status(CampaignDirectory.open(path))
    if as_json:
        typer.echo(found.model_dump_json(indent=2))
    else:
        console.print(status_view(found))


@app.command()
def report(path: CampaignPath) -> None:
    """Write the report of a campaign as it is now, also while it runs."""
    from alpot.report.page import write_report
    from alpot.store.directory import CampaignDirectory

    typer.echo(write_report(CampaignDirectory.open(path)))


@app.command()
def serve(
    path: CampaignPath,
    port: Annotated[int, typer.Option(min=0, max=65535, help="where to listen; 0: wherever it is free")] = 0,
) -> None:
    """Show the report of a campaign live, in a browser on this machine; it is only read. Ctrl-C ends it."""
    from alpot.report.serve import ReportServer
    from alpot.store.directory import CampaignDirectory

    with ReportServer(CampaignDirectory.open(path), port) as server, suppress(KeyboardInterrupt):
        typer.echo(f"{server.url}\nkeep it secret; from another machine, after: {server.tunnel}")
        server.serve_forever()


@app.command()
def stop(path: CampaignPath) -> None:
    """Let the running tasks of a campaign finish, then stop it."""
    from alpot.subjects.requests import request_stop

    typer.echo(request_stop(path))


@app.command()
def reload(
    path: CampaignPath,
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="changed campaign file; default: DIR/campaign.toml")
    ] = None,
    trust_directory: TrustDirectory = False,
) -> None:
    """Have a running campaign read its campaign file again: budgets, resources and assessment may change."""
    from alpot.subjects.requests import request_reload

    for sentence in request_reload(path, file, trust_directory=trust_directory):
        typer.echo(sentence)


@app.command()
def repair(
    path: CampaignPath,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="make a new ledger from the label files, if the ledger is damaged")
    ] = False,
    trust_directory: TrustDirectory = False,
) -> None:
    """Verify every file of a campaign, quarantine and restore what is damaged, and say what is lost."""
    from alpot.report.repair import repair_sentences, repair_table
    from alpot.subjects.mending import mend

    mended = mend(path, rebuild=rebuild, trust_directory=trust_directory)
    console.print(repair_table(mended.report))
    for sentence in (*repair_sentences(mended.report), *mended.sentences):
        console.print(escape(sentence), soft_wrap=True)
    if mended.problem:
        raise StorageError(mended.problem)
    console.print("all is well" if mended.report.is_sound else "mended; no label is lost")


@app.command()
def export(
    path: CampaignPath,
    target: Annotated[
        Path,
        typer.Argument(metavar="TARGET", help="folder for the potential, or a file *.extxyz or *.h5 for the labels"),
    ],
) -> None:
    """Copy the best potential of a campaign into a folder that `alpot.load` opens, or its labels into one file."""
    from alpot.store.ani_hdf5 import HDF5_SUFFIXES
    from alpot.store.extxyz import XYZ_SUFFIXES
    from alpot.subjects.exports import export_labels, export_potential

    if target.suffix in XYZ_SUFFIXES + HDF5_SUFFIXES:
        typer.echo(f"wrote {export_labels(path, target)} labels to {target}")
        return
    generation = export_potential(path, target)
    typer.echo(f"wrote generation {generation} to {target}; use it with: atoms.calc = alpot.load({str(target)!r})")


def main() -> None:
    """Entry point: errors of ours become one line on stderr and an exit code, 2 where the user can mend them."""
    logging.raiseExceptions = False  # a log that cannot be written is no reason for a traceback: the disk is full, say
    try:
        app()
    except AlpotError as error:
        typer.secho(f"error: {error}", fg="red", err=True)
        raise SystemExit(2 if isinstance(error, UsageError) else 1) from error
