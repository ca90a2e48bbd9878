/*
 * What execve(2) does to rights, as the host would if it executed the program: the saved numbers become the effective ones, "keep
 * capabilities" ends, and who is not root by then keeps only ambient capabilities (capabilities(7), "Transformation of
 * capabilities during execve()").  Without that a server that gave up its rights would run its children with them.
 *
 * Set-user-ID bits do nothing inside a machine (CAVEATS.md), so nothing is ever gained here.  Private to the process; no locks.
 */
#include "exec.h"
#include "hostsys.h"
#include "kernel.h"
#include <linux/capability.h>

#define SECBIT_NOROOT 1ul
#define SECBIT_KEEP_CAPS 16ul
static void drop_capabilities(void)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct had[_LINUX_CAPABILITY_U32S_3], now[_LINUX_CAPABILITY_U32S_3];
	u32 cap;

	if (host_call(__NR_capget, &head, had) < 0 || !(had[0].permitted | had[1].permitted))
		return;
	for (cap = 0; cap < 2; cap++) {
		now[cap].effective = now[cap].permitted = 0;
		now[cap].inheritable = had[cap].inheritable;
	}
	for (cap = 0; cap < 64; cap++)
		if (had[cap / 32].permitted & 1u << cap % 32 &&
		    host_call(__NR_prctl, 47 /* PR_CAP_AMBIENT */, 1 /* IS_SET */, cap, 0, 0) == 1)
			now[cap / 32].effective = now[cap / 32].permitted |= 1u << cap % 32;
	host_call(__NR_capset, &head, now);
}

void exec_credentials(void)
{
	u32 uid[3], gid[3], signal = 0;
	u64 bits = (u64)host_call(__NR_prctl, 27 /* PR_GET_SECUREBITS */);

	host_call(__NR_prctl, 2 /* PR_GET_PDEATHSIG */, &signal);
	host_call(__NR_getresuid, &uid[0], &uid[1], &uid[2]);
	host_call(__NR_getresgid, &gid[0], &gid[1], &gid[2]);
	if (gid[2] != gid[1])
		host_call(__NR_setresgid, -1, -1, gid[1]);
	if (uid[2] != uid[1])
		host_call(__NR_setresuid, -1, -1, uid[1]);
	if (bits & SECBIT_KEEP_CAPS)
		host_call(__NR_prctl, 8 /* PR_SET_KEEPCAPS */, 0);
	if ((uid[0] && uid[1]) || (bits & SECBIT_NOROOT))
		drop_capabilities();
	/* A change of rights makes the host forget these two (commit_creds). */
	host_call(__NR_prctl, 4 /* PR_SET_DUMPABLE */, uid[0] == uid[1] && gid[0] == gid[1], 0, 0, 0);
	host_call(__NR_prctl, 1 /* PR_SET_PDEATHSIG */, signal ? signal : SIG_PRIVATE, 0, 0, 0);
}
