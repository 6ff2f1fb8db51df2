/*
 * A client that calls everything there is for a resource index, good and bad, and prints every result.
 *
 * usage: index DEVICE SECTOR_SIZE    (SANLOCK_RUN_DIR names the daemon)
 */
#include "say.h"

/* the index takes two areas: itself and the lease that protects it */
#define INDEX 1
#define FIRST 3
#define AREAS 8

static struct sanlk_rindex *at(struct sanlk_rindex *rx, const char *space, int n)
{
	memset(rx, 0, sizeof *rx);
	strncpy(rx->lockspace_name, space, SANLK_NAME_LEN);
	strncpy(rx->disk.path, device, SANLK_PATH_LEN - 1);
	rx->disk.offset = n * area;
	return rx;
}

static struct sanlk_rentry *entry(struct sanlk_rentry *re, const char *name, int n)
{
	memset(re, 0, sizeof *re);
	strncpy(re->name, name, SANLK_NAME_LEN);
	re->offset = n * area;
	return re;
}

static void tell(const char *what, int rv, const struct sanlk_rentry *re)
{
	printf("%s = %d", what, rv);
	if (rv == 0)
		printf(" %.48s %" PRIu64 " %x", re->name[0] ? re->name : "-", re->offset / area, re->flags);
	printf("\n");
	fflush(stdout);
}

static void lookup(const char *what, const char *name, int n, uint32_t flags)
{
	struct sanlk_rindex rx;
	struct sanlk_rentry re;

	tell(what, sanlock_lookup_rindex(at(&rx, "LS", INDEX), flags, entry(&re, name, n)), &re);
}

static void update(const char *what, const char *name, int n, uint32_t flags)
{
	struct sanlk_rindex rx;
	struct sanlk_rentry re;

	tell(what, sanlock_update_rindex(at(&rx, "LS", INDEX), flags, entry(&re, name, n)), &re);
}

static void create(const char *what, const char *name, int hosts)
{
	struct sanlk_rindex rx;
	struct sanlk_rentry re;

	tell(what, sanlock_create_resource(at(&rx, "LS", INDEX), 0, entry(&re, name, 0), 0, hosts), &re);
}

static void delete(const char *what, const char *name, int n)
{
	struct sanlk_rindex rx;
	struct sanlk_rentry re;

	say(what, sanlock_delete_resource(at(&rx, "LS", INDEX), 0, entry(&re, name, n)));
}

static void rebuild(const char *what, const char *space, int n, uint32_t flags)
{
	struct sanlk_rindex rx;

	say(what, sanlock_rebuild_rindex(at(&rx, space, n), flags));
}

static void everything(void)
{
	int n;
	char what[32];

	for (n = FIRST; n < AREAS; n++) {
		snprintf(what, sizeof what, "what is at %d", n);
		lookup(what, "", n, 0);
	}
}

static void format(void)
{
	struct sanlk_rindex rx;

	say("format", sanlock_format_rindex(at(&rx, "LS", INDEX), 0));
	say("format again", sanlock_format_rindex(&rx, 0));
	rx.flags = SANLK_RIF_SECTOR512;
	say("format half of the flags", sanlock_format_rindex(&rx, 0));
	rx.flags = SANLK_RIF_SECTOR512 | SANLK_RIF_ALIGN8M;
	say("format impossible sizes", sanlock_format_rindex(&rx, 0));
	say("format beyond the end", sanlock_format_rindex(at(&rx, "LS", 100), 0));
	strcpy(at(&rx, "LS", INDEX)->disk.path, "/nonexistent");
	say("format without device", sanlock_format_rindex(&rx, 0));
	rx.disk.path[0] = 0;
	say("format without path", sanlock_format_rindex(&rx, 0));
}

