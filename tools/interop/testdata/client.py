# One client of Debian's python3-sanlock; prints results without clock readings and process ids.
#
# usage: client.py DEVICE SECTOR_SIZE    (SANLOCK_RUN_DIR names the daemon)

import sys
import time

import sanlock

DEVICE = sys.argv[1]
SECTOR = int(sys.argv[2])
AREA = 1048576 if SECTOR == 512 else 8388608
SIZES = {"align": AREA, "sector": SECTOR}


def say(what, f, *args, **kwargs):
    """Print what f returns or the number that it fails with."""
    try:
        print(what, "=", clean(f(*args, **kwargs)), flush=True)
    except sanlock.SanlockException as e:
        print(what, "failed:", e.errno, e.args[1:], flush=True)
    except (ValueError, TypeError, OSError) as e:
        print(what, "refused:", type(e).__name__, flush=True)


def clean(v):
    if isinstance(v, list):
        return [clean(x) for x in v]
    if isinstance(v, dict):
        return {k: bool(x) if k == "timestamp" else clean(x) for k, x in sorted(v.items())}
    return v


def hosts():
    for _ in range(100):
        try:
            return sanlock.get_hosts(b"LS")
        except sanlock.SanlockException as e:
            if e.errno != 11:
                raise
        time.sleep(0.1)
    return None


def disks(n):
    return [(DEVICE, n * AREA)]


say("get_alignment", sanlock.get_alignment, DEVICE)
say("read_lockspace blank", sanlock.read_lockspace, DEVICE, **SIZES)
say("write_lockspace", sanlock.write_lockspace, b"LS", DEVICE, iotimeout=2, **SIZES)
say("read_lockspace", sanlock.read_lockspace, DEVICE, **SIZES)
say("read_resource blank", sanlock.read_resource, DEVICE, offset=AREA, **SIZES)
for i in (1, 2):
    say("write_resource", sanlock.write_resource, b"LS", b"R%d" % i, disks(i), **SIZES)
say("read_resource", sanlock.read_resource, DEVICE, offset=AREA, **SIZES)
say("read_resource_owners", sanlock.read_resource_owners, b"LS", b"R1", disks(1), **SIZES)
say("inq_lockspace", sanlock.inq_lockspace, b"LS", 1, DEVICE)
say("add_lockspace", sanlock.add_lockspace, b"LS", 1, DEVICE, iotimeout=2)
say("add_lockspace again", sanlock.add_lockspace, b"LS", 1, DEVICE, iotimeout=2)
say("inq_lockspace", sanlock.inq_lockspace, b"LS", 1, DEVICE)
say("get_lockspaces", sanlock.get_lockspaces)
say("get_hosts", hosts)
say("get_hosts 2", sanlock.get_hosts, b"LS", 2)
fd = sanlock.register()
say("inquire", sanlock.inquire, slkfd=fd)
say("acquire", sanlock.acquire, b"LS", b"R1", disks(1), slkfd=fd, lvb=True)
say("acquire again", sanlock.acquire, b"LS", b"R1", disks(1), slkfd=fd, lvb=True)
say("acquire shared", sanlock.acquire, b"LS", b"R2", disks(2), slkfd=fd, shared=True)
say("acquire wrong version", sanlock.acquire, b"LS", b"R2", disks(2), slkfd=fd, version=9)
say("inquire", sanlock.inquire, slkfd=fd)
say("set_lvb", sanlock.set_lvb, b"LS", b"R1", disks(1), b"{\"state\": 7}")
say("get_lvb", sanlock.get_lvb, b"LS", b"R1", disks(1), 16)
say("get_lvb without", sanlock.get_lvb, b"LS", b"R2", disks(2), 16)
say("read_resource_owners", sanlock.read_resource_owners, b"LS", b"R1", disks(1), **SIZES)
say("read_resource_owners", sanlock.read_resource_owners, b"LS", b"R2", disks(2), **SIZES)
say("killpath", sanlock.killpath, "/bin/true", ["a", "b c"], slkfd=fd)
say("request", sanlock.request, b"LS", b"R2", disks(2))
say("rem_lockspace unused", sanlock.rem_lockspace, b"LS", 1, DEVICE, unused=True)
say("release", sanlock.release, b"LS", b"R1", disks(1), slkfd=fd)
say("release", sanlock.release, b"LS", b"R2", disks(2), slkfd=fd)
say("release again", sanlock.release, b"LS", b"R2", disks(2), slkfd=fd)
say("acquire", sanlock.acquire, b"LS", b"R1", disks(1), slkfd=fd, lvb=True)
say("get_lvb", sanlock.get_lvb, b"LS", b"R1", disks(1), 16)
say("release", sanlock.release, b"LS", b"R1", disks(1), slkfd=fd)
say("read_resource", sanlock.read_resource, DEVICE, offset=AREA, **SIZES)
say("rem_lockspace", sanlock.rem_lockspace, b"LS", 1, DEVICE)
say("inq_lockspace", sanlock.inq_lockspace, b"LS", 1, DEVICE)
say("get_lockspaces", sanlock.get_lockspaces)
