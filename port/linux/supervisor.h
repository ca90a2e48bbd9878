/* The supervisor of a hosted machine: an ordinary libc program (supervisor.c). */
#ifndef QUIRE_LINUX_SUPERVISOR_H
#define QUIRE_LINUX_SUPERVISOR_H
struct run_options;
/* The first thing in main(), for whatever maps a machine: executes this program once more if the user's limits made the host use the
 * addresses that machines need (sup_limits.c). */
void limits_find_room(char **argv);

/* Runs a machine until its first program ends.  Returns the exit code: the program's, 128 + signal, 125, 126, 127. */
int supervisor_run(const struct run_options *o);
#endif
