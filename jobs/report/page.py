"""The report: one HTML file from frames, tables of counts and the manifest. It loads nothing and runs nothing."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import pandas as pd
from markupsafe import Markup

from jobs.report.charts import survival_chart, year_chart
from jobs.report.models import first_line_table, hazard_table, next_table, untreated_tables
from jobs.report.printed import HEAD, Column, Table, count, counted, days, level_name, share, spaced, variable_name
from jobs.report.sankey import ENDS, flows, sankey
from jobs.report.template import template
from jobs.survival.curves import Slice, median_row, net_left_out, net_rows, survival_curves, whole_years
from jobs.survival.kaplan_meier import Curve
from jobs.survival.net import ESTIMATORS
from jobs.survival.tables import characteristics, drug_uptake, line_durations, line_starts, line_transitions
from schemas.frames import ALL, GROUPS, PRIMARY, UNTREATED

if TYPE_CHECKING:
    from jobs.config import RuleSet, Study

TOP_REGIMENS = 6
TOP_FLOW_REGIMENS = 4
TOP_SUBSTANCES = 12
NET_YEARS = (1, 3, 5, 10)
FORMAL_CODE = re.compile(r"[A-Z][A-Z0-9]{1,9}")


def render_report(
    frames: Mapping[str, pd.DataFrame],
    small: Mapping[str, pd.DataFrame],
    manifest: Mapping[str, Any],
    study: Study,
    synthetic: bool,
) -> str:
    """The page as text.

    `frames` by name of schemas.FRAMES; `small` may have ledger, unknown_codes, unresolved_codes, line_counts;
    `manifest` as jobs.manifest.Manifest.as_dict gives it. The same arguments give the same text.
    """
    time = frames["frame_time"]
    primary = time["rule_set"] == PRIMARY
    index_curves = survival_curves(time, study, "overall_survival")
    line_curves, duration_curves = (
        {
            key: curve
            for key, curve in survival_curves(time[primary & (time["regimen"] == ALL)], study, outcome).items()
            if key.rule_set == PRIMARY
        }
        for outcome in ("survival_from_line", "line_duration")
    )
    durations = _durations(time, study)
    starts = line_starts(frames["frame_lines"], study)
    transitions = line_transitions(frames["frame_lines"], study)
    described = characteristics(frames["frame_characteristics"], study)
    informed = int(transitions[(transitions["rule_set"] == PRIMARY) & (transitions["line_number"] == 0)]["n"].sum())
    until = max(study.survival.times_days)
    return template("report.html.j2").render(
        title=study.title or spaced(study.name),
        study=study,
        synthetic=synthetic,
        manifest=manifest,
        level=f"{100 * study.survival.level:g} %",
        figures=_figures(frames["frame_attrition"], starts, informed, study),
        attrition=_attrition(frames["frame_attrition"]),
        characteristics=_characteristics(described),
        untreated=_untreated(described, study),
        informed=f"{informed:,}",
        flow=_flow(transitions, durations, study, informed),
        flow_table=_flow_table(transitions, study),
        lines=_lines(starts, durations, informed, study),
        gap=_gap(study.rule_sets[PRIMARY]),
        duration_charts=_line_charts("Still on line {}", duration_curves, until),
        index_charts=_index_charts(index_curves, study, until),
        line_charts=_line_charts("Survival from the start of line {}", line_curves, until),
        compares_treated="treated" in study.strata,
        medians=_medians({**index_curves, **line_curves}),
        first_line=first_line_table(time, study) if study.survival.lines else None,
        what_next=next_table(time, study) if study.survival.lines else None,
        hazards=hazard_table(frames["frame_patterns"], study),
        untreated_models=untreated_tables(frames["frame_patterns"], study),
        net=_net_survival(frames["frame_net_survival"], study),
        net_left_out=_net_left_out(frames["frame_net_survival"]),
        uptake=_uptake(frames["frame_uptake"], study),
        sensitivity=_sensitivity(starts, durations, study),
        ledger=_ledger(small.get("ledger")),
        unknown=_unknown_codes(small.get("unknown_codes")),
        expectations=counted(len(manifest["warnings"]), "expectation does", "expectations do"),
        unresolved=_unresolved_codes(small.get("unresolved_codes"), study),
        counted=_line_counts(small.get("line_counts")),
        provenance=_provenance(manifest),
    )


def _regimen(name: str, study: Study) -> str:
    return "all regimens" if name == ALL else study.regimen_names.get(name, name.replace("_", " "))


def _days(value: float) -> str:
    return "not reached" if pd.isna(value) else days(value)


def _with_limits(row: Any) -> str:
    if row.n == 0 or pd.isna(row.median_days):
        return str(row.reason)
    return f"{_days(row.median_days)} ({_days(row.lower)} to {_days(row.upper)})"


def _gap(rules: RuleSet) -> int:
    return max([rules.gap_days, *rules.gap_days_by_substance.values()])


def _of_primary(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["rule_set"] == PRIMARY]


def _durations(time: pd.DataFrame, study: Study) -> pd.DataFrame:
    """Durations of what is shown: every regimen of the primary rule set, all together of the others."""
    shown = time[(time["rule_set"] == PRIMARY) | (time["regimen"] == ALL)]
    return line_durations(shown, study, survival_curves(shown, study, "line_duration"))


def _figures(attrition: pd.DataFrame, starts: pd.DataFrame, informed: int, study: Study) -> list[tuple[str, str]]:
    whole = _of_primary(starts[starts["regimen"] == ALL]).sort_values("line_number")
    people = int(attrition.sort_values("step")["persons"].iloc[-1])
    return [
        (count(people), "people in the study"),
        (count(informed), "with treatment information"),
        *((count(row.n), f"started line {row.line_number}") for row in whole.head(study.survival.lines).itertuples()),
    ]


def _attrition(frame: pd.DataFrame) -> Table:
    rows, before = [], None
    for row in frame.sort_values("step").itertuples():
        left_out = "" if before is None else count(before - row.persons)
        rows.append([row.label, count(row.persons), left_out, count(row.rows)])
        before = row.persons
    columns = [Column("who remains", False), Column("people"), Column("left out by this step"), Column("tumours")]
    return Table("People and tumours that remain after each step of the selection.", columns, rows)


def _characteristics(table: pd.DataFrame) -> Table:
    people = {group: int(of["denominator"].iloc[0]) for group, of in table.groupby("group")}
    groups = [ALL, *GROUPS]
    cells = {(row.group, row.variable, row.level): row for row in table.itertuples()}
    rows: list[list[str]] = []
    of_everyone = table[(table["group"] == ALL) & (table["variable"] != ALL)]
    for variable, levels in of_everyone.groupby("variable", sort=False)["level"]:
        if variable == "age_at_index":
            of_group = [[cells[group, variable, level].value for level in QUARTILE_LEVELS] for group in groups]
            said = ["–" if pd.isna(middle) else f"{middle:g} ({low:g} to {high:g})" for low, middle, high in of_group]
            rows.append(["age at index, median (quartiles)", *said])
            continue
        rows.append([HEAD, variable_name(variable)])
        for level in levels:
            counts = [(cells[group, variable, level].n, people[group]) for group in groups]
            rows.append([level_name(level), *(f"{count(n)} ({share(n, of)})" for n, of in counts)])
    columns = [Column("", False), *(Column(f"{level_name(group)}, n = {people.get(group, 0):,}") for group in groups)]
    caption = (
        "People of the study, by whether they have a line under the primary rule set. Percentages are of the column."
    )
    return Table(caption, columns, rows)


QUARTILE_LEVELS = ("lower_quartile", "median", "upper_quartile")


def _untreated(table: pd.DataFrame, study: Study) -> str:
    """How many of those without an evident reason not to be treated were not."""
    at_most = study.age_groups.at_most
    wanted = table[(table["variable"] == f"at_most_{at_most}_without_comorbidity") & (table["level"] == "yes")]
    n = wanted.set_index("group")["n"]
    if at_most is None or wanted.empty or not n["treated"] + n[UNTREATED]:
        return ""
    of = n["treated"] + n[UNTREATED]
    return (
        f"Of {of:,} people with treatment information who were at most {at_most} years old and had a Charlson index of "
        f"0, {n[UNTREATED]:,} ({share(n[UNTREATED], of)}) have no line."
    )


def _flow(transitions: pd.DataFrame, durations: pd.DataFrame, study: Study, informed: int) -> Markup:
    of_lines = _of_primary(durations)
    medians = {
        (int(row.line_number), str(row.regimen)): f"median {days(row.median_days)} d"
        for row in of_lines.itertuples()
        if row.n and not pd.isna(row.median_days)
    }
    table = flows(_of_primary(transitions), study.survival.lines, TOP_FLOW_REGIMENS)
    return sankey(table, lambda name: _regimen(name, study), medians, "with treatment information" if informed else "")


def _flow_table(transitions: pd.DataFrame, study: Study) -> Table:
    columns = ["regimen", "people", "next line", *ENDS.values()]
    rows = []
    wanted = _of_primary(transitions)
    for number, of_line in wanted[wanted["line_number"] <= study.survival.lines].groupby("line_number"):
        rows.append([HEAD, f"line {number}" if number else "index"])
        by_state = of_line.groupby(["regimen", "next_state"])["n"].sum().unstack(fill_value=0)
        by_state = by_state.assign(n=by_state.sum(axis=1)).sort_values("n", ascending=False, kind="stable")
        for regimen, counts in by_state.iterrows():
            said = {"": "went on to line 1", UNTREATED: UNTREATED}.get(regimen) or _regimen(regimen, study)
            states = [count(counts.get(state, 0)) for state in ("next_line", *ENDS)]
            rows.append([said, count(counts["n"]), *states])
    named = [Column(name, place > 0) for place, name in enumerate(columns)]
    return Table("What came after each line, all regimens.", named, rows)


def _lines(starts: pd.DataFrame, durations: pd.DataFrame, informed: int, study: Study) -> Table:
    timed = {(row.line_number, row.regimen): row for row in _of_primary(durations).itertuples()}
    rows: list[list[str]] = []
    for number, of_line in _of_primary(starts).groupby("line_number"):
        if number > study.survival.lines:
            continue
        whole = int(of_line.loc[of_line["regimen"] == ALL, "n"].iloc[0])
        said = f"{count(whole)} people, {share(whole, informed)} of those with treatment information"
        rows.append([HEAD, f"Line {number}: {said}"])
        for row in of_line.head(TOP_REGIMENS + 1).itertuples():
            time = timed.get((number, row.regimen))
            if time is None or not row.n:
                continue
            cells = [_with_limits(time), count(time.events), count(time.n_left_out), _days(time.median_naive_days)]
            rows.append([_regimen(row.regimen, study), count(row.n), share(row.n, whole), *cells])
        rest = of_line.iloc[TOP_REGIMENS + 1 :]
        if len(rest):
            n = rest["n"].sum()
            rows.append(
                [counted(len(rest), "other regimen", "other regimens"), count(n), share(n, whole), "", "", "", ""]
            )
    columns = [
        Column("regimen", False),
        Column("started"),
        Column("of the line"),
        Column("Kaplan-Meier median days (limits)"),
        Column("ends observed"),
        Column("too late to judge"),
        Column("plain median days"),
    ]
    return Table("Lines of the primary rule set and how long they lasted.", columns, rows)


def _index_charts(curves: Mapping[Slice, Curve], study: Study, until: float) -> list[dict[str, Any]]:
    charts = []
    for stratum in (ALL, *study.strata):
        shown = [(level_name(key.level), curve) for key, curve in curves.items() if key.stratum == stratum and curve.n]
        if shown:
            title = "Survival from index" + ("" if stratum == ALL else f", by {variable_name(stratum)}")
            charts.append({"title": title, "stratum": stratum, "svg": survival_chart(title, shown, until)})
    return charts


def _line_charts(title: str, curves: Mapping[Slice, Curve], until: float) -> list[dict[str, Any]]:
    return [
        {
            "title": title.format(key.line_number),
            "svg": survival_chart(title.format(key.line_number), [("everyone", curve)], until),
        }
        for key, curve in curves.items()
        if curve.n
    ]


def _medians(curves: Mapping[Slice, Curve]) -> Table:
    rows: list[list[str]] = []
    heading = ""
    table = pd.DataFrame([{**asdict(key), **median_row(curve)} for key, curve in curves.items()])
    for row in table.itertuples():
        name, said = level_name(row.level), "from index"
        if row.line_number:
            name, said = f"line {row.line_number}", "from the start of"
        if not row.line_number and row.stratum != ALL:
            said = f"from index: {variable_name(row.stratum)}"
        if said != heading:
            rows.append([HEAD, said])
        heading = said
        rows.append([name, count(row.n), count(row.events), _with_limits(row)])
    columns = [Column("", False), Column("people"), Column("deaths"), Column("median days (limits)")]
    return Table("Median survival, Kaplan-Meier.", columns, rows)


def _net_survival(frame: pd.DataFrame, study: Study) -> Table | None:
    """Pohar Perme's estimate after some whole years, or nothing where the study asks for none."""
    years = {year: day for year, day in whole_years(frame).items() if year in NET_YEARS}
    table = pd.DataFrame(net_rows(frame, study))
    if table.empty or not years:
        return None
    table = table[(table["estimator"] == ESTIMATORS[0]) & (table["outcome"] == "net_survival")]
    rows: list[list[str]] = []
    heading = ALL
    for (stratum, level), of_level in table.groupby(["stratum", "level"], sort=False):
        at = of_level.drop_duplicates("time_days").set_index("time_days")
        said = []
        for day in years.values():
            point = at.loc[day]
            limits = f"{100 * point.estimate:.1f} ({100 * point.lower:.1f} to {100 * point.upper:.1f})"
            said.append("–" if pd.isna(point.estimate) else f"{limits}; {count(point.at_risk)}")
        if stratum != heading:
            rows.append([HEAD, variable_name(stratum)])
        heading = stratum
        rows.append([level_name(level), count(at["n"].iloc[0]), count(at["events"].iloc[0]), *said])
    after = [Column(f"{year} year{'s' * (year > 1)}, %") for year in years]
    columns = [Column("", False), Column("people"), Column("deaths"), *after]
    caption = "Net survival after whole years in percent (limits); how many were still at risk. Pohar Perme."
    return Table(caption, columns, rows)


