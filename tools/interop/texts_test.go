package interop

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"strings"
	"testing"

	"github.com/tenurelock/tenure/daemon/sanlockwire"
	"github.com/tenurelock/tenure/leases"
)

// question is one line of what testdata/texts.c is asked, and what our parsers say to it in its words.
type question struct {
	word, text, ours string
}

func (q question) line() string { return fmt.Sprintf("%s %x\n", q.word, q.text) }

// answersOf gives all questions to the library.
func answersOf(t *testing.T, questions []question) []string {
	t.Helper()
	var in strings.Builder
	for _, q := range questions {
		in.WriteString(q.line())
	}
	cmd := exec.Command(compile(t, "testdata/texts.c", "-lsanlock_client"))
	cmd.Stdin = strings.NewReader(in.String())
	out, err := cmd.Output()
	answers := strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
	if err != nil || len(answers) != len(questions) {
		t.Fatalf("%v after %d of %d answers", err, len(answers), len(questions))
	}
	return answers
}

func hexWord(s string) string {
	if s == "" {
		return " -"
	}
	return fmt.Sprintf(" %x", s)
}

func resourceWords(r sanlockwire.Resource) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s%s", hexWord(r.Space.String()), hexWord(r.Name.String()))
	fmt.Fprintf(&b, " %x %d %d", r.Flags, r.LVer, len(r.Disks))
	for _, d := range r.Disks {
		fmt.Fprintf(&b, "%s %d", hexWord(d.Path), d.Offset)
	}
	return b.String()
}

func textNumber(err error) int32 {
	if text, ok := errors.AsType[*sanlockwire.TextError](err); ok {
		return text.Number
	}
	return sanlockwire.ResultOf(err)
}

func askResource(text string) question {
	r, err := sanlockwire.ParseResource(text)
	answer := fmt.Sprint(textNumber(err))
	if err == nil {
		answer += resourceWords(r) + " 0" + hexWord(sanlockwire.FormatResource(r))
	}
	return question{"resource", text, answer}
}

func askState(text string) question {
	rs, err := sanlockwire.ParseInquire(text)
	answer := fmt.Sprintf("%d %d", textNumber(err), len(rs))
	if err == nil {
		for _, r := range rs {
			answer += resourceWords(r)
		}
		answer += " 0" + hexWord(sanlockwire.FormatInquire(rs))
	}
	return question{"state", text, answer}
}

func askLockspace(text string) question {
	l := sanlockwire.ParseLockspace(text)
	return question{"lockspace", text, fmt.Sprintf("0%s %d%s %d",
		hexWord(l.Name.String()), l.HostID, hexWord(l.Disk.Path), l.Disk.Offset)}
}

func askPath(text string) question {
	exported, imported := sanlockwire.ExportPath(text), sanlockwire.ImportPath(text)
	return question{"path", text, fmt.Sprintf("%d%s %d%s",
		len(exported), hexWord(exported), len(imported), hexWord(imported))}
}

// askHeld asks about a text that a daemon could have written: what a client holds.
func askHeld(r *rand.Rand) question {
	rs := make([]sanlockwire.Resource, 1+r.IntN(sanlockwire.MaxResources))
	for i := range rs {
		rs[i] = sanlockwire.Resource{Space: leases.NameOf("ls"), Name: leases.NameOf(fmt.Sprintf("r%d", i))}
		if r.IntN(2) == 0 {
			rs[i].Flags = sanlockwire.ResShared
		}
		rs[i].LVer = r.Uint64()
		for range 1 + r.IntN(sanlockwire.MaxDisks) {
			path := "/" + someText(r, "a", "b", " ", ":", "/", "-")
			rs[i].Disks = append(rs[i].Disks, sanlockwire.Disk{Path: path, Offset: r.Uint64()})
		}
	}
	return askState(sanlockwire.FormatInquire(rs))
}

