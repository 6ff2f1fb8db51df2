/*
 * One client of libsanlock_client that calls what lock managers call, good and bad, and prints every result.
 *
 * usage: client DEVICE SECTOR_SIZE    (SANLOCK_RUN_DIR names the daemon)
 */
#include "say.h"

static int acquire(int fd, uint32_t flags, struct sanlk_resource *r)
{
	return sanlock_acquire(fd, -1, flags, 1, &r, NULL);
}

static int release(int fd, uint32_t flags, struct sanlk_resource *r)
{
	return sanlock_release(fd, -1, flags, 1, &r);
}

static void inquire(int fd)
{
	char *state = NULL;
	int count = -1;
	int rv = sanlock_inquire(fd, -1, 0, &count, &state);

	printf("inquire = %d, %d: %s\n", rv, count, state ? state : "(none)");
	free(state);
}

static void owners(struct sanlk_resource *r)
{
	struct sanlk_host *h = NULL;
	int i, n = 0;
	int rv = sanlock_read_resource_owners(r, 0, &h, &n);

	printf("read_resource_owners = %d, lver %" PRIu64 " flags %x, %d:", rv, r->lver, r->flags, n);
	for (i = 0; rv == 0 && i < n; i++)
		printf(" {%" PRIu64 " %" PRIu64 " %s %u %u}", h[i].host_id, h[i].generation,
		       h[i].timestamp ? "time" : "0", h[i].io_timeout, h[i].flags);
	printf("\n");
	r->flags = 0;
	r->lver = 0;
	free(h);
}

static void hosts(const char *name, uint64_t id)
{
	struct sanlk_host *h = NULL;
	int i, steps, n = 0, rv = -1;

	for (steps = 0; steps < WAIT_STEPS; steps++) {
		rv = sanlock_get_hosts(name, id, &h, &n, 0);
		if (rv != -11)
			break;
		usleep(WAIT_STEP_US);
	}
	printf("get_hosts(%s, %" PRIu64 ") = %d, %d:", name, id, rv, n);
	for (i = 0; rv == 0 && i < n; i++)
		printf(" {%" PRIu64 " %" PRIu64 " %s %u %u}", h[i].host_id, h[i].generation,
		       h[i].timestamp ? "time" : "0", h[i].io_timeout, h[i].flags);
	printf("\n");
	free(h);
}

static void format(void)
{
	struct sanlk_lockspace ls;
	struct lease l;
	uint32_t io = 0;
	int i, rv;
	char name[8];

	space(&ls, "LS", 0, 0);
	say("align", sanlock_align(&ls.host_id_disk));
	say("read_lockspace blank", sanlock_read_lockspace(&ls, 0, &io));
	say("write_lockspace", sanlock_write_lockspace(&ls, 0, 0, 2));
	space(&ls, "", 0, 0);
	rv = sanlock_read_lockspace(&ls, 0, &io);
	printf("read_lockspace = %d, %s host_id %" PRIu64 " flags %x io_timeout %u\n", rv, ls.name, ls.host_id, ls.flags, io);
	space(&ls, "other", 0, 0);
	say("read_lockspace wrong name", sanlock_read_lockspace(&ls, 0, &io));
	space(&ls, "LS", 0, 0);
	ls.flags = SANLK_LSF_SECTOR512;
	say("write_lockspace half of the flags", sanlock_write_lockspace(&ls, 0, 0, 2));

	say("read_resource blank", sanlock_read_resource(lease(&l, "LS", "R1", 1), 0));
	for (i = 1; i <= 3; i++) {
		snprintf(name, sizeof name, "R%d", i);
		say("write_resource", sanlock_write_resource(lease(&l, "LS", name, i), 0, 0, 0));
	}
	lease(&l, "", "", 1);
	rv = sanlock_read_resource(&l.r, 0);
	printf("read_resource = %d, %s %s lver %" PRIu64 " flags %x\n", rv, l.r.lockspace_name, l.r.name, l.r.lver, l.r.flags);
	say("read_resource wrong name", sanlock_read_resource(lease(&l, "LS", "R2", 1), 0));
	say("read_resource wrong space", sanlock_read_resource(lease(&l, "other", "R1", 1), 0));
	say("read_resource beyond the end", sanlock_read_resource(lease(&l, "LS", "R1", 100), 0));
}

