package lvmlock

import (
	"strconv"
	"strings"
	"testing"

	"github.com/tenurelock/tenure/daemon/lvmwire"
)

// TestLocksMatrix is spec lvmlockd 3.5.1: what is held, what is asked, what is told (waits: nothing), and who
// holds afterwards. P is the persistent lock; a lock manager that always agrees stands behind.
func TestLocksMatrix(t *testing.T) {
	const matrix = `
a=ex       | a ex   | -114       | a=ex
a=ex       | a sh   | 0          | a=sh
a=ex       | b ex   | waits      | a=ex
a=ex       | b sh   | waits      | a=ex
a=ex       | a P-ex | 0          | P=ex
a=ex       | a P-sh | -17        | a=ex
a=ex       | b P-ex | waits      | a=ex
a=ex       | b P-sh | waits      | a=ex
a=ex       | b un   | -2         | a=ex
a=ex       | b P-un | -2         | a=ex
a=sh       | a sh   | -114       | a=sh
a=sh       | a ex   | 0          | a=ex
a=sh       | b sh   | 0          | a=sh b=sh
a=sh       | b ex   | waits      | a=sh
a=sh       | a P-sh | 0          | P=sh
a=sh       | a P-ex | -17        | a=sh
a=sh       | b P-sh | 0          | a=sh P=sh
a=sh       | b P-ex | waits      | a=sh
a=sh b=sh  | a ex   | -11        | a=sh b=sh
a=sh b=sh  | a un   | 0          | b=sh
a=sh b=sh  | c ex   | waits      | a=sh b=sh
P=ex       | a ex   | 0          | P=ex
P=ex       | a sh   | 0          | P=ex
P=ex       | a P-ex | -114       | P=ex
P=ex       | a P-sh | 0          | P=sh
P=ex       | a un   | -2         | P=ex
P=ex       | a P-un | 0          |
P=sh       | a sh   | 0          | P=sh
P=sh       | a ex   | -17 exists | P=sh
P=sh       | a P-sh | -114       | P=sh
P=sh       | a P-ex | 0          | P=ex
P=sh       | a un   | -2         | P=sh
P=sh       | a P-un | 0          |
a=sh P=sh  | a ex   | -11        | a=sh P=sh
a=sh P=sh  | b ex   | -17 exists | a=sh P=sh
a=sh P=sh  | b sh   | 0          | a=sh P=sh
a=sh P=sh  | b P-ex | -11        | a=sh P=sh
a=sh P=sh  | b P-sh | -114       | a=sh P=sh
a=sh P=sh  | a un   | 0          | P=sh
a=sh P=sh  | b P-un | 0          | a=sh
           | a sh   | 0          | a=sh
           | a ex   | 0          | a=ex
           | a P-sh | 0          | P=sh
           | a P-ex | 0          | P=ex
           | a un   | -2         |
           | a P-un | -2         |`
	for row := range strings.SplitSeq(strings.TrimLeft(matrix, "\n"), "\n") {
		cell := strings.Split(row, "|")
		for i := range cell {
			cell[i] = strings.TrimSpace(cell[i])
		}
		s := &stage{t: t, willing: true, heard: map[ClientID]Answer{}}
		s.l = NewLocks(Resource{Kind: lvmwire.LV, Name: "r"})
		for h := range strings.FieldsSeq(cell[0]) {
			prefix := ""
			if h[0] == 'P' {
				h, prefix = "z"+h[1:], "P-"
			}
			s.l.Ask(asked(h[:1] + " " + prefix + h[2:]))
			s.settle()
		}
		if got := held(s.l); got != cell[0] {
			t.Fatalf("%s: begins with %q", row, got)
		}
		a := asked(cell[1])
		delete(s.heard, a.Client)
		s.l.Ask(a)
		s.settle()
		if got := told(s.heard, a); got != cell[2] {
			t.Errorf("%s: told %q", row, got)
		}
		if got := held(s.l); got != cell[3] {
			t.Errorf("%s: ends with %q", row, got)
		}
	}
}

// asked makes a request of "a P-ex".
func asked(words string) *Ask {
	client, want, _ := strings.Cut(words, " ")
	a := &Ask{Client: ClientID(client[0]-'a') + 1, Op: lvmwire.OpLock, MaxRetries: 4}
	var lasting bool
	want, lasting = strings.CutPrefix(want, "P-")
	if lasting {
		a.Flags = lvmwire.Persistent
	}
	a.Mode = map[string]lvmwire.Mode{"un": lvmwire.UN, "sh": lvmwire.SH, "ex": lvmwire.EX}[want]
	return a
}

func told(heard map[ClientID]Answer, a *Ask) string {
	answer, ok := heard[a.Client]
	switch {
	case !ok:
		return "waits"
	case answer.Flags&lvmwire.SHExists != 0:
		return strconv.Itoa(int(answer.Result)) + " exists"
	default:
		return strconv.Itoa(int(answer.Result))
	}
}

func held(l *Locks) string {
	var s []string
	for _, h := range l.Holders() {
		s = append(s, name(h.Client)+"="+mode(h.Mode))
	}
	return strings.Join(s, " ")
}

// TestUndeliveredThenAsked: another client asks between the news that an answer was lost and the next step.
// It is served by the lock that is there; taking it away would leave that client with nothing.
func TestUndeliveredThenAsked(t *testing.T) {
	l := NewLocks(Resource{Kind: lvmwire.LV, Name: "r"})
	l.Ask(asked("a P-ex"))
	if _, due := l.Step(); !due {
		t.Fatal("no call for the first lock")
	}
	l.Done(Outcome{})
	lost := l.Answers()[0]
	l.Undelivered(lost)
	l.Ask(asked("b P-ex"))
	if call, due := l.Step(); due {
		t.Errorf("a call for a lock that b relies on: %+v", call)
	}
	answers := l.Answers()
	if len(answers) != 1 || answers[0].Result != lvmwire.Already || held(l) != "P=ex" {
		t.Errorf("b was told %+v, held is %q", answers, held(l))
	}
	if len(l.Waiting()) != 0 || l.Idle() {
		t.Errorf("waiting %v, idle %v", l.Waiting(), l.Idle())
	}
}

// TestDoneWithoutCall: an outcome nobody asked for is a mistake of the caller, not a lock.
func TestDoneWithoutCall(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("an outcome was taken though no call was under way")
		}
	}()
	NewLocks(Resource{Name: "r"}).Done(Outcome{})
}
