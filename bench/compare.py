#!/usr/bin/env python3
"""Runs grt's benchmarks, Go's and (if built) Boost.Fiber's in turns and prints the ratio of the medians, at one P and at two.

compare.py --grt build/bench/bench/grt_bench [--boost PROGRAM, by default boost_bench beside it] [--rounds 3] [--filter REGEX] [--check]
Only ratios within one run mean anything: the machine's mood is in both columns. --check ends with 1 if a goal is missed: three times
Go's speed, once for ChanMPMC16 and the mutex lines.
"""
import argparse, collections, json, os, re, shutil, statistics, subprocess, sys, tempfile

fixed = {"Yield100000": "10000000x"} # as many as grt_bench does: both start 100,000 goroutines in it
latencies = ["IdleStartAsleep", "IdleStartWatching", "IdleSendAsleep", "IdleSendWatching"] # microseconds, and no goal in a ratio
fixed.update({name: "1000x" for name in latencies})

def run(argv, cores, env, cwd=None):
    return subprocess.run(argv, cwd=cwd, check=True, capture_output=True, text=True, env={**os.environ, **env},
                          preexec_fn=lambda: os.sched_setaffinity(0, cores)).stdout

def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--grt", required=True)
    a.add_argument("--boost")
    a.add_argument("--rounds", type=int, default=3)
    a.add_argument("--filter", default=".")
    a.add_argument("--check", action="store_true")
    a = a.parse_args()
    if not shutil.which("go"):
        print("compare.py: Go is missing. Debian: apt-get install golang-go", file=sys.stderr)
        return 2
    go_dir = os.path.join(os.path.dirname(os.path.abspath(__file__)), "peers", "go")
    boost = a.boost or os.path.join(os.path.dirname(a.grt), "boost_bench")
    if not os.path.exists(boost):
        print("compare.py: no column for Boost.Fiber. Debian: apt-get install libboost-fiber-dev, and build again", file=sys.stderr)
        boost = None
    missed = 0
    metrics = ("median", "p90", "p99")
    with tempfile.TemporaryDirectory() as tmp:
        peer = os.path.join(tmp, "peer")
        subprocess.run(["go", "test", "-c", "-o", peer, "."], cwd=go_dir, check=True)
        for procs in (1, 2):
            cores = set(sorted(os.sched_getaffinity(0))[:procs])
            ours, boosts, theirs = (collections.defaultdict(list) for _ in range(3))
            our_us, their_us = (collections.defaultdict(list) for _ in range(2))
            for _ in range(a.rounds):
                for program, into in ((a.grt, ours), (boost, boosts)):
                    if not program:
                        continue
                    out = run([program, "--benchmark_format=json", "--benchmark_min_time=0.2", "--benchmark_filter=" + a.filter], cores,
                              {"GRT_PROCS": str(procs)})
                    for b in json.loads(out)["benchmarks"] if out.strip() else []: # none matches
                        name = b["name"].split("/")[0]
                        if name in latencies:
                            our_us[name].append([b[m + "_us"] for m in metrics])
                        else:
                            into[name].append(b["real_time"])
                for name, count in [(a.filter, "200ms"), *fixed.items()]:
                    if name in fixed and not re.search(a.filter, name):
                        continue
                    out = run([peer, "-test.run=NONE", "-test.bench=" + name, "-test.benchtime=" + count], cores, {"GOMAXPROCS": str(procs)})
                    if name in latencies:
                        found = [re.search(rf"^Benchmark{name}\b.*?([\d.]+) {m}-us", out, re.M) for m in metrics]
                        if all(found):
                            their_us[name].append([float(f[1]) for f in found])
                        continue
                    for found, ns in re.findall(r"^Benchmark(\w+?)(?:-\d+)?\s+\d+\s+([\d.]+) ns/op", out, re.M):
                        if found not in latencies and (found in fixed) == (name in fixed):
                            theirs[found].append(float(ns))
            print(f"\n{procs} P{'':18}{'Go ns':>14}{'grt ns':>14}{'Go/grt':>9}{'Boost/grt':>11}  goal")
            for name, values in ours.items():
                if name not in theirs:
                    continue
                go, grt = statistics.median(theirs[name]), statistics.median(values)
                goal = 1 if name == "ChanMPMC16" or name.startswith("Mutex") else 3
                missed += go / grt < goal
                beside = f"{statistics.median(boosts[name]) / grt:11.1f}" if name in boosts else f"{'-':>11}"
                print(f"{name:22}{go:14.1f}{grt:14.1f}{go / grt:9.1f}{beside}  {'ok' if go / grt >= goal else f'MISSED ({goal})'}", flush=True)
            if our_us and their_us:
                print(f"\n{'us: median, p90, p99':22}{'Go':>27}{'grt':>27}")
            for name in (n for n in latencies if n in our_us and n in their_us):
                beside = ["".join(f"{statistics.median(v):9.1f}" for v in zip(*side[name])) for side in (their_us, our_us)]
                print(f"{name:22}{beside[0]}{beside[1]}", flush=True)
    return 1 if a.check and missed else 0

sys.exit(main())
