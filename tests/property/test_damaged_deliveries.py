"""Damaged rows and files through every adapter: held back or refused, and nothing of them is shown."""

from __future__ import annotations

import csv
import gzip
import importlib
import io
import logging
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from pyspark.sql import SparkSession

from expectations import EXPECTATIONS
from jobs import sources
from jobs.cli import main
from jobs.config import Site, load_site
from jobs.errors import InputError
from jobs.extracts import find_extracts
from jobs.gate import RuleOutcome, raise_if_critical
from jobs.sources.adapter import NO_COUNTRIES, Adapter, RawTable, load_adapter
from schemas import CONFORMED

COUNTRIES = sorted({file.stem for file in Path(sources.__file__).parent.glob("*.py")} - {*NO_COUNTRIES, "__init__"})
KEY = "k" * 32
PERSONS, SEED, KEPT = 3_000, 5, 150
MARK = "zq"  # every planted cell holds it and six digits
TOKEN = re.compile(rf"{MARK}\d{{6}}", re.IGNORECASE)
WITHOUT_GAPS = "every year from first to last has every age up to its last"
HELD, EITHER = "held", "either"

TCGA = {
    "patient": {
        "bcr_patient_barcode": "p1", "vital_status": "Alive", "last_contact_days_to": "400",
        "death_days_to": "[Not Applicable]", "form_completion_date": "2012-3-4", "birth_days_to": "-20000",
        "gender": "FEMALE", "initial_pathologic_dx_year": "2010", "age_at_diagnosis": "54",
        "ajcc_nodes_pathologic_pn": "N0 (i-)", "ajcc_metastasis_pathologic_pm": "M0",
        "ajcc_pathologic_tumor_stage": "Stage IIA", "er_status_by_ihc": "Positive", "pr_status_by_ihc": "Positive",
        "her2_status_by_ihc": "Negative", "her2_fish_status": "[Not Evaluated]", "icd_10": "C50.9",
        "icd_o_3_histology": "8500/3",
    },
    "drug": {
        "bcr_patient_barcode": "p1", "bcr_drug_barcode": "d1", "pharmaceutical_therapy_drug_name": "Tamoxifen",
        "pharmaceutical_tx_started_days_to": "31", "pharmaceutical_tx_ongoing_indicator": "NO",
        "pharmaceutical_tx_ended_days_to": "61", "route_of_administration": "PO",
    },
    "follow_up_v4_0": {
        "bcr_patient_barcode": "p1", "bcr_followup_barcode": "f1", "vital_status": "Alive",
        "last_contact_days_to": "300", "death_days_to": "[Not Applicable]",
    },
    "new_tumour": {
        "bcr_patient_barcode": "p1", "new_tumor_event_type": "Distant Metastasis", "new_tumor_event_site": "Bone",
        "new_tumor_event_site_other": "[Not Applicable]", "new_tumor_event_dx_days_to": "90",
    },
}  # fmt: skip
CONFORMED_ROWS = {
    "person": {"person_id": "p1", "sex": "female", "birth_date": "1950-01-02", "birth_date_precision": "day",
               "death_date": "2016-05-06", "death_date_precision": "day", "emigration_date": "", "region": "north"},
    "tumour": {"person_id": "p1", "tumour_id": "1", "diagnosis_date": "2012-03-04", "diagnosis_date_precision": "day",
               "icd10": "C509", "morphology": "8500/3", "stage": "distant", "er": "positive", "pr": "positive",
               "her2": "positive", "basis": "histology"},
    "recurrence": {"person_id": "p1", "tumour_id": "1", "event_date": "2013-01-02", "kind": "local"},
    "dispensing": {"person_id": "p1", "dispensed_date": "2014-01-02", "atc": "L02BA01", "packages": "1", "ddd": "28.5",
                   "days_supply": "30"},
    "hospital_diagnosis": {"person_id": "p1", "contact_id": "c1", "start_date": "2012-03-04", "end_date": "2012-03-05",
                           "icd10": "C509", "position": "main"},
    "hospital_drug": {"person_id": "p1", "contact_id": "c1", "start_date": "2012-03-04", "end_date": "2012-03-05",
                      "code_system": "atc", "code": "L01FD01", "route": "iv"},
    "biomarker": {"person_id": "p1", "tumour_id": "1", "sample_date": "2012-03-04", "site": "primary",
                  "marker": "her2", "method": "ihc", "result": "3+"},
    "life_table": {"country": "no", "region": "", "sex": "female", "year": "2012", "age": "60",
                   "probability_of_death": "0.01"},
}  # fmt: skip
WRITTEN = {"tcga_brca": TCGA, "conformed": CONFORMED_ROWS}


