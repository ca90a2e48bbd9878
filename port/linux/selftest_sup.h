/* Test builds of the supervisor (selftest_sup.c). */
#ifndef QUIRE_LINUX_SELFTEST_SUP_H
#define QUIRE_LINUX_SELFTEST_SUP_H
#include "exports.h"
#include <sys/types.h>

#ifdef QUIRE_SELFTEST
void selftest_start(const struct kernel_exports *k, pid_t first);
void selftest_stop(void);
#else
static inline void selftest_start(const struct kernel_exports *k, pid_t first) { (void)k; (void)first; }
static inline void selftest_stop(void) { }
#endif
#endif
