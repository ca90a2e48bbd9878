/* struct kmem: what kmem/ keeps in struct quire.  Nobody outside kmem/ and proc/ looks inside. */
#ifndef QUIRE_KMEM_STATE_H
#define QUIRE_KMEM_STATE_H
#include <quire/kmem.h>
struct kmem {
	u64 placeholder;
};
#endif
