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

def tags(root):
    seen = collections.defaultdict(list)
    for _, path in files(root, LIBRARY):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            for tag in re.findall(r"\[([A-Z]+-\d+)\]", line):
                seen[tag].append(f"{path.relative_to(root)}:{number}")
            code = line.split("//")[0]
            if re.search(r"memory_order_(acquire|release|acq_rel|seq_cst)|__ATOMIC_(ACQUIRE|RELEASE|ACQ_REL|SEQ_CST)", code):
                text = path.read_text().splitlines()
                near = " ".join(text[max(0, number - 3):number + 1])
                if not re.search(r"\[[A-Z]+-\d+\]", near):
                    yield f"{path.relative_to(root)}:{number}: a memory order without a tag that names its partner"
    for tag, places in sorted(seen.items()):
        if len(places) == 1:
            yield f"{places[0]}: tag [{tag}] has only this end"

def readme(root):
    """README's first C++ block is examples/quick_start.cpp, which the tests build and run."""
    block = re.search(r"```cpp\n(.*?)```", (root / "README.md").read_text(), re.S) if (root / "README.md").exists() else None
    code = (root / "examples/quick_start.cpp").read_text() if (root / "examples/quick_start.cpp").exists() else ""
    if (block[1] if block else "") != code:
        yield "README.md: its first example is not examples/quick_start.cpp"

CHECKS = {"layers": layers, "tags": tags, "readme": readme}

def self_test():
    plants = {
        "layers": [("stack/a.cpp", '#include "sched/g.hpp"\n'), ("include/grt/a.hpp", '#include "base/check.hpp"\n'),
                   ("tools/a.cpp", '#include "sched/g.hpp"\n')],
        "tags": [("base/a.cpp", "x.load(std::memory_order_acquire); // [ONE-1]\n"), ("base/a.cpp", "x.store(1, std::memory_order_release);\n")],
        "readme": [("README.md", "```cpp\nint main() {}\n```\n")],
    }
    clean = [("sched/a.cpp", '#include "stack/w.hpp"\n#include <grt/go.hpp>\n#include <vector>\n'),
             ("base/b.cpp", "x.store(1, std::memory_order_release); // [TWO-1]\nx.load(std::memory_order_acquire); // [TWO-1]\n")]
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
