package interop

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// The tests speak the socket protocol with these few lines of their own, not with daemon/client: the same
// bytes must work against Debian's daemon, so they judge ours without its help.

const wireMagic = 0x04282010

// Command numbers and flags of the socket protocol (sanlock.h, spec sanlock-daemon 1.5 and 1.7).
const (
	cmdRegister         = 1
	cmdAddLockspace     = 2
	cmdRemLockspace     = 3
	cmdAcquire          = 7
	cmdRelease          = 8
	cmdInquire          = 9
	cmdRestrict         = 10
	cmdStatus           = 5
	cmdInqLockspace     = 16
	cmdKillpath         = 17
	cmdHostStatus       = 15
	cmdReadOwners       = 24
	cmdSetLVB           = 25
	cmdGetLVB           = 26
	cmdConvert          = 27
	cmdGetHosts         = 23
	acquireLVB          = 1
	acquireNoWait       = 8
	resShared           = 4
	restrictSigkill     = 2
	hostUnknown         = 1
	hostFree            = 2
	hostLive            = 3
	hostFail            = 4
	hostDead            = 5
	resultAgain         = -11
	resultBusy          = -16
	resultExists        = -17
	resultHeld          = -243
	resultLostRace      = -244
	resultOther         = -245
	resultSharedRetries = -246
	resultOwnedRetry    = -247
	resultIOTimeout     = -202
)

// lease is a resource on one device.
type lease struct {
	space, name, path string
	offset            int64
	shared            bool
}

func (r lease) asShared() lease {
	r.shared = true
	return r
}

// append adds the 128 bytes of a sanlk_resource and, if disks is set, its one sanlk_disk.
func (r lease) append(b []byte, disks bool) []byte {
	p := make([]byte, 128)
	copy(p[0:48], r.space)
	copy(p[48:96], r.name)
	if r.shared {
		binary.LittleEndian.PutUint32(p[120:], resShared)
	}
	binary.LittleEndian.PutUint32(p[124:], 1)
	b = append(b, p...)
	if disks {
		b = appendDisk(b, r.path, r.offset)
	}
	return b
}

func appendDisk(b []byte, path string, offset int64) []byte {
	p := make([]byte, 1040)
	copy(p, path)
	binary.LittleEndian.PutUint64(p[1024:], uint64(offset))
	return append(b, p...)
}

// lockspace is a name, this host's slot and where it lies.
type lockspace struct {
	name   string
	hostID uint64
	path   string
	offset int64
}

func (l lockspace) body() []byte {
	p := make([]byte, 64, 1104)
	copy(p, l.name)
	binary.LittleEndian.PutUint64(p[48:], l.hostID)
	return appendDisk(p, l.path, l.offset)
}

// conn is one connection to a daemon; after register it is one client. Not safe for concurrent use.
type conn struct{ c net.Conn }

// dial waits for its turn as a blocking connect does: stock listens with a backlog of 5.
func dial(runDir string) (*conn, error) {
	const patience = 30 * time.Second
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		c, err := net.Dial("unix", filepath.Join(runDir, "sanlock.sock"))
		if err == nil {
			return &conn{c}, nil
		}
		if !errors.Is(err, syscall.EAGAIN) || time.Now().After(deadline) {
			return nil, err
		}
	}
}

// client returns a registered connection that asks for SIGTERM in place of SIGKILL, so that a daemon that
// evicts it leaves a trace in the test's output.
func client(runDir string) (*conn, error) {
	c, err := dial(runDir)
	if err != nil {
		return nil, err
	}
	if err := c.send(cmdRegister, 0, 0, 0, 0, nil); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	if rv, err := c.result(cmdRestrict, restrictSigkill, 0, nil); err != nil || rv != 0 {
		return nil, errors.Join(fmt.Errorf("restrict: %d: %w", rv, err), c.Close())
	}
	return c, nil
}

func (c *conn) Close() error { return c.c.Close() }

type header struct{ Magic, Version, Cmd, Flags, Length, Seq, Data, Data2 uint32 }

func (c *conn) send(cmd, flags, data, data2 uint32, length int, body []byte) error {
	if length == 0 {
		length = 32 + len(body)
	}
	var b bytes.Buffer
	h := header{wireMagic, 1, cmd, flags, uint32(length), 0, data, data2}
	if err := binary.Write(&b, binary.LittleEndian, h); err != nil {
		return err
	}
	b.Write(body)
	_, err := c.c.Write(b.Bytes())
	return err
}

func (c *conn) receive() (header, error) {
	var h header
	err := binary.Read(c.c, binary.LittleEndian, &h)
	if err == nil && h.Magic != wireMagic {
		err = fmt.Errorf("reply has magic %#x", h.Magic)
	}
	return h, err
}

// result does one exchange whose reply is a header only.
func (c *conn) result(cmd, flags, data uint32, body []byte) (int32, error) {
	if err := c.send(cmd, flags, data, 0xFFFFFFFF, 0, body); err != nil {
		return 0, err
	}
	h, err := c.receive()
	return int32(h.Data), err
}

func (c *conn) acquire(r lease, flags uint32) (int32, error) {
	return c.result(cmdAcquire, flags, 1, append(r.append(nil, true), make([]byte, 56)...))
}

func (c *conn) release(r lease) (int32, error) {
	return c.result(cmdRelease, 0, 1, r.append(nil, false))
}