/* the old call of both kinds; it takes the number of hosts where write_resource takes the most there can be */
static void init(void)
{
	struct sanlk_lockspace ls;
	struct lease l;
	uint32_t io = 0;
	int rv;

	space(&ls, "OLD", 0, 0);
	say("init lockspace", sanlock_init(&ls, NULL, 0, 0));
	rv = sanlock_read_lockspace(&ls, 0, &io);
	printf("read_lockspace = %d, io_timeout %u\n", rv, io);
	say("init resource", sanlock_init(NULL, lease(&l, "OLD", "R1", 1), 0, 8));
	say("read_resource", sanlock_read_resource(lease(&l, "OLD", "R1", 1), 0));
	say("init beyond the end", sanlock_init(NULL, lease(&l, "OLD", "R1", 100), 0, 0));
	say("init lockspace beyond the end", (ls.host_id_disk.offset = 100 * area, sanlock_init(&ls, NULL, 0, 0)));
	say("init resource without disks", (l.r.num_disks = 0, sanlock_init(NULL, &l.r, 0, 0)));
	space(&ls, "OLD", 0, 0);
	strcpy(ls.host_id_disk.path, "/nonexistent");
	say("init without device", sanlock_init(&ls, NULL, 0, 0));
	ls.host_id_disk.path[0] = 0;
	say("init without path", sanlock_init(&ls, NULL, 0, 0));
	say("init of nothing", sanlock_init(NULL, NULL, 0, 0));
}

static void join(void)
{
	struct sanlk_lockspace ls, *all = NULL;
	int i, n = 0, rv;

	space(&ls, "LS", 2001, 0);
	say("add_lockspace host_id 2001", sanlock_add_lockspace_timeout(&ls, 0, 2));
	space(&ls, "LS", 0, 0);
	say("add_lockspace host_id 0", sanlock_add_lockspace_timeout(&ls, 0, 2));
	space(&ls, "other", 1, 0);
	say("add_lockspace wrong name", sanlock_add_lockspace_timeout(&ls, 0, 2));
	space(&ls, "LS", 1, area);
	say("add_lockspace on a resource", sanlock_add_lockspace_timeout(&ls, 0, 2));
	space(&ls, "LS", 1, 0);
	say("inq_lockspace before", sanlock_inq_lockspace(&ls, 0));
	say("rem_lockspace before", sanlock_rem_lockspace(&ls, 0));
	hosts("LS", 0);
	say("add_lockspace", sanlock_add_lockspace_timeout(&ls, 0, 2));
	say("add_lockspace again", sanlock_add_lockspace_timeout(&ls, 0, 2));
	say("inq_lockspace", sanlock_inq_lockspace(&ls, 0));
	say("inq_lockspace wait", sanlock_inq_lockspace(&ls, SANLK_INQ_WAIT));
	space(&ls, "LS", 2, 0);
	say("add_lockspace other host_id", sanlock_add_lockspace_timeout(&ls, 0, 2));
	say("inq_lockspace other host_id", sanlock_inq_lockspace(&ls, 0));
	space(&ls, "LS", 1, area);
	say("inq_lockspace other offset", sanlock_inq_lockspace(&ls, 0));
	rv = sanlock_get_lockspaces(&all, &n, 0);
	printf("get_lockspaces = %d, %d:", rv, n);
	for (i = 0; rv == 0 && i < n; i++)
		printf(" {%s %" PRIu64 " %x %s %" PRIu64 "}", all[i].name, all[i].host_id, all[i].flags,
		       all[i].host_id_disk.path, all[i].host_id_disk.offset);
	printf("\n");
	free(all);
	hosts("LS", 0);
	hosts("LS", 1);
	hosts("LS", 7);
	hosts("nowhere", 0);
	say("set_config used", sanlock_set_config("LS", 0, SANLK_CONFIG_USED, NULL));
	say("set_config unused", sanlock_set_config("LS", 0, SANLK_CONFIG_UNUSED, NULL));
	say("set_config nowhere", sanlock_set_config("nowhere", 0, SANLK_CONFIG_USED, NULL));
	say("set_config 3", sanlock_set_config("LS", 0, 3, NULL));
}