def _written(country: str, folder: Path) -> None:
    """A small valid delivery of a country without a generator."""
    adapter = load_adapter(country)
    raws = {raw.name: raw for raw in adapter.raw_tables}
    for name, row in WRITTEN[country].items():
        raw = raws[name]
        rows = [row]
        for number in range(2, 30) if raw.id_column else range(61, 90):
            changed = {raw.id_column: f"p{number}"} if raw.id_column else {"age": str(number)}
            rows.append({**row, **changed})
        separator = raw.options.get("sep", ",")
        lines = [separator.join(row)] * raw.header_lines + [separator.join(one.values()) for one in rows]
        (folder / f"{name}.csv").write_text("\n".join(lines) + "\n")
    site = {
        "country": country, "delivery": "2023-06-30", "warehouse": "warehouse", "out": "out",
        "pseudonym_key_file": "key", "inputs": {name: {"path": f"{name}.csv"} for name in WRITTEN[country]},
    }  # fmt: skip
    (folder / "site.yaml").write_text(yaml.safe_dump(site))
    (folder / "key").write_text(KEY)


def _base(country: str, folder: Path) -> Site:
    folder.mkdir(parents=True)
    if country in WRITTEN:
        _written(country, folder)
    else:
        importlib.import_module(f"jobs.synthetic.{country}").write_registers(folder, PERSONS, SEED)
    return load_site(folder / "site.yaml")


def _content(path: Path) -> bytes:
    return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()


def _put(path: Path, content: bytes) -> None:
    path.write_bytes(gzip.compress(content, 1, mtime=0) if path.suffix == ".gz" else content)


@dataclass
class File:
    """One file of a raw table: how it is written, and its rows."""

    raw: RawTable
    path: Path
    names: tuple[str, ...]
    options: dict[str, str]
    head: list[str]
    rows: list[list[str]]

    @property
    def has_quotes(self) -> bool:
        return self.options.get("quote", '"') != ""

    def line(self, cells: list[str]) -> str:
        separator = self.options["sep"]
        if not self.has_quotes:
            return separator.join(cells)
        out = io.StringIO()
        csv.writer(out, delimiter=separator, lineterminator="").writerow(cells)
        return out.getvalue()

    def write(self, lines: list[bytes]) -> None:
        mark = b"\xef\xbb\xbf" if _content(self.path)[:3] == b"\xef\xbb\xbf" else b""
        head = "\n".join(self.head).removeprefix("\ufeff").encode(self.options["encoding"])
        _put(self.path, mark + b"\n".join([head, *lines]) + b"\n")

    def place(self, column: str | None) -> int | None:
        return self.names.index(column) if column in self.names else None


def _no_session() -> SparkSession:
    raise AssertionError("local files are looked at without Spark")


def _files(site: Site, adapter: Adapter) -> list[list[File]]:
    """The files of each raw table that is text with a header, with the rows of the first people only."""
    tables, people = [], set[str]()
    for extract in find_extracts(_no_session, site, adapter).values():
        if extract.declared.format != "csv" or not extract.raw.names_columns:
            continue
        options = {"sep": ",", "encoding": "UTF-8", **extract.raw.options, **extract.declared.options}
        quoting = csv.QUOTE_MINIMAL if options.get("quote", '"') else csv.QUOTE_NONE
        files = []
        for name in extract.files:
            lines = _content(Path(name)).decode(options["encoding"]).splitlines()
            head, body = lines[: extract.raw.header_lines], lines[extract.raw.header_lines :]
            rows = list(csv.reader(body, delimiter=options["sep"], quoting=quoting))
            files.append(File(extract.raw, Path(name), extract.headers[name], options, head, rows))
        place = files[0].place(extract.raw.id_column)
        if place is not None and not people:
            people = set(list(dict.fromkeys(row[place] for row in files[0].rows if row[place]))[:KEPT])
        for file in files:
            place = file.place(extract.raw.id_column)
            file.rows = file.rows[:200] if place is None else [row for row in file.rows if row[place] in people]
            file.write([file.line(row).encode(options["encoding"]) for row in file.rows])
        tables.append(files)
    return tables


