/*
 * Who may roll a context back, and when: claims, deaths under a claim, and contexts that go to somebody else.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <port/sim/sim.h>
#include <stdlib.h>
#include <sync.h>

#define OTHER 900u
#define THIRD 901u

struct open {
	struct ctx *c;
	struct spinlock lock;
	u64 value; /* was 1 at the last commit, is 2 */
};

static struct ctx *new_ctx(struct quire *q, u32 id)
{
	struct ctx *c = calloc(1, sizeof(*c));

	assert_non_null(c);
	ctx_init(c, q, id);
	return c;
}

/* A context in the middle of a transaction. */
static void open_transaction(struct open *o, struct quire *q)
{
	o->c = new_ctx(q, OTHER);
	o->lock.word = OTHER;
	o->c->held[0] = (struct held_lock){ .lock = &o->lock, .depth = 1 };
	o->c->nheld = o->c->depth = 1;
	o->value = 1;
	undo_note(o->c, &o->value, sizeof(o->value));
	o->value = 2;
}

static void die(struct ctx *c)
{
	__atomic_store_n(&c->life, 0x40000000u, __ATOMIC_RELEASE);
}

static void the_dead_are_rolled_back(void **state)
{
	struct quire *q = sim_machine_new(NULL);
	struct open o;

	(void)state;
	open_transaction(&o, q);
	die(o.c);
	assert_true(ctx_recover(o.c));
	assert_int_equal(o.value, 1);
	assert_int_equal(o.lock.word, 0);
	assert_int_equal(o.c->nheld + o.c->recovering, 0);
	assert_null(port_ctx()->recovers);
	free(o.c);
	sim_machine_free(q);
}

/* A waiter saw a dead owner, slept, and comes back when the context is in use again. */
static void the_living_are_left_alone(void **state)
{
	struct quire *q = sim_machine_new(NULL);
	struct open o;

	(void)state;
	open_transaction(&o, q);
	assert_true(ctx_recover(o.c));
	assert_int_equal(o.value, 2);
	assert_int_equal(o.lock.word, OTHER);
	assert_int_equal(o.c->nheld, 1);
	assert_int_equal(o.c->recovering, 0);
	free(o.c);
	sim_machine_free(q);
}

/* The recoverer dies with its claim; its context may live again before anybody looks. */
static void a_claim_goes_with_its_owner(void **state)
{
	struct quire *q = sim_machine_new(NULL);
	struct ctx *helper = new_ctx(q, THIRD);
	struct open o;

	(void)state;
	open_transaction(&o, q);
	die(o.c);
	helper->recovers = o.c;
	o.c->recovering = THIRD;
	die(helper);
	assert_true(ctx_recover(helper));
	assert_int_equal(o.c->recovering, 0);
	assert_null(helper->recovers);
	assert_true(ctx_recover(o.c));
	assert_int_equal(o.value, 1);
	free(o.c);
	free(helper);
	sim_machine_free(q);
}

/* The former owner was killed between freeing its last lock and striking it off. */
static void settling_finishes_the_last_unlock(void **state)
{
	struct quire *q = sim_machine_new(NULL);
	struct open o;

	(void)state;
	open_transaction(&o, q);
	o.c->undo_state = 0;
	o.lock.word = THIRD; /* somebody else's already */
	die(o.c);
	ctx_settle(o.c);
	assert_int_equal(o.c->nheld, 0);
	assert_int_equal(o.c->life, 1);
	assert_int_equal(o.lock.word, THIRD);
	assert_int_equal(o.value, 2);
	assert_int_equal(o.c->recovering, 0);
	free(o.c);
	sim_machine_free(q);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_dead_are_rolled_back),
		cmocka_unit_test(the_living_are_left_alone),
		cmocka_unit_test(a_claim_goes_with_its_owner),
		cmocka_unit_test(settling_finishes_the_last_unlock),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
