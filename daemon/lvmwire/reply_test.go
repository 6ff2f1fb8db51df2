package lvmwire

import (
	"errors"
	"strings"
	"testing"
)

// TestSamples are the replies that spec lvmlockd 1.4.4 and 2.14 give to the byte.
func TestSamples(t *testing.T) {
	for name, c := range map[string]struct {
		reply Reply
		d     Dialect
		want  string
		bytes int
	}{
		"hello": {
			Reply{Op: OpHello},
			Dialect16,
			"response = \"OK\"\nresult = 0\nprotocol = \"lvmlockd\"\nversion = 1\n\n##\n", 65,
		},
		"lock 40": {
			Reply{Op: OpLock, Type: Sanlock, Generation: 1},
			Dialect40,
			"response = \"OK\"\nop = 7\nlock_type = \"sanlock\"\nop_result = 0\nlm_result = 0\nresult_flags = \"none\"\n" +
				"ls_generation = 1\n\n##\n", 117,
		},
		"init_lv": {
			Reply{Op: OpInit, Type: Sanlock, VGArgs: "1.0.0:lvmlock", LVArgs: "1.0.0:70254592"},
			Dialect40,
			"response = \"OK\"\nop = 3\nop_result = 0\nlm_result = 0\nvg_lock_args = \"1.0.0:lvmlock\"\n" +
				"lv_lock_args = \"1.0.0:70254592\"\nresult_flags = \"none\"\n\n##\n", 140,
		},
		"query": {
			Reply{Op: OpQueryLock, Type: DLM, Mode: EX},
			Dialect40,
			"response = \"OK\"\nop = 23\nop_result = 0\nlock_type = \"dlm\"\nmode = \"ex\"\n\n##\n", 0,
		},
		"info":       {Reply{Op: OpDumpInfo, DumpLen: 471}, Dialect40, "response = \"OK\"\nresult = 0\ndump_len = 471\n\n##\n", 46},
		"set_remote": {Reply{Op: OpSetRemoteLVLock, Result: -1}, Dialect40, "response = \"OK\"\nop = 30\nop_result = -1\n\n##\n", 0},
		"previous": {
			Reply{Op: OpStart, Type: Sanlock, Previous: 4, Generation: 9},
			Dialect40,
			"response = \"OK\"\nop = 5\nlock_type = \"sanlock\"\nop_result = 0\nlm_result = 0\nprev_generation = 4\n" +
				"result_flags = \"none\"\n\n##\n", 0,
		},
		"owner, older": {
			Reply{Op: OpLock, Type: Sanlock, Result: Again, Owner: Owner{HostID: 2}},
			Dialect16,
			"response = \"OK\"\nop = 7\nlock_type = \"sanlock\"\nop_result = -11\nlm_result = 0\nresult_flags = \"none\"\n\n##\n", 0,
		},
		"unknown": {
			Reply{Result: BadRequest},
			Dialect40,
			"response = \"OK\"\nop = 0\nlock_type = \"none\"\nop_result = -22\nlm_result = 0\nresult_flags = \"none\"\n" +
				"ls_generation = 0\n\n##\n", 0,
		},
	} {
		got := string(c.reply.Append(nil, c.d))
		if got != c.want || c.bytes != 0 && len(got) != c.bytes {
			t.Errorf("%s: %q, want %q of %d bytes", name, got, c.want, c.bytes)
		}
	}
}

// TestNothingEndsAString is trap T5: replies have no escapes.
func TestNothingEndsAString(t *testing.T) {
	r := Reply{Op: OpLock, Result: Again, Owner: Owner{HostID: 1, Name: "a\"\nop_result = 0\n\n##\n\\"}, Flags: "x\x00y"}
	m := string(r.Append(nil, Dialect40))
	if strings.Count(m, terminator) != 1 || strings.Count(m, "\nop_result") != 1 {
		t.Fatalf("a name got out of its string: %q", m)
	}
	back, err := DecodeReply([]byte(strings.TrimSuffix(m, terminator)))
	if err != nil || back.Result != Again || back.Owner.Name != "a__op_result = 0__##__" || back.Flags != "x_y" {
		t.Errorf("comes back as %+v, error %v", back, err)
	}
}

// TestEveryReplyHasAResult is trap T6.
func TestEveryReplyHasAResult(t *testing.T) {
	for op := range Op(40) {
		for _, d := range dialects {
			m := string(Reply{Op: op, Result: -5, Mode: UN, Owner: Owner{HostID: 1}, Previous: 1}.Append(nil, d))
			if !strings.Contains(m, "\nop_result = -5\n") && !strings.Contains(m, "\nresult = -5\n") {
				t.Errorf("op %v: no result in %q", op, m)
			}
		}
	}
}

func TestBadReplies(t *testing.T) {
	for _, m := range []string{
		"", "response = \"failed\"\nop_result = 0", "response = \"OK\"", "response = OK result = \"0\"", "response = ",
	} {
		if r, err := DecodeReply([]byte(m)); err == nil {
			t.Errorf("%q is taken: %+v", m, r)
		}
	}
	for _, m := range []string{
		"response = \"OK\"\nresult = 0\nprotocol = \"lvmpolld\"\nversion = 1\n",
		"response = \"OK\"\nresult = 0\nprotocol = \"lvmlockd\"\nversion = 2\n",
	} {
		if _, err := DecodeReply([]byte(m)); !errors.Is(err, ErrNotLvmlockd) {
			t.Errorf("%q: error %v, want %v", m, err, ErrNotLvmlockd)
		}
	}
}