def _net_left_out(frame: pd.DataFrame) -> str:
    """Who of all people is not in the net survival of everyone, and why."""
    everyone = (frame["outcome"] == "net_survival") & (frame["stratum"] == ALL) & (frame["level"] == ALL)
    return "; ".join(f"{count(n)} {why}" for why, n in net_left_out(frame[everyone]).items())


def _uptake(frame: pd.DataFrame, study: Study) -> dict[str, Any]:
    table = drug_uptake(frame, study)
    ever = table.groupby("substance")["n"].sum()
    common = sorted((name for name in ever.index if ever[name]), key=lambda name: (-ever[name], name))
    shares: dict[str, dict[int, float | None]] = {
        name: {int(row.year): row.n / row.denominator if row.denominator else None for row in of.itertuples()}
        for name, of in table.groupby("substance")
    }
    top = max([of_year for name in common for of_year in shares[name].values() if of_year is not None], default=0.0)
    panels = [
        {
            "title": spaced(name),
            "n": count(ever[name]),
            "svg": year_chart(f"{spaced(name)} by year", shares[name], top),
        }
        for name in common[:TOP_SUBSTANCES]
    ]
    counts = {(row.year, row.substance): row for row in table.itertuples()}
    people = table.groupby("year")["denominator"].max()
    rows = [
        [str(year), count(people[year]), *(count(counts[year, name].n) for name in common)] for year in people.index
    ]
    columns = [Column("year of index", False), Column("people"), *(Column(spaced(name)) for name in common)]
    return {"panels": panels, "table": Table("People who ever start each drug in a line.", columns, rows)}


