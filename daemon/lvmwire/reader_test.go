package lvmwire

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// pieces gives a stream as a writer wrote it, one piece per read.
type pieces [][]byte

func (p *pieces) Read(b []byte) (int, error) {
	if len(*p) == 0 {
		return 0, io.EOF
	}
	n := copy(b, (*p)[0])
	if (*p)[0] = (*p)[0][n:]; len((*p)[0]) == 0 {
		*p = (*p)[1:]
	}
	return n, nil
}

func all(t *testing.T, r *Reader) []string {
	t.Helper()
	var out []string
	for {
		m, err := r.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatalf("after %q: %v", out, err)
		}
		out = append(out, string(m))
	}
}

// TestReaderSplits cuts two messages at every place, inside of the terminators too.
func TestReaderSplits(t *testing.T) {
	text := []byte("request = \"hello\"\n\n##\nrequest=\"running_lm\"\npid =1\n\n##\n")
	want := "request = \"hello\"\n|request=\"running_lm\"\npid =1\n"
	for i := 0; i <= len(text); i++ {
		for j := i; j <= len(text); j++ {
			p := pieces{}
			for _, piece := range [][]byte{text[:i], text[i:j], text[j:]} {
				if len(piece) > 0 {
					p = append(p, piece)
				}
			}
			if got := strings.Join(all(t, NewReader(&p)), "|"); got != want {
				t.Fatalf("cut at %d and %d: %q", i, j, got)
			}
		}
	}
	if got := strings.Join(all(t, NewReader(iotest.OneByteReader(bytes.NewReader(text)))), "|"); got != want {
		t.Errorf("byte by byte: %q", got)
	}
}

// TestPipelined is trap T2: stock takes two requests in one write for one; the captured session shows its single
// answer.
func TestPipelined(t *testing.T) {
	got := all(t, NewReader(strings.NewReader("request=\"running_lm\"\n\n##\nrequest=\"start_wait\"\n\n##\n")))
	if len(got) != 2 {
		t.Fatalf("two requests are %d: %q", len(got), got)
	}
	for i, want := range []Op{OpRunningLM, OpStartWait} {
		if r, err := Decode([]byte(got[i])); err != nil || r.Op != want {
			t.Errorf("request %d is %v, error %v, want %v", i, r.Op, err, want)
		}
	}
}

func TestReaderEnds(t *testing.T) {
	for text, want := range map[string]error{
		"": io.EOF, "x\n##\n": io.EOF, "x\n##\ny": io.ErrUnexpectedEOF, "x\n##": io.ErrUnexpectedEOF,
	} {
		r := NewReader(iotest.DataErrReader(strings.NewReader(text)))
		var err error
		for err == nil {
			_, err = r.Next()
		}
		if !errors.Is(err, want) {
			t.Errorf("%q ends with %v, want %v", text, err, want)
		}
	}
}

type endless struct{ read int }

func (e *endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = '#'
	}
	e.read += len(p)
	return len(p), nil
}

func TestReaderIsBounded(t *testing.T) {
	e := &endless{}
	if _, err := NewReader(e).Next(); !errors.Is(err, ErrTooLong) || e.read != MaxMessage {
		t.Errorf("error %v after %d bytes, want %v after %d", err, e.read, ErrTooLong, MaxMessage)
	}
	longest := strings.Repeat("x", MaxMessage-len(terminator)) + terminator
	m, err := NewReader(strings.NewReader(longest)).Next()
	if err != nil || len(m) != MaxMessage-len(terminator) {
		t.Errorf("the longest message: %d bytes, error %v", len(m), err)
	}
}
