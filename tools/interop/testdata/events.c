/*
 * A client of two hosts: events go from each to the other, and a request and its examination too. It prints
 * every result, and every event once.
 *
 * usage: events DEVICE SECTOR_SIZE OTHER_RUN_DIR    (SANLOCK_RUN_DIR names the daemon of host 1)
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>

#include "say.h"

#define EVENT_WAIT_MS 20000
#define CATCH_UP_US 300000

static const char *other;

/* The library keeps the first daemon it has talked to, so that another one takes another program: this one
 * again, with a word that says what to do there. */
static int elsewhere(const char *word)
{
	char size[16];
	int status = 0;
	pid_t pid;

	snprintf(size, sizeof size, "%d", area == 1 << 20 ? 512 : 4096);
	fflush(stdout);
	pid = fork();
	if (!pid) {
		setenv("SANLOCK_RUN_DIR", other, 1);
		execl("/proc/self/exe", "events", device, size, other, word, NULL);
		_exit(127);
	}
	waitpid(pid, &status, 0);
	return WIFEXITED(status) ? -WEXITSTATUS(status) : -1000;
}

static int event_to(uint64_t host, uint64_t generation, uint64_t event, uint64_t data, uint32_t flags)
{
	struct sanlk_host_event he = {.host_id = host, .generation = generation, .event = event, .data = data};

	return sanlock_set_event("LS", &he, flags);
}

static int there(const char *word)
{
	struct sanlk_lockspace ls;
	struct lease l;

	space(&ls, "LS", 2, 0);
	if (!strcmp(word, "join"))
		return sanlock_add_lockspace_timeout(&ls, 0, 2);
	if (!strcmp(word, "leave"))
		return sanlock_rem_lockspace(&ls, 0);
	if (!strcmp(word, "event"))
		return event_to(1, 0, 0x33, 0x44, 0);
	if (!strcmp(word, "event to all"))
		return event_to(1, 7, 0x55, 0x66, SANLK_SETEV_ALL_HOSTS | SANLK_SETEV_REPLACE_EVENT);
	if (!strcmp(word, "clear"))
		return event_to(1, 0, 0, 0, SANLK_SETEV_CLEAR_EVENT) | event_to(1, 0, 0, 0, SANLK_SETEV_CLEAR_HOSTID);
	if (!strcmp(word, "request"))
		return sanlock_request(SANLK_REQUEST_NEXT_LVER, SANLK_REQ_GRACEFUL, lease(&l, "LS", "R1", 1));
	return -EINVAL;
}

static void until_hosts(uint64_t id)
{
	struct sanlk_host *h;
	int steps, n, rv;

	for (steps = 0; steps < WAIT_STEPS; steps++) {
		h = NULL;
		n = 0;
		rv = sanlock_get_hosts("LS", id, &h, &n, 0);
		if (rv == 0 && n == 1 && (h[0].flags & SANLK_HOST_MASK) == SANLK_HOST_LIVE) {
			printf("host %" PRIu64 " is alive\n", id);
			free(h);
			return;
		}
		free(h);
		usleep(WAIT_STEP_US);
	}
	printf("host %" PRIu64 " never is alive: %d\n", id, rv);
}

/* waits for the event of that number; others that come before it are old ones again */
static void next(int fd, uint64_t want)
{
	struct sanlk_host_event he;
	struct pollfd p = {.fd = fd, .events = POLLIN};
	uint64_t from, generation;
	int rv;

	for (;;) {
		rv = poll(&p, 1, EVENT_WAIT_MS);
		if (rv != 1) {
			printf("no event %" PRIx64 "\n", want);
			return;
		}
		if (p.revents & POLLHUP && !(p.revents & POLLIN)) {
			printf("the events end\n");
			return;
		}
		memset(&he, 0, sizeof he);
		from = generation = 0;
		rv = sanlock_get_event(fd, 0, &he, &from, &generation);
		if (rv < 0) {
			printf("get_event = %d\n", rv);
			return;
		}
		if (he.event != want)
			continue;
		printf("event %" PRIx64 " data %" PRIx64 " for %" PRIu64 " generation %" PRIu64 " from %" PRIu64
		       " generation %" PRIu64 "\n", he.event, he.data, he.host_id, he.generation, from, generation);
		fflush(stdout);
		return;
	}
}

/* empties the queue; the last result is that of an empty one */
static void drain(int fd)
{
	struct sanlk_host_event he;
	uint64_t from, generation;
	int rv;

	do
		rv = sanlock_get_event(fd, 0, &he, &from, &generation);
	while (rv == 0);
	say("get_event of an empty queue", rv);
}