@dataclass
class Damage:
    """A row as it is written, the row it was made of, and what must become of it."""

    content: bytes
    template: int
    outcome: str
    kind: str
    rows: list[int] = field(default_factory=list)  # its place in the file, by physical lines


def physical_lines(content: bytes, encoding: str) -> list[str]:
    """The lines that are not blank."""
    text = content.decode(encoding, errors="replace")
    return [line for line in re.split("\r\n|\r|\n", text) if line.strip("".join(map(chr, range(33))))]


CELLS: tuple[Callable[[str], str], ...] = (
    lambda token: token,
    lambda token: f"=cmd|' /C {token}'!A0",
    lambda token: f"@SUM({token})",
    lambda token: f"e\u0301{token}\U0001f600",
    lambda token: f"{token}'; --",
    lambda token: f"<b>{token}</b>",
    lambda token: f"{token}\\",
    lambda token: "00000101",
    lambda token: "0000-00-00",
    lambda token: "99991231",
    lambda token: "9999-12-31",
    lambda token: "20151345",
    lambda token: "1,234,567.8",
    lambda token: "1.234.567,8",
    lambda token: "1 234",
    lambda token: "NaN",
    lambda token: "-Infinity",
    lambda token: "1e999",
    lambda token: "28d",
    lambda token: "0x1p3",
    lambda token: "99999999999",
    lambda token: "2147483647",
    lambda token: "-2147483648",
    lambda token: "99999",
    lambda token: "2012.7",
)


