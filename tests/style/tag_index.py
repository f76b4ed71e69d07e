#!/usr/bin/env python3
"""Checks docs/memory-order.md, which is written by hand: one row for each memory-order tag of the code.

tag_index.py [--check]    0: clean; 1: each finding on a line of its own
A row is `| [TAG-n] | releasing side | acquiring side | meaning |`. A tag of the code without a row, a row without a tag, two rows for
one tag, a row without a meaning, and a file named in a row that does not have the tag are findings.
"""
import collections, pathlib, re, sys

root = pathlib.Path(__file__).resolve().parents[2]
FOLDERS = ("include", "base", "arch", "stack", "sched", "chan", "sync", "net", "debug")
SUFFIXES = {".cpp", ".hpp", ".h", ".S"}

def tags_in_code():
    """tag -> the files that have it."""
    found = collections.defaultdict(set)
    for folder in FOLDERS:
        for path in sorted((root / folder).rglob("*")):
            if path.suffix in SUFFIXES:
                for tag in re.findall(r"\[([A-Z]+-\d+)\]", path.read_text()):
                    found[tag].add(str(path.relative_to(root)))
    return found

def findings(page, code):
    rows = collections.defaultdict(list)
    for number, line in enumerate(page.splitlines(), 1):
        if m := re.match(r"\| \[([A-Z]+-\d+)\] \|(.*)\|$", line):
            rows[m[1]].append((number, [c.strip() for c in m[2].split("|")]))
    for tag in sorted(set(code) - set(rows)):
        yield f"[{tag}] ({', '.join(sorted(code[tag]))}) has no row"
    for tag, found in rows.items():
        where = f"line {found[0][0]}: [{tag}]"
        if tag not in code:
            yield f"{where} is not in the code"
            continue
        if len(found) > 1:
            yield f"{where} has {len(found)} rows"
        cells = found[0][1]
        if len(cells) != 3 or not all(cells):
            yield f"{where} needs both sides and a meaning"
            continue
        for side in cells[:2]:
            files = re.findall(r"`([\w./]+\.\w+)`", side)
            if not files:
                yield f"{where} names no file in '{side}'"
            for file in files:
                if file not in code[tag]:
                    yield f"{where}: {file} does not have this tag"

def main():
    if sys.argv[1:] not in ([], ["--check"]):
        print("tag_index.py: unknown argument; valid: --check", file=sys.stderr)
        return 2
    page, code = root / "docs/memory-order.md", tags_in_code()
    if not page.exists():
        print("docs/memory-order.md is missing")
        return 1
    found = [f"docs/memory-order.md: {f}" for f in findings(page.read_text(), code)]
    print("\n".join(found) if found else f"memory-order.md: {len(code)} tags, each has its row")
    return bool(found)

sys.exit(main())
