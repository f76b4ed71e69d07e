#!/usr/bin/env python3
"""Writes docs/memory-order.md's index: every tag, its places, and the line that explains it. --check compares instead of writing."""
import collections, pathlib, re, sys

root = pathlib.Path(__file__).resolve().parents[2]
INTRO = """# Memory orders

Every acquire, release and sequentially consistent operation of the library carries a tag, `[NAME-n]`, at both of its ends. This index is generated
(`tests/style/tag_index.py`); the test `memory_order_tags` fails on an untagged order and on a tag without a releasing and an acquiring
end; `memory_order_index` fails if this page is out of date.

"""

def main():
    tags = collections.defaultdict(list)
    for folder in ("include", "base", "arch", "stack", "sched", "chan", "sync", "net", "debug"):
        for path in sorted((root / folder).rglob("*")):
            if path.suffix not in (".cpp", ".hpp", ".h", ".S"):
                continue
            for line in path.read_text().splitlines():
                for m in re.finditer(r"\[([A-Z]+-\d+)\](.*)", line):
                    said = m[2].strip(" ;.*/")
                    tags[m[1]].append((str(path.relative_to(root)), said))
    text = INTRO
    for tag, ends in sorted(tags.items()):
        text += f"## {tag}\n"
        for path in dict.fromkeys(p for p, _ in ends):
            words = [w for p, w in ends if p == path and len(w) > 12]
            text += f"- `{path}`" + (": " + "; ".join(dict.fromkeys(words)) if words else "") + "\n"
        text += "\n"
    out = root / "docs" / "memory-order.md"
    if "--check" in sys.argv:
        if not out.exists() or out.read_text() != text.rstrip() + "\n":
            print("docs/memory-order.md is out of date: run tests/style/tag_index.py")
            return 1
        print("memory-order.md: up to date")
        return 0
    out.write_text(text.rstrip() + "\n")
    return 0

sys.exit(main())
