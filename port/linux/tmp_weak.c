#include "kernel.h"
#define W __attribute__((weak))
W long do_mlock(struct mm_struct *mm, u64 a, u64 l, int f) { return 0; }
W long do_munlock(struct mm_struct *mm, u64 a, u64 l) { return 0; }
W long do_mlockall(struct mm_struct *mm, int f) { return 0; }
W long do_munlockall(struct mm_struct *mm) { return 0; }
W long do_madvise(struct mm_struct *mm, u64 a, u64 l, int f) { return 0; }
W long do_msync(struct mm_struct *mm, u64 a, u64 l, int f) { return 0; }
W long do_mincore(struct mm_struct *mm, u64 a, u64 l, u8 *v) { return 0; }
W long do_mremap(struct mm_struct *mm, u64 a, u64 o, u64 n, u64 f, u64 na) { return -ENOMEM; }
