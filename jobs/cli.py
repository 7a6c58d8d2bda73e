"""The command line: arguments in, one line on what went wrong and an exit code out."""

from __future__ import annotations

import argparse
import importlib
import os
import re
import sys
import traceback
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.config import Site, conf_folder, load_site, load_study
from jobs.errors import ConfigurationError, InputError, TreatmentLinesError
from jobs.report.printed import counted
from jobs.synthetic import FEWEST_PERSONS

if TYPE_CHECKING:
    from jobs.pipeline import Run

DEMO_STUDY = "her2_mbc"
DEMO_PERSONS = 20_000
NO_DELIVERY = ""  # for what is done to all of them, or said of them
# What `synthesize` can make -> its module in jobs/synthetic.
COUNTRIES = {"no": "norway", "dk": "denmark", "se": "sweden", "fi": "finland", "omop": "omop"}
STAGES = ("cohort", "exposures", "lines", "aggregate", "survival", "report")


def _day(text: str) -> str:
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError:
        raise argparse.ArgumentTypeError("write the date as YYYY-MM-DD") from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="treatment-lines",
        description="Treatment lines and survival from a country's cancer, hospital and prescription registers.",
        epilog="Exit codes: 0 done, 1 unexpected, 2 usage, 10 configuration, 11 input missing or not as its contract "
        "says, 12 a quality gate failed, 13 disclosure control refused, 14 another run holds the warehouse.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(
        name: str, text: str, *, study: bool = False, site: bool = True, dated: bool = True
    ) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        if study:
            sub.add_argument("--study", type=Path, required=True, metavar="FILE", help="study file (YAML)")
        if site:
            sub.add_argument("--site", type=Path, required=True, metavar="FILE", help="site file (YAML)")
            if dated:
                sub.add_argument(
                    "--delivery", type=_day, metavar="DATE", help="the delivery's date, YYYY-MM-DD; default: the site's"
                )
            of_study = "of the study (study.KEY=VALUE) or " if study else ""
            sub.add_argument(
                "--set",
                action="append",
                default=[],
                metavar="KEY=VALUE",
                help=f"override a key {of_study}of the site (site.KEY=VALUE); may be repeated",
            )
        return sub

    demo = command("demo", "synthetic Norwegian registers, the whole run, a report", site=False)
    demo.add_argument("--out", type=Path, default=Path("out/demo"), metavar="DIR", help="default: %(default)s")
    persons = f"how many people, at least {FEWEST_PERSONS}; default: %(default)s"
    demo.add_argument("--persons", type=int, default=DEMO_PERSONS, metavar="N", help=persons)
    demo.add_argument("--seed", type=int, default=1, metavar="S", help="default: %(default)s")

    synthesize = command("synthesize", "synthetic registers with a table of truth and a site file", site=False)
    synthesize.add_argument("--country", choices=list(COUNTRIES), required=True, help="whose file shapes")
    synthesize.add_argument("--persons", type=int, default=DEMO_PERSONS, metavar="N", help=persons)
    synthesize.add_argument("--seed", type=int, default=1, metavar="S", help="default: %(default)s")
    synthesize.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write to")

    command("ingest", "raw files to conformed tables; knows no study")
    run = command("run", "every stage from ingest to report", study=True)
    run.add_argument("--out", type=Path, metavar="DIR", help="folder of results/ and report.html; default: the site's")
    run.add_argument("--until", choices=("ingest", *STAGES), default="report", metavar="STAGE", help="stop after STAGE")
    for stage in STAGES:
        sub = command(stage, f"the stage {stage} alone; those before it must be up to date", study=True)
        sub.add_argument("--out", type=Path, metavar="DIR", help="folder of results/ and report.html")
    command("check", "configuration and inputs, no computation", study=True)
    explain = command("explain", "one person's days, rule by rule, drawn in the terminal; internal", study=True)
    explain.add_argument(
        "--person-file",
        required=True,
        metavar="FILE",
        help="a file with the person's identifier or pseudonym; - is standard input",
    )
    explain.add_argument("--rule-set", default="primary", metavar="NAME", help="default: %(default)s")
    command("status", "what is up to date and what is not, and which deliveries can be read again")
    fewer = "put every table into fewer, larger files, as after many small deliveries; no row changes"
    command("optimize", fewer, dated=False)
    command("vacuum", "delete files of versions older than retention_days of the site file", dated=False)
    gone = command("erase", "take people out of every table, for good, and prove it", dated=False)
    gone.add_argument(
        "--person-list",
        required=True,
        metavar="FILE",
        help="a file of identifiers as delivered, one a line; - is standard input",
    )
    return parser