class Planter:
    """Makes damaged rows of a country, each with identifiers and tokens of its own."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.n = seed * 100_000
        self.cell = 0
        self.huge = 0

    def token(self) -> str:
        self.n += 1
        return f"{MARK}{self.n:06d}"

    def damages(self, file: File) -> Iterator[tuple[Damage, str | None]]:
        """Damages with the identifier that they carry (None: none, or a broken one)."""
        identity, separator, encoding = file.place(file.raw.id_column), file.options["sep"], file.options["encoding"]
        candidates = [n for n, row in enumerate(file.rows) if len(row) == len(file.names) and all(
            row[place] for place in [identity] if place is not None)][:40]  # fmt: skip
        known = [n for n, name in enumerate(file.names) if not name.startswith("__")]

        def fresh() -> tuple[int, list[str], str | None]:
            template = self.random.choice(candidates)
            cells, token = list(file.rows[template]), self.token()
            if identity is not None:
                cells[identity] = token
            return template, cells, token if identity is not None else None

        for _ in range(11):
            for place in known:
                template, cells, who = fresh()
                cells[place] = CELLS[self.cell % len(CELLS)](self.token())
                self.cell += 1
                who = who if place != identity else cells[place]
                yield Damage(file.line(cells).encode(encoding, "replace"), template, EITHER, "cell"), who
        for kind in range(14):
            for _ in range(1 if kind == 9 else 2):
                template, cells, who = fresh()
                middle = self.random.randrange(max(1, len(cells) - 1))
                outcome, content = HELD, b""
                if kind == 0 and len(cells) > 1:
                    content = file.line(cells[: max(1, len(cells) // 2)]).encode(encoding)
                elif kind == 1:
                    content = file.line([*cells, self.token()]).encode(encoding)
                elif kind == 2:
                    content = file.line([*cells[:middle], self.token(), *cells[middle:]]).encode(encoding)
                elif kind == 3:
                    content = separator.join(cells).replace(separator, "|").encode(encoding)
                elif kind == 4 and file.has_quotes and len(cells) > 1:
                    content = ('"' + separator.join(cells)).encode(encoding)
                elif kind == 5 and file.has_quotes and len(cells) > 2:
                    cells[max(1, middle)] = f"{self.token()}\n{self.token()}"
                    content = file.line(cells).encode(encoding)
                elif kind == 6:
                    cells[middle] = f"{self.token()}\0{self.token()}"
                    content = separator.join(cells).encode(encoding)
                elif kind == 7 and encoding.upper() == "UTF-8":
                    cells[middle] = self.token() + "\udcff\udcfe"
                    content = separator.join(cells).encode(encoding, "surrogateescape")
                elif kind == 8:
                    noise = bytes(self.random.randrange(128, 256) for _ in range(60))
                    content = noise.replace(b"\x85", b"\x86") + self.token().encode()
                elif kind == 9 and identity is not None:
                    cells[identity] = self.random.choice(("", " ", "\t" if separator != "\t" else " "))
                    content, who = file.line(cells).encode(encoding), None
                elif kind == 10:
                    content = self.token().encode() * 2_000 + b"\0"
                elif kind == 11:
                    size = 1_000_000 if not self.huge else 10_000
                    self.huge += 1
                    cells[middle] = (self.token() * 125_000)[:size]
                    content, outcome = file.line(cells).encode(encoding), EITHER
                elif kind == 12 and identity is not None:
                    cells[identity] = who = self.token() * 2_000
                    content, outcome = file.line(cells).encode(encoding), EITHER
                elif kind == 13:
                    content, outcome = file.line(cells).encode(encoding) + b"\r", EITHER
                if content:
                    yield Damage(content, template, outcome, f"row {kind}"), who


@dataclass
class Delivery:
    """A damaged delivery of a country, ready to be ingested."""

    country: str
    folder: Path
    site: Site
    adapter: Adapter
    files: dict[str, File]
    damages: dict[str, list[Damage]]
    rows_in: dict[str, int]
    read: dict[str, list[dict[str, Any]]] = field(default_factory=dict)


def _damage(country: str, folder: Path, number: int) -> Delivery:
    site = _base(country, folder)
    adapter = load_adapter(country)
    tables = _files(site, adapter)
    files = {table[0].raw.name: max(table, key=lambda file: len(file.rows)) for table in tables}
    others = {
        table[0].raw.name: sum(len(file.rows) for file in table) - len(files[table[0].raw.name].rows)
        for table in tables
    }
    planter = Planter(number + 1)
    damages: dict[str, list[Damage]] = {name: [] for name in files}
    companions: dict[str, list[str]] = {name: [] for name in files}
    # The first table of people says who they are: each damaged row of another table has its person there.
    people = next(file for file in files.values() if file.raw.id_column is not None)
    identity = people.place(people.raw.id_column) or 0
    known = {row[identity]: row for row in reversed(people.rows) if len(row) == len(people.names)}
    for name, file in files.items():
        place = file.place(file.raw.id_column)
        for damage, who in planter.damages(file):
            damages[name].append(damage)
            person = "" if place is None else file.rows[damage.template][place]
            if file is not people and who is not None and person in known:
                cells = list(known[person])
                cells[identity] = who
                companions[people.raw.name].append(people.line(cells))
    rows_in = {}
    for name, file in files.items():
        encoding = file.options["encoding"]
        parts = [file.line(row).encode(encoding) for row in file.rows]
        row = len(parts)
        assert row == len(physical_lines(b"\n".join(parts), encoding))
        parts += [line.encode(encoding, "replace") for line in companions[name]]
        row += len(companions[name])
        for damage in damages[name]:
            parts.append(damage.content)
            lines = len(physical_lines(damage.content, encoding))
            damage.rows = list(range(row + 1, row + lines + 1))
            row += lines
        file.write(parts)
        rows_in[name] = len(physical_lines(_content(file.path), encoding)) - file.raw.header_lines
        assert rows_in[name] == row
        rows_in[name] += others[name]
    return Delivery(country, folder, site, adapter, files, damages, rows_in)


@pytest.fixture(scope="module")
def deliveries(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Delivery]:
    folder = tmp_path_factory.mktemp("damaged")
    return {country: _damage(country, folder / country, n) for n, country in enumerate(COUNTRIES)}


@pytest.fixture(scope="module")
def engine_log(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What Spark would log, as jobs/log4j2.properties has it, also in a file."""
    path = tmp_path_factory.mktemp("log") / "engine.log"
    log4j = spark.sparkContext._jvm.org.apache.logging.log4j
    context = log4j.LogManager.getContext(False)
    configuration = context.getConfiguration()
    layout = log4j.core.layout.PatternLayout.newBuilder().withPattern("%p %c %m%n%ex{0}").build()
    builder = log4j.core.appender.FileAppender.newBuilder()
    appender = builder.setName("told").withFileName(str(path)).setLayout(layout).build()
    appender.start()
    configuration.getRootLogger().addAppender(appender, log4j.Level.ERROR, None)
    context.updateLoggers()
    yield path
    configuration.getRootLogger().removeAppender("told")
    context.updateLoggers()
    appender.stop()


