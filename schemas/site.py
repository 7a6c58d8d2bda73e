"""Tables about a delivery and about runs."""

from dataclasses import replace

from schemas.contract import LINEAGE, PERSON_ID, Column, Table, precision_of

ledger = Table(
    name="ledger",
    layer="site",
    grain="one row per delivery x raw table",
    key=("delivery", "raw_table"),
    may_be_empty=False,
    columns=(
        Column("raw_table", "string", "name of the input in the site file", nullable=False),
        Column("delivery", "string", "delivery date, YYYY-MM-DD", nullable=False),
        Column("rows_in", "bigint", "rows read", nullable=False),
        Column("rows_accepted", "bigint", "rows that reached the conformed tables", nullable=False),
        Column("rows_quarantined", "bigint", "rows held back with their reasons", nullable=False),
        Column("rows_duplicate", "bigint", "exact repetitions of an earlier row", nullable=False),
        Column("rows_suppressed", "bigint", "rows of people who were erased, kept nowhere", nullable=False),
    ),
)

unknown_codes = Table(
    name="unknown_codes",
    layer="site",
    grain="one row per delivery x raw table x column x code without a meaning in the adapter",
    key=("delivery", "raw_table", "column", "code"),
    columns=(
        Column("raw_table", "string", "name of the input in the site file", nullable=False),
        Column("column", "string", "column of the raw table", nullable=False),
        Column("code", "string", "the code as delivered", nullable=False),
        Column("n", "bigint", "accepted rows with it", nullable=False),
        Column("delivery", "string", "delivery date, YYYY-MM-DD", nullable=False),
    ),
)

quarantine = Table(
    name="quarantine",
    layer="site",
    grain="one row per raw row held back",
    key=("delivery", "source_file", "source_row"),
    columns=(
        replace(PERSON_ID, nullable=True, doc=f"{PERSON_ID.doc}; NULL: the row does not tell whose it is"),
        Column("reasons", "array<string>", "codes of every reason, sorted; malformed_row stands alone", nullable=False),
        Column("row", "string", "the row as JSON, identifiers replaced by pseudonyms; {}: no cell of it is kept"),
        *LINEAGE,
    ),
)

runs = Table(
    name="runs",
    layer="site",
    grain="one row per run x stage",
    key=("run", "stage"),
    columns=(
        Column("run", "string", "fingerprint of the run: inputs, configuration, code", nullable=False),
        Column("study", "string", "name of the study; '' for ingest", nullable=False),
        Column("stage", "string", "stage", nullable=False),
        Column("fingerprint", "string", "fingerprint of the stage", nullable=False),
        Column("outcome", "string", "done or unchanged", nullable=False, codes=("done", "unchanged")),
        Column("tables", "string", "JSON: table -> version written or found", nullable=False),
        Column("rows", "bigint", "rows of its tables", nullable=False),
    ),
)

person_claims = Table(
    name="person_claims",
    layer="site",
    grain="what one row of a source says of a person; jobs/persons.py makes the table person of it",
    key=("person_id", "priority", "source_file", "source_row", "delivery"),
    columns=(
        PERSON_ID,
        Column("priority", "int", "rank of the source, the lowest is believed first", nullable=False),
        Column("sex", "string", "registered sex", codes=("female", "male")),
        Column("birth_date", "date", "date of birth"),
        precision_of("birth_date"),
        Column("death_date", "date", "date of death; known to the month: any day of it"),
        precision_of("death_date"),
        Column("emigration_date", "date", "last day as a resident, or last day observed; NULL: resident"),
        Column("region", "string", "health region of residence"),
        Column("last_contact", "date", "last day on which the source saw the person alive"),
        *LINEAGE,
    ),
)

suppressions = Table(
    name="suppressions",
    layer="site",
    grain="one row per erased person",
    key=("suppression",),
    columns=(
        Column(
            "suppression",
            "string",
            "hash of the pseudonym, so that the person is known again and named nowhere",
            nullable=False,
        ),
    ),
)

profile = Table(
    name="profile",
    layer="site",
    grain="one row per delivery x raw table x column x what stands there",
    key=("delivery", "raw_table", "column", "code"),
    columns=(
        Column("delivery", "string", "delivery date, YYYY-MM-DD", nullable=False),
        Column("raw_table", "string", "name of the input in the site file", nullable=False),
        Column("column", "string", "column of the raw table", nullable=False),
        Column("code", "string", "(empty), a code with a meaning, or (other): codes without one", nullable=False),
        Column("n", "bigint", "rows read with it", nullable=False),
    ),
)

SITE = {table.name: table for table in (ledger, unknown_codes, profile, runs, person_claims, suppressions)}
