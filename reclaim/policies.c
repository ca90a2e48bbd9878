/*
 * The policies that a machine can be run with, by name.  A new one is added to this table (docs/policies.md).
 */
#include "vmscan.h"

static const struct reclaim_policy *const policies[] = { &policy_second_chance, &policy_generations, &policy_clock };

const struct reclaim_policy *reclaim_policy_nth(unsigned n)
{
	return n < ARRAY_SIZE(policies) ? policies[n] : NULL;
}

const struct reclaim_policy *reclaim_policy_by_name(const char *name)
{
	for (unsigned i = 0; i < ARRAY_SIZE(policies); i++)
		if (!strcmp(policies[i]->name, name))
			return policies[i];
	return NULL;
}
