/*
 * What the C programs of these tests share: where the leases lie, and how results are printed. Clock readings
 * and process ids are not printed, so that two daemons that behave alike give equal texts.
 */
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sanlock.h>
#include <sanlock_admin.h>
#include <sanlock_resource.h>
#include <sanlock_rv.h>

#define WAIT_STEP_US 100000
#define WAIT_STEPS 150

static const char *device;
static uint64_t area;

struct lease {
	struct sanlk_resource r;
	struct sanlk_disk d;
};

static inline void say(const char *what, int rv)
{
	printf("%s = %d\n", what, rv);
	fflush(stdout);
}

static inline struct sanlk_resource *lease(struct lease *l, const char *space, const char *name, int n)
{
	memset(l, 0, sizeof *l);
	strncpy(l->r.lockspace_name, space, SANLK_NAME_LEN);
	strncpy(l->r.name, name, SANLK_NAME_LEN);
	l->r.num_disks = 1;
	strncpy(l->d.path, device, SANLK_PATH_LEN - 1);
	l->d.offset = n * area;
	return &l->r;
}

static inline void space(struct sanlk_lockspace *ls, const char *name, uint64_t id, uint64_t offset)
{
	memset(ls, 0, sizeof *ls);
	strncpy(ls->name, name, SANLK_NAME_LEN);
	ls->host_id = id;
	strncpy(ls->host_id_disk.path, device, SANLK_PATH_LEN - 1);
	ls->host_id_disk.offset = offset;
}

/* usage: PROGRAM DEVICE SECTOR_SIZE; returns the sector size */
static inline int place(int argc, char *argv[])
{
	int size;

	if (argc < 3)
		exit(2);
	device = argv[1];
	size = atoi(argv[2]);
	area = size == 512 ? 1 << 20 : 8 << 20;
	return size;
}
