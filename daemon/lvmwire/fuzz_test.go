package lvmwire

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
)

func FuzzDecode(f *testing.F) {
	for _, b := range bodies {
		f.Add([]byte(b.body))
	}
	for name := range dialects {
		for _, m := range captured(f, "requests-"+name+".txt")[:20] {
			f.Add(m)
		}
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		r, err := Decode(body)
		if err != nil {
			return
		}
		for _, s := range []string{r.Cmd, r.VGName, r.LVName, r.LVUUID, r.VGUUID, r.VGArgs, r.LVArgs, r.SetArgs} {
			if len(s) > maxName {
				t.Fatalf("%d bytes of a name", len(s))
			}
		}
		if r.Op == 0 {
			return
		}
		// What a client can send is what it was.
		again, err := Decode(bytes.TrimSuffix(r.Append(nil, Dialect40), []byte(terminator)))
		if err != nil || again.Op != r.Op || again.Kind != r.Kind {
			t.Fatalf("%q is sent as %q: %+v, error %v", body, r.Append(nil, Dialect40), again, err)
		}
	})
}

func FuzzReader(f *testing.F) {
	f.Add([]byte("a\n##\nb\n##\n"), byte(3))
	f.Add([]byte("\n##\n##\n\n##\n#"), byte(1))
	f.Fuzz(func(t *testing.T, data []byte, step byte) {
		p := pieces{}
		for rest := data; len(rest) > 0; {
			n := min(int(step)+1, len(rest))
			p, rest = append(p, rest[:n]), rest[n:]
		}
		r := NewReader(&p)
		want := strings.Split(string(data), terminator)
		for i := 0; ; i++ {
			m, err := r.Next()
			if err == nil {
				if i >= len(want)-1 || string(m) != want[i] {
					t.Fatalf("message %d is %q of %q", i, m, want)
				}
				continue
			}
			if i != len(want)-1 || errors.Is(err, io.EOF) != (want[i] == "") {
				t.Fatalf("ends after %d of %d messages: %v", i, len(want)-1, err)
			}
			return
		}
	})
}

func FuzzDecodeReply(f *testing.F) {
	for name := range dialects {
		for _, m := range captured(f, "replies-"+name+".txt")[:20] {
			f.Add(m)
		}
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		r, err := DecodeReply(body)
		if err != nil {
			return
		}
		// The answers of these two do not name them.
		switch r.Op {
		case OpQuit:
			r.Op = OpHello
		case OpDumpLog:
			r.Op = OpDumpInfo
		}
		m := r.Append(nil, Dialect40)
		again, err := DecodeReply(bytes.TrimSuffix(m, []byte(terminator)))
		if err != nil || again.Op != r.Op || again.Result != r.Result {
			t.Fatalf("%q is %+v, which is answered as %q: %+v, error %v", body, r, m, again, err)
		}
	})
}