def _load_site(arguments: argparse.Namespace) -> Site:
    site = load_site(arguments.site, tuple(arguments.set))
    if getattr(arguments, "out", None) is not None:
        site = site.model_copy(update={"out": str(arguments.out.resolve())})
    return site


def _delivery(arguments: argparse.Namespace, site: Site) -> str:
    if arguments.delivery is not None:
        return str(arguments.delivery)
    if site.delivery is None:
        raise ConfigurationError(
            "the date of the delivery is not known; say --delivery DATE or delivery: in the site file"
        )
    return site.delivery.isoformat()


def _new_run(arguments: argparse.Namespace, site: Site, delivery: str | None = None) -> Run:
    from jobs.pipeline import Run
    from jobs.session import start_session

    study = load_study(arguments.study, tuple(arguments.set)) if getattr(arguments, "study", None) else None
    delivery = delivery if delivery is not None else _delivery(arguments, site)
    return Run(study, site, delivery, lambda: start_session(site.spark), lambda line: print(line, flush=True))


def _run(arguments: argparse.Namespace, first: str, last: str) -> None:
    from jobs.pipeline import run_stages

    run_stages(_new_run(arguments, _load_site(arguments)), first, last)


def _synthesize(country: str, out: Path, persons: int, seed: int, **folders: str) -> None:
    module = importlib.import_module(f"jobs.synthetic.{COUNTRIES[country]}")
    try:
        module.write_registers(out, persons, seed, **folders)
    except ValueError as error:
        raise ConfigurationError(str(error)) from None


def _demo(arguments: argparse.Namespace) -> None:
    from jobs.pipeline import STAGES as ALL
    from jobs.pipeline import Run, run_stages
    from jobs.report.summary import main_table
    from jobs.session import start_session

    out: Path = arguments.out.resolve()
    registers = out / "registers"
    _synthesize("no", registers, arguments.persons, arguments.seed, warehouse="../warehouse", results="..")
    print(f"synthetic registers of {arguments.persons:,} people: {registers}", flush=True)
    site = load_site(registers / "site.yaml")
    study = load_study(conf_folder() / "studies" / f"{DEMO_STUDY}.yaml")
    arguments.delivery = None
    run = Run(
        study, site, _delivery(arguments, site), lambda: start_session(site.spark), lambda s: print(s, flush=True)
    )
    run_stages(run, ALL[0], ALL[-1])
    print()
    print(main_table(out / "results"))
    print(f"\nSYNTHETIC DATA, internal, not cleared for release\nreport: {out / 'report.html'}")
    print(f"site file: {registers / 'site.yaml'}")


def _check(arguments: argparse.Namespace) -> None:
    from jobs.identity import read_key
    from jobs.pipeline import ensure_followed_by_data

    run = _new_run(arguments, _load_site(arguments))
    ensure_followed_by_data(run)
    read_key(run.site)
    for name, extract in run.extracts.items():
        print(f"{name}: {counted(len(extract.files), 'file', 'files')}")
        if extract.unknown_columns:
            ignored = counted(len(extract.unknown_columns), "unknown column is", "unknown columns are")
            print(f"{name}: {ignored} ignored")
    print(f"study {run.the_study.name} and site {run.site.name} are ready to run")


def _explain(arguments: argparse.Namespace) -> None:
    from jobs.identity import pseudonym_of, read_key
    from jobs.lines.explain import explain
    from jobs.pipeline import read_person

    run = _new_run(arguments, _load_site(arguments))
    if arguments.rule_set not in run.the_study.rule_sets:
        known = ", ".join(run.the_study.rule_sets)
        raise ConfigurationError(f"--rule-set: the study has no rule set {arguments.rule_set}; it has {known}")
    identifier = _one_person(arguments.person_file)
    is_pseudonym = re.fullmatch("[0-9a-f]{32}", identifier)
    pseudonym = identifier if is_pseudonym else pseudonym_of(identifier, read_key(run.site))
    print(explain(*read_person(run, pseudonym), run.the_study, arguments.rule_set))


