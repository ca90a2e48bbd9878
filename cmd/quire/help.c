/*
 * Help texts: `quire --help`, `quire run --help` and the man page, all made from the tables of commands (main.c)
 * and options (options.c), so that there is one source.  No locks, no state.
 */
#include "options.h"

#include <ctype.h>
#include <string.h>

#define HELP_WIDTH 78
#define HELP_INDENT 26

static const char *const what_it_is =
	"Quire runs unmodified Linux programs on a virtual memory system of its own: its own physical memory, page "
	"tables, page faults, copy-on-write, page cache and out-of-memory killer, in user mode. It is not a security "
	"boundary.";

static const char *const exit_codes[][2] = {
	{"125", "Quire itself failed: bad options, no memory from the host, or the machine had to end."},
	{"126", "The program was found but cannot be executed."},
	{"127", "The program was not found."},
	{"128+N", "The program was ended by signal N: 137 is SIGKILL, the out-of-memory killer's."},
	{"other", "The exit code of the program."},
};

/* Prints text in words from column `col` on, continuing at `indent`. */
static void wrap(FILE *out, const char *text, size_t col, size_t indent)
{
	size_t start = col;

	while (*text) {
		size_t n = strcspn(text, " ");

		if (col > start && col + 1 + n > HELP_WIDTH) {
			fprintf(out, "\n%*s", (int)indent, "");
			col = start = indent;
		} else if (col > start) {
			fputc(' ', out);
			col++;
		}
		fprintf(out, "%.*s", (int)n, text);
		col += n;
		text += n;
		text += *text == ' ';
	}
	fputc('\n', out);
}

/* "  head" and its text beside it, or below it when head is long. */
static void entry(FILE *out, const char *head, const char *text)
{
	size_t col = strlen(head) + 2;

	fprintf(out, "  %s", head);
	if (col + 2 > HELP_INDENT) {
		fputc('\n', out);
		col = 0;
	}
	fprintf(out, "%*s", (int)(HELP_INDENT - col), "");
	wrap(out, text, HELP_INDENT, HELP_INDENT);
}

static void option_head(char *buf, size_t size, const struct option_spec *s)
{
	snprintf(buf, size, "--%s%s%s", s->name, s->arg ? " " : "", s->arg ? s->arg : "");
}

static void option_text(char *buf, size_t size, const struct option_spec *s)
{
	if (s->fallback)
		snprintf(buf, size, "%s Default: %s.", s->help, s->fallback);
	else
		snprintf(buf, size, "%s", s->help);
}

static void print_options(FILE *out)
{
	char head[64], text[512];

	for (const struct option_spec *s = run_option_table; s->name; s++) {
		option_head(head, sizeof(head), s);
		option_text(text, sizeof(text), s);
		entry(out, head, text);
	}
}

static void print_exit_codes(FILE *out)
{
	fprintf(out, "\nExit codes:\n");
	for (size_t i = 0; i < ARRAY_SIZE(exit_codes); i++)
		entry(out, exit_codes[i][0], exit_codes[i][1]);
}

void help_run(FILE *out)
{
	fprintf(out, "Usage: quire run [OPTIONS] [--] PROGRAM [ARGUMENTS]\n\n");
	fprintf(out, "Starts a machine and runs PROGRAM on its memory.\n\nOptions:\n");
	print_options(out);
	print_exit_codes(out);
}

void help_main(FILE *out, const struct command_spec *commands)
{
	char head[128], text[512];

	fprintf(out, "Usage: quire COMMAND [ARGUMENTS]\n\n");
	wrap(out, what_it_is, 0, 0);
	fprintf(out, "\nCommands:\n");
	for (const struct command_spec *c = commands; c->name; c++) {
		snprintf(head, sizeof(head), "%s %s", c->name, c->args);
		snprintf(text, sizeof(text), "%s%s", c->help, c->main ? "" : " Not there yet.");
		entry(out, head, text);
	}
	fprintf(out, "\n'quire run --help' lists the options of run; 'quire --man' prints the man page.\n");
	print_exit_codes(out);
}

/* Text in roff: dashes and backslashes would else be taken for hyphens and escapes. */
static void roff(FILE *out, const char *text)
{
	for (; *text; text++) {
		if (*text == '-' || *text == '\\')
			fputc('\\', out);
		fputc(*text, out);
	}
	fputc('\n', out);
}

static void roff_entry(FILE *out, const char *head, const char *text)
{
	fprintf(out, ".TP\n.B ");
	roff(out, head);
	roff(out, text);
}

void help_man(FILE *out, const struct command_spec *commands)
{
	char head[128], text[512];

	fprintf(out, ".TH QUIRE 1\n.SH NAME\nquire \\- a Linux\\-style virtual memory system in user mode\n");
	fprintf(out, ".SH SYNOPSIS\n.B quire run\n[OPTIONS] [\\-\\-] PROGRAM [ARGUMENTS]\n.br\n.B quire\nCOMMAND [ARGUMENTS]\n");
	fprintf(out, ".SH DESCRIPTION\n");
	roff(out, what_it_is);
	fprintf(out, ".SH COMMANDS\n");
	for (const struct command_spec *c = commands; c->name; c++) {
		snprintf(head, sizeof(head), "%s %s", c->name, c->args);
		snprintf(text, sizeof(text), "%s%s", c->help, c->main ? "" : " Not there yet.");
		roff_entry(out, head, text);
	}
	fprintf(out, ".SH OPTIONS OF RUN\n");
	for (const struct option_spec *s = run_option_table; s->name; s++) {
		option_head(head, sizeof(head), s);
		option_text(text, sizeof(text), s);
		roff_entry(out, head, text);
	}
	fprintf(out, ".SH EXIT STATUS\n");
	for (size_t i = 0; i < ARRAY_SIZE(exit_codes); i++)
		roff_entry(out, exit_codes[i][0], exit_codes[i][1]);
}
