/*
 * Where functions end, by .eh_frame: what lies between the end of one and the beginning of the next belongs to neither.
 *
 * Only the form that linkers write is read (LSB Core 10.6.2, DWARF 5 6.4.1): a sorted table of 32-bit pairs in .eh_frame_hdr, pointers in
 * frame descriptions as 32-bit offsets from themselves.  Everything is read through the file's own operations: the file may be cut or
 * rewritten at any time, so nothing read is believed without a check, and a nonsense only means that nothing is rewritten.
 */
#include "kernel.h"
#include "patch.h"
#include <linux/elf.h>

#define PT_GNU_EH_FRAME_ 0x6474e550u
#define HDR_ENCODINGS 0x3b031b01u /* version 1; pcrel sdata4; udata4; datarel sdata4 */
#define HDR_TABLE 12

static bool read_at(struct patch_elf *e, u64 off, void *to, size_t n)
{
	struct address_space *m = e->f->mapping;

	return m->ops->copy_out(m, off, to, n) == (long)n;
}

static bool read_headers(struct patch_elf *e, u64 off)
{
	struct elf64_hdr eh;
	struct elf64_phdr ph;
	u32 i;

	if (!read_at(e, 0, &eh, sizeof(eh)) || memcmp(eh.e_ident, ELFMAG, SELFMAG) || eh.e_phentsize != sizeof(ph))
		return false;
	for (i = 0; i < eh.e_phnum; i++) {
		if (!read_at(e, eh.e_phoff + i * sizeof(ph), &ph, sizeof(ph)))
			return false;
		if (ph.p_type == PT_GNU_EH_FRAME_) {
			e->hdr_off = ph.p_offset;
			e->hdr_vaddr = ph.p_vaddr;
		}
		if (ph.p_type == PT_LOAD && (ph.p_flags & PF_X) && off >= ph.p_offset && off - ph.p_offset < ph.p_filesz) {
			e->load_off = ph.p_offset;
			e->load_vaddr = ph.p_vaddr;
			e->load_size = ph.p_filesz;
		}
	}
	/* .eh_frame follows its header in the same segment. */
	e->eh_bias = e->hdr_vaddr - e->hdr_off;
	return e->hdr_off && e->load_size;
}

bool patch_elf_open(struct patch_elf *e, struct file *f, u64 off)
{
	u32 head[3];

	memset(e, 0, sizeof(*e));
	e->f = f;
	if (!read_headers(e, off) || !read_at(e, e->hdr_off, head, sizeof(head)) || head[0] != HDR_ENCODINGS)
		return false;
	e->nfde = head[2];
	return e->nfde > 1 && e->nfde < 1u << 24;
}

/* Entry i of the table: where its function begins and its description lies (virtual addresses). */
static bool table_entry(struct patch_elf *e, u32 i, u64 *func, u64 *fde)
{
	s32 pair[2];

	if (i >= e->nfde || !read_at(e, e->hdr_off + HDR_TABLE + 8ull * i, pair, sizeof(pair)))
		return false;
	*func = e->hdr_vaddr + (u64)(s64)pair[0];
	*fde = e->hdr_vaddr + (u64)(s64)pair[1];
	return true;
}

/* The description must name the same function, or its encoding is not the one that we know. */
static bool function_length(struct patch_elf *e, u64 func, u64 fde, u64 *len)
{
	struct { u32 length, cie; s32 begin; u32 range; } d;

	if (!read_at(e, fde - e->eh_bias, &d, sizeof(d)) || d.length < 12 || d.length == ~0u || !d.cie)
		return false;
	if (fde + 8 + (u64)(s64)d.begin != func)
		return false;
	*len = d.range;
	return d.range != 0;
}

bool patch_function_at(struct patch_elf *e, u64 off, u64 *start, u64 *end, u64 *next)
{
	u64 bias = e->load_vaddr - e->load_off, at = off + bias, func, fde, len;
	u32 lo = 0, hi = e->nfde, mid;

	if (off < e->load_off || off - e->load_off >= e->load_size)
		return false;
	/* The last entry that begins at or before `at` is below hi. */
	while (hi - lo > 1) {
		mid = lo + (hi - lo) / 2;
		if (!table_entry(e, mid, &func, &fde))
			return false;
		if (func <= at)
			lo = mid;
		else
			hi = mid;
	}
	if (!table_entry(e, lo, &func, &fde) || func > at || !function_length(e, func, fde, &len) || at - func >= len)
		return false;
	*start = func - bias;
	*end = *start + len;
	if (!table_entry(e, lo + 1, &func, &fde))
		return false;
	*next = func - bias;
	return *next >= *end;
}