static void exclusive(int fd)
{
	struct lease l;
	struct sanlk_resource *r = lease(&l, "LS", "R1", 1);

	inquire(fd);
	say("acquire EX", acquire(fd, 0, r));
	say("acquire EX again", acquire(fd, 0, r));
	inquire(fd);
	owners(r);
	say("get_lvb without LVB", sanlock_get_lvb(0, r, (char[512]){0}, 512));
	say("convert EX to EX", sanlock_convert(fd, -1, 0, r));
	r->flags = SANLK_RES_SHARED;
	say("acquire SH over EX", acquire(fd, 0, r));
	say("convert EX to SH", sanlock_convert(fd, -1, 0, r));
	inquire(fd);
	owners(r);
	r->flags = SANLK_RES_SHARED;
	say("convert SH to SH", sanlock_convert(fd, -1, 0, r));
	r->flags = 0;
	say("convert SH to EX", sanlock_convert(fd, -1, 0, r));
	inquire(fd);
	owners(r);
	say("release", release(fd, 0, r));
	owners(r);
	say("release again", release(fd, 0, r));
	say("convert nothing", sanlock_convert(fd, -1, 0, r));
	r->flags = SANLK_RES_LVER;
	r->lver = 77;
	say("acquire wrong version", acquire(fd, 0, r));
	r->lver = 2;
	say("acquire right version", acquire(fd, 0, r));
	inquire(fd);
	say("release", release(fd, 0, r));
	say("acquire unjoined", acquire(fd, 0, lease(&l, "nowhere", "R1", 1)));
	say("acquire wrong name", acquire(fd, 0, lease(&l, "LS", "R9", 1)));
	say("acquire on the lockspace", acquire(fd, 0, lease(&l, "LS", "R1", 0)));
	say("acquire beyond the end", acquire(fd, 0, lease(&l, "LS", "R1", 100)));
	r = lease(&l, "LS", "R1", 1);
	strcpy(l.d.path, "/nonexistent");
	say("acquire without device", acquire(fd, 0, r));
	r = lease(&l, "LS", "R1", 1);
	r->num_disks = 0;
	say("acquire without disks", acquire(fd, 0, r));
	inquire(fd);
}

static void value_block(int fd, int size)
{
	struct lease l;
	struct sanlk_resource *r = lease(&l, "LS", "R1", 1);
	char out[8192], in[8192];

	memset(in, 'v', sizeof in);
	say("set_lvb of nothing", sanlock_set_lvb(0, r, in, 512));
	say("acquire LVB", acquire(fd, SANLK_ACQUIRE_LVB, r));
	say("set_lvb", sanlock_set_lvb(0, r, in, size));
	say("set_lvb start", sanlock_set_lvb(0, r, "tenure", 7));
	say("set_lvb too long", sanlock_set_lvb(0, r, in, size + 1));
	memset(out, 0, sizeof out);
	say("get_lvb", sanlock_get_lvb(0, r, out, size));
	printf("%.10s, last %d\n", out, out[size - 1]);
	say("release", release(fd, 0, r));
	say("acquire LVB", acquire(fd, SANLK_ACQUIRE_LVB, r));
	memset(out, 0, sizeof out);
	say("get_lvb", sanlock_get_lvb(0, r, out, 10));
	printf("%.10s, last %d\n", out, out[10]);
	r->flags = SANLK_RES_SHARED;
	say("convert EX to SH", sanlock_convert(fd, -1, 0, r));
	say("get_lvb", sanlock_get_lvb(0, r, out, size));
	say("release", release(fd, 0, r));
}

