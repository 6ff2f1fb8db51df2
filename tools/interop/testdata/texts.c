/*
 * A filter that says what the library's texts come to: one question per line of the input, a word and a text
 * in hexadecimal, one line of answer each. No daemon is asked.
 */
#include "say.h"

#define LINE 65536

static void hex(const char *s, size_t n)
{
	size_t i;

	putchar(' ');
	for (i = 0; i < n; i++)
		printf("%02x", (unsigned char)s[i]);
	if (!n)
		putchar('-');
}

static void name(const char *s)
{
	hex(s, strnlen(s, SANLK_NAME_LEN));
}

static void resource(const struct sanlk_resource *r)
{
	uint32_t i;

	name(r->lockspace_name);
	name(r->name);
	printf(" %x %" PRIu64 " %u", r->flags, r->lver, r->num_disks);
	for (i = 0; i < r->num_disks; i++) {
		hex(r->disks[i].path, strnlen(r->disks[i].path, SANLK_PATH_LEN));
		printf(" %" PRIu64, r->disks[i].offset);
	}
}

static void one_resource(char *text)
{
	struct sanlk_resource *r = NULL;
	char *again = NULL;
	int rv = sanlock_str_to_res(text, &r);

	printf("%d", rv);
	if (rv < 0)
		return;
	resource(r);
	rv = sanlock_res_to_str(r, &again);
	printf(" %d", rv);
	if (rv == 0)
		hex(again, strlen(again));
	free(again);
	free(r);
}

static void state(char *text)
{
	struct sanlk_resource **all = NULL;
	char *again = NULL;
	int i, n = 0, rv = sanlock_state_to_args(text, &n, &all);

	printf("%d %d", rv, rv < 0 ? 0 : n);
	if (rv < 0)
		return;
	for (i = 0; i < n; i++)
		resource(all[i]);
	rv = sanlock_args_to_state(n, all, &again);
	printf(" %d", rv);
	if (rv == 0)
		hex(again ? again : "", again ? strlen(again) : 0);
	free(again);
}

static void lockspace(char *text)
{
	struct sanlk_lockspace ls;
	int rv;

	memset(&ls, 0, sizeof ls);
	rv = sanlock_str_to_lockspace(text, &ls);
	printf("%d", rv);
	if (rv < 0)
		return;
	name(ls.name);
	printf(" %" PRIu64, ls.host_id);
	hex(ls.host_id_disk.path, strnlen(ls.host_id_disk.path, SANLK_PATH_LEN));
	printf(" %" PRIu64, ls.host_id_disk.offset);
}

static void path(const char *text)
{
	char out[SANLK_PATH_LEN] = "", in[SANLK_PATH_LEN] = "";

	printf("%zu", sanlock_path_export(out, text, sizeof out));
	hex(out, strlen(out));
	printf(" %zu", sanlock_path_import(in, text, sizeof in));
	hex(in, strlen(in));
}

int main(void)
{
	static char line[LINE], text[LINE];
	size_t i, n;
	unsigned byte;
	char *h;

	while (fgets(line, sizeof line, stdin)) {
		h = strchr(line, ' ');
		if (!h)
			return 2;
		*h++ = 0;
		n = strcspn(h, "\n") / 2;
		for (i = 0; i < n; i++) {
			if (sscanf(h + 2 * i, "%2x", &byte) != 1)
				return 2;
			text[i] = byte;
		}
		text[n] = 0;
		if (!strcmp(line, "resource"))
			one_resource(text);
		else if (!strcmp(line, "state"))
			state(text);
		else if (!strcmp(line, "lockspace"))
			lockspace(text);
		else if (!strcmp(line, "path"))
			path(text);
		else if (!strcmp(line, "number"))
			printf("%s", sanlock_strerror(atoi(text)));
		else
			return 2;
		putchar('\n');
	}
	return 0;
}
