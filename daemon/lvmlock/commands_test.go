package lvmlock_test

import (
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/tenurelock/tenure/daemon/lvmlock/fake"
	"github.com/tenurelock/tenure/daemon/lvmwire"
)

// TestCommands plays what LVM's commands ask, one after the other, of two hosts. Answers were compared with
// the captures.
func TestCommands(t *testing.T) {
	for file, cfg := range map[string]fake.Config{
		"commands-sanlock.txt": {Type: lvmwire.Sanlock, JoinDelay: 2 * time.Second},
		"commands-dlm.txt":     {Type: lvmwire.DLM},
	} {
		t.Run(file, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				m := fake.New(cfg)
				hs := hosts{"a": newHost(t, m.Host(1)), "b": newHost(t, m.Host(2))}
				datadriven.RunTest(t, "testdata/engine/"+file, hs.play)
			})
		})
	}
}
