// sched/monitor/quota.cpp - affinity and cgroup quotas, v2 and v1.
//
// /proc/self/cgroup names the group of this process: "0::/path" (v2), "4:cpu,cpuacct:/path" (v1). The limit of the
// group holds, and that of each of its ancestors, so the least of them counts. In a container the path may be a path
// of the host that does not exist inside; then the root of the mount is the group. A file that cannot be read or
// parsed sets no limit.
#include "sched/monitor/quota.hpp"

#include <algorithm>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sched.h>

namespace grt {
namespace {
constexpr std::size_t path_most = 4096;

bool read_line(const char* path, char* line, int n) noexcept {
  FILE* f = std::fopen(path, "re");
  if (!f) return false;
  bool got = std::fgets(line, n, f);
  std::fclose(f);
  return got;
}

unsigned rounded_up(long long quota, long long period) noexcept {
  if (quota <= 0 || period <= 0) return UINT_MAX;
  return static_cast<unsigned>(std::min<long long>((quota + period - 1) / period, UINT_MAX));
}

unsigned limit_v2(const char* dir) noexcept { // "max 100000" or "150000 100000"
  char path[path_most + 32], line[64];
  std::snprintf(path, sizeof path, "%s/cpu.max", dir);
  long long quota, period;
  if (!read_line(path, line, sizeof line) || std::sscanf(line, "%lld %lld", &quota, &period) != 2) return UINT_MAX;
  return rounded_up(quota, period);
}

unsigned limit_v1(const char* dir) noexcept { // the quota is -1 if there is no limit
  char path[path_most + 32], line[64];
  std::snprintf(path, sizeof path, "%s/cpu.cfs_quota_us", dir);
  if (!read_line(path, line, sizeof line)) return UINT_MAX;
  long long quota = std::atoll(line);
  std::snprintf(path, sizeof path, "%s/cpu.cfs_period_us", dir);
  return rounded_up(quota, read_line(path, line, sizeof line) ? std::atoll(line) : 100000);
}

// The least limit of the directory mount + group and of all above it, up to the mount.
unsigned least(const char* mount, const char* group, unsigned (*limit)(const char*)) noexcept {
  char dir[path_most];
  int n = std::snprintf(dir, sizeof dir, "%s%s", mount, std::strcmp(group, "/") == 0 ? "" : group);
  if (n < 0 || static_cast<std::size_t>(n) >= sizeof dir) return limit(mount);
  unsigned all = UINT_MAX;
  for (std::size_t base = std::strlen(mount);;) {
    all = std::min(all, limit(dir));
    char* slash = std::strrchr(dir, '/');
    if (std::strlen(dir) <= base || !slash || slash < dir + base) return all;
    *slash = 0;
  }
}

bool names_cpu(const char* controllers, const char* end) noexcept {
  for (const char* at = controllers; at < end;) {
    const char* comma = std::find(at, end, ',');
    if (comma - at == 3 && !std::memcmp(at, "cpu", 3)) return true;
    at = comma + (comma < end);
  }
  return false;
}

unsigned cgroup_limit(const char* root) noexcept {
  char path[path_most], line[path_most], mount[path_most];
  std::snprintf(path, sizeof path, "%s/proc/self/cgroup", root);
  FILE* f = std::fopen(path, "re");
  if (!f) return UINT_MAX;
  unsigned all = UINT_MAX;
  while (std::fgets(line, sizeof line, f)) {
    line[std::strcspn(line, "\n")] = 0;
    char* controllers = std::strchr(line, ':');
    char* group = controllers ? std::strchr(controllers + 1, ':') : nullptr;
    if (!group) continue;
    controllers++;
    *group = 0;
    if (controllers == group) { // v2; on a system that has v1 too, v2 is mounted under unified
      for (const char* at : {"/sys/fs/cgroup", "/sys/fs/cgroup/unified"}) {
        std::snprintf(mount, sizeof mount, "%.2048s%s", root, at);
        all = std::min(all, least(mount, group + 1, limit_v2));
      }
    } else if (names_cpu(controllers, group)) {
      for (const char* at : {"cpu", "cpu,cpuacct"}) {
        std::snprintf(mount, sizeof mount, "%.2048s/sys/fs/cgroup/%s", root, at);
        all = std::min(all, least(mount, group + 1, limit_v1));
      }
    }
  }
  std::fclose(f);
  return all;
}
} // namespace

unsigned cpus_allowed(const char* root) noexcept {
  cpu_set_t set;
  unsigned n = sched_getaffinity(0, sizeof set, &set) == 0 ? static_cast<unsigned>(CPU_COUNT(&set)) : 1;
  return std::max(std::min(n, cgroup_limit(root)), 1u);
}

} // namespace grt
