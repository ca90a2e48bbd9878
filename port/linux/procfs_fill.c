/*
 * Text into the memfd behind a served descriptor (procfs.c).
 *
 * Most files are made whole.  Those made VMA by VMA (maps, smaps) may have many thousand blocks, each of which costs a walk over the
 * page tables, and a reader often wants the first only; so they grow as they are read, as a seq_file does on Linux.
 * What has been made stays until somebody reads from the beginning again.
 *
 * Locks: none; who shares the descriptor is the caller's business.
 */
#include "procfs.h"
#include "../../proc/proc.h"
#include "x86_64/native_nr.h"

#define TEXT_ROOM 16384u       /* first guess, bytes */
#define TEXT_MAX (256ull << 20)
#define SEQ_ROOM (PROC_SEQ_PAGE + PROC_VMA_TEXT_MAX) /* on the stack */
#define HOST_PROT_RW 3
#define HOST_MAP_PRIVATE_ANON 0x22

static void *map_buffer(u64 bytes)
{
	long r = host_call(__NR_mmap, 0, bytes, HOST_PROT_RW, HOST_MAP_PRIVATE_ANON, -1, 0);

	return r < 0 && r > -4096 ? NULL : (void *)r;
}

static int write_at(int fd, const char *text, u64 len, u64 at)
{
	u64 done = 0;

	while (done < len) {
		long n = host_call(__NR_pwrite64, fd, text + done, len - done, at + done);

		if (n <= 0)
			return n ? (int)n : -EIO;
		done += (u64)n;
	}
	return 0;
}

/* The text's size is known only afterwards: the buffer grows until it fits. */
int procfs_fill(int fd, const struct procfs_name *name)
{
	u64 room = TEXT_ROOM;
	int r;

	for (;;) {
		char *buf = map_buffer(room);
		struct fmt_buf out;

		if (!buf)
			return -ENOMEM;
		out = fmt_init(buf, room);
		r = procfs_text(name, &out);
		if (!r && !fmt_truncated(&out)) {
			r = write_at(fd, buf, out.len, 0);
			r = r ? r : (int)host_call(__NR_ftruncate, fd, out.len);
		} else if (!r && room < TEXT_MAX) {
			r = 1;
		}
		host_call(__NR_munmap, buf, room);
		if (r != 1)
			return r;
		room = PAGE_ALIGN(out.len + out.len / 4 + PAGE_SIZE);
	}
}

int procfs_fill_to(int fd, const struct procfs_name *name, struct procfs_seq *seq, u64 want)
{
	char buf[SEQ_ROOM];
	int r = 0;

	while (!r && seq->next != PROCFS_SEQ_END && seq->filled < want) {
		struct fmt_buf out = fmt_init(buf, sizeof(buf));

		r = procfs_text_from(name, &seq->next, &out);
		if (!r)
			r = write_at(fd, buf, fmt_stored(&out), seq->filled);
		if (!r)
			seq->filled += fmt_stored(&out);
	}
	return r;
}
