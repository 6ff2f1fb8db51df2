package dlm

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/tenurelock/tenure/daemon/lvmwire"
)

// controld answers as dlm_controld does, with these statuses one after the other, the last of them for ever.
type controld struct {
	socket   string
	result   int32 // of run_start
	statuses []uint32
	asked    chan []byte
}

const runID = "d1b2ad3f-2fae-4d7c-8e28-d6a3e7e0bb3c"

func newControld(t *testing.T, result int32, statuses ...uint32) *controld {
	t.Helper()
	d := &controld{
		socket: fmt.Sprintf("@tenure-%d-%s", os.Getpid(), t.Name()), result: result, statuses: statuses,
		asked: make(chan []byte, 1000),
	}
	l, err := net.Listen("unix", d.socket)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			d.serve(c)
			c.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-ended })
	return d
}

func (d *controld) serve(c net.Conn) {
	p := make([]byte, headerSize)
	if _, err := io.ReadFull(c, p); err != nil {
		return
	}
	order := binary.NativeEndian
	body := make([]byte, order.Uint32(p[16:])-headerSize)
	if _, err := io.ReadFull(c, body); err != nil {
		return
	}
	d.asked <- append(bytes.Clone(p), body...)
	if order.Uint32(p[8:]) == verbRunStart {
		copy(p[32:], runID)
		order.PutUint32(p[20:], uint32(d.result))
	} else if status := d.statuses[0]; status == 0 {
		return // as one that ends just now
	} else {
		p = order.AppendUint32(p, status)
		if len(d.statuses) > 1 {
			d.statuses = d.statuses[1:]
		}
	}
	_, _ = c.Write(p)
}

// TestRefresh: what is said is, byte for byte, what Debian's dlm_tool run says.
func TestRefresh(t *testing.T) {
	d := newControld(t, 0, runWaiting, runWaiting, runDone)
	m := New(Config{Kernel: newFakeCluster(t, "tst\n").host(), Controld: d.socket})
	if err := m.Refresh(t.Context(), "/dev//vg-1/lv1"); err != nil {
		t.Fatal(err)
	}
	header := func(verb, length byte, id string) []byte {
		p := []byte{'<', 0xd1, '<', 0xd1, 1, 0, 1, 0, verb, 0, 0, 0, 0, 0, 0, 0, length, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0}
		return append(append(p, id...), make([]byte, 64-len(id))...)
	}
	start := header(15, 0x60, "")
	start[17] = 4
	start = append(start, "lvm lvchange --refresh --partial --nolocking vg-1/lv1"...)
	start = append(start, make([]byte, 1120-len(start))...)
	check := header(16, 0x60, runID)
	for i, want := range [][]byte{start, check, check, check} {
		select {
		case got := <-d.asked:
			if !bytes.Equal(got, want) {
				t.Errorf("request %d:\n got %q\nwant %q", i, got, want)
			}
		default:
			t.Fatalf("request %d was not made", i)
		}
	}
}

// TestRefreshFails: no doubt whether all hosts have seen the LV anew goes for yes.
func TestRefreshFails(t *testing.T) {
	for name, d := range map[string]struct {
		result   int32
		statuses []uint32
	}{
		"a host failed":        {0, []uint32{runWaiting, runDone | runFailed}},
		"no helper":            {-2, []uint32{runDone}},
		"a status of its own":  {0, []uint32{8}},
		"ended meanwhile":      {0, []uint32{runWaiting, 0}},
		"some host is so slow": {0, []uint32{runWaiting}},
	} {
		t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			m := New(Config{Kernel: newFakeCluster(t, "tst\n").host(), Controld: newControld(t, d.result, d.statuses...).socket})
			wantResult(t, m.Refresh(ctx, "/dev//vg/lv"), lvmwire.Perm)
		})
	}
	d := newControld(t, 0, runDone)
	m := New(Config{Kernel: newFakeCluster(t, "tst\n").host(), Controld: d.socket})
	for _, path := range []string{
		"", "/dev/vg", "/tmp/vg/lv", "/dev/vg/lv/x", "/dev/-y/lv", "/dev/v g/lv", "/dev/vg/l;v", "/dev/vg/l\nv",
		"/dev/vg/" + strings.Repeat("l", 1000),
	} {
		wantResult(t, m.Refresh(t.Context(), path), lvmwire.Perm)
	}
	if len(d.asked) > 0 {
		t.Errorf("asked dlm_controld for %q", <-d.asked)
	}
	m = New(Config{Kernel: newFakeCluster(t, "tst\n").host(), Controld: d.socket + "-not"})
	wantResult(t, m.Refresh(t.Context(), "/dev/vg/lv"), lvmwire.Perm)
}