def _lines_of(file: str, argument: str) -> list[str]:
    """The lines of a file or of standard input that are not empty; what they say never reaches a message."""
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise InputError(f"{argument}: no such file; name a file, or - for standard input") from None
    except (OSError, UnicodeDecodeError):
        raise InputError(f"{argument}: cannot be read as UTF-8 text; name a file, or - for standard input") from None
    return [line.strip() for line in text.splitlines() if line.strip()]


def _one_person(file: str) -> str:
    """The one identifier in a file or on standard input; what it is never reaches a message."""
    given = " ".join(_lines_of(file, "--person-file")).split()
    if len(given) != 1:
        raise InputError(f"--person-file: holds {len(given)} identifiers; give one")
    return given[0]


def _erase(arguments: argparse.Namespace) -> None:
    from jobs.pipeline import erase_people

    identifiers = _lines_of(arguments.person_list, "--person-list")
    done = erase_people(_new_run(arguments, _load_site(arguments), NO_DELIVERY), identifiers)
    print(
        f"{counted(done.people, 'person is', 'people are')} on the list of suppressions, {done.found:,} of them stood "
        f"in a table; {counted(len(done.tables), 'table was', 'tables were')} made anew"
    )
    if done.found < done.people:
        print(f"{done.people - done.found:,} stood in none: erased before, or not written exactly as delivered")
    print(f"proof: none of the {done.files:,} files of the warehouse holds one of their pseudonyms")
    if done.ended:
        ended = counted(done.ended, "person is", "people are")
        print(f"{ended} out, too, of an erasure that had not come to its end")
    print("raw files and results are not touched; earlier versions of these tables are gone; run each study again")


def _upkeep(arguments: argparse.Namespace) -> None:
    from jobs.pipeline import optimize_tables, vacuum_tables

    tend = {"optimize": optimize_tables, "vacuum": vacuum_tables}[arguments.command]
    for line in tend(_new_run(arguments, _load_site(arguments), NO_DELIVERY)):
        print(line)


def _status(arguments: argparse.Namespace) -> None:
    from jobs.pipeline import status_lines

    site = _load_site(arguments)
    known = arguments.delivery is not None or site.delivery is not None
    for line in status_lines(_new_run(arguments, site, None if known else NO_DELIVERY)):
        print(line)


OF_SITE = {"status": _status, "optimize": _upkeep, "vacuum": _upkeep, "erase": _erase}


def _dispatch(arguments: argparse.Namespace) -> None:
    command = arguments.command
    if command == "demo":
        _demo(arguments)
    elif command == "synthesize":
        _synthesize(arguments.country, arguments.out.resolve(), arguments.persons, arguments.seed)
        print(f"site file: {arguments.out.resolve() / 'site.yaml'}")
    elif command == "run":
        _run(arguments, "ingest", arguments.until)
    elif command == "check":
        _check(arguments)
    elif command == "explain":
        _explain(arguments)
    elif command in OF_SITE:
        OF_SITE[command](arguments)
    else:
        _run(arguments, command, command)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code. Messages name places and counts, never values of a person's row."""
    parsed = _parser().parse_args(arguments)
    try:
        _dispatch(parsed)
    except TreatmentLinesError as error:
        print(f"treatment-lines {parsed.command}: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print(f"treatment-lines {parsed.command}: interrupted; run it again, finished stages are kept", file=sys.stderr)
        return 1
    except Exception as error:
        # The text of an engine's error may hold a cell, so only its kind and our own places in the code are said.
        frames = [
            frame for frame in traceback.extract_tb(error.__traceback__) if f"{os.sep}jobs{os.sep}" in frame.filename
        ]
        place = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
        print(
            f"treatment-lines {parsed.command}: unexpected {type(error).__name__}{place}; nothing unfinished is taken "
            "for done, run it again or report this line",
            file=sys.stderr,
        )
        return 1
    return 0
