package lvmlock

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/tenurelock/tenure/daemon/lvmwire"
)

// TestLocksStories plays testdata: a line is what one client asks or what the lock manager answers, and below
// it stand the calls that follow, the answers, and who holds what.
//
//	new gl|vg|lv [willing]             a resource; willing: every call succeeds at once
//	a sh|ex|un|nl|update|enable|…      client a asks (persistent adopt adopt_only repair next_version
//	                                   unlock_cancel version=N retries=N args=S)
//	a close | a unheard                its connection ends, its last answer did not reach it
//	manager ok [version=N] [removed]   the call under way ends well
//	manager error=N [retry] [owner=N]  or not
//	resume | clear | cancel=N          as the methods
func TestLocksStories(t *testing.T) {
	datadriven.Walk(t, "testdata/locks", func(t *testing.T, path string) {
		var s stage
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			s.t, s.d = t, d
			s.out.Reset()
			s.play()
			return s.out.String()
		})
	})
}

type stage struct {
	t       *testing.T
	d       *datadriven.TestData
	out     strings.Builder
	l       *Locks
	willing bool
	block   Value
	call    *Call
	heard   map[ClientID]Answer
}

func (s *stage) play() {
	switch s.d.Cmd {
	case "new":
		kind := map[string]lvmwire.Kind{"gl": lvmwire.GL, "vg": lvmwire.VG, "lv": lvmwire.LV}[s.word(0)]
		*s = stage{t: s.t, d: s.d, willing: s.d.HasArg("willing"), heard: map[ClientID]Answer{}}
		s.l = NewLocks(Resource{Kind: kind, Name: "r"})
		return
	case "manager":
		s.manager()
	case "resume":
		s.l.Resume()
	case "clear":
		if call, due := s.l.Clear(); due {
			s.called(call)
		} else {
			s.out.WriteString("nothing to give back\n")
		}
	case "cancel":
		s.l.Cancel(lvmwire.Result(s.number("result")))
	default:
		s.client(ClientID(s.d.Cmd[0]-'a') + 1)
	}
	s.settle()
}

// word is an argument that must be there.
func (s *stage) word(i int) string {
	if len(s.d.CmdArgs) <= i {
		s.d.Fatalf(s.t, "argument %d is missing", i)
	}
	return s.d.CmdArgs[i].Key
}

func (s *stage) number(key string) int64 {
	for _, a := range s.d.CmdArgs {
		if a.Key == key {
			n, err := strconv.ParseInt(a.Vals[0], 10, 64)
			if err != nil {
				s.d.Fatalf(s.t, "%s: %v", key, err)
			}
			return n
		}
	}
	return 0
}

func (s *stage) client(c ClientID) {
	a := &Ask{Client: c, Op: lvmwire.OpLock, Mode: lvmwire.Invalid, Version: s.number("version"), MaxRetries: 4}
	for _, arg := range s.d.CmdArgs {
		switch arg.Key {
		case "sh", "ex", "un", "nl":
			a.Mode = map[string]lvmwire.Mode{
				"sh": lvmwire.SH, "ex": lvmwire.EX, "un": lvmwire.UN, "nl": lvmwire.NL,
			}[arg.Key]
		case "update":
			a.Op = lvmwire.OpUpdate
		case "enable":
			a.Op = lvmwire.OpEnable
		case "disable":
			a.Op = lvmwire.OpDisable
		case "refresh":
			a.Op = lvmwire.OpRefreshLV
		case "retries":
			a.MaxRetries = int(s.number("retries"))
		case "args":
			a.Args = arg.Vals[0]
		case "close":
			s.l.Close(c)
			return
		case "unheard":
			s.l.Undelivered(s.heard[c])
			return
		case "bad", "version":
		default:
			flag, ok := words[arg.Key]
			if !ok {
				s.d.Fatalf(s.t, "what is %q?", arg.Key)
			}
			a.Flags |= flag
		}
	}
	s.l.Ask(a)
}

var words = map[string]lvmwire.Flags{
	"persistent": lvmwire.Persistent, "next_version": lvmwire.NextVersion, "unlock_cancel": lvmwire.UnlockCancel,
	"adopt": lvmwire.Adopt, "adopt_only": lvmwire.AdoptOnly, "repair": lvmwire.Repair,
}