def _stored(delivery: Delivery, table: str) -> list[dict[str, Any]]:
    """The rows of a table of a warehouse in which each table was written once."""
    if table not in delivery.read:
        files = sorted((Path(delivery.site.warehouse) / "conformed" / table).glob("*.parquet"))
        delivery.read[table] = [row for file in files for row in pq.read_table(file, partitioning=None).to_pylist()]
    return delivery.read[table]


def _places(delivery: Delivery, table: str, file: File) -> set[int]:
    """The rows of a file that have something in a table."""
    return {row["source_row"] for row in _stored(delivery, table) if row["source_file"] == file.path.name}


def _is_seen(text: str) -> bool:
    return TOKEN.search(text) is not None


def _ensure_unseen(delivery: Delivery, printed: str, caplog: pytest.LogCaptureFixture, engine_log: Path) -> None:
    assert not _is_seen(printed)
    assert not _is_seen(caplog.text)
    assert not _is_seen(engine_log.read_text())
    for file in Path(delivery.site.out).rglob("*"):
        assert not _is_seen(file.name)
        assert file.is_dir() or not _is_seen(file.read_text(errors="replace")), file.name
    for file in Path(delivery.site.warehouse).rglob("*"):
        assert not _is_seen(str(file.relative_to(delivery.folder)))


def test_there_are_two_thousand_damages(deliveries: dict[str, Delivery]) -> None:
    assert sum(len(rows) for one in deliveries.values() for rows in one.damages.values()) >= 2_000
    assert {"norway", "tcga_brca", "conformed"} <= set(deliveries)