static void senders(void)
{
	struct sanlk_host_event he = {.host_id = 2, .event = 1};

	say("set_event host 0", event_to(0, 0, 1, 0, 0));
	say("set_event host 2001", event_to(2001, 0, 1, 0, 0));
	say("set_event nowhere", sanlock_set_event("nowhere", &he, 0));
	say("set_event without name", sanlock_set_event("", &he, 0));
	say("set_event without event", sanlock_set_event("LS", NULL, 0));
	say("set_event", event_to(2, 0, 1, 2, SANLK_SETEV_CUR_GENERATION));
	say("set_event same again", event_to(2, 1, 1, 3, 0));
	say("set_event another", event_to(2, 1, 4, 5, 0));
	say("set_event in its place", event_to(2, 1, 4, 5, SANLK_SETEV_REPLACE_EVENT));
	say("set_event clear", event_to(2, 0, 0, 0, SANLK_SETEV_CLEAR_EVENT));
	say("set_event no more to it", event_to(2, 0, 0, 0, SANLK_SETEV_CLEAR_HOSTID));
	say("set_event everybody", event_to(1, 0, 9, 9, SANLK_SETEV_ALL_HOSTS));
}

static void receivers(void)
{
	struct sanlk_host_event he = {0};
	int a, b;

	say("reg_event nowhere", sanlock_reg_event("nowhere", &he, 0));
	say("reg_event without name", sanlock_reg_event("", &he, 0));
	say("end_event nowhere", sanlock_end_event(open("/dev/null", O_WRONLY), "nowhere", 0));
	a = sanlock_reg_event("LS", &he, 0);
	b = sanlock_reg_event("LS", NULL, 0);
	say("reg_event", a < 0 ? a : 0);
	say("reg_event without event", b < 0 ? b : 0);
	drain(a);
	say("event from host 2", elsewhere("event"));
	next(a, 0x33);
	next(b, 0x33);
	say("end_event", sanlock_end_event(b, "LS", 0));
	say("event to all from host 2", elsewhere("event to all"));
	next(a, 0x55);
	say("clear", elsewhere("clear"));
	usleep(8 * 1000 * 1000);
	drain(a);
	say("end_event", sanlock_end_event(a, "LS", 0));
	say("end_event closed", sanlock_end_event(-1, "LS", 0));
}

/* a holder that gets a graceful request is sent SIGTERM; examining asks the daemon to look */
static volatile sig_atomic_t asked;

static void on_term(int sig)
{
	asked = sig;
}

static void examiners(void)
{
	struct sanlk_lockspace ls;
	struct lease l;
	struct sanlk_resource *r = lease(&l, "LS", "R1", 1);
	int steps, fd = sanlock_register();

	signal(SIGTERM, on_term);
	say("examine nothing", sanlock_examine(0, NULL, NULL));
	say("acquire", sanlock_acquire(fd, -1, 0, 1, &r, NULL));
	say("examine without a request", sanlock_examine(0, NULL, r));
	usleep(CATCH_UP_US);
	printf("signal %d\n", (int)asked);
	say("request from host 2", elsewhere("request"));
	space(&ls, "LS", 1, 0);
	say("examine the resource", sanlock_examine(0, NULL, r));
	for (steps = 0; steps < WAIT_STEPS && !asked; steps++)
		usleep(WAIT_STEP_US);
	printf("signal %d\n", (int)asked);
	asked = 0;
	say("examine the lockspace", sanlock_examine(0, &ls, NULL));
	for (steps = 0; steps < WAIT_STEPS && !asked; steps++)
		usleep(WAIT_STEP_US);
	printf("signal %d\n", (int)asked);
	asked = 0;
	say("release", sanlock_release(fd, -1, 0, 1, &r));
	say("examine what is not held", sanlock_examine(0, NULL, lease(&l, "LS", "R9", 1)));
	space(&ls, "nowhere", 1, 0);
	say("examine a lockspace that is not joined", sanlock_examine(0, &ls, NULL));
	close(fd);
}

static void end(void)
{
	struct sanlk_host_event he = {0};
	struct sanlk_lockspace ls;
	int fd = sanlock_reg_event("LS", &he, 0);

	say("reg_event", fd < 0 ? fd : 0);
	space(&ls, "LS", 1, 0);
	say("rem_lockspace", sanlock_rem_lockspace(&ls, 0));
	next(fd, 0x77);
	close(fd);
	say("reg_event after", sanlock_reg_event("LS", &he, 0));
	say("set_event after", event_to(2, 0, 1, 0, 0));
	say("examine after", sanlock_examine(0, &ls, NULL));
}

int main(int argc, char *argv[])
{
	struct sanlk_lockspace ls;
	struct lease l;

	place(argc, argv);
	if (argc < 4)
		return 2;
	other = argv[3];
	if (argc == 5)
		return -there(argv[4]);
	space(&ls, "LS", 0, 0);
	say("write_lockspace", sanlock_write_lockspace(&ls, 0, 0, 1));
	say("write_resource", sanlock_write_resource(lease(&l, "LS", "R1", 1), 0, 0, 0));
	say("set_event before", event_to(2, 0, 1, 0, 0));
	ls.host_id = 1;
	say("add_lockspace", sanlock_add_lockspace_timeout(&ls, 0, 2));
	say("add_lockspace of host 2", elsewhere("join"));
	until_hosts(2);
	senders();
	receivers();
	examiners();
	end();
	say("rem_lockspace of host 2", elsewhere("leave"));
	return 0;
}