def _sensitivity(starts: pd.DataFrame, durations: pd.DataFrame, study: Study) -> Table:
    numbers = range(1, study.survival.lines + 1)
    started = {(row.rule_set, row.line_number): row.n for row in starts[starts["regimen"] == ALL].itertuples()}
    timed = {(row.rule_set, row.line_number): row for row in durations[durations["regimen"] == ALL].itertuples()}
    rows = []
    for name, rules in study.rule_sets.items():
        counts = [count(started.get((name, number), 0)) for number in numbers]
        medians = [_with_limits(timed[name, number]) for number in numbers[:2]]
        gaps = [str(rules.gap_days), _dose_to_dose(rules, study)]
        rows.append([spaced(name), _difference(rules, study.rule_sets[PRIMARY]), *gaps, *counts, *medians])
    columns = [
        Column("rule set", False),
        Column("what differs", False),
        Column("gap in uncovered days"),
        Column("from infusion to infusion"),
        *(Column(f"started line {number}") for number in numbers),
        *(Column(f"median days on line {number} (limits)") for number in numbers[:2]),
    ]
    return Table("How the numbers depend on the rules: the same people, other rule sets.", columns, rows)


def _dose_to_dose(rules: RuleSet, study: Study) -> str:
    """The gap counted from one infusion to the next: with the days that the first of them covers."""
    usual = study.exposure.coverage_days
    by_substance = {
        rules.coverage_days.get(name, rules.coverage_days.get("default", usual.get(name, usual.get("default", 21))))
        for name in study.drugs.line_defining
    }
    extremes = {min(by_substance), max(by_substance)} if by_substance else set()
    return " to ".join(str(rules.gap_days + days) for days in sorted(extremes))


