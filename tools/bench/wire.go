package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"syscall"
	"time"
)

// The benchmark speaks the socket protocol with these few lines of its own, so that neither program's client
// library is part of what is measured.

const wireMagic = 0x04282010

// Command numbers of the socket protocol (spec sanlock-daemon 1.7).
const (
	cmdRegister     = 1
	cmdAddLockspace = 2
	cmdAcquire      = 7
	cmdRelease      = 8
	resShared       = 4 // flag of a resource
)

// resource is one lease on one device.
type resource struct {
	space, name, path string
	offset            int64
	shared            bool
}

// append adds the 128 bytes of a sanlk_resource and, if disks is set, its one sanlk_disk.
func (r resource) append(b []byte, disks bool) []byte {
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

// client returns a registered connection.
func client(runDir string) (*conn, error) {
	c, err := dial(runDir)
	if err != nil {
		return nil, err
	}
	if err := c.send(cmdRegister, 0, 0, 0, 0, nil); err != nil {
		return nil, errors.Join(err, c.Close())
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

func (c *conn) acquire(r resource, flags uint32) (int32, error) {
	return c.result(cmdAcquire, flags, 1, append(r.append(nil, true), make([]byte, 56)...))
}

func (c *conn) release(r resource) (int32, error) {
	return c.result(cmdRelease, 0, 1, r.append(nil, false))
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
