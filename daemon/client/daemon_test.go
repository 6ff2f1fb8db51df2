package client_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"github.com/tenurelock/tenure/daemon/client"
	"github.com/tenurelock/tenure/daemon/config"
	"github.com/tenurelock/tenure/daemon/sanlockd"
	"github.com/tenurelock/tenure/daemon/sanlockwire"
	"github.com/tenurelock/tenure/leases"
	"github.com/tenurelock/tenure/leases/device"
	"github.com/tenurelock/tenure/leases/device/memdisk"
	"github.com/tenurelock/tenure/leases/ondisk"
)

func TestMain(m *testing.M) {
	code := m.Run()
	example.stop()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// exampleHost is our daemon for the examples, with a disk in memory: host 1 of lockspace cluster, whose leases
// vm-1 and so on have a MiB each.
type exampleHost struct {
	once   sync.Once
	dir    string
	disk   *memdisk.Disk
	cancel context.CancelFunc
	ended  chan error
}

var example exampleHost

const (
	exampleLeases = 7
	exampleWait   = 20 * time.Second
)

// exampleDaemon starts it once and returns its run directory.
func exampleDaemon() string {
	example.once.Do(func() {
		if err := example.start(); err != nil {
			log.Fatal(err)
		}
	})
	return example.dir
}

// Open gives out the disk.
func (h *exampleHost) Open(path string) (device.Device, error) {
	if path != "/dev/vg/leases" {
		return nil, &device.OpError{Op: "open", Device: path, Err: syscall.ENOENT}
	}
	return h.disk.Open("example"), nil
}

func (h *exampleHost) start() (err error) {
	grid, space := ondisk.Geometry{Sector: 512, Align: ondisk.MiB}, leases.NameOf("cluster")
	h.disk = memdisk.New(memdisk.Config{SectorSize: 512, Size: (exampleLeases + 1) * ondisk.MiB})
	h.disk.Poke(0, ondisk.FormatLockspace(grid, space, 1))
	for n := int64(1); n <= exampleLeases; n++ {
		name := leases.NameOf(fmt.Sprintf("vm-%d", n))
		h.disk.Poke(n*ondisk.MiB, ondisk.FormatResource(grid, space, name, 0))
	}
	if h.dir, err = os.MkdirTemp("", "client"); err != nil {
		return err
	}
	l, err := net.Listen("unix", filepath.Join(h.dir, client.SocketName))
	if err != nil {
		return err
	}
	cfg := sanlockd.Config{Config: config.Defaults(), Log: zerolog.Nop(), Opener: h}
	cfg.OurHostName, cfg.UseWatchdog = "example", 0
	s, err := sanlockd.New(cfg)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	h.cancel, h.ended = cancel, make(chan error, 1)
	go func() { h.ended <- s.Serve(ctx, l) }()
	return h.join()
}

// join adds the lockspace and waits for the first look at its hosts.
func (h *exampleHost) join() error {
	ctx, cancel := context.WithTimeout(context.Background(), exampleWait)
	defer cancel()
	space := sanlockwire.ParseLockspace("cluster:1:/dev/vg/leases:0")
	err := client.Do(ctx, h.dir, func(c *client.Conn) error { return c.AddLockspace(ctx, space, 1, 0) })
	for err == nil {
		err = client.Do(ctx, h.dir, func(c *client.Conn) error {
			_, err := c.GetHosts(ctx, sanlockwire.Lockspace{Name: space.Name}, 0)
			return err
		})
		if err == nil {
			return nil
		}
		if leases.KindOf(err) == leases.Again && ctx.Err() == nil {
			time.Sleep(100 * time.Millisecond)
			err = nil
		}
	}
	return err
}

func (h *exampleHost) stop() {
	if h.cancel == nil {
		return
	}
	h.cancel()
	err := errors.Join(<-h.ended, os.RemoveAll(h.dir))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}