@pytest.mark.parametrize("country", COUNTRIES)
def test_damaged_rows_are_held_back_and_nothing_is_shown(
    country: str,
    deliveries: dict[str, Delivery],
    engine_log: Path,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A row whose damage nobody could read over has a reason and stands in no table; every row is accounted for."""
    delivery = deliveries[country]
    # Rules that a share of the rows may break are broken by so many damages, and lines of a life table leave gaps.
    tolerant = {rule.name for one in EXPECTATIONS.values() for rule in one.rules if rule.share} | {WITHOUT_GAPS}

    def without_tolerant(judged: dict[str, list[RuleOutcome]], shown_at: str) -> None:
        strict = {table: [one for one in outcomes if one.rule not in tolerant] for table, outcomes in judged.items()}
        raise_if_critical(strict, shown_at)

    monkeypatch.setattr("jobs.pipeline.raise_if_critical", without_tolerant)
    with caplog.at_level(logging.INFO):
        code = main(["ingest", "--site", str(delivery.folder / "site.yaml")])
    printed = "".join(capfd.readouterr())
    assert code == 0, printed
    _ensure_unseen(delivery, printed, caplog, engine_log)
    ledger = {row["raw_table"]: row for row in _stored(delivery, "ledger")}
    ends = ("rows_accepted", "rows_quarantined", "rows_duplicate", "rows_suppressed")
    filled = [name for name in ("person_claims", *CONFORMED) if name != "person" or country == "conformed"]
    wrong: list[tuple[str, str, str]] = []
    seen = False
    for name, rows in delivery.rows_in.items():
        assert ledger[name]["rows_in"] == sum(ledger[name][end] for end in ends) == rows, name
        file = delivery.files[name]
        held = _places(delivery, f"quarantine_{name}", file)
        taken = {table: _places(delivery, table, file) for table in filled}
        seen = seen or any(taken.values())
        for damage in delivery.damages[name]:
            damaged = set(damage.rows)
            wrong += [(table, name, damage.kind) for table, places in taken.items() if places & damaged & held]
            if damage.outcome != HELD:
                continue
            wrong += [(table, name, damage.kind) for table, places in taken.items() if places & damaged]
            # Without identifiers two damaged rows may be the same row twice.
            if file.raw.id_column and damaged - held:
                wrong.append(("", name, damage.kind))
    assert sorted(set(wrong)) == []
    assert seen


FILES: dict[str, Callable[[bytes, str], bytes]] = {
    "empty": lambda text, separator: b"",
    "blank lines": lambda text, separator: b"\n\n \n",
    "binary": lambda text, separator: bytes(range(256)) * 20,
    "Parquet": lambda text, separator: b"PAR1" + text,
    "UTF-16": lambda text, separator: text.decode("utf-8", "replace").encode("utf-16"),
    "NUL in the header": lambda text, separator: text[:3] + b"\0" + text[3:],
    "not in its encoding": lambda text, separator: b"\xff\xfe\xfd" + text,
    "wrong separator": lambda text, separator: text.replace(separator.encode(), b"|"),
    "cut in the header": lambda text, separator: text[:5],
    "no header": lambda text, separator: text.partition(b"\n")[2],
    "a column is missing": lambda text, separator: _without_column(text, separator, 0),
    "a column twice": lambda text, separator: _twice(text, separator),
    "a million columns": lambda text, separator: text.partition(b"\n")[0] + separator.encode() * 1_000_000 + b"\n",
    "an open quote in the header": lambda text, separator: b'"' + text,
}


def _without_column(text: bytes, separator: str, place: int) -> bytes:
    lines = [line.split(separator.encode()) for line in text.split(b"\n")]
    return b"\n".join(separator.encode().join(cells[:place] + cells[place + 1 :]) for cells in lines)


def _twice(text: bytes, separator: str) -> bytes:
    head, _, rest = text.partition(b"\n")
    return head + separator.encode() + head.removeprefix(b"\xef\xbb\xbf").split(separator.encode())[0] + b"\n" + rest


def _refusal(delivery: Delivery) -> str:
    """What is said of the delivery's files as they are; empty where they are taken."""
    try:
        find_extracts(_no_session, delivery.site, delivery.adapter)
    except InputError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("country", COUNTRIES)
def test_damaged_files_are_refused_before_spark_starts(country: str, deliveries: dict[str, Delivery]) -> None:
    """One line that names the raw table and the file, and no cell."""
    delivery = deliveries[country]
    for name, file in delivery.files.items():
        whole = _content(file.path)
        text = b"\n".join(whole.split(b"\n")[:40])
        first = text.partition(b"\n")[0].removeprefix(b"\xef\xbb\xbf").decode(file.options["encoding"])
        required = file.names[0] in file.raw.columns
        try:
            for kind, damaged in FILES.items():
                if "column" in kind and "million" not in kind and not required:
                    continue
                if kind == "an open quote in the header" and not file.has_quotes:
                    continue
                if kind == "not in its encoding" and file.options["encoding"].upper() != "UTF-8":
                    continue
                content = damaged(text, file.options["sep"])
                if kind == "no header":
                    content = b"\n".join(text.split(b"\n")[file.raw.header_lines :])
                _put(file.path, content)
                said = _refusal(delivery)
                assert said.startswith(f"inputs.{name}: "), (name, kind, said)
                assert file.path.name in said, (kind, said)
                assert "\n" not in said
                assert len(said) < 300
                assert not _is_seen(said), (kind, said)
        finally:
            _put(file.path, whole)
        assert first


def test_new_columns_are_reported_and_ignored(deliveries: dict[str, Delivery]) -> None:
    for delivery in deliveries.values():
        for name, file in delivery.files.items():
            whole = _content(file.path)
            separator = file.options["sep"].encode()
            before = find_extracts(_no_session, delivery.site, delivery.adapter)[name].unknown_columns
            try:
                head, _, rest = whole.partition(b"\n")
                _put(file.path, head + separator + b"brand_new" + separator + b"a.b`c\n" + rest)
                after = find_extracts(_no_session, delivery.site, delivery.adapter)[name].unknown_columns
            finally:
                _put(file.path, whole)
            assert set(after) - set(before) == {"brand_new", "a.b`c"}


def _people(folder: Path, columns: dict[str, pa.Array], name: str = "person") -> Site:
    folder.mkdir(exist_ok=True)
    pq.write_table(pa.table(columns), folder / f"{name}.parquet")
    (folder / "tumour.csv").write_text("person_id,tumour_id,diagnosis_date,icd10\n")
    inputs = {"person": {"path": str(folder / "*.parquet"), "format": "parquet"},
              "tumour": {"path": str(folder / "tumour.csv")}}  # fmt: skip
    return Site.model_validate({"country": "conformed", "warehouse": str(folder / "warehouse"), "inputs": inputs})


def test_a_column_of_parquet_that_is_no_text(tmp_path: Path) -> None:
    good = {
        "person_id": pa.array(["p1"]), "sex": pa.array(["female"]), "birth_date": pa.array([date(1950, 1, 2)]),
    }  # fmt: skip
    adapter = load_adapter("conformed")
    assert find_extracts(_no_session, _people(tmp_path / "good", good), adapter)["person"].unknown_columns == ()
    bad = {
        "sex": (pa.array([b"female"]), "sex as binary instead of text"),
        "birth_date": (pa.array([["1950"]]), "birth_date as list instead of text"),
    }
    for column, (cells, says) in bad.items():
        with pytest.raises(InputError, match=says):
            find_extracts(_no_session, _people(tmp_path / column, {**good, column: cells}), adapter)
    site = _people(tmp_path / "good", {**good, "person_id": pa.array([1])}, "person_2")
    with pytest.raises(InputError, match="person_2.parquet has the column person_id as number, other files as string"):
        find_extracts(_no_session, site, adapter)


def test_what_is_seen_only_while_reading(
    deliveries: dict[str, Delivery],
    engine_log: Path,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A second delivery onto the warehouse of the first: whatever its fault, no table changes."""
    delivery = deliveries["tcga_brca"]
    file, site = delivery.files["patient"], delivery.folder / "site.yaml"
    whole, text = {one.path: _content(one.path) for one in delivery.files.values()}, site.read_text()
    conformed = Path(delivery.site.warehouse) / "conformed"

    def tables() -> dict[str, int]:
        return {
            str(one.relative_to(conformed)): one.stat().st_mtime_ns for one in conformed.rglob("*") if one.is_file()
        }

    for one in delivery.files.values():
        one.write([one.line(row).encode(one.options["encoding"]) for row in one.rows])
    assert main(["ingest", "--site", str(site)]) == 0
    capfd.readouterr()
    before, valid = tables(), _content(file.path)
    assert before
    header, rows = file.head, file.rows
    retyped = [
        [cell if name != "vital_status" else "1" for name, cell in zip(file.names, row, strict=True)] for row in rows
    ]
    long_row = file.line([f"{MARK}999999"] * 30_000)
    packed = gzip.compress(valid, mtime=0)
    said = {
        "patient.csv": (
            "\n".join([*header, *map(file.line, rows), long_row]).encode(),
            11,
            "cannot be read to its end",
        ),
        "patient.csv.gz": (packed[: len(packed) // 2], 11, "patient.csv.gz cannot be read"),
        "patient_2.csv": ("\n".join([*header, *map(file.line, retyped)]).encode(), 12, "unknown_code:vital_status"),
    }
    try:
        for name, (content, code, says) in said.items():
            (delivery.folder / name).write_bytes(content)
            site.write_text(text.replace("path: patient.csv", f"path: {name}"))
            assert main(["ingest", "--site", str(site)]) == code
            printed = "".join(capfd.readouterr())
            assert says in printed
            assert printed.count("\n") == 1
            _ensure_unseen(delivery, printed, caplog, engine_log)
            assert tables() == before
    finally:
        site.write_text(text)
        for path, content in whole.items():
            _put(path, content)


def test_an_open_quote_before_a_last_cell(spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The row would be taken with the start of its cell, for the reader ends rows at line breaks."""
    from jobs import contents as module

    monkeypatch.setattr(module, "CHUNK", 50)  # so that lines lie across the borders of what is read at once
    adapter = load_adapter("conformed")
    rows = {
        'p1,female,"1950': 1, 'p1,female,"1950\n01"': 1, 'p1,female,"1950-01-02"': 0, 'p1,"female,1950': 0,
        'p1,female,""': 0, '"p1\nzz",female,1950': 1, '"p1\nzz,female,1950': 0, '"p1,female,1950\np2,male,1950': 0,
        'p1,"fe\nmale",1950': 0,
        'p1,female,"a,"""': 0, 'p1,female,a"b': 0, 'p1,female,"a""': 1, '"p1","female","1950"': 0,
    }  # fmt: skip
    for row, n in rows.items():
        for end in ("\n", "\r\n", ""):
            (tmp_path / "person.csv").write_bytes(f"person_id,sex,birth_date\np0,male,1950\n{row}{end}".encode())
            (tmp_path / "tumour.csv").write_text("person_id,tumour_id,diagnosis_date,icd10\n")
            inputs = {name: {"path": str(tmp_path / f"{name}.csv")} for name in ("person", "tumour")}
            site = Site.model_validate({"country": "conformed", "warehouse": "w", "inputs": inputs})
            found = find_extracts(_no_session, site, adapter)
            if n:
                with pytest.raises(InputError, match="person: in 1 row of person.csv the quote of the first or last"):
                    module.with_contents(spark, found, None)
            else:
                module.with_contents(spark, found, None)
