#!/usr/bin/env python3
"""How many lines a compiler reads for each public header, after preprocessing and without blank lines.

header_weight.py COMPILER [--root DIR]    0: each header is within its limit; 1: some are not; 2: a header does not compile

The limits are for the standard library of gcc 12, and are some 20 % above what was counted. Other releases of the library
have other sizes: with them a limit is doubled. A header that needs more for a good reason gets a new limit here.
"""
import argparse, pathlib, re, subprocess, sys

LIMITS = {
    "barrier.hpp": 29_000, "chan.hpp": 54_000, "condition_variable.hpp": 54_000, "latch.hpp": 29_000, "mutex.hpp": 42_000,
    "semaphore.hpp": 42_000, "shared_mutex.hpp": 42_000, "wait_group.hpp": 68_000, "once.hpp": 62_000, "context.hpp": 70_000, "debug.hpp": 43_000, "defer.hpp": 6_000, "go.hpp": 60_000, "local.hpp": 60_000,
    "select.hpp": 70_000, "time.hpp": 70_000, "trace.hpp": 19_000, "version.hpp": 20,
}
OTHERS = 76_000  # everything else, grt.hpp with all of them included

def preprocess(compiler, root, text, *flags):
    done = subprocess.run([compiler, "-std=c++20", "-I", str(root / "include"), "-E", *flags, "-x", "c++", "-"], input=text,
                          capture_output=True, text=True)
    if done.returncode:
        print(f"{compiler} cannot preprocess:\n{text}{done.stderr}", file=sys.stderr)
        sys.exit(2)
    return done.stdout

def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("compiler")
    a.add_argument("--root", type=pathlib.Path, default=pathlib.Path(__file__).resolve().parents[2])
    a = a.parse_args()
    headers = sorted((a.root / "include/grt").glob("*.hpp"))
    if not headers:
        print(f"header_weight.py: no headers in {a.root}/include/grt; valid: the root of the source tree", file=sys.stderr)
        return 2
    release = re.search(r"#define _GLIBCXX_RELEASE (\d+)", preprocess(a.compiler, a.root, "#include <version>\n", "-dM"))
    factor = 1 if release and release[1] == "12" else 2
    failed = 0
    for header in headers:
        text = preprocess(a.compiler, a.root, f"#include <grt/{header.name}>\n")
        lines = sum(1 for line in text.splitlines() if line.strip() and not line.startswith("#"))
        limit = factor * LIMITS.get(header.name, OTHERS)
        failed += lines > limit
        print(f"{header.name:14} {lines:7} lines, limit {limit:7}{'  TOO MANY: include less, or declare instead' if lines > limit else ''}")
    print(f"{len(headers) - failed} passed, {failed} failed")
    return bool(failed)

sys.exit(main())
