"""One drawn history per rule of docs/treatment_lines.md: what is given on which days, and the lines that follow.

Days count from the index. T trastuzumab, P pertuzumab, K trastuzumab emtansine, U tucatinib; `q` every 21 days.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

INDEX, END = date(2015, 6, 1), 800
SHORT = {"T": "trastuzumab", "P": "pertuzumab", "K": "trastuzumab_emtansine", "U": "tucatinib", "L": "lapatinib"}
Given = list[tuple[str, int, int, int]]


def q(substances: str, first: int, last: int, step: int = 21) -> Given:
    return [(s, day, day, day + 21) for s in substances for day in range(first, last + 1, step)]


def once(substance: str, day: int, cover: int = 21) -> Given:
    return [(substance, day, day, day + cover)]


def period(substance: str, first: int, last: int) -> Given:
    return [(substance, first, last, last + 21)]


@dataclass(frozen=True)
class Drawn:
    rule: str
    given: Given
    lines: list[tuple[str, int, int, str, str]]  # regimen, start, end, reason, next state
    end: int = END
    end_reason: str = "study_end"


LATE = 790
CASES = [
    Drawn("a leftover within the window is not part of the line", q("TP", 10, 199) + q("K", 206, LATE) + once("T", 213),
          [("PT", 10, 206, "switch", "next_line"), ("K", 206, 794, "study_end", "alive")]),
    Drawn("an excluding substance that joins removes what it excludes", once("T", 10) + q("K", 25, LATE),
          [("K", 10, 800, "study_end", "alive")]),
    Drawn("one dose of another drug in the middle", q("TP", 10, 115) + once("K", 100) + q("TP", 136, LATE),
          [("PT", 10, 100, "switch", "next_line"), ("K", 100, 136, "switch", "next_line"),
           ("PT", 136, 800, "study_end", "alive")]),
    Drawn("a substance of a new line may come within its window", q("K", 0, 126)
          + [("U", day, day, day + 30) for day in range(120, LATE, 28)] + q("T", 147, LATE),
          [("K", 0, 120, "switch", "next_line"), ("TU", 120, 798, "study_end", "alive")]),
    Drawn("a held substance that goes on rejoins after the window, a week late",
          q("T", 15, 99) + [("U", day, day, day + 30) for day in range(100, LATE, 28)] + q("T", 129, LATE),
          [("T", 15, 100, "switch", "next_line"), ("TU", 100, 800, "study_end", "alive")]),
    Drawn("periods: the new one excludes the old", period("T", 10, 200) + period("K", 195, 300),
          [("T", 10, 195, "switch", "next_line"), ("K", 195, 321, "gap", "alive")]),
    Drawn("periods: the old one goes on beside the new", period("T", 10, 400) + period("U", 195, 400),
          [("T", 10, 195, "switch", "next_line"), ("TU", 195, 421, "gap", "alive")]),
    Drawn("the window's last day is part of it", q("T", 0, LATE) + q("P", 28, LATE),
          [("PT", 0, 800, "study_end", "alive")]),
    Drawn("a companion may come after the window", q("T", 0, LATE) + q("P", 35, LATE),
          [("PT", 0, 798, "study_end", "alive")]),
    Drawn("a companion may come on its last day", q("T", 0, LATE) + q("P", 90, LATE),
          [("PT", 0, 800, "study_end", "alive")]),
    Drawn("a companion that comes too late starts a line", q("T", 0, LATE) + q("P", 91, LATE),
          [("T", 0, 91, "switch", "next_line"), ("PT", 91, 800, "study_end", "alive")]),
    Drawn("an addition long after the start is a new line", q("T", 0, LATE) + q("P", 700, LATE),
          [("T", 0, 700, "switch", "next_line"), ("PT", 700, 800, "study_end", "alive")]),
    Drawn("carry-in: the end of adjuvant treatment is no line", q("T", -220, -31) + once("T", 11) + once("T", 32)
          + q("K", 53, LATE), [("K", 53, 800, "study_end", "alive")]),
    Drawn("no carry-in where the next line comes late", q("T", -220, 95) + q("K", 95, LATE),
          [("T", 11, 95, "switch", "next_line"), ("K", 95, 800, "study_end", "alive")]),
    Drawn("treatment starts days before the registered index", q("TP", -10, LATE),
          [("PT", -10, 800, "study_end", "alive")]),
    Drawn("a dose before the lead is out", once("T", -29) + q("U", 5, 26), [("U", 5, 47, "gap", "alive")]),
    Drawn("the lead's first day is in", once("T", -28), [("T", -28, -7, "gap", "alive")]),
    Drawn("89 uncovered days are no gap", once("T", 0) + once("T", 110), [("T", 0, 131, "gap", "alive")]),
    Drawn("90 uncovered days are a gap", once("T", 0) + once("T", 111),
          [("T", 0, 21, "gap", "next_line"), ("T", 111, 132, "gap", "alive")]),
    Drawn("less than a gap before the end: too early to tell", once("T", 690), [("T", 690, 711, "study_end", "alive")]),
    Drawn("a gap's length before the end: stopped", once("T", 689), [("T", 689, 710, "gap", "alive")]),
    Drawn("death under treatment", q("T", 0, 90), [("T", 0, 95, "death", "died")], 95, "death"),
    Drawn("death after a gap", q("T", 0, 42), [("T", 0, 63, "gap", "died")], 400, "death"),
    Drawn("emigration", q("T", 0, 90), [("T", 0, 95, "emigration", "emigrated")], 95, "emigration"),
    Drawn("a second cancer", q("T", 0, 90), [("T", 0, 95, "second_cancer", "second_cancer")], 95, "second_cancer"),
    Drawn("the sources stop", q("T", 0, 90), [("T", 0, 95, "information_end", "information_end")], 95,
          "information_end"),
    Drawn("a line on the last day has no length", once("T", 95), [("T", 95, 95, "death", "died")], 95, "death"),
    Drawn("what comes after the end does not count", once("T", 96), [], 95, "death"),
    Drawn("nothing given", [], []),
]  # fmt: skip
