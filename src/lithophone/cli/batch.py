"""`lithophone batch`: manifests, folders and URLs -> files, by this process or on Ray."""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lithophone.cli import terminal
from lithophone.cli.options import takes
from lithophone.cli.output import check_cues, check_outputs, chosen_formats, with_word_times
from lithophone.cli.sources import STDIN, SUFFIXES, InputFile, find_inputs
from lithophone.cli.tally import total_line
from lithophone.cli.transcribe import ModelChoice, load_model, named_inputs
from lithophone.errors import FetchError, OptionError
from lithophone.formats import FILE_FORMATS, CueOptions
from lithophone.hub import DEFAULT_MODEL, resolve
from lithophone.pipeline.options import TranscribeOptions

if TYPE_CHECKING:
    from lithophone.batch.job import Job
    from lithophone.batch.recording import Recording
    from lithophone.batch.run import Batch, Workers
    from lithophone.batch.worker import Outcome

RETRIES = 2


@terminal.with_exit_status
@takes("options", TranscribeOptions)
@takes("cues", CueOptions)
def batch(
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="MANIFEST",
            help="Manifests (.jsonl: a line a recording, with audio and id), recordings, folders or patterns; paths or "
            "URLs (s3://, gs://, https://).",
        ),
    ] = None,
    from_list: Annotated[
        str | None, typer.Option("--from-list", metavar="FILE", help="Text with one of these a line; - is a pipe.")
    ] = None,
    output_dir: Annotated[str, typer.Option("--output-dir", "-o", help="Folder for the files.")] = "",
    output_format: Annotated[
        str, typer.Option("--output-format", "-f", help=f"{', '.join(FILE_FORMATS)} or all.")
    ] = "txt",
    retries: Annotated[
        int, typer.Option(min=0, help="Further attempts at what failed, but for recordings that are damaged.")
    ] = RETRIES,
    ray: Annotated[
        bool, typer.Option("--ray", help="Transcribe on Ray Data, by several processes or machines.")
    ] = False,
    ray_address: Annotated[
        str | None,
        typer.Option(help="Ray cluster to run on, as HOST:PORT or auto (default: one of this machine alone)."),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Processes with a model each on Ray (default: one a GPU, or one a machine)."),
    ] = None,
    model: terminal.Model = DEFAULT_MODEL,
    device: terminal.Device = None,
    dtype: terminal.Dtype = None,
    threads: terminal.Threads = None,
    quiet: terminal.Quiet = False,
    *,
    options: TranscribeOptions,
    cues: CueOptions,
) -> None:
    """Transcribe the recordings of a manifest to files; run again, it does what is missing.

    Failures are in failed.jsonl, a manifest itself.
    """
    from lithophone.batch.job import Job  # imports torch
    from lithophone.batch.run import Batch
    from lithophone.diarization.weights import weights_path

    if options.diarize:
        weights_path()
    if output_dir in ("", STDIN):
        raise OptionError("batch writes files: name their folder with --output-dir")
    if not ray and (ray_address is not None or workers is not None):
        raise OptionError("--ray-address and --workers are about Ray: they need --ray")
    options = with_word_times(output_format, options)
    check_cues(output_format, cues, options.word_timestamps)
    recordings, refused = find_recordings(named_inputs(inputs or [], from_list), options)
    check_outputs(output_dir, output_format, [])
    for message in refused:
        terminal.say_error(message)
    job = Job(
        resolve(model).absolute(), Path(output_dir).absolute(), chosen_formats(output_format), options, cues, dtype
    )
    choice = ModelChoice(str(job.model), device, dtype, threads)
    failed = len(refused)
    if recordings:
        with contextlib.ExitStack() as stack:
            stack.enter_context(job.opened())
            if ray:
                start = partial(ray_workers, stack, job, choice, workers, ray_address)
            else:
                start = partial(worker_here, job, choice)
            failed += run(Batch(job, recordings, retries), start, quiet)
    if failed:
        raise typer.Exit(terminal.FAILED)


# --- recordings


