#!/usr/bin/env python3
"""Which symbols of the library other objects can see at run time: exactly those in tests/style/exports.txt.

exports.py LIBRARY [--update]    0: as listed; 1: differs; 2: not a library
A symbol is listed if it is defined, strong and not hidden: what the public headers declare. Everything else is internal.
"""
import argparse, pathlib, shutil, subprocess, sys

LIST = pathlib.Path(__file__).with_name("exports.txt")

def exported(library):
    tools = ("readelf", "c++filt")
    if missing := [t for t in tools if not shutil.which(t)]:
        print(f"exports.py: {', '.join(missing)} is missing. Debian: apt-get install binutils", file=sys.stderr)
        sys.exit(2)
    read = subprocess.run(["readelf", "-sW", library], capture_output=True, text=True)
    if read.returncode or "Symbol table" not in read.stdout:
        print(f"exports.py: {library} is not a library; valid: libgrt.a", file=sys.stderr)
        sys.exit(2)
    names = set()
    for line in read.stdout.splitlines():
        f = line.split()
        if len(f) == 8 and f[0].endswith(":") and f[4] == "GLOBAL" and f[5] == "DEFAULT" and f[6] != "UND":
            names.add(f[7])
    out = subprocess.run(["c++filt"], input="\n".join(sorted(names)), capture_output=True, text=True).stdout
    # Tables of exported classes are strong with clang and weak with gcc.
    return sorted(n for n in set(out.splitlines()) if not n.startswith(("typeinfo ", "vtable ")))

def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("library")
    a.add_argument("--update", action="store_true", help="write the list anew")
    a = a.parse_args()
    now = exported(a.library)
    if a.update:
        LIST.write_text("\n".join(now) + "\n")
    listed = LIST.read_text().splitlines()
    more, less = sorted(set(now) - set(listed)), sorted(set(listed) - set(now))
    for name in more:
        print(f"exported, but not listed: {name}")
    for name in less:
        print(f"listed, but not exported: {name}")
    print(f"{len(now)} symbols are exported")
    return bool(more or less)

sys.exit(main())