static void several(int fd)
{
	struct lease l[3];
	struct sanlk_resource *r[9];
	struct sanlk_options opt;
	int i;

	r[0] = lease(&l[0], "LS", "R1", 1);
	r[1] = lease(&l[1], "LS", "R2", 2);
	r[2] = lease(&l[2], "LS", "R3", 3);
	r[1]->flags = SANLK_RES_SHARED;
	memset(&opt, 0, sizeof opt);
	strcpy(opt.owner_name, "several");
	say("acquire 3", sanlock_acquire(fd, -1, 0, 3, r, &opt));
	inquire(fd);
	say("acquire SH again", sanlock_acquire(fd, -1, 0, 1, r + 1, NULL));
	inquire(fd);
	say("release SH", sanlock_release(fd, -1, 0, 1, r + 1));
	inquire(fd);
	owners(r[1]);
	say("release all", sanlock_release(fd, -1, SANLK_REL_ALL, 0, NULL));
	inquire(fd);
	r[1]->flags = 0;
	lease(&l[2], "LS", "R9", 3);
	say("acquire 2 good, 1 bad", sanlock_acquire(fd, -1, 0, 3, r, NULL));
	inquire(fd);
	owners(r[0]);
	for (i = 3; i < 9; i++)
		r[i] = r[0];
	say("acquire 9", sanlock_acquire(fd, -1, 0, 9, r, NULL));
	say("acquire by pid nobody", sanlock_acquire(-1, 999999, 0, 1, r, NULL));
	say("acquire by own pid", sanlock_acquire(-1, getpid(), 0, 1, r, NULL));
	inquire(fd);
	say("release by own pid", sanlock_release(-1, getpid(), 0, 1, r));
	inquire(-1);
}

static void orphan(int fd)
{
	struct lease l;
	struct sanlk_resource *r = lease(&l, "LS", "R2", 2);
	int steps, rv = 0, second = sanlock_register();

	r->flags = SANLK_RES_PERSISTENT;
	say("acquire persistent", acquire(second, 0, r));
	close(second);
	for (steps = 0; steps < WAIT_STEPS; steps++) {
		r->flags = 0;
		rv = acquire(fd, 0, r);
		if (rv != -17)
			break;
		usleep(WAIT_STEP_US);
	}
	say("acquire an orphan", rv);
	r->flags = SANLK_RES_SHARED;
	say("acquire an orphan SH", acquire(fd, SANLK_ACQUIRE_ORPHAN, r));
	r->flags = 0;
	say("acquire an orphan with the flag", acquire(fd, SANLK_ACQUIRE_ORPHAN, r));
	inquire(fd);
	say("release", release(fd, 0, r));
	say("acquire orphan only", acquire(fd, SANLK_ACQUIRE_ORPHAN_ONLY | SANLK_ACQUIRE_LVB, r));
	say("release orphans", release(fd, SANLK_REL_ORPHAN, r));
}

static void others(int fd)
{
	struct lease l, m;
	struct sanlk_resource *two[2], *r = lease(&l, "LS", "R3", 3);
	int steps, rv = 0, second;

	say("request of a free lease", sanlock_request(SANLK_REQUEST_NEXT_LVER, SANLK_REQ_GRACEFUL, r));
	say("request reset", sanlock_request(0, 0, r));
	say("killpath", sanlock_killpath(fd, SANLK_KILLPATH_PID, "/bin/true", "a b"));
	say("killpath none", sanlock_killpath(fd, 0, "", ""));
	second = sanlock_register();
	say("acquire by a second client", acquire(second, 0, r));
	say("acquire held by it", acquire(fd, 0, r));
	close(second);
	for (steps = 0; steps < WAIT_STEPS; steps++) {
		rv = acquire(fd, 0, r);
		if (rv != -17 && rv != -11 && rv != -16)
			break;
		usleep(WAIT_STEP_US);
	}
	say("acquire after its end", rv);
	two[0] = r;
	two[1] = lease(&m, "LS", "R3new", 3);
	say("release and rename", sanlock_release(fd, -1, SANLK_REL_RENAME, 2, two));
	say("acquire by the old name", acquire(fd, 0, r));
	say("acquire by the new name", acquire(fd, 0, two[1]));
	inquire(fd);
}