def find_recordings(arguments: Sequence[str], options: TranscribeOptions) -> tuple[list[Recording], list[str]]:
    """Recordings in order, manifests first, and why others cannot be read. Raises ManifestError, OptionError."""
    from lithophone.batch.manifest import check_names, is_manifest, read_manifest
    from lithophone.batch.urls import check_protocols, is_url

    if STDIN in arguments:
        raise OptionError("batch reads files and URLs: for standard input there is lithophone transcribe -")
    check_protocols(argument for argument in arguments if is_url(argument))
    manifests = [argument for argument in arguments if is_manifest(argument)]
    urls = [argument for argument in arguments if is_url(argument) and argument not in manifests]
    files, unreadable = find_inputs([one for one in arguments if one not in manifests and not is_url(one)])
    refused = [str(one) for one in unreadable]
    found = [(manifest, one) for manifest in dict.fromkeys(manifests) for one in read_manifest(manifest, options)]
    found += [(file.label, _of_file(file)) for file in files]
    for url in dict.fromkeys(urls):
        try:
            found += [(one.audio, one) for one in _at_url(url)]
        except FetchError as error:
            refused.append(str(error))
    check_names(found)
    check_protocols(one.audio for _, one in found if is_url(one.audio))
    return [one for _, one in found], refused


def _of_file(file: InputFile) -> Recording:
    from lithophone.batch.recording import Recording

    assert isinstance(file.source, Path), "standard input is refused"
    return Recording(file.output.as_posix(), str(file.source.absolute()))


def _at_url(url: str) -> Iterator[Recording]:
    """Recordings of a URL, pattern or folder; their names are paths below the part without a pattern."""
    from lithophone.batch.manifest import name_of
    from lithophone.batch.recording import Recording
    from lithophone.batch.urls import found

    urls = found(url, SUFFIXES)
    common = Path(os.path.commonpath([Path(name_of(one)).parent for one in urls]))
    for one in urls:
        yield Recording(Path(name_of(one)).relative_to(common).as_posix(), one)


# --- workers


def worker_here(job: Job, choice: ModelChoice) -> Workers:
    """The model in this process."""
    from lithophone.batch.worker import Worker

    return Worker(job, load_model(choice))


def ray_workers(
    stack: contextlib.ExitStack, job: Job, choice: ModelChoice, workers: int | None, address: str | None
) -> Workers:
    """On Ray, until the stack is closed."""
    with terminal.needs("ray"):
        from lithophone.scale.compute import Compute, share_of_cpus
        from lithophone.scale.ray_batch import on_ray

    compute = Compute(choice.device, choice.dtype, choice.threads, share_of_cpus(workers or 1))
    return stack.enter_context(on_ray(job, compute, workers, address))


# --- run


def run(batch: Batch, start: Callable[[], Workers], quiet: bool) -> int:
    """Transcribe, with a line for every recording; the number of failures."""
    began, total, n = time.perf_counter(), len(batch.recordings), itertools.count(1)
    load_s = 0.0

    def started() -> Workers:
        nonlocal load_s
        workers = start()
        load_s = time.perf_counter() - began
        return workers

    def report(outcome: Outcome) -> None:
        place = next(n) + batch.summary.n_known
        if outcome.error is not None:
            terminal.say_error(f"{outcome.name}: {outcome.error}")
        elif not quiet:
            terminal.say(f"{place:,} of {total:,}: {outcome.name}, {outcome.duration_s:.1f} s of audio")
        for warning in outcome.warnings:
            terminal.say_warning(f"{outcome.name}: {warning}")

    batch.report, batch.say = report, (lambda text: None) if quiet else terminal.say
    from lithophone.batch.run import FAILURES

    found = batch.run(started)
    if not quiet:
        elapsed_s = time.perf_counter() - began - load_s
        terminal.say(total_line(found.n_done, found.audio_s, elapsed_s, load_s, known=found.n_known))
    if found.failed:
        terminal.say(f"{len(found.failed):,} failures are listed in {batch.job.folder / FAILURES}")
    return len(found.failed)