def _difference(rules: RuleSet, primary: RuleSet) -> str:
    said = []
    for name in type(rules).model_fields:
        value = getattr(rules, name)
        if value != getattr(primary, name):
            shown = sorted(set(value.values())) if isinstance(value, dict) and value else value
            text = ", ".join(str(part) for part in shown) if isinstance(shown, list) else str(shown)
            said.append(f"{spaced(name)} {text}")
    return "; ".join(said)


def _ledger(table: pd.DataFrame | None) -> Table:
    rows = []
    counts = ["rows_in", "rows_accepted", "rows_quarantined", "rows_duplicate", "rows_suppressed"]
    if table is not None:
        for raw_table, part in table.groupby("raw_table"):
            rows.append([raw_table, *map(count, part[counts].sum())])
    columns = [Column("raw table", False), *map(Column, ("rows in", "accepted", "held back", "repeated", "erased"))]
    return Table(
        "Every raw row of all deliveries: accepted, held back with its reasons, an exact repetition of another, or of "
        "an erased person.",
        columns,
        rows,
    )


def _unknown_codes(table: pd.DataFrame | None) -> Table:
    rows = []
    if table is not None:
        for (raw_table, column), part in table.groupby(["raw_table", "column"]):
            rows.append([raw_table, column, count(part["code"].nunique()), count(part["n"].sum())])
    columns = [Column("raw table", False), Column("column", False), Column("different codes"), Column("rows")]
    return Table("Codes that the adapter has no meaning for; the table unknown_codes lists them.", columns, rows)


