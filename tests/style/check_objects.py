#!/usr/bin/env python3
"""What the object files must say. check_objects.py LIBGRT_A [readelf] [objdump]

Notes: x86-64 objects of assembly claim IBT and not SHSTK, AArch64 ones BTI and not GCS; no object asks for an executable stack.
GRT_OPAQUE: after the goroutine's function returns, grt_gmain reads its thread's M again instead of keeping it.
"""
import os, re, subprocess, sys, tempfile

def run(*argv):
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout

def main():
    archive = os.path.abspath(sys.argv[1])
    readelf, objdump = (sys.argv[2:] + ["readelf", "objdump"])[:2] if len(sys.argv) < 4 else sys.argv[2:4]
    failures, checks = [], 0
    with tempfile.TemporaryDirectory() as tmp:
        subprocess.run(["ar", "x", archive], cwd=tmp, check=True)
        objects = sorted(os.listdir(tmp))
        for name in objects:
            path = os.path.join(tmp, name)
            sections = run(readelf, "-SW", path)
            checks += 1
            stack = re.search(r"\.note\.GNU-stack\s+PROGBITS.*", sections)
            if not stack or re.search(r"\sX\s", stack[0]):
                failures.append(f"{name}: no .note.GNU-stack, or an executable one")
            if name.startswith("switch"):
                notes = run(readelf, "-n", path)
                checks += 2
                if not re.search(r"feature: .*\b(IBT|BTI)\b", notes):
                    failures.append(f"{name}: does not claim IBT or BTI: {notes}")
                if re.search(r"SHSTK|GCS", notes):
                    failures.append(f"{name}: claims SHSTK or GCS; a switch by ret faults under a shadow stack")
        code = run(objdump, "-dr", "--no-show-raw-insn", os.path.join(tmp, next(o for o in objects if o.startswith("end.cpp"))))
        body = re.search(r"<grt_gmain>:\n(.*?)\n\n", code + "\n\n", re.S)[1].splitlines()
        calls = [i for i, line in enumerate(body) if re.search(r"\bcall\s+\*|\bblr\b", line)]
        checks += 1
        if not calls or not any(re.search(r"%fs:|tpidr_el0", line) for line in body[calls[0]:]):
            failures.append("grt_gmain keeps its thread's M across the goroutine's function")
    print("\n".join(failures) + ("\n" if failures else "") + f"{checks - len(failures)} passed, {len(failures)} failed")
    return bool(failures)

sys.exit(main())
