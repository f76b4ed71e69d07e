// Cgroup quotas from a tree of the test's own; the affinity mask is the machine's.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sched.h>
#include <string>

#include "sched/monitor/quota.hpp"

namespace {
struct Quota : testing::Test {
  std::filesystem::path root;
  void SetUp() override {
    std::string name = (std::filesystem::temp_directory_path() / "grt-quota-XXXXXX").string();
    ASSERT_TRUE(mkdtemp(name.data()));
    root = name;
    // as if the machine had them: the limits below are told from each other only if they are less
    cpu_set_t set;
    sched_getaffinity(0, sizeof set, &set);
    most = static_cast<unsigned>(CPU_COUNT(&set));
  }
  void TearDown() override { std::filesystem::remove_all(root); }
  void write(const std::string& path, const std::string& text) {
    std::filesystem::create_directories((root / path).parent_path());
    std::ofstream(root / path) << text;
  }
  unsigned allowed() const { return grt::cpus_allowed(root.c_str()); }
  unsigned most = 1;
};

TEST_F(Quota, NoCgroup_IsTheAffinity) { EXPECT_EQ(allowed(), most); }
TEST_F(Quota, V2_OneCpu) {
  write("proc/self/cgroup", "0::/app\n");
  write("sys/fs/cgroup/app/cpu.max", "100000 100000\n");
  EXPECT_EQ(allowed(), 1u);
}
TEST_F(Quota, V2_OneAndAHalf_IsTwo) {
  write("proc/self/cgroup", "0::/app\n");
  write("sys/fs/cgroup/app/cpu.max", "150000 100000\n");
  EXPECT_EQ(allowed(), std::min(2u, most));
}
TEST_F(Quota, V2_AFifth_IsOne) {
  write("proc/self/cgroup", "0::/app\n");
  write("sys/fs/cgroup/app/cpu.max", "20000 100000\n");
  EXPECT_EQ(allowed(), 1u);
}
TEST_F(Quota, V2_AnAncestorsLimitHolds) {
  write("proc/self/cgroup", "0::/a/b/c\n");
  write("sys/fs/cgroup/a/cpu.max", "50000 50000\n");
  write("sys/fs/cgroup/a/b/cpu.max", "max 100000\n");
  write("sys/fs/cgroup/a/b/c/cpu.max", "800000 100000\n");
  EXPECT_EQ(allowed(), 1u);
}
TEST_F(Quota, V2_InAContainer_TheMountIsTheGroup) {
  write("proc/self/cgroup", "0::/\n");
  write("sys/fs/cgroup/cpu.max", "100000 100000\n");
  EXPECT_EQ(allowed(), 1u);
}
TEST_F(Quota, V2_APathThatIsNotThere) {
  write("proc/self/cgroup", "0::/kubepods/pod1\n");
  write("sys/fs/cgroup/cpu.max", "100000 100000\n");
  EXPECT_EQ(allowed(), 1u);
}
TEST_F(Quota, V2_MaxAndNonsense_AreNoLimit) {
  write("proc/self/cgroup", "0::/app\nnonsense\n7:\n");
  write("sys/fs/cgroup/app/cpu.max", "max 100000\n");
  EXPECT_EQ(allowed(), most);
  write("sys/fs/cgroup/app/cpu.max", "many\n");
  EXPECT_EQ(allowed(), most);
  write("sys/fs/cgroup/app/cpu.max", "100000 0\n");
  EXPECT_EQ(allowed(), most);
}
TEST_F(Quota, V1_OneCpu) {
  write("proc/self/cgroup", "12:memory:/app\n4:cpu,cpuacct:/app\n");
  write("sys/fs/cgroup/cpu,cpuacct/app/cpu.cfs_quota_us", "25000\n");
  write("sys/fs/cgroup/cpu,cpuacct/app/cpu.cfs_period_us", "25000\n");
  EXPECT_EQ(allowed(), 1u);
}
TEST_F(Quota, V1_None) {
  write("proc/self/cgroup", "4:cpu:/app\n3:cpuset:/app\n");
  write("sys/fs/cgroup/cpu/app/cpu.cfs_quota_us", "-1\n");
  EXPECT_EQ(allowed(), most);
}
TEST_F(Quota, Both_TheLesserCounts) {
  write("proc/self/cgroup", "4:cpu:/app\n0::/app\n");
  write("sys/fs/cgroup/cpu/app/cpu.cfs_quota_us", "800000\n");
  write("sys/fs/cgroup/unified/app/cpu.max", "90000 100000\n");
  EXPECT_EQ(allowed(), 1u);
}
} // namespace
