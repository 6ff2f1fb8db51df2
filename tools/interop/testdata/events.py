# A client of Debian's python3-sanlock on two hosts: events go from the second to the first.
#
# usage: events.py DEVICE SECTOR_SIZE OTHER_RUN_DIR    (SANLOCK_RUN_DIR names the daemon of host 1)

import os
import select
import subprocess
import sys
import time

import sanlock

DEVICE = sys.argv[1]
SECTOR = int(sys.argv[2])
OTHER = sys.argv[3]
AREA = 1048576 if SECTOR == 512 else 8388608


def say(what, f, *args, **kwargs):
    """Print what f returns or the number that it fails with, and return the former."""
    try:
        v = f(*args, **kwargs)
        print(what, "=", "a descriptor" if f is sanlock.reg_event else v, flush=True)
        return v
    except sanlock.SanlockException as e:
        print(what, "failed:", e.errno, e.args[1:], flush=True)
    except (ValueError, TypeError, OSError) as e:
        print(what, "refused:", type(e).__name__, flush=True)
    return None


def elsewhere(word):
    """The library keeps the first daemon it has talked to, so that another one takes another process."""
    sys.stdout.flush()
    subprocess.run([sys.executable] + sys.argv[:4] + [word], env=dict(os.environ, SANLOCK_RUN_DIR=OTHER), check=True)


THERE = {
    "join": lambda: sanlock.add_lockspace(b"LS", 2, DEVICE, iotimeout=1),
    "leave": lambda: sanlock.rem_lockspace(b"LS", 2, DEVICE),
    "event": lambda: sanlock.set_event(b"LS", 1, 1, 0x33, data=0x44),
    "event to all": lambda: sanlock.set_event(
        b"LS", 1, 1, 0x55, flags=sanlock.SETEV_ALL_HOSTS | sanlock.SETEV_REPLACE_EVENT),
}


def wait_alive(host):
    for _ in range(200):
        try:
            if [h for h in sanlock.get_hosts(b"LS", host) if h["flags"] == sanlock.HOST_LIVE]:
                print("host", host, "is alive")
                return
        except sanlock.SanlockException as e:
            if e.errno != 11:
                raise
        time.sleep(0.1)


def next_event(fd, want):
    for _ in range(20):
        if not select.select([fd], [], [], 20)[0]:
            break
        for e in sanlock.get_event(fd):
            if e["event"] == want:
                print(sorted(e.items()), flush=True)
                return
    print("no event", want, flush=True)


if len(sys.argv) == 5:
    say(sys.argv[4] + " of host 2", THERE[sys.argv[4]])
    sys.exit(0)
say("write_lockspace", sanlock.write_lockspace, b"LS", DEVICE, iotimeout=1, align=AREA, sector=SECTOR)
say("reg_event before", sanlock.reg_event, b"LS")
say("set_event before", sanlock.set_event, b"LS", 2, 1, 1)
say("end_event before", sanlock.end_event, -1, b"LS")
say("add_lockspace", sanlock.add_lockspace, b"LS", 1, DEVICE, iotimeout=1)
elsewhere("join")
wait_alive(2)
fd = say("reg_event", sanlock.reg_event, b"LS")
say("get_event", sanlock.get_event, fd)
say("set_event host 0", sanlock.set_event, b"LS", 0, 1, 1)
say("set_event host 2001", sanlock.set_event, b"LS", 2001, 1, 1)
say("set_event", sanlock.set_event, b"LS", 2, 1, 1, data=2, flags=sanlock.SETEV_REPLACE_EVENT)
elsewhere("event")
next_event(fd, 0x33)
elsewhere("event to all")
next_event(fd, 0x55)
say("end_event", sanlock.end_event, fd, b"LS")
say("rem_lockspace", sanlock.rem_lockspace, b"LS", 1, DEVICE)
elsewhere("leave")