/* without the lockspace the index can be read and written only when that is asked for */
static void before(void)
{
	create("create before", "a", 0);
	delete("delete before", "a", 0);
	lookup("lookup before", "a", 0, 0);
	update("update before", "a", FIRST, SANLK_RXUP_ADD);
	rebuild("rebuild before", "LS", INDEX, 0);
	lookup("lookup without the lockspace", "a", 0, SANLK_RX_NO_LOCKSPACE);
	update("update without the lockspace", "a", FIRST, SANLK_RXUP_ADD | SANLK_RX_NO_LOCKSPACE);
	lookup("lookup without the lockspace", "a", 0, SANLK_RX_NO_LOCKSPACE);
	rebuild("rebuild without the lockspace", "LS", INDEX, SANLK_RX_NO_LOCKSPACE);
	lookup("lookup without the lockspace", "a", 0, SANLK_RX_NO_LOCKSPACE);
	rebuild("rebuild what is no index", "LS", FIRST, SANLK_RX_NO_LOCKSPACE);
	rebuild("rebuild of another lockspace", "other", INDEX, SANLK_RX_NO_LOCKSPACE);
}

static void within(void)
{
	struct sanlk_rindex rx;
	struct sanlk_rentry re;
	struct lease l;

	lookup("free", "", 0, 0);
	create("create", "one", 0);
	create("create with 8 hosts", "two", 8);
	create("create without name", "", 0);
	lookup("by name", "two", 0, 0);
	lookup("by place", "", FIRST, 0);
	lookup("by both", "one", FIRST, 0);
	lookup("by both, wrong", "two", FIRST, 0);
	lookup("unknown", "three", 0, 0);
	lookup("free", "", 0, 0);
	entry(&re, "", FIRST)->offset += 4096;
	tell("lookup of half an area", sanlock_lookup_rindex(at(&rx, "LS", INDEX), 0, &re), &re);
	tell("lookup what is no index", sanlock_lookup_rindex(at(&rx, "LS", FIRST), 0, entry(&re, "one", 0)), &re);
	tell("lookup in another lockspace", sanlock_lookup_rindex(at(&rx, "other", INDEX), 0, entry(&re, "one", 0)), &re);
	tell("lookup beyond the end", sanlock_lookup_rindex(at(&rx, "LS", 100), 0, entry(&re, "one", 0)), &re);
	everything();
	update("update nothing", "x", 7, 0);
	update("update without place", "x", 0, SANLK_RXUP_ADD);
	update("update without name", "", 6, SANLK_RXUP_ADD);
	update("add", "x", 6, SANLK_RXUP_ADD);
	update("add again", "y", 6, SANLK_RXUP_ADD);
	lookup("what was added", "", 6, 0);
	update("remove without place", "x", 0, SANLK_RXUP_REM);
	update("remove", "x", 6, SANLK_RXUP_REM);
	update("remove by place", "", 6, SANLK_RXUP_REM);
	everything();
	say("read_resource one", sanlock_read_resource(lease(&l, "LS", "one", FIRST), 0));
	say("write_resource beside the index", sanlock_write_resource(lease(&l, "LS", "beside", 6), 0, 0, 0));
	lookup("what the index does not know", "beside", 0, 0);
	rebuild("rebuild", "LS", INDEX, 0);
	lookup("what the index knows now", "beside", 0, 0);
	delete("delete by name", "one", 0);
	delete("delete again", "one", 0);
	delete("delete by place", "", FIRST + 1);
	delete("delete by wrong name", "x", 6);
	delete("delete nothing", "", 0);
	say("read_resource one", sanlock_read_resource(lease(&l, "LS", "one", FIRST), 0));
	create("create where one was", "three", 0);
	everything();
}

int main(int argc, char *argv[])
{
	struct sanlk_lockspace ls;

	place(argc, argv);
	space(&ls, "LS", 0, 0);
	say("write_lockspace", sanlock_write_lockspace(&ls, 0, 0, 1));
	format();
	before();
	ls.host_id = 1;
	say("add_lockspace", sanlock_add_lockspace_timeout(&ls, 0, 2));
	within();
	say("rem_lockspace", sanlock_rem_lockspace(&ls, 0));
	lookup("lookup after", "three", 0, 0);
	lookup("lookup after, without the lockspace", "three", 0, SANLK_RX_NO_LOCKSPACE);
	return 0;
}
