#!/usr/bin/env python3
"""Checks of the source tree: include layers, memory-order tags, the example in README.md.

check_tree.py layers|tags|readme [--root DIR]    0: clean; 1: each finding on a line of its own
check_tree.py --self-test                 plants one violation of each kind and must find it
"""
import argparse, collections, pathlib, re, sys, tempfile

# Each folder may include itself, what stands here, and (all of them) include/grt.
LAYERS = {
    "arch": [],
    "base": ["arch"],
    "stack": ["base", "arch"],
    "sched": ["stack", "base", "arch"],
    "chan": ["sched", "base"],
    "sync": ["chan", "sched", "base"],
    "net": ["sync", "chan", "sched", "base"],
    "debug": ["net", "sync", "chan", "sched", "stack", "base", "arch"],
    "sim": ["debug", "net", "sync", "chan", "sched", "stack", "base", "arch"],
}
LIBRARY = list(LAYERS) + ["include"]
SOURCES = {".cpp", ".hpp", ".h", ".S", ".inc"}

def files(root, folders):
    for folder in folders:
        for path in sorted((root / folder).rglob("*")):
            if path.suffix in SOURCES:
                yield folder, path

def layers(root):
    for folder, path in files(root, LIBRARY + ["tools", "examples"]):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            m = re.match(r'\s*#\s*include\s+[<"]([\w./]+)[>"]', line)
            if not m:
                continue
            target = m[1].split("/")[0]
            if target == "grt" or "/" not in m[1]:
                continue
            if target not in LAYERS and target != "tests":
                continue  # the system's, or a tool's library
            if folder in ("include", "tools", "examples"):
                yield f"{path.relative_to(root)}:{number}: {folder}/ may include only grt/*, not {m[1]}"
            elif target != folder and target not in LAYERS[folder]:
                yield f"{path.relative_to(root)}:{number}: {folder}/ may not include {m[1]}; allowed: {' '.join([folder] + LAYERS[folder])}"

TAG = re.compile(r"\[([A-Z]+-\d+)\]")
ORDER = re.compile(r"memory_order_(acquire|release|acq_rel|seq_cst)|__ATOMIC_(ACQUIRE|RELEASE|ACQ_REL|SEQ_CST)")
FENCE = re.compile(r"\b(compiler_fence|all_threads_fence|full_fence)\b|\batomic_(thread|signal)_fence\b")
REACH = 2  # a tag may stand this many lines above or below its operation, which a formatter may break into several

def ends(lines, at):
    """Which ends the operation that the tag on line `at` belongs to can be: a set of "acquire" and "release".

    It is the operation on that line; if there is none, the nearest one above or below that has no tag of its own."""
    def of(i):
        code = lines[i].split("//")[0]
        orders = {(m[1] or m[2]).lower() for m in ORDER.finditer(code)}
        found = set()
        if orders & {"acquire", "acq_rel", "seq_cst"}:
            found.add("acquire")
        if orders & {"release", "acq_rel", "seq_cst"}:
            found.add("release")
        return {"acquire", "release"} if FENCE.search(code) else found
    found = of(at)
    for distance in range(1, REACH + 1):
        for i in (at - distance, at + distance):
            if not found and 0 <= i < len(lines) and not TAG.search(lines[i]):
                found = of(i)
    return found

def tags(root):
    seen, can = collections.defaultdict(list), collections.defaultdict(set)
    for _, path in files(root, LIBRARY):
        lines = path.read_text().splitlines()
        for number, line in enumerate(lines, 1):
            for tag in TAG.findall(line):
                seen[tag].append(f"{path.relative_to(root)}:{number}")
                can[tag] |= ends(lines, number - 1)
            if ORDER.search(line.split("//")[0]) and not TAG.search(" ".join(lines[max(0, number - 1 - REACH):number + 1])):
                yield f"{path.relative_to(root)}:{number}: a memory order without a tag that names its partner"
    for tag, places in sorted(seen.items()):
        if len(places) == 1:
            yield f"{places[0]}: tag [{tag}] has only this end"
        elif missing := {"acquire", "release"} - can[tag]:
            yield f"{', '.join(places)}: tag [{tag}] has no operation that can {' or '.join(sorted(missing))}, and no fence"

