package native

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/tenurelock/tenure/daemon/lvmlock"
	"github.com/tenurelock/tenure/daemon/lvmwire"
)

// lifeEnv has the orders of a process that joins, locks and waits to be killed.
const lifeEnv = "NATIVE_TEST_LIFE"

// orders say what such a process does.
type orders struct {
	RunDir, DevDir, Ready string
	VG                    lvmlock.VG
	Locks                 []order
}

type order struct {
	Resource lvmlock.Resource
	Mode     lvmwire.Mode
}

// live is the main function of that process.
func live() int {
	var o orders
	if err := json.Unmarshal([]byte(os.Getenv(lifeEnv)), &o); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	ctx := context.Background()
	m := New(Config{RunDir: o.RunDir, DevDir: o.DevDir, IOTimeout: ioTimeout, Killpath: "/bin/true"})
	s, _, err := m.Prepare(ctx, o.VG, lvmlock.PrepareOptions{})
	if err == nil {
		_, err = s.Join(ctx, lvmlock.JoinOptions{})
	}
	for _, l := range o.Locks {
		if err == nil {
			_, err = s.Lock(ctx, l.Resource, l.Mode, lvmlock.LockOptions{})
		}
	}
	if err == nil {
		err = os.WriteFile(o.Ready, nil, 0o600)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	select {} // until killed
}

// liveAndDie runs a process that takes locks on a host, and kills it.
func (h *host) liveAndDie(t *testing.T, vg string, locks ...order) {
	t.Helper()
	o := orders{h.cfg.RunDir, h.cfg.DevDir, filepath.Join(t.TempDir(), "ready"), h.vg(vg), locks}
	text, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), lifeEnv+"="+string(text))
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		if _, err := os.Stat(o.Ready); err == nil {
			break
		}
		select {
		case err := <-ended:
			t.Fatalf("the first life ended: %v", err)
		case <-time.After(pollEvery):
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-ended
}