def _unresolved_codes(table: pd.DataFrame | None, study: Study) -> Table:
    """Codes are printed only if they are formal ones that enough people have: anything else may be free text."""
    rows: list[list[str]] = []
    rare: dict[tuple[str, str], list[int]] = {}
    ordered = () if table is None else table.sort_values(["n", "code"], ascending=[False, True]).itertuples()
    for row in ordered:
        is_formal = row.code_system != "name" and FORMAL_CODE.fullmatch(row.code) is not None
        if is_formal and row.persons >= study.disclosure.min_cell:
            rows.append([row.source, row.code_system, row.code, count(row.n), count(row.persons)])
        else:
            rare.setdefault((row.source, row.code_system), []).append(int(row.n))
    rows += [
        [source, system, f"{len(counts):,} not shown", count(sum(counts)), ""]
        for (source, system), counts in sorted(rare.items())
    ]
    rows = [[spaced(row[0]), *row[1:]] for row in rows]
    columns = [
        Column("source", False),
        Column("system", False),
        Column("code", False),
        Column("rows"),
        Column("people"),
    ]
    caption = (
        "Drug codes of people of the study that no substance is known for. Names, and codes of fewer than "
        f"{study.disclosure.min_cell} people, are not shown; the table unresolved_codes lists them."
    )
    return Table(caption, columns, rows)


def _line_counts(table: pd.DataFrame | None) -> Table:
    wanted: Iterable[Any] = () if table is None else _of_primary(table).itertuples()
    rows = [[spaced(row.counted), count(row.n)] for row in wanted]
    return Table("What the line rules met, primary rule set.", [Column("", False), Column("n")], rows)


def _provenance(manifest: Mapping[str, Any]) -> dict[str, Table]:
    stages = [
        [
            name,
            stage["fingerprint"][:16],
            ", ".join(f"{table} v{version}" for table, version in stage["tables"].items()),
        ]
        for name, stage in manifest["stages"].items()
    ]
    inputs = [[name, str(version), _rows_of(name, manifest)] for name, version in manifest["inputs"].items()]
    packages = [[name, version] for name, version in manifest["packages"].items()]
    text = [Column(name, False) for name in ("stage", "fingerprint", "versions of its tables")]
    return {
        "stages": Table("Stages, and the fingerprint of what each depends on.", text, stages),
        "inputs": Table(
            "Tables of this run; of frames, tables of counts, the rows are not told.",
            [Column("table", False), Column("version"), Column("rows")],
            inputs,
        ),
        "packages": Table("Packages.", [Column("package", False), Column("version", False)], packages),
    }


def _rows_of(table: str, manifest: Mapping[str, Any]) -> str:
    rows = manifest["counts"].get(table.rsplit(".", 1)[-1])
    return "–" if rows is None else count(rows)
