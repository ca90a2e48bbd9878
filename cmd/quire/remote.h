/* The commands that reach a running machine (remote.c): each a main() of its own. */
#ifndef QUIRE_CMD_REMOTE_H
#define QUIRE_CMD_REMOTE_H
int remote_exec(int argc, char **argv);
int remote_ps(int argc, char **argv);
int remote_maps(int argc, char **argv);
int remote_cat(int argc, char **argv);
int remote_dmesg(int argc, char **argv);
int remote_translate(int argc, char **argv);
int remote_devmem(int argc, char **argv);
#endif
