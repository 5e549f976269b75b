#!/usr/bin/env python3
"""What the logs of run.sh say: failures, the summaries of conformance put together, and how many checks passed.

usage: summarize.py --stage FOLDER   prints one stage
       summarize.py --total FOLDER   prints the last line for all stages; exits with 1 if a check failed
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

ROW = re.compile(
    r"^  (?P<backend>\S+) +(?P<out>\w+) +(?P<cases>\d+) +(?P<failures>\d+) +"
    r"(?P<global>\S+) \((?P<global_allowed>\S+)\) +(?P<row>\S+) \((?P<row_allowed>\S+)\) +"
    r"(?P<lse>\S+) \((?P<lse_allowed>\S+)\) +(?P<max>\S+) +(?P<entropy>\S+) +(?P<mass>\S+)$"
)
ERRORS = ("global", "row", "lse", "max", "entropy", "mass")
MOST_EXCERPTS = 6
EXCERPT_LINES = 12
MOST_SLOW = 5
LINE_LENGTH = 400
TIMED_OUT = 124  # as timeout says it


@dataclass
class Line:
    cases: int = 0
    failures: int = 0
    errors: dict[str, float] = field(default_factory=dict)
    allowed: dict[str, str] = field(default_factory=dict)


@dataclass
class Conformance:
    """The summaries of several processes that shared the cases."""

    lines: dict[tuple[str, str], Line] = field(default_factory=dict)
    notes: dict[str, int] = field(default_factory=dict)
    pairs: dict[str, str] = field(default_factory=dict)
    refused_cases: int = 0
    refused: dict[str, int] = field(default_factory=dict)

    def read(self, text: str) -> None:
        for line in text.splitlines():
            if row := ROW.match(line):
                entry = self.lines.setdefault((row["backend"], row["out"]), Line())
                entry.cases += int(row["cases"])
                entry.failures += int(row["failures"])
                for name in ERRORS:
                    value = float(row[name])
                    if not value <= entry.errors.get(name, 0.0):  # NaN is the worst
                        entry.errors[name] = value
                for name in ("global", "row", "lse"):
                    entry.allowed[name] = row[f"{name}_allowed"]
            elif found := re.match(r"^  (.+?): (\d+) cases(?:; (.*))?$", line):
                self.notes[found[1]] = self.notes.get(found[1], 0) + int(found[2])
                if found[3]:
                    self.pairs[found[1]] = re.sub(r" by .*", "", found[3])
            elif refusal := re.match(r"^  refused by \S+: (\d+) cases; (.*)$", line):
                self.refused_cases += int(refusal[1])
                for part in refusal[2].split(", "):
                    name, _, count = part.rpartition(": ")
                    self.refused[name] = self.refused.get(name, 0) + int(count)

    def print(self) -> None:
        for name, cases in self.notes.items():
            pairs = f"; {self.pairs[name]}" if name in self.pairs else ""
            print(f"   {name}: {cases} cases{pairs}")
        if self.refused_cases:
            reasons = ", ".join(f"{name}: {count}" for name, count in sorted(self.refused.items()))
            print(f"   refused: {self.refused_cases} times; {reasons}")
        if not self.lines:
            return
        print(
            "   backend OUT     cases  failures   global (allowed)  worst row (allwd)      LSE (allowed)"
            "   row max   entropy col. mass"
        )
        for (backend, out), line in sorted(self.lines.items()):
            e = {name: line.errors.get(name, 0.0) for name in ERRORS}
            a = line.allowed
            print(
                f"   {backend:7} {out:5} {line.cases:7} {line.failures:9}  {e['global']:.2e} ({a['global']})"
                f"  {e['row']:.2e} ({a['row']})  {e['lse']:.2e} ({a['lse']}) {e['max']:.2e}  {e['entropy']:.2e}"
                f"  {e['mass']:.2e}"
            )


@dataclass
class Job:
    name: str
    text: str
    status: int
    seconds: int

    def counts(self) -> tuple[int, int]:
        """Checks passed and failed: the runs of a table where there is one, else the tests."""
        runs = failures = 0
        for found in re.finditer(r"^  total: (\d+) runs, (\d+) failures$", self.text, re.M):
            runs, failures = runs + int(found[1]), failures + int(found[2])
        passed = sum(int(n) for n in re.findall(r"^\[  PASSED  \] (\d+) test", self.text, re.M))
        failed = sum(int(n) for n in re.findall(r"^\[  FAILED  \] (\d+) test", self.text, re.M))
        if ran := re.search(r"^Ran (\d+) tests? in .*\n\n(.*)$", self.text, re.M):  # unittest
            bad = sum(int(n) for n in re.findall(r"(?:failures|errors)=(\d+)", ran[2]))
            skipped = sum(int(n) for n in re.findall(r"skipped=(\d+)", ran[2]))
            passed, failed = passed + max(int(ran[1]) - bad - skipped, 0), failed + bad
        if runs:
            passed, failed = runs - failures, max(failures, failed)
        for errors in re.findall(r"^=+ ERROR SUMMARY: (\d+) error", self.text, re.M):
            failed += int(errors) > 0
        for hazards in re.findall(r"^=+ RACECHECK SUMMARY: (\d+) hazard", self.text, re.M):
            failed += int(hazards) > 0
        if self.status != 0 and failed == 0:
            failed = 1
        if self.status == 0 and passed == 0 and failed == 0:
            passed = 1
        return passed, failed

    def excerpt(self) -> list[str]:
        """The lines that say what went wrong, or the last ones."""
        if self.status == TIMED_OUT:
            return ["out of time", *self.text.splitlines()[-2:]]
        lines = self.text.splitlines()
        starts = [
            n
            for n, line in enumerate(lines)
            if ": Failure" in line or "FAILED-CASE" in line or "the device is lost" in line
            or re.match(r"^=+ +(Error|Invalid|Program hit|Warning)|^[\w.]+(Error|Exception): ", line)
        ]  # fmt: skip
        if not starts:
            return lines[-EXCERPT_LINES:]
        chosen: list[str] = []
        for start in starts[:2]:
            chosen += lines[start : start + EXCERPT_LINES // 2]
        return chosen


def read_jobs(folder: Path) -> list[Job]:
    jobs = []
    listed = folder / "jobs"
    for line in listed.read_text().splitlines() if listed.exists() else []:
        name = line.split("\t")[0]
        log, status, seconds = (folder / f"{name}.{kind}" for kind in ("log", "status", "seconds"))
        text = log.read_text(errors="replace") if log.exists() else "not run"
        jobs.append(
            Job(
                name,
                text,
                int(status.read_text()) if status.exists() else TIMED_OUT,
                int(seconds.read_text()) if seconds.exists() else 0,
            )
        )
    return jobs


def print_stage(folder: Path) -> None:
    reason = folder / "unavailable"
    if reason.exists():
        print(f"   {reason.read_text().strip()}")
        return
    jobs = read_jobs(folder)
    conformance = Conformance()
    passed = failed = 0
    skipped: dict[str, None] = {}
    for job in jobs:
        conformance.read(job.text)
        good, bad = job.counts()
        passed, failed = passed + good, failed + bad
        for name in re.findall(r"^\[  SKIPPED \] (\S+) \(\d+ ms\)", job.text, re.M):
            skipped[name] = None
        for name in re.findall(r"^(\w+) \(.*\) \.\.\. skipped", job.text, re.M):
            skipped[name] = None
    conformance.print()
    if folder.name == "first_plan":
        for job in jobs:
            print("   " + job.text.rstrip().replace("\n", "\n   "))
    if skipped:
        print(f"   skipped: {', '.join(skipped)}")
    slowest = sorted(jobs, key=lambda job: -job.seconds)[: MOST_SLOW if len(jobs) > MOST_SLOW else 0]
    if slowest:
        print(f"   slowest: {', '.join(f'{job.name} {job.seconds} s' for job in slowest)}")
    print(f"   {passed} passed, {failed} failed, in {len(jobs)} processes")
    wrong = [job for job in jobs if job.counts()[1] > 0]
    for job in wrong[:MOST_EXCERPTS]:
        print(f"   FAILED {job.name} (exit {job.status}):")
        names = re.findall(r"^\[  FAILED  \] (\S+?)(?:, where .*)?$", job.text, re.M)
        if len(names) > 1:
            print(f"   | failed: {', '.join(names)}")
        for line in job.excerpt():
            print(f"   | {line[:LINE_LENGTH]}")
    if len(wrong) > MOST_EXCERPTS:
        print(f"   FAILED too: {', '.join(job.name for job in wrong[MOST_EXCERPTS:])}; see {folder}")


def main() -> int:
    if len(sys.argv) != 3 or sys.argv[1] not in ("--stage", "--total"):
        print(__doc__, file=sys.stderr)
        return 2
    folder = Path(sys.argv[2])
    if sys.argv[1] == "--stage":
        print_stage(folder)
        return 0
    passed = failed = 0
    for stage in sorted(path for path in folder.iterdir() if path.is_dir()):
        for job in read_jobs(stage):
            good, bad = job.counts()
            passed, failed = passed + good, failed + bad
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
