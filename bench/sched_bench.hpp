#pragma once
/// Registers them. Starts the runtime.
void add_sched_benchmarks();
