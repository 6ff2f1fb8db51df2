package lvmwire

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// captured returns the messages of a captured corpus, in which each differs from the others in more than its pid.
func captured(tb testing.TB, name string) [][]byte {
	tb.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		tb.Fatal(err)
	}
	var all [][]byte
	r := NewReader(bytes.NewReader(data))
	for {
		m, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			tb.Fatalf("%s, after %d messages: %v", name, len(all), err)
		}
		all = append(all, bytes.Clone(m))
	}
	if len(all) < 20 {
		tb.Fatalf("%s holds only %d messages", name, len(all))
	}
	return all
}

var dialects = map[string]Dialect{"16": Dialect16, "40": Dialect40}

func TestCapturedRequests(t *testing.T) {
	for name, d := range dialects {
		for _, m := range captured(t, "requests-"+name+".txt") {
			r, err := Decode(m)
			if err != nil || r.Op == 0 {
				t.Errorf("%s: %q: op %v, error %v", name, m, r.Op, err)
				continue
			}
			want := string(m) + terminator
			if got := string(r.Append(nil, d)); got != want {
				t.Errorf("%s: sent\n%q, would send\n%q", name, want, got)
			}
		}
	}
}

func TestCapturedReplies(t *testing.T) {
	for name, d := range dialects {
		for _, m := range captured(t, "replies-"+name+".txt") {
			r, err := DecodeReply(m)
			if err != nil {
				t.Errorf("%s: %q: %v", name, m, err)
				continue
			}
			if got, want := string(r.Append(nil, d)), string(m)+terminator; got != want {
				t.Errorf("%s: answered\n%q, would answer\n%q", name, want, got)
			}
		}
	}
}

// TestRawConversation takes the scripted sessions, whose requests include what no command sends.
func TestRawConversation(t *testing.T) {
	for name, d := range dialects {
		data, err := os.ReadFile(filepath.Join("testdata", "raw-conversation-"+name+".txt"))
		if err != nil {
			t.Fatal(err)
		}
		asked, answered := 0, 0
		for line := range strings.Lines(string(data)) {
			line = strings.TrimSpace(line)
			if quote, ok := strings.CutPrefix(line, `>> "`); ok {
				m := unquote(t, `"`+quote)
				if _, err := Decode(bytes.TrimSuffix(m, []byte(terminator))); err != nil {
					t.Errorf("%s: %q: %v", name, m, err)
				}
				asked++
			}
			_, quote, ok := strings.Cut(line, `s) "`)
			if !ok || !strings.HasPrefix(line, "<< ") {
				continue
			}
			m := unquote(t, `"`+quote)
			r, err := DecodeReply(bytes.TrimSuffix(m, []byte(terminator)))
			if err != nil {
				t.Errorf("%s: %q: %v", name, m, err)
			} else if got := r.Append(nil, d); string(got) != string(m) {
				t.Errorf("%s: answered\n%q, would answer\n%q", name, m, got)
			}
			answered++
		}
		if asked < 80 || answered < 80 {
			t.Errorf("%s: read %d requests and %d replies: is the file understood?", name, asked, answered)
		}
	}
}

func unquote(t *testing.T, s string) []byte {
	t.Helper()
	text, err := strconv.Unquote(s)
	if err != nil {
		t.Fatalf("%s: %v", s, err)
	}
	return []byte(text)
}