def readme(root):
    """README's first C++ block is examples/quick_start.cpp, which the tests build and run."""
    block = re.search(r"```cpp\n(.*?)```", (root / "README.md").read_text(), re.S) if (root / "README.md").exists() else None
    code = (root / "examples/quick_start.cpp").read_text() if (root / "examples/quick_start.cpp").exists() else ""
    if (block[1] if block else "") != code:
        yield "README.md: its first example is not examples/quick_start.cpp"

CHECKS = {"layers": layers, "tags": tags, "readme": readme}

def self_test():
    plants = {
        "layers": [("stack/a.cpp", '#include "sched/goroutine/g.hpp"\n'), ("include/grt/a.hpp", '#include "base/check.hpp"\n'),
                   ("tools/a.cpp", '#include "sched/goroutine/g.hpp"\n')],
        "tags": [("base/a.cpp", "x.load(std::memory_order_acquire); // [ONE-1]\n"), ("base/a.cpp", "x.store(1, std::memory_order_release);\n"),
                 ("base/a.cpp", "x.load(std::memory_order_acquire); // [ONE-1]\ny.load(std::memory_order_acquire); // [ONE-1]\n"),
                 ("base/a.cpp", "x.store(1, std::memory_order_release); // [ONE-1]\n\n\n// [ONE-1] and no acquire\n"),
                 ("base/a.cpp", "x.store(1, std::memory_order_release); // [ONE-1]\nx.load(std::memory_order_acquire); // [TWO-1]\n// [ONE-1]\n")],
        "readme": [("README.md", "```cpp\nint main() {}\n```\n")],
    }
    clean = [("sched/a.cpp", '#include "stack/w.hpp"\n#include <grt/go.hpp>\n#include <vector>\n'),
             ("base/b.cpp", "x.store(1, std::memory_order_release); // [TWO-1]\nx.load(std::memory_order_acquire); // [TWO-1]\n"),
             ("base/c.cpp", "refs.fetch_sub(1, std::memory_order_acq_rel); // [SELF-1]\n// [SELF-1] the last one sees what all did\n"),
             ("base/d.cpp", "A::compiler_fence(site::a); // [FENCE-1]\nA::load(x,\n    y,\n    z); // [FENCE-1]\n"),
             ("base/e.cpp", "f(x,\n  std::memory_order_release,\n  y); // [BROKEN-1]\n// [BROKEN-1]\nx.load(std::memory_order_acquire);\n")]
    failed = passed = 0
    for name, check in CHECKS.items():
        for plant in plants[name] + [None]:
            with tempfile.TemporaryDirectory() as tmp:
                root = pathlib.Path(tmp)
                for at, text in clean + ([plant] if plant else []):
                    (root / at).parent.mkdir(parents=True, exist_ok=True)
                    (root / at).write_text(text)
                found = list(check(root))
                good = len(found) == (1 if plant else 0)
                passed, failed = passed + good, failed + (not good)
                if not good:
                    print(f"self-test: {name} with {plant}: {found}")
    print(f"{passed} passed, {failed} failed")
    return failed != 0

def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("check", nargs="?", choices=list(CHECKS))
    a.add_argument("--root", type=pathlib.Path, default=pathlib.Path(__file__).resolve().parents[2])
    a.add_argument("--self-test", action="store_true")
    a = a.parse_args()
    if a.self_test:
        return self_test()
    if not a.check:
        print("check_tree.py: say what to check; valid: " + " ".join(CHECKS) + " --self-test", file=sys.stderr)
        return 2
    found = list(CHECKS[a.check](a.root))
    print("\n".join(found) if found else f"{a.check}: clean")
    return bool(found)

sys.exit(main())
