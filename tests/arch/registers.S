#if defined(__x86_64__)
#include "tests/arch/registers_x86_64.inc"
#else
#include "tests/arch/registers_aarch64.inc"
#endif
