/*
 * A client of libsanlock that writes leases without a daemon, and lets the daemon read them.
 *
 * usage: direct DEVICE SECTOR_SIZE    (SANLOCK_RUN_DIR names the daemon)
 */
#include "say.h"

#include <sanlock_direct.h>

static void tell(const char *what)
{
	struct sanlk_lockspace ls;
	struct lease l;
	uint32_t io = 0;
	int rv;

	space(&ls, "", 0, 0);
	rv = sanlock_read_lockspace(&ls, 0, &io);
	printf("%s: lockspace %d", what, rv);
	if (rv == 0)
		printf(" %.48s flags %x io_timeout %u", ls.name, ls.flags, io);
	rv = sanlock_read_resource(lease(&l, "", "", 1), 0);
	printf(", resource %d", rv);
	if (rv == 0)
		printf(" %.48s %.48s flags %x lver %" PRIu64, l.r.lockspace_name, l.r.name, l.r.flags, l.r.lver);
	printf("\n");
	fflush(stdout);
}

int main(int argc, char *argv[])
{
	struct sanlk_lockspace ls;
	struct sanlk_disk nothing = {0};
	struct sanlk_resource *r;
	struct lease l;
	int fd;

	place(argc, argv);
	tell("blank");
	space(&ls, "LS", 0, 0);
	say("direct_align", sanlock_direct_align(&ls.host_id_disk));
	say("direct_align of nothing", sanlock_direct_align(&nothing));
	say("direct_init of nothing", sanlock_direct_init(NULL, NULL, 0, 0, 1));
	say("direct_init of a lockspace", sanlock_direct_init(&ls, NULL, 0, 0, 1));
	say("direct_init of a resource", sanlock_direct_init(NULL, lease(&l, "LS", "A", 1), 0, 8, 1));
	tell("init");
	say("direct_write_lockspace", sanlock_direct_write_lockspace(&ls, 0, 0, 1));
	say("direct_write_resource", sanlock_direct_write_resource(lease(&l, "LS", "B", 1), 0, 0, 0));
	tell("written");
	l.r.flags = SANLK_RES_SECTOR512;
	say("direct_write_resource half of the flags", sanlock_direct_write_resource(&l.r, 0, 0, 0));
	say("direct_write_resource beyond the end", sanlock_direct_write_resource(lease(&l, "LS", "B", 100), 0, 0, 0));
	tell("the same");
	ls.host_id = 1;
	say("add_lockspace", sanlock_add_lockspace_timeout(&ls, 0, 2));
	fd = sanlock_register();
	r = lease(&l, "LS", "B", 1);
	say("acquire", sanlock_acquire(fd, -1, 0, 1, &r, NULL));
	tell("held");
	say("release", sanlock_release(fd, -1, 0, 1, &r));
	say("direct_write_resource clear",
	    sanlock_direct_write_resource(lease(&l, "LS", "B", 1), 0, 0, SANLK_WRITE_CLEAR));
	tell("cleared");
	close(fd);
	say("rem_lockspace", sanlock_rem_lockspace(&ls, 0));
	return 0;
}