func (c *conn) convert(r lease) (int32, error) {
	return c.result(cmdConvert, 0, 0, r.append(nil, false))
}

func (c *conn) setLVB(r lease, lvb []byte) (int32, error) {
	return c.result(cmdSetLVB, 0, 0, append(r.append(nil, false), lvb...))
}

func (c *conn) getLVB(r lease) (int32, []byte, error) {
	return c.withBody(cmdGetLVB, 0, r.append(nil, false))
}

// inquire returns the text of what this client holds, "" for nothing.
func (c *conn) inquire() (int32, string, error) {
	rv, text, err := c.withBody(cmdInquire, 0xFFFFFFFF, nil)
	return rv, strings.TrimRight(string(text), "\x00"), err
}

// withBody does one exchange whose reply carries length-32 bytes.
func (c *conn) withBody(cmd, data2 uint32, body []byte) (int32, []byte, error) {
	if err := c.send(cmd, 0, 0, data2, 0, body); err != nil {
		return 0, nil, err
	}
	h, err := c.receive()
	if err != nil || h.Length <= 32 {
		return int32(h.Data), nil, err
	}
	p := make([]byte, h.Length-32)
	_, err = io.ReadFull(c.c, p)
	return int32(h.Data), p, err
}

// once runs f on a connection of its own.
func once(runDir string, f func(*conn) error) error {
	c, err := dial(runDir)
	if err != nil {
		return err
	}
	return errors.Join(f(c), c.Close())
}

func addLockspace(runDir string, l lockspace, ioTimeout uint32) (rv int32, err error) {
	err = once(runDir, func(c *conn) error {
		rv, err = c.result(cmdAddLockspace, 0, ioTimeout, l.body())
		return err
	})
	return rv, err
}

// remLockspace removes a lockspace. The leases of clients that have just closed are waited for: the daemon
// would stop their process, which is the test itself.
func remLockspace(runDir string, l lockspace) (rv int32, err error) {
	const unused, patience = 2, 5 * time.Second
	remove := func(flags uint32) error {
		return once(runDir, func(c *conn) error {
			rv, err = c.result(cmdRemLockspace, flags, 0, l.body())
			return err
		})
	}
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(pollPause) {
		if err := remove(unused); err != nil || rv != resultBusy {
			return rv, err
		}
	}
	err = remove(0)
	return rv, err
}

// host is a sanlk_host.
type host struct {
	HostID, Generation, Timestamp uint64
	IOTimeout, Flags              uint32
}

func (c *conn) hosts(n uint32) ([]host, error) {
	hosts := make([]host, n)
	return hosts, binary.Read(c.c, binary.LittleEndian, hosts)
}

func getHosts(runDir, space string, hostID uint64) (rv int32, hosts []host, err error) {
	err = once(runDir, func(c *conn) error {
		if err := c.send(cmdGetHosts, 0, 0, 0, 0, lockspace{name: space, hostID: hostID}.body()); err != nil {
			return err
		}
		h, err := c.receive()
		if rv = int32(h.Data); err != nil || rv < 0 {
			return err
		}
		hosts, err = c.hosts(h.Data2)
		return err
	})
	return rv, hosts, err
}

// owners is read_resource_owners: who holds r by what lies on the disk.
func owners(runDir string, r lease) (rv int32, hosts []host, err error) {
	err = once(runDir, func(c *conn) error {
		if err := c.send(cmdReadOwners, 0, 0, 0, 0, r.append(nil, true)); err != nil {
			return err
		}
		h, err := c.receive()
		if rv = int32(h.Data); err != nil || rv < 0 {
			return err
		}
		if _, err := io.ReadFull(c.c, make([]byte, 128)); err != nil {
			return err
		}
		hosts, err = c.hosts(h.Data2)
		return err
	})
	return rv, hosts, err
}

// hostStatus returns the text of each host record of a lockspace, by host id.
func hostStatus(runDir, space string) (map[uint64]string, error) {
	status := map[uint64]string{}
	err := once(runDir, func(c *conn) error {
		if err := c.send(cmdHostStatus, 0, 0, 0, 32, lockspace{name: space}.body()); err != nil {
			return err
		}
		if _, err := c.receive(); err != nil {
			return err
		}
		for {
			state := make([]byte, 80)
			if _, err := io.ReadFull(c.c, state); errors.Is(err, io.EOF) {
				return nil
			} else if err != nil {
				return err
			}
			text := make([]byte, binary.LittleEndian.Uint32(state[72:]))
			if _, err := io.ReadFull(c.c, text); err != nil {
				return err
			}
			id := uint64(binary.LittleEndian.Uint32(state[8:]))
			status[id] = strings.TrimRight(string(text), "\x00")
		}
	})
	return status, err
}

// status returns the answer to STATUS, all of it.
func status(runDir string) (text []byte, err error) {
	err = once(runDir, func(c *conn) error {
		if err := c.send(cmdStatus, 0, 0, 0, 0, nil); err != nil {
			return err
		}
		if _, err := c.receive(); err != nil {
			return err
		}
		text, err = io.ReadAll(c.c)
		return err
	})
	return text, err
}

// inqLockspace is 0 for a lockspace that is joined.
func inqLockspace(runDir string, l lockspace) (rv int32, err error) {
	err = once(runDir, func(c *conn) error {
		rv, err = c.result(cmdInqLockspace, 0, 0, l.body())
		return err
	})
	return rv, err
}
