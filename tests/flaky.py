#!/usr/bin/env python3
"""Runs the test programs of one build again and again beside busy loops, in random order, and says which cases failed how often.

flaky.py --preset NAME [--rounds N] [--regex R] [--seed N]    0: all passed; 1: some failed; 2: bad arguments, or no such test
Four programs run at a time. There are as many busy loops as cores. Logs: build/flaky/PRESET/.
"""
import argparse, collections, ctypes, json, os, pathlib, random, re, shlex, signal, subprocess, sys, time
import xml.etree.ElementTree as xml

ROOT = pathlib.Path(__file__).resolve().parents[1]
JOBS = 4
SHOWN = 60  # lines of a failed case's output; the log has the rest

class Parser(argparse.ArgumentParser):
    def error(self, message):
        print(f"flaky.py: {message}", file=sys.stderr)
        sys.exit(2)

def die_with_parent():
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG

def listed(build, regex):
    """name -> (environment, command) of every test that ctest would run."""
    out = subprocess.run(["ctest", "--test-dir", build, "--show-only=json-v1"] + (["-R", regex] if regex else []),
                         capture_output=True, text=True).stdout
    try:
        found = json.loads(out)["tests"]
    except (ValueError, KeyError):  # the regular expression is none
        return {}
    tests = {}
    for t in found:
        properties = {p["name"]: p["value"] for p in t.get("properties", [])}
        tests[t["name"]] = (properties.get("ENVIRONMENT", []), t.get("command", []))
    return tests

def failures(output):
    """(case, its part of the output) for each GoogleTest case that failed; ("", output) if the program does not say which."""
    found, case, part = [], "", []
    for line in output.splitlines():
        begun = re.match(r"\[ RUN      \] (\S+)", line)
        if begun:
            case, part = begun[1], []
            continue
        ended = re.match(r"\[ +(OK|FAILED|SKIPPED) +\] (\S+) \(", line)
        if ended and ended[2].rstrip(",") == case:
            if ended[1] == "FAILED":
                found.append((case, part))
            case, part = "", []
            continue
        part.append(line)
    if case or not found:  # it died inside this one
        found.append((case, part))
    return found

def repeat(test, case, output, seed, preset):
    environment, command = test
    variables = list(environment)
    seeds = re.findall(r"GRT_TEST_SEED=\d+", output)
    if seeds:
        variables.append(seeds[-1])
    if case:
        variables += ["GTEST_SHUFFLE=1", f"GTEST_RANDOM_SEED={seed}"]
        command = [c for c in command if not c.startswith("--gtest_brief")]
        if seeds:  # the random program of that seed fails alone
            command = [c for c in command if not c.startswith("--gtest_filter")] + [f"--gtest_filter={case}"]
    return " ".join(shlex.quote(w).replace(str(ROOT) + "/", "") if "=" not in w else shlex.quote(w) for w in variables + command)

def main():
    a = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--preset", required=True)
    a.add_argument("--rounds", type=int, default=5)
    a.add_argument("--regex", default="")
    a.add_argument("--seed", type=int, default=0)
    a = a.parse_args()
    build = ROOT / "build" / a.preset
    tests = listed(build, a.regex)
    if not tests:
        print(f"flaky.py: no test matches '{a.regex}' in {build.relative_to(ROOT)}", file=sys.stderr)
        return 2
    logs = ROOT / "build" / "flaky" / a.preset
    logs.mkdir(parents=True, exist_ok=True)
    for old in logs.glob("round-*"):
        old.unlink()
    cores = len(os.sched_getaffinity(0))
    passed = failed = 0
    counts = collections.Counter()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    loops = [subprocess.Popen(["sh", "-c", "while :; do :; done"], preexec_fn=die_with_parent) for _ in range(cores)]
    running = None
    try:
        for r in range(1, a.rounds + 1):
            seed = a.seed + r - 1 if a.seed else random.randint(1, 99999)
            results, log, start = logs / f"round-{r}.xml", logs / f"round-{r}.log", time.time()
            command = ["ctest", "--test-dir", str(build), f"-j{JOBS}", "--schedule-random", "--output-junit", str(results),
                       "--test-output-size-failed", "1000000", "--no-tests=error"] + (["-R", a.regex] if a.regex else [])
            with log.open("w") as out:
                running = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, start_new_session=True,
                                           env={**os.environ, "GTEST_SHUFFLE": "1", "GTEST_RANDOM_SEED": str(seed), "GRT_TEST_NAMES": "1"})
                running.wait()
                running = None
            bad = []
            cases = xml.parse(results).getroot().findall("testcase") if results.exists() else []
            for t in cases:
                if t.get("status") == "run":
                    passed += 1
                elif "SKIP_" not in (t.find("skipped").get("message", "") if t.find("skipped") is not None else ""):
                    failed += 1
                    bad.append(t)
            print(f"round {r} of {a.rounds}: GTEST_RANDOM_SEED={seed}, {len(bad)} of {len(cases)} test programs failed, {time.time() - start:.0f} s", flush=True)
            if not cases:
                failed += 1
                print(log.read_text())
            for t in bad:
                name, output = t.get("name"), t.findtext("system-out") or ""
                for case, part in failures(output):
                    counts[f"{name} {case}".strip()] += 1
                    print(f"-- {name} {case}".rstrip())
                    if len(part) > SHOWN:
                        print(f"   ({len(part) - SHOWN} lines before these: {results.relative_to(ROOT)})")
                    print("\n".join("   " + line for line in part[-SHOWN:]))
                    if tests[name][1]:
                        print("   alone:       " + repeat(tests[name], case, output, seed, a.preset))
                    print(f"   under load:  tools/dev flaky 10 --preset {a.preset} --seed {seed} -R '^{re.escape(name)}$'", flush=True)
    finally:
        if running:
            try:
                os.killpg(running.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        for loop in loops:
            loop.kill()
            loop.wait()
    for what, n in counts.most_common():
        print(f"failed {n} of {a.rounds} times: {what}")
    print(f"{passed} passed, {failed} failed")
    return failed != 0

try:
    sys.exit(main())
except KeyboardInterrupt:
    sys.exit(130)