func (s *stage) manager() {
	if s.call == nil {
		s.d.Fatalf(s.t, "no call is under way")
	}
	s.call = nil
	if s.d.HasArg("ok") {
		n := uint32(s.number("version"))
		s.l.Done(Outcome{Value: Value{Version: n, Set: n != 0, Removed: s.d.HasArg("removed")}})
		return
	}
	if s.d.HasArg("strange") {
		s.l.Done(Outcome{Err: errors.New("no *Error")})
		return
	}
	err := &Error{Op: "do", What: "it", Result: lvmwire.Result(s.number("error")), Retry: s.d.HasArg("retry")}
	err.Owner.HostID = uint64(s.number("owner"))
	s.l.Done(Outcome{Err: err})
}

// settle steps until the lock manager must answer, and writes down what became of it all.
func (s *stage) settle() {
	for {
		s.answers()
		call, due := s.l.Step()
		if !due {
			break
		}
		s.called(call)
		if s.willing {
			s.call = nil
			if call.Value != nil {
				s.block = *call.Value
			}
			s.l.Done(Outcome{Value: s.block})
		}
	}
	s.answers()
	s.state()
}

func (s *stage) called(c Call) {
	kinds := []string{"", "lock", "convert", "unlock", "enable", "disable"}
	fmt.Fprintf(&s.out, "call: %s", kinds[c.Kind])
	if c.Kind <= CallUnlock {
		fmt.Fprintf(&s.out, " %s→%s", mode(c.From), mode(c.To))
	}
	if c.Resource.Args != "" {
		fmt.Fprintf(&s.out, " at %s", c.Resource.Args)
	}
	if c.Value != nil {
		fmt.Fprintf(&s.out, " writes %d", c.Value.Version)
	}
	if c.Options != (LockOptions{}) {
		fmt.Fprintf(&s.out, " %+v", c.Options)
	}
	s.out.WriteString("\n")
	s.call = &c
}

func (s *stage) answers() {
	for _, a := range s.l.Answers() {
		s.heard[a.Ask.Client] = a
		fmt.Fprintf(&s.out, "%s hears %d", name(a.Ask.Client), a.Result)
		if a.ManagerValue != a.Result {
			fmt.Fprintf(&s.out, " manager=%d", a.ManagerValue)
		}
		if a.Flags&lvmwire.SHExists != 0 {
			s.out.WriteString(" sh_exists")
		}
		if a.Flags&lvmwire.LVLock != 0 {
			s.out.WriteString(" lv_lock")
		}
		if a.Owner.HostID != 0 {
			fmt.Fprintf(&s.out, " owner=%d", a.Owner.HostID)
		}
		if a.Validity.Changed {
			fmt.Fprintf(&s.out, " changed since=%d", a.Validity.Since)
		}
		s.out.WriteString("\n")
	}
}

func (s *stage) state() {
	fmt.Fprintf(&s.out, "%s", mode(s.l.Mode()))
	if v := s.l.Version(); v != 0 {
		fmt.Fprintf(&s.out, " v%d", v)
	}
	if s.l.Args() != "" {
		fmt.Fprintf(&s.out, " at %s", s.l.Args())
	}
	for _, h := range s.l.Holders() {
		fmt.Fprintf(&s.out, " %s=%s", name(h.Client), mode(h.Mode))
		if h.Version != 0 {
			fmt.Fprintf(&s.out, "/v%d", h.Version)
		}
	}
	var waiting []string
	for _, a := range s.l.Waiting() {
		waiting = append(waiting, name(a.Client))
	}
	if len(waiting) > 0 {
		fmt.Fprintf(&s.out, ", waiting: %s", strings.Join(waiting, " "))
	}
	if s.l.Pause() {
		s.out.WriteString(", pause")
	}
	if s.l.Idle() != (s.l.Mode() == lvmwire.UN && len(waiting) == 0 && s.call == nil) {
		s.out.WriteString(", idle is wrong")
	}
	s.out.WriteString("\n")
}

// name is the letter of a client; P is nobody, who has what is persistent.
func name(c ClientID) string {
	if c == 0 {
		return "P"
	}
	return string(rune('a' + c - 1))
}

func mode(m lvmwire.Mode) string {
	i := slices.Index([]lvmwire.Mode{lvmwire.UN, lvmwire.NL, lvmwire.SH, lvmwire.EX}, m)
	if i < 0 {
		return "iv"
	}
	return []string{"un", "nl", "sh", "ex"}[i]
}
