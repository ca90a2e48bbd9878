/*
 * From a virtual to a physical address by /proc/self/pagemap: one 64-bit entry a page, its low 55 bits the frame
 * number (Documentation/admin-guide/mm/pagemap.rst).  Physical = frame number * 4096 + offset in the page.
 */
#include "look.h"

static int variable = 0x12345678;

int main(void)
{
	uintptr_t address = (uintptr_t)&variable;
	long frame;

	variable++; /* in a frame of this process's own now */
	frame = frame_of(&variable);
	printf("variable = %#x at virtual %#lx: page %#lx, offset %#lx\n", variable, address, address / PAGE, address % PAGE);
	if (frame <= 0) {
		printf("frame numbers are for root only here\n");
		return 0;
	}
	printf("frame %#lx, so physical %#lx\n", frame, frame * PAGE + address % PAGE);
	return 0;
}
