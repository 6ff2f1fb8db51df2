package wdmdwire

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"
)

// The bytes of a message that libwdmd sends, laid out by hand from the table.
func TestLayout(t *testing.T) {
	m := Message{
		Magic: 0x01020304, Command: TestLive, Length: 5, Flags: 6, TestInterval: 10, FireTimeout: 60,
		LastKeepalive: 0x1122334455667788, RenewalTime: 40, ExpireTime: 120,
	}
	m.SetName("sanlock_LS:1")
	want := "04030201" + "04000000" + "05000000" + "06000000" + "0a000000" + "3c000000" +
		"8877665544332211" + "2800000000000000" + "7800000000000000" +
		hex.EncodeToString([]byte("sanlock_LS:1")) + strings.Repeat("00", NameSize-12)
	got := m.Append(nil)
	if hex.EncodeToString(got) != want || len(got) != Size {
		t.Errorf("%d bytes\n%x, want\n%s", len(got), got, want)
	}
	if back, err := Decode(got); err != nil || back != m {
		t.Errorf("%+v, %v", back, err)
	}
	if _, err := Decode(got[:Size-1]); err == nil {
		t.Error("a short message was decoded")
	}
}

func TestNames(t *testing.T) {
	var m Message
	m.SetName(strings.Repeat("x", 200))
	if len(m.Text()) != 127 || m.Name[127] != 0 {
		t.Errorf("a long name has %d bytes", len(m.Text()))
	}
	m.SetName("a")
	if m.Text() != "a" || m.Name[1] != 0 {
		t.Errorf("a short name after a long one: %q", m.Text())
	}
	copy(m.Name[:], bytes.Repeat([]byte{'y'}, NameSize))
	if len(m.Text()) != NameSize {
		t.Error("a name without zero byte was cut")
	}
	for c := range Command(9) {
		if s := c.String(); strings.HasPrefix(s, "command ") != (c < Register || c > OpenWatchdog) {
			t.Errorf("%d is %q", c, s)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte("short"))
	f.Add(bytes.Repeat([]byte{0xff}, Size))
	f.Add((&Message{Command: OpenWatchdog, FireTimeout: 60}).Append(nil))
	f.Fuzz(func(t *testing.T, p []byte) {
		m, err := Decode(p)
		if err != nil {
			if len(p) >= Size {
				t.Fatal(err)
			}
			return
		}
		if !bytes.Equal(m.Append(nil), p[:Size]) {
			t.Fatalf("%x became %x", p[:Size], m.Append(nil))
		}
		if len(m.Text()) > NameSize {
			t.Fatal("long name")
		}
	})
}