/* who holds a lease, judged by what the daemon knows of the hosts */
static void judge(int fd)
{
	struct sanlk_host *own = NULL, *known = NULL;
	struct lease l;
	struct sanlk_resource *r = lease(&l, "LS", "R1", 1);
	int owned = 0, count = 0;
	uint32_t verdict = 0;

	say("acquire", acquire(fd, 0, r));
	say("read_resource_owners", sanlock_read_resource_owners(r, 0, &own, &owned));
	say("get_hosts", sanlock_get_hosts("LS", 0, &known, &count, 0));
	say("test_resource_owners", sanlock_test_resource_owners(r, 0, own, owned, known, count, &verdict));
	printf("verdict %x of %d owners, %d hosts\n", verdict, owned, count);
	if (owned > 0) {
		own[0].generation++;
		verdict = 0;
		say("test_resource_owners restarted", sanlock_test_resource_owners(r, 0, own, owned, known, count, &verdict));
		printf("verdict %x\n", verdict);
	}
	verdict = 0;
	say("test_resource_owners unknown", sanlock_test_resource_owners(r, 0, own, owned, known, 0, &verdict));
	printf("verdict %x\n", verdict);
	free(own);
	free(known);
	say("release", release(fd, 0, lease(&l, "LS", "R1", 1)));
}

static void restricted(void)
{
	int fd = sanlock_register();

	say("restrict SIGKILL", sanlock_restrict(fd, SANLK_RESTRICT_SIGKILL));
	say("restrict SIGTERM", sanlock_restrict(fd, SANLK_RESTRICT_SIGTERM));
	say("restrict nothing", sanlock_restrict(fd, 0));
	inquire(fd);
	say("restrict everything", sanlock_restrict(fd, SANLK_RESTRICT_ALL));
	close(fd);
	say("restrict without connection", sanlock_restrict(-1, 0));
}

/* the daemon's io_timeout, which takes a while, so not waited for */
static void plain_join(void)
{
	struct sanlk_lockspace ls;
	int steps, rv;

	space(&ls, "LS", 1, 0);
	say("add_lockspace host_id 2001", (ls.host_id = 2001, sanlock_add_lockspace(&ls, 0)));
	ls.host_id = 1;
	say("add_lockspace in the background", sanlock_add_lockspace(&ls, SANLK_ADD_ASYNC));
	say("inq_lockspace while it is added", sanlock_inq_lockspace(&ls, 0));
	say("add_lockspace again", sanlock_add_lockspace(&ls, 0));
	rv = sanlock_rem_lockspace(&ls, SANLK_REM_ASYNC);
	say("rem_lockspace while it is added", rv);
	for (steps = 0; steps < 2 * WAIT_STEPS; steps++) {
		rv = sanlock_inq_lockspace(&ls, 0);
		if (rv == -2)
			break;
		usleep(WAIT_STEP_US);
	}
	say("inq_lockspace after", rv);
}

static void leave(int fd)
{
	struct sanlk_lockspace ls;
	struct lease l;

	space(&ls, "LS", 1, 0);
	say("rem_lockspace unused", sanlock_rem_lockspace(&ls, SANLK_REM_UNUSED));
	say("release", release(fd, 0, lease(&l, "LS", "R3new", 3)));
	say("rem_lockspace unused", sanlock_rem_lockspace(&ls, SANLK_REM_UNUSED));
	say("inq_lockspace after", sanlock_inq_lockspace(&ls, 0));
	say("rem_lockspace again", sanlock_rem_lockspace(&ls, 0));
	hosts("LS", 0);
	say("acquire after", acquire(fd, 0, lease(&l, "LS", "R1", 1)));
	say("clear", sanlock_write_resource(lease(&l, "LS", "R1", 1), 0, 0, SANLK_WRITE_CLEAR));
	say("read_resource cleared", sanlock_read_resource(lease(&l, "LS", "R1", 1), 0));
}

int main(int argc, char *argv[])
{
	uint32_t version = 0, proto = 0;
	int fd, size = place(argc, argv);

	say("version", sanlock_version(0, &version, &proto));
	printf("%08x %08x\n", version, proto);
	init();
	format();
	fd = sanlock_register();
	say("register", fd >= 0 ? 0 : fd);
	join();
	exclusive(fd);
	value_block(fd, size);
	several(fd);
	orphan(fd);
	others(fd);
	judge(fd);
	restricted();
	leave(fd);
	plain_join();
	return 0;
}
