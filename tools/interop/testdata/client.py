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


print({n: getattr(sanlock, n) for n in sorted(dir(sanlock)) if n.isupper()})
print(sanlock.SanlockException.__mro__, sanlock.SanlockException(-243, "a", "b").errno)
say("get_alignment", sanlock.get_alignment, DEVICE)
say("get_alignment without device", sanlock.get_alignment, "/nonexistent")
say("write_lockspace without device", sanlock.write_lockspace, b"LS", "/nonexistent", **SIZES)
say("write_lockspace wrong sizes", sanlock.write_lockspace, b"LS", DEVICE, align=1, sector=SECTOR)
say("write_lockspace long path", sanlock.write_lockspace, b"LS", "x" * 1024, **SIZES)
say("read_lockspace without device", sanlock.read_lockspace, "/nonexistent", **SIZES)
say("write_resource without device", sanlock.write_resource, b"LS", b"R1", [("/nonexistent", 0)], **SIZES)
say("write_resource without disks", sanlock.write_resource, b"LS", b"R1", [], **SIZES)
say("read_resource without device", sanlock.read_resource, "/nonexistent", **SIZES)
say("read_lockspace blank", sanlock.read_lockspace, DEVICE, **SIZES)
say("write_lockspace", sanlock.write_lockspace, b"LS", DEVICE, iotimeout=2, **SIZES)
say("read_lockspace", sanlock.read_lockspace, DEVICE, **SIZES)
say("read_resource blank", sanlock.read_resource, DEVICE, offset=AREA, **SIZES)
for i in (1, 2):
    say("write_resource", sanlock.write_resource, b"LS", b"R%d" % i, disks(i), **SIZES)
say("read_resource", sanlock.read_resource, DEVICE, offset=AREA, **SIZES)
say("read_resource_owners", sanlock.read_resource_owners, b"LS", b"R1", disks(1), **SIZES)
say("read_resource_owners wrong name", sanlock.read_resource_owners, b"LS", b"R2", disks(1), **SIZES)
say("inq_lockspace", sanlock.inq_lockspace, b"LS", 1, DEVICE)
say("get_hosts before", sanlock.get_hosts, b"LS")
say("get_lockspaces before", sanlock.get_lockspaces)
say("rem_lockspace before", sanlock.rem_lockspace, b"LS", 1, DEVICE)
say("set_lvb before", sanlock.set_lvb, b"LS", b"R1", disks(1), b"x")
say("add_lockspace wrong name", sanlock.add_lockspace, b"other", 1, DEVICE, iotimeout=2)
say("add_lockspace without device", sanlock.add_lockspace, b"LS", 1, "/nonexistent", iotimeout=2)
say("add_lockspace", sanlock.add_lockspace, b"LS", 1, DEVICE, iotimeout=2)
say("add_lockspace again", sanlock.add_lockspace, b"LS", 1, DEVICE, iotimeout=2)
say("inq_lockspace", sanlock.inq_lockspace, b"LS", 1, DEVICE)
say("get_lockspaces", sanlock.get_lockspaces)
say("get_hosts", hosts)
say("get_hosts 2", sanlock.get_hosts, b"LS", 2)
fd = sanlock.register()
say("inquire", sanlock.inquire, slkfd=fd)
say("inquire of nobody", sanlock.inquire, pid=999999)
say("inquire of what", sanlock.inquire)
say("acquire of nobody", sanlock.acquire, b"LS", b"R1", disks(1), pid=999999)
say("acquire of what", sanlock.acquire, b"LS", b"R1", disks(1))
say("acquire unjoined", sanlock.acquire, b"other", b"R1", disks(1), slkfd=fd)
say("acquire wrong name", sanlock.acquire, b"LS", b"R9", disks(1), slkfd=fd)
say("release nothing", sanlock.release, b"LS", b"R1", disks(1), slkfd=fd)
say("release of nobody", sanlock.release, b"LS", b"R1", disks(1), pid=999999)
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
say("set_lvb without", sanlock.set_lvb, b"LS", b"R2", disks(2), b"x")
say("set_lvb too long", sanlock.set_lvb, b"LS", b"R1", disks(1), b"x" * 4097)
say("get_lvb too long", sanlock.get_lvb, b"LS", b"R1", disks(1), 4097)
say("killpath too long", sanlock.killpath, "/bin/true", ["a" * 128], slkfd=fd)
say("killpath", sanlock.killpath, "/bin/true", ["a", "b c"], slkfd=fd)
say("request without", sanlock.request, b"other", b"R2", disks(2))
say("request old", sanlock.request, b"LS", b"R2", disks(2), version=1)
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