// someText makes a text of pieces that mean something to the parsers.
func someText(r *rand.Rand, pieces ...string) string {
	var b strings.Builder
	for range r.IntN(14) {
		b.WriteString(pieces[r.IntN(len(pieces))])
	}
	return b.String()
}

// TestTextsOfTheLibrary asks Debian's library and our parsers the same: what a text says, and how it is
// written again. The texts are the ones that scripts have, and random ones.
func TestTextsOfTheLibrary(t *testing.T) {
	working(t, 5)
	theirs(t)
	// Stock's library writes a name of 48 bytes and what lies behind it.
	long := strings.Repeat("n", leases.NameSize-1)
	var all []question
	for _, s := range []string{
		"a:b:c:1", "a:b:c:1:7", "a:b:c:1:SH", "a:b", "a:b:/dev/x:1048576:/dev/y:2:3", `a:b:/x\:y:0`, `a:b:/x\ y:0:SH`,
		"", "a", "ab", "abc", "a:b:c", "a:b:c:1:d:2:e:3:f:4", "a:b:c:1:d:2:e:3:f:4:5", "a:b:c:1:d:2:e:3:f:4:g:5",
		long + ":b:c:1", "a:" + long + ":c:1", long + "nn:b:c:1", `a\:b:c:d:1`, `a:b\:c:d:1`,
		"a:b:c:18446744073709551615",
		"a:b:c:x", "a:b:c:+1", "a:b:c: 1", "a:b:c:-", "a:b:c:- 1", "a:b:c:+-1", "a:b:c:0x10", "a:b:c:1:x",
		"a:b:c:1: 5",
		"a:b:c:99999999999999999999", "a:b:c:-99999999999999999999", "a:b:c:1:d:x",
	} {
		all = append(all, askResource(s))
	}
	for _, s := range []string{
		"a:1:b:2", "a", "a:1", "a:1:b", `a:1:/x\:y:2`, `a:1:/x\ y:2`, "a:+1:b: 7", "a:x:b:y", "a:0x5:b:0x10",
		long + ":1:b:0",
	} {
		all = append(all, askLockspace(s))
	}
	for _, s := range []string{"a:b:c:1:2 a:d:c:3:SH", `a:b:c\ d:1:2 a:e:c\:d:3:4`, "a:b:c:1:2", "a:b:c:1 x"} {
		all = append(all, askState(s))
	}
	r := rand.New(rand.NewPCG(3, 85))
	for range 1000 {
		all = append(all,
			askResource(someText(r, "a", "b", ":", ":", `\:`, `\`, "1", "0", "SH", "9", "/d")),
			askLockspace(someText(r, "a", "b", ":", ":", `\:`, "1", "0", "7", "/d")),
			askHeld(r),
			askPath(someText(r, "a", " ", ":", `\:`, `\ `, `\`, "/")))
	}
	for i, answer := range answersOf(t, all) {
		if q := all[i]; answer != q.ours {
			t.Errorf("%s %q\nstock %s\nours  %s", q.word, q.text, answer, q.ours)
		}
	}
}

// TestNumbersOfTheLibrary: whatever number the library has words for, we have a name and a sentence for.
func TestNumbersOfTheLibrary(t *testing.T) {
	working(t, 5)
	theirs(t)
	var all []question
	for n := -1; n > -400; n-- {
		all = append(all, question{word: "number", text: fmt.Sprint(n)})
	}
	known := 0
	for i, words := range answersOf(t, all) {
		if words == "Unknown error" {
			continue
		}
		known++
		var r *sanlockwire.Result
		err := sanlockwire.ErrorOf(int32(-1 - i))
		if !errors.As(err, &r) || r.Name == "" || r.Text == "" {
			t.Errorf("%d is %q to stock's library, %v to us", -1-i, words, err)
		}
	}
	if known < 30 {
		t.Errorf("the library has words for only %d numbers", known)
	}
}
