package wire

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestMessages(t *testing.T) {
	var port bytes.Buffer
	want := []Report{
		{Boot: "b", Kind: Ready},
		{Boot: "b", Kind: Output, ID: 7, Data: bytes.Repeat([]byte{0, '\n', 0xff}, OutputMax/3)},
		{Boot: "b", Kind: Exit, ID: 7, Code: 137},
	}
	// What an earlier guest left half read comes first; its line is dropped and nothing else.
	port.WriteString("lf of a line\"}\n")
	for _, r := range want {
		if err := Write(&port, r); err != nil {
			t.Fatal(err)
		}
	}
	var got []Report
	if err := Read(&port, func(r Report) { got = append(got, r) }); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestMessageTooLong(t *testing.T) {
	if err := Write(&bytes.Buffer{}, Request{Command: strings.Repeat("x", MessageMax)}); err == nil {
		t.Error("a message longer than MessageMax was written")
	}
	if err := Read(strings.NewReader(strings.Repeat("x", MessageMax+1)), func(Request) {}); err == nil {
		t.Error("a message longer than MessageMax was read")
	}
}
