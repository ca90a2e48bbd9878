/* struct phys: what phys/ keeps in struct quire.  Nobody outside phys/ and proc/ looks inside. */
#ifndef QUIRE_PHYS_STATE_H
#define QUIRE_PHYS_STATE_H
#include <quire/phys.h>
struct phys {
	u64 placeholder;
};
#endif
